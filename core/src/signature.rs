// SPDX-License-Identifier: Apache-2.0
//! Tells what a block device contains from its superblocks, by the names that `blkid` has for them.
//!
//! | content | where | source of the format |
//! |---|---|---|
//! | ext2, ext3, ext4 | magic at 1080; features, UUID, label after it | kernel `fs/ext4/ext4.h`, `struct ext4_super_block` |
//! | xfs | magic at 0 | kernel `fs/xfs/libxfs/xfs_format.h`, `struct xfs_dsb` |
//! | btrfs | magic at 65600 | kernel `include/uapi/linux/btrfs_tree.h`, `struct btrfs_super_block` |
//! | vfat | boot sector; label in the root directory or the boot sector | Microsoft's FAT32 specification, 1.03 |
//! | swap, swsuspend | the last 10 bytes of the first page | kernel `include/linux/swap.h`, `union swap_header` |
//! | `crypto_LUKS` | magic at 0 | LUKS1 and LUKS2 on-disk formats |
//! | `linux_raid_member` | 0, 4096, or near the end | kernel `include/uapi/linux/raid/md_p.h` |
//! | `LVM2_member` | one of the first four sectors | lvm2 `lib/format_text/layout.h` |
//!
//! Content of some other kinds is told by its magic alone. libblkid knows many more: what looks empty here is to be shown to it before
//! it is taken for empty.
//!
//! # What was never finished
//! A file system whose making was interrupted must not be taken for one that can be used, nor for somebody's data; nothing was
//! ever stored in it. It counts as nothing, and so is made anew:
//! - `mkfs.ext4` writes the first superblock when all else is on the disk, `mkfs.btrfs` its magic, `mkswap` the one page that it
//!   writes: before that, nothing is there to be seen. Half of a swap header has no version.
//! - `mkfs.xfs` sets `sb_inprogress` first and clears it last.
//! - `mkfs.fat` begins with the boot sector. So [`UNFINISHED`] stands in the last bytes of the device, which it leaves alone,
//!   from before it starts until its work is on the disk.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use data_encoding::HEXLOWER;

use crate::facts::Signature;

mod raid;

pub use raid::{at_end, superblock};

/// What the last bytes of a device are while a vfat is being made on it.
pub const UNFINISHED: &[u8; 32] = b"Fledge: this vfat is unfinished\n";

/// Reads `len` bytes at an offset; `None` if they aren't all there.
pub type Read<'r> = &'r mut dyn FnMut(u64, usize) -> Option<Vec<u8>>;

/// What a device of `size` bytes contains: containers first (arrays, volumes, encryption), then file systems. More than one is
/// a left-over of what was there before; the first is what counts, in the order of libblkid (`libblkid/src/superblocks/`).
pub fn identify(size: u64, read: Read<'_>) -> Vec<Signature> {
    let probes: [fn(u64, Read<'_>) -> Option<Signature>; 9] = [raid, lvm, luks, vfat, swap, xfs, ext, btrfs, other];
    probes.iter().filter_map(|probe| probe(size, read)).collect()
}

/// The format of which a device holds an unfinished one, if it is so; see the module.
pub fn unfinished(size: u64, read: Read<'_>) -> Option<&'static str> {
    let last = size.checked_sub(UNFINISHED.len() as u64)?;
    if read(last, UNFINISHED.len())? == UNFINISHED {
        return Some("vfat");
    }
    let begun = read(0, 128)?.starts_with(b"XFSB") && xfs(size, read).is_none();
    begun.then_some("xfs")
}

fn found(format: &str, label: &[u8], uuid: String) -> Signature {
    Signature { format: format.into(), label: text(label), uuid }
}

/// A fixed-width field up to its first NUL.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
}

fn part(bytes: &[u8], offset: usize, len: usize) -> Option<&[u8]> {
    bytes.get(offset..offset.checked_add(len)?)
}

fn le16(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(part(bytes, offset, 2)?.try_into().ok()?))
}

fn le32(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(part(bytes, offset, 4)?.try_into().ok()?))
}

/// A UUID in the usual form; empty if it is all zeros.
fn uuid(bytes: &[u8]) -> String {
    if bytes.iter().all(|byte| *byte == 0) {
        return String::new();
    }
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&HEXLOWER.encode(&[*byte]));
    }
    text
}

fn ext(_: u64, read: Read<'_>) -> Option<Signature> {
    const HAS_JOURNAL: u32 = 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    // What ext3 knows: filetype, recover, meta_bg; sparse_super, large_file, btree_dir.
    const EXT3_INCOMPATIBLE: u32 = 0x2 | 0x4 | 0x10;
    const EXT3_READ_ONLY: u32 = 0x1 | 0x2 | 0x4;
    let block = read(1024, 264)?;
    if le16(&block, 56)? != 0xEF53 {
        return None;
    }
    let (compatible, incompatible, read_only) = (le32(&block, 92)?, le32(&block, 96)?, le32(&block, 100)?);
    let format = if incompatible & JOURNAL_DEVICE != 0 {
        "jbd"
    } else if incompatible & !EXT3_INCOMPATIBLE != 0 || read_only & !EXT3_READ_ONLY != 0 {
        "ext4"
    } else if compatible & HAS_JOURNAL != 0 {
        "ext3"
    } else {
        "ext2"
    };
    Some(found(format, part(&block, 120, 16)?, uuid(part(&block, 104, 16)?)))
}

fn xfs(_: u64, read: Read<'_>) -> Option<Signature> {
    const IN_PROGRESS: usize = 126;
    let block = read(0, 128)?;
    if !block.starts_with(b"XFSB") || *block.get(IN_PROGRESS)? != 0 {
        return None;
    }
    Some(found("xfs", part(&block, 108, 12)?, uuid(part(&block, 32, 16)?)))
}

fn btrfs(_: u64, read: Read<'_>) -> Option<Signature> {
    let block = read(0x1_0000, 0x22B)?;
    if part(&block, 0x40, 8)? != b"_BHRfS_M" {
        return None;
    }
    Some(found("btrfs", part(&block, 0x12B, 256)?, uuid(part(&block, 0x20, 16)?)))
}

fn swap(_: u64, read: Read<'_>) -> Option<Signature> {
    for page in [4096_u64, 8192, 16384, 32768, 65536] {
        let Some(magic) = read(page - 10, 10) else { break };
        let format = match magic.as_slice() {
            b"SWAP-SPACE" | b"SWAPSPACE2" => "swap",
            magic if magic.starts_with(b"S1SUSPEND") || magic.starts_with(b"S2SUSPEND") => "swsuspend",
            magic if magic.starts_with(b"ULSUSPEND") || magic.starts_with(b"LINHIB0001") => "swsuspend",
            _ => continue,
        };
        let header = read(1024, 44)?;
        // Version 1, in the byte order of the machine that wrote it.
        if magic == b"SWAPSPACE2" && !matches!(le32(&header, 0)?, 1 | 0x0100_0000) {
            return None;
        }
        return Some(found(format, part(&header, 28, 16)?, uuid(part(&header, 12, 16)?)));
    }
    None
}

fn luks(_: u64, read: Read<'_>) -> Option<Signature> {
    let header = read(0, 256)?;
    if !header.starts_with(b"LUKS\xBA\xBE") {
        return None;
    }
    let label = if part(&header, 6, 2)? == [0, 2] { part(&header, 24, 48)? } else { &[] };
    Some(found("crypto_LUKS", label, text(part(&header, 168, 40)?)))
}

fn lvm(_: u64, read: Read<'_>) -> Option<Signature> {
    for sector in 0..4_u64 {
        let Some(block) = read(sector * 512, 512) else { break };
        if !block.starts_with(b"LABELONE") || part(&block, 24, 8) != Some(b"LVM2 001") {
            continue;
        }
        let header = usize::try_from(le32(&block, 20)?).ok()?;
        let id = text(part(&block, header, 32).unwrap_or_default());
        // Groups of 6, 4, 4, 4, 4, 4 and 6 characters.
        let mut uuid = String::new();
        for (index, c) in id.chars().enumerate() {
            if matches!(index, 6 | 10 | 14 | 18 | 22 | 26) {
                uuid.push('-');
            }
            uuid.push(c);
        }
        return Some(found("LVM2_member", &[], uuid));
    }
    None
}

fn raid(size: u64, read: Read<'_>) -> Option<Signature> {
    let member = superblock(size, read)?;
    Some(Signature { format: "linux_raid_member".into(), label: member.name, uuid: member.uuid })
}

fn vfat(size: u64, read: Read<'_>) -> Option<Signature> {
    let boot = read(0, 512)?;
    let (sector, cluster) = (le16(&boot, 11)?, *boot.get(13)?);
    let (reserved, tables, media) = (le16(&boot, 14)?, *boot.get(16)?, *boot.get(21)?);
    let plausible = part(&boot, 510, 2)? == [0x55, 0xAA]
        && matches!(sector, 512 | 1024 | 2048 | 4096)
        && cluster.is_power_of_two()
        && reserved > 0
        && tables > 0
        && (media == 0xF0 || media >= 0xF8);
    if !plausible {
        return None;
    }
    if read(size.checked_sub(UNFINISHED.len() as u64)?, UNFINISHED.len())? == UNFINISHED {
        return None;
    }
    let (short, long) = (u32::from(le16(&boot, 22)?), le32(&boot, 36)?);
    let wide = short == 0;
    let (id, label, kind) = if wide { (67, 71, 82) } else { (39, 43, 54) };
    let kind = part(&boot, kind, 5)?;
    if !(kind.starts_with(b"FAT") || kind == b"MSDOS") {
        return None;
    }
    let sector = u64::from(sector);
    let data = sector * (u64::from(reserved) + u64::from(tables) * u64::from(if wide { long } else { short }));
    let (offset, len) = if wide {
        let start = u64::from(le32(&boot, 44)?).checked_sub(2)?;
        (data + start * u64::from(cluster) * sector, u64::from(cluster) * sector)
    } else {
        (data, u64::from(le16(&boot, 17)?) * 32)
    };
    let root = read(offset, usize::try_from(len.min(65536)).ok()?).unwrap_or_default();
    let label = root_label(&root).or_else(|| part(&boot, label, 11).filter(|label| *label != b"NO NAME    "));
    let id = le32(&boot, id)?;
    Some(Signature {
        format: "vfat".into(),
        label: label.map(text).unwrap_or_default().trim_end().to_owned(),
        uuid: format!("{:04X}-{:04X}", id >> 16, id & 0xFFFF),
    })
}

/// The entry of the root directory that is the label: the attribute for a label, and not one of those that long names use.
fn root_label(root: &[u8]) -> Option<&[u8]> {
    const VOLUME: u8 = 0x08;
    const LONG_NAME: u8 = 0x0F;
    const DELETED: u8 = 0xE5;
    root.chunks_exact(32)
        .take_while(|entry| entry.first() != Some(&0))
        .find(|entry| {
            let attributes = entry.get(11).copied().unwrap_or_default();
            entry.first() != Some(&DELETED) && attributes & 0x3F != LONG_NAME && attributes & 0x18 == VOLUME
        })
        .and_then(|entry| entry.get(..11))
}

/// Content that is told by its magic alone.
const MAGICS: &[(&str, u64, &[u8])] = &[
    ("ntfs", 3, b"NTFS    "),
    ("exfat", 3, b"EXFAT   "),
    ("f2fs", 1024, b"\x10\x20\xF5\xF2"),
    ("erofs", 1024, b"\xE2\xE1\xF5\xE0"),
    ("squashfs", 0, b"hsqs"),
    ("iso9660", 0x8001, b"CD001"),
    ("BitLocker", 3, b"-FVE-FS-"),
    ("bcache", 4120, b"\xC6\x85\x73\xF6\x4E\x1A\x45\xCA\x82\x65\xF5\x7F\x48\xBA\x6D\x81"),
];

fn other(_: u64, read: Read<'_>) -> Option<Signature> {
    MAGICS
        .iter()
        .find(|(_, offset, magic)| read(*offset, magic.len()).as_deref() == Some(*magic))
        .map(|(format, ..)| found(format, &[], String::new()))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn identify_bytes(bytes: &[u8]) -> Vec<Signature> {
        identify(bytes.len() as u64, &mut |offset, len| {
            let start = usize::try_from(offset).ok()?;
            bytes.get(start..start.checked_add(len)?).map(<[u8]>::to_vec)
        })
    }

    #[test]
    fn an_empty_or_tiny_device_has_none() {
        for size in [0, 1, 511, 512, 4096, 70_000] {
            assert_eq!(identify_bytes(&vec![0; size]), []);
            assert_eq!(identify_bytes(&vec![0xFF; size]), []);
        }
    }

    #[test]
    fn left_overs_come_after_what_counts() {
        let mut bytes = vec![0; 1 << 20];
        bytes[..4].copy_from_slice(b"XFSB");
        bytes[0x1_0040..0x1_0048].copy_from_slice(b"_BHRfS_M");
        bytes[1024 + 56..1024 + 58].copy_from_slice(&[0x53, 0xEF]);
        let formats: Vec<_> = identify_bytes(&bytes).into_iter().map(|found| found.format).collect();
        assert_eq!(formats, ["xfs", "ext2", "btrfs"]);
    }

    #[test]
    fn a_fat_without_a_label_has_none() {
        let mut bytes = vec![0; 1 << 20];
        bytes[11..13].copy_from_slice(&512_u16.to_le_bytes());
        (bytes[13], bytes[14], bytes[16], bytes[21], bytes[22]) = (1, 1, 2, 0xF8, 9);
        bytes[17] = 112;
        bytes[39..43].copy_from_slice(&0x1234_ABCD_u32.to_le_bytes());
        bytes[43..54].copy_from_slice(b"NO NAME    ");
        bytes[54..62].copy_from_slice(b"FAT12   ");
        bytes[510..512].copy_from_slice(&[0x55, 0xAA]);
        let expected = Signature { format: "vfat".into(), label: String::new(), uuid: "1234-ABCD".into() };
        assert_eq!(identify_bytes(&bytes), [expected]);
    }
}
