// SPDX-License-Identifier: Apache-2.0
use super::mounts::{ONE, device, with};
use super::*;

fn blank() -> Device {
    Device { present: true, ..Device::default() }
}

#[test]
fn a_file_system_that_fits_is_kept() {
    let mut facts = Facts::default();
    device(&mut facts, "/dev/vdb", Device::holding("ext4", "data", "5ab36f4a-0000-4000-8000-000000000000"));
    assert_plan(
        &with(ONE, &facts, disks),
        r#"
disks
   1 keep the ext4 file system of /dev/vdb, label "data", UUID "5AB36F4A-0000-4000-8000-000000000000"  [test:3:2 at $.storage.filesystems.0]
"#,
    );
}

#[test]
fn every_format_with_ignitions_arguments() {
    let json = r#"{"storage": {"filesystems": [
 {"device": "/dev/a", "format": "ext4", "label": "two words", "uuid": "5AB36F4A-0000-4000-8000-000000000000", "options": ["-E", "nodiscard"]},
 {"device": "/dev/b", "format": "xfs", "label": "x", "uuid": "5AB36F4A-0000-4000-8000-000000000000", "options": ["-m", "crc=1"]},
 {"device": "/dev/c", "format": "btrfs", "label": "b", "uuid": "5AB36F4A-0000-4000-8000-000000000000"},
 {"device": "/dev/d", "format": "vfat", "label": "V", "uuid": "A1B2-C3D4", "wipeFilesystem": true},
 {"device": "/dev/e", "format": "vfat", "uuid": "A1B2C3D4"},
 {"device": "/dev/f", "format": "swap", "label": "s", "uuid": "5AB36F4A-0000-4000-8000-000000000000"},
 {"device": "/dev/g", "format": "none", "wipeFilesystem": true},
 {"device": "/dev/h", "format": "none"},
 {"device": "/dev/i"}]}}"#;
    let plan = with(json, &Facts::default(), disks);
    let lines: Vec<_> = plan.lines().map(|line| line.split("  [").next().unwrap_or_default()).collect();
    assert_plan(
        &lines.join("\n"),
        r#"
disks
   1 make the ext4 file system of /dev/a: mkfs.ext4 -E nodiscard -F -U 5ab36f4a-0000-4000-8000-000000000000 -L "two words"
   2 make the xfs file system of /dev/b: mkfs.xfs -m crc=1 -f -m uuid=5ab36f4a-0000-4000-8000-000000000000 -L x
   3 make the btrfs file system of /dev/c: mkfs.btrfs --force -U 5ab36f4a-0000-4000-8000-000000000000 -L b
   4 make the vfat file system of /dev/d: mkfs.fat -i a1b2c3d4 -n V
   5 make the vfat file system of /dev/e: mkfs.fat -i a1b2c3d4
   6 make the swap file system of /dev/f: mkswap -f -U 5ab36f4a-0000-4000-8000-000000000000 -L s
   7 wipe /dev/g
"#,
    );
}

/// Ignition's table: what is found, what is wanted, whether it may be wiped; what becomes of it.
#[test]
fn reuse() {
    let uuid = "5ab36f4a-0000-4000-8000-000000000000";
    let right = Device::holding("ext4", "data", uuid);
    for (found, format, wipe, outcome) in [
        (blank(), "ext4", false, "make the ext4"),
        (blank(), "ext4", true, "make the ext4"),
        (right.clone(), "ext4", false, "keep the ext4"),
        (right.clone(), "ext4", true, "destroys what it holds: ext4, label \"data\""),
        (right.clone(), "xfs", false, "it holds ext4, label \"data\", UUID \"5ab36f4a"),
        (right.clone(), "xfs", true, "destroys what it holds: ext4"),
        (Device::holding("ext4", "Data", uuid), "ext4", false, "it holds ext4, label \"Data\""),
        (Device::holding("ext4", "data", &uuid.replace('4', "5")), "ext4", false, "it holds ext4"),
        (Device::holding("linux_raid_member", "", ""), "ext4", false, "it holds linux_raid_member"),
        (Device::holding("ntfs", "", ""), "ext4", true, "destroys what it holds: ntfs"),
        (blank(), "none", false, "nothing to do"),
        (blank(), "none", true, "wipe /dev/vdb"),
        (right.clone(), "none", false, "leaving /dev/vdb without a file system: it holds ext4"),
        (right.clone(), "none", true, "wipe /dev/vdb; this destroys what it holds: ext4"),
    ] {
        let mut facts = Facts::default();
        device(&mut facts, "/dev/vdb", found.clone());
        let json = format!(
            r#"{{"storage": {{"filesystems": [{{"device": "/dev/vdb", "format": {format:?}, "wipeFilesystem": {wipe},
               "label": "data", "uuid": {uuid:?}}}]}}}}"#
        );
        let plan = with(&json, &facts, disks);
        assert!(plan.contains(outcome), "{found:?} {format} {wipe}: {plan}");
        assert_eq!(plan.contains("refused"), outcome.contains("it holds") && !outcome.contains("destroys"), "{plan}");
    }
}

/// Of several signatures the first counts, as libblkid has it when it is told not to mind.
#[test]
fn of_several_signatures_the_first_counts() {
    let mut facts = Facts::default();
    let mut found = Device::holding("xfs", "", "");
    found.others.push(crate::facts::Signature { format: "btrfs".into(), ..Default::default() });
    device(&mut facts, "/dev/vdb", found);
    let json = |format: &str, wipe: bool| {
        format!(
            r#"{{"storage": {{"filesystems": [{{"device": "/dev/vdb", "format": {format:?}, "wipeFilesystem": {wipe}}}]}}}}"#
        )
    };
    assert!(with(&json("xfs", false), &facts, disks).contains("keep the xfs"));
    assert!(with(&json("btrfs", false), &facts, disks).contains("it holds xfs"));
    assert!(with(&json("btrfs", true), &facts, disks).contains("destroys what it holds: xfs and btrfs"));
}

#[test]
fn the_volume_id_of_a_vfat_may_be_written_without_its_dash() {
    let json = r#"{"storage": {"filesystems": [{"device": "/dev/vdb", "format": "vfat", "uuid": "a1b2c3d4"}]}}"#;
    let mut facts = Facts::default();
    device(&mut facts, "/dev/vdb", Device::holding("vfat", "", "A1B2-C3D4"));
    assert!(with(json, &facts, disks).contains("keep the vfat"));
    device(&mut facts, "/dev/vdb", Device::holding("vfat", "", "A1B2-C3D5"));
    assert!(with(json, &facts, disks).contains("refused"));
}

#[test]
fn a_device_in_use_is_kept_or_refused() {
    let mut facts = Facts::default();
    let users = Vec::from(["mounted at /boot".into(), "used as swap".into()]);
    device(&mut facts, "/dev/vdb", Device { users: users.clone(), ..blank() });
    let text = with(ONE, &facts, disks);
    assert!(text.contains("the device is in use: it is mounted at /boot and used as swap"), "{text}");
    let fits = Device::holding("ext4", "data", "5ab36f4a-0000-4000-8000-000000000000");
    device(&mut facts, "/dev/vdb", Device { users, ..fits });
    assert!(with(ONE, &facts, disks).contains("keep the ext4"));
}

#[test]
fn two_names_of_one_device_are_refused() {
    let json = r#"{"storage": {"filesystems": [
        {"device": "/dev/vdb", "format": "xfs"}, {"device": "/dev/disk/by-label/x", "format": "ext4"}]}}"#;
    let mut facts = Facts::default();
    for name in ["/dev/vdb", "/dev/disk/by-label/x"] {
        device(&mut facts, name, Device { node: "/dev/vdb".into(), ..blank() });
    }
    let text = with(json, &facts, disks);
    assert!(text.contains("/dev/vdb is the same device"), "{text}");
    assert!(text.contains("$.storage.filesystems.1"), "{text}");
}

#[test]
fn formats_that_leave_the_device_alone() {
    let json = r#"{"storage": {"filesystems": [{"device": "/dev/vdb", "format": "none"}]}}"#;
    let mut facts = Facts::default();
    device(&mut facts, "/dev/vdb", blank());
    assert_plan(&with(json, &facts, disks), "disks\nnothing to do");
    assert_plan(&with(json, &facts, mount), "mount\nnothing to do");
}

#[test]
fn what_a_host_shares_has_no_device() {
    let json = r#"{"storage": {"filesystems": [{"device": "tag", "format": "virtiofs", "path": "/var/shared"}]}}"#;
    let (config, sources) = unchecked(json);
    assert_plan(&show(disks(&config, &Facts::default(), &sources)), "disks\nnothing to do");
    assert_eq!(Questions::of_mounting(&config).devices.len(), 0);
}
