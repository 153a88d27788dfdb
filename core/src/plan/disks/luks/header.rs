// SPDX-License-Identifier: Apache-2.0
//! LUKS headers, read.
//!
//! Format: "LUKS2 On-Disk Format Specification" 1.1, sections 2 and 3; LUKS1's fields stand at the same offsets. A LUKS2 header has two
//! copies of 16 KiB to 4 MiB, each a block of 4096 bytes with a checksum of the whole, then JSON. As in libcryptsetup, the second counts
//! where the first isn't whole.

use alloc::string::String;
use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use super::{MADE_FROM, TOKEN};
use crate::facts::Volume;
use crate::json::Node;
use crate::signature::Read;

const FIRST: &[u8] = b"LUKS\xBA\xBE";
const SECOND: &[u8] = b"SKUL\xBA\xBE";
/// Where the second copy may begin: the sizes that a header may have.
const SIZES: [u64; 9] = [0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000];
const CHECKSUM: core::ops::Range<usize> = 448..512;
const JSON: usize = 4096;

/// Reads the header of a device; `None` if there is none.
pub fn read(read: Read<'_>) -> Option<Volume> {
    let first = read(0, JSON).filter(|block| block.starts_with(FIRST));
    match &first {
        Some(block) if number(block, 6..8) == Some(1) => {
            return Some(Volume { version: 1, uuid: text(block, 168..208), ..Volume::default() });
        }
        Some(block) => {
            if let Some(volume) = whole(block, 0, read) {
                return Some(volume);
            }
        }
        None => {}
    }
    let second = SIZES.iter().find_map(|offset| {
        let block = read(*offset, JSON).filter(|block| block.starts_with(SECOND))?;
        whole(&block, *offset, read)
    });
    // All that is told here stands in the first sector, which is written at once.
    second.or_else(|| Some(Volume { version: 0, ..fields(&first?) }))
}

/// The header whose first block this is, if its checksum is right.
fn whole(block: &[u8], offset: u64, read: Read<'_>) -> Option<Volume> {
    let size = number(block, 8..16).filter(|size| SIZES.contains(size))?;
    if number(block, 6..8) != Some(2) || number(block, 256..264) != Some(offset) || text(block, 72..104) != "sha256" {
        return None;
    }
    let mut all = read(offset, usize::try_from(size).ok()?)?;
    let stored: Vec<u8> = all.get(CHECKSUM)?.to_vec();
    all.get_mut(CHECKSUM)?.fill(0);
    let right = Sha256::digest(&all);
    if stored.get(..32) != Some(right.as_slice()) {
        return None;
    }
    let json = all.get(JSON..)?;
    let end = json.iter().position(|byte| *byte == 0).unwrap_or(json.len());
    let metadata = Node::parse(core::str::from_utf8(json.get(..end)?).ok()?).ok()?;
    let flags = match member(member(&metadata, "config")?, "flags") {
        Some(Node::List(flags)) => flags.iter().filter_map(string).map(Into::into).collect(),
        _ => Vec::new(),
    };
    let tokens = match member(&metadata, "tokens") {
        Some(Node::Object(tokens)) => tokens.as_slice(),
        _ => &[],
    };
    let ours = tokens.iter().find(|(_, token)| member(token, "type").and_then(string) == Some(TOKEN));
    let made_from = ours.and_then(|(_, token)| string(member(token, MADE_FROM)?)).map(Into::into);
    Some(Volume { flags, made_from, ..fields(block) })
}

fn member<'n>(node: &'n Node<'_>, name: &str) -> Option<&'n Node<'n>> {
    match node {
        Node::Object(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
        _ => None,
    }
}

fn string<'n>(node: &'n Node<'_>) -> Option<&'n str> {
    match node {
        Node::Text(text) => Some(text),
        _ => None,
    }
}

/// What the first block tells.
fn fields(block: &[u8]) -> Volume {
    Volume {
        version: 2,
        uuid: text(block, 168..208),
        label: text(block, 24..72),
        subsystem: text(block, 208..256),
        ..Volume::default()
    }
}

fn number(bytes: &[u8], range: core::ops::Range<usize>) -> Option<u64> {
    Some(bytes.get(range)?.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
}

fn text(bytes: &[u8], range: core::ops::Range<usize>) -> String {
    let field = bytes.get(range).unwrap_or_default();
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::super::MARK;
    use super::*;

    fn copy(magic: &[u8], offset: u64, subsystem: &str, json: &str) -> Vec<u8> {
        let mut bytes = vec![0; 0x4000];
        let fields: [(usize, &[u8]); 8] = [
            (0, magic),
            (6, &[0, 2]),
            (8, &0x4000_u64.to_be_bytes()),
            (24, b"Data"),
            (72, b"sha256"),
            (168, b"5ab36f4a-0000-4000-8000-000000000000"),
            (208, subsystem.as_bytes()),
            (256, &offset.to_be_bytes()),
        ];
        for (at, field) in fields.into_iter().chain([(JSON, json.as_bytes())]) {
            bytes[at..at + field.len()].copy_from_slice(field);
        }
        let sum = Sha256::digest(&bytes);
        bytes[448..480].copy_from_slice(sum.as_slice());
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Option<Volume> {
        read(&mut |offset, len| Some(bytes.get(usize::try_from(offset).unwrap()..)?.get(..len)?.to_vec()))
    }

    const PLAIN: &str = r#"{"config": {}}"#;
    const FULL: &str = r#"{"tokens": {"0": {"type": "clevis", "keyslots": ["1"], "fledge-made-from": "no"},
        "3": {"type": "fledge", "keyslots": [], "fledge-made-from": "abc"}}, "config": {"flags": ["allow-discards"]}}"#;

    #[test]
    fn both_copies_are_read_and_the_first_sector_is_enough_for_the_mark() {
        let both = [copy(FIRST, 0, "", FULL), copy(SECOND, 0x4000, "", PLAIN)].concat();
        let volume = read_bytes(&both).unwrap();
        let expected = Volume {
            version: 2,
            uuid: "5ab36f4a-0000-4000-8000-000000000000".into(),
            label: "Data".into(),
            flags: vec!["allow-discards".into()],
            made_from: Some("abc".into()),
            ..Volume::default()
        };
        assert_eq!(volume, expected);

        // Torn, or wiped as by somebody who wrote to the first sectors: the second copy counts.
        for range in [0x2000..0x2100, 0..512] {
            let mut torn = both.clone();
            torn[range].fill(0xFF);
            let volume = read_bytes(&torn).unwrap();
            assert_eq!((volume.made_from, volume.version), (None, 2));
        }

        // Power failed while luksFormat wrote: no more than a sector is there.
        let mut begun = vec![0; 1 << 16];
        begun[..512].copy_from_slice(&copy(FIRST, 0, MARK, PLAIN)[..512]);
        let volume = read_bytes(&begun).unwrap();
        assert_eq!((volume.subsystem.as_str(), volume.version), (MARK, 0));
    }

    #[test]
    fn what_is_no_header_is_none() {
        assert_eq!(read_bytes(&[]), None);
        assert_eq!(read_bytes(&vec![0; 1 << 16]), None);
        let mut one = vec![0; 4096];
        one[..8].copy_from_slice(b"LUKS\xBA\xBE\0\x01");
        assert_eq!(read_bytes(&one).unwrap().version, 1);
        let mut false_json = copy(FIRST, 0, "", "{}");
        assert_eq!(read_bytes(&false_json).unwrap().version, 0);
        false_json[6..8].copy_from_slice(&[0xFF, 0xFF]);
        assert_eq!(read_bytes(&false_json).unwrap().version, 0);
    }
}
