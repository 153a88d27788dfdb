// SPDX-License-Identifier: Apache-2.0
//! Mounting below the target root, and unmounting what was mounted.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fledge_core::plan::Options;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, unmount as sys_unmount};

use super::fs::Root;
use super::module;

/// A line of `/proc/self/mountinfo` (see `proc_pid_mountinfo(5)`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mount {
    /// Its number.
    pub id: u64,
    /// The number of the mount that it is mounted on.
    pub parent: u64,
    /// Where it is mounted.
    pub point: PathBuf,
    /// What is mounted.
    pub source: String,
}

/// The mounts of this process, in the kernel's order.
///
/// # Errors
/// Whatever the operating system says.
pub fn table() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let point = path(fields.nth(2)?);
    // After optional fields and a hyphen: type, source, options of the file system.
    let source = fields.skip_while(|field| *field != b"-").nth(2)?;
    Some(Mount { id, parent, point, source: String::from_utf8_lossy(&unescaped(source)).into_owned() })
}

fn path(field: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(unescaped(field)).into()
}

/// Space, tab, line break and backslash are written as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    out
}

/// What is mounted below a root, as paths seen from there.
///
/// # Errors
/// Whatever the operating system says.
pub fn below(root: &Path) -> io::Result<Vec<String>> {
    let seen_from_root = |mount: &Mount| {
        let rest = mount.point.strip_prefix(root).ok().filter(|rest| !rest.as_os_str().is_empty())?;
        Some(format!("/{}", rest.to_string_lossy()))
    };
    Ok(table()?.iter().filter_map(seen_from_root).collect())
}

/// Mounts a device at a path below the root, which is made if it is missing; `made` is told which directories were. Says whether
/// it had to be mounted, or was before.
///
/// # Errors
/// Something else than a directory is in the way, or whatever the operating system says.
pub fn mount(
    root: &Root,
    device: &Path,
    path: &str,
    format: &str,
    options: &Options,
    made: &mut dyn FnMut(&str),
) -> io::Result<bool> {
    let device = device.canonicalize()?;
    let full = root.path().join(path.trim_start_matches('/'));
    let on_top = table()?.into_iter().rfind(|mount| mount.point == full);
    if on_top.is_some_and(|mount| Path::new(&mount.source).canonicalize().is_ok_and(|source| source == device)) {
        return Ok(false);
    }
    root.make_directories(path, made)?;
    // The descriptor can't be led astray between looking and mounting.
    let point = root.directory_without_links(path)?;
    let target = format!("/proc/self/fd/{}", point.as_fd().as_raw_fd());
    let flags = MountFlags::from_bits_retain(options.flags);
    let data = std::ffi::CString::new(options.data.as_str()).map_err(|_| Errno::INVAL)?;
    let data = (!options.data.is_empty()).then_some(data.as_c_str());
    let mounted = match rustix::mount::mount(&device, &target, format, flags, data) {
        Err(Errno::NODEV) => {
            // The kernel knows no such file system yet.
            if let Err(failure) = module::load(format) {
                log::warn!("{failure}");
            }
            rustix::mount::mount(&device, &target, format, flags, data)
        }
        result => result,
    };
    match mounted {
        Ok(()) => Ok(true),
        Err(Errno::NODEV) => Err(io::Error::other(format!("the kernel has no file system {format}"))),
        Err(Errno::INVAL) => Err(io::Error::other(format!(
            "{}: the device holds no sound {format}, or the kernel doesn't know one of the mount options; the kernel's log says more",
            Errno::INVAL
        ))),
        Err(error) => Err(error.into()),
    }
}

/// Mounts a device read-only where no path leads; it is unmounted when the root is dropped.
///
/// # Errors
/// Whatever the operating system says.
pub fn aside(device: &Path, format: &str) -> io::Result<Root> {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
        fsopen,
    };
    let open = || fsopen(format, FsOpenFlags::FSOPEN_CLOEXEC);
    let context = open().or_else(|error| {
        if error == Errno::NODEV {
            if let Err(failure) = module::load(format) {
                log::warn!("{failure}");
            }
            return open();
        }
        Err(error)
    })?;
    fsconfig_set_string(&context, "source", device)?;
    fsconfig_set_flag(&context, "ro")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    Ok(Root::at(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?, PathBuf::new()))
}

/// How an unmounting ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unmounted {
    /// Nothing was mounted there.
    NotMounted,
    /// It was unmounted.
    Done,
    /// Something held on to these. They are out of sight, and gone when it lets go.
    Detached(Vec<PathBuf>),
}

/// Unmounts what is on top at a path below the root, and whatever is mounted on that.
///
/// # Errors
/// Whatever the operating system says.
pub fn unmount(root: &Root, path: &str) -> io::Result<Unmounted> {
    let full = root.path().join(path.trim_start_matches('/'));
    let table = table()?;
    let Some(top) = table.iter().rfind(|mount| mount.point == full) else { return Ok(Unmounted::NotMounted) };
    let mut ids = vec![top.id];
    let mut points = vec![&top.point];
    // What lies above is listed before what lies on it.
    loop {
        let more: Vec<_> =
            table.iter().filter(|mount| ids.contains(&mount.parent) && !ids.contains(&mount.id)).collect();
        if more.is_empty() {
            break;
        }
        ids.extend(more.iter().map(|mount| mount.id));
        points.extend(more.iter().map(|mount| &mount.point));
    }
    let mut detached = Vec::new();
    for point in points.into_iter().rev() {
        match unmount_patiently(point) {
            Err(Errno::BUSY) => {
                sys_unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
                log::warn!("{} is still in use: it is detached now and goes when it is let go of", point.display());
                detached.push(point.clone());
            }
            result => result?,
        }
    }
    Ok(if detached.is_empty() { Unmounted::Done } else { Unmounted::Detached(detached) })
}

/// Whoever looks at a new device (udev) lets go of it soon.
fn unmount_patiently(point: &Path) -> rustix::io::Result<()> {
    const TRIES: u32 = 20;
    let mut tries = 0;
    loop {
        match sys_unmount(point, UnmountFlags::NOFOLLOW) {
            Err(Errno::BUSY) if tries < TRIES => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(100));
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_table() {
        let text = b"25 30 0:23 / /sys rw,nosuid shared:7 master:1 - sysfs sysfs rw\n\
            30 1 254:2 /sub /mnt/with\\040space rw - ext4 /dev/vda2 rw,discard\n\
            garbage\n";
        assert_eq!(
            parse(text),
            [
                Mount { id: 25, parent: 30, point: "/sys".into(), source: "sysfs".into() },
                Mount { id: 30, parent: 1, point: "/mnt/with space".into(), source: "/dev/vda2".into() },
            ]
        );
    }

    #[test]
    fn the_table_of_this_process_has_a_root() {
        assert!(table().unwrap().iter().any(|mount| mount.point == Path::new("/")));
    }
}
