// SPDX-License-Identifier: Apache-2.0
//! Configurations as Butane writes them (`boot_device`), and what must be refused before anything is written.

use alloc::string::ToString;
use alloc::vec;

use super::*;
use crate::config;
use crate::facts::{self, Disk};
use crate::gpt::{Found, Geometry, Gpt, Table};
use crate::origin::{Source, SourceKind};
use crate::plan::{PHASES, PlannedStep};

const ROOT: &str = "11111111-2222-3333-4444-555555555555";
const BOOT: &str = "66666666-7777-8888-9999-aaaaaaaaaaaa";
const GEOMETRY: Geometry = Geometry { sector: 512, sectors: 20 << 21 };
const GIB: u64 = 1 << 30;

fn configuration(storage: &str) -> (Config, Sources) {
    let text = format!("{{\"ignition\": {{\"version\": \"3.6.0\"}},\n\"storage\": {storage}}}");
    let mut sources = Sources::default();
    sources.add(Source { name: "user.ign".into(), kind: SourceKind::User, referenced: false, sha512: String::new() });
    (config::parse(text.as_bytes(), "user.ign", Some(0)).unwrap().config, sources)
}

/// Number, first sector, sectors, type, label: as an image has them.
const IMAGE: [(u32, u64, u64, Option<Part>, &str); 4] = [
    (1, 2048, 2048, Some(Part::Bios), "BIOS-BOOT"),
    (2, 4096, 127 * 2048, Some(Part::Esp), "EFI-SYSTEM"),
    (3, 264_192, 384 * 2048, None, "boot"),
    (4, 1_050_624, 4096 * 2048, None, "root"),
];

fn disk(device: &str, partitions: &[(u32, u64, u64, Option<Part>, &str)]) -> Disk {
    let mut table = Table::fresh(GEOMETRY, Guid::derived(&[device.as_bytes()])).unwrap();
    table.partitions = partitions
        .iter()
        .map(|(number, start, sectors, part, label)| Partition {
            number: *number,
            start: *start,
            end: start + sectors - 1,
            kind: part.and_then(Part::kind).unwrap_or(Guid::LINUX_DATA),
            guid: Guid::derived(&[label.as_bytes()]),
            label: (*label).into(),
            name: None,
            attributes: 0,
        })
        .collect();
    let gpt = Gpt { table, backup: GEOMETRY.last(), hybrid: Vec::new(), flaws: Vec::new() };
    Disk {
        device: device.into(),
        node: device.into(),
        sector: GEOMETRY.sector,
        sectors: GEOMETRY.sectors,
        read_only: false,
        part_of: None,
        identity: device.into(),
        holds: Found::Gpt(gpt),
        uses: Vec::new(),
    }
}

fn old(number: u32, format: &str, uuid: &str, bytes: u64) -> Old {
    let (_, start, sectors, ..) = IMAGE[number as usize - 1];
    Old {
        node: format!("/dev/vda{number}"),
        format: format.into(),
        uuid: uuid.into(),
        bytes,
        disk: Some("/dev/vda".into()),
        start,
        sectors,
    }
}

/// The tables that the disks stage would make of an image's disk and of a blank one.
fn tables(config: &Config, sources: &Sources) -> Vec<PlannedStep> {
    let known =
        facts::Facts { disks: vec![disk("/dev/vda", &IMAGE), disk("/dev/vdb", &[])], ..facts::Facts::default() };
    PHASES[0].plan(config, &known, sources).unwrap().steps
}

fn facts(steps: &[PlannedStep]) -> Facts<'_> {
    let table = |planned: &'_ PlannedStep| matches!(planned.step, crate::plan::Step::Partition(_));
    let named = ["/dev/disk/by-partlabel/root", "/dev/disk/by-label/root", "/dev/vda4"];
    Facts {
        old: vec![
            (Part::Root, old(4, "xfs", ROOT, 2 * GIB)),
            (Part::Boot, old(3, "ext4", BOOT, GIB / 8)),
            (Part::Esp, old(2, "vfat", "", GIB / 64)),
            (Part::Bios, old(1, "", "", MIB)),
        ],
        tables: steps
            .iter()
            .filter(|planned| table(planned))
            .filter_map(|planned| match &planned.step {
                crate::plan::Step::Partition(step) => Some(step),
                _ => None,
            })
            .collect(),
        nodes: named.map(|name| (name.into(), "/dev/vda4".into())).into(),
        memory: (4 * GIB, 3 * GIB),
        note: None,
    }
}

fn planned(storage: &str, cmdline: &str, change: impl FnOnce(&mut Facts<'_>)) -> Result<Plan, Failure> {
    let (config, sources) = configuration(storage);
    let steps = tables(&config, &sources);
    let mut facts = facts(&steps);
    change(&mut facts);
    plan(&config, &sources, &Cmdline::parse(cmdline), &facts)
}

fn told(storage: &str) -> String {
    planned(storage, "ostree=/o", |_| {}).unwrap().to_string()
}

fn refused(storage: &str, words: &[&str]) {
    let failure = planned(storage, "ostree=/o", |_| {}).unwrap_err().to_string();
    for word in words {
        assert!(failure.contains(word), "{word}: {failure}");
    }
}

/// Butane's `boot_device.luks`.
const LUKS: &str = r#"{
  "luks": [{"name": "root", "device": "/dev/disk/by-partlabel/root", "label": "luks-root", "wipeVolume": true, "clevis": {"tpm2": true}}],
  "filesystems": [{"device": "/dev/mapper/root", "format": "xfs", "label": "root", "wipeFilesystem": true}]}"#;

#[test]
fn an_encrypted_root() {
    assert_eq!(
        told(LUKS),
        format!(
            "   1 take up to 2764 MiB of memory for 2048 MiB of files
   2 keep the files of the root on /dev/vda4 (xfs, 2048 MiB)
   3 write /fledge/root-in-memory on the boot file system: {ROOT}
   - the disks stage
   1 write the files of the root to /dev/mapper/root
   2 remove /fledge/root-in-memory from the boot file system
   3 give the memory back
"
        )
    );
}

fn mirror(bios: &str) -> String {
    let disk = |number: u32, device: &str| {
        format!(
            r#"{{"device": "{device}", "wipeTable": true, "partitions": [
    {bios}{{"label": "bios-{number}", "sizeMiB": 1, "typeGuid": "21686148-6449-6E6F-744E-656564454649"}},
    {{"label": "esp-{number}", "sizeMiB": 127, "typeGuid": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"}},
    {{"label": "boot-{number}", "sizeMiB": 384}}, {{"label": "root-{number}"}}]}}"#
        )
    };
    format!(
        r#"{{"disks": [{}, {}],
  "raid": [
    {{"name": "md-boot", "level": "raid1", "options": ["--metadata=1.0"], "devices": ["/dev/disk/by-partlabel/boot-1", "/dev/disk/by-partlabel/boot-2"]}},
    {{"name": "md-root", "level": "raid1", "devices": ["/dev/disk/by-partlabel/root-1", "/dev/disk/by-partlabel/root-2"]}}],
  "filesystems": [
    {{"device": "/dev/disk/by-partlabel/esp-1", "format": "vfat", "label": "esp-1", "wipeFilesystem": true}},
    {{"device": "/dev/disk/by-partlabel/esp-2", "format": "vfat", "label": "esp-2", "wipeFilesystem": true}},
    {{"device": "/dev/md/md-boot", "format": "ext4", "label": "boot", "wipeFilesystem": true}},
    {{"device": "/dev/md/md-root", "format": "xfs", "label": "root", "wipeFilesystem": true}}]}}"#,
        disk(1, "/dev/vda"),
        disk(2, "/dev/vdb")
    )
}

#[test]
fn a_mirrored_boot_device() {
    assert_eq!(
        told(&mirror("")),
        "   1 take up to 2764 MiB of memory for 2193 MiB of files
   2 keep the files of the root on /dev/vda4 (xfs, 2048 MiB)
   3 keep the files of the boot file system on /dev/vda3 (ext4, 128 MiB)
   4 keep the files of the EFI system partition on /dev/vda2 (vfat, 16 MiB)
   5 keep the BIOS boot partition /dev/vda1 and the boot code of /dev/vda
   - the disks stage
   1 write the files of the root to /dev/md/md-root
   2 write the files of the boot file system to /dev/md/md-boot
   3 write the files of the EFI system partition to /dev/disk/by-partlabel/esp-1
   4 write the files of the EFI system partition to /dev/disk/by-partlabel/esp-2
   5 write the BIOS boot partition to /dev/disk/by-partlabel/bios-1, and the boot code to its disk
   6 write the BIOS boot partition to /dev/disk/by-partlabel/bios-2, and the boot code to its disk
   7 give the memory back
"
    );
}

#[test]
fn boot_code_goes_on_where_the_partition_begins() {
    let elsewhere = mirror(r#"{"label": "first", "sizeMiB": 8},"#);
    refused(
        &elsewhere,
        &["would begin at sector 18432", "at sector 2048", "set its startMiB to 1", "$.storage.disks.0.partitions.1"],
    );
}

#[test]
fn what_leaves_the_system_alone_needs_nothing() {
    let nothing = "   - nothing is left to do\n";
    assert_eq!(
        told(r#"{"filesystems": [{"device": "/dev/vdb1", "format": "xfs", "label": "data", "wipeFilesystem": true}]}"#),
        nothing
    );
    // Kept if it is as it should be, and refused by the disks stage if not.
    assert_eq!(told(r#"{"filesystems": [{"device": "/dev/vda4", "format": "xfs", "label": "root"}]}"#), nothing);
    // A partition behind the root.
    assert_eq!(told(r#"{"disks": [{"device": "/dev/vda", "partitions": [{"label": "var"}]}]}"#), nothing);
    let (config, _) = configuration(r#"{"files": [{"path": "/a"}]}"#);
    assert!(!touches_disks(&config));
}

#[test]
fn the_image_s_partition_may_become_another() {
    // As in a test of Fedora CoreOS: swap takes the place of the root, which moves behind it.
    let text = told(
        r#"{"disks": [{"device": "/dev/vda", "partitions": [
    {"number": 4, "label": "swap", "sizeMiB": 512, "wipePartitionEntry": true}, {"number": 5, "label": "root"}]}],
  "filesystems": [
    {"device": "/dev/disk/by-partlabel/swap", "format": "swap", "wipeFilesystem": true},
    {"device": "/dev/disk/by-partlabel/root", "format": "xfs", "label": "root", "wipeFilesystem": true}]}"#,
    );
    assert!(text.contains("1 write the files of the root to /dev/disk/by-partlabel/root\n"), "{text}");
    // In its place, as something else.
    let text = told(
        r#"{"filesystems": [{"device": "/dev/disk/by-label/root", "format": "ext4", "label": "root", "wipeFilesystem": true}]}"#,
    );
    assert!(text.contains("1 write the files of the root to /dev/disk/by-label/root\n"), "{text}");
    // On disks of its own: the links of arrays go before those of partitions.
    let text = told(
        r#"{"raid": [{"name": "foobar", "level": "raid1", "devices": ["/dev/vdb", "/dev/vdc"]}],
  "filesystems": [{"device": "/dev/md/foobar", "format": "xfs", "label": "root", "wipeFilesystem": true}]}"#,
    );
    assert!(text.contains("1 write the files of the root to /dev/md/foobar\n"), "{text}");
}

#[test]
fn a_system_is_not_destroyed_without_another_in_its_place() {
    const MADE: &str = "and the root is there; none is made in its place";
    let made = |what: &'static str| [what, MADE, "label \"root\" and wipeFilesystem", "where: user.ign:2:"];
    refused(
        r#"{"disks": [{"device": "/dev/vda", "wipeTable": true}]}"#,
        &made("partition /dev/vda4 of /dev/vda is to go"),
    );
    refused(
        r#"{"disks": [{"device": "/dev/vda", "partitions": [{"number": 4, "shouldExist": false, "wipePartitionEntry": true}]}]}"#,
        &made("partition /dev/vda4 of /dev/vda is to go"),
    );
    refused(
        r#"{"filesystems": [{"device": "/dev/vda4", "format": "xfs", "label": "data", "wipeFilesystem": true}]}"#,
        &made("/dev/vda4 is to be wiped"),
    );
    refused(
        r#"{"luks": [{"name": "data", "device": "/dev/disk/by-partlabel/root", "wipeVolume": true}]}"#,
        &made("the volume \"data\" is to take /dev/vda4"),
    );
    let boot = r#"{"disks": [{"device": "/dev/vda", "partitions": [{"number": 3, "shouldExist": false, "wipePartitionEntry": true}]}]}"#;
    refused(boot, &["/dev/vda3", "the boot file system is there; none is made"]);
}

#[test]
fn nothing_is_there_twice() {
    let new = |label: &str| {
        format!(
            r#"{{"filesystems": [{{"device": "/dev/vdb1", "format": "xfs", "label": "{label}", "wipeFilesystem": true}}]}}"#
        )
    };
    refused(
        &new("root"),
        &["/dev/vdb1 is to have the label \"root\", but /dev/vda4", "shouldExist: false", "$.storage.filesystems.0"],
    );
    let volume = r#"{"luks": [{"name": "root", "device": "/dev/vdb"}],
  "filesystems": [{"device": "/dev/mapper/root", "format": "xfs", "label": "root", "wipeFilesystem": true}]}"#;
    refused(volume, &["/dev/mapper/root is to have the label \"root\", but /dev/vda4 keeps that"]);
    refused(&new("boot"), &["/dev/vdb1 is to have the label \"boot\", but /dev/vda3"]);
    refused(
        r#"{"filesystems": [{"device": "/dev/vdb1", "format": "xfs", "label": "root", "wipeFilesystem": true},
  {"device": "/dev/vdb2", "format": "xfs", "label": "root", "wipeFilesystem": true}]}"#,
        &[
            "/dev/vdb1 and /dev/vdb2 are both to be made with the label \"root\"",
            "user.ign:3:3 at $.storage.filesystems.1",
        ],
    );
    let esp = r#"{"disks": [{"device": "/dev/vdb", "partitions": [{"number": 1, "typeGuid": "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"}]}]}"#;
    refused(
        esp,
        &["EFI system partition on /dev/vdb has no label", "a label of its own", "$.storage.disks.0.partitions.0"],
    );
}

#[test]
fn memory_must_do() {
    let failure = planned(LUKS, "ostree=/o", |facts| facts.memory = (GIB, GIB / 2)).unwrap_err().to_string();
    for word in [
        "it is 2048 MiB of files",
        "of the machine's 1024 MiB of memory 512 MiB can be had",
        "2560 MiB should do",
        "nothing was written",
    ] {
        assert!(failure.contains(word), "{word}: {failure}");
    }
    let plan = planned(LUKS, "ostree=/o", |facts| facts.memory = (2 * GIB, GIB)).unwrap();
    assert!(matches!(plan.before.first(), Some(Step::Memory { limit, .. }) if *limit < GIB));
}

#[test]
fn what_a_power_cut_left_is_told() {
    let gone = |note: Option<&str>| {
        let take = |facts: &mut Facts<'_>| {
            facts.old.retain(|(part, _)| *part != Part::Root);
            facts.note = note.map(Into::into);
        };
        planned(LUKS, "ostree=/o", take).unwrap_err().to_string()
    };
    assert!(gone(Some(ROOT)).contains("cut off while the root was in memory alone"));
    for text in [gone(Some(ROOT)), gone(None)] {
        assert!(text.contains("what to do: install the system again"), "{text}");
    }
}

#[test]
fn the_new_root_is_one_that_the_command_line_finds() {
    let with = |cmdline: &str, uuid: &str| {
        let text = LUKS.replace("\"format\"", &format!("{uuid}\"format\""));
        planned(&text, cmdline, |_| {})
    };
    let step = format!("give the file system on /dev/mapper/root the UUID {ROOT}");
    let told = with(&format!("root=UUID={ROOT}"), "").unwrap().to_string();
    assert!(told.contains(&format!("1 {step}\n   2 write the files of the root to /dev/mapper/root\n")), "{told}");
    assert!(!with("root=LABEL=root", "").unwrap().to_string().contains("UUID"));
    let own = format!("\"uuid\": \"{ROOT}\", ");
    assert!(!with(&format!("root=UUID={ROOT}"), &own).unwrap().to_string().contains("give the file system"));
    for (cmdline, uuid) in [
        ("root=/dev/vda4", ""),
        ("root=UUID=0badc0de", ""),
        (&*format!("root=UUID={ROOT}"), "\"uuid\": \"0badc0de\", "),
    ] {
        let failure = with(cmdline, uuid).unwrap_err().to_string();
        assert!(
            failure.contains(&format!("says {cmdline}, which doesn't lead")) && failure.contains("take root= out"),
            "{failure}"
        );
    }
}

#[test]
fn a_root_of_many_small_groups_is_made_anew_where_it_is() {
    let plan = regrow(&facts(&[])).unwrap();
    assert!(plan.to_string().contains("1 write the files of the root to /dev/vda4\n"), "{plan}");
    let mut small = facts(&[]);
    small.memory = (GIB, GIB / 4);
    assert!(regrow(&small).is_err());
    let mut bytes = vec![0; 512];
    bytes[88..92].copy_from_slice(&401_u32.to_be_bytes());
    let read = &mut |at: u64, len: usize| {
        bytes.get(usize::try_from(at).unwrap()..).and_then(|rest| rest.get(..len)).map(<[u8]>::to_vec)
    };
    assert_eq!(allocation_groups(read), 401);
}

#[test]
fn what_is_kept_has_somewhere_to_go() {
    let small = mirror("").replace("{\"label\": \"root-2\"}", "{\"label\": \"root-2\", \"sizeMiB\": 2000}");
    refused(
        &small,
        &["/dev/md/md-root will have 2000 MiB, and the root has 2048 MiB", "make it larger", "$.storage.filesystems.3"],
    );
    let bare = mirror("").replace(
        "\"device\": \"/dev/disk/by-partlabel/esp-2\", \"format\": \"vfat\"",
        "\"device\": \"/dev/vdc\", \"format\": \"vfat\"",
    );
    refused(&bare, &["no file system is to be made on /dev/disk/by-partlabel/esp-2", "make a vfat"]);
    refused(
        &LUKS.replace("xfs", "vfat"),
        &["/dev/mapper/root is to have the format \"vfat\"", "make it ext4, xfs, btrfs"],
    );
    let circle = LUKS.replace("/dev/disk/by-partlabel/root", "/dev/mapper/root");
    assert!(
        planned(&circle, "ostree=/o", |facts| facts.nodes.push(("/dev/mapper/root".into(), "/dev/vda4".into())))
            .is_ok()
    );
}
