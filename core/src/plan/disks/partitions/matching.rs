// SPDX-License-Identifier: Apache-2.0
//! Which partitions are kept, made, resized, replaced and deleted: the table of "Partition Matching" in Ignition's operator notes.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::space::Space;
use super::{Change, Deed};
use crate::config;
use crate::diag::Failure;
use crate::gpt::{Geometry, Guid, Partition, Table};

/// What decides about the partitions of a disk.
pub(super) struct Disk<'d> {
    /// The disk as the configuration has it.
    pub(super) config: &'d config::Disk,
    /// Its size.
    pub(super) geometry: Geometry,
    /// The mark of a partition that this configuration leaves unnamed, by what tells it from others.
    pub(super) mark: &'d dyn Fn(&str) -> Guid,
    /// Gives a failure the place of a partition of the configuration.
    pub(super) at: &'d dyn Fn(Failure, &config::Partition) -> Failure,
}

/// A partition of the configuration with everything said.
struct Wanted<'c> {
    config: &'c config::Partition,
    number: u32,
    /// It was made for this very configuration, by the mark that it bears or by the GUID that it was to have.
    own: bool,
    guid: Guid,
    placed: (u64, u64),
}

impl Wanted<'_> {
    fn should_exist(&self) -> bool {
        self.config.should_exist != Some(false)
    }

    fn what(&self) -> String {
        let label = self.config.label.as_ref().map(|label| format!(" {label:?}")).unwrap_or_default();
        format!("partition {}{label}", self.number)
    }
}

fn given(guid: Option<&String>) -> Option<Guid> {
    guid.and_then(|guid| Guid::parse(guid))
}

impl Disk<'_> {
    /// The table that there will be, and what becomes of each partition that the configuration names.
    ///
    /// # Errors
    /// What the configuration wants and this table doesn't allow.
    pub(super) fn layout(&self, table: &Table) -> Result<(Table, Vec<Change>), Vec<Failure>> {
        let mut wanted = self.wanted(table);
        self.place(&mut wanted, table).map_err(|failure| alloc::vec![failure])?;
        let mut after = table.clone();
        let (mut changes, mut failures) = (Vec::new(), Vec::new());
        let kept = |number: u32| wanted.iter().any(|other| other.number == number && other.should_exist());
        for one in &wanted {
            if !one.should_exist() && kept(one.number) {
                continue;
            }
            match one.deed(table.partition(one.number)) {
                Ok(Some((deed, partition))) => {
                    after.partitions.retain(|other| other.number != one.number);
                    if let Some(partition) = partition {
                        let place = after.partitions.iter().take_while(|other| other.number < one.number).count();
                        after.partitions.insert(place, partition);
                    }
                    changes.push(Change { number: one.number, deed });
                }
                Ok(None) => {}
                Err(failure) => failures.push((self.at)(failure, one.config)),
            }
        }
        for change in changes.iter().filter(|change| matches!(change.deed, Deed::Make | Deed::Replace { .. })) {
            let Some(made) = after.partition(change.number) else { continue };
            let same = after.partitions.iter().find(|other| other.number != made.number && other.guid == made.guid);
            let Some((one, other)) = wanted.iter().find(|one| one.number == made.number).zip(same) else { continue };
            let why = format!("partition {} would have the same GUID, {}", other.number, made.guid);
            let failure = Failure::new(format!("making {}", one.what()), why)
                .remedy("give each partition a GUID of its own, or none");
            failures.push((self.at)(failure, one.config));
        }
        if failures.is_empty() { Ok((after, changes)) } else { Err(failures) }
    }

    /// The partitions of the configuration by number, those without a number last.
    fn wanted(&self, table: &Table) -> Vec<Wanted<'_>> {
        let (mut wanted, mut unnumbered) = (Vec::new(), Vec::new());
        for config in &self.config.partitions {
            // What doesn't fit has no place in any table, and is told so there.
            let number = u32::try_from(config.number).unwrap_or(u32::MAX);
            let key = match number {
                0 => format!("label {}", config.label.as_deref().unwrap_or_default()),
                number => format!("number {number}"),
            };
            let guid = given(config.guid.as_ref());
            let mark = guid.unwrap_or_else(|| (self.mark)(&key));
            let own = |partition: &&Partition| {
                partition.guid == mark && config.label.as_ref().is_none_or(|label| *label == partition.label)
            };
            if number == 0 {
                let made = table.partitions.iter().find(own).map_or(0, |made| made.number);
                unnumbered.push(Wanted { config, number: made, own: made > 0, guid: mark, placed: (0, 0) });
            } else {
                let own = guid.is_none() && table.partition(number).as_ref().is_some_and(own);
                wanted.push(Wanted { config, number, own, guid: mark, placed: (0, 0) });
            }
        }
        for one in unnumbered {
            // Another may have the number of what was made for this one.
            let taken = wanted.iter().any(|other| other.number == one.number && other.should_exist());
            wanted.push(if taken { Wanted { number: 0, own: false, ..one } } else { one });
        }
        for index in 0..wanted.len() {
            let free = (1..=table.slots.saturating_add(1)).find(|number| {
                let mut same = wanted.iter().filter(|one| one.number == *number).peekable();
                let gone = same.peek().is_some();
                same.all(|one| !one.should_exist()) && (gone || table.partition(*number).is_none())
            });
            if let Some(one) = wanted.get_mut(index).filter(|one| one.number == 0) {
                one.number = free.unwrap_or_default();
            }
        }
        wanted
    }

    /// Finds the sectors that all would have if they were made one after the other, with none of them there.
    fn place(&self, wanted: &mut [Wanted<'_>], table: &Table) -> Result<(), Failure> {
        let gone: Vec<_> = wanted.iter().map(|one| one.number).collect();
        let own: Vec<_> = wanted.iter().filter(|one| one.own).map(|one| one.number).collect();
        let mut space = Space::new(table, self.geometry, &gone, &own);
        for one in wanted.iter_mut().filter(|one| one.should_exist()) {
            let sectors = |count: Option<i64>| count.map(|count| self.geometry.mebibytes(count.unsigned_abs()));
            let (mut start, mut size) = (sectors(one.config.start_mib), sectors(one.config.size_mib));
            // A number that was free until now says nothing of the partition that had it.
            let there = table.partition(one.number).filter(|_| one.own || one.config.number != 0);
            if let Some(there) = there {
                if one.own {
                    // It has its place; what may be resized has the size of the configuration, on a disk that was grown a larger one.
                    let resized = size.filter(|_| one.config.resize == Some(true));
                    (start, size) = (Some(there.start), resized.or(Some(there.size())));
                } else if one.config.wipe_partition_entry != Some(true) {
                    (start, size) = (start.or(Some(there.start)), size.or(Some(there.size())));
                }
            }
            one.placed = space.place(one.number, start.unwrap_or(0), size.unwrap_or(0)).map_err(|why| {
                let failure = Failure::new(format!("finding room for {} on {}", one.what(), self.config.device), why)
                    .remedy("change startMiB, sizeMiB or number, delete what is in the way, or use a larger disk");
                (self.at)(failure, one.config)
            })?;
        }
        Ok(())
    }
}

impl Wanted<'_> {
    /// What is to be done, and the partition that there will be; nothing if there is nothing to see to.
    fn deed(&self, there: Option<&Partition>) -> Result<Option<(Deed, Option<Partition>)>, Failure> {
        let wipe = self.config.wipe_partition_entry == Some(true);
        let Some(there) = there else {
            return Ok(self.should_exist().then(|| (Deed::Make, Some(self.partition()))));
        };
        let what = || format!("using {} as it is", self.what());
        if !self.should_exist() {
            if wipe {
                return Ok(Some((Deed::Delete { label: there.label.clone() }, None)));
            }
            return Err(Failure::new(
                format!("deleting {}", self.what()),
                "it exists, and wipePartitionEntry isn't set",
            )
            .remedy("set wipePartitionEntry to delete it with what is on it"));
        }
        let (mut differences, size) = (self.differences(there), self.size(there));
        if differences.is_empty() && size.is_none() {
            return Ok(Some((Deed::Keep, Some(there.clone()))));
        }
        if wipe {
            return Ok(Some((Deed::Replace { label: there.label.clone() }, Some(self.partition()))));
        }
        if differences.is_empty() && self.config.resize == Some(true) {
            let resized = Partition { end: self.placed.1, ..there.clone() };
            return Ok(Some((Deed::Resize { from: there.size() }, Some(resized))));
        }
        let remedy = if differences.is_empty() {
            "set resize to change its size, wipePartitionEntry to replace it, or write sizeMiB as it is"
        } else {
            "write it as it is, leave out what may be as it is, or set wipePartitionEntry to replace it with what is on it"
        };
        differences.extend(size);
        Err(Failure::new(what(), differences.join(", ")).remedy(remedy))
    }

    /// In what a partition that is there isn't as wanted, but for its size.
    fn differences(&self, there: &Partition) -> Vec<String> {
        let mut differences = Vec::new();
        if self.placed.0 != there.start {
            differences.push(format!("it starts at sector {}, not {}", there.start, self.placed.0));
        }
        let guids = [("GUID", &self.config.guid, there.guid), ("type", &self.config.type_guid, there.kind)];
        for (word, wanted, there) in guids {
            if let Some(wanted) = given(wanted.as_ref()).filter(|wanted| *wanted != there) {
                differences.push(format!("its {word} is {there}, not {wanted}"));
            }
        }
        if let Some(label) = self.config.label.as_ref().filter(|label| **label != there.label) {
            differences.push(format!("its label is {:?}, not {label:?}", there.label));
        }
        differences
    }

    fn size(&self, there: &Partition) -> Option<String> {
        let wanted = self.placed.1.saturating_sub(self.placed.0).saturating_add(1);
        (wanted != there.size()).then(|| format!("it has {} sectors, not {wanted}", there.size()))
    }

    /// The partition, made anew.
    fn partition(&self) -> Partition {
        Partition {
            number: self.number,
            start: self.placed.0,
            end: self.placed.1,
            kind: given(self.config.type_guid.as_ref()).unwrap_or(Guid::LINUX_DATA),
            guid: self.guid,
            label: self.config.label.clone().unwrap_or_default(),
            name: None,
            attributes: 0,
        }
    }
}
