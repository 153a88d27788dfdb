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

/// When the evidence is gathered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// Before anything is written to a disk.
    BeforeDisks,
    /// When the disks are as the config wants them.
    AfterDisks,
}

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
    /// The world-wide name of its disk. Empty if it has none.
    pub identity: String,
    /// What it holds. A RAID member is one, whatever else can be read on it.
    pub holds: Option<Signature>,
    /// Why it couldn't be read; empty if it could, or needed not.
    pub unread: String,
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
    /// What weakens it, in words.
    pub remarks: Vec<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Signature { format, label, uuid } = &self.holds;
        let (node, others) = self.nodes.split_first().map_or(("", &[][..]), |(node, others)| (node, others));
        write!(f, "{node} on {} ({format}, label \"{label}\", UUID {uuid})", self.disks.join(" and "))?;
        if others.is_empty() { Ok(()) } else { write!(f, ", also seen as {}", others.join(", ")) }
    }
}

/// Before the disks stage, the boot file system is there once, the root, if it is found by what it says of itself, at most once, and
/// they have a disk in common. After it, which may have made another, the boot file system is there once.
///
/// # Errors
/// Anything else, with all that was found, and with what couldn't be read.
pub fn judge(moment: Moment, cmdline: &Cmdline, devices: &[Device]) -> Result<Evidence, Failure> {
    let remarks: Vec<_> = unread(devices).into_iter().collect();
    match gather(moment, cmdline, devices) {
        Ok(found) => Ok(Evidence { found, remarks }),
        Err(mut failure) => {
            for remark in remarks {
                failure.why = format!("{}; {remark}", failure.why);
            }
            Err(failure)
        }
    }
}

fn unread(devices: &[Device]) -> Option<String> {
    let unread = devices.iter().filter(|device| !device.unread.is_empty());
    let list: Vec<_> = unread.map(|device| format!("{} ({})", device.node, device.unread)).collect();
    (!list.is_empty())
        .then(|| format!("what these devices hold isn't known, because they can't be read: {}", list.join(", ")))
}

fn gather(moment: Moment, cmdline: &Cmdline, devices: &[Device]) -> Result<Vec<Found>, Failure> {
    let by = By::Label(BOOT.into());
    let boot = unique("boot", &by, moment, devices)?.ok_or_else(|| missing(&by, moment, devices))?;
    let root = match moment {
        Moment::BeforeDisks => root(cmdline).map(|by| unique("root", &by, moment, devices)).transpose()?.flatten(),
        Moment::AfterDisks => None,
    };
    let Some(root) = root else { return Ok([boot].into()) };
    let apart = !boot.disks.iter().any(|disk| root.disks.contains(disk));
    if apart && !cmdline.flag(APART) {
        let why = format!("boot and root are on different disks: boot is {boot}; root is {root}");
        return Err(Failure::new(WHAT, why).remedy(format!(
            "detach the disk that isn't this system's; if they do belong together, add {APART} to the kernel command line"
        )));
    }
    Ok([boot, root].into())
}

fn missing(by: &By, moment: Moment, devices: &[Device]) -> Failure {
    let why = format!("no file system has {by}");
    // An array's name has that of its machine before it.
    let is_meant = |holds: &Signature| match by {
        By::Label(label) => holds.label.rsplit(':').next().is_some_and(|name| name.contains(label.as_str())),
        By::Uuid(_) => false,
    };
    let members: Vec<_> = devices
        .iter()
        .filter(|device| device.holders.is_empty())
        .filter(|device| device.holds.as_ref().is_some_and(|holds| holds.format == MEMBER && is_meant(holds)))
        .map(|device| device.node.as_str())
        .collect();
    if !members.is_empty() {
        let why =
            format!("{why}, but these are members of RAID arrays of that name that don't run: {}", members.join(", "));
        return Failure::new(WHAT, why)
            .remedy("see in the journal why the array was not started; a member may be missing");
    }
    Failure::new(WHAT, why).remedy(match moment {
        Moment::BeforeDisks => "check that the disk is attached, and that the initramfs has its driver",
        Moment::AfterDisks => "the configuration may have replaced it: give the new one that label",
    })
}

fn unique(name: &'static str, by: &By, moment: Moment, devices: &[Device]) -> Result<Option<Found>, Failure> {
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
    Err(Failure::new(WHAT, why).remedy(match moment {
        Moment::BeforeDisks => {
            "detach the disk that isn't this system's, or erase it, or give its file systems other labels and UUIDs; nothing was changed on them by this boot"
        }
        Moment::AfterDisks => {
            "the configuration may have made one of them: give it another label there; otherwise, the disk was attached while the machine booted: detach it"
        }
    }))
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
