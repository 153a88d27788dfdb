// SPDX-License-Identifier: Apache-2.0
//! What the real root does once after a first boot: the stamp and the installer's configuration go, the report stays.
//!
//! As long as the stamp `/boot/ignition.firstboot` is there, the bootloader asks for a first boot; as long as
//! `/boot/ignition` is there, the configuration with its secrets is, and so are an installer's network files. So all must go, or the unit fails for all to see.

use std::fs;
use std::io;
use std::path::Path;

use fledge_core::diag::Failure;
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::mount::{MountFlags, mount_remount};

use crate::handover::FOLDERS;
use crate::host::atomic;
use crate::kargs;

/// Finishes a first boot: `boot` is `/boot`, `report` the one in `/run`, which is kept as `kept`. `begun` is what the files stage
/// noted for the case that it doesn't come to this.
///
/// # Errors
/// Each thing that could not be done. All are tried.
pub fn complete(boot: &Path, begun: &Path, report: &Path, kept: &Path) -> Result<(), Vec<Failure>> {
    let [ours, theirs] = FOLDERS;
    let results = [
        keep_report(report, kept),
        make_writable(boot),
        remove(&boot.join("ignition")),
        remove(&boot.join(ours)),
        remove(&boot.join(theirs)),
        forget_kargs(boot),
        remove(&boot.join("ignition.firstboot")),
        settle(boot),
    ];
    let failures: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    if !failures.is_empty() {
        return Err(failures);
    }
    // There is no stamp any more: nobody asks what was begun.
    match fs::remove_file(begun) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!("{} could not be removed: {error}", begun.display());
        }
        _ => {}
    }
    Ok(())
}

/// `/boot` may be mounted read-only. The unit has a mount namespace of its own, so that only this process sees it writable.
fn make_writable(boot: &Path) -> Result<(), Failure> {
    let failure = |error: rustix::io::Errno| {
        Failure::new(format!("making {} writable", boot.display()), error.to_string()).remedy(
            "check that file system; until the first-boot stamp on it is removed, the next boot is a first boot again",
        )
    };
    if !statvfs(boot).map_err(failure)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    mount_remount(boot, MountFlags::NODEV | MountFlags::NOSUID, "").map_err(failure)
}

fn remove(path: &Path) -> Result<(), Failure> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::new(format!("removing {}", path.display()), error.to_string()).remedy(
                "remove it by hand: until it is gone, secrets stay on the disk or the next boot is a first boot again",
            ))
        }
        _ => Ok(()),
    }
}

/// The note that kernel arguments asked for a reboot.
fn forget_kargs(boot: &Path) -> Result<(), Failure> {
    kargs::forget(boot)
        .map_err(|error| Failure::new(format!("removing {} of {}", kargs::MARKER, boot.display()), error.to_string()))
}

/// What was removed must stay so if the power fails now.
fn settle(boot: &Path) -> Result<(), Failure> {
    fs::File::open(boot)
        .and_then(|boot| boot.sync_all())
        .map_err(|error| Failure::new(format!("writing {} to its disk", boot.display()), error.to_string()))
}

fn keep_report(report: &Path, kept: &Path) -> Result<(), Failure> {
    let failure =
        |error: io::Error| Failure::new(format!("keeping the report as {}", kept.display()), error.to_string());
    let text = fs::read(report).map_err(failure)?;
    if let Some(folder) = kept.parent() {
        atomic::make_directory(folder, 0o755).map_err(failure)?;
    }
    atomic::write(kept, 0o644, &text).map_err(failure)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct Fixture {
        _directory: tempfile::TempDir,
        boot: PathBuf,
        begun: PathBuf,
        report: PathBuf,
        kept: PathBuf,
    }

    fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let (boot, report) = (directory.path().join("boot"), directory.path().join("report.json"));
        fs::create_dir_all(boot.join("ignition")).unwrap();
        fs::create_dir_all(boot.join("loader")).unwrap();
        fs::write(boot.join("ignition/config.ign"), "{}").unwrap();
        fs::write(boot.join("ignition.firstboot"), "").unwrap();
        fs::create_dir(boot.join("coreos-firstboot-network")).unwrap();
        fs::write(boot.join("coreos-firstboot-network/wifi.nmconnection"), "a secret").unwrap();
        fs::create_dir(boot.join("fledge")).unwrap();
        fs::write(boot.join("fledge/kargs-reboot"), "boot 1\n").unwrap();
        fs::write(&report, "{}").unwrap();
        let begun = directory.path().join("begun");
        fs::write(&begun, "{}").unwrap();
        let kept = directory.path().join("var/lib/fledge/first-boot.json");
        Fixture { _directory: directory, boot, begun, report, kept }
    }

    #[test]
    fn stamp_and_config_go_and_the_report_stays() {
        let boot = fixture();
        complete(&boot.boot, &boot.begun, &boot.report, &boot.kept).unwrap();
        let left: Vec<_> = fs::read_dir(&boot.boot).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["loader"]);
        assert!(!boot.begun.exists());
        assert_eq!(fs::read_to_string(&boot.kept).unwrap(), "{}");
        complete(&boot.boot, &boot.begun, &boot.report, &boot.kept).unwrap();
    }

    #[test]
    fn without_a_report_the_stamp_goes_all_the_same_and_the_loss_is_told() {
        let boot = fixture();
        fs::remove_file(&boot.report).unwrap();
        let failures = complete(&boot.boot, &boot.begun, &boot.report, &boot.kept).unwrap_err();
        assert_eq!(failures.len(), 1);
        assert!(failures[0].what.contains("first-boot.json"), "{}", failures[0]);
        assert!(!boot.boot.join("ignition.firstboot").exists());
        assert!(boot.begun.exists());
    }
}
