// SPDX-License-Identifier: Apache-2.0
//! "Partition Matching" and its sections in Ignition's operator notes, row by row.

use super::*;
use crate::facts::Use;

fn two() -> [Partition; 2] {
    [partition(1, 2048, 204_800, "one"), partition(2, 206_848, 204_800, "two")]
}

/// The matrix: is it there, should it be, does it match, may it be wiped or resized?
#[test]
fn the_table_of_the_operator_notes() {
    let there = "1:one 2048-206847, 2:two 206848-411647";
    for (partitions, expected) in [
        // Not there, not wanted.
        (r#"{"number": 3, "shouldExist": false}"#, format!("{there}, as it is")),
        (r#"{"number": 3, "shouldExist": false, "wipePartitionEntry": true}"#, format!("{there}, as it is")),
        // Not there, wanted.
        (r#"{"number": 3, "sizeMiB": 1, "label": "x"}"#, format!("make 3, {there}, 3:x 411648-413695, write")),
        // There, not wanted.
        (
            r#"{"number": 1, "shouldExist": false}"#,
            "refused: deleting partition 1: it exists, and wipePartitionEntry isn't set".into(),
        ),
        (
            r#"{"number": 1, "shouldExist": false, "wipePartitionEntry": true}"#,
            "delete one 1, 2:two 206848-411647, write".into(),
        ),
        // There, matching.
        (r#"{"number": 1}"#, format!("keep 1, {there}, as it is")),
        (r#"{"number": 1, "label": "one", "startMiB": 1, "sizeMiB": 100}"#, format!("keep 1, {there}, as it is")),
        (
            r#"{"number": 1, "label": "one", "startMiB": 1, "sizeMiB": 100, "wipePartitionEntry": true}"#,
            format!("keep 1, {there}, as it is"),
        ),
        (
            r#"{"number": 1, "guid": "", "typeGuid": "0fc63daf-8483-4772-8e79-3d69d8477de4"}"#,
            format!("keep 1, {there}, as it is"),
        ),
        // There, not matching.
        (
            r#"{"number": 1, "label": "x"}"#,
            "refused: using partition 1 \"x\" as it is: its label is \"one\", not \"x\"".into(),
        ),
        (
            r#"{"number": 1, "label": "", "startMiB": 2, "sizeMiB": 1}"#,
            "refused: using partition 1 \"\" as it is: it starts at sector 2048, not 4096, its label is \"one\", not \"\", it has 204800 sectors, not 2048".into(),
        ),
        (
            r#"{"number": 2, "label": "x", "sizeMiB": 50, "wipePartitionEntry": true, "startMiB": 101}"#,
            "replace two 2, 1:one 2048-206847, 2:x 206848-309247, write".into(),
        ),
        // Only the size differs.
        (
            r#"{"number": 2, "label": "two", "sizeMiB": 200}"#,
            "refused: using partition 2 \"two\" as it is: it has 204800 sectors, not 409600".into(),
        ),
        (
            r#"{"number": 2, "label": "two", "sizeMiB": 200, "resize": true}"#,
            "resize from 204800 2, 1:one 2048-206847, 2:two 206848-616447, write".into(),
        ),
        (
            r#"{"number": 2, "label": "two", "sizeMiB": 0, "resize": true}"#,
            "resize from 204800 2, 1:one 2048-206847, 2:two 206848-4194270, write".into(),
        ),
        (
            r#"{"number": 2, "label": "x", "sizeMiB": 200, "resize": true}"#,
            "refused: using partition 2 \"x\" as it is: its label is \"two\", not \"x\", it has 204800 sectors, not 409600".into(),
        ),
        (
            r#"{"number": 1, "sizeMiB": 200, "resize": true}"#,
            "refused: finding room for partition 1 on /dev/vdb: its sectors 2048 to 411647 would reach into partition 2".into(),
        ),
    ] {
        assert_eq!(told(partitions, &two()), expected, "{partitions}");
    }
}

/// What isn't said about a partition that is there is as it is; what is said to be 0 is found anew.
#[test]
fn unsaid_and_zero() {
    let there = [partition(1, 4096, 2048, "one")];
    for (partitions, expected) in [
        (r#"{"number": 1, "sizeMiB": 1}"#, "keep 1, 1:one 4096-6143, as it is"),
        (
            r#"{"number": 1, "startMiB": 0, "sizeMiB": 1}"#,
            "refused: using partition 1 as it is: it starts at sector 4096, not 2048",
        ),
        (
            r#"{"number": 1, "startMiB": 2, "sizeMiB": 0}"#,
            "refused: using partition 1 as it is: it has 2048 sectors, not 4190175",
        ),
        (r#"{"number": 1, "label": "x", "wipePartitionEntry": true}"#, "replace one 1, 1:x 2048-4194270, write"),
        (
            r#"{"number": 1, "label": "x", "sizeMiB": 4, "wipePartitionEntry": true}"#,
            "replace one 1, 1:x 2048-10239, write",
        ),
    ] {
        assert_eq!(told(partitions, &there), expected, "{partitions}");
    }
}

#[test]
fn numbers_are_the_next_free_ones_and_those_without_come_last() {
    let there = [partition(2, 2048, 2048, "two"), partition(4, 4096, 2048, "four")];
    let named =
        r#"{"label": "a", "sizeMiB": 1}, {"number": 1, "label": "one", "sizeMiB": 1}, {"label": "b", "sizeMiB": 1}"#;
    assert_eq!(
        told(named, &there),
        "make 1, make 3, make 5, 1:one 6144-8191, 2:two 2048-4095, 3:a 8192-10239, 4:four 4096-6143, 5:b 10240-12287, write"
    );
    // A number that becomes free is the next one; what has it may only be replaced, as in Ignition.
    let four = r#"{"number": 4, "shouldExist": false, "wipePartitionEntry": true}"#;
    let three = r#"{"label": "a", "sizeMiB": 1}, {"label": "b", "sizeMiB": 1}, {"label": "c", "sizeMiB": 2"#;
    assert_eq!(
        told(&format!("{four}, {three}}}"), &there),
        "refused: using partition 4 \"c\" as it is: it starts at sector 4096, not 8192, its label is \"four\", not \"c\", it has 2048 sectors, not 4096"
    );
    assert_eq!(
        told(&format!("{four}, {three}, \"wipePartitionEntry\": true}}"), &there),
        "make 1, make 3, replace four 4, 1:a 4096-6143, 2:two 2048-4095, 3:b 6144-8191, 4:c 8192-12287, write"
    );
    let full: Vec<_> = (1..=128).map(|number| partition(number, u64::from(number) * 2048, 2048, "")).collect();
    assert_eq!(
        told(r#"{"label": "a"}"#, &full),
        "refused: finding room for partition 129 \"a\" on /dev/vdb: the table has room for 128 partitions"
    );
}

#[test]
fn where_sgdisk_would_put_it() {
    // Two free blocks of the same size: the first counts. The last one is larger until something is in it.
    let there = [
        partition(1, 2048, 2048, ""),
        partition(2, 40_960, 2048, ""),
        partition(3, 79_872, 2_017_280, ""),
        partition(4, 2_099_200, 2_095_070, ""),
    ];
    assert!(
        told(r#"{"number": 5}, {"number": 6, "sizeMiB": 3}, {"number": 7}"#, &there)
            .ends_with(" 5: 4096-40959, 6: 43008-49151, 7: 49152-79871, write")
    );
    // The alignment is that of what was there.
    let there = [partition(1, 40, 24, "")];
    assert_eq!(told(r#"{"number": 2, "sizeMiB": 1}"#, &there), "make 2, 1: 40-63, 2: 64-2111, write");
}

fn refusal(disks: &str, disk: Disk) -> String {
    let failures = steps(disks, &facts(disk)).expect_err("a refusal");
    assert!(failures.iter().all(|failure| failure.place.is_some() && failure.remedy.is_some()), "{failures:?}");
    failures.iter().map(|failure| format!("{}: {}", failure.what, failure.why)).collect::<Vec<_>>().join("\n")
}

fn used(number: Option<u32>, device: &str, how: &str) -> Disk {
    let mut disk = disk(DISK, Found::Gpt(gpt(DISK, &two())));
    disk.uses.push(Use { number, device: device.into(), how: how.into() });
    disk
}

#[test]
fn what_is_in_use_is_not_changed() {
    let one = |rest: &str| format!(r#"[{{"device": "/dev/vdb", "partitions": [{rest}]}}]"#);
    let mounted = || used(Some(1), "/dev/vdb1", "mounted at /var");
    for partitions in [
        r#"{"number": 1, "sizeMiB": 50, "resize": true}"#,
        r#"{"number": 1, "label": "x", "wipePartitionEntry": true}"#,
        r#"{"number": 1, "shouldExist": false, "wipePartitionEntry": true}"#,
    ] {
        assert_eq!(
            refusal(&one(partitions), mounted()),
            "changing partition 1 of /dev/vdb: /dev/vdb1 is in use: it is mounted at /var"
        );
    }
    assert_eq!(
        refusal(r#"[{"device": "/dev/vdb", "wipeTable": true}]"#, mounted()),
        "wiping the partition table of /dev/vdb: /dev/vdb1 is in use: it is mounted at /var"
    );
    assert_eq!(
        refusal(&one(r#"{"number": 1}"#), used(None, "/dev/vdb", "held by md127")),
        "partitioning /dev/vdb: the disk /dev/vdb is in use as a whole: it is held by md127"
    );
    // Beside it, and the partition itself as it is: both are fine.
    for partitions in [
        r#"{"number": 1, "label": "one"}, {"number": 3, "label": "new"}"#,
        r#"{"number": 2, "shouldExist": false, "wipePartitionEntry": true}"#,
    ] {
        assert!(steps(&one(partitions), &facts(mounted())).unwrap()[0].write);
    }
}

#[test]
fn wiping_makes_the_table_anew_once() {
    let config = r#"[{"device": "/dev/vdb", "wipeTable": true, "partitions": [{"label": "a", "sizeMiB": 8}, {"number": 1, "label": "b", "sizeMiB": 8}]}]"#;
    for holds in [Found::Nothing, Found::Mbr, Found::Broken("x".into()), Found::Gpt(gpt(DISK, &two()))] {
        let mut known = facts(disk(DISK, holds));
        let step = steps(config, &known).unwrap().remove(0);
        assert_eq!(brief(&step), "make 1, make 2, 1:b 2048-18431, 2:a 18432-34815, write");
        assert_eq!(step.mbr, Mbr::Fresh);
        apply(&crate::plan::Step::Partition(step), &mut known);
        // Even when something holds them by now, as an assembled array would.
        let held = Use { number: Some(1), device: "/dev/vdb1".into(), how: "held by md0".into() };
        known.disks[0].uses.push(held);
        assert_eq!(
            brief(&steps(config, &known).unwrap()[0]),
            "keep 1, keep 2, 1:b 2048-18431, 2:a 18432-34815, as it is"
        );
    }
    let wipe =
        steps(r#"[{"device": "/dev/vdb", "wipeTable": true}]"#, &facts(disk(DISK, Found::Mbr))).unwrap().remove(0);
    assert_eq!((wipe.table, wipe.write), (None, true));
}

#[test]
fn disks_that_are_not_fit() {
    let config = r#"[{"device": "/dev/vdb", "partitions": [{"number": 1, "label": "a"}]}]"#;
    let blank = |sectors| disk(Geometry { sector: 512, sectors }, Found::Nothing);
    for (disk, expected) in [
        (blank(67), "partitioning /dev/vdb: the disk is too small for a partition table: it has 67 sectors"),
        (blank(0), "partitioning /dev/vdb: the disk is too small for a partition table: it has 0 sectors"),
        (
            Disk { read_only: true, ..blank(4096) },
            "partitioning /dev/vdb: the disk can't be written to: it is read-only",
        ),
        (
            Disk { part_of: Some("/dev/vdb".into()), node: "/dev/vdb1".into(), ..blank(4096) },
            "partitioning /dev/vdb: /dev/vdb1 is no disk but a partition of /dev/vdb",
        ),
        (
            disk(DISK, Found::Mbr),
            "partitioning /dev/vdb: it has an MBR partition table, and only GUID partition tables can be changed",
        ),
        (
            disk(DISK, Found::Broken("no copy of it is whole".into())),
            "partitioning /dev/vdb: its GUID partition table can't be relied on: no copy of it is whole",
        ),
    ] {
        assert_eq!(refusal(config, disk), expected);
    }
    // Just large enough for the table, and for one partition.
    assert!(steps(config, &facts(blank(68))).is_ok());
    let gone = Facts { devices: [("/dev/vdb".into(), crate::facts::Device::default())].into(), ..Facts::default() };
    assert!(steps(config, &gone).unwrap_err()[0].why.contains("did not appear"));
    // Nothing to write, and nothing that can't be written to then.
    let holds = Found::Gpt(gpt(DISK, &[partition(1, 2048, 2048, "a")]));
    assert!(!steps(config, &facts(Disk { read_only: true, ..disk(DISK, holds) })).unwrap()[0].write);
}

#[test]
fn flaws_are_repaired_and_hybrid_mbrs_kept_or_refused() {
    let config =
        r#"[{"device": "/dev/vdb", "partitions": [{"number": 1, "label": "one", "sizeMiB": 10, "resize": true}]}]"#;
    let keep = config.replace("10", "100");
    let mut flawed = gpt(DISK, &two());
    flawed.flaws.push("its second copy is damaged".into());
    let step = steps(&keep, &facts(disk(DISK, Found::Gpt(flawed.clone())))).unwrap().remove(0);
    assert_eq!((step.write, step.mbr, step.repairs.len()), (true, Mbr::Keep, 1));
    assert!(step.to_string().contains("its second copy is damaged: repair it"), "{step}");
    flawed.flaws = vec![UNPROTECTED.into()];
    assert_eq!(steps(&keep, &facts(disk(DISK, Found::Gpt(flawed)))).unwrap()[0].mbr, Mbr::Protective);

    let mut hybrid = gpt(DISK, &two());
    hybrid.hybrid.push(crate::gpt::Extent { start: 206_848, size: 204_800 });
    assert_eq!(steps(config, &facts(disk(DISK, Found::Gpt(hybrid.clone())))).unwrap()[0].mbr, Mbr::Keep);
    hybrid.hybrid[0].start = 2048;
    assert_eq!(
        refusal(config, disk(DISK, Found::Gpt(hybrid.clone()))),
        "partitioning /dev/vdb: partition 1 stands in its hybrid MBR too, which Fledge doesn't change"
    );
    assert!(!steps(&keep, &facts(disk(DISK, Found::Gpt(hybrid)))).unwrap()[0].write);
}

/// A partition that this configuration made has the size that it says, where it may be resized, once the disk has more room.
#[test]
fn what_we_made_grows_with_its_disk() {
    let config = r#"[{"device": "/dev/vdb", "partitions": [{"number": 1, "sizeMiB": 100}, {"number": 2, "sizeMiB": 0, "resize": true}]}]"#;
    let made = steps(config, &facts(disk(DISK, Found::Nothing))).unwrap().remove(0).table.unwrap();
    let grown = Geometry { sectors: DISK.sectors * 2, ..DISK };
    let mut table = made.clone();
    table.last = grown.last();
    table.move_backup(grown);
    let holds = |table: Table| Found::Gpt(Gpt { table, backup: grown.last(), hybrid: Vec::new(), flaws: Vec::new() });
    let step = steps(config, &facts(disk(grown, holds(table.clone())))).unwrap().remove(0);
    let (last, before) = (table.last, made.partition(2).unwrap().size());
    assert_eq!(step.changes[1].deed, Deed::Resize { from: before });
    let after = step.table.unwrap();
    assert_eq!(
        (after.partition(1), after.partition(2).unwrap().end),
        (made.partition(1), last / 2048 * 2048 + last % 2048)
    );
    assert!(!steps(config, &facts(disk(grown, holds(after)))).unwrap()[0].write);
    let fixed = config.replace(", \"resize\": true", "");
    assert!(
        !steps(
            &fixed,
            &facts(disk(
                grown,
                holds(steps(&fixed, &facts(disk(DISK, Found::Nothing))).unwrap().remove(0).table.unwrap())
            ))
        )
        .unwrap()[0]
            .write
    );
}

#[test]
fn no_two_partitions_get_one_guid() {
    // These were alike: the number of the one, the label of the other.
    let config = r#"[{"device": "/dev/vdb", "partitions": [{"number": 1, "label": "a", "sizeMiB": 1}, {"label": "1", "sizeMiB": 1}]}]"#;
    let table = steps(config, &facts(disk(DISK, Found::Nothing))).unwrap().remove(0).table.unwrap();
    let guids = [table.guid, table.partitions[0].guid, table.partitions[1].guid];
    assert!(guids[0] != guids[1] && guids[0] != guids[2] && guids[1] != guids[2], "{guids:?}");
    let guid = "01234567-89ab-cdef-edcb-a98765432101";
    let config = config.replace("\"label\"", &format!("\"guid\": {guid:?}, \"label\""));
    let why = refusal(&config, disk(DISK, Found::Nothing));
    assert!(why.contains("would have the same GUID"), "{why}");
}

/// What is wrong with a table stays so as long as nothing is written; and there may be any number of wrong things.
#[test]
fn a_hostile_table_is_told_in_few_words() {
    let mut many = gpt(DISK, &[]);
    (many.table.slots, many.table.first) = (8192, 2050);
    many.table.partitions = (1..=8192).map(|number| partition(number, 4096, 100_000, "x")).collect();
    let problems = many.table.problems(DISK);
    assert!(problems.len() < 12 && problems.last().unwrap() == "and more", "{problems:?}");
    let overlapping = gpt(
        DISK,
        &[partition(1, 2048, 4096, "one"), partition(2, 4096, 4096, "two"), partition(3, 1 << 20, 2048, "three")],
    );
    let keep = r#"[{"device": "/dev/vdb", "partitions": [{"number": 3, "label": "three"}]}]"#;
    assert!(!steps(keep, &facts(disk(DISK, Found::Gpt(overlapping.clone())))).unwrap()[0].write);
    let change = r#"[{"device": "/dev/vdb", "partitions": [{"number": 4, "label": "new"}]}]"#;
    let why = refusal(change, disk(DISK, Found::Gpt(overlapping)));
    assert!(why.contains("the partitions 1 and 2 overlap"), "{why}");
}

#[test]
fn a_second_copy_alone_is_brought_back_only_if_it_is_ours() {
    let config = r#"[{"device": "/dev/vdb", "partitions": [{"number": 1, "label": "one"}]}]"#;
    let mut stale = gpt(DISK, &two());
    stale.flaws = vec![LONE.into(), UNPROTECTED.into()];
    let why = refusal(config, disk(DISK, Found::Gpt(stale.clone())));
    assert!(why.contains("the second copy of a GUID partition table, and nothing of the first"), "{why}");
    let nothing = r#"[{"device": "/dev/vdb"}]"#;
    assert_eq!(steps(nothing, &facts(disk(DISK, Found::Gpt(stale.clone())))).unwrap(), []);
    let wiped = config.replace("\"partitions\"", "\"wipeTable\": true, \"partitions\"");
    assert!(steps(&wiped, &facts(disk(DISK, Found::Gpt(stale.clone())))).unwrap()[0].write);
    let ours = steps(config, &facts(disk(DISK, Found::Nothing))).unwrap().remove(0).table.unwrap();
    stale.table = ours.clone();
    assert_eq!(steps(config, &facts(disk(DISK, Found::Gpt(stale)))).unwrap()[0].table, Some(ours));
}

/// A table that was made for a smaller disk: what is there counts as it is; what is new may have the new space.
#[test]
fn disks_that_were_grown() {
    let small = Geometry { sectors: 1 << 20, ..DISK };
    let old = [partition(1, 2048, 2048, "one"), partition(2, 4096, 1_048_542 - 4095, "two")];
    let of = |partitions: &str, known: &mut Facts| {
        let step =
            steps(&format!(r#"[{{"device": "/dev/vdb", "partitions": [{partitions}]}}]"#), known).unwrap().remove(0);
        apply(&crate::plan::Step::Partition(step.clone()), known);
        brief(&step)
    };
    for (partitions, expected) in [
        (r#"{"number": 2, "sizeMiB": 0}"#, "keep 2, 1:one 2048-4095, 2:two 4096-1048542, as it is"),
        (
            r#"{"number": 2, "sizeMiB": 1024, "resize": true}"#,
            "resize from 1044447 2, 1:one 2048-4095, 2:two 4096-2101247, write",
        ),
        (
            r#"{"number": 2, "sizeMiB": 0, "resize": true}, {"number": 1, "shouldExist": false, "wipePartitionEntry": true}"#,
            "resize from 1044447 2, delete one 1, 2:two 4096-4194270, write",
        ),
        (
            r#"{"number": 2}, {"label": "new"}"#,
            "keep 2, make 3, 1:one 2048-4095, 2:two 4096-1048542, 3:new 1048576-4194270, write",
        ),
        // With the new space partition 2 would have to be larger: it is left to be the last one.
        (
            r#"{"number": 2, "sizeMiB": 0}, {"number": 1, "shouldExist": false, "wipePartitionEntry": true}"#,
            "keep 2, delete one 1, 2:two 4096-1048542, write",
        ),
    ] {
        let mut known = facts(disk(DISK, Found::Gpt(gpt(small, &old))));
        assert_eq!(of(partitions, &mut known), expected);
        let again = of(partitions, &mut known);
        assert!(again.ends_with("as it is"), "{again}");
    }
}

/// Marks tell what is our own, whatever the rest of the disk looks like by then.
#[test]
fn what_was_made_for_this_configuration_is_known_again() {
    let config = r#"[{"device": "/dev/vdb", "partitions": [{"label": "a", "sizeMiB": 8}, {"label": "b"}]}]"#;
    let mut known = facts(disk(DISK, Found::Gpt(gpt(DISK, &two()))));
    let first = steps(config, &known).unwrap().remove(0);
    assert!(brief(&first).contains("3:a 411648-428031, 4:b 428032-4194270, write"), "{first}");
    apply(&crate::plan::Step::Partition(first.clone()), &mut known);
    let second = steps(config, &known).unwrap().remove(0);
    assert_eq!((second.write, &second.table), (false, &first.table));
    // Another disk, another machine, another configuration: not ours.
    for (config, identity) in [(config.to_string(), "serial 8"), (config.replace("8}", "9}"), "serial 7")] {
        let mut known = known.clone();
        known.disks[0].identity = identity.into();
        assert!(steps(&config, &known).is_err());
    }
    let guids: Vec<_> = first.table.unwrap().partitions.iter().map(|partition| partition.guid).collect();
    assert!(guids.iter().enumerate().all(|(index, guid)| !guids[..index].contains(guid)), "{guids:?}");
}

#[test]
fn two_names_of_one_disk() {
    let mut known = facts(disk(DISK, Found::Nothing));
    known.disks.push(Disk { device: "/dev/disk/by-id/x".into(), ..disk(DISK, Found::Nothing) });
    let one = r#"{"device": "/dev/vdb", "partitions": [{"number": 1, "sizeMiB": 1}]}"#;
    let other = r#"{"device": "/dev/disk/by-id/x", "partitions": [{"number": 2, "sizeMiB": 1}]}"#;
    let steps = steps(&format!("[{one}, {other}]"), &known).unwrap();
    assert_eq!(brief(&steps[1]), "make 2, 1: 2048-4095, 2: 4096-6143, write");
}

#[test]
fn sectors_of_4096_bytes_and_a_machine_that_is_not_known() {
    let four = Geometry { sector: 4096, sectors: 1 << 18 };
    let config = r#"[{"device": "/dev/vdb", "partitions": [{"number": 1, "sizeMiB": 8}, {"number": 2}]}]"#;
    let step = steps(config, &facts(disk(four, Found::Nothing))).unwrap().remove(0);
    assert_eq!(brief(&step), "make 1, make 2, 1: 256-2303, 2: 2304-262138, write");
    let text = steps(config, &Facts::default()).unwrap()[0].to_string();
    assert!(text.contains("of /dev/vdb (1048576 MiB, sectors of 512 bytes, assumed to be blank)"), "{text}");
}
