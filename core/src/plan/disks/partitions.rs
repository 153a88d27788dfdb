// SPDX-License-Identifier: Apache-2.0
//! Partitions: a step a disk, which carries the whole table as it will be.
//!
//! What is kept, made, resized, replaced and deleted follows Ignition's operator notes, where new partitions go follows sgdisk,
//! which Ignition calls. A disk that is used as a whole is refused, and so is changing a partition that is in use; beside it,
//! others may change.
//!
//! Where the configuration gives no GUID, a disk or a partition that is made gets one derived from the disk's entry in the configuration and
//! from what tells the disk from others. It is the mark by which a second run after a power cut knows what it made itself:
//! such a partition has its place already, and one without a number isn't made twice. With `wipeTable` the table is made anew from
//! nothing, so the same table comes out, and one that is there already stays. A step is done when the bytes of both copies are as
//! they will be and the kernel knows.
//!
//! A second copy without anything of the first isn't brought back, unless it is ours: the disk may have been given to something else
//! since, as a whole.

mod matching;
mod show;
mod space;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::super::PlannedStep;
use super::{Gathered, Phase, device_fault, missing, sayable};
use crate::config::{self, Config};
use crate::diag::Failure;
use crate::facts::{Disk, Facts};
use crate::gpt::{Found, Geometry, Gpt, Guid, LONE, Table, UNPROTECTED};
use crate::origin::Sources;

/// See the module.
pub const PHASE: Phase = Phase { tables: true, contents: false, devices, plan, apply };

/// What is assumed of a disk of which nothing is known: 1 TiB, sectors of 512 bytes.
const ASSUMED: Geometry = Geometry { sector: 512, sectors: 1 << 31 };

/// A disk and its partition table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// The disk as the configuration names it.
    pub device: String,
    /// The node that it was judged by.
    pub node: String,
    /// Its size.
    pub geometry: Geometry,
    /// Whether nothing is known of the disk, and the size is an assumption.
    pub assumed: bool,
    /// The table as it will be; `None` for a disk without one.
    pub table: Option<Table>,
    /// Whether anything of it is to be written. If not, it is enough that the kernel knows the partitions.
    pub write: bool,
    /// What becomes of the first sector, once the table is written.
    pub mbr: Mbr,
    /// What becomes of the partitions that the configuration names.
    pub changes: Vec<Change>,
    /// What is repaired besides, in words.
    pub repairs: Vec<String>,
}

/// What becomes of the first sector.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mbr {
    /// It stays.
    Keep,
    /// It gets a protective MBR; its boot code stays.
    Protective,
    /// It gets a protective MBR and nothing else.
    Fresh,
}

/// What becomes of a partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Its number.
    pub number: u32,
    /// What is done.
    pub deed: Deed,
}

/// What is done to a partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Deed {
    /// It is there, as it is wanted.
    Keep,
    /// It is new.
    Make,
    /// Its end is moved; it had so many sectors.
    Resize {
        /// Sectors until now.
        from: u64,
    },
    /// Its entry is made anew.
    Replace {
        /// The label until now.
        label: String,
    },
    /// It is removed from the table.
    Delete {
        /// Its label.
        label: String,
    },
}

impl Step {
    /// What is wrong with it, told without knowing how it was planned.
    pub(in crate::plan) fn faults(&self) -> Vec<String> {
        // What stays as it is need not be as it would be written.
        let problems = self.table.iter().filter(|_| self.write).flat_map(|table| table.problems(self.geometry));
        device_fault(&self.device).into_iter().chain(problems).collect()
    }
}

fn devices(config: &Config) -> BTreeSet<String> {
    config.storage.disks.iter().map(|disk| disk.device.clone()).collect()
}

fn plan(config: &Config, facts: &Facts, sources: &Sources) -> Result<Vec<PlannedStep>, Vec<Failure>> {
    let mut facts = facts.clone();
    let mut gathered = Gathered::new(sources);
    for disk in &config.storage.disks {
        let planned = one(disk, &facts, sources);
        if let Ok(Some(step)) = &planned {
            // Another entry may name the same disk otherwise.
            remember(step, &mut facts);
        }
        let steps = planned.map(|step| step.into_iter().map(super::super::Step::Partition).collect());
        gathered.entry(disk.origin, "$.storage.disks", steps);
    }
    gathered.finish()
}

/// Plans one disk; nothing if it is left as it is, without a table.
fn one(disk: &config::Disk, facts: &Facts, sources: &Sources) -> Result<Option<Step>, Vec<Failure>> {
    let what = format!("partitioning {}", disk.device);
    let text = serde_json::to_string(disk).unwrap_or_default();
    sayable(what.clone(), &text).map_err(|failure| vec![failure])?;
    if facts.devices.get(&disk.device).is_some_and(|device| !device.present) {
        return Err(vec![missing(&disk.device, what, facts)]);
    }
    let assumed = Disk {
        device: disk.device.clone(),
        node: disk.device.clone(),
        sector: ASSUMED.sector,
        sectors: ASSUMED.sectors,
        read_only: false,
        part_of: None,
        identity: String::new(),
        holds: Found::Nothing,
        uses: Vec::new(),
    };
    let known = facts.disks.iter().find(|known| known.device == disk.device);
    let facts = known.unwrap_or(&assumed);
    let geometry = facts.geometry();
    unsuitable(disk, facts).map_or(Ok(()), |(why, remedy)| Err(vec![Failure::new(&what, why).remedy(remedy)]))?;
    let mark =
        |key: &str| Guid::derived(&[b"fledge partition", text.as_bytes(), facts.identity.as_bytes(), key.as_bytes()]);
    let at = |failure: Failure, partition: &config::Partition| {
        let place =
            sources.place(disk.origin, "$.storage.disks").filter(|_| partition.origin.source == disk.origin.source);
        match place.and_then(|place| sources.place(partition.origin, &format!("{}.partitions", place.path))) {
            Some(place) => failure.at(place),
            None => failure,
        }
    };
    let rules = matching::Disk { config: disk, geometry, mark: &mark, at: &at };
    let makes = disk.partitions.iter().any(|partition| partition.should_exist != Some(false));
    let step = |table, changes| Step {
        device: disk.device.clone(),
        node: facts.node.clone(),
        geometry,
        assumed: known.is_none(),
        table,
        write: true,
        mbr: Mbr::Fresh,
        changes,
        repairs: Vec::new(),
    };
    let mut step = match &facts.holds {
        _ if disk.wipe_table == Some(true) && !makes => step(None, Vec::new()),
        Found::Nothing if !makes => return Ok(None),
        // A run that was cut off leaves that too: the second copy is written first.
        Found::Gpt(gpt)
            if disk.wipe_table != Some(true)
                && gpt.table.guid != mark("")
                && gpt.flaws.iter().any(|flaw| flaw == LONE) =>
        {
            if disk.partitions.is_empty() {
                return Ok(None);
            }
            let why = "at its end is the second copy of a GUID partition table, and nothing of the first: it may be a left-over of \
                what the disk was before, and bringing it back would write over what is there now";
            return Err(vec![Failure::new(&what, why).remedy(
                "if the table still holds, have sgdisk or gdisk restore it; if not, erase it with wipefs, or set wipeTable to \
                replace it by a new one; what is on the disk is lost then",
            )]);
        }
        Found::Gpt(gpt) if disk.wipe_table != Some(true) => {
            let (table, changes) = existing(&rules, gpt)?;
            let step = step(Some(table), changes);
            with_mbr(step, gpt, geometry).map_err(|why| vec![Failure::new(&what, why.0).remedy(why.1)])?
        }
        _ => {
            let fresh = Table::fresh(geometry, mark("")).ok_or_else(|| {
                let why = format!("the disk is too small for a partition table: it has {} sectors", facts.sectors);
                vec![Failure::new(&what, why).remedy("use a larger disk")]
            })?;
            let (table, changes) = rules.layout(&fresh)?;
            let mut step = step(Some(table), changes);
            if let Found::Gpt(gpt) = &facts.holds {
                let same = step.table.as_ref() == Some(&gpt.table);
                step.write = !same || !gpt.flaws.is_empty() || !gpt.hybrid.is_empty() || gpt.backup != geometry.last();
                if same {
                    step.changes.iter_mut().for_each(|change| change.deed = Deed::Keep);
                }
            }
            step
        }
    };
    step.repairs.retain(|_| step.write);
    refuse_in_use(&step, disk, facts).map_err(|failure| vec![failure])?;
    let problems = step.table.iter().flat_map(|table| table.problems(geometry)).collect::<Vec<_>>();
    if step.write && !problems.is_empty() {
        return Err(vec![
            Failure::new(&what, problems.join("; "))
                .remedy("repair the partition table by hand, or set wipeTable to make a new one"),
        ]);
    }
    if step.write && facts.read_only {
        return Err(vec![
            Failure::new(what, "the disk can't be written to: it is read-only")
                .remedy("use another disk, or make it writable"),
        ]);
    }
    Ok(Some(step))
}

/// Why a disk can't be partitioned whatever is wanted, and what to do.
fn unsuitable(disk: &config::Disk, facts: &Disk) -> Option<(String, &'static str)> {
    if let Some(whole) = &facts.part_of {
        return Some((format!("{} is no disk but a partition of {whole}", facts.node), "name the disk itself"));
    }
    if let Some(used) = facts.uses.iter().find(|used| used.number.is_none()) {
        let why = format!("the disk {} is in use as a whole: it is {}", used.device, used.how);
        return Some((why, "name another disk, or see to it that nothing uses this one in the initramfs"));
    }
    if !facts.sector.is_power_of_two() || !(512..=65536).contains(&facts.sector) {
        return Some((
            format!("its sectors have {} bytes", facts.sector),
            "use a disk with sectors of 512 or 4096 bytes",
        ));
    }
    match &facts.holds {
        _ if disk.wipe_table == Some(true) => None,
        Found::Mbr => Some((
            "it has an MBR partition table, and only GUID partition tables can be changed".into(),
            "set wipeTable to replace the table by a new one; what is on the disk is lost then",
        )),
        Found::Broken(why) => Some((
            format!("its GUID partition table can't be relied on: {why}"),
            "repair the table by hand, or set wipeTable to replace it by a new one; what is on the disk is lost then",
        )),
        _ => None,
    }
}

/// The table that there will be on a disk that has one. On a disk that was grown the space behind the old end counts, unless all is
/// well without it.
fn existing(rules: &matching::Disk<'_>, gpt: &Gpt) -> Result<(Table, Vec<Change>), Vec<Failure>> {
    let as_it_is = rules.layout(&gpt.table);
    let grown = gpt.backup != rules.geometry.last();
    if !grown || as_it_is.as_ref().is_ok_and(|(table, _)| *table == gpt.table) {
        return as_it_is;
    }
    let mut moved = gpt.table.clone();
    moved.last = rules.geometry.last();
    moved.move_backup(rules.geometry);
    let (mut table, changes) = rules.layout(&moved).or_else(|failures| as_it_is.map_err(|_| failures))?;
    table.move_backup(rules.geometry);
    Ok((table, changes))
}

/// Sees whether anything has to be written, and what becomes of the MBR.
fn with_mbr(step: Step, gpt: &Gpt, geometry: Geometry) -> Result<Step, (String, &'static str)> {
    let changed = step.table.as_ref() != Some(&gpt.table);
    let write = changed || !gpt.flaws.is_empty();
    let touched = |change: &Change| {
        let old = gpt.table.partition(change.number).filter(|_| change.deed != Deed::Keep)?;
        let extent =
            |extent: &&crate::gpt::Extent| u64::from(extent.start) == old.start && u64::from(extent.size) == old.size();
        gpt.hybrid.iter().find(extent).map(|_| old.number)
    };
    if let Some(number) = step.changes.iter().find_map(touched) {
        let why = format!("partition {number} stands in its hybrid MBR too, which Fledge doesn't change");
        return Err((why, "replace the hybrid MBR by a protective one first, or set wipeTable"));
    }
    let unprotected = gpt.flaws.iter().any(|flaw| flaw == UNPROTECTED);
    let outgrown = gpt.hybrid.is_empty() && gpt.backup != geometry.last();
    let mbr = if write && (unprotected || outgrown) { Mbr::Protective } else { Mbr::Keep };
    Ok(Step { write, mbr, repairs: gpt.flaws.clone(), ..step })
}

/// Refuses to change what is in use.
fn refuse_in_use(step: &Step, disk: &config::Disk, facts: &Disk) -> Result<(), Failure> {
    let wiped = disk.wipe_table == Some(true) && step.write;
    let changed = |number: u32| step.changes.iter().any(|change| change.number == number && change.deed != Deed::Keep);
    let used = facts.uses.iter().find(|used| used.number.is_some_and(|number| wiped || changed(number)));
    let Some(used) = used else { return Ok(()) };
    let number = used.number.unwrap_or_default();
    let what = if wiped {
        format!("wiping the partition table of {}", disk.device)
    } else {
        format!("changing partition {number} of {}", disk.device)
    };
    Err(Failure::new(what, format!("{} is in use: it is {}", used.device, used.how))
        .remedy("leave this partition as it is, or see to it that nothing uses it in the initramfs"))
}

fn apply(step: &super::super::Step, facts: &mut Facts) {
    if let super::super::Step::Partition(step) = step {
        remember(step, facts);
        // The names under which udev will have the partitions.
        for partition in step.table.iter().flat_map(|table| &table.partitions) {
            let by_guid = format!("/dev/disk/by-partuuid/{}", partition.guid.to_string().to_ascii_lowercase());
            let by_label = format!("/dev/disk/by-partlabel/{}", partition.label);
            let by_disk = format!("{}-part{}", step.device, partition.number);
            for name in [by_guid, by_label, by_disk] {
                if let Some(device) = facts.devices.get_mut(&name) {
                    device.present = true;
                }
            }
        }
    }
}

/// Notes what the step will have made of the disk, under all its names.
fn remember(step: &Step, facts: &mut Facts) {
    let node = facts.disks.iter().find(|disk| disk.device == step.device).map(|disk| disk.node.clone());
    let holds = match &step.table {
        Some(table) => Found::Gpt(Gpt {
            table: table.clone(),
            backup: step.geometry.last(),
            hybrid: Vec::new(),
            flaws: Vec::new(),
        }),
        None => Found::Nothing,
    };
    for disk in facts.disks.iter_mut().filter(|disk| Some(&disk.node) == node.as_ref()) {
        if step.write {
            disk.holds = holds.clone();
        }
    }
}
