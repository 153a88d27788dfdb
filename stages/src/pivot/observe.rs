// SPDX-License-Identifier: Apache-2.0
//! What the pivot has to know.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::pivot::{self, Facts, Form};
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
            Err(error) => return Err(Failure::new(format!("reading {name}"), error.to_string())),
        }
    }
    Ok(None)
}

pub(super) fn facts(root: &Path, cmdline: &Cmdline) -> Result<Facts, Failure> {
    if fs::symlink_metadata(pivot::BOOTED).is_ok() {
        return Err(Failure::new("pivoting", format!("{} is there: it was done before", pivot::BOOTED)));
    }
    let deployment = ostree::deployment(WHAT, root, cmdline)?;
    let failed = |error: io::Error| Failure::new(WHAT, format!("{}: {error}", deployment.display()));
    let root = fs::canonicalize(root).map_err(failed)?;
    let below = deployment.strip_prefix(&root).unwrap_or(&deployment);
    let metadata = fs::metadata(&deployment).map_err(failed)?;
    let has = |name: &str| fs::symlink_metadata(deployment.join(name));
    let entries = fs::symlink_metadata(root.join("boot/loader")).is_ok_and(|entries| entries.is_symlink());
    Ok(Facts {
        deployment: format!("/{}", below.display()),
        identity: (metadata.dev(), metadata.ino()),
        writable: !statvfs(&root).map_err(|error| failed(error.into()))?.f_flag.contains(StatVfsMountFlags::RDONLY),
        repository_is_readonly: repository_is_readonly(&root),
        image: has(pivot::IMAGE).is_ok(),
        hotfix: has(pivot::HOTFIX).is_ok(),
        own_boot: entries && has("boot").is_ok_and(|boot| boot.is_dir()),
        var: fs::symlink_metadata(pivot::MOUNT_VAR).is_ok(),
        device: device(&root),
        form: fs::read(deployment.join(PROGRAM)).map_or(Form::NEWEST, |program| Form::of(&program)),
        unique: format!("{:06x}", u32::from_ne_bytes(random()) >> 8),
        root: root.display().to_string(),
    })
}

fn repository_is_readonly(root: &Path) -> bool {
    let path = root.join("ostree/repo/config");
    let read = fs::read_to_string(&path).map_err(|error| error.to_string());
    read.and_then(|text| pivot::repository_is_readonly(&text)).unwrap_or_else(|why| {
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
        node(Path::new(&mounted.source))
    })
}
