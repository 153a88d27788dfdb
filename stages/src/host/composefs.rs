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

use fledge_core::diag::Failure;
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

/// What to do where the image or what it goes with is to blame.
const DAMAGED: &str = "the deployment is damaged or was not made for this: boot another boot entry, or install again";
/// What to do where the kernel is.
const OLD_KERNEL: &str = "build the initramfs with fledge_pivot=ostree (dracut.conf), or turn composefs off \
    (composefs.enabled in prepare-root.conf, or the kernel argument ostree.prepare-root.composefs=no)";
const NO_MODULE: &str = "see that the initramfs holds that kernel module (dracut: add_drivers), or turn composefs off \
    (composefs.enabled in prepare-root.conf, or the kernel argument ostree.prepare-root.composefs=no)";

/// Reads an image whole, which has the kernel check every byte of it by fs-verity.
///
/// # Errors
/// It has no fs-verity, a byte isn't the one that it was made with, or it can't be read.
pub fn verify(image: &Path) -> Result<(), Failure> {
    read_whole(image).map_err(|error| {
        Failure::new(format!("checking the image {}", image.display()), error.to_string()).remedy(DAMAGED)
    })
}

fn read_whole(image: &Path) -> io::Result<()> {
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
                    "it can't be read, or doesn't match its digest, behind byte {at}; the kernel's log says which"
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
pub fn mount(image: &Path, options: &Options<'_>) -> Result<(), Failure> {
    let failed = |why: String, remedy: &str| {
        Failure::new(format!("mounting the composefs image {}", image.display()), why).remedy(remedy)
    };
    let damaged = |error: io::Error| failed(error.to_string(), DAMAGED);
    let (file, acl) = open(image).map_err(damaged)?;
    let lower = text(options.lower).map_err(|error| damaged(error.into()))?;
    erofs(&file, acl, &lower).map_err(|error| {
        let (why, remedy) = no_erofs(error);
        failed(why, remedy)
    })?;
    let mounted = overlay(options, &lower);
    // It stays below the overlay.
    unmount(&*lower, UnmountFlags::DETACH).map_err(|error| damaged(error.into()))?;
    mounted.map_err(|error| match error {
        Errno::NODEV => failed("the kernel has no overlay".into(), NO_MODULE),
        error => failed(format!("laying it over {}: {error}; the kernel's log says more", options.objects), DAMAGED),
    })?;
    if !options.verity {
        return Ok(());
    }
    first_files(Path::new(options.at)).map_err(|error| {
        if let Err(error) = unmount(options.at, UnmountFlags::DETACH) {
            log::warn!("unmounting {}: {error}", options.at);
        }
        damaged(error)
    })
}

/// Whether a file looks like an image.
///
/// # Errors
/// It can't be read, or is none.
pub fn check(image: &Path) -> io::Result<()> {
    open(image).map(drop)
}

/// An image, and whether it has access control lists.
fn open(image: &Path) -> io::Result<(File, bool)> {
    let mut file = File::open(image)?;
    // Three numbers, of which the second is the form's version.
    let mut header = [[0; 4]; 3];
    file.read_exact(header.as_flattened_mut()).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::other("it is cut off: no composefs image"),
        _ => error,
    })?;
    let [magic, _, flags] = header.map(u32::from_le_bytes);
    if magic != MAGIC {
        return Err(io::Error::other("it is no composefs image"));
    }
    Ok((file, flags & HAS_ACL != 0))
}

/// Why the kernel mounted no EROFS, and what to do about it.
fn no_erofs(error: Errno) -> (String, &'static str) {
    match error {
        Errno::NOTBLK => (
            "the kernel mounts images from devices alone; it can do without from Linux 6.12 on, if it was built for that"
                .into(),
            OLD_KERNEL,
        ),
        Errno::NODEV => ("the kernel has no erofs".into(), NO_MODULE),
        error => (format!("{error}; the kernel's log says more"), DAMAGED),
    }
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
        for cut_off in ["", "short"] {
            std::fs::write(&path, cut_off).unwrap();
            let failure = mount(&path, &options).unwrap_err();
            assert_eq!(failure.why, "it is cut off: no composefs image");
            assert!(failure.remedy.is_some_and(|remedy| remedy.contains("install again")));
        }
        assert!(verify(&path).unwrap_err().to_string().contains("fs-verity is not turned on"));
    }

    #[test]
    fn the_deployment_is_not_to_blame_for_what_the_kernel_lacks() {
        let remedies =
            [(Errno::NOTBLK, "fledge_pivot=ostree"), (Errno::NODEV, "add_drivers"), (Errno::UCLEAN, "damaged")];
        for (error, expected) in remedies {
            let (why, remedy) = no_erofs(error);
            assert!(remedy.contains(expected), "{why}: {remedy}");
            assert_eq!(remedy.contains("install again"), expected == "damaged", "{why}: {remedy}");
        }
    }
}
