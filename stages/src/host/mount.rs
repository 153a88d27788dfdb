// SPDX-License-Identifier: Apache-2.0
//! Mounting below the target root, and unmounting what was mounted.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fledge_core::plan::Options;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, unmount as sys_unmount,
};

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

/// Waits, for as long as it takes, until something is mounted at a path.
///
/// # Errors
/// Whatever the operating system says.
pub fn wait(point: &Path) -> io::Result<()> {
    // It tells of changes since it was opened (proc_pid_mountinfo(5)).
    let changes = fs::File::open("/proc/self/mountinfo")?;
    while !table()?.iter().any(|mount| mount.point == point) {
        match poll(&mut [PollFd::new(&changes, PollFlags::PRI)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
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

/// Whether a device, or what stands for one, is what is mounted at a path below the root.
///
/// # Errors
/// Whatever the operating system says.
pub fn is_mounted(root: &Root, source: &Path, path: &str) -> io::Result<bool> {
    let full = root.path().join(path.trim_start_matches('/'));
    let on_top = table()?.into_iter().rfind(|mount| mount.point == full);
    Ok(on_top.is_some_and(|mount| {
        let mounted = Path::new(&mount.source);
        mounted == source || mounted.canonicalize().is_ok_and(|mounted| mounted == source)
    }))
}

/// Mounts a device at a directory below the root. One that is write-protected is mounted read-only, as mount(8) does.
///
/// # Errors
/// The directory isn't there or has symbolic links on the way to it, or whatever the operating system says.
pub fn mount(root: &Root, source: &Path, path: &str, format: &str, options: &Options) -> io::Result<()> {
    // The descriptor can't be led astray between looking and mounting.
    let point = root.directory_without_links(path)?;
    let target = format!("/proc/self/fd/{}", point.as_fd().as_raw_fd());
    let flags = MountFlags::from_bits_retain(options.flags);
    let data = std::ffi::CString::new(options.data.as_str()).map_err(|_| Errno::INVAL)?;
    let data = (!options.data.is_empty()).then_some(data.as_c_str());
    let try_with = |flags| rustix::mount::mount(source, &target, format, flags, data);
    let mut mounted = try_with(flags);
    if mounted == Err(Errno::NODEV) {
        // The kernel knows no such file system yet.
        if let Err(failure) = module::load(format) {
            log::warn!("{failure}");
        }
        mounted = try_with(flags);
    }
    if matches!(mounted, Err(Errno::ACCESS | Errno::ROFS)) && !flags.contains(MountFlags::RDONLY) {
        mounted = try_with(flags | MountFlags::RDONLY);
        if mounted.is_ok() {
            log::warn!("{} is write-protected: it is mounted read-only", source.display());
        }
    }
    match mounted {
        Ok(()) => Ok(()),
        Err(Errno::NODEV) => Err(io::Error::other(format!("the kernel has no file system {format}"))),
        Err(Errno::INVAL) => Err(io::Error::other(format!(
            "{}: the device holds no sound {format}, or the kernel doesn't know one of the mount options; the kernel's log says more",
            Errno::INVAL
        ))),
        Err(error) => Err(error.into()),
    }
}

/// Mounts a device read-only as the first of the formats that fits, where no path leads. It is unmounted when the root is dropped.
///
/// # Errors
/// Whatever the operating system says about the last of them.
pub fn detached(device: &Path, formats: &[String]) -> io::Result<Root> {
    let mut last = io::Error::other("it holds no file system that is known here");
    for format in formats {
        match detach(device, format, false) {
            Ok(fd) => return Ok(Root::at(fd, device.into())),
            Err(Errno::NODEV) => last = io::Error::other(format!("the kernel has no file system {format}")),
            Err(error) => last = io::Error::other(format!("as {format}: {error}")),
        }
    }
    Err(last)
}

/// As [`detached`], to be written to.
///
/// # Errors
/// Whatever the operating system says.
pub fn detached_writable(device: &Path, format: &str) -> io::Result<Root> {
    match detach(device, format, true) {
        Ok(fd) => Ok(Root::at(fd, device.into())),
        Err(Errno::NODEV) => Err(io::Error::other(format!("the kernel has no file system {format}"))),
        Err(error) => Err(error.into()),
    }
}

fn detach(device: &Path, format: &str, writable: bool) -> rustix::io::Result<OwnedFd> {
    let context = context(format)?;
    fsconfig_set_string(&context, "source", device)?;
    let mut attributes =
        MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC | MountAttrFlags::MOUNT_ATTR_NOSUID;
    if !writable {
        fsconfig_set_flag(&context, "ro")?;
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Begins to mount a file system. Its module is loaded if need be.
pub(super) fn context(format: &str) -> rustix::io::Result<OwnedFd> {
    let open = || fsopen(format, FsOpenFlags::FSOPEN_CLOEXEC);
    match open() {
        Err(Errno::NODEV) => {
            if let Err(failure) = module::load(format) {
                log::warn!("{failure}");
            }
            open()
        }
        context => context,
    }
}

/// Unmounts what is on top at a path below the root, and whatever is mounted on that. Says whether there was anything.
///
/// # Errors
/// Something holds on to it, which is named: as with Ignition, the system isn't started with a file system that hangs on to the
/// initramfs unseen. Or whatever the operating system says.
pub fn unmount(root: &Root, path: &str) -> io::Result<bool> {
    let full = root.path().join(path.trim_start_matches('/'));
    let table = table()?;
    let Some(top) = table.iter().rfind(|mount| mount.point == full) else { return Ok(false) };
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
    for point in points.into_iter().rev() {
        unmount_patiently(point).map_err(|error| match error {
            Errno::BUSY => io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("{} is still in use:{}", point.display(), holders(point)),
            ),
            error => error.into(),
        })?;
    }
    Ok(true)
}

/// The programs that have something open or work below a mount point: the name of each, and where it is in `/proc`.
fn holders(point: &Path) -> String {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found = String::new();
    for process in entries(Path::new("/proc")) {
        let held = |link: PathBuf| fs::read_link(link).is_ok_and(|target| target.starts_with(point));
        if held(process.join("cwd")) || entries(&process.join("fd")).any(held) {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            found.extend([" ", name.trim(), " ", &process.to_string_lossy()]);
        }
    }
    found
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
    use std::sync::mpsc;

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
    fn a_mount_is_waited_for() {
        let point = tempfile::tempdir().unwrap();
        let point = point.path().canonicalize().unwrap();
        let (done, waits) = mpsc::channel();
        let waiting = point.clone();
        std::thread::spawn(move || done.send(wait(&waiting)));
        assert!(waits.recv_timeout(Duration::from_millis(100)).is_err());
        rustix::mount::mount("none", &point, "tmpfs", MountFlags::empty(), None).unwrap();
        waits.recv_timeout(Duration::from_secs(30)).unwrap().unwrap();
        wait(&point).unwrap();
        sys_unmount(&point, UnmountFlags::DETACH).unwrap();
    }

    #[test]
    fn the_table_of_this_process_has_a_root() {
        assert!(table().unwrap().iter().any(|mount| mount.point == Path::new("/")));
    }
}
