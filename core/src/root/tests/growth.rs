// SPDX-License-Identifier: Apache-2.0
use super::*;

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
