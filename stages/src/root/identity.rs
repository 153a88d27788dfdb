// SPDX-License-Identifier: Apache-2.0
//! The boot disk and its file systems get their own names; [`fledge_core::root::identity`] decides.

use std::path::Path;

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::gpt::Guid;
use fledge_core::root::identity::{self, Disk, Plan, Step};
use fledge_core::root::{FileSystem, Kind};
use rustix::rand::{GetRandomFlags, getrandom};

use super::{SEE_DISK, stack, table};
use crate::host::cmd::{self, Arg};
use crate::host::device::udev;
use crate::host::{block, device};

/// Gives the disk of a file system a GUID of its own, and has its second table at its end.
///
/// # Errors
/// The table can't be read, relied on or written.
pub fn disk(boot: &Path) -> Result<(), Failure> {
    let plan = plan_disk(boot)?;
    log::info!("{plan}");
    super::carry_out(&plan.steps, execute)
}

/// Gives a file system a UUID of its own, if it has the image's and the command line doesn't go by that.
///
/// # Errors
/// The file system can't be read, or the program that changes it fails.
pub fn file_system(device: &Path, cmdline: &Cmdline) -> Result<(), Failure> {
    let found = stack::file_system(device).map_err(|error| device::unreadable(&device.to_string_lossy(), &error))?;
    let plan = identity::file_system(&found, &fresh()?.to_string().to_ascii_lowercase(), cmdline);
    log::info!("{plan}");
    super::carry_out(&plan.steps, execute)
}

fn plan_disk(boot: &Path) -> Result<Plan, Failure> {
    let unreadable = |error: std::io::Error| device::unreadable(&boot.to_string_lossy(), &error);
    let layers = stack::of(&boot.canonicalize().map_err(unreadable)?).map_err(unreadable)?;
    // The one that is nearest to the file system.
    let found = layers.iter().rev().find_map(|layer| match &layer.kind {
        Kind::Partition { disk, .. } => Some(disk.clone()),
        _ => None,
    });
    let Some(node) = found else {
        log::info!("the boot file system {} is on no partition", boot.display());
        return Ok(Plan::default());
    };
    let Some(disk) = block::look(&node).map_err(unreadable)? else { return Ok(Plan::default()) };
    let member = device::at_end(Path::new(&node)).map_err(unreadable)?.map(str::to_owned);
    identity::disk(&Disk { geometry: disk.geometry(), node, holds: disk.holds, member, fresh: fresh()? })
}

/// A GUID that no other machine has.
fn fresh() -> Result<Guid, Failure> {
    let failure = |why: String| {
        Failure::new("making a UUID", why).remedy("reboot; the kernel of this image must have getrandom(2)")
    };
    let mut bytes = [0; 32];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(len) if len == bytes.len() => Ok(Guid::derived(&[&bytes])),
        Ok(_) => Err(failure("the kernel gave too few random bytes".into())),
        Err(error) => Err(failure(error.to_string())),
    }
}

fn execute(step: &Step) -> Result<bool, Failure> {
    match step {
        Step::Table { disk, table, hybrid, .. } => table::write(disk, table, *hybrid, None),
        Step::Uuid { of, uuid } => change(of, uuid).map(|()| true),
    }
}

pub(super) fn change(of: &FileSystem, uuid: &str) -> Result<(), Failure> {
    let node = of.node.as_str();
    let run = |tool, args: &[&str]| {
        cmd::run(tool, &args.iter().map(Arg::from).collect::<Vec<_>>()).map_err(|failure| failure.remedy(SEE_DISK))
    };
    match of.format.as_str() {
        "ext4" => {
            // An image whose metadata have checksums of the old UUID must be checked first.
            if run(cmd::TUNE2FS, &["-U", uuid, node]).is_err() {
                super::check(node)?;
                run(cmd::TUNE2FS, &["-U", uuid, node])?;
            }
        }
        "xfs" => drop(run(cmd::XFS_ADMIN, &["-U", uuid, node])?),
        _ => drop(run(cmd::BTRFSTUNE, &["-f", "-M", uuid, node])?),
    }
    let failure = |why: String| Failure::new(format!("changing the UUID of {node}"), why).remedy(SEE_DISK);
    let now = stack::file_system(Path::new(node)).map_err(|error| failure(error.to_string()))?;
    if now.uuid != uuid {
        return Err(failure(format!("it still is {}", now.uuid)));
    }
    udev::look_again(Path::new(node))
}
