// SPDX-License-Identifier: Apache-2.0
//! Finds the copies of a table, checks them, and says which one counts.

use alloc::format;
use alloc::vec::Vec;

use super::{
    ENTRY, Found, Geometry, Gpt, Guid, HEADER, LONE, Partition, SIGNATURE, SLOTS_MAX, Table, UNPROTECTED, le32, le64,
    mbr,
};
use crate::signature::Read;

/// A copy of a table on a disk.
enum Copy {
    Absent,
    Damaged { header: Option<Header> },
    Sound { header: Header, entries: Vec<u8> },
}

/// What a header says.
struct Header {
    other: u64,
    first: u64,
    last: u64,
    guid: Guid,
    array: u64,
    slots: u32,
    entry: u32,
    crc: u32,
}

impl Header {
    /// `None` if it is no header for that place.
    fn parse(bytes: &[u8], place: u64) -> Option<Self> {
        let size = le32(bytes, 12)?;
        let mut covered = bytes.get(..size as usize)?.to_vec();
        covered.get_mut(16..20)?.fill(0);
        let sound = size >= HEADER && crc32fast::hash(&covered) == le32(bytes, 16)? && le64(bytes, 24)? == place;
        sound.then_some(())?;
        Some(Self {
            other: le64(bytes, 32)?,
            first: le64(bytes, 40)?,
            last: le64(bytes, 48)?,
            guid: Guid::from_disk(bytes.get(56..72)?)?,
            array: le64(bytes, 72)?,
            slots: le32(bytes, 80)?,
            entry: le32(bytes, 84)?,
            crc: le32(bytes, 88)?,
        })
    }

    fn table(&self, entries: &[u8], backup_array: u64) -> Table {
        let partitions = (1..).zip(entries.chunks_exact(ENTRY as usize));
        Table {
            guid: self.guid,
            first: self.first,
            last: self.last,
            array: self.array,
            backup_array,
            slots: self.slots,
            partitions: partitions.filter_map(|(number, entry)| Partition::parse(number, entry)).collect(),
        }
    }

    /// Whether two headers tell of the same table.
    fn agrees(&self, other: &Self) -> bool {
        let of = |header: &Self| (header.first, header.last, header.guid, header.slots, header.crc);
        of(self) == of(other)
    }
}

fn copy(geometry: Geometry, place: u64, read: Read<'_>) -> Copy {
    let Some(bytes) = geometry.read(read, place, geometry.sector as usize) else { return Copy::Absent };
    if !bytes.starts_with(SIGNATURE) {
        return Copy::Absent;
    }
    let Some(header) = Header::parse(&bytes, place) else { return Copy::Damaged { header: None } };
    let fits = header.first <= header.last
        && header.last <= geometry.last()
        && (1..=SLOTS_MAX).contains(&header.slots)
        && header.entry == ENTRY;
    let entries = fits.then(|| geometry.read(read, header.array, header.slots as usize * ENTRY as usize)).flatten();
    match entries {
        Some(entries) if crc32fast::hash(&entries) == header.crc => Copy::Sound { header, entries },
        _ => Copy::Damaged { header: Some(header) },
    }
}

/// What a disk holds.
pub fn read(geometry: Geometry, read: Read<'_>) -> Found {
    let first = geometry.read(read, 0, 512).unwrap_or_default();
    let mbr = mbr::classify(&first);
    let primary = copy(geometry, 1, read);
    // What an image with an MBR was written over may have left a second copy at the end. Linux looks at none behind such an MBR.
    if mbr == mbr::Mbr::Own && !matches!(primary, Copy::Sound { .. }) {
        return Found::Mbr;
    }
    let end = geometry.last();
    let mut place = match &primary {
        Copy::Sound { header, .. } | Copy::Damaged { header: Some(header) } if header.other > 1 => header.other,
        _ => end,
    };
    let mut backup = copy(geometry, place, read);
    if place != end && !matches!(backup, Copy::Sound { .. }) {
        (place, backup) = (end, copy(geometry, end, read));
    }
    let conventional = |slots: u32| end.saturating_sub(geometry.array(slots));
    let mut flaws = Vec::new();
    let table = match (&primary, &backup) {
        (Copy::Sound { header, entries }, Copy::Sound { header: other, .. }) => {
            if !header.agrees(other) {
                flaws.push("its second copy differs from the first".into());
            }
            header.table(entries, if place == end { other.array } else { conventional(header.slots) })
        }
        (Copy::Sound { header, entries }, _) => {
            flaws.push("its second copy is damaged".into());
            header.table(entries, conventional(header.slots))
        }
        (damaged, Copy::Sound { header, entries }) => {
            let lone = matches!(damaged, Copy::Absent) && mbr == mbr::Mbr::None;
            flaws.push(if lone { LONE } else { "its first copy is damaged" }.into());
            let mut table = header.table(entries, if place == end { header.array } else { conventional(header.slots) });
            table.array = match damaged {
                Copy::Damaged { header: Some(first) } if first.slots == header.slots => first.array,
                _ => header.first.saturating_sub(geometry.array(header.slots)),
            };
            table
        }
        (Copy::Absent, Copy::Absent) => {
            return Found::Nothing;
        }
        (Copy::Damaged { header: Some(header) }, _) if header.entry != ENTRY => {
            return Found::Broken(format!(
                "its entries have {} bytes each, and Linux reads only those of {ENTRY}",
                header.entry
            ));
        }
        (Copy::Damaged { header: Some(header) }, _) if header.last > end => {
            return Found::Broken(format!(
                "it was made for a disk of more than {} sectors, and this one has {}",
                header.last, geometry.sectors
            ));
        }
        _ => return Found::Broken("no copy of it is whole".into()),
    };
    let hybrid = match mbr {
        mbr::Mbr::Protective => Vec::new(),
        mbr::Mbr::Hybrid(_) if !flaws.is_empty() => {
            return Found::Broken(format!(
                "{}, and beside it is a hybrid MBR, whose partitions may be the newer ones",
                flaws.join(", ")
            ));
        }
        mbr::Mbr::Hybrid(extents) => extents,
        mbr::Mbr::Own => {
            return Found::Broken("in front of it is an MBR partition table that doesn't know of it".into());
        }
        mbr::Mbr::None => {
            flaws.push(UNPROTECTED.into());
            Vec::new()
        }
    };
    Found::Gpt(Gpt { table, backup: place, hybrid, flaws })
}
