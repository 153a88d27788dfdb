// SPDX-License-Identifier: Apache-2.0
//! The root reaches to the end of its disk: first partitions, then what is made of them from the lowest, then the file system.
//!
//! Only a partition with room behind it grows, up to the next one or to the end of what the table may use (Fedora CoreOS:
//! `ignition-ostree-growfs`). None does where the configuration lays out the root itself, and not one whose size the configuration gives:
//! the next run after a power cut would find it in the wrong size. A multiple of 4096 bytes is taken, which LUKS needs on disks with such
//! physical sectors.
//!
//! Partitions, arrays and file systems are asked what is left to grow, so that a first boot after a power cut goes on in the middle: a
//! partition that has grown stays, and the file system in it still has to. An encrypted volume takes all of its device whenever it
//! is opened; it is grown only when that device grows under it, as this may need a passphrase.
//!
//! What was beyond the end of the old partition may look like another file system to those who ask libblkid. What stands near the end
//! of a device is erased before it becomes part of this one; other such signatures are erased after, the root's own stays.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{FileSystem, Kind, Layer, noted};
use crate::config;
use crate::diag::Failure;
use crate::gpt::{Found, Geometry, Table};
use crate::signature::Read;

/// What is gained has to be worth it, in bytes.
const WORTH: u64 = 1 << 20;
const ALIGNMENT: u64 = 4096;
/// Bytes at the end of a device that hold all signatures that are found from there (ZFS has two labels of 256 KiB).
const TAIL: u64 = 1 << 20;

/// What is known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// The root.
    pub root: FileSystem,
    /// Bytes that the file system takes.
    pub used: u64,
    /// Bytes of its device.
    pub size: u64,
    /// What it is made of, the lowest device first. Its own device is the last one.
    pub stack: Vec<Layer>,
    /// The disks of partitions in the stack.
    pub disks: Vec<Disk>,
    /// The arrays in the stack that can grow.
    pub arrays: Vec<Array>,
    /// The configuration makes the root's file system, or what it is on.
    pub laid_out: bool,
    /// The command line names the root: an operator's own may be one that can't grow.
    pub root_is_named: bool,
}

/// A disk with a partition of the root's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Disk {
    /// Its node.
    pub node: String,
    /// Its size.
    pub geometry: Geometry,
    /// What it holds.
    pub holds: Found,
    /// What the metadata of an array at its end are, if there are any.
    pub member: Option<String>,
    /// What the configuration says of its partitions.
    pub given: Vec<config::Partition>,
}

/// An array of a level and a format that can grow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Array {
    /// Its node.
    pub node: String,
    /// Bytes that each of its devices has beyond what it takes.
    pub room: u64,
}

/// One thing to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Write a partition table in which one partition is longer, and tell the kernel.
    Partition {
        /// The disk.
        disk: String,
        /// The partition's number.
        number: u32,
        /// The table.
        table: Table,
        /// The partitions in the MBR stay as they are.
        hybrid: bool,
        /// How many bytes it gains.
        gain: u64,
        /// The last of these, which are erased before: the first byte on the disk, and how many.
        tail: (u64, u64),
    },
    /// Have an array take all of its devices.
    Raid {
        /// Its node.
        node: String,
    },
    /// Have an open encrypted volume take all of its device.
    Luks {
        /// The name under which it is open.
        name: String,
        /// The device below.
        device: String,
    },
    /// Erase the signatures of all other formats.
    Wipe {
        /// The device.
        node: String,
        /// The format that stays.
        format: String,
    },
    /// Have the file system take all of its device.
    FileSystem {
        /// Which.
        of: FileSystem,
    },
}

/// Steps in their order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// What is left alone, and why.
    pub notes: Vec<String>,
}

/// Decides what grows.
///
/// # Errors
/// The file system or a device below it is of a kind that can't grow, and nobody named it; or a partition table can't be relied on.
pub fn plan(facts: &Facts) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    if let Some(why) = obstacle(facts) {
        if !facts.root_is_named {
            return Err(Failure::new("growing the root to its disk", why).remedy("have the configuration lay out the root as it is to be, or install an image whose root is ext4, xfs or btrfs on partitions, RAID or LUKS"));
        }
        plan.notes.push(format!("{why}; the command line names it: it stays as large as it is"));
        return Ok(plan);
    }
    let mut grows = false;
    let mut below = None;
    for (index, layer) in facts.stack.iter().enumerate() {
        let node = layer.node.clone();
        match &layer.kind {
            Kind::Partition { disk, number } if !facts.laid_out => {
                let Some(disk) = facts.disks.iter().find(|found| found.node == *disk) else { continue };
                let above = facts.stack.get(index..).unwrap_or_default();
                match above
                    .iter()
                    .find(|layer| matches!(layer.kind, Kind::Raid { .. }) && array(facts, layer).is_none())
                {
                    Some(array) => plan.notes.push(format!("the array {} can't grow: {node} stays", array.node)),
                    None => partition(disk, *number, &mut plan)?,
                }
                grows |= !plan.steps.is_empty();
            }
            Kind::Raid { .. } if !facts.laid_out => {
                grows = array(facts, layer).is_some_and(|array| grows || array.room >= WORTH);
                if grows {
                    plan.steps.push(Step::Raid { node });
                }
            }
            Kind::Luks { name, .. } if grows => {
                plan.steps.push(Step::Luks { name: name.clone(), device: below.take().unwrap_or_default() });
            }
            _ => {}
        }
        if layer.kind != Kind::Integrity {
            below = Some(layer.node.clone());
        }
    }
    if !plan.steps.is_empty() || facts.size.saturating_sub(facts.used) >= WORTH {
        plan.steps.push(Step::Wipe { node: facts.root.node.clone(), format: facts.root.format.clone() });
        plan.steps.push(Step::FileSystem { of: facts.root.clone() });
    }
    Ok(plan)
}

/// Why the root can't grow.
fn obstacle(facts: &Facts) -> Option<String> {
    let FileSystem { node, format, .. } = &facts.root;
    if !matches!(format.as_str(), "ext4" | "xfs" | "btrfs") {
        return Some(format!("nothing is known about growing {format:?} on {node}"));
    }
    facts.stack.iter().find_map(|layer| match &layer.kind {
        Kind::Other(what) => Some(format!("the root is on {}, which is {what}", layer.node)),
        _ => None,
    })
}

fn array<'f>(facts: &'f Facts, layer: &Layer) -> Option<&'f Array> {
    facts.arrays.iter().find(|array| array.node == layer.node)
}

/// Adds the step that lengthens a partition, if there is room behind it.
fn partition(disk: &Disk, number: u32, plan: &mut Plan) -> Result<(), Failure> {
    let what = || format!("growing partition {number} of {}", disk.node);
    let mut stays = |why: &str| {
        plan.notes.push(format!("{why}: partition {number} of {} stays", disk.node));
        Ok(())
    };
    let gpt = match &disk.holds {
        Found::Gpt(gpt) => gpt,
        Found::Broken(why) => {
            return Err(Failure::new(what(), why.clone())
                .remedy("install the system again, or see what the kernel says about the disk in the journal"));
        }
        Found::Nothing | Found::Mbr => return stays("no GPT"),
    };
    let label = gpt.table.partition(number).map(|partition| partition.label.as_str());
    let same = |given: &config::Partition| match given.number {
        0 => given.label.as_deref() == label,
        other => i64::from(number) == other,
    };
    if disk.given.iter().any(|given| same(given) && given.size_mib.is_some_and(|size| size > 0)) {
        return stays("the configuration gives its size");
    }
    if let Some(member) = disk.member.as_ref().filter(|_| gpt.backup != disk.geometry.last()) {
        return stays(&format!("the disk ends with the metadata of {member}"));
    }
    let geometry = disk.geometry;
    let mut table = gpt.table.clone();
    if gpt.backup != geometry.last() {
        table.move_backup(geometry);
        table.last = table.backup_array.saturating_sub(1);
    }
    let last = table.last;
    let starts: Vec<_> = table.partitions.iter().map(|other| other.start).collect();
    let Some(grown) = table.partitions.iter_mut().find(|partition| partition.number == number) else {
        return Ok(());
    };
    let (start, old) = (grown.start, grown.size());
    let limit = starts.into_iter().filter(|other| *other > start).map(|next| next - 1).min().unwrap_or(last).min(last);
    let unit = (ALIGNMENT / u64::from(geometry.sector.max(1))).max(1);
    let size = limit.saturating_sub(start).saturating_add(1) / unit * unit;
    let gain = size.saturating_sub(old).saturating_mul(u64::from(geometry.sector));
    if gain < WORTH {
        return Ok(());
    }
    grown.end = start + size - 1;
    let end = start.saturating_add(size).saturating_mul(u64::from(geometry.sector));
    let tail = (end.saturating_sub(gain.min(TAIL)), gain.min(TAIL));
    if let Some(problem) = table.problems(geometry).into_iter().next() {
        return Err(Failure::new(what(), problem).remedy("install the system again"));
    }
    let hybrid = !gpt.hybrid.is_empty();
    plan.steps.push(Step::Partition { disk: disk.node.clone(), number, table, hybrid, gain, tail });
    Ok(())
}

/// How many bytes a file system takes of its device, by its superblock: kernel `fs/ext4/ext4.h`, `fs/xfs/libxfs/xfs_format.h`,
/// `include/uapi/linux/btrfs_tree.h`. None for other formats.
pub fn extent(format: &str, read: Read<'_>) -> Option<u64> {
    let number = |bytes: &[u8], at: usize, len: usize| {
        let field = bytes.get(at..at + len)?;
        Some(field.iter().rev().fold(0_u64, |all, byte| all << 8 | u64::from(*byte)))
    };
    match format {
        "ext4" => {
            const WIDE: u64 = 0x80;
            let block = read(1024, 0x154)?;
            let wide = number(&block, 0x60, 4)? & WIDE != 0;
            let high = if wide { number(&block, 0x150, 4)? } else { 0 };
            let size = 1024_u64.checked_shl(u32::try_from(number(&block, 24, 4)?).ok()?)?;
            (high << 32 | number(&block, 4, 4)?).checked_mul(size)
        }
        "xfs" => {
            let block = read(0, 16)?;
            let mut big = block.clone();
            big.reverse();
            number(&big, 0, 8)?.checked_mul(number(&big, 8, 4)?)
        }
        "btrfs" => {
            // Of its first device.
            let block = read(0x1_0000, 0x1000)?;
            number(&block, 0xc9 + 8, 8)
        }
        _ => None,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        noted(f, &self.notes, &self.steps)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition { disk, number, gain, .. } => {
                write!(f, "grow partition {number} of {disk} by {} MiB", gain >> 20)
            }
            Self::Raid { node } => write!(f, "grow the array {node} to its devices"),
            Self::Luks { name, device } => write!(f, "grow the encrypted volume {name:?} to its device {device}"),
            Self::Wipe { node, format } => write!(f, "erase signatures of other formats than {format} from {node}"),
            Self::FileSystem { of } => write!(f, "grow the {} on {} to its device", of.format, of.node),
        }
    }
}
