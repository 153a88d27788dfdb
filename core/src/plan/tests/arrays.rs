// SPDX-License-Identifier: Apache-2.0
use super::mounts::{device, with};
use super::*;
use crate::facts::Superblock;

const PAIR: &str = r#"{"storage": {"raid": [
 {"name": "data", "level": "raid1", "devices": ["/dev/vdb", "/dev/vdc"]}]}}"#;

/// Two disks with serial numbers.
fn pair() -> Facts {
    let mut facts = Facts::default();
    for (name, identity) in [("/dev/vdb", "data1"), ("/dev/vdc", "data2")] {
        let found = Device { present: true, node: name.into(), identity: identity.into(), ..Device::default() };
        device(&mut facts, name, found);
    }
    facts
}

/// The mark in a plan's text.
fn mark(plan: &str) -> String {
    let rest = plan.split_once("--uuid=").unwrap_or_else(|| panic!("{plan}")).1;
    rest.split(' ').next().unwrap_or_default().into()
}

/// The devices carry the mark, as if a run had made the array.
fn made(facts: &mut Facts, names: &[&str], uuid: &str) {
    for name in names {
        let member = facts.devices.get_mut(*name).unwrap();
        let uuid = uuid.replace(':', "-");
        member.signature = Device::holding("linux_raid_member", "data", &uuid).signature;
        member.superblock = Some(Superblock { uuid, name: "data".into(), level: 1, devices: 2, never_ran: true });
    }
}

fn in_array(facts: &mut Facts, name: &str) {
    let member = facts.devices.get_mut(name).unwrap();
    (member.array, member.users) = (Some("/dev/md127".into()), ["part of /dev/md127".into()].into());
}

#[test]
fn every_level_with_ignitions_arguments() {
    let devices: Vec<_> = "abcdef".chars().map(|c| format!("\"/dev/vd{c}\"")).collect();
    let devices = devices.join(", ");
    for (level, spares, options, expected) in [
        ("linear", 0, "", "--level linear --raid-devices 6"),
        ("stripe", 0, r#""--chunk=64""#, "--level stripe --raid-devices 6 --chunk=64"),
        ("mirror", 4, "", "--level mirror --raid-devices 2 --spare-devices 4"),
        ("raid4", 0, "", "--level raid4 --raid-devices 6"),
        ("5", 1, r#""--metadata", "1.0""#, "--level 5 --raid-devices 5 --spare-devices 1 --metadata 1.0"),
        ("raid6", 2, "", "--level raid6 --raid-devices 4 --spare-devices 2"),
        ("10", 0, r#""--layout=f2", "two words""#, "--level 10 --raid-devices 6 --layout=f2 \"two words\""),
    ] {
        let json = format!(
            r#"{{"storage": {{"raid": [{{"name": "md", "level": {level:?}, "spares": {spares}, "options": [{options}], "devices": [{devices}]}}]}}}}"#
        );
        let text = with(&json, &Facts::default(), disks);
        let expected = format!(
            "make the array \"md\": mdadm --create md --force --run --homehost any {expected} /dev/vda /dev/vdb /dev/vdc /dev/vdd /dev/vde /dev/vdf  [test:"
        );
        assert!(text.contains(&expected), "{text}");
    }
}

#[test]
fn the_mark_depends_on_the_array_and_on_the_machine() {
    let first = mark(&with(PAIR, &pair(), disks));
    assert_eq!(first.len(), 35, "{first}");
    assert_eq!(mark(&with(PAIR, &pair(), disks)), first);
    let mut marks = Vec::from([first]);
    for change in [("raid1", "mirror"), ("data", "Data"), ("\"level\"", "\"options\": [\"--bitmap=none\"], \"level\"")]
    {
        marks.push(mark(&with(&PAIR.replace(change.0, change.1), &pair(), disks)));
    }
    let mut other = pair();
    other.devices.get_mut("/dev/vdc").unwrap().identity = "data3".into();
    marks.push(mark(&with(PAIR, &other, disks)));
    other.machine = "4c4c4544".into();
    marks.push(mark(&with(PAIR, &other, disks)));
    let all = marks.len();
    marks.sort();
    marks.dedup();
    assert_eq!(marks.len(), all, "{marks:?}");
    // Nothing tells this machine from others.
    other.machine.clear();
    other.devices.get_mut("/dev/vdc").unwrap().identity.clear();
    for (json, facts) in [
        (String::from(PAIR), other),
        (PAIR.replace("\"level\"", "\"options\": [\"-eimsm\"], \"level\""), pair()),
        (PAIR.replace("\"level\"", "\"options\": [\"--uuid\", \"random\"], \"level\""), pair()),
    ] {
        let plan = with(&json, &facts, disks);
        assert!(!plan.contains("--uuid="), "{plan}");
    }
}

#[test]
fn an_array_of_an_earlier_run_is_kept() {
    let mut facts = pair();
    let uuid = mark(&with(PAIR, &facts, disks));
    made(&mut facts, &["/dev/vdb", "/dev/vdc"], &uuid);
    let keep = "disks\n1 keep the array \"data\" that was made of /dev/vdb, /dev/vdc  [test:3:2 at $.storage.raid.0]";
    assert_plan(&with(PAIR, &facts, disks), keep);
    // It may be running.
    for name in ["/dev/vdb", "/dev/vdc"] {
        in_array(&mut facts, name);
    }
    assert_plan(&with(PAIR, &facts, disks), keep);
    // What the configuration says about it has changed since: it isn't ours any more, and in use.
    let other = with(&PAIR.replace("raid1", "raid0"), &facts, disks);
    assert!(other.contains("/dev/vdb is in use: it is part of /dev/md127"), "{other}");
}

#[test]
fn an_array_that_was_cut_off_is_made_anew() {
    let mut facts = pair();
    let uuid = mark(&with(PAIR, &facts, disks));
    made(&mut facts, &["/dev/vdb"], &uuid);
    let old = Device { identity: "data2".into(), ..Device::holding("xfs", "old", "") };
    device(&mut facts, "/dev/vdc", old);
    in_array(&mut facts, "/dev/vdb");
    let plan = with(PAIR, &facts, disks);
    let expected =
        "/dev/vdb /dev/vdc; /dev/md127 is stopped before; this destroys what /dev/vdc holds: xfs, label \"old\"";
    assert!(plan.contains(expected), "{plan}");
}

#[test]
fn an_array_that_ran_and_lost_a_device_is_refused() {
    let mut facts = pair();
    let uuid = mark(&with(PAIR, &facts, disks));
    made(&mut facts, &["/dev/vdb"], &uuid);
    facts.devices.get_mut("/dev/vdb").unwrap().superblock.as_mut().unwrap().never_ran = false;
    for running in [false, true] {
        if running {
            in_array(&mut facts, "/dev/vdb");
        }
        let plan = with(PAIR, &facts, disks);
        assert!(plan.contains("1 of 2 devices carry an array"), "{plan}");
        assert!(plan.contains("has been running (/dev/vdb); /dev/vdc no longer"), "{plan}");
        assert!(plan.contains("test:3:2 at $.storage.raid.0"), "{plan}");
    }
}

#[test]
fn a_uuid_of_the_configuration_is_the_mark() {
    let json = PAIR.replace("\"level\"", r#""options": ["-u", "00112233:44556677:8899AABB:CCDDEEFF"], "level""#);
    let mut facts = pair();
    assert!(!with(&json, &facts, disks).contains("--uuid"));
    made(&mut facts, &["/dev/vdb", "/dev/vdc"], "00112233-4455-6677-8899-aabbccddeeff");
    assert!(with(&json, &facts, disks).contains("keep the array"));
    assert!(with(&json.replace("raid1", "raid5"), &facts, disks).contains("make the array"));
}

#[test]
fn what_cannot_be_made_is_refused() {
    let mut facts = pair();
    device(&mut facts, "/dev/vdc", Device::default());
    facts.block_devices.push("/dev/vda (512 MiB)".into());
    let text = with(PAIR, &facts, disks);
    assert!(text.contains("the device /dev/vdc did not appear; there are:\n    /dev/vda"), "{text}");
    assert!(text.contains("test:3:2 at $.storage.raid.0"), "{text}");

    let mut facts = pair();
    facts.lacking_levels.push("linear".into());
    let text = with(&PAIR.replace("raid1", "linear"), &facts, disks);
    assert!(text.contains("this machine's kernel has no RAID level linear"), "{text}");
    assert!(text.contains("--level linear --raid-devices 2"), "{text}");
    assert!(!with(PAIR, &facts, disks).contains("refused"));

    let twice = r#"{"storage": {"raid": [
        {"name": "a", "level": "1", "devices": ["/dev/vdb", "/dev/vdc"]},
        {"name": "b", "level": "1", "devices": ["/dev/x", "/dev/vdc"]}]}}"#;
    let mut facts = pair();
    device(&mut facts, "/dev/x", Device { present: true, node: "/dev/vdb".into(), ..Device::default() });
    let text = with(twice, &facts, disks);
    assert!(text.contains("/dev/x is part of the array \"a\" already"), "{text}");
    assert!(text.contains("/dev/vdc is part of the array \"a\" already"), "{text}");
}

#[test]
fn file_systems_go_on_arrays_that_are_not_there_yet() {
    let json = PAIR
        .replace("}]}}", r#"}], "filesystems": [{"device": "/dev/md/data", "format": "xfs", "path": "/var/data"}]}}"#);
    let mut facts = pair();
    device(&mut facts, "/dev/md/data", Device::default());
    let text = with(&json, &facts, disks);
    assert!(text.contains("make the xfs file system of /dev/md/data: mkfs.xfs -f"), "{text}");
}

/// Ignition reads these; the programs can't be given them.
#[test]
fn words_that_no_program_takes_are_refused_with_their_place() {
    for (json, why) in [
        (PAIR.replace("\"data\"", "\"-a\""), "mdadm would take its name for an option"),
        (PAIR.replace("\"data\"", "\"d\\u0000ata\""), "there is a NUL character"),
        (PAIR.replace("\"level\"", "\"options\": [\"a\\u0000\"], \"level\""), "there is a NUL character"),
        (
            r#"{"storage": {"filesystems": [
 {"device": "/dev/vdb", "format": "xfs", "options": ["\u0000"]}]}}"#
                .into(),
            "there is a NUL character",
        ),
        (
            r#"{"storage": {"luks": [
 {"name": "a", "device": "/dev/vdb", "options": ["\u0000"]}]}}"#
                .into(),
            "there is a NUL character",
        ),
        (
            r#"{"storage": {"disks": [
 {"device": "/dev/v\u0000db", "wipeTable": true}]}}"#
                .into(),
            "there is a NUL character",
        ),
    ] {
        let (config, sources) = config(&json);
        let text = show(disks(&config, &pair(), &sources));
        assert!(
            text.contains(why) && text.contains("test:3:2 at $.storage.") && text.contains("what to do:"),
            "{text}"
        );
        assert!(!text.contains("defect"), "{text}");
    }
}
