// SPDX-License-Identifier: Apache-2.0
//! What tells this machine's disk from those that the same image was written to.
//!
//! The disk gets a GUID of its own, and the second copy of its partition table moves to the end of the disk, which is larger than the
//! image (Fedora CoreOS: `coreos-gpt-setup`). Its file systems get UUIDs of their own (`ignition-ostree-firstboot-uuid`), but only
//! if they still have those that the assembler of the image gives to all: a UUID that is somebody's choice stays.
//!
//! A power cut between the writes of a table leaves one whole copy, from which the next first boot makes the other anew. In the moment
//! between the first copy's array and its header, that copy is the second one, which Linux looks at only if its command line says `gpt`.
//! `xfs_db` and `btrfstune` change what counts first, in one block. An ext4 whose checksums don't hold its UUID (e2fsprogs 1.47) is as
//! safe; in an older one every checksum is written anew, and what a power cut leaves of that, only `e2fsck` by hand may put right.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{FileSystem, noted};
use crate::cmdline::Cmdline;
use crate::diag::Failure;
use crate::gpt::{Found, Geometry, Guid, LONE, Table};

/// The GUID that the assembler gives to every disk.
const DISK: &str = "00000000-0000-4000-A000-000000000001";
/// The UUIDs that it gives to the boot file system and to the root of every image.
pub const IMAGE: [&str; 2] = ["96d15588-3596-4b3c-adca-a2ff7279ea63", "910678ff-f77e-4a7d-8d53-86f2ac47a823"];

/// What is known about a disk.
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
    /// A GUID that no other disk has.
    pub fresh: Guid,
}

/// One thing to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Write a partition table.
    Table {
        /// The disk.
        disk: String,
        /// The table.
        table: Table,
        /// The partitions in the MBR stay as they are.
        hybrid: bool,
        /// The disk's GUID is a new one.
        renamed: bool,
        /// The second copy moves to the disk's end.
        moved: bool,
        /// What was damaged and is made anew, a clause each.
        repairs: Vec<String>,
    },
    /// Give a file system another UUID.
    Uuid {
        /// The file system as it is.
        of: FileSystem,
        /// Its new UUID.
        uuid: String,
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

impl Plan {
    /// A plan that leaves everything alone.
    fn left_alone(why: String) -> Self {
        Self { steps: Vec::new(), notes: [why].into() }
    }
}

/// Decides about the boot disk's partition table. Disks without a GPT have nothing of the kind.
///
/// # Errors
/// The table can't be relied on, or doesn't fit the disk.
pub fn disk(disk: &Disk) -> Result<Plan, Failure> {
    let what = || format!("preparing the partition table of the boot disk {}", disk.node);
    let remedy = "install the system again, or see what the kernel says about the disk in the journal";
    let gpt = match &disk.holds {
        Found::Nothing | Found::Mbr => {
            return Ok(Plan::left_alone(format!("{} has no GPT: it stays as it is", disk.node)));
        }
        Found::Broken(why) => return Err(Failure::new(what(), why.clone()).remedy(remedy)),
        Found::Gpt(gpt) => gpt,
    };
    let renamed = Guid::parse(DISK) == Some(gpt.table.guid);
    let moved = gpt.backup != disk.geometry.last();
    if !renamed && !moved && gpt.flaws.is_empty() {
        return Ok(Plan::default());
    }
    // Firmware that finds its array's metadata gone may take the disk out of the array. No image has any.
    if let Some(member) = disk.member.as_ref().filter(|_| !renamed) {
        return Ok(Plan::left_alone(format!(
            "{} ends with the metadata of {member}: its partition table stays as it is",
            disk.node
        )));
    }
    if gpt.flaws.iter().any(|flaw| flaw == LONE) {
        // Something else may stand there by now.
        return Err(Failure::new(what(), LONE).remedy(remedy));
    }
    let mut table = gpt.table.clone();
    if renamed {
        table.guid = disk.fresh;
    }
    if moved {
        table.move_backup(disk.geometry);
        table.last = table.backup_array.saturating_sub(1);
    }
    if let Some(problem) = table.problems(disk.geometry).into_iter().next() {
        return Err(Failure::new(what(), problem).remedy(remedy));
    }
    let hybrid = !gpt.hybrid.is_empty();
    Ok(Plan {
        steps: [Step::Table { disk: disk.node.clone(), table, hybrid, renamed, moved, repairs: gpt.flaws.clone() }]
            .into(),
        notes: Vec::new(),
    })
}

/// Decides about a file system. `fresh` is a UUID that no other has. What the command line goes by stays.
pub fn file_system(of: &FileSystem, fresh: &str, cmdline: &Cmdline) -> Plan {
    let known = matches!(of.format.as_str(), "ext4" | "xfs" | "btrfs");
    if !known || !IMAGE.contains(&of.uuid.as_str()) {
        return Plan::default();
    }
    if cmdline.iter().any(|(_, value)| value.is_some_and(|value| value.contains(&of.uuid))) {
        return Plan::left_alone(format!("the command line has the UUID {} of {}, which stays", of.uuid, of.node));
    }
    Plan { steps: [Step::Uuid { of: of.clone(), uuid: fresh.into() }].into(), notes: Vec::new() }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        noted(f, &self.notes, &self.steps)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table { disk, table, renamed, moved, repairs, .. } => {
                write!(f, "write the partition table of {disk}")?;
                if *renamed {
                    write!(f, ", with the GUID {}", table.guid)?;
                }
                f.write_str(if *moved { ", its second copy at the end of the disk" } else { "" })?;
                repairs.iter().try_for_each(|flaw| write!(f, "; {flaw}"))
            }
            Self::Uuid { of, uuid } => write!(f, "change the UUID of the {} on {} to {uuid}", of.format, of.node),
        }
    }
}
