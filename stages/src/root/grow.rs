// SPDX-License-Identifier: Apache-2.0
//! The root grows to its disk; [`fledge_core::root::grow`] decides.
//!
//! xfs and btrfs grow only where they are mounted. That is not where the root will be: systemd would take it for mounted already.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use fledge_core::cmdline::Cmdline;
use fledge_core::config::Config;
use fledge_core::diag::Failure;
use fledge_core::gpt::Found;
use fledge_core::root::grow::{self, Array, Disk, Facts, Plan, Step};
use fledge_core::root::{FileSystem, Kind, Layer, made};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{SEE_DISK, stack, table, transpose};
use crate::host::cmd::{self, Arg};
use crate::host::device::{udev, usage};
use crate::host::{block, device};

/// Grows what is on a device, and what that is made of. `point` is a directory to mount it on, made and removed here;
/// `config` is the cached configuration, `transposed` what was noted of a root that it makes anew.
///
/// # Errors
/// Something can't be looked at, can't grow, or fails to.
pub fn run(root: &Path, point: &Path, config: &Path, transposed: &Path, cmdline: &Cmdline) -> Result<(), Failure> {
    let root_is_named = cmdline.value("root").is_some_and(|root| !root.is_empty());
    let plan = plan(root, &super::config(config)?, transposed, root_is_named)?;
    log::info!("{plan}");
    super::carry_out(&plan.steps, |step| execute(step, point))
}

pub(super) fn plan(root: &Path, config: &Config, transposed: &Path, root_is_named: bool) -> Result<Plan, Failure> {
    let unreadable = |error: io::Error| device::unreadable(&root.to_string_lossy(), &error);
    let node = root.canonicalize().map_err(unreadable)?;
    let root = stack::file_system(&node).map_err(unreadable)?;
    let stack = stack::of(&node).map_err(unreadable)?;
    let mut file = File::open(&node).map_err(unreadable)?;
    let size = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
    let used = device::reading(&file, |read| grow::extent(&root.format, read)).map_err(unreadable)?.unwrap_or_default();
    let mut disks: Vec<Disk> = Vec::new();
    let mut arrays = Vec::new();
    for layer in &stack {
        match &layer.kind {
            Kind::Partition { disk, .. } if disks.iter().all(|known| known.node != *disk) => {
                let unreadable = |error: io::Error| device::unreadable(disk, &error);
                let Some(found) = block::look(disk).map_err(unreadable)? else { continue };
                let member = device::at_end(Path::new(disk)).map_err(unreadable)?.map(str::to_owned);
                let is_this = |device: &str| Path::new(device).canonicalize().is_ok_and(|path| path == Path::new(disk));
                let given = config.storage.disks.iter().filter(|given| is_this(&given.device));
                let given = given.flat_map(|given| given.partitions.iter().cloned()).collect();
                disks.push(Disk { node: disk.clone(), geometry: found.geometry(), holds: found.holds, member, given });
            }
            Kind::Raid { .. } => {
                let sys = usage::directory(Path::new(&layer.node)).map_err(unreadable)?;
                arrays.extend(stack::room(&sys).map(|room| Array { node: layer.node.clone(), room }));
            }
            _ => {}
        }
    }
    let laid_out = made(config).is_some() && !is_on_its_old_partition(&stack, &disks, transposed)?;
    grow::plan(&Facts { root, used, size, stack, disks, arrays, laid_out, root_is_named })
}

/// A configuration that makes the file system anew where it was has said nothing of the partition's size.
fn is_on_its_old_partition(stack: &[Layer], disks: &[Disk], transposed: &Path) -> Result<bool, Failure> {
    let mut above = stack.iter().filter(|layer| layer.kind != Kind::Disk);
    let (Some(Layer { kind: Kind::Partition { disk, number }, .. }), None) = (above.next(), above.next()) else {
        return Ok(false);
    };
    let partition = disks.iter().find(|known| known.node == *disk).and_then(|known| match &known.holds {
        Found::Gpt(gpt) => gpt.table.partition(*number),
        _ => None,
    });
    partition.map_or(Ok(false), |partition| transpose::was_root(transposed, disk, partition))
}

pub(super) fn execute(step: &Step, point: &Path) -> Result<bool, Failure> {
    let run = |tool, args: &[&str]| {
        let args: Vec<_> = args.iter().map(Arg::from).collect();
        cmd::run(tool, &args).map_err(|failure| failure.remedy(SEE_DISK))
    };
    match step {
        Step::Partition { disk, table, hybrid, tail, .. } => table::write(disk, table, *hybrid, Some(*tail)),
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
    let failure = |what: &str, error: io::Error| {
        Failure::new(format!("{what} {} to grow it", of.node), error.to_string()).remedy(SEE_DISK)
    };
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
    let mounting = |error| failure("mounting", error);
    fs::create_dir_all(point).map_err(mounting)?;
    mount(&of.node, point, of.format.as_str(), MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC, None)
        .map_err(|error| mounting(error.into()))?;
    let grown = cmd::run(tool, &args);
    let unmounted = unmount(point, UnmountFlags::empty()).map_err(io::Error::from).and_then(|()| fs::remove_dir(point));
    match (grown, unmounted.map_err(|error| failure("unmounting", error))) {
        (Ok(_), unmounted) => unmounted?,
        // What failed first is what to tell.
        (Err(failed), Ok(())) if of.format == "ext4" && refused_online(&failed) => {
            log::info!("{failed}; growing it unmounted");
            super::check(&of.node)?;
            cmd::run(tool, &args).map_err(|failure| failure.remedy(SEE_DISK))?;
        }
        (Err(failed), _) => return Err(failed.remedy(SEE_DISK)),
    }
    udev::look_again(Path::new(&of.node))
}

/// Whether it is the kernel that doesn't grow this ext4 where it is mounted, by what resize2fs says of that (e2fsprogs
/// `resize/online.c`): some features don't let it, and it may be forbidden. Anything else is no reason to try in another way.
fn refused_online(failure: &Failure) -> bool {
    let said = failure.to_string();
    ["does not support", "not supported", "Permission denied to resize"].iter().any(|words| said.contains(words))
}
