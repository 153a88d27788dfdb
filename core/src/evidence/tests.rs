// SPDX-License-Identifier: Apache-2.0
use alloc::string::ToString;

use super::*;

fn signature(label: &str, uuid: &str) -> Signature {
    Signature { format: "ext4".into(), label: label.into(), uuid: uuid.into() }
}

/// A disk with boot as its third and root as its fourth partition.
fn disk(name: &str, identity: &str, uuid: &str) -> Vec<Device> {
    let node = format!("/dev/{name}");
    let part = |number: u32, label: &str| Device {
        node: format!("{node}{number}"),
        disk: Some(node.clone()),
        number: Some(number),
        identity: identity.into(),
        holds: Some(signature(label, &format!("{uuid}-{number}"))),
        ..Device::default()
    };
    let whole = Device { node: node.clone(), identity: identity.into(), ..Device::default() };
    Vec::from([whole, part(3, "boot"), part(4, "root")])
}

fn refused(cmdline: &str, devices: &[Device]) -> String {
    judge(Moment::BeforeDisks, &Cmdline::parse(cmdline), devices).unwrap_err().to_string()
}

fn found(cmdline: &str, devices: &[Device]) -> String {
    let found = judge(Moment::BeforeDisks, &Cmdline::parse(cmdline), devices).unwrap().found;
    found.iter().fold(String::new(), |text, found| text + &format!("{}: {found}\n", found.name))
}

#[test]
fn boot_and_root_of_one_disk_are_told() {
    let devices = disk("vda", "", "a");
    let expected = "boot: /dev/vda3 on /dev/vda (ext4, label \"boot\", UUID a-3)\nroot: /dev/vda4 on /dev/vda (ext4, label \"root\", UUID a-4)\n";
    assert_eq!(found("", &devices), expected);
    assert_eq!(found("root=UUID=A-4", &devices), expected);
    assert_eq!(found("root=/dev/vda4", &devices), format!("{}\n", expected.lines().next().unwrap()));
}

#[test]
fn a_second_disk_with_the_labels_is_named_beside_the_first() {
    for uuid in ["a", "b"] {
        let devices = [disk("vda", "", "a"), disk("vdb", "", uuid)].concat();
        let text = refused("", &devices);
        assert!(text.contains("2 file systems have the label \"boot\""), "{text}");
        assert!(text.contains("/dev/vda3 on /dev/vda") && text.contains("/dev/vdb3 on /dev/vdb"), "{text}");
        assert!(text.contains("detach the disk"), "{text}");
        assert!(text.contains("nothing was changed"), "{text}");
        let later = judge(Moment::AfterDisks, &Cmdline::default(), &devices).unwrap_err().to_string();
        assert!(later.contains("2 file systems have the label \"boot\""), "{later}");
        assert!(later.contains("the configuration may have made one") && !later.contains("nothing was"), "{later}");
    }
}

#[test]
fn a_copied_root_is_found_out_by_its_uuid_too() {
    let mut devices = [disk("vda", "", "a"), disk("vdb", "", "a")].concat();
    devices[4].holds = Some(signature("other", "x"));
    assert!(refused("root=UUID=a-4", &devices).contains("2 file systems have the UUID a-4"));
    assert!(refused("root=LABEL=root", &devices).contains("2 file systems have the label \"root\""));
    assert!(found("root=PARTUUID=1", &devices).starts_with("boot: /dev/vda3"));
}

#[test]
fn the_paths_that_multipath_holds_are_one_disk() {
    let mut devices = [disk("sda", "naa.5", "a"), disk("sdb", "naa.5", "a")].concat();
    for path in [0, 3] {
        devices[path].holders.push("/dev/dm-0".into());
    }
    devices.push(Device {
        node: "/dev/dm-0".into(),
        multipath: true,
        slaves: ["/dev/sda".into(), "/dev/sdb".into()].into(),
        holders: ["/dev/dm-1".into(), "/dev/dm-2".into()].into(),
        identity: "mpath-5".into(),
        ..Device::default()
    });
    for (name, label, uuid) in [("dm-1", "boot", "a-3"), ("dm-2", "root", "a-4")] {
        devices.push(Device {
            node: format!("/dev/{name}"),
            slaves: ["/dev/dm-0".into()].into(),
            holds: Some(signature(label, uuid)),
            ..Device::default()
        });
    }
    assert_eq!(
        found("", &devices),
        "boot: /dev/dm-1 on /dev/dm-0 (ext4, label \"boot\", UUID a-3)\nroot: /dev/dm-2 on /dev/dm-0 (ext4, label \"root\", UUID a-4)\n"
    );
    // A disk beside them is still another one.
    devices.extend(disk("sdc", "naa.6", "a"));
    assert!(refused("", &devices).contains("/dev/dm-1 on /dev/dm-0"));
}

#[test]
fn paths_without_multipath_are_one_disk_by_their_world_wide_name_alone() {
    let devices = [disk("sda", "naa.5", "a"), disk("sdb", "naa.5", "a")].concat();
    assert_eq!(
        found("", &devices),
        "boot: /dev/sda3 on /dev/sda (ext4, label \"boot\", UUID a-3), also seen as /dev/sdb3\n\
         root: /dev/sda4 on /dev/sda (ext4, label \"root\", UUID a-4), also seen as /dev/sdb4\n"
    );
    // What can't be the same bytes isn't the same disk, whatever it says of itself.
    refused("", &[disk("sda", "naa.5", "a"), disk("sdb", "naa.5", "b")].concat());
    refused("", &[disk("sda", "", "a"), disk("sdb", "", "a")].concat());
}

#[test]
fn the_members_of_a_mirror_are_not_its_file_system() {
    let mut devices = [disk("vda", "", "a"), disk("vdb", "", "b")].concat();
    for (member, name) in [(1, "nest:md-boot"), (4, "nest:md-boot"), (2, "boot:data")] {
        devices[member].holds = Some(Signature { format: MEMBER.into(), label: name.into(), uuid: "m".into() });
    }
    let text = refused("", &devices);
    assert!(text.contains("of that name that don't run: /dev/vda3, /dev/vdb3\n"), "{text}");
    devices[2].holds = disk("vda", "", "a")[2].holds.clone();
    devices[5].holds = None;
    for member in [1, 4] {
        // The superblock of version 1.0 is at the end: the file system can be read on the member.
        devices[member].holds = Some(signature("boot", "c"));
        devices[member].holders.push("/dev/md127".into());
    }
    devices.push(Device {
        node: "/dev/md127".into(),
        slaves: ["/dev/vda3".into(), "/dev/vdb3".into()].into(),
        holds: Some(signature("boot", "c")),
        ..Device::default()
    });
    assert!(found("", &devices).starts_with("boot: /dev/md127 on /dev/vda and /dev/vdb (ext4"));
}

#[test]
fn boot_and_root_of_different_disks_need_the_operators_word() {
    let (mut one, mut other) = (disk("vda", "", "a"), disk("vdb", "", "b"));
    one.pop();
    other.remove(1);
    let devices = [one, other].concat();
    let text = refused("", &devices);
    assert!(text.contains("boot is /dev/vda3") && text.contains("root is /dev/vdb4") && text.contains(APART), "{text}");
    assert!(found(APART, &devices).contains("root: /dev/vdb4 on /dev/vdb"));
    assert!(judge(Moment::AfterDisks, &Cmdline::default(), &devices).is_ok());
}

#[test]
fn no_boot_file_system_is_refused_and_no_root_is_left_to_whoever_waits_for_it() {
    let mut devices = disk("vda", "", "a");
    devices.pop();
    assert_eq!(found("", &devices).lines().count(), 1);
    devices.pop();
    let text = refused("", &devices);
    assert!(text.contains("no file system has the label \"boot\"") && text.contains("is attached"), "{text}");
    let text = judge(Moment::AfterDisks, &Cmdline::default(), &devices).unwrap_err().to_string();
    assert!(text.contains("may have replaced it") && !text.contains("attached"), "{text}");
}

#[test]
fn what_cannot_be_read_is_named_with_what_was_found() {
    let broken = |node: &str| Device { node: node.into(), unread: "Input/output error".into(), ..Device::default() };
    let mut devices = [disk("vda", "", "a"), [broken("/dev/sdb"), broken("/dev/sdc")].into()].concat();
    let expected = "they can't be read: /dev/sdb (Input/output error), /dev/sdc (Input/output error)";
    let remarks = judge(Moment::BeforeDisks, &Cmdline::default(), &devices).unwrap().remarks;
    assert!(matches!(remarks.as_slice(), [remark] if remark.ends_with(expected)), "{remarks:?}");
    devices.remove(1);
    let text = refused("", &devices);
    assert!(text.contains("no file system has the label \"boot\"; what these") && text.contains(expected), "{text}");
}
