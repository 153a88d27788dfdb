// SPDX-License-Identifier: Apache-2.0
//! The config that an installer left, copied to where the stage fetch-offline looks for it.
//!
//! An installed system has it on the boot file system as `ignition/config.ign`, a live image in its initramfs as
//! `/config.ign` (coreos-installer; NestOS has both places unchanged). `/usr` may be read-only in the initramfs, so it is
//! copied below `/etc`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::host::atomic;
use crate::host::bootfs::{DEVICE, TYPES};

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The boot file system's device.
    pub device: PathBuf,
    /// Where it may be mounted for as long as this takes.
    pub mount_point: PathBuf,
    /// A live image's config.
    pub live: PathBuf,
    /// What fetch-offline reads.
    pub destination: PathBuf,
}

impl Default for Places {
    /// Those of a boot.
    fn default() -> Self {
        Self {
            device: DEVICE.into(),
            mount_point: "/run/fledge/boot".into(),
            live: "/config.ign".into(),
            destination: "/etc/ignition/user.ign".into(),
        }
    }
}

/// Copies the installed config, if there is one: tells whether it did.
///
/// # Errors
/// The boot file system can't be mounted, or the config can't be read or written.
pub fn copy(cmdline: &Cmdline, live: bool, places: &Places) -> Result<bool, Failure> {
    if live {
        return copy_file(Path::new("/"), &places.live, places);
    }
    if cmdline.value("ostree").unwrap_or_default().is_empty() {
        log::info!("no ostree= on the command line, so no installer's place to look at");
        return Ok(false);
    }
    let boot = mount_boot(places)?;
    let copied = copy_file(boot.mount_point, Path::new("ignition/config.ign"), places);
    boot.leave()?;
    copied
}

struct Boot<'a> {
    mount_point: &'a Path,
}

impl Boot<'_> {
    fn leave(self) -> Result<(), Failure> {
        unmount(self.mount_point, UnmountFlags::NOFOLLOW)
            .map_err(|error| Failure::new(format!("unmounting {}", self.mount_point.display()), error.to_string()))
    }
}

/// Mounts read-only, so that nothing but a journal's replay is written.
fn mount_boot(places: &Places) -> Result<Boot<'_>, Failure> {
    let failure = |why: String| {
        Failure::new(format!("mounting the boot file system {}", places.device.display()), why).remedy(
            "check that the disk has a file system with the label \"boot\", and that the initramfs has its driver",
        )
    };
    if !places.device.exists() {
        return Err(failure("it did not appear".into()));
    }
    fs::create_dir_all(&places.mount_point).map_err(|error| failure(error.to_string()))?;
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    for kind in TYPES {
        match mount(&places.device, &places.mount_point, kind, flags, None) {
            Ok(()) => return Ok(Boot { mount_point: &places.mount_point }),
            // No such file system here, or no driver for it.
            Err(Errno::INVAL | Errno::NODEV) => {}
            Err(error) => return Err(failure(format!("as {kind}: {error}"))),
        }
    }
    Err(failure(format!("it is none of {}", TYPES.join(", "))))
}

/// `path` is below `root`, and no link leads out of there.
fn copy_file(root: &Path, path: &Path, places: &Places) -> Result<bool, Failure> {
    let shown = root.join(path);
    let reading = |error: io::Error| {
        Failure::new(format!("reading the installed config {}", shown.display()), error.to_string())
            .remedy("install the system again, or remove that file to boot without a config")
    };
    let below = path.strip_prefix("/").unwrap_or(path);
    let file = match open_below(root, below) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            log::info!("no installed config: {} does not exist", shown.display());
            return Ok(false);
        }
        file => file.map_err(reading)?,
    };
    if !file.metadata().map_err(reading)?.is_file() {
        return Err(reading(io::Error::other("it is no regular file")));
    }
    let mut text = Vec::new();
    (&file).read_to_end(&mut text).map_err(reading)?;
    atomic::write(&places.destination, 0o600, &text).map_err(|error| {
        Failure::new(format!("copying the installed config to {}", places.destination.display()), error.to_string())
    })?;
    log::info!("copied the installed config {} to {}", shown.display(), places.destination.display());
    Ok(true)
}

fn open_below(root: &Path, path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let root = rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn places(directory: &Path) -> Places {
        Places {
            device: directory.join("no-such-device"),
            mount_point: directory.join("mnt"),
            live: directory.join("config.ign"),
            destination: directory.join("etc/ignition/user.ign"),
        }
    }

    #[test]
    fn a_live_image_config_is_copied_for_root_alone() {
        let directory = tempfile::tempdir().unwrap();
        let places = places(directory.path());
        fs::write(&places.live, "{}").unwrap();
        assert!(copy(&Cmdline::default(), true, &places).unwrap());
        assert_eq!(fs::read(&places.destination).unwrap(), b"{}");
        assert_eq!(fs::metadata(&places.destination).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn no_config_is_no_failure() {
        let directory = tempfile::tempdir().unwrap();
        let places = places(directory.path());
        assert!(!copy(&Cmdline::default(), true, &places).unwrap());
        assert!(!places.destination.exists());
    }

    #[test]
    fn without_a_deployment_no_disk_is_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!copy(&Cmdline::parse("root=/dev/vda ostree="), false, &places(directory.path())).unwrap());
    }

    #[test]
    fn a_missing_boot_file_system_stops_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let failure = copy(&Cmdline::parse("ostree=/x"), false, &places(directory.path())).unwrap_err();
        assert!(failure.to_string().contains("no-such-device: it did not appear"), "{failure}");
        assert!(failure.remedy.is_some_and(|remedy| remedy.contains("label \"boot\"")));
    }

    #[test]
    fn a_link_on_the_boot_file_system_stays_on_it() {
        let directory = tempfile::tempdir().unwrap();
        let boot = directory.path().join("boot");
        fs::create_dir_all(boot.join("ignition")).unwrap();
        fs::write(directory.path().join("secret"), "not this").unwrap();
        symlink(directory.path().join("secret"), boot.join("ignition/config.ign")).unwrap();
        let places = places(directory.path());
        assert!(!copy_file(&boot, Path::new("ignition/config.ign"), &places).unwrap());
        assert!(!places.destination.exists());
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("ignition/config.ign")).unwrap();
        assert!(copy_file(directory.path(), Path::new("ignition/config.ign"), &places(directory.path())).is_err());
    }
}
