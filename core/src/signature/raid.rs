// SPDX-License-Identifier: Apache-2.0
//! Superblocks of Linux software RAID: kernel `include/uapi/linux/raid/md_p.h`.

use alloc::string::String;

use super::{Read, le32, part, text, uuid};
use crate::facts::Superblock;

const MAGIC: u32 = 0xA92B_4EFC;

/// The superblock of a member of an array, on a device of `size` bytes.
pub fn superblock(size: u64, read: Read<'_>) -> Option<Superblock> {
    // Versions 1.1, 1.2, 1.0: `struct mdp_superblock_1`.
    let near_end = size.checked_sub(8192).map(|offset| offset & !4095);
    for offset in [Some(0), Some(4096), near_end].into_iter().flatten() {
        let Some(block) = read(offset, 208) else { continue };
        if le32(&block, 0)? == MAGIC && le32(&block, 4)? == 1 {
            return Some(Superblock {
                uuid: uuid(part(&block, 16, 16)?),
                name: text(part(&block, 32, 32)?),
                level: i32::from_le_bytes(part(&block, 72, 4)?.try_into().ok()?),
                devices: le32(&block, 92)?,
                // mdadm writes no events, and the kernel's count never goes back to that.
                never_ran: part(&block, 200, 8)? == [0; 8],
            });
        }
    }
    // Version 0.90: `mdp_super_t`, words in the byte order of the machine that wrote it. The UUID is the words 5, 13, 14 and 15,
    // printed as numbers.
    let offset = (size & !0xFFFF).checked_sub(0x1_0000)?;
    let block = read(offset, 64)?;
    let word: fn(&[u8], usize) -> Option<u32> = match le32(&block, 0)? {
        MAGIC => le32,
        magic if magic.swap_bytes() == MAGIC => |block, at| le32(block, at).map(u32::swap_bytes),
        _ => return None,
    };
    let mut id = [0; 16];
    for (bytes, at) in id.chunks_exact_mut(4).zip([20, 52, 56, 60]) {
        bytes.copy_from_slice(&word(&block, at)?.to_be_bytes());
    }
    Some(Superblock {
        uuid: uuid(&id),
        name: String::new(),
        level: i32::from_ne_bytes(word(&block, 28)?.to_ne_bytes()),
        devices: word(&block, 40)?,
        never_ran: false,
    })
}

/// The array whose metadata stand at the end of a disk, in words: those of firmware (libblkid `superblocks/isw_raid.c`, `ddf_raid.c`;
/// SNIA's Common RAID Disk Data Format 2.0, section 4.2.1), and of Linux.
pub fn at_end(size: u64, read: Read<'_>) -> Option<&'static str> {
    const INTEL: &[u8] = b"Intel Raid ISM Cfg Sig. ";
    const DDF: [u8; 4] = [0xDE, 0x11, 0xDE, 0x11];
    let mut is = |back: u64, magic: &[u8]| {
        let found = size.checked_sub(back).and_then(|offset| read(offset, magic.len()));
        found.is_some_and(|found| found == magic)
    };
    if [512, 4096].iter().any(|sector| is(size % sector + 2 * sector, INTEL)) {
        return Some("an array of Intel's firmware");
    }
    if [512, 257 * 512, 4096].iter().any(|back| is(*back, &DDF)) {
        return Some("a DDF array");
    }
    superblock(size, read).map(|_| "a Linux array")
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    fn of(bytes: &[u8]) -> Option<Superblock> {
        superblock(bytes.len() as u64, &mut |offset, len| {
            let start = usize::try_from(offset).ok()?;
            bytes.get(start..start.checked_add(len)?).map(<[u8]>::to_vec)
        })
    }

    fn version_1(at: usize) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let block = &mut bytes[at..at + 256];
        block[..4].copy_from_slice(&MAGIC.to_le_bytes());
        block[4] = 1;
        block[16..32].copy_from_slice(&[0xAB; 16]);
        block[32..36].copy_from_slice(b"data");
        block[72..76].copy_from_slice(&(-1_i32).to_le_bytes());
        block[92] = 3;
        bytes
    }

    #[test]
    fn metadata_at_the_end_of_a_disk_are_known() {
        let end = |back: usize, magic: &[u8]| {
            let mut bytes = vec![0; 1 << 20];
            let at = bytes.len() - back;
            bytes[at..at + magic.len()].copy_from_slice(magic);
            at_end(bytes.len() as u64, &mut |offset, len| {
                let start = usize::try_from(offset).ok()?;
                bytes.get(start..start.checked_add(len)?).map(<[u8]>::to_vec)
            })
        };
        let intel = b"Intel Raid ISM Cfg Sig. 1.3.00";
        assert_eq!(end(1024, intel), Some("an array of Intel's firmware"));
        assert_eq!(end(8192, intel), Some("an array of Intel's firmware"));
        assert_eq!(end(512, &[0xDE, 0x11, 0xDE, 0x11]), Some("a DDF array"));
        assert_eq!(end(1 << 20, intel), None);
        let linux = [&MAGIC.to_le_bytes(), [1, 0, 0, 0].as_slice()].concat();
        assert_eq!(end(8192, &linux), Some("a Linux array"));
    }

    #[test]
    fn version_1_stands_in_three_places() {
        let expected = Superblock {
            uuid: "abababab-abab-abab-abab-abababababab".into(),
            name: "data".into(),
            level: -1,
            devices: 3,
            never_ran: true,
        };
        for at in [0, 4096, (1 << 20) - 8192] {
            assert_eq!(of(&version_1(at)), Some(expected.clone()), "{at}");
        }
        let mut ran = version_1(4096);
        ran[4096 + 200] = 1;
        assert_eq!(of(&ran), Some(Superblock { never_ran: false, ..expected }));
        assert_eq!(of(&version_1(512)), None);
        assert_eq!(of(&[0; 100]), None);
    }

    #[test]
    fn version_0_90_of_either_byte_order() {
        for swap in [false, true] {
            let mut bytes = vec![0; 256 << 10];
            for (at, word) in [(0, MAGIC), (5, 0x0011_2233), (7, 5), (10, 4), (13, 0x4455_6677), (15, 0xCCDD_EEFF)] {
                let word = if swap { u32::swap_bytes(word) } else { word };
                let at = (192 << 10) + at * 4;
                bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
            let expected = Superblock {
                uuid: "00112233-4455-6677-0000-0000ccddeeff".into(),
                name: String::new(),
                level: 5,
                devices: 4,
                never_ran: false,
            };
            assert_eq!(of(&bytes), Some(expected));
        }
    }
}
