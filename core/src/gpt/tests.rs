// SPDX-License-Identifier: Apache-2.0
//! gptman is the independent reader; `fledge-stages` has sgdisk and sfdisk read what is written.
#![allow(clippy::cast_possible_truncation, reason = "images here are small")]
use alloc::string::ToString;
use std::io::Cursor;

use super::*;

extern crate std;

const GUID: &str = "01234567-89AB-CDEF-EDCB-A98765432101";

struct Image {
    geometry: Geometry,
    bytes: Vec<u8>,
}

impl Image {
    fn new(sector: u32, sectors: u64) -> Self {
        Self { geometry: Geometry { sector, sectors }, bytes: vec![0; sector as usize * sectors as usize] }
    }

    fn with(sector: u32, sectors: u64, table: &Table) -> Self {
        let mut image = Self::new(sector, sectors);
        image.write(table);
        let mbr = protective(image.geometry, &[]);
        image.bytes[..512].copy_from_slice(&mbr);
        image
    }

    fn put(&mut self, region: &Region) {
        let offset = region.offset as usize;
        self.bytes[offset..offset + region.bytes.len()].copy_from_slice(&region.bytes);
    }

    fn write(&mut self, table: &Table) {
        table.render(self.geometry).iter().for_each(|region| self.put(region));
    }

    fn read(&self) -> Found {
        read(self.geometry, &mut |offset, len| Some(self.bytes.get(offset as usize..offset as usize + len)?.to_vec()))
    }

    fn gpt(&self) -> Gpt {
        match self.read() {
            Found::Gpt(gpt) => gpt,
            other => panic!("{other:?}"),
        }
    }
}

fn guid(last: u8) -> Guid {
    let mut text = GUID.to_string();
    text.truncate(34);
    Guid::parse(&format!("{text}{last:02X}")).unwrap()
}

fn partition(number: u32, start: u64, end: u64, label: &str) -> Partition {
    let kind = Guid::LINUX_DATA;
    Partition {
        number,
        start,
        end,
        kind,
        guid: guid(number as u8),
        label: label.into(),
        name: None,
        attributes: 1 << 63,
    }
}

fn table(sector: u32) -> Table {
    let geometry = Geometry { sector, sectors: 4096 };
    let mut table = Table::fresh(geometry, guid(0xff)).unwrap();
    table.partitions =
        vec![partition(1, 64, 127, "boot"), partition(5, 256, 300, "häßlich 𝔾"), partition(128, 128, 255, "")];
    table
}

#[test]
fn what_is_written_is_read() {
    for sector in [512, 4096] {
        let image = Image::with(sector, 4096, &table(sector));
        assert_eq!(image.gpt(), Gpt { table: table(sector), backup: 4095, hybrid: vec![], flaws: vec![] });
    }
}

/// Both copies, each by itself.
#[test]
fn gptman_reads_the_same() {
    for sector in [512_u32, 4096] {
        for copy in [1_u64, 4095] {
            let mut image = Image::with(sector, 4096, &table(sector));
            let other = if copy == 1 { 4095 } else { 1 };
            image.bytes[other * sector as usize..][..512].fill(0);
            let read = gptman::GPT::read_from(&mut Cursor::new(&image.bytes), u64::from(sector)).unwrap();
            let wanted = table(sector);
            assert_eq!(read.header.disk_guid, wanted.guid.to_disk());
            assert_eq!((read.header.first_usable_lba, read.header.last_usable_lba), (wanted.first, wanted.last));
            assert_eq!((read.header.primary_lba, read.header.number_of_partition_entries), (copy, 128));
            let found: Vec<_> = read.iter().filter(|(_, entry)| entry.is_used()).collect();
            assert_eq!(found.len(), 3);
            for ((number, entry), partition) in found.into_iter().zip(&wanted.partitions) {
                assert_eq!(
                    (number, entry.starting_lba, entry.ending_lba),
                    (partition.number, partition.start, partition.end)
                );
                assert_eq!(entry.partition_name.as_str(), partition.label);
                assert_eq!(entry.unique_partition_guid, partition.guid.to_disk());
                assert_eq!(entry.partition_type_guid, partition.kind.to_disk());
                assert_eq!(entry.attribute_bits, partition.attributes);
            }
        }
    }
}

#[test]
fn what_gptman_writes_is_read() {
    let mut bytes = vec![0; 512 * 4096];
    let mut cursor = Cursor::new(&mut bytes);
    let mut gpt = gptman::GPT::new_from(&mut cursor, 512, guid(9).to_disk()).unwrap();
    gpt[3] = gptman::GPTPartitionEntry {
        partition_type_guid: guid(7).to_disk(),
        unique_partition_guid: guid(8).to_disk(),
        starting_lba: 2048,
        ending_lba: 2147,
        attribute_bits: 4,
        partition_name: "root".into(),
    };
    gpt.write_into(&mut cursor).unwrap();
    gptman::GPT::write_protective_mbr_into(&mut cursor, 512).unwrap();
    let image = Image { geometry: Geometry { sector: 512, sectors: 4096 }, bytes };
    let found = image.gpt();
    assert_eq!((found.flaws.as_slice(), found.table.guid), ([].as_slice(), guid(9)));
    let root = Partition { kind: guid(7), guid: guid(8), attributes: 4, ..partition(3, 2048, 2147, "root") };
    assert_eq!(found.table.partitions, [root]);
}

#[test]
fn an_array_that_stands_elsewhere_stays_there() {
    let mut wanted = table(512);
    (wanted.array, wanted.first) = (20, 52);
    let mut image = Image::with(512, 4096, &wanted);
    let secret = b"a boot loader between header and array";
    image.bytes[2 * 512..][..secret.len()].copy_from_slice(secret);
    let mut gpt = image.gpt();
    assert_eq!((&gpt.table, gpt.flaws.len()), (&wanted, 0));
    gpt.table.partitions.insert(2, partition(7, 1000, 1001, "new"));
    image.write(&gpt.table);
    assert_eq!(image.gpt().table, gpt.table);
    assert!(image.bytes[2 * 512..].starts_with(secret));
    // Even when the first header has to be made anew.
    image.bytes[512..1024].fill(0);
    assert_eq!(image.gpt().table, gpt.table);
}

/// Why it isn't gptman that writes: it puts the entries behind the header, wherever they are, and leaves the header as it is.
#[test]
fn gptman_breaks_an_array_that_stands_elsewhere() {
    let mut wanted = table(512);
    (wanted.array, wanted.first) = (20, 52);
    let mut image = Image::with(512, 4096, &wanted);
    let loader = b"a boot loader between header and array";
    image.bytes[2 * 512..][..loader.len()].copy_from_slice(loader);
    let mut gpt = gptman::GPT::read_from(&mut Cursor::new(&image.bytes), 512).unwrap();
    gpt[1].partition_name = "other".into();
    gpt.write_into(&mut Cursor::new(&mut image.bytes)).unwrap();
    assert!(!image.bytes[2 * 512..].starts_with(loader));
}

/// The beginning of the disk was overwritten: a second copy alone is told apart from one beside a damaged first.
#[test]
fn a_second_copy_may_be_a_left_over() {
    let mut image = Image::with(512, 4096, &table(512));
    image.bytes[..1 << 20].fill(0);
    image.bytes[..6].copy_from_slice(b"LUKS\xBA\xBE");
    let found = image.gpt();
    assert_eq!((found.table, found.flaws), (table(512), vec![LONE.to_string(), UNPROTECTED.to_string()]));
}

#[test]
fn either_copy_is_enough() {
    let sound = Image::with(512, 4096, &table(512));
    let (end, array) = (4095 * 512, 4063 * 512);
    for (damaged, flaw) in [
        (512, "its first copy is damaged"),
        (512 + 60, "its first copy is damaged"),
        (1024 + 40, "its first copy is damaged"),
        (end, "its second copy is damaged"),
        (end + 80, "its second copy is damaged"),
        (array + 40, "its second copy is damaged"),
        (510, UNPROTECTED),
    ] {
        let mut image = Image { bytes: sound.bytes.clone(), ..sound };
        image.bytes[damaged] ^= 1;
        let found = image.gpt();
        assert_eq!((found.table, found.flaws), (table(512), vec![flaw.to_string()]), "byte {damaged}");
        image.write(&table(512));
        image.bytes[510] = 0x55;
        assert_eq!(image.bytes, sound.bytes);
    }
    let mut image = Image { bytes: sound.bytes.clone(), ..sound };
    let mut other = table(512);
    other.partitions.pop();
    image.write(&other);
    for region in table(512).render(sound.geometry).iter().take(2) {
        image.put(region);
    }
    let found = image.gpt();
    assert_eq!((found.table, found.flaws), (other, vec!["its second copy differs from the first".to_string()]));
}

#[test]
fn what_cannot_be_relied_on_is_said() {
    let broken = |change: &dyn Fn(&mut Image)| {
        let mut image = Image::with(512, 4096, &table(512));
        change(&mut image);
        match image.read() {
            Found::Broken(why) => why,
            other => panic!("{other:?}"),
        }
    };
    let both = broken(&|image| [512, 4095 * 512].into_iter().for_each(|at| image.bytes[at + 30] ^= 1));
    assert_eq!(both, "no copy of it is whole");
    let entries = broken(&|image| {
        for at in [512, 4095 * 512] {
            image.bytes[at + 84..at + 88].copy_from_slice(&256_u32.to_le_bytes());
            image.bytes[at + 16..at + 20].fill(0);
            let crc = crc32fast::hash(&image.bytes[at..at + 92]);
            image.bytes[at + 16..at + 20].copy_from_slice(&crc.to_le_bytes());
        }
    });
    assert_eq!(entries, "its entries have 256 bytes each, and Linux reads only those of 128");
    let smaller = broken(&|image| {
        image.geometry.sectors = 2048;
        image.bytes.truncate(2048 * 512);
    });
    assert_eq!(smaller, "it was made for a disk of more than 4062 sectors, and this one has 2048");
    let beside = broken(&|image| image.bytes[450] = 0x83);
    assert_eq!(beside, "in front of it is an MBR partition table that doesn't know of it");
    let hybrid = broken(&|image| {
        image.bytes[466] = 0x83;
        image.bytes[512] = 0;
    });
    assert!(hybrid.contains("hybrid MBR"), "{hybrid}");
}

#[test]
fn a_hybrid_mbr_is_known() {
    let mut image = Image::with(512, 4096, &table(512));
    image.bytes[466] = 0x83;
    image.bytes[470..474].copy_from_slice(&64_u32.to_le_bytes());
    image.bytes[474..478].copy_from_slice(&64_u32.to_le_bytes());
    assert_eq!(image.gpt().hybrid, [Extent { start: 64, size: 64 }]);
}

#[test]
fn what_is_no_gpt() {
    let image = Image::new(512, 4096);
    assert_eq!(image.read(), Found::Nothing);
    let mut dos = Image::new(512, 4096);
    dos.bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(dos.read(), Found::Mbr);
    dos.bytes[82..87].copy_from_slice(b"FAT32");
    assert_eq!(dos.read(), Found::Nothing);
    assert_eq!(Image::new(512, 1).read(), Found::Nothing);
    assert_eq!(Image::new(512, 0).read(), Found::Nothing);
    let mut wiped = Image::with(512, 4096, &table(512));
    for region in &blank(wiped.geometry) {
        wiped.put(region);
    }
    assert_eq!(wiped.bytes, image.bytes);
}

#[test]
fn a_disk_that_was_grown() {
    let mut image = Image::with(512, 4096, &table(512));
    image.geometry.sectors = 8192;
    image.bytes.resize(8192 * 512, 0);
    let found = image.gpt();
    assert_eq!((found.backup, found.flaws.as_slice(), found.table.last), (4095, [].as_slice(), 4062));
    let mut moved = found.table;
    moved.last = 8191;
    moved.move_backup(image.geometry);
    assert_eq!((moved.last, moved.backup_array), (8158, 8159));
    assert_eq!(moved.problems(image.geometry), Vec::<String>::new());
    image.write(&moved);
    assert_eq!(image.gpt(), Gpt { table: moved, backup: 8191, hybrid: vec![], flaws: vec![] });
}

/// Units behind the end of a name, and such as are no text, stay as they are.
#[test]
fn odd_names_are_kept() {
    let mut image = Image::with(512, 4096, &table(512));
    let at = 1024 + 56;
    image.bytes[at..at + 6].copy_from_slice(&[b'a', 0, 0, 0, b'z', 0]);
    image.bytes[at + 128 * 4..][..2].copy_from_slice(&[0x00, 0xd8]);
    let crc = crc32fast::hash(&image.bytes[1024..1024 + 128 * 128]);
    image.bytes[512 + 88..512 + 92].copy_from_slice(&crc.to_le_bytes());
    image.bytes[512 + 16..512 + 20].fill(0);
    let own = crc32fast::hash(&image.bytes[512..512 + 92]);
    image.bytes[512 + 16..512 + 20].copy_from_slice(&own.to_le_bytes());
    let before = image.bytes[..34 * 512].to_vec();
    let found = image.gpt();
    assert_eq!(found.table.partitions[0].label, "a");
    assert_eq!(found.table.partitions[1].label.chars().next(), Some('\u{fffd}'));
    let text = serde_json::to_string(&Found::Gpt(found.clone())).unwrap();
    assert_eq!(serde_json::from_str::<Found>(&text).unwrap(), Found::Gpt(found.clone()), "{text}");
    image.write(&found.table);
    assert!(image.bytes[..34 * 512] == before);
}

#[test]
fn guids() {
    assert_eq!(Guid::parse(GUID).unwrap().to_string(), GUID);
    assert_eq!(Guid::parse(&GUID.to_ascii_lowercase()), Guid::parse(GUID));
    assert_eq!(Guid::LINUX_DATA.to_string(), "0FC63DAF-8483-4772-8E79-3D69D8477DE4");
    for wrong in [
        "",
        "0123",
        "01234567-89AB-CDEF-EDCB-A9876543210",
        "01234567-89AB-CDEF-EDCBA-987654321012",
        "0123456789ABCDEFEDCBA98765432101----",
        "01234567-89AB-CDEF-EDCB-A9876543210é",
    ] {
        assert_eq!(Guid::parse(wrong), None, "{wrong:?}");
    }
    let derived = Guid::derived(&[b"a", b"b"]).to_string();
    assert_ne!(derived, Guid::derived(&[b"ab", b""]).to_string());
    assert_eq!((&derived[14..15], "89AB".contains(&derived[19..20])), ("8", true), "{derived}");
}

#[test]
fn lines_for_facts_are_read_back() {
    let mut table = table(512);
    table.partitions[1].label = " two  words ".into();
    let flaws = vec!["its second copy is damaged".to_string(), "x".to_string()];
    let gpt = Gpt { table, backup: 77, hybrid: vec![Extent { start: 1, size: 2 }], flaws };
    for found in [Found::Nothing, Found::Mbr, Found::Broken("a b".into()), Found::Gpt(gpt)] {
        let lines = Vec::from(found.clone());
        assert_eq!(Found::try_from(lines.clone()), Ok(found), "{lines:?}");
    }
    for wrong in ["", "1 2 3", "gpt", "flaw x", "gpt 01234567-89AB-CDEF-EDCB-A98765432101 1 2 3 4 5"] {
        assert!(Found::try_from(vec![wrong.to_string()]).is_err(), "{wrong}");
    }
}
