// SPDX-License-Identifier: Apache-2.0
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::identity::{IMAGE, Step as IdentityStep};
use super::*;
use crate::bls::Entry;
use crate::cmdline::Cmdline;
use crate::config::Config;
use crate::gpt::{self, Found, Geometry, Gpt, Guid, Partition, Table};

mod entries;
mod growth;
mod names;

const ROOT: &str = "11111111-2222-3333-4444-555555555555";
const BOOT: &str = "66666666-7777-8888-9999-aaaaaaaaaaaa";
const OPTIONS: &str = "title X\noptions $ignition_firstboot quiet ostree=/ostree/boot.1/x/y/0\ninitrd /i\n";

fn layer(node: &str, kind: Kind) -> Layer {
    Layer { node: node.into(), kind }
}

fn partition(disk: &str, number: u32) -> Layer {
    layer(&format!("{disk}{number}"), Kind::Partition { disk: disk.into(), number })
}

#[test]
fn the_root_is_the_one_of_the_command_line() {
    for (argument, node) in [
        (None, "/dev/disk/by-label/root"),
        (Some("LABEL=other"), "/dev/disk/by-label/other"),
        (Some("UUID=1-2"), "/dev/disk/by-uuid/1-2"),
        (Some("PARTLABEL=r"), "/dev/disk/by-partlabel/r"),
        (Some("/dev/mapper/root"), "/dev/mapper/root"),
        (Some("UUID="), "/dev/disk/by-label/root"),
        (Some("UUID=../x"), "/dev/disk/by-label/root"),
        (Some("nfs:x"), "/dev/disk/by-label/root"),
    ] {
        assert_eq!(device(argument), node, "{argument:?}");
    }
    for (argument, other) in
        [(None, false), (Some(""), false), (Some("LABEL=x"), false), (Some("gpt-auto"), true), (Some("nfs:x"), true)]
    {
        assert_eq!(elsewhere(argument), argument.filter(|_| other));
    }
}

fn config(storage: &str) -> Config {
    let text = format!(r#"{{"ignition": {{"version": "3.4.0"}}, "storage": {storage}}}"#);
    crate::config::parse(text.as_bytes(), "test", None).unwrap().config
}

#[test]
fn a_root_is_made_where_its_file_system_is_wiped() {
    for (rest, is_made) in [
        (r#""label": "root", "wipeFilesystem": true"#, true),
        (r#""label": "root", "wipeFilesystem": false"#, false),
        (r#""label": "root""#, false),
        (r#""label": "other", "wipeFilesystem": true"#, false),
    ] {
        let config = config(&format!(r#"{{"filesystems": [{{"device": "/dev/x", "format": "xfs", {rest}}}]}}"#));
        assert_eq!(made(&config).is_some(), is_made, "{rest}");
    }
}

const OWN: &str = "01234567-89ab-4def-8123-456789abcdef";
const MIB: u64 = 2048;

/// The bytes of an image, written to a larger disk.
fn image_bytes(sectors: u64, guid: &str) -> Vec<u8> {
    let small = Geometry { sector: 512, sectors: 100 * MIB };
    let mut table = Table::fresh(small, Guid::parse(guid).unwrap()).unwrap();
    let part = |number: u32, start: u64, end: u64| Partition {
        number,
        start,
        end,
        kind: Guid::LINUX_DATA,
        guid: Guid::derived(&[&number.to_le_bytes()]),
        label: format!("p{number}"),
        name: None,
        attributes: 0,
    };
    table.partitions = vec![part(3, MIB, 10 * MIB - 1), part(4, 10 * MIB, 90 * MIB - 1)];
    let mut bytes = vec![0; usize::try_from(sectors * 512).unwrap()];
    let protective = gpt::Region { offset: 0, bytes: gpt::protective(small, &[]) };
    for region in table.render(small).iter().chain([&protective]) {
        write(&mut bytes, region);
    }
    bytes
}

fn write(bytes: &mut [u8], region: &gpt::Region) {
    let start = usize::try_from(region.offset).unwrap();
    bytes[start..start + region.bytes.len()].copy_from_slice(&region.bytes);
}

fn found(bytes: &[u8]) -> Found {
    let mut read = |offset: u64, len: usize| {
        let start = usize::try_from(offset).ok()?;
        bytes.get(start..start.checked_add(len)?).map(<[u8]>::to_vec)
    };
    gpt::read(Geometry { sector: 512, sectors: bytes.len() as u64 / 512 }, &mut read)
}

fn read(bytes: &[u8]) -> Gpt {
    match found(bytes) {
        Found::Gpt(gpt) => gpt,
        other => panic!("{other:?}"),
    }
}

fn image(sectors: u64, guid: &str) -> Gpt {
    read(&image_bytes(sectors, guid))
}

/// Writes the first regions of the table that is planned for what stands on a disk; all if there are fewer.
fn rewrite(bytes: &mut [u8], regions: usize) {
    let geometry = Geometry { sector: 512, sectors: bytes.len() as u64 / 512 };
    let disk = identity::Disk { holds: Found::Gpt(read(bytes)), ..identity_of(geometry.sectors, OWN) };
    let identity = identity::disk(&disk).unwrap().steps.pop().map(|step| match step {
        IdentityStep::Table { table, .. } => table,
        IdentityStep::Uuid { .. } => panic!(),
    });
    let grown = || {
        let mut facts = grow_facts(geometry.sectors);
        facts.disks[0].holds = Found::Gpt(read(bytes));
        grow::plan(&facts).unwrap().steps.into_iter().find_map(|step| match step {
            grow::Step::Partition { table, .. } => Some(table),
            _ => None,
        })
    };
    if let Some(table) = identity.or_else(grown) {
        table.render(geometry).iter().take(regions).for_each(|region| write(bytes, region));
    }
}

fn grow_facts(sectors: u64) -> grow::Facts {
    grow::Facts {
        root: FileSystem { node: "/dev/vda4".into(), format: "ext4".into(), uuid: ROOT.into() },
        used: 80 << 20,
        size: 80 << 20,
        stack: vec![layer("/dev/vda", Kind::Disk), partition("/dev/vda", 4)],
        disks: vec![grow::Disk {
            node: "/dev/vda".into(),
            geometry: Geometry { sector: 512, sectors },
            holds: Found::Gpt(image(sectors, OWN)),
            member: None,
            given: vec![],
        }],
        ..grow::Facts::default()
    }
}

fn identity_of(sectors: u64, guid: &str) -> identity::Disk {
    identity::Disk {
        node: "/dev/vda".into(),
        geometry: Geometry { sector: 512, sectors },
        holds: Found::Gpt(image(sectors, guid)),
        member: None,
        fresh: Guid::parse(OWN).unwrap(),
    }
}
