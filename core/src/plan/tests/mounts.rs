// SPDX-License-Identifier: Apache-2.0
use super::*;

pub(super) fn with(
    json: &str,
    facts: &Facts,
    plan: fn(&Config, &Facts, &Sources) -> Result<Plan, Vec<Failure>>,
) -> String {
    let (config, sources) = config(json);
    show(plan(&config, facts, &sources))
}

pub(super) fn device(facts: &mut Facts, name: &str, device: Device) {
    facts.devices.insert(name.into(), device);
}

pub(super) const ONE: &str = r#"{"storage": {"filesystems": [
 {"device": "/dev/vdb", "format": "ext4", "label": "data", "uuid": "5AB36F4A-0000-4000-8000-000000000000", "path": "/var/data"}]}}"#;

#[test]
fn a_device_that_is_missing_is_told_with_those_that_are_there() {
    let mut facts = Facts::default();
    device(&mut facts, "/dev/vdb", Device::default());
    facts.block_devices.push("/dev/vda1 (512 MiB, label boot)".into());
    for plan in [disks, mount] {
        let text = with(ONE, &facts, plan);
        assert!(
            text.contains("the device /dev/vdb did not appear; there are:\n    /dev/vda1 (512 MiB, label boot)"),
            "{text}"
        );
        assert!(text.contains("test:3:2 at $.storage.filesystems.0"), "{text}");
    }
}

#[test]
fn mount_points_are_directories_only() {
    for (kind, words) in [
        (NodeKind::Symlink("/elsewhere".into()), "/var is a symbolic link to /elsewhere"),
        (old_file(None), "/var is not a directory"),
    ] {
        let text = with(ONE, &facts(&[("/var", "/var", kind)]), mount);
        assert!(text.contains(words), "{text}");
    }
    let root = r#"{"storage": {"filesystems": [{"device": "/dev/vdb", "format": "xfs", "path": "/"}]}}"#;
    assert!(with(root, &Facts::default(), mount).contains("the root file system is mounted already"));
    let bind = r#"{"storage": {"filesystems": [
        {"device": "/dev/vdb", "format": "xfs", "path": "/a", "mountOptions": ["ro", "bind"]}]}}"#;
    assert!(with(bind, &Facts::default(), mount).contains("\"bind\""));
}

#[test]
fn what_was_mounted_is_unmounted_in_reverse() {
    let facts = Facts {
        mounts: ["/var", "/boot", "/var/log", "/var/data"].map(Into::into).into(),
        mounted: ["/boot", "/var/log"].map(Into::into).into(),
        ..Facts::default()
    };
    // /var isn't ours; /var/data is of the configuration, though nobody left word of it.
    assert_plan(
        &with(ONE, &facts, umount),
        r"
umount
   1 unmount /var/data  [test:3:2 at $.storage.filesystems.0]
   2 unmount /var/log
   3 unmount /boot
",
    );
}

#[test]
fn what_somebody_else_unmounted_is_left_alone() {
    for (mounts, expected) in [
        (&["/var"][..], "umount\n   1 unmount /var"),
        (&["/var/log"], "umount\n   1 unmount /var/log"),
        (&[], "umount\nnothing to do"),
        (&["/var", "/var"], "umount\n   1 unmount /var"),
    ] {
        let facts = Facts {
            mounts: mounts.iter().map(|path| (*path).into()).collect(),
            mounted: ["/var", "/var/log"].map(Into::into).into(),
            ..Facts::default()
        };
        assert_plan(&with(r#"{"storage": {}}"#, &facts, umount), expected);
    }
}

#[test]
fn what_a_mount_hides_is_not_planned_from() {
    let json = r#"{"storage": {"filesystems": [{"device": "/dev/vdb", "format": "xfs", "path": "/var/data"}],
        "files": [{"path": "/var/data/file", "contents": {"source": "data:,new"}},
                  {"path": "/link/file", "contents": {"source": "data:,new"}},
                  {"path": "/var/data2", "contents": {"source": "data:,new"}}]}}"#;
    let (config, sources) = config(json);
    let mut facts = facts(&[
        ("/var/data/file", "/var/data/file", old_file(None)),
        ("/link/file", "/var/data/below/file", old_file(None)),
        ("/var/data2", "/var/data2", NodeKind::Missing),
        ("/var/data", "/var/data", NodeKind::Missing),
        ("/var", "/var", NodeKind::Directory),
    ]);
    let plans = all(&config, &facts, &sources, Settings::default()).unwrap();
    let text: String = plans.iter().map(ToString::to_string).collect();
    assert!(text.contains("write /var/data/file from") && text.contains("write /var/data2 from"), "{text}");
    // Without the mount the file would be in the way.
    facts.nodes.retain(|path, _| path.as_str() != "/link/file");
    let (config, sources) = super::config(&json.replace("\"path\": \"/var/data\"", "\"path\": \"\""));
    let failures = all(&config, &facts, &sources, Settings::default()).unwrap_err();
    assert!(failures[0].why.contains("a file stands at /var/data/file"), "{failures:?}");
}

#[test]
fn what_is_not_mounted_is_not_waited_for() {
    let json = r#"{"storage": {"filesystems": [
        {"device": "/dev/disk/by-label/was", "format": "xfs", "label": "new", "wipeFilesystem": true},
        {"device": "/dev/swap", "format": "swap", "path": ""},
        {"device": "/dev/data", "format": "xfs", "path": "/var/data"}]}}"#;
    let (config, _) = unchecked(json);
    assert_eq!(Questions::of_mounting(&config).devices.iter().collect::<Vec<_>>(), ["/dev/data"]);
    assert_eq!(Questions::of(&config, None).devices.len(), 3);
}

#[test]
fn a_shared_directory_is_mounted_by_its_tag() {
    let json = r#"{"storage": {"filesystems": [{"device": "host", "format": "virtiofs", "path": "/mnt/host"}]}}"#;
    let (config, sources) = unchecked(json);
    assert!(Questions::of_mounting(&config).devices.is_empty());
    assert_plan(&show(mount(&config, &Facts::default(), &sources)), "mount\n   1 mount host at /mnt/host as virtiofs");
}

#[test]
fn what_is_new_is_labelled_where_the_target_has_selinux() {
    let with_selinux = |tool| {
        let selinux = Selinux { policy: "targeted".into(), contexts: true, tool };
        Facts { selinux: Some(selinux), ..Facts::default() }
    };
    let facts = with_selinux(true);
    assert!(with(ONE, &facts, mount).contains("as ext4, label what is new by the SELinux policy \"targeted\""));
    let facts = with_selinux(false);
    let text = with(ONE, &facts, mount);
    assert!(text.contains("setfiles is not in the initramfs") && text.contains("$.storage.filesystems.0"), "{text}");
    assert_plan(&with(r#"{"storage": {}}"#, &facts, mount), "mount\nnothing to do");
}

#[test]
fn two_file_systems_at_one_path_are_refused() {
    let json = r#"{"storage": {"filesystems": [
        {"device": "/dev/vdb", "format": "xfs", "path": "/a"}, {"device": "/dev/vdc", "format": "xfs", "path": "/a"}]}}"#;
    let (config, sources) = unchecked(json);
    assert!(show(mount(&config, &Facts::default(), &sources)).contains("/dev/vdb is to be mounted there too"));
}
