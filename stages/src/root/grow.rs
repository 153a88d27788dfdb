// SPDX-License-Identifier: Apache-2.0
//! The root grows to its disk; [`fledge_core::root::grow`] decides.
//!
//! xfs and btrfs grow only where they are mounted. That is not where the root will be: systemd would take it for mounted already.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use fledge_core::diag::Failure;
use fledge_core::root::grow::{self, Disk, Facts, Plan, Step};
use fledge_core::root::{FileSystem, Kind};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;

use super::{SEE_DISK, stack, table};
use crate::host::cmd::{self, Arg};
use crate::host::device::udev;
use crate::host::{block, device};

/// Grows what is on a device, and what that is made of. `point` is a directory to mount it on, made and removed here;
/// `config` is the cached configuration.
///
/// # Errors
/// Something can't be looked at, can't grow, or fails to.
pub fn run(root: &Path, point: &Path, config: &Path) -> Result<(), Failure> {
    let plan = plan(root, super::laid_out(&super::config(config)?).is_some())?;
    log::info!("{plan}");
    super::carry_out(&plan.steps, |step| execute(step, point))
}

fn plan(root: &Path, laid_out: bool) -> Result<Plan, Failure> {
    let unreadable = |error: io::Error| device::unreadable(&root.to_string_lossy(), &error);
    let node = root.canonicalize().map_err(unreadable)?;
    let root = stack::file_system(&node).map_err(unreadable)?;
    let stack = stack::of(&node).map_err(unreadable)?;
    let mut file = File::open(&node).map_err(unreadable)?;
    let size = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
    let used = device::reading(&file, |read| grow::extent(&root.format, read)).map_err(unreadable)?.unwrap_or_default();
    let mut disks: Vec<Disk> = Vec::new();
    for layer in &stack {
        let Kind::Partition { disk, .. } = &layer.kind else { continue };
        if disks.iter().all(|known| known.node != *disk) {
            let found = block::look(disk).map_err(|error| device::unreadable(disk, &error))?;
            let found = found.map(|found| Disk { node: disk.clone(), geometry: found.geometry(), holds: found.holds });
            disks.extend(found);
        }
    }
    grow::plan(&Facts { root, used, size, stack, disks, laid_out })
}

fn execute(step: &Step, point: &Path) -> Result<bool, Failure> {
    let run = |tool, args: &[&str]| {
        let args: Vec<_> = args.iter().map(Arg::from).collect();
        cmd::run(tool, &args).map_err(|failure| failure.remedy(SEE_DISK))
    };
    match step {
        Step::Partition { disk, table, hybrid, .. } => table::write(disk, table, *hybrid),
        Step::Raid { node } => run(cmd::MDADM, &["--grow", node, "--size=max"]).map(|_| true),
        Step::Luks { name, device } => volume(name, device).map(|()| true),
        Step::Wipe { node, format } => {
            let types = format!("no{format}");
            let found = run(cmd::WIPEFS, &["--all", "--types", &types, node])?;
            Ok(!found.stdout.trim().is_empty())
        }
        Step::FileSystem { of } => file_system(of, point).map(|()| true),
    }
}

/// cryptsetup asks for a key where the kernel keeps the volume's own in its keyring; clevis has one for what it has bound.
fn volume(name: &str, device: &str) -> Result<(), Failure> {
    let resize = cmd::run(cmd::CRYPTSETUP, &["resize".into(), "--batch-mode".into(), name.into()]);
    let Err(failure) = resize else { return Ok(()) };
    let listed = cmd::run(cmd::CLEVIS, &["luks".into(), "list".into(), "-d".into(), device.into()]);
    let slots = listed.map(|output| output.stdout).unwrap_or_default();
    for slot in slots.lines().filter_map(|line| line.split(':').next()) {
        let pass = ["luks".into(), "pass".into(), "-d".into(), device.into(), "-s".into(), slot.into()];
        let Ok(pass) = cmd::run(cmd::CLEVIS, &pass) else { continue };
        let args = ["resize".into(), "--key-file".into(), "-".into(), name.into()];
        if cmd::feed(cmd::CRYPTSETUP, &args, pass.stdout.as_bytes()).is_ok() {
            return Ok(());
        }
    }
    Err(failure.remedy("bind the volume to clevis, or make it as large as it is to be in the configuration"))
}

fn file_system(of: &FileSystem, point: &Path) -> Result<(), Failure> {
    let failure =
        |error: io::Error| Failure::new(format!("mounting {} to grow it", of.node), error.to_string()).remedy(SEE_DISK);
    let args: Vec<Arg<'_>>;
    let tool = match of.format.as_str() {
        "ext4" => {
            args = vec![(&of.node).into()];
            cmd::RESIZE2FS
        }
        "xfs" => {
            args = vec![point.into()];
            cmd::XFS_GROWFS
        }
        _ => {
            args = vec!["filesystem".into(), "resize".into(), "max".into(), point.into()];
            cmd::BTRFS
        }
    };
    fs::create_dir_all(point).map_err(failure)?;
    mount(&of.node, point, of.format.as_str(), MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC, None)
        .map_err(|error| failure(error.into()))?;
    let grown = cmd::run(tool, &args);
    unmount(point, UnmountFlags::empty()).map_err(|error| failure(error.into()))?;
    fs::remove_dir(point).map_err(failure)?;
    if let Err(failed) = grown {
        if of.format != "ext4" {
            return Err(failed.remedy(SEE_DISK));
        }
        // Some features of ext4 don't let it grow where it is mounted.
        log::info!("{failed}; growing it unmounted");
        super::check(&of.node)?;
        cmd::run(tool, &args).map_err(|failure| failure.remedy(SEE_DISK))?;
    }
    udev::look_again(Path::new(&of.node))
}

/// What a configuration says about the file system that it makes for the root.
pub(super) fn made(config: &Value) -> Option<&Value> {
    let of_root = |one: &&Value| one.get("label").and_then(Value::as_str) == Some("root");
    config.pointer("/storage/filesystems")?.as_array()?.iter().find(of_root)
}
