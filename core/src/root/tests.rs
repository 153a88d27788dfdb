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

const ROOT: &str = "11111111-2222-3333-4444-555555555555";
const BOOT: &str = "66666666-7777-8888-9999-aaaaaaaaaaaa";
const OPTIONS: &str = "title X\noptions $ignition_firstboot quiet ostree=/ostree/boot.1/x/y/0\ninitrd /i\n";

fn layer(node: &str, kind: Kind) -> Layer {
    Layer { node: node.into(), kind }
}

fn partition(disk: &str, number: u32) -> Layer {
    layer(&format!("{disk}{number}"), Kind::Partition { disk: disk.into(), number })
}

fn persist_facts() -> persist::Facts {
    let of = |node: &str, format: &str, uuid: &str| FileSystem {
        node: node.into(),
        format: format.into(),
        uuid: uuid.into(),
    };
    persist::Facts {
        root: of("/dev/vda4", "xfs", ROOT),
        stack: vec![layer("/dev/vda", Kind::Disk), partition("/dev/vda", 4)],
        boot: of("/dev/vda3", "ext4", BOOT),
        entries: vec![("ostree-1.conf".into(), Entry::new(OPTIONS)), ("ostree-2.conf".into(), Entry::new(OPTIONS))],
        loaders: vec![persist::loader(None, "/grub2", None)],
        ..persist::Facts::default()
    }
}

#[test]
fn the_default_entry_comes_last_and_the_binding_after_it() {
    let plan = persist::plan(&persist_facts()).unwrap();
    let arguments = format!("root=UUID={ROOT} rw rootflags=prjquota boot=UUID={BOOT}");
    let expected = format!(
        "   1 add to the boot entry ostree-1.conf: {arguments}
   2 add to the boot entry ostree-2.conf: {arguments}
   3 write /grub2/bootuuid.cfg on the boot file system: set BOOT_UUID=\"{BOOT}\"
   4 write /.root_uuid on the boot file system: {ROOT}
   5 write /run/coreos/bootfs_uuid: {BOOT}
   6 write /run/nestos/bootfs_uuid: {BOOT}
"
    );
    assert_eq!(plan.to_string(), expected);
    let Some(persist::Step::Entry { entry, .. }) = plan.steps.first() else { panic!() };
    assert_eq!(entry.text(), OPTIONS.replace("/y/0\n", &format!("/y/0 {arguments}\n")));
}

/// Carries out a plan on the facts alone, up to a step.
fn after(mut facts: persist::Facts, steps: usize) -> persist::Facts {
    for step in persist::plan(&facts).unwrap().steps.into_iter().take(steps) {
        match step {
            persist::Step::Entry { name, entry, .. } => {
                facts.entries.iter_mut().find(|(other, _)| *other == name).unwrap().1 = entry;
            }
            persist::Step::File { path, text, .. } if path == persist::BOUND => facts.bound = Some(text),
            persist::Step::File { path, text, .. } => {
                facts.loaders.iter_mut().find(|loader| loader.path == path).unwrap().text = Some(text);
            }
            persist::Step::Tell { .. } => {}
        }
    }
    facts
}

#[test]
fn a_power_cut_after_any_step_leaves_what_a_second_run_finishes() {
    let whole = after(persist_facts(), usize::MAX);
    for steps in 0..=6 {
        let mut cut = after(persist_facts(), steps);
        // The next boot's command line is that of the default entry.
        let default = cut.entries.last().unwrap().1.clone();
        let has = |key: &str| default.arguments().any(|argument| argument.starts_with(key));
        (cut.root_is_named, cut.boot_is_named) = (has("root="), has("boot="));
        let again = after(cut, usize::MAX);
        assert_eq!(
            (again.entries, again.bound, again.loaders),
            (whole.entries.clone(), whole.bound.clone(), whole.loaders.clone()),
            "{steps}"
        );
    }
    let mut later = whole;
    (later.root_is_named, later.boot_is_named) = (true, true);
    assert_eq!(persist::plan(&later).unwrap().to_string(), "   - nothing is left to do\n");
}

#[test]
fn a_boot_file_system_of_another_root_is_refused_before_any_step() {
    let other = "0badc0de-0000-0000-0000-000000000000";
    let facts = persist::Facts { bound: Some(format!("{other}\n")), ..persist_facts() };
    let failure = persist::plan(&facts).unwrap_err().to_string();
    for word in [other, ROOT, "/dev/vda3", "/dev/vda4", "take one out"] {
        assert!(failure.contains(word), "{word}: {failure}");
    }
    let facts = persist::Facts { bound: Some(format!("{ROOT}\n")), ..persist_facts() };
    assert!(!persist::plan(&facts).unwrap().to_string().contains(".root_uuid"));
}

#[test]
fn what_an_operator_wrote_stays() {
    let mut facts = persist_facts();
    facts.root_is_named = true;
    facts.entries = vec![("a.conf".into(), Entry::new("options root=LABEL=mine boot=LABEL=b\n"))];
    assert_eq!(
        persist::plan(&facts).unwrap().steps.iter().filter(|step| matches!(step, persist::Step::Entry { .. })).count(),
        0
    );
    // One that was started by other means, without the entries.
    facts.root_is_named = false;
    assert!(!persist::plan(&facts).unwrap().to_string().contains("boot entry"));
    facts.entries = vec![("a.conf".into(), Entry::new("options root=LABEL=mine\n"))];
    assert!(persist::plan(&facts).unwrap().to_string().contains(&format!("a.conf: boot=UUID={BOOT}\n")));
    facts.entries = vec![("a.conf".into(), Entry::new("options \"root=x\n"))];
    assert!(persist::plan(&facts).unwrap_err().to_string().contains("double quote"));
}

#[test]
fn each_root_stack_has_its_arguments() {
    let luks = |network| Kind::Luks { name: "root".into(), uuid: "5eed".into(), network };
    let raid = Kind::Raid { uuid: "0:1:2:3".into() };
    let multipath = Kind::Multipath { wwid: "3600".into() };
    let two = || {
        vec![
            layer("/dev/vda", Kind::Disk),
            partition("/dev/vda", 1),
            layer("/dev/vdb", Kind::Disk),
            partition("/dev/vdb", 1),
        ]
    };
    let tail = format!("root=UUID={ROOT} rw");
    let cases: [(Vec<Layer>, &str, String); 7] = [
        (two(), "ext4", tail.clone()),
        ([two(), vec![layer("/dev/md127", raid.clone())]].concat(), "ext4", format!("rd.md.uuid=0:1:2:3 {tail}")),
        (
            [two(), vec![layer("/dev/md127", raid), layer("/dev/dm-0", luks(false))]].concat(),
            "xfs",
            format!("rd.md.uuid=0:1:2:3 rd.luks.name=5eed=root {tail} rootflags=prjquota"),
        ),
        (
            [two(), vec![layer("/dev/dm-0", Kind::Integrity), layer("/dev/dm-1", luks(true))]].concat(),
            "btrfs",
            format!("rd.luks.name=5eed=root rd.neednet=1 rd.luks.options=_netdev {tail}"),
        ),
        (
            vec![layer("/dev/dm-0", multipath.clone()), partition("/dev/dm-0", 4)],
            "ext4",
            format!("mpath.wwid=3600 root=/dev/disk/by-uuid/dm-mpath-{ROOT} rw"),
        ),
        (
            vec![layer("/dev/dm-0", multipath), partition("/dev/dm-0", 4), layer("/dev/dm-1", luks(false))],
            "ext4",
            format!("mpath.wwid=3600 rd.luks.name=5eed=root {tail}"),
        ),
        (vec![], "ext4", tail),
    ];
    for (stack, format, expected) in cases {
        let root = FileSystem { format: format.into(), ..persist_facts().root };
        let mut facts = persist::Facts { root, stack, multipath_is_linked: true, ..persist_facts() };
        assert_eq!(persist::arguments(&facts).unwrap().join(" "), expected);
        // A link that nobody makes would never be found.
        facts.multipath_is_linked = false;
        let expected = expected.replace("/dev/disk/by-uuid/dm-mpath-", "UUID=");
        assert_eq!(persist::arguments(&facts).unwrap().join(" "), expected);
    }
    let facts = persist::Facts { options: Some("noatime".into()), ..persist_facts() };
    assert_eq!(persist::arguments(&facts).unwrap().last().unwrap(), "rootflags=noatime");
    let facts = persist::Facts { stack: vec![layer("/dev/dm-3", Kind::Other("LVM-x".into()))], ..persist_facts() };
    assert!(persist::plan(&facts).unwrap_err().to_string().contains("/dev/dm-3, which is LVM-x"));
    let named = persist::Facts { root_is_named: true, ..facts.clone() };
    assert!(!persist::plan(&named).unwrap().to_string().contains("root="));
    let facts = persist::Facts { root: FileSystem { uuid: String::new(), ..facts.root }, ..persist_facts() };
    assert!(persist::plan(&facts).unwrap_err().to_string().contains("has no UUID"));
}

#[test]
fn crypttab_tells_who_needs_the_network() {
    let table = "# root x\n\nroot UUID=1 none luks,_netdev\nvar UUID=2\n home UUID=3 /etc/key discard,no_netdev\n";
    let told = ["root", "var", "home", "swap"].map(|name| persist::needs_network(table, name));
    assert_eq!(told, [Some(true), Some(false), Some(false), None]);
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

#[test]
fn a_power_cut_between_the_writes_of_a_table_loses_no_partition() {
    // The first rewrite gives the disk its GUID, the second grows the root.
    let mut whole = image_bytes(200 * MIB, IMAGES);
    rewrite(&mut whole, 4);
    let named = whole.clone();
    rewrite(&mut whole, 4);
    assert_ne!(read(&named).table, read(&whole).table);
    for start in [image_bytes(200 * MIB, IMAGES), named] {
        for regions in 0..4 {
            let mut bytes = start.clone();
            rewrite(&mut bytes, regions);
            assert_eq!(read(&bytes).table.partitions.len(), 2, "{regions}");
            // One for each of the two, and one for what was cut off.
            for _ in 0..3 {
                rewrite(&mut bytes, 4);
            }
            assert_eq!(read(&bytes), read(&whole), "{regions}");
        }
    }
}

const IMAGES: &str = "00000000-0000-4000-a000-000000000001";
const OWN: &str = "01234567-89ab-4def-8123-456789abcdef";

fn identity_of(sectors: u64, guid: &str) -> identity::Disk {
    identity::Disk {
        node: "/dev/vda".into(),
        geometry: Geometry { sector: 512, sectors },
        holds: Found::Gpt(image(sectors, guid)),
        member: None,
        fresh: Guid::parse(OWN).unwrap(),
    }
}

#[test]
fn the_boot_disk_gets_its_own_guid_and_its_second_table_moves_to_the_end() {
    let lines = [(100, OWN), (100, IMAGES), (200, OWN), (200, IMAGES)]
        .map(|(mebibytes, guid)| identity::disk(&identity_of(mebibytes * MIB, guid)).unwrap().to_string());
    let upper = OWN.to_uppercase();
    assert_eq!(
        lines,
        [
            "   - nothing is left to do\n".to_owned(),
            format!("   1 write the partition table of /dev/vda, with the GUID {upper}\n"),
            "   1 write the partition table of /dev/vda, its second copy at the end of the disk\n".into(),
            format!(
                "   1 write the partition table of /dev/vda, with the GUID {upper}, its second copy at the end of the disk\n"
            ),
        ]
    );
    let plan = identity::disk(&identity_of(200 * MIB, IMAGES)).unwrap();
    let [IdentityStep::Table { table, .. }] = plan.steps.as_slice() else { panic!() };
    assert_eq!((table.last, table.backup_array), (200 * MIB - 34, 200 * MIB - 33));
    assert_eq!(table.partitions, image(200 * MIB, IMAGES).table.partitions);

    let broken = identity::Disk { holds: Found::Broken("it is damaged".into()), ..identity_of(100 * MIB, OWN) };
    assert!(identity::disk(&broken).unwrap_err().to_string().contains("/dev/vda: it is damaged"));
    let flawed = |flaw: &str| {
        let gpt = Gpt { flaws: vec![flaw.into()], ..image(100 * MIB, OWN) };
        identity::disk(&identity::Disk { holds: Found::Gpt(gpt), ..identity_of(100 * MIB, OWN) })
    };
    let repaired = flawed("its second copy is damaged").unwrap().to_string();
    assert_eq!(repaired, "   1 write the partition table of /dev/vda; its second copy is damaged\n");
    assert!(flawed(gpt::LONE).unwrap_err().to_string().contains(gpt::LONE));
    for holds in [Found::Nothing, Found::Mbr] {
        let plan = identity::disk(&identity::Disk { holds, ..identity_of(100 * MIB, OWN) }).unwrap();
        assert_eq!(plan.to_string(), "   - /dev/vda has no GPT: it stays as it is\n");
    }
}

#[test]
fn metadata_of_an_array_at_the_end_of_a_disk_are_written_over_by_fresh_images_alone() {
    let member = Some("an array of Intel's firmware".to_owned());
    let of = |sectors: u64, guid: &str| {
        let disk = identity::Disk { member: member.clone(), ..identity_of(sectors, guid) };
        identity::disk(&disk).unwrap()
    };
    let plan = of(200 * MIB, OWN);
    assert_eq!(plan.steps, []);
    assert!(plan.to_string().contains("/dev/vda ends with the metadata of an array of Intel's firmware"), "{plan}");
    assert_eq!(of(200 * MIB, IMAGES).steps.len(), 1);

    let mut facts = grow_facts(200 * MIB);
    facts.disks[0].member = member;
    assert_eq!(
        grow::plan(&facts).unwrap().to_string(),
        "   - the disk ends with the metadata of an array of Intel's firmware: partition 4 of /dev/vda stays\n"
    );
}

#[test]
fn a_disk_with_an_mbr_and_what_is_left_of_an_older_table_stays() {
    let mut bytes = image_bytes(100 * MIB, OWN);
    // A partition of Linux, in front of the second copy.
    bytes[..512 * 34].fill(0);
    bytes[450] = 0x83;
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let holds = found(&bytes);
    assert_eq!(holds, Found::Mbr);
    let mut facts = grow_facts(100 * MIB);
    facts.disks[0].holds = holds;
    assert_eq!(grow::plan(&facts).unwrap().to_string(), "   - no GPT: partition 4 of /dev/vda stays\n");
}

#[test]
fn only_the_uuids_of_the_image_change() {
    let on = |format: &str, uuid: &str, cmdline: &str| {
        let of = FileSystem { node: "/dev/vda4".into(), format: format.into(), uuid: uuid.into() };
        identity::file_system(&of, OWN, &Cmdline::parse(cmdline)).to_string()
    };
    let plan = |format: &str, uuid: &str| on(format, uuid, "root=LABEL=root");
    let named = on("xfs", IMAGE[1], &format!("root=UUID={}", IMAGE[1]));
    assert!(named.contains("the command line has the UUID"), "{named}");
    for format in ["ext4", "xfs", "btrfs"] {
        assert_eq!(plan(format, IMAGE[1]), format!("   1 change the UUID of the {format} on /dev/vda4 to {OWN}\n"));
    }
    for (format, uuid) in [("ext4", ROOT), ("xfs", ""), ("squashfs", IMAGE[0])] {
        assert_eq!(plan(format, uuid), "   - nothing is left to do\n");
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

#[test]
fn the_root_grows_to_the_end_of_its_disk() {
    let facts = grow_facts(200 * MIB);
    let plan = grow::plan(&facts).unwrap();
    assert_eq!(
        plan.to_string(),
        "   1 grow partition 4 of /dev/vda by 109 MiB
   2 erase signatures of other formats than ext4 from /dev/vda4
   3 grow the ext4 on /dev/vda4 to its device
"
    );
    let Some(grow::Step::Partition { table, .. }) = plan.steps.first() else { panic!() };
    let grown = table.partition(4).unwrap();
    assert_eq!((grown.start, grown.end), (10 * MIB, 200 * MIB - 40 - 1));
    assert_eq!(grown.size() % 8, 0);
    // What is erased first is at the end of what is gained.
    let grow::Step::Partition { tail: (start, len), .. } = &plan.steps[0] else { panic!() };
    assert_eq!((start + len, *len), ((grown.end + 1) * 512, 1 << 20));
    assert!(*start > 90 * MIB * 512);
    assert_eq!(table.partition(3), image(200 * MIB, OWN).table.partition(3));

    // A power cut after the table was written.
    let mut grown = facts;
    grown.disks[0].holds =
        Found::Gpt(Gpt { table: table.clone(), backup: 200 * MIB - 1, hybrid: vec![], flaws: vec![] });
    grown.size = 189 << 20;
    assert_eq!(grow::plan(&grown).unwrap().steps, plan.steps[1..]);
    grown.used = grown.size;
    assert_eq!(grow::plan(&grown).unwrap().to_string(), "   - nothing is left to do\n");
}

#[test]
fn a_partition_grows_up_to_the_next_and_not_at_all_where_the_configuration_says() {
    let mut facts = grow_facts(200 * MIB);
    let Found::Gpt(gpt) = &mut facts.disks[0].holds else { panic!() };
    // Numbers aren't places.
    let next = Partition { number: 1, start: 120 * MIB, end: 130 * MIB, ..gpt.table.partitions[0].clone() };
    gpt.table.last = 200 * MIB - 34;
    gpt.table.partitions.push(next);
    assert!(grow::plan(&facts).unwrap().to_string().contains("by 30 MiB"));
    facts.laid_out = true;
    assert_eq!(grow::plan(&facts).unwrap().steps, []);
}

#[test]
fn a_partition_whose_size_the_configuration_gives_stays() {
    let stays = |partition: &str| {
        let mut facts = grow_facts(200 * MIB);
        let disks = format!(r#"{{"disks": [{{"device": "/dev/vda", "partitions": [{partition}]}}]}}"#);
        facts.disks[0].given = config(&disks).storage.disks.remove(0).partitions;
        let plan = grow::plan(&facts).unwrap();
        assert_eq!(plan.steps.is_empty(), plan.to_string().contains("the configuration gives its size"), "{plan}");
        plan.steps.is_empty()
    };
    assert!(stays(r#"{"number": 4, "sizeMiB": 100, "resize": true}"#));
    assert!(stays(r#"{"label": "p4", "sizeMiB": 100}"#));
    for other in [
        r#"{"number": 4, "sizeMiB": 0, "resize": true}"#,
        r#"{"number": 4, "label": "root"}"#,
        r#"{"number": 5, "sizeMiB": 100}"#,
        r#"{"label": "p5", "sizeMiB": 100}"#,
    ] {
        assert!(!stays(other), "{other}");
    }
}

fn raid() -> Kind {
    Kind::Raid { uuid: String::new() }
}

fn array(room: u64) -> grow::Array {
    grow::Array { node: "/dev/md127".into(), room }
}

/// A root on LUKS on dm-integrity on an array, if it has such a layer.
fn stacked(sectors: u64, integrity: bool) -> grow::Facts {
    let mut facts = grow_facts(sectors);
    facts.stack.push(layer("/dev/md127", raid()));
    if integrity {
        facts.stack.push(layer("/dev/dm-0", Kind::Integrity));
    }
    facts.stack.push(layer("/dev/dm-1", Kind::Luks { name: "root".into(), uuid: String::new(), network: false }));
    facts.root = FileSystem { node: "/dev/dm-1".into(), format: "btrfs".into(), uuid: ROOT.into() };
    facts
}

/// The same without dm-integrity, in a partition that has nothing behind it.
fn full() -> grow::Facts {
    let mut facts = stacked(200 * MIB, false);
    let Found::Gpt(gpt) = &mut facts.disks[0].holds else { panic!() };
    gpt.table.move_backup(Geometry { sector: 512, sectors: 200 * MIB });
    gpt.table.partitions[1].end = gpt.table.last;
    gpt.backup = 200 * MIB - 1;
    facts
}

#[test]
fn all_that_the_root_is_made_of_grows_from_the_lowest() {
    for integrity in [false, true] {
        let facts = grow::Facts { arrays: vec![array(0)], ..stacked(200 * MIB, integrity) };
        assert_eq!(
            grow::plan(&facts).unwrap().to_string(),
            "   1 grow partition 4 of /dev/vda by 109 MiB
   2 grow the array /dev/md127 to its devices
   3 grow the encrypted volume \"root\" to its device /dev/md127
   4 erase signatures of other formats than btrfs from /dev/dm-1
   5 grow the btrfs on /dev/dm-1 to its device
"
        );
    }
}

#[test]
fn arrays_and_volumes_are_asked_for_nothing_that_they_cannot_give() {
    let steps = |facts: grow::Facts| grow::plan(&facts).unwrap().to_string();
    let nothing = "   - nothing is left to do\n";
    // As large as it can be: no array that resyncs, no passphrase.
    assert_eq!(steps(grow::Facts { arrays: vec![array(0)], ..full() }), nothing);
    // Power was cut when the partition had grown.
    let half = steps(grow::Facts { arrays: vec![array(100 << 20)], ..full() });
    assert!(
        half.starts_with("   1 grow the array /dev/md127 to its devices\n   2 grow the encrypted volume"),
        "{half}"
    );
    // The configuration has made it.
    assert_eq!(
        steps(grow::Facts { arrays: vec![array(100 << 20)], laid_out: true, ..stacked(200 * MIB, false) }),
        nothing
    );
    // raid0, or metadata at the end of each device.
    assert_eq!(steps(stacked(200 * MIB, false)), "   - the array /dev/md127 can't grow: /dev/vda4 stays\n");
}

#[test]
fn a_root_that_cannot_grow_is_refused_unless_it_is_named() {
    let mut facts = grow_facts(200 * MIB);
    facts.root.format = "f2fs".into();
    let lvm = layer("/dev/dm-3", Kind::Other("LVM-x".into()));
    let on_lvm = grow::Facts { stack: vec![lvm], ..grow_facts(200 * MIB) };
    for (mut facts, why) in [(facts, "growing \"f2fs\" on /dev/vda4"), (on_lvm, "/dev/dm-3, which is LVM-x")] {
        assert!(grow::plan(&facts).unwrap_err().to_string().contains(why));
        facts.root_is_named = true;
        let plan = grow::plan(&facts).unwrap();
        assert_eq!(plan.steps, []);
        assert!(plan.to_string().contains(why), "{plan}");
    }
}
