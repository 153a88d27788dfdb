// SPDX-License-Identifier: Apache-2.0
//! GUID partition tables as bytes: read, checked, and written. Both copies, arrays of entries wherever they are, and the MBR
//! before them.
//!
//! The format is that of the UEFI specification 2.10, section 5. A copy counts only if Linux would take it (`block/partitions/efi.c`):
//! right signature, both checksums, its own place named, usable sectors within the disk, entries of 128 bytes. What isn't
//! understood in an entry (attributes, units after the end of a name) is kept.

mod guid;
mod mbr;
mod read;
#[cfg(test)]
mod tests;
pub mod text;

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

pub use guid::Guid;
pub use mbr::{Extent, protective};
pub use read::read;

use crate::signature::Read;

/// Bytes of an entry. The format allows more; Linux doesn't.
const ENTRY: u32 = 128;
/// Units of UTF-16 in a name.
pub const NAME: usize = 36;
/// Entries in a table that is made anew.
pub const SLOTS: u32 = 128;
/// Entries that are read at most: 1 MiB of them.
const SLOTS_MAX: u32 = 8192;
const HEADER: u32 = 92;
const SIGNATURE: &[u8; 8] = b"EFI PART";
/// The flaw of a table without a protective MBR.
pub(crate) const UNPROTECTED: &str = "the protective MBR in front of it is missing";

/// The flaw of a table of which nothing is left at the beginning of the disk, where something else may stand by now.
pub(crate) const LONE: &str = "its first copy is gone";

/// Problems of a table that are told; there may be thousands.
const TOLD: usize = 8;

/// The size of a disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Geometry {
    /// Bytes of a logical sector.
    pub sector: u32,
    /// Logical sectors.
    pub sectors: u64,
}

/// A whole table. Places and sizes are in logical sectors.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table {
    /// The disk's GUID.
    pub guid: Guid,
    /// The first sector that partitions may have.
    pub first: u64,
    /// The last sector that partitions may have.
    pub last: u64,
    /// Where the first copy of the array of entries begins.
    pub array: u64,
    /// Where the second copy begins.
    pub backup_array: u64,
    /// Entries that the array has room for.
    pub slots: u32,
    /// The entries in use, by number.
    pub partitions: Vec<Partition>,
}

/// An entry in use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Partition {
    /// Its place in the array, from 1.
    pub number: u32,
    /// First sector.
    pub start: u64,
    /// Last sector.
    pub end: u64,
    /// GUID of its type.
    pub kind: Guid,
    /// Its own GUID.
    pub guid: Guid,
    /// Its name.
    pub label: String,
    /// The field of the name in hexadecimal, where it holds more than the label.
    pub name: Option<String>,
    /// Attribute bits.
    pub attributes: u64,
}

/// What a disk holds. As text it is a list of lines, see [`text`].
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(into = "Vec<String>", try_from = "Vec<String>")]
pub enum Found {
    /// No partition table.
    #[default]
    Nothing,
    /// An MBR partition table and no GPT.
    Mbr,
    /// A GPT.
    Gpt(Gpt),
    /// A GPT that can't be relied on: what is wrong with it, as a full clause.
    Broken(String),
}

/// A GPT that can be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gpt {
    /// The table.
    pub table: Table,
    /// Where the header of the second copy stands or should stand. The last sector, unless the disk was grown.
    pub backup: u64,
    /// The partitions that a hybrid MBR shows to old systems.
    pub hybrid: Vec<Extent>,
    /// What is damaged and can be made anew from the rest, in words.
    pub flaws: Vec<String>,
}

/// Bytes and where they go on the disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Region {
    /// In bytes.
    pub offset: u64,
    /// What is there.
    pub bytes: Vec<u8>,
}

impl Geometry {
    /// The last sector.
    pub fn last(self) -> u64 {
        self.sectors.saturating_sub(1)
    }

    /// How many sectors an array takes.
    pub fn array(self, slots: u32) -> u64 {
        (u64::from(slots) * u64::from(ENTRY)).div_ceil(u64::from(self.sector.max(1)))
    }

    /// How many sectors a number of MiB has.
    pub fn mebibytes(self, count: u64) -> u64 {
        count.saturating_mul(u64::from((1 << 20) / self.sector.max(1)))
    }

    fn offset(self, sector: u64) -> u64 {
        sector.saturating_mul(u64::from(self.sector))
    }

    fn read(self, read: Read<'_>, sector: u64, len: usize) -> Option<Vec<u8>> {
        (sector <= self.last()).then(|| read(self.offset(sector), len)).flatten()
    }
}

impl Partition {
    /// Sectors.
    pub fn size(&self) -> u64 {
        self.end.saturating_sub(self.start).saturating_add(1)
    }

    fn bytes(&self, entry: &mut [u8]) {
        put(entry, 0, &self.kind.to_disk());
        put(entry, 16, &self.guid.to_disk());
        put(entry, 32, &self.start.to_le_bytes());
        put(entry, 40, &self.end.to_le_bytes());
        put(entry, 48, &self.attributes.to_le_bytes());
        match self.name.as_ref().and_then(|name| HEXLOWER.decode(name.as_bytes()).ok()) {
            Some(name) => put(entry, 56, &name),
            None => put(entry, 56, &units(&self.label)),
        }
    }

    fn parse(number: u32, entry: &[u8]) -> Option<Self> {
        let kind = Guid::from_disk(entry.get(..16)?)?;
        if kind == Guid::NONE {
            return None;
        }
        let name = entry.get(56..128)?;
        let text = name.chunks_exact(2).filter_map(|unit| Some(u16::from_le_bytes(unit.try_into().ok()?)));
        let label: String = char::decode_utf16(text.take_while(|unit| *unit != 0))
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        let mut plain = units(&label);
        plain.resize(NAME * 2, 0);
        Some(Self {
            number,
            start: le64(entry, 32)?,
            end: le64(entry, 40)?,
            kind,
            guid: Guid::from_disk(entry.get(16..32)?)?,
            name: (plain != name).then(|| HEXLOWER.encode(name)),
            label,
            attributes: le64(entry, 48)?,
        })
    }
}

/// A label in the form of the disk. What has no room is left out; [`Table::problems`] tells.
fn units(label: &str) -> Vec<u8> {
    label.encode_utf16().take(NAME).flat_map(u16::to_le_bytes).collect()
}

impl Table {
    /// A table without partitions; `None` if the disk has no room for one.
    pub fn fresh(geometry: Geometry, guid: Guid) -> Option<Self> {
        let array = geometry.array(SLOTS);
        let first = array + 2;
        if geometry.sectors <= array * 2 + 3 {
            return None;
        }
        let last = geometry.sectors - first;
        Some(Self { guid, first, last, array: 2, backup_array: last + 1, slots: SLOTS, partitions: Vec::new() })
    }

    /// The partition with a number.
    pub fn partition(&self, number: u32) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.number == number)
    }

    /// Moves the second copy to the end of a disk.
    pub fn move_backup(&mut self, geometry: Geometry) {
        self.backup_array = geometry.last().saturating_sub(geometry.array(self.slots));
        self.last = self.last.min(self.backup_array.saturating_sub(1));
    }

    /// What makes it no table that could be written to a disk of that size: a clause each.
    pub fn problems(&self, geometry: Geometry) -> Vec<String> {
        let mut problems = Vec::new();
        let array = geometry.array(self.slots);
        if self.array < 2 || self.array.saturating_add(array) > self.first {
            problems.push(format!(
                "the array of entries at sector {} doesn't fit before sector {}",
                self.array, self.first
            ));
        }
        if self.last >= self.backup_array || self.backup_array.saturating_add(array) > geometry.last() {
            problems.push(format!(
                "the second array of entries at sector {} doesn't fit between sectors {} and {}",
                self.backup_array,
                self.last,
                geometry.last()
            ));
        }
        for (index, partition) in self.partitions.iter().enumerate() {
            let Partition { number, start, end, .. } = partition;
            if problems.len() >= TOLD {
                problems.push("and more".into());
                break;
            }
            if start > end || *start < self.first || *end > self.last {
                problems.push(format!(
                    "partition {number} has the sectors {start} to {end}, and only {} to {} can be used",
                    self.first, self.last
                ));
            }
            if *number == 0 || *number > self.slots {
                problems.push(format!("there is no partition number {number}: the table has room for {}", self.slots));
            }
            if partition.label.encode_utf16().count() > NAME {
                problems.push(format!(
                    "the label of partition {number} is too long: there is room for {NAME} units of UTF-16"
                ));
            }
            // One of those before is enough.
            let mut before = self.partitions.iter().take(index);
            if let Some(other) =
                before.find(|other| other.number == *number || (other.start <= *end && *start <= other.end))
            {
                problems.push(if other.number == *number {
                    format!("there are two partitions {number}")
                } else {
                    format!("the partitions {} and {number} overlap", other.number)
                });
            }
        }
        problems
    }

    /// The bytes of both copies: the second array, its header, the first array, its header. Each is to be safe before the next is
    /// written. Then a power cut leaves one copy that is whole, and never a header without its array.
    pub fn render(&self, geometry: Geometry) -> [Region; 4] {
        let mut array = vec![0; self.slots as usize * ENTRY as usize];
        for partition in &self.partitions {
            if let Some(entry) = array.chunks_exact_mut(ENTRY as usize).nth((partition.number as usize).wrapping_sub(1))
            {
                partition.bytes(entry);
            }
        }
        let crc = crc32fast::hash(&array);
        let header = |place: u64, other: u64, array: u64| {
            let mut bytes = vec![0; geometry.sector as usize];
            put(&mut bytes, 0, SIGNATURE);
            put(&mut bytes, 8, &0x0001_0000_u32.to_le_bytes());
            put(&mut bytes, 12, &HEADER.to_le_bytes());
            for (index, sector) in [place, other, self.first, self.last].into_iter().enumerate() {
                put(&mut bytes, 24 + index * 8, &sector.to_le_bytes());
            }
            put(&mut bytes, 56, &self.guid.to_disk());
            put(&mut bytes, 72, &array.to_le_bytes());
            put(&mut bytes, 80, &self.slots.to_le_bytes());
            put(&mut bytes, 84, &ENTRY.to_le_bytes());
            put(&mut bytes, 88, &crc.to_le_bytes());
            let own = crc32fast::hash(bytes.get(..HEADER as usize).unwrap_or_default());
            put(&mut bytes, 16, &own.to_le_bytes());
            Region { offset: geometry.offset(place), bytes }
        };
        let (first, last) = (1, geometry.last());
        let entries = |sector: u64| Region { offset: geometry.offset(sector), bytes: array.clone() };
        [
            entries(self.backup_array),
            header(last, first, self.backup_array),
            entries(self.array),
            header(first, last, self.array),
        ]
    }
}

/// What a disk without any table has where tables would be: zeros, the MBR included.
pub fn blank(geometry: Geometry) -> [Region; 2] {
    let array = geometry.array(SLOTS);
    let zeros = |sector: u64, sectors: u64| {
        let sectors = sectors.min(geometry.sectors);
        let len = usize::try_from(geometry.offset(sectors)).unwrap_or_default();
        Region { offset: geometry.offset(sector), bytes: vec![0; len] }
    };
    [zeros(geometry.last().saturating_sub(array), array + 1), zeros(0, array + 2)]
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(offset..offset + value.len()) {
        place.copy_from_slice(value);
    }
}

fn le32(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}

fn le64(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(offset..offset.checked_add(8)?)?.try_into().ok()?))
}
