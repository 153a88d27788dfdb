// SPDX-License-Identifier: Apache-2.0
//! File systems made on real loop devices by the real tools, and looked at by `blkid` and the checkers of each format.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;

use fledge_tests::Machine;
use fledge_tests::namespace::{Disk, alone, run};

const UUID: &str = "5ab36f4a-3c1b-4d0e-9d2f-0123456789ab";

/// A config with these file systems, each without its braces.
fn config(filesystems: &[String]) -> String {
    let list: Vec<_> = filesystems.iter().map(|one| format!("  {{{one}}}")).collect();
    format!(r#"{{"ignition": {{"version": "3.4.0"}}, "storage": {{"filesystems": [{}{}]}}}}"#, '\n', list.join(",\n"))
}

fn entry(disk: &Disk, rest: &str) -> String {
    format!(r#""device": "{}", {rest}"#, disk.name())
}

/// What `blkid` says: format, label and UUID.
fn blkid(disk: &Disk) -> [String; 3] {
    let output = Command::new("/usr/sbin/blkid").args(["-p", "-o", "export"]).arg(&disk.device).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    ["TYPE", "LABEL", "UUID"].map(|key| {
        let line = said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().replace("\\ ", " ")
    })
}

fn sha(disk: &Disk) -> String {
    run(Command::new("sha256sum").arg(&disk.device))
}

/// Runs the disks stage after what comes before it. What it printed, and whether it succeeded.
fn disks(machine: &Machine, config: &str) -> (String, bool) {
    let boot = machine.boot(config);
    let stopped = boot.stopped.map(|stopped| stopped.stage);
    assert!(matches!(stopped, None | Some("disks")), "{}", boot.output);
    (boot.output, stopped.is_none())
}

#[test]
fn every_format_is_made_with_label_uuid_and_options() {
    let made = [Disk::new(64, &[]), Disk::new(320, &[]), Disk::new(128, &[]), Disk::new(40, &[]), Disk::new(8, &[])];
    let [ext4, xfs, btrfs, vfat, swap] = &made;
    // mkfs.btrfs refuses a UUID that another device has.
    let uuid = |last: char| format!("{}{last}", &UUID[..35]);
    let untouched = Disk::new(1, &[]);
    let config = config(&[
        entry(
            ext4,
            &format!(
                r#""format": "ext4", "label": "two words", "uuid": "{}", "options": ["-I", "128", "-O", "^metadata_csum"]"#,
                UUID.to_uppercase()
            ),
        ),
        entry(
            xfs,
            &format!(r#""format": "xfs", "label": "var", "uuid": "{}", "options": ["-i", "size=1024"]"#, uuid('b')),
        ),
        entry(btrfs, &format!(r#""format": "btrfs", "label": "pool", "uuid": "{}""#, uuid('c'))),
        entry(vfat, r#""format": "vfat", "label": "EFI", "uuid": "A1B2-C3D4", "options": ["-F", "16"]"#),
        entry(swap, &format!(r#""format": "swap", "label": "swap", "uuid": "{}""#, uuid('d'))),
        entry(&untouched, r#""format": "none""#),
    ]);
    let machine = Machine::new();
    let (output, done) = disks(&machine, &config);
    assert!(done, "{output}");
    for (disk, format, label, uuid) in [
        (ext4, "ext4", "two words", UUID),
        (xfs, "xfs", "var", &uuid('b')),
        (btrfs, "btrfs", "pool", &uuid('c')),
        (vfat, "vfat", "EFI", "A1B2-C3D4"),
        (swap, "swap", "swap", &uuid('d')),
        (&untouched, "", "", ""),
    ] {
        assert_eq!(blkid(disk), [format, label, uuid], "{output}");
    }
    let dumpe2fs = run(Command::new("dumpe2fs").arg("-h").arg(&ext4.device));
    assert!(dumpe2fs.lines().any(|line| line.starts_with("Inode size:") && line.ends_with("128")), "{dumpe2fs}");
    let start: [u8; 512] = {
        let mut bytes = [0; 512];
        fs::File::open(&xfs.device).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    assert_eq!(u16::from_be_bytes([start[104], start[105]]), 1024, "inode size of the xfs");
    // Whatever order they ended in, they are told in the config's.
    let told: Vec<_> = ["ext4", "xfs", "btrfs", "vfat", "swap"]
        .map(|format| output.find(&format!("make the {format} file system")).unwrap_or_else(|| panic!("{output}")))
        .into();
    assert!(told.is_sorted(), "{output}");

    // A second run keeps them all.
    let before: Vec<_> = made.iter().map(sha).collect();
    let (output, done) = disks(&machine, &config);
    assert!(done, "{output}");
    assert_eq!(output.matches("already so: keep the").count(), 5, "{output}");
    assert_eq!(made.iter().map(sha).collect::<Vec<_>>(), before);
}

#[test]
fn what_is_there_is_kept_refused_or_wiped() {
    let disk = Disk::new(320, &["mkfs.ext4", "-q", "-F", "-L", "data", "-U", UUID]);
    let machine = Machine::new();
    let before = sha(&disk);
    let keep = format!(r#""format": "ext4", "label": "data", "uuid": "{UUID}""#);
    let (output, done) = disks(&machine, &config(&[entry(&disk, &keep)]));
    assert!(done && output.contains("already so: keep the ext4"), "{output}");

    // What only libblkid knows isn't nothing.
    let foreign =
        Disk::new(16, &["sh", "-c", "printf 'bluestore block device' | dd of=\"$0\" conv=notrunc status=none"]);
    let sum = sha(&foreign);
    for refused in [r#""format": "ext4""#, r#""format": "none""#] {
        let (output, done) = disks(&machine, &config(&[entry(&foreign, refused)]));
        assert!(!done && output.contains("it holds ceph_bluestore"), "{refused}: {output}");
        assert_eq!(sha(&foreign), sum, "{refused}");
    }
    let (output, done) = disks(&machine, &config(&[entry(&foreign, r#""format": "ext4", "wipeFilesystem": true"#)]));
    assert!(done && output.contains("this destroys what it holds: ceph_bluestore"), "{output}");
    for refused in [
        r#""format": "xfs""#,
        r#""format": "ext4", "label": "other""#,
        r#""format": "ext4", "uuid": "5ab36f4a-3c1b-4d0e-9d2f-0123456789ac""#,
        r#""format": "none""#,
    ] {
        let (output, done) = disks(&machine, &config(&[entry(&disk, refused)]));
        assert!(!done, "{refused}: {output}");
        assert!(output.contains(&format!("it holds ext4, label \"data\", UUID \"{UUID}\"")), "{output}");
        assert!(output.contains("config.ign:2:3 at $.storage.filesystems.0"), "{output}");
    }
    assert_eq!(sha(&disk), before);

    let wiped = |rest: &str| config(&[entry(&disk, &format!(r#""wipeFilesystem": true, {rest}"#))]);
    let (output, done) = disks(&machine, &wiped(r#""format": "xfs", "label": "new""#));
    assert!(done && output.contains("this destroys what it holds: ext4, label \"data\""), "{output}");
    assert_eq!(blkid(&disk)[..2], ["xfs", "new"]);
    let (output, done) = disks(&machine, &wiped(r#""format": "none""#));
    assert!(done, "{output}");
    assert_eq!(blkid(&disk), ["", "", ""]);
}

#[test]
fn a_left_over_beside_what_counts_is_no_hindrance() {
    // mkswap leaves what stands elsewhere; libblkid calls that ambivalent.
    let disk = Disk::new(320, &["mkfs.btrfs", "-q"]);
    let superblock = |offset: u64, bytes: &[u8]| {
        fs::File::options().write(true).open(&disk.device).unwrap().write_all_at(bytes, offset).unwrap();
    };
    superblock(4096 - 10, b"SWAPSPACE2");
    superblock(1024, &[1, 0, 0, 0, 255]);
    let machine = Machine::new();
    let (output, done) = disks(&machine, &config(&[entry(&disk, r#""format": "btrfs""#)]));
    assert!(!done && output.contains("it holds swap"), "{output}");
    let (output, done) = disks(&machine, &config(&[entry(&disk, r#""format": "swap""#)]));
    assert!(done && output.contains("keep the swap"), "{output}");
    let (output, done) = disks(&machine, &config(&[entry(&disk, r#""format": "ext4", "wipeFilesystem": true"#)]));
    assert!(done && output.contains("this destroys what it holds: swap and btrfs"), "{output}");
    assert_eq!(blkid(&disk)[0], "ext4");
}

#[test]
fn what_a_disk_cannot_take_is_told_in_the_tools_words_all_at_once() {
    let (tiny, fixed, fine) = (Disk::new(1, &[]), Disk::read_only(16, &[]), Disk::new(16, &[]));
    let filesystems =
        [entry(&tiny, r#""format": "xfs""#), entry(&fixed, r#""format": "ext4""#), entry(&fine, r#""format": "ext4""#)];
    let (output, done) = disks(&Machine::new(), &config(&filesystems));
    assert!(!done, "{output}");
    assert!(output.contains("running mkfs.xfs") && output.contains("blocks"), "{output}");
    assert!(output.contains("config.ign:2:3 at $.storage.filesystems.0"), "{output}");
    let words = ["Read-only file system", "Operation not permitted"];
    assert!(words.iter().any(|words| output.contains(words)), "{output}");
    assert!(output.contains("config.ign:3:3 at $.storage.filesystems.1"), "{output}");
    assert_eq!([blkid(&tiny), blkid(&fixed)], [["", "", ""], ["", "", ""]].map(|of| of.map(String::from)));
    assert_eq!(blkid(&fine)[0], "ext4");

    let missing =
        format!("{},\n{}", filesystems[2].replace(fine.name(), "/dev/surely-not-there"), "\"path\": \"/var\"");
    let machine = Machine::new();
    machine.put("cmdline", 0o644, "systemd.default_device_timeout_sec=1");
    let (output, done) = disks(&machine, &config(&[missing]));
    assert!(!done && output.contains("the device /dev/surely-not-there did not appear; there are:"), "{output}");
    assert!(output.contains(&format!("{} (16 MiB", fine.name())), "{output}");
}

#[test]
fn a_device_in_use_is_refused() {
    alone("filesystems::a_device_in_use_is_refused", || {
        let disk = Disk::new(16, &["mkfs.ext4", "-q", "-F"]);
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("mount").arg(&disk.device).arg(folder.path()));
        let before = sha(&disk);
        let wipe = config(&[entry(&disk, r#""format": "ext4", "wipeFilesystem": true"#)]);
        let (output, done) = disks(&Machine::new(), &wipe);
        assert!(!done, "{output}");
        let words = format!("the device is in use: it is mounted at {}", folder.path().display());
        assert!(output.contains(&words), "{output}");
        assert_eq!(sha(&disk), before);
        run(Command::new("umount").arg(folder.path()));
    });
}

/// A run that is killed at any moment leaves what a second run takes for nothing or for whole, never for somebody's data, and
/// never for whole what isn't.
#[test]
fn a_run_that_was_cut_off_is_finished_by_the_next() {
    for (format, mebibytes, label, checker) in [
        ("ext4", 200, "data", &["e2fsck", "-fn"][..]),
        ("xfs", 320, "data", &["xfs_repair", "-n"]),
        ("btrfs", 128, "data", &["btrfs", "check", "--readonly"]),
        ("vfat", 300, "DATA", &["fsck.fat", "-n"]),
        ("swap", 8, "data", &["swaplabel"]),
    ] {
        let machine = Machine::new();
        let mut cut_off = 0;
        for milliseconds in [4, 15, 40, 80] {
            // What stood there before must not show through.
            let disk = Disk::new(mebibytes, &["mkfs.ext2", "-q", "-F", "-L", "old"]);
            run(Command::new("sh").args([
                "-c",
                "head -c 8M /dev/urandom | dd of=\"$0\" bs=1M seek=0 conv=notrunc status=none",
                disk.name(),
            ]));
            let options = if format == "ext4" { r#""-E", "lazy_itable_init=0,lazy_journal_init=0""# } else { "" };
            let rest = format!(r#""format": "{format}", "label": "{label}", "options": [{options}]"#);
            let config = config(&[entry(&disk, &rest)]);
            let mut output = String::new();
            machine.prepare(&config);
            for stage in ["fetch-offline", "kargs"] {
                assert!(machine.stage(stage, &mut output).is_none(), "{output}");
            }
            machine.cut_off("disks", Duration::from_millis(milliseconds));
            cut_off += u32::from(blkid(&disk)[1] != label);
            let stopped = machine.stage("disks", &mut output);
            assert!(stopped.is_none(), "{format} cut off after {milliseconds} ms: {output}");
            assert_eq!(blkid(&disk)[..2], [format, label], "{output}");
            run(Command::new(checker[0]).args(&checker[1..]).arg(&disk.device));
        }
        assert!(cut_off > 0, "no run with {format} was cut off before its end");
    }
}
