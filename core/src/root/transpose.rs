// SPDX-License-Identifier: Apache-2.0
//! A configuration may make the root anew, on other devices or as something else, and the boot file system, the EFI system partition,
//! GRUB's BIOS boot partition and the one of PowerPC firmware (`PReP`). What they hold is the operating system itself, so it is kept in memory
//! while the disks stage works, and written back (Fedora CoreOS: `ignition-ostree-transposefs`).
//!
//! Which parts these are is told as Fedora CoreOS tells it: file systems with the label `root` or `boot` that are wiped, and partitions of
//! the types of the other three. What is kept in memory is gone when the power is: so whatever can be refused is refused before anything
//! is written, what makes the machine start is written back last, and a note tells a next boot what happened
//! ([`NOTE`] on a boot file system that stays, [`HALF`] in a file system that is being filled).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::cmdline::Cmdline;
use crate::config::Config;
use crate::diag::{Failure, Place};
use crate::evidence::{self, By};
use crate::gpt::{Guid, Partition};
use crate::origin::Sources;
use crate::plan::partitions;
use crate::signature::Read;

mod fate;
mod step;
#[cfg(test)]
mod tests;
mod wanted;

pub use step::{Plan, Step};
pub use wanted::{Wanted, devices, touches_disks, wanted};

/// The note on the boot file system that the root is in memory alone. It names the UUID that the root has on the disk until then.
pub const NOTE: &str = "/fledge/root-in-memory";
/// The mark in a file system that isn't whole yet.
pub const HALF: &str = ".fledge-not-whole";

const WHAT: &str = "replacing the root and what boots it";
const MIB: u64 = 1 << 20;
/// Compressed memory holds no more than so many times its size of a system's files.
const RATIO: u64 = 3;

/// A part of the installed system.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The root file system.
    Root,
    /// The boot file system.
    Boot,
    /// The EFI system partition.
    Esp,
    /// The partition of `PowerPC` firmware.
    Prep,
    /// GRUB's partition for the BIOS, with the boot code in the disk's first sector.
    Bios,
}

impl Part {
    /// All, in the order in which they are written back: what makes the machine start comes last.
    pub const ALL: [Self; 5] = [Self::Root, Self::Boot, Self::Esp, Self::Prep, Self::Bios];

    /// The label of its file system, if it goes by that.
    pub const fn label(self) -> Option<&'static str> {
        match self {
            Self::Root => Some("root"),
            Self::Boot => Some("boot"),
            _ => None,
        }
    }

    /// The type of its partition, if it goes by that (UEFI specification 2.10, section 5.3.3; GRUB's manual; Power Architecture Platform
    /// Reference).
    pub fn kind(self) -> Option<Guid> {
        Guid::parse(match self {
            Self::Esp => "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
            Self::Bios => "21686148-6449-6E6F-744E-656564454649",
            Self::Prep => "9E1A2D38-C612-4316-AA26-8B49521E5A8B",
            Self::Root | Self::Boot => return None,
        })
    }

    /// Whether it is kept as files, or else as the bytes of its device.
    pub const fn has_files(self) -> bool {
        matches!(self, Self::Root | Self::Boot | Self::Esp)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Boot => "boot file system",
            Self::Esp => "EFI system partition",
            Self::Prep => "PReP partition",
            Self::Bios => "BIOS boot partition",
        })
    }
}

/// A part as it is before the disks stage.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Old {
    /// The node of its device.
    pub node: String,
    /// Format of its file system, as `blkid` has it.
    pub format: String,
    /// UUID of its file system.
    pub uuid: String,
    /// Bytes that are to be kept.
    pub bytes: u64,
    /// The disk that it is a partition of.
    pub disk: Option<String>,
    /// The partition's first sector.
    pub start: u64,
    /// The partition's sectors.
    pub sectors: u64,
}

/// What is known.
#[derive(Clone, Debug, Default)]
pub struct Facts<'f> {
    /// The parts as they are.
    pub old: Vec<(Part, Old)>,
    /// The partition tables that the disks stage will make.
    pub tables: Vec<&'f partitions::Step>,
    /// The nodes that the names of devices in the configuration lead to now.
    pub nodes: Vec<(String, String)>,
    /// The machine's memory, and what of it can be had, in bytes.
    pub memory: (u64, u64),
    /// What the boot file system's note says, if it is there.
    pub note: Option<String>,
}

impl Facts<'_> {
    /// A part as it is.
    pub fn part(&self, part: Part) -> Option<&Old> {
        self.old.iter().find(|(other, _)| *other == part).map(|(_, old)| old)
    }
}

fn at(failure: Failure, place: Option<Place>) -> Failure {
    match place {
        Some(place) => failure.at(place),
        None => failure,
    }
}

/// Decides what is kept and written back.
///
/// # Errors
/// A part that is to be kept isn't there; one would be destroyed and not made anew, or be there twice; what is kept fits neither into
/// memory nor into what is made for it; later parts of the boot wouldn't find it.
pub fn plan(config: &Config, sources: &Sources, cmdline: &Cmdline, facts: &Facts<'_>) -> Result<Plan, Failure> {
    let wanted = wanted(config, sources)?;
    let judge = fate::Judge { config, sources, facts };
    judge.all(&wanted)?;
    let mut plan = Plan::default();
    let mut bytes = 0_u64;
    for one in &wanted {
        let Some(old) = facts.part(one.part) else {
            if one.part.label().is_some() {
                return Err(at(absent(one.part, facts), one.place.clone()));
            }
            // Nothing of this system starts by it: there is nothing to keep.
            continue;
        };
        let kept = kept_uuid(one, old, cmdline).map_err(|failure| at(failure, one.place.clone()))?;
        for device in &one.devices {
            judge.fits(one, old, device)?;
            let start = (one.part == Part::Bios).then_some(old.start);
            let uuid = kept.clone().map(|uuid| Step::Uuid { device: device.clone(), uuid });
            plan.after.extend(uuid);
            plan.after.push(Step::Restore { part: one.part, device: device.clone(), start });
        }
        bytes = bytes.saturating_add(old.bytes);
        plan.before.push(Step::Save { part: one.part, from: old.clone() });
    }
    if plan.before.is_empty() {
        return Ok(Plan::default());
    }
    let limit = limit(bytes, facts)?;
    plan.before.insert(0, Step::Memory { bytes, limit });
    let has = |part: Part| wanted.iter().any(|one| one.part == part);
    plan.root = facts.part(Part::Root).filter(|_| has(Part::Root)).cloned();
    if !has(Part::Boot) {
        note(&mut plan, facts);
    }
    plan.after.push(Step::Free);
    Ok(plan)
}

/// Has the boot file system, which stays, tell of a root that is in memory alone.
fn note(plan: &mut Plan, facts: &Facts<'_>) {
    let (Some(root), Some(_)) = (&plan.root, facts.part(Part::Boot)) else { return };
    plan.before.push(Step::Note { uuid: root.uuid.clone() });
    let restored = |step: &Step| matches!(step, Step::Restore { part: Part::Root, .. });
    let behind = plan.after.iter().rposition(restored).map_or(0, |at| at + 1);
    plan.after.insert(behind, Step::Unnote);
}

/// With so many allocation groups an xfs is made anew: Fedora CoreOS's figure, which a root of about 700 GiB has that was grown from its image.
pub const MANY_GROUPS: u64 = 400;

/// The allocation groups of an xfs, by its superblock (kernel `fs/xfs/libxfs/xfs_format.h`, `sb_agcount`); 0 of what can't be read.
pub fn allocation_groups(read: Read<'_>) -> u64 {
    read(88, 4).unwrap_or_default().iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// Decides how a root is made anew where it is. In the place of the disks stage is the program that makes it.
///
/// # Errors
/// It fits into no memory, or isn't known.
pub fn regrow(facts: &Facts<'_>) -> Result<Plan, Failure> {
    let old = facts.part(Part::Root).ok_or_else(|| absent(Part::Root, facts))?.clone();
    let limit = limit(old.bytes, facts)?;
    let (bytes, device) = (old.bytes, old.node.clone());
    let mut plan = Plan {
        before: [Step::Memory { bytes, limit }, Step::Save { part: Part::Root, from: old.clone() }].into(),
        after: [Step::Restore { part: Part::Root, device, start: None }].into(),
        root: Some(old),
    };
    note(&mut plan, facts);
    plan.after.push(Step::Free);
    Ok(plan)
}

/// How much of the memory may be taken. As with Fedora CoreOS nine tenths of what can be had: what is too much is to end in an error, not in
/// the kernel's choice of a process.
fn limit(bytes: u64, facts: &Facts<'_>) -> Result<u64, Failure> {
    let (all, free) = facts.memory;
    let limit = free / 10 * 9;
    if bytes > limit.saturating_mul(RATIO) {
        let [bytes, all, free, limit] = [bytes, all, free, limit].map(|bytes| bytes / MIB);
        let why = format!(
            "what is replaced is kept in memory meanwhile, and that doesn't fit: it is {bytes} MiB of files; of the machine's {all} MiB \
            of memory {free} MiB can be had, and {limit} MiB of these taken, which compressed hold about twice as much"
        );
        return Err(Failure::new(WHAT, why).remedy(remedy_of_memory(bytes)));
    }
    Ok(limit)
}

/// What helps a machine that has too little memory for so many MiB.
pub fn remedy_of_memory(mebibytes: u64) -> String {
    let mebibytes = (mebibytes / 10 * 6).saturating_add(1024).next_multiple_of(512);
    format!(
        "give the machine more memory for its first boot ({mebibytes} MiB should do), or leave the root as the image has it; nothing was \
        written to the disks"
    )
}

/// The words for a system that isn't where it should be. After a power cut they are the last that this machine can say.
pub fn absent(part: Part, facts: &Facts<'_>) -> Failure {
    let why = match &facts.note {
        Some(_) => format!(
            "an earlier first boot was cut off while the root was in memory alone, as {NOTE} on the boot file system says: the \
            {part} is gone"
        ),
        None => format!(
            "the {part} isn't there to be kept; if an earlier first boot with this configuration was cut off, it may be gone, or on \
            devices that only the disks stage opens"
        ),
    };
    Failure::new(WHAT, why).remedy("install the system again")
}

/// The words for a file system that is found, but holds no whole system.
pub fn not_whole(part: Part, old: &Old, why: &str, noted: bool) -> Failure {
    let cut = if noted { "; an earlier first boot was cut off while it was in memory alone" } else { "" };
    let Old { node, format, .. } = old;
    Failure::new(WHAT, format!("the {part} on {node} ({format}) is not a whole one to be kept: {why}{cut}"))
        .remedy("install the system again; nothing was written to the disks by this boot")
}

/// The UUID that a new file system has to get: the one that the command line of this boot, and with it the boot entries, name. They do so when
/// an earlier first boot was cut off at its very end, or when an installer wrote it there.
fn kept_uuid(wanted: &Wanted, old: &Old, cmdline: &Cmdline) -> Result<Option<String>, Failure> {
    let (argument, named) = match wanted.part {
        Part::Root => ("root", evidence::root(cmdline)),
        Part::Boot => {
            let said = cmdline.value("boot").unwrap_or_default();
            let uuid = said.strip_prefix("UUID=").or_else(|| said.strip_prefix("/dev/disk/by-uuid/"));
            let by = uuid.map(|uuid| By::Uuid(uuid.into()));
            ("boot", by.or_else(|| said.is_empty().then(|| By::Label("boot".into()))))
        }
        _ => return Ok(None),
    };
    let (format, uuid) = &wanted.made;
    match named {
        Some(By::Label(label)) if Some(label.as_str()) == wanted.part.label() => Ok(None),
        Some(By::Uuid(named)) if uuid.as_ref().is_some_and(|uuid| uuid.eq_ignore_ascii_case(&named)) => Ok(None),
        Some(By::Uuid(named))
            if uuid.is_none()
                && old.uuid.eq_ignore_ascii_case(&named)
                && matches!(format.as_deref(), Some("ext4" | "xfs" | "btrfs")) =>
        {
            Ok(Some(old.uuid.clone()))
        }
        _ => {
            let said = cmdline.value(argument).unwrap_or_default();
            let why = format!(
                "the kernel command line says {argument}={said}, which doesn't lead to what is made for the {}",
                wanted.part
            );
            Err(Failure::new(WHAT, why)
                .remedy(format!("take {argument}= out of the boot entry: the first boot writes it there")))
        }
    }
}

/// The partition of a planned table that a name stands for, with its disk's node.
fn named<'f>(facts: &Facts<'f>, device: &str) -> Option<(&'f str, &'f Partition)> {
    facts.tables.iter().find_map(|step| {
        let number = device.strip_prefix(step.device.as_str()).and_then(|rest| rest.strip_prefix("-part"));
        let number = number.and_then(|number| number.parse::<u32>().ok());
        let label = device.strip_prefix("/dev/disk/by-partlabel/");
        let guid = device.strip_prefix("/dev/disk/by-partuuid/").and_then(Guid::parse);
        let is_it = |one: &&Partition| {
            label == Some(one.label.as_str()) || guid == Some(one.guid) || number == Some(one.number)
        };
        let partition = step.table.as_ref()?.partitions.iter().find(is_it)?;
        Some((step.node.as_str(), partition))
    })
}

/// Whether a name is that of an array of the configuration.
fn is_array(config: &Config, device: &str) -> bool {
    device.strip_prefix("/dev/md/").is_some_and(|name| config.storage.raid.iter().any(|raid| raid.name == name))
}

/// A size in words.
fn mebibytes(bytes: u64) -> String {
    (bytes / MIB).to_string() + " MiB"
}
