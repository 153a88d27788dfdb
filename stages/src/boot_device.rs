// SPDX-License-Identifier: Apache-2.0
//! Looks at all block devices for [`fledge_core::evidence`], and tells udev whether a disk is the boot disk.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
pub use fledge_core::evidence::Moment;
use fledge_core::evidence::{self, BOOT, Device, Evidence};
use fledge_core::facts::Signature;
use fledge_core::gpt::Found;
use fledge_core::signature;

use crate::host::device::usage::{linked, serials, text};
use crate::host::{block, cmd, device};

/// The names of the boot disk that the udev rule gives.
const LINKS: [&str; 2] = ["disk/by-id/nestos-boot-disk", "disk/by-id/coreos-boot-disk"];

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
/// It is no evidence; see [`evidence::judge`]. Or sysfs can't be read.
pub fn verify(cmdline: &Cmdline, moment: Moment, places: &Places) -> Result<Evidence, Failure> {
    // Devices that come later are none that this boot could have meant: udev has been asked for the boot disk by now.
    let settled = cmd::run(cmd::UDEVADM, &["settle".into(), "--timeout=30".into()]);
    let unsettled = settled.err().map(|failure| format!("udev may not have come to all devices: {}", failure.why));
    judge(cmdline, moment, places, unsettled)
}

fn judge(cmdline: &Cmdline, moment: Moment, places: &Places, unsettled: Option<String>) -> Result<Evidence, Failure> {
    let devices =
        observe(places).map_err(|error| Failure::new("looking for the boot disk in sysfs", error.to_string()))?;
    let mut evidence = evidence::judge(moment, cmdline, &devices).map_err(|mut failure| {
        if let Some(unsettled) = &unsettled {
            failure.why = format!("{}; {unsettled}", failure.why);
        }
        failure
    })?;
    evidence.remarks.extend(unsettled);
    for remark in &evidence.remarks {
        log::warn!("{remark}");
    }
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
        let empty = matches!(text(&folder.join("size")).as_str(), "" | "0");
        if !empty && is_a_disks(&folder) {
            devices.push(look(&folder, places));
        }
    }
    devices.sort_by(|one, other| one.node.cmp(&other.node));
    Ok(devices)
}

/// Whether it is, or stands on, what a machine can boot from; the udev rule leaves out the same ones. The kernel hides a path that
/// it uses itself (`NVMe`).
fn is_a_disks(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let others = ["loop", "ram", "zram", "sr", "fd"];
    text(&folder.join("hidden")) != "1" && !others.iter().any(|other| is_numbered(&name, other))
}

/// Whether a name is that of a kind with a number, or a partition's of such a disk.
fn is_numbered(name: &str, kind: &str) -> bool {
    name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
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
    let read = if is_held { Ok(Vec::new()) } else { device::signatures(&node(folder)) };
    let unread = read.as_ref().err().map(ToString::to_string).unwrap_or_default();
    Device {
        node: node(folder).display().to_string(),
        disk: disk.map(|disk| node(disk).display().to_string()),
        number,
        multipath: is_multipath(folder),
        slaves: in_dev(linked(folder, "slaves"), places),
        holders: in_dev(holders, places),
        identity: identity(disk.unwrap_or(folder)),
        holds: read.ok().and_then(which),
        unread,
    }
}

fn in_dev(nodes: Vec<String>, places: &Places) -> Vec<String> {
    let own = |node: String| places.dev.join(node.trim_start_matches("/dev/")).display().to_string();
    nodes.into_iter().map(own).collect()
}

fn is_multipath(folder: &Path) -> bool {
    text(&folder.join("dm/uuid")).starts_with("mpath-")
}

/// The world-wide name. Not a serial number: whoever runs a virtual machine writes it, and may give two disks the same. `t10.` names, too,
/// have a serial number for what tells one from another.
fn identity(disk: &Path) -> String {
    let world_wide = |name: &String| ["naa.", "eui.", "nvme.", "uuid."].iter().any(|kind| name.starts_with(kind));
    serials(disk).into_iter().find(world_wide).unwrap_or_default()
}

/// A RAID member is one, whatever file system is there to be read on it as well.
fn which(mut found: Vec<Signature>) -> Option<Signature> {
    let member = found.iter().position(|found| found.format == "linux_raid_member").unwrap_or(0);
    (member < found.len()).then(|| found.swap_remove(member))
}

/// Removes the names that the rule gave the boot disk: they are the initramfs's alone.
///
/// # Errors
/// One is there and can't be removed.
pub fn forget_links(places: &Places) -> Result<(), Failure> {
    for link in LINKS.map(|link| places.dev.join(link)) {
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::new(format!("removing {}", link.display()), error.to_string()));
            }
            _ => {}
        }
    }
    Ok(())
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
