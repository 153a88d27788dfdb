// SPDX-License-Identifier: Apache-2.0
//! Mounting and unmounting real file systems on loop devices, each test alone in a mount namespace.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use fledge_stages::host::fs::Root;
use fledge_tests::Machine;
use fledge_tests::namespace::{Disk, alone, mounts_below, run};

const EXT4: &[&str] = &["mkfs.ext4", "-q", "-F", "-L", "data"];
const XFS: &[&str] = &["mkfs.xfs", "-q"];

#[test]
fn file_systems_are_mounted_filled_and_unmounted() {
    alone("mounting::file_systems_are_mounted_filled_and_unmounted", || {
        let machine = Machine::new();
        let (outer, inner) = (Disk::new(16, EXT4), Disk::new(320, XFS));
        let config = format!(
            r#"{{"ignition": {{"version": "3.4.0"}}, "storage": {{"filesystems": [
  {{"device": "{inner}", "format": "xfs", "path": "/home/nest/deep/data", "mountOptions": ["noatime", "x-systemd.growfs", "nofail"]}},
  {{"device": "{outer}", "format": "ext4", "label": "data", "path": "/home/nest"}}],
 "files": [{{"path": "/home/nest/deep/data/file", "contents": {{"source": "data:,on%20xfs"}}}}]}},
 "passwd": {{"users": [{{"name": "nest", "uid": 1500, "sshAuthorizedKeys": ["k"]}}]}}}}"#,
            inner = inner.name(),
            outer = outer.name(),
        );
        fs::remove_dir(machine.root().join("home")).unwrap();
        let boot = machine.boot(&config);
        assert!(boot.stopped.is_none(), "{}", boot.output);
        assert_eq!(mounts_below(&machine.root()), [] as [&str; 0]);
        let order = ["mount ", "mount ", "unmount ", "unmount "]
            .iter()
            .try_fold(boot.output.as_str(), |rest, word| rest.split_once(word).map(|(_, rest)| rest));
        assert!(order.is_some(), "{}", boot.output);

        // What was written is on the devices, and the directories made for mounting are the user's.
        let mount_point = machine.root();
        run(Command::new("mount").arg(&outer.device).arg(mount_point.join("home/nest")));
        run(Command::new("mount").arg(&inner.device).arg(mount_point.join("home/nest/deep/data")));
        assert_eq!(fs::read_to_string(mount_point.join("home/nest/deep/data/file")).unwrap(), "on xfs");
        for path in ["home/nest", "home/nest/deep", "home/nest/deep/data"] {
            let metadata = fs::metadata(mount_point.join(path)).unwrap();
            assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (1500, 0o700), "{path}");
        }
        assert_eq!(fs::metadata(mount_point.join("home")).unwrap().uid(), 0);
        assert!(mount_point.join("home/nest/.ssh/authorized_keys.d/ignition").is_file());
        run(Command::new("umount").arg("--recursive").arg(mount_point.join("home/nest")));
    });
}

#[test]
fn nothing_stays_mounted_when_files_fails() {
    alone("mounting::nothing_stays_mounted_when_files_fails", || {
        let machine = Machine::new();
        let disk = Disk::new(16, EXT4);
        let config = format!(
            r#"{{"ignition": {{"version": "3.4.0"}}, "storage": {{
  "filesystems": [{{"device": "{}", "format": "ext4", "path": "/var/data"}}],
  "files": [{{"path": "/home", "contents": {{"source": "data:,x"}}}}]}}}}"#,
            disk.name()
        );
        let boot = machine.boot(&config);
        assert_eq!(boot.stopped.unwrap().stage, "files");
        assert_eq!(mounts_below(&machine.root()), [] as [&str; 0], "{}", boot.output);
        assert!(boot.output.contains("unmount /var/data"), "{}", boot.output);
    });
}

#[test]
fn what_others_mounted_on_ours_goes_too_and_a_busy_one_is_told() {
    alone("mounting::what_others_mounted_on_ours_goes_too_and_a_busy_one_is_told", || {
        let machine = Machine::new();
        let disk = Disk::new(16, EXT4);
        let config = format!(
            r#"{{"ignition": {{"version": "3.4.0"}}, "storage": {{
  "filesystems": [{{"device": "{}", "format": "ext4", "path": "/var/data"}}],
  "directories": [{{"path": "/var/data/more"}}]}}}}"#,
            disk.name()
        );
        let mut output = String::new();
        fs::create_dir_all(machine.root()).unwrap();
        fs::write(machine.root().join("../config.ign"), config).unwrap();
        for stage in ["fetch-offline", "disks", "mount", "mount", "files"] {
            assert!(machine.stage(stage, &mut output).is_none(), "{output}");
        }
        assert!(output.contains("already so: mount"), "{output}");
        assert_eq!(mounts_below(&machine.root()).len(), 1);
        run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(machine.root().join("var/data/more")));
        let busy = File::create(machine.root().join("var/data/more/open")).unwrap();
        assert!(machine.stage("umount", &mut output).is_none(), "{output}");
        drop(busy);
        assert_eq!(mounts_below(&machine.root()), [] as [&str; 0], "{output}");
        assert!(output.contains("var/data/more is still in use"), "{output}");
        // Nothing is left to do, and that is fine.
        assert!(machine.stage("umount", &mut output).is_none(), "{output}");
    });
}

#[test]
fn a_disk_that_does_not_fit_is_refused_before_anything_is_mounted() {
    alone("mounting::a_disk_that_does_not_fit_is_refused_before_anything_is_mounted", || {
        let machine = Machine::new();
        let (blank, xfs) = (Disk::new(16, &[]), Disk::new(320, XFS));
        let before = machine.tree();
        for (device, words) in [
            (blank.name(), "the device holds no file system, and this build can't make one yet"),
            (xfs.name(), "it holds xfs"),
        ] {
            let config = format!(
                r#"{{"ignition": {{"version": "3.4.0"}}, "storage": {{"filesystems": [
  {{"device": "{device}", "format": "ext4", "path": "/var/data"}}]}}}}"#
            );
            let boot = machine.boot(&config);
            let stopped = boot.stopped.unwrap();
            assert_eq!((stopped.stage, stopped.code), ("disks", 1));
            assert!(stopped.output.contains(words) && stopped.output.contains("config.ign:2:3"), "{}", stopped.output);
        }
        assert_eq!(machine.tree(), before);
    });
}

#[test]
fn the_links_of_proc_are_not_followed() {
    alone("mounting::the_links_of_proc_are_not_followed", || {
        let machine = Machine::new();
        run(Command::new("mount").args(["-t", "proc", "proc"]).arg(machine.root().join("proc")));
        let root = Root::open(&machine.root()).unwrap();
        for path in ["/proc/self/root", "/proc/self/cwd", "/proc/self/root/etc"] {
            // ELOOP
            assert_eq!(root.directory(path).unwrap_err().raw_os_error(), Some(40), "{path}");
        }
        assert_eq!(root.make_parent("/proc/self/root/tmp/x").unwrap_err().raw_os_error(), Some(40));
        assert_eq!(root.text("/proc/self/root/etc/passwd").unwrap_err().raw_os_error(), Some(40));
    });
}

#[test]
fn removing_stops_at_mounts() {
    alone("mounting::removing_stops_at_mounts", || {
        let machine = Machine::new();
        let (inside, outside) = (machine.root().join("d/e/mnt"), machine.root().join("outside"));
        fs::create_dir_all(&inside).unwrap();
        machine.put("outside/precious", 0o600, "precious");
        let root = Root::open(&machine.root()).unwrap();
        // A bind mount of the same file system: only its mount id tells.
        run(Command::new("mount").arg("--bind").args([&outside, &inside]));
        let why = root.remove("/d").unwrap_err().to_string();
        assert!(why.contains("mounted at mnt"), "{why}");
        assert!(outside.join("precious").is_file());
        run(Command::new("umount").arg(&inside));
        assert!(root.remove("/d").unwrap());
        assert!(!machine.root().join("d").exists() && outside.join("precious").is_file());
    });
}

#[test]
fn files_land_on_file_systems_of_every_kind() {
    alone("mounting::files_land_on_file_systems_of_every_kind", || {
        let machine = Machine::new();
        let mut disks = vec![
            ("ext4", Disk::new(16, EXT4)),
            ("xfs", Disk::new(320, XFS)),
            ("btrfs", Disk::new(128, &["mkfs.btrfs", "-q"])),
        ];
        // Small kernels are without it; nothing else here is.
        if fs::read_to_string("/proc/filesystems").unwrap().contains("vfat") {
            disks.push(("vfat", Disk::new(32, &["mkfs.vfat"])));
        }
        let filesystems: Vec<_> = disks
            .iter()
            .map(|(format, disk)| {
                format!(r#"{{"device": "{}", "format": "{format}", "path": "/mnt/{format}"}}"#, disk.name())
            })
            .collect();
        let files: Vec<_> = disks
            .iter()
            .map(|(format, _)| {
                format!(r#"{{"path": "/mnt/{format}/a/file", "contents": {{"source": "data:,{format}"}}}}"#)
            })
            .collect();
        let config = format!(
            r#"{{"ignition": {{"version": "3.4.0"}}, "storage": {{"filesystems": [{}], "files": [{}]}}}}"#,
            filesystems.join(", "),
            files.join(", ")
        );
        let boot = machine.boot(&config);
        assert!(boot.stopped.is_none(), "{}", boot.output);
        let look = Path::new("/mnt");
        for (format, disk) in &disks {
            run(Command::new("mount").arg(&disk.device).arg(look));
            assert_eq!(fs::read_to_string(look.join("a/file")).unwrap(), *format);
            assert_eq!(fs::read_dir(look.join("a")).unwrap().count(), 1, "{format}");
            run(Command::new("umount").arg(look));
        }
    });
}
