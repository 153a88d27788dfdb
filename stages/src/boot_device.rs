// SPDX-License-Identifier: Apache-2.0
//! Looks at all block devices for [`fledge_core::evidence`], and tells udev whether a disk is the boot disk.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::evidence::{self, BOOT, Device, Evidence};
use fledge_core::facts::Signature;
use fledge_core::gpt::Found;
use fledge_core::signature;

use crate::host::device::usage::{linked, text};
use crate::host::{block, cmd, device};

/// When the evidence is gathered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// Before anything is written to a disk.
    BeforeDisks,
    /// When the disks are as the config wants them.
    AfterDisks,
}

/// Where the kernel shows devices: on a boot, `/sys` and `/dev`.
#[derive(Clone, Debug)]
pub struct Places {
    /// sysfs.
    pub sys: PathBuf,
    /// The nodes.
    pub dev: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { sys: "/sys".into(), dev: "/dev".into() }
    }
}

/// Gathers the evidence once udev has seen all devices, and tells it.
///
/// # Errors
/// It is no evidence; see [`evidence::before_disks`]. Or sysfs can't be read.
pub fn verify(cmdline: &Cmdline, moment: Moment, places: &Places) -> Result<Evidence, Failure> {
    // Devices that come later are none that this boot could have meant: udev has been asked for the boot disk by now.
    if let Err(failure) = cmd::output(cmd::UDEVADM, &["settle".into(), "--timeout=30".into()]) {
        log::warn!("{failure}");
    }
    judge(cmdline, moment, places)
}

fn judge(cmdline: &Cmdline, moment: Moment, places: &Places) -> Result<Evidence, Failure> {
    let devices =
        observe(places).map_err(|error| Failure::new("looking for the boot disk in sysfs", error.to_string()))?;
    let evidence = match moment {
        Moment::BeforeDisks => evidence::before_disks(cmdline, &devices),
        Moment::AfterDisks => evidence::after_disks(&devices),
    }?;
    for found in &evidence.found {
        log::info!("{}: {found}", found.name);
        if found.nodes.len() > 1 {
            log::warn!("there are several paths to {}, and no multipath: add rd.multipath=default", found.name);
        }
    }
    Ok(evidence)
}

fn observe(places: &Places) -> io::Result<Vec<Device>> {
    let mut devices = Vec::new();
    for entry in fs::read_dir(places.sys.join("class/block"))? {
        // What goes away meanwhile isn't there.
        let Ok(folder) = entry?.path().canonicalize() else { continue };
        if !matches!(text(&folder.join("size")).as_str(), "" | "0") {
            devices.push(look(&folder, places));
        }
    }
    devices.sort_by(|one, other| one.node.cmp(&other.node));
    Ok(devices)
}

fn look(folder: &Path, places: &Places) -> Device {
    let number = text(&folder.join("partition")).parse().ok();
    let disk = folder.parent().filter(|_| number.is_some());
    let node = |folder: &Path| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().replace('!', "/");
        places.dev.join(name)
    };
    let holders = linked(folder, "holders");
    let is_held = !holders.is_empty() || disk.is_some_and(|disk| !linked(disk, "holders").is_empty());
    // A passive path answers no reads, and what is held is read through its holder.
    let holds = if is_held { None } else { read(&node(folder)) };
    Device {
        node: node(folder).display().to_string(),
        disk: disk.map(|disk| node(disk).display().to_string()),
        number,
        multipath: is_multipath(folder),
        slaves: in_dev(linked(folder, "slaves"), places),
        holders: in_dev(holders, places),
        identity: identity(disk.unwrap_or(folder)),
        holds,
    }
}

fn in_dev(nodes: Vec<String>, places: &Places) -> Vec<String> {
    let own = |node: String| places.dev.join(node.trim_start_matches("/dev/")).display().to_string();
    nodes.into_iter().map(own).collect()
}

fn is_multipath(folder: &Path) -> bool {
    text(&folder.join("dm/uuid")).starts_with("mpath-")
}

/// Not the serial number of virtio-blk: whoever runs the virtual machine writes it, and may give two disks the same.
fn identity(disk: &Path) -> String {
    let names = ["wwid", "device/wwid", "dm/uuid", "device/serial"];
    names.iter().map(|name| text(&disk.join(name))).find(|found| !found.is_empty()).unwrap_or_default()
}

fn read(node: &Path) -> Option<Signature> {
    match device::signatures(node) {
        Ok(found) => which(found),
        // It can't be booted from either.
        Err(error) => {
            log::warn!("{} can't be read, and isn't taken for the boot disk: {error}", node.display());
            None
        }
    }
}

/// A RAID member is one, whatever file system is there to be read on it as well.
fn which(mut found: Vec<Signature>) -> Option<Signature> {
    let member = found.iter().position(|found| found.format == "linux_raid_member").unwrap_or(0);
    (member < found.len()).then(|| found.swap_remove(member))
}

/// Whether a disk, by its name in sysfs, has the boot file system in a partition of its GPT; for a rule of udev. It reads the disk itself: when udev comes to
/// a disk, its partitions are still to come, and those of device-mapper are made later still.
///
/// # Errors
/// It isn't there, or can't be read.
pub fn contains_boot(name: &str, places: &Places) -> io::Result<bool> {
    let folder = places.sys.join("class/block").join(name).canonicalize()?;
    // A path to a disk, or a member of a controller's array; a disk of multipath has its partitions for holders.
    if !is_multipath(&folder) && !linked(&folder, "holders").is_empty() {
        return Ok(false);
    }
    let file = File::open(places.dev.join(name.replace('!', "/")))?;
    let geometry = block::geometry(&file)?;
    let sector = u64::from(geometry.sector);
    let Found::Gpt(gpt) = block::holds(&file, geometry)? else { return Ok(false) };
    for part in &gpt.table.partitions {
        let [start, size] = [part.start, part.size()].map(|sectors| sectors.saturating_mul(sector));
        let found = device::reading(&file, |read| {
            signature::identify(size, &mut |offset, length| {
                let inside = offset.checked_add(u64::try_from(length).ok()?).is_some_and(|end| end <= size);
                if inside { read(start.checked_add(offset)?, length) } else { None }
            })
        })?;
        if which(found).is_some_and(|found| found.label == BOOT && found.format != "linux_raid_member") {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
