// SPDX-License-Identifier: Apache-2.0
//! What becomes of the parts as they are: destroyed without another in their place, or still there beside another, the machine would not
//! boot, or not surely as what the configuration says.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Facts, Old, Part, WHAT, Wanted, at, is_array, mebibytes, named};
use crate::config::Config;
use crate::diag::{Failure, Place};
use crate::gpt::Partition;
use crate::origin::Sources;

/// The formats that a root or a boot file system of OSTree's can have.
const FORMATS: [&str; 3] = ["ext4", "xfs", "btrfs"];

pub(super) struct Judge<'j> {
    pub(super) config: &'j Config,
    pub(super) sources: &'j Sources,
    pub(super) facts: &'j Facts<'j>,
}

/// What the disks stage does to a part.
enum Fate {
    Stays,
    /// What does it, as a clause, and where it stands.
    Gone(String, Option<Place>),
}

impl Judge<'_> {
    /// Judges root and boot file system.
    pub(super) fn all(&self, wanted: &[Wanted]) -> Result<(), Failure> {
        for part in [Part::Root, Part::Boot] {
            let Some(old) = self.facts.part(part) else { continue };
            let new = wanted.iter().find(|one| one.part == part);
            match (self.fate(old), new) {
                (Fate::Stays, Some(new)) => self.beside(part, old, new)?,
                (Fate::Gone(how, place), None) => {
                    let label = part.label().unwrap_or_default();
                    let why = format!("{how}, and the {part} is there; none is made in its place");
                    let failure = Failure::new(WHAT, why).remedy(format!(
                        "leave {} as it is, or let the configuration make a file system with the label {label:?} and wipeFilesystem: its \
                        contents are then kept",
                        old.node
                    ));
                    return Err(at(failure, place));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a new part can stand beside the old one. The links of arrays go before those of partitions (udev's `link_priority`), but the
    /// boot file system isn't found by links alone.
    fn beside(&self, part: Part, old: &Old, new: &Wanted) -> Result<(), Failure> {
        let label = part.label().unwrap_or_default();
        if part == Part::Root && new.devices.iter().all(|device| is_array(self.config, device)) {
            return Ok(());
        }
        let why = format!(
            "{} is to have the label {label:?}, but {} keeps that, too, and it would be a matter of luck which of them is the {part}",
            new.devices.join(" and "),
            old.node
        );
        let failure = Failure::new(WHAT, why).remedy(
            "let the configuration delete the old partition (shouldExist: false), or make something else of it",
        );
        Err(at(failure, new.place.clone()))
    }

    fn fate(&self, old: &Old) -> Fate {
        let storage = &self.config.storage;
        for (index, disk) in storage.disks.iter().enumerate() {
            let Some(step) = self.facts.tables.iter().find(|step| step.device == disk.device) else { continue };
            let later = storage.disks.get(index + 1..).unwrap_or_default();
            let last = !later.iter().any(|other| self.node(&other.device) == step.node);
            if !last || Some(&step.node) != old.disk.as_ref() {
                continue;
            }
            let kept = step.table.iter().flat_map(|table| &table.partitions).any(|one| one.start == old.start);
            if !kept {
                let how = format!("the partition {} of {} is to go", old.node, step.node);
                return Fate::Gone(how, self.sources.place(disk.origin, "$.storage.disks"));
            }
        }
        let gone = |what: String, origin, list| Fate::Gone(what, self.sources.place(origin, list));
        for raid in &storage.raid {
            if raid.devices.iter().any(|device| self.is(device, old)) {
                return gone(
                    format!("the array {:?} is to take {}", raid.name, old.node),
                    raid.origin,
                    "$.storage.raid",
                );
            }
        }
        for luks in &storage.luks {
            if luks.device.as_ref().is_some_and(|device| self.is(device, old)) {
                return gone(
                    format!("the volume {:?} is to take {}", luks.name, old.node),
                    luks.origin,
                    "$.storage.luks",
                );
            }
        }
        for one in storage.filesystems.iter().filter(|one| one.wipe_filesystem == Some(true)) {
            if self.is(&one.device, old) {
                return gone(format!("{} is to be wiped", old.node), one.origin, "$.storage.filesystems");
            }
        }
        Fate::Stays
    }

    fn node<'a>(&'a self, device: &'a str) -> &'a str {
        let step = self.facts.tables.iter().find(|step| step.device == device).map(|step| step.node.as_str());
        let known = self.facts.nodes.iter().find(|(name, _)| name == device).map(|(_, node)| node.as_str());
        step.or(known).unwrap_or(device)
    }

    /// Whether a name will lead to where a part is. The names of partitions count as they will be.
    fn is(&self, device: &str, old: &Old) -> bool {
        match named(self.facts, device) {
            Some((disk, partition)) => old.disk.as_deref() == Some(disk) && partition.start == old.start,
            None => self.node(device) == old.node,
        }
    }

    /// Whether what is kept will fit where it is to go, as far as that can be told.
    pub(super) fn fits(&self, wanted: &Wanted, old: &Old, device: &str) -> Result<(), Failure> {
        let part = wanted.part;
        let refused =
            |why: String, what_to_do: String| Err(at(Failure::new(WHAT, why).remedy(what_to_do), wanted.place.clone()));
        // Others have no links, or no owners.
        let format = wanted.made.0.as_deref().unwrap_or_default();
        if part.label().is_some() && !FORMATS.contains(&format) {
            return refused(
                format!("{device} is to have the format {format:?}, which can't hold what the {part} has"),
                format!("make it {}", FORMATS.join(", ")),
            );
        }
        if let Some(size) = self.room(device, 0).filter(|size| *size < old.bytes) {
            return refused(
                format!("{device} will have {}, and the {part} has {}", mebibytes(size), mebibytes(old.bytes)),
                "make it larger".into(),
            );
        }
        let Some((disk, partition)) = named(self.facts, device) else { return Ok(()) };
        let stays = old.disk.as_deref() == Some(disk) && partition.start == old.start;
        if part == Part::Esp && !stays && !self.has_vfat(device, disk, partition) {
            return refused(
                format!("no file system is to be made on {device}, and the files of the {part} are to go there"),
                "let the configuration make a vfat on it".into(),
            );
        }
        // GRUB's boot code has the number of the sector that it goes on from.
        if part == Part::Bios && partition.start != old.start {
            let at_mebibyte = old.start.saturating_mul(self.sector(disk)) >> 20;
            let (new, old) = (partition.start, old.start);
            return refused(
                format!("{device} would begin at sector {new}, but GRUB's boot code goes on at sector {old}"),
                format!("set its startMiB to {at_mebibyte}"),
            );
        }
        Ok(())
    }

    fn has_vfat(&self, device: &str, disk: &str, partition: &Partition) -> bool {
        self.config.storage.filesystems.iter().any(|one| {
            let same = named(self.facts, &one.device)
                .is_some_and(|(other, there)| (other, there.number) == (disk, partition.number));
            (same || one.device == device) && one.format.as_deref() == Some("vfat")
        })
    }

    fn sector(&self, disk: &str) -> u64 {
        let step = self.facts.tables.iter().find(|step| step.node == disk);
        step.map_or(512, |step| u64::from(step.geometry.sector))
    }

    /// The most that a device can hold, where all that it is made of are partitions of the configuration.
    fn room(&self, device: &str, depth: u32) -> Option<u64> {
        // A configuration may have circles; the disks stage won't find these devices.
        const DEEP: u32 = 8;
        if depth > DEEP {
            return None;
        }
        if let Some((disk, partition)) = named(self.facts, device) {
            return Some(partition.size().saturating_mul(self.sector(disk)));
        }
        let storage = &self.config.storage;
        let name = |prefix: &str| device.strip_prefix(prefix).unwrap_or_default();
        if let Some(luks) = storage.luks.iter().find(|luks| luks.name == name("/dev/mapper/")) {
            return self.room(luks.device.as_deref()?, depth + 1);
        }
        let raid = storage.raid.iter().find(|raid| raid.name == name("/dev/md/"))?;
        let mut sizes = Vec::new();
        for member in &raid.devices {
            sizes.push(self.room(member, depth + 1)?);
        }
        if raid.level.as_deref() == Some("raid1") { sizes.into_iter().min() } else { Some(sizes.into_iter().sum()) }
    }
}
