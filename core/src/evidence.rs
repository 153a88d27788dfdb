// SPDX-License-Identifier: Apache-2.0
//! Which disk this machine boots from, by evidence: the file systems that a first boot goes by are there once, and on one disk.
//!
//! A first boot finds its boot file system by a label, and mostly its root, too. A second disk with the same labels (an old one of the same
//! system, a copy) would make it a matter of luck which of them is written to, so that stops the boot. A UUID is no evidence that two
//! are one: a copied disk has the same. Several paths to one disk are one: device-mapper's multipath holds them, or they have the same
//! world-wide name (kernel: `Documentation/ABI/testing/sysfs-block-device`, `wwid`).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::cmdline::Cmdline;
use crate::diag::Failure;
use crate::facts::Signature;

/// Label of the boot file system.
pub const BOOT: &str = "boot";
/// Says that boot and root may be on different disks.
pub const APART: &str = "fledge.boot.apart";

const WHAT: &str = "finding the boot disk";
const MEMBER: &str = "linux_raid_member";

/// A block device as sysfs and its own first bytes have it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Device {
    /// Its node: `/dev/vda3`.
    pub node: String,
    /// The node of the disk that it is a partition of.
    pub disk: Option<String>,
    /// The number of the partition.
    pub number: Option<u32>,
    /// Whether device-mapper made it of several paths to one disk.
    pub multipath: bool,
    /// The devices that it is made of.
    pub slaves: Vec<String>,
    /// The devices that are made of it.
    pub holders: Vec<String>,
    /// What tells its disk from all others: a world-wide name, or the serial number of a controller that can have no other of the same.
    /// Empty if it has none.
    pub identity: String,
    /// What it holds. A RAID member is one, whatever else can be read on it.
    pub holds: Option<Signature>,
}

/// How a file system is found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum By {
    /// By its label.
    Label(String),
    /// By its UUID.
    Uuid(String),
}

impl By {
    fn is(&self, found: &Signature) -> bool {
        match self {
            Self::Label(label) => found.label == *label,
            Self::Uuid(uuid) => found.uuid.eq_ignore_ascii_case(uuid),
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(label) => write!(f, "the label \"{label}\""),
            Self::Uuid(uuid) => write!(f, "the UUID {uuid}"),
        }
    }
}

/// How the root is found, if it is by what the file system says of itself.
pub fn root(cmdline: &Cmdline) -> Option<By> {
    let said = cmdline.value("root").unwrap_or_default();
    if said.is_empty() {
        return Some(By::Label("root".into()));
    }
    let label = said.strip_prefix("LABEL=").or_else(|| said.strip_prefix("/dev/disk/by-label/"));
    let uuid = said.strip_prefix("UUID=").or_else(|| said.strip_prefix("/dev/disk/by-uuid/"));
    label.map(|label| By::Label(label.into())).or_else(|| uuid.map(|uuid| By::Uuid(uuid.into())))
}

/// A file system that was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// `boot` or `root`.
    pub name: &'static str,
    /// Its devices: several if there are several paths to it.
    pub nodes: Vec<String>,
    /// What it is.
    pub holds: Signature,
    /// The disks that it is on. Several paths to one disk stand here as the first of them.
    pub disks: Vec<String>,
}

/// What was found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Evidence {
    /// Boot, and root if it could be told.
    pub found: Vec<Found>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Signature { format, label, uuid } = &self.holds;
        let (node, others) = self.nodes.split_first().map_or(("", &[][..]), |(node, others)| (node, others));
        write!(f, "{node} on {} ({format}, label \"{label}\", UUID {uuid})", self.disks.join(" and "))?;
        if others.is_empty() { Ok(()) } else { write!(f, ", also seen as {}", others.join(", ")) }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.found.iter().try_for_each(|found| writeln!(f, "{}: {found}", found.name))
    }
}

/// Before the disks stage: the boot file system is there once, the root, if it is found by what it says of itself, at most once, and
/// they have a disk in common.
///
/// # Errors
/// Anything else, with all that was found.
pub fn before_disks(cmdline: &Cmdline, devices: &[Device]) -> Result<Evidence, Failure> {
    let mut evidence = after_disks(devices)?;
    let Some(by) = root(cmdline) else { return Ok(evidence) };
    evidence.found.extend(unique("root", &by, devices)?);
    if let [boot, root] = evidence.found.as_slice() {
        let apart = !boot.disks.iter().any(|disk| root.disks.contains(disk));
        if apart && !cmdline.flag(APART) {
            let why = format!("boot and root are on different disks: boot is {boot}; root is {root}");
            return Err(Failure::new(WHAT, why).remedy(format!(
                "detach the disk that isn't this system's; if they do belong together, add {APART} to the kernel command line"
            )));
        }
    }
    Ok(evidence)
}

/// After the disks stage, which may have made another: the boot file system is there once.
///
/// # Errors
/// It isn't there, or more than once.
pub fn after_disks(devices: &[Device]) -> Result<Evidence, Failure> {
    let by = By::Label(BOOT.into());
    let found = unique("boot", &by, devices)?.ok_or_else(|| missing(&by, devices))?;
    Ok(Evidence { found: [found].into() })
}

fn missing(by: &By, devices: &[Device]) -> Failure {
    let why = format!("no file system has {by}");
    let members: Vec<_> = devices
        .iter()
        .filter(|device| device.holders.is_empty() && format(device) == MEMBER)
        .map(|device| device.node.as_str())
        .collect();
    if members.is_empty() {
        return Failure::new(WHAT, why)
            .remedy("check that the disk is attached, and that the initramfs has its driver");
    }
    Failure::new(WHAT, format!("{why}, but these are members of RAID arrays that don't run: {}", members.join(", ")))
        .remedy("see in the journal why the array was not started; a member may be missing")
}

fn format(device: &Device) -> &str {
    device.holds.as_ref().map_or("", |holds| holds.format.as_str())
}

fn unique(name: &'static str, by: &By, devices: &[Device]) -> Result<Option<Found>, Failure> {
    let mut all: Vec<Found> = Vec::new();
    let mut identities: Vec<(&str, Option<u32>)> = Vec::new();
    for device in devices {
        let Some(holds) = device.holds.as_ref().filter(|holds| holds.format != MEMBER && by.is(holds)) else {
            continue;
        };
        if is_below(device, devices) {
            continue;
        }
        let identity = (device.identity.as_str(), device.number);
        let same = identities
            .iter()
            .zip(&mut all)
            .find(|(other, found)| !device.identity.is_empty() && **other == identity && found.holds == *holds);
        if let Some((_, found)) = same {
            found.nodes.push(device.node.clone());
            continue;
        }
        identities.push(identity);
        let disks = disks_of(device, devices);
        all.push(Found { name, nodes: [device.node.clone()].into(), holds: holds.clone(), disks });
    }
    if all.len() < 2 {
        return Ok(all.pop());
    }
    let list: Vec<_> = all.iter().map(|found| format!("{found}")).collect();
    let why = format!("{} file systems have {by}: {}", all.len(), list.join("; "));
    Err(Failure::new(WHAT, why).remedy(
        "detach the disk that isn't this system's, or erase it, or give its file systems other labels and UUIDs; nothing was changed on them by this boot",
    ))
}

/// Whether what stands on a device is to be had through another one that is made of it or of its disk.
fn is_below(device: &Device, devices: &[Device]) -> bool {
    let disk = device.disk.as_ref().and_then(|disk| by_node(disk, devices));
    !device.holders.is_empty() || disk.is_some_and(|disk| !disk.holders.is_empty())
}

fn by_node<'d>(node: &str, devices: &'d [Device]) -> Option<&'d Device> {
    devices.iter().find(|device| device.node == node)
}

/// The disks below a device, each by the first of its paths.
fn disks_of(device: &Device, devices: &[Device]) -> Vec<String> {
    let mut disks = Vec::new();
    // What is made of what has no circles; the limit is for facts that are wrong.
    let mut next = Vec::from([device]);
    for _ in 0..64 {
        let Some(device) = next.pop() else { break };
        let below: Vec<_> = if let Some(disk) = &device.disk {
            by_node(disk, devices).into_iter().collect()
        } else if device.multipath {
            Vec::new()
        } else {
            device.slaves.iter().filter_map(|slave| by_node(slave, devices)).collect()
        };
        if below.is_empty() {
            let disk = device.disk.clone().unwrap_or_else(|| first_path(device, devices));
            if !disks.contains(&disk) {
                disks.push(disk);
            }
        }
        next.extend(below);
    }
    disks.sort();
    disks
}

fn first_path(disk: &Device, devices: &[Device]) -> String {
    let same = |other: &&Device| !disk.identity.is_empty() && other.disk.is_none() && other.identity == disk.identity;
    devices.iter().filter(|other| !other.multipath).find(same).filter(|_| !disk.multipath).unwrap_or(disk).node.clone()
}

#[cfg(test)]
mod tests;
