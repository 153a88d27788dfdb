// SPDX-License-Identifier: Apache-2.0
//! Where a new partition goes. Ignition leaves that to sgdisk, whose choices are these (seen in sgdisk 1.0.9 and 1.0.10):
//!
//! - Without a start, it is that of the largest free block, the first of these if there are several, aligned.
//! - Without a size, a partition reaches to the end of that same block, wherever it starts.
//! - The alignment is 1 MiB, or the largest power of two that all partitions have which were there before. Those that this
//!   configuration made don't count, so that a second run finds the same.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::gpt::{Geometry, Table};

/// Disks of so many sectors are taken for ones with physical sectors of 4096 bytes.
const LARGE: u64 = 585_937_500;
/// What these are aligned to at least.
const LARGE_ALIGNMENT: u64 = 8;

/// The sectors of a table, taken and free.
pub(super) struct Space {
    first: u64,
    last: u64,
    slots: u32,
    alignment: u64,
    taken: Vec<Taken>,
}

/// A partition.
struct Taken {
    number: u32,
    start: u64,
    end: u64,
}

impl Space {
    /// The space of a table without the partitions that `gone` names. All but `own` give the alignment.
    pub(super) fn new(table: &Table, geometry: Geometry, gone: &[u32], own: &[u32]) -> Self {
        let mut alignment = geometry.mebibytes(1).max(1);
        for partition in table.partitions.iter().filter(|partition| !own.contains(&partition.number)) {
            while alignment > 1 && partition.start % alignment != 0 {
                alignment /= 2;
            }
        }
        if geometry.sectors >= LARGE {
            alignment = alignment.max(LARGE_ALIGNMENT);
        }
        let kept = table.partitions.iter().filter(|partition| !gone.contains(&partition.number));
        let taken =
            kept.map(|partition| Taken { number: partition.number, start: partition.start, end: partition.end });
        Self { first: table.first, last: table.last, slots: table.slots, alignment, taken: taken.collect() }
    }

    /// Puts a partition somewhere. 0 stands for what isn't said. Gives its first and last sector.
    pub(super) fn place(&mut self, number: u32, start: u64, size: u64) -> Result<(u64, u64), String> {
        if number == 0 || number > self.slots {
            return Err(format!("the table has room for {} partitions", self.slots));
        }
        if self.taken.iter().any(|taken| taken.number == number) {
            return Err("there is a partition with this number".into());
        }
        let block = self.largest();
        let end_of_block = block.map(|(_, end)| end);
        let first = match (start, block) {
            (0, None) => return Err("no sector of the disk is free".into()),
            (0, Some((first, _))) => self.align(first),
            (start, _) => start,
        };
        let end = match size {
            0 => end_of_block.unwrap_or_default(),
            size => first.saturating_add(size - 1),
        };
        let first = self.align(first);
        if let Some(taken) = self.taken.iter().find(|taken| taken.start <= first && first <= taken.end) {
            return Err(format!("its first sector, {first}, belongs to partition {}", taken.number));
        }
        if first < self.first || first > self.last {
            return Err(format!("its first sector is {first}, and only {} to {} can be used", self.first, self.last));
        }
        if first > end {
            return Err(format!(
                "its first sector, {first}, is behind the largest free block, to whose end, {end}, it would reach"
            ));
        }
        if let Some(taken) = self.taken.iter().find(|taken| first < taken.start && taken.start <= end) {
            return Err(format!("its sectors {first} to {end} would reach into partition {}", taken.number));
        }
        if end > self.last {
            return Err(format!(
                "its sectors {first} to {end} would reach beyond sector {}, the last that can be used",
                self.last
            ));
        }
        self.taken.push(Taken { number, start: first, end });
        Ok((first, end))
    }

    /// The largest free block.
    fn largest(&self) -> Option<(u64, u64)> {
        let mut largest: Option<(u64, u64)> = None;
        let mut from = self.first;
        while let Some(start) = self.free_from(from) {
            let next = self.taken.iter().map(|taken| taken.start).filter(|taken| *taken > start).min();
            let end = next.map_or(self.last, |next| self.last.min(next - 1));
            if largest.is_none_or(|(first, last)| end - start > last - first) {
                largest = Some((start, end));
            }
            from = end.saturating_add(1);
        }
        largest
    }

    /// The first free sector from one on.
    fn free_from(&self, mut sector: u64) -> Option<u64> {
        while let Some(taken) = self.taken.iter().find(|taken| taken.start <= sector && sector <= taken.end) {
            sector = taken.end.checked_add(1)?;
        }
        (sector <= self.last).then_some(sector)
    }

    /// Whether these sectors are all free.
    fn free(&self, start: u64, end: u64) -> bool {
        start >= self.first
            && end <= self.last
            && !self.taken.iter().any(|taken| taken.start <= end && start <= taken.end)
    }

    /// The nearest aligned sector, before or else after, if what is between is free.
    fn align(&self, sector: u64) -> u64 {
        let earlier = sector / self.alignment * self.alignment;
        let later = earlier.saturating_add(self.alignment);
        if sector == earlier {
            sector
        } else if self.free(earlier, sector - 1) {
            earlier
        } else if self.free(sector.saturating_add(1), later) {
            later
        } else {
            sector
        }
    }
}
