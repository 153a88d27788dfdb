// SPDX-License-Identifier: Apache-2.0
//! Composefs images: an EROFS with a file system's names and metadata, below an overlay that has the contents from a folder of objects
//! (composefs's `man/composefs-tools`; the kernel's `Documentation/filesystems/overlayfs.rst`).
//!
//! Mounted from the file itself, without a loop device, so from Linux 6.12 on.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, move_mount, unmount,
};

use super::mount::context;

/// The first four bytes of an image, and the flag in its third word that says that it has access control lists.
const MAGIC: u32 = 0xd078_629a;
const HAS_ACL: u32 = 1;

/// How an image is mounted.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Where the image is mounted by itself, for a moment.
    pub lower: &'a str,
    /// The folder of objects.
    pub objects: &'a str,
    /// Where the whole is mounted.
    pub at: &'a str,
    /// A folder with `upper` and `work` that takes what is written.
    pub upper: Option<&'a str>,
    /// Whether it is mounted read-only.
    pub readonly: bool,
    /// Whether each file must have fs-verity and the digest that the image says.
    pub verity: bool,
}

/// Reads an image whole, which has the kernel check every byte of it by fs-verity.
///
/// # Errors
/// It has no fs-verity, a byte isn't the one that it was made with, or it can't be read.
pub fn verify(image: &Path) -> io::Result<()> {
    let found = statx(CWD, image, AtFlags::empty(), StatxFlags::empty())?;
    if !found.stx_attributes.contains(StatxAttributes::VERITY) {
        return Err(io::Error::other(
            "fs-verity is not turned on for it, so that nobody could tell whether it was changed",
        ));
    }
    let mut file = File::open(image)?;
    let mut buffer = vec![0; 1 << 17];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                let at = file.stream_position().unwrap_or_default();
                return Err(io::Error::other(format!(
                    "it is damaged behind byte {at}: its digest is not the one that it was made with"
                )));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Mounts an image.
///
/// # Errors
/// It is no image, the kernel can't mount it, or whatever else the operating system says.
pub fn mount(image: &Path, options: &Options<'_>) -> io::Result<()> {
    let mut file = File::open(image)?;
    // Three numbers, of which the second is the form's version.
    let mut header = [[0; 4]; 3];
    file.read_exact(header.as_flattened_mut())?;
    let [magic, _, flags] = header.map(u32::from_le_bytes);
    if magic != MAGIC {
        return Err(io::Error::other("it is no composefs image"));
    }
    let lower = text(options.lower)?;
    erofs(&file, flags & HAS_ACL != 0, &lower).map_err(|error| match error {
        Errno::NOTBLK => {
            io::Error::other("the kernel mounts images from devices alone; it can do without from Linux 6.12 on")
        }
        Errno::NODEV => io::Error::other("the kernel has no erofs"),
        error => io::Error::other(format!("{error}; the kernel's log says more")),
    })?;
    let mounted = overlay(options, &lower);
    // It stays below the overlay.
    unmount(&*lower, UnmountFlags::DETACH)?;
    mounted.map_err(|error| match error {
        Errno::NODEV => io::Error::other("the kernel has no overlay"),
        error => io::Error::other(format!("laying it over {}: {error}; the kernel's log says more", options.objects)),
    })?;
    if options.verity { first_files(Path::new(options.at)) } else { Ok(()) }
}

/// What the real root begins with must open: an image that was made without digests, or objects without fs-verity, show only here.
fn first_files(root: &Path) -> io::Result<()> {
    for name in ["usr/lib/os-release", "usr/lib/systemd/systemd"] {
        match File::open(root.join(name)) {
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                return Err(io::Error::other(format!(
                    "{name} has no digest in the image, or no fs-verity, or was changed; the kernel's log says which"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

fn erofs(image: &File, acl: bool, at: &CStr) -> rustix::io::Result<()> {
    let context = context("erofs")?;
    fsconfig_set_string(&context, c"source", &*text(&format!("/proc/self/fd/{}", image.as_raw_fd()))?)?;
    fsconfig_set_flag(&context, c"ro")?;
    if !acl {
        fsconfig_set_flag(&context, c"noacl")?;
    }
    finish(&context, true, at)
}

fn overlay(options: &Options<'_>, lower: &CStr) -> rustix::io::Result<()> {
    let context = context("overlay")?;
    let set = |key: &CStr, value: &CStr| fsconfig_set_string(&context, key, value);
    set(c"source", c"composefs")?;
    set(c"metacopy", c"on")?;
    set(c"redirect_dir", c"on")?;
    if options.verity {
        set(c"verity", c"require")?;
    }
    set(c"lowerdir+", lower)?;
    set(c"datadir+", &text(options.objects)?)?;
    if let Some(upper) = options.upper {
        set(c"upperdir", &text(&format!("{upper}/upper"))?)?;
        set(c"workdir", &text(&format!("{upper}/work"))?)?;
    }
    finish(&context, options.readonly, &text(options.at)?)
}

fn finish(context: &OwnedFd, readonly: bool, at: &CStr) -> rustix::io::Result<()> {
    fsconfig_create(context)?;
    let attributes = if readonly { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    let mounted = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_mount(&mounted, c"", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// One type of argument for all calls keeps them small.
fn text(text: &str) -> rustix::io::Result<CString> {
    CString::new(text).map_err(|_| Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_image_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        let options = Options {
            lower: "/nowhere",
            objects: "/nowhere",
            at: "/nowhere",
            upper: None,
            readonly: true,
            verity: false,
        };
        std::fs::write(&path, "no image at all").unwrap();
        assert!(mount(&path, &options).unwrap_err().to_string().contains("no composefs image"));
        std::fs::write(&path, "short").unwrap();
        assert!(mount(&path, &options).is_err());
        assert!(verify(&path).unwrap_err().to_string().contains("fs-verity is not turned on"));
    }
}
