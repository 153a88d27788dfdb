// SPDX-License-Identifier: Apache-2.0
//! Mounting and unmounting real file systems on loop devices, each test alone in a mount namespace.

use std::fs::{self, File};
use std::io::Read as _;
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
fn what_others_mounted_on_ours_goes_too_but_for_a_busy_one() {
    alone("mounting::what_others_mounted_on_ours_goes_too_but_for_a_busy_one", || {
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
        assert!(machine.stage("umount", &mut output).is_some(), "{output}");
        let holder = format!(" /proc/{}", std::process::id());
        assert!(output.contains("var/data/more is still in use:") && output.contains(&holder), "{output}");
        assert_eq!(mounts_below(&machine.root()).len(), 2, "{output}");
        drop(busy);
        assert!(machine.stage("umount", &mut output).is_none(), "{output}");
        assert_eq!(mounts_below(&machine.root()), [] as [&str; 0], "{output}");
        // Nothing is left to do, and that is fine.
        assert!(machine.stage("umount", &mut output).is_none(), "{output}");
    });
}

#[test]
fn a_disk_that_does_not_fit_is_refused_before_anything_is_made_or_mounted() {
    alone("mounting::a_disk_that_does_not_fit_is_refused_before_anything_is_made_or_mounted", || {
        let machine = Machine::new();
        let (blank, xfs) = (Disk::new(16, &[]), Disk::new(320, XFS));
        let before = machine.tree();
        let config = format!(
            r#"{{"ignition": {{"version": "3.4.0"}}, "storage": {{"filesystems": [
  {{"device": "{}", "format": "ext4", "path": "/var/blank"}},
  {{"device": "{}", "format": "ext4", "path": "/var/data"}}]}}}}"#,
            blank.name(),
            xfs.name()
        );
        let stopped = machine.boot(&config).stopped.unwrap();
        assert_eq!((stopped.stage, stopped.code), ("disks", 1));
        for words in ["it holds xfs", "config.ign:3:3"] {
            assert!(stopped.output.contains(words), "{}", stopped.output);
        }
        // Not even what could have been made.
        let found = fledge_stages::host::device::signatures(&blank.device).unwrap();
        assert_eq!(found, []);
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

#[test]
fn a_full_disk_is_told_and_nothing_is_half_made() {
    alone("mounting::a_full_disk_is_told_and_nothing_is_half_made", || {
        let machine = Machine::new();
        let disk = Disk::new(16, EXT4);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::copy(&mut std::io::repeat(b'x').take(24 << 20), &mut packed).unwrap();
        let source = data_encoding::BASE64.encode(&packed.finish().unwrap());
        let config = format!(
            r#"{{"ignition": {{"version": "3.4.0"}}, "storage": {{
  "filesystems": [{{"device": "{}", "format": "ext4", "path": "/var/data"}}],
  "files": [{{"path": "/etc/first", "contents": {{"source": "data:,x"}}}},
    {{"path": "/var/data/big", "contents": {{"source": "data:;base64,{source}", "compression": "gzip"}}}}]}}}}"#,
            disk.name()
        );
        let before = machine.tree();
        let stopped = machine.boot(&config).stopped.unwrap();
        assert_eq!((stopped.stage, stopped.code), ("files", 1));
        for words in ["No space left on device", "config.ign:4:", "see that the file system has space"] {
            assert!(stopped.output.contains(words), "{words:?} is not in:\n{}", stopped.output);
        }
        run(Command::new("mount").arg(&disk.device).arg("/mnt"));
        assert_eq!(fs::read_dir("/mnt").unwrap().count(), 1, "only lost+found");
        run(Command::new("umount").arg("/mnt"));
        let mut after = machine.tree();
        // What was made to mount on.
        after.remove("/var/data");
        assert_eq!(after, before);
    });
}

#[test]
fn a_full_root_leaves_no_note_and_no_result() {
    alone("mounting::a_full_root_leaves_no_note_and_no_result", || {
        let machine = Machine::new();
        let etc = machine.root().join("etc");
        // Room for the accounts alone.
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(&etc));
        for (file, text) in [("passwd", "root:x:0:0::/root:/bin/sh\n"), ("group", "root:x:0:\n")] {
            fs::write(etc.join(file), text).unwrap();
        }
        fs::write(etc.join("filler"), vec![b'x'; 56 << 10]).unwrap();
        let config = r#"{"ignition": {"version": "3.4.0"}, "storage": {"files": [{"path": "/var/a"}]}}"#;
        let stopped = machine.boot(config).stopped.unwrap();
        assert_eq!((stopped.stage, stopped.code), ("files", 1));
        for words in ["/etc/.fledge-begun.json", "No space left on device", "give that file system more room"] {
            assert!(stopped.output.contains(words), "{words:?} is not in:\n{}", stopped.output);
        }
        let names: Vec<_> = fs::read_dir(&etc).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(!machine.root().join("var/a").exists());
    });
}

#[test]
fn a_write_protected_disk_is_mounted_and_writing_to_it_is_refused() {
    alone("mounting::a_write_protected_disk_is_mounted_and_writing_to_it_is_refused", || {
        let machine = Machine::new();
        let disk = Disk::read_only(16, EXT4);
        let config = |files: &str| {
            format!(
                r#"{{"ignition": {{"version": "3.4.0"}}, "storage": {{
  "filesystems": [{{"device": "{}", "format": "ext4", "path": "/var/data"}}],
  "files": [{files}]}}}}"#,
                disk.name()
            )
        };
        let boot = machine.boot(&config(""));
        assert!(boot.stopped.is_none(), "{}", boot.output);
        assert!(boot.output.contains("is write-protected: it is mounted read-only"), "{}", boot.output);
        let before = machine.tree();
        for file in [r#""contents": {"source": "data:,x"}"#, r#""mode": 384"#] {
            let stopped = machine.boot(&config(&format!(r#"{{"path": "/var/data/file", {file}}}"#))).stopped.unwrap();
            assert_eq!((stopped.stage, stopped.code), ("files", 1));
            for words in ["Read-only file system", "config.ign:3:", "what to do"] {
                assert!(stopped.output.contains(words), "{words:?} is not in:\n{}", stopped.output);
            }
        }
        let changed = |tree: fledge_tests::tree::Tree| {
            tree.into_iter().filter(|(path, _)| !path.starts_with("/etc/.")).collect::<Vec<_>>()
        };
        assert_eq!(changed(machine.tree()), changed(before));
    });
}

#[test]
fn a_root_that_is_read_only_is_told() {
    alone("mounting::a_root_that_is_read_only_is_told", || {
        let machine = Machine::new();
        let root = machine.root();
        run(Command::new("mount").arg("--bind").args([&root, &root]));
        run(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&root));
        for (config, stage) in [
            (r#"{"ignition": {"version": "3.4.0"}, "storage": {"files": [{"path": "/var/a"}]}}"#, "files"),
            (r#"{"ignition": {"version": "3.4.0"}, "storage": {"directories": [{"path": "/var/a"}]}}"#, "files"),
            (r#"{"ignition": {"version": "3.4.0"}}"#, "files"),
        ] {
            let stopped = machine.boot(config).stopped.unwrap();
            assert_eq!((stopped.stage, stopped.code), (stage, 1));
            assert!(stopped.output.contains("Read-only file system"), "{}", stopped.output);
            assert!(stopped.output.contains("choose a path that can be written"), "{}", stopped.output);
        }
    });
}
