// SPDX-License-Identifier: Apache-2.0
//! The first sector of a disk: what it says about partitions (UEFI specification 2.10, section 5.2).

use alloc::vec::Vec;

use super::{Geometry, le32};

/// The type that protects a GPT from systems that don't know it.
const PROTECTIVE: u8 = 0xee;

/// Sectors of a partition in an MBR.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extent {
    /// First sector.
    pub start: u32,
    /// How many there are.
    pub size: u32,
}

/// What the sector is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Mbr {
    /// No MBR.
    None,
    /// A partition table of its own.
    Own,
    /// What stands before a GPT.
    Protective,
    /// The same, with partitions for old systems beside.
    Hybrid(Vec<Extent>),
}

pub(super) fn classify(sector: &[u8]) -> Mbr {
    let signed = sector.get(510..512) == Some(&[0x55, 0xaa]);
    // The boot sector of a file system has the same signature.
    let boots: [(usize, &[u8]); 5] = [(3, b"NTFS"), (3, b"EXFAT"), (54, b"FAT12"), (54, b"FAT16"), (82, b"FAT32")];
    let system = |(offset, name): &(usize, &[u8])| sector.get(*offset..).is_some_and(|rest| rest.starts_with(name));
    let entries = || sector.get(446..510).unwrap_or_default().chunks_exact(16);
    let flag = |entry: &[u8]| entry.first().copied().unwrap_or_default();
    let kind = |entry: &[u8]| entry.get(4).copied().unwrap_or_default();
    if !signed {
        return Mbr::None;
    }
    if !entries().any(|entry| kind(entry) == PROTECTIVE) {
        let table = !boots.iter().any(system) && entries().all(|entry| matches!(flag(entry), 0 | 0x80));
        return if table { Mbr::Own } else { Mbr::None };
    }
    let beside: Vec<_> = entries()
        .filter(|entry| !matches!(kind(entry), 0 | PROTECTIVE))
        .filter_map(|entry| Some(Extent { start: le32(entry, 8)?, size: le32(entry, 12)? }))
        .collect();
    if beside.is_empty() { Mbr::Protective } else { Mbr::Hybrid(beside) }
}

/// A protective MBR for a disk. The boot code of the old sector stays; its partitions don't.
pub fn protective(geometry: Geometry, old: &[u8]) -> Vec<u8> {
    let mut sector: Vec<u8> = old.get(..440).unwrap_or_default().to_vec();
    sector.resize(446, 0);
    // Cylinders, heads and sectors as UEFI wants them: from the second sector to as far as they reach.
    sector.extend([0, 0, 2, 0, PROTECTIVE, 0xff, 0xff, 0xff]);
    sector.extend(1_u32.to_le_bytes());
    sector.extend(u32::try_from(geometry.last()).unwrap_or(u32::MAX).to_le_bytes());
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}
