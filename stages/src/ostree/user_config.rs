// SPDX-License-Identifier: Apache-2.0
//! The config that an installer left, copied to where the stage fetch-offline looks for it.
//!
//! An installed system has it on the boot file system as `ignition/config.ign`, a live image in its initramfs as
//! `/config.ign` (coreos-installer; NestOS has both places unchanged). `/usr` may be read-only in the initramfs, so it is
//! copied below `/etc`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::pivot;

use crate::host::atomic;
use crate::host::bootfs::{BootFs, DEVICE, Place};
use crate::host::device::PATIENCE;
use crate::host::fs::Root;
use crate::provider::read_text;

/// Where installers leave it on the boot file system.
const INSTALLED: &str = "/ignition/config.ign";

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The boot file system's device.
    pub device: PathBuf,
    /// How long it is waited for.
    pub patience: Duration,
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
            patience: PATIENCE,
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
        let root = Root::open(Path::new("/")).map_err(|error| Failure::new("opening /", error.to_string()))?;
        return copy_file(&root, &places.live.to_string_lossy(), places);
    }
    if pivot::target(cmdline).is_none() {
        log::info!("no ostree= on the command line, so no installer's place to look at");
        return Ok(false);
    }
    // It is unmounted when this ends.
    let boot = BootFs::open_within(places.patience, &Place::Device(places.device.clone()), false)?;
    copy_file(boot.root(), INSTALLED, places)
}

/// No link leads out of `root`.
fn copy_file(root: &Root, path: &str, places: &Places) -> Result<bool, Failure> {
    let shown = if path == INSTALLED { format!("{path} on the boot file system") } else { path.to_owned() };
    let text = match root.open_file(path).and_then(read_text) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            log::info!("no installed config: {shown} does not exist");
            return Ok(false);
        }
        text => text.map_err(|error| {
            Failure::new(format!("reading the installed config {shown}"), error.to_string())
                .remedy("install the system again, or remove that file to boot without a config")
        })?,
    };
    atomic::write(&places.destination, 0o600, &text).map_err(|error| {
        Failure::new(format!("copying the installed config to {}", places.destination.display()), error.to_string())
    })?;
    log::info!("copied the installed config {shown} to {}", places.destination.display());
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn places(directory: &Path) -> Places {
        Places {
            device: directory.join("no-such-device"),
            patience: Duration::ZERO,
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
        for cmdline in ["root=/dev/vda ostree=", "ostree= ostree=/x"] {
            assert!(!copy(&Cmdline::parse(cmdline), false, &places(directory.path())).unwrap(), "{cmdline}");
        }
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
        assert!(!copy_file(&Root::open(&boot).unwrap(), INSTALLED, &places).unwrap());
        assert!(!places.destination.exists());
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("ignition/config.ign")).unwrap();
        assert!(copy_file(&Root::open(directory.path()).unwrap(), INSTALLED, &places(directory.path())).is_err());
    }
}
