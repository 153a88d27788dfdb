// SPDX-License-Identifier: Apache-2.0
//! What the pivot has to know.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::pivot::{self, Composefs, Facts, Form, Settings};
use rustix::fs::{StatVfsMountFlags, major, minor, statvfs};

use crate::host::mount;
use crate::host::net::random;
use crate::ostree;

const WHAT: &str = "finding the deployment to boot";

/// Where a deployment has the program that its OSTree pivots with.
const PROGRAM: &str = "usr/lib/ostree/ostree-prepare-root";
/// Where udev links the root that systemd found by its partition's type.
const AUTO_ROOT: &str = "/dev/gpt-auto-root";

/// The name and text of the file that decides, if there is one.
pub(super) fn settings(initramfs: &Path) -> Result<Option<(&'static str, String)>, Failure> {
    for name in pivot::FILES.into_iter().rev() {
        match fs::read_to_string(initramfs.join(name.trim_start_matches('/'))) {
            Ok(text) => return Ok(Some((name, text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Failure::new(format!("reading {name}"), error.to_string())
                    .remedy("correct that file and build the initramfs again"));
            }
        }
    }
    Ok(None)
}

pub(super) fn facts(root: &Path, cmdline: &Cmdline, settings: Settings) -> Result<Facts, Failure> {
    if fs::symlink_metadata(pivot::BOOTED).is_ok() {
        return Err(Failure::new("pivoting", format!("{} is there: it was done before", pivot::BOOTED)).remedy(
            "see that the initramfs has one unit that pivots: ostree-prepare-root.service or fledge-pivot.service",
        ));
    }
    let deployment = ostree::deployment(WHAT, root, cmdline)?;
    let root = fs::canonicalize(root).map_err(|error| failed(root, &error))?;
    let below = deployment.strip_prefix(&root).unwrap_or(&deployment);
    let metadata = fs::metadata(&deployment).map_err(|error| failed(&deployment, &error))?;
    let status = statvfs(&root).map_err(|error| failed(&root, &error.into()))?;
    let has = |name: &str| fs::symlink_metadata(deployment.join(name));
    // What can't be looked at mustn't pass for what isn't there: the root would come without its checks or without a hotfix.
    let exists = |name: &str| match has(name) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(&deployment.join(name), &error)),
    };
    let entries = fs::symlink_metadata(root.join("boot/loader")).is_ok_and(|entries| entries.is_symlink());
    Ok(Facts {
        deployment: format!("/{}", below.display()),
        identity: (metadata.dev(), metadata.ino()),
        writable: !status.f_flag.contains(StatVfsMountFlags::RDONLY),
        repository_is_readonly: settings.asks_the_repository() && repository_is_readonly(&root),
        image: settings.composefs != Composefs::No && exists(pivot::IMAGE)?,
        hotfix: exists(pivot::HOTFIX)?,
        own_boot: entries && has("boot").is_ok_and(|boot| boot.is_dir()),
        var: fs::symlink_metadata(pivot::MOUNT_VAR).is_ok(),
        device: device(&root),
        form: form(&deployment.join(PROGRAM))?,
        unique: format!("{:06x}", u32::from_ne_bytes(random()) >> 8),
        root: root.display().to_string(),
    })
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(WHAT, format!("{}: {error}", path.display()))
        .remedy("check that file system for errors, or boot another boot entry")
}

fn form(program: &Path) -> Result<Form, Failure> {
    let form = match fs::read(program) {
        Ok(program) => Form::of(&program),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            log::warn!("{} isn't there, so OSTree is told as its newest release has it", program.display());
            Form::NEWEST
        }
        Err(error) => return Err(failed(program, &error)),
    };
    log::info!("what the deployment's OSTree expects: {form:?}");
    Ok(form)
}

fn repository_is_readonly(root: &Path) -> bool {
    let path = root.join("ostree/repo/config");
    let read = fs::read(&path).map_err(|error| error.to_string());
    read.and_then(|text| pivot::repository_is_readonly(&String::from_utf8_lossy(&text))).unwrap_or_else(|why| {
        log::warn!("reading {}: {why}; taken for one that doesn't ask for a read-only root", path.display());
        false
    })
}

/// The device that the physical root is on. A file system with a number of its own (btrfs) is known by what was mounted.
fn device(root: &Path) -> Option<(u32, u32)> {
    let numbers = |device: u64| (major(device), minor(device));
    let node = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        metadata.file_type().is_block_device().then(|| numbers(metadata.rdev()))
    };
    node(Path::new(AUTO_ROOT)).or_else(|| {
        let device = numbers(fs::metadata(root).ok()?.dev());
        if device.0 > 0 {
            return Some(device);
        }
        let mounted = mount::table().ok()?.into_iter().rfind(|mount| mount.point == root)?;
        node(Path::new(&mounted.source)).filter(|device| is_alone(Path::new("/sys"), *device))
    })
}

/// Whether a device of a btrfs is its only one, so that it can stand for it (the kernel's `fs/btrfs/sysfs.c`).
fn is_alone(sys: &Path, (major, minor): (u32, u32)) -> bool {
    let Ok(device) = fs::canonicalize(sys.join(format!("dev/block/{major}:{minor}"))) else { return false };
    let Some(name) = device.file_name() else { return false };
    let systems = fs::read_dir(sys.join("fs/btrfs")).into_iter().flatten().flatten();
    systems
        .map(|system| system.path().join("devices"))
        .any(|devices| devices.join(name).exists() && fs::read_dir(&devices).is_ok_and(|devices| devices.count() == 1))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_btrfs_of_several_devices_is_on_none_of_them() {
        let sys = tempfile::tempdir().unwrap();
        let sys = sys.path();
        fs::create_dir_all(sys.join("dev/block")).unwrap();
        for (system, name, number) in [("one", "vda4", "254:4"), ("two", "vdb", "254:16"), ("two", "vdc", "254:32")] {
            let device = sys.join("devices").join(name);
            let devices = sys.join("fs/btrfs").join(system).join("devices");
            fs::create_dir_all(&device).unwrap();
            fs::create_dir_all(&devices).unwrap();
            symlink(&device, sys.join("dev/block").join(number)).unwrap();
            symlink(&device, devices.join(name)).unwrap();
        }
        fs::create_dir_all(sys.join("fs/btrfs/features")).unwrap();
        let alone = [(254, 4), (254, 16), (254, 32), (254, 99)].map(|device| is_alone(sys, device));
        assert_eq!(alone, [true, false, false, false]);
    }
}
