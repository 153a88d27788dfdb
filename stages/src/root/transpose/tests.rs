// SPDX-License-Identifier: Apache-2.0
//! A disk as an image has it, on a loop device; what the disks stage does in between, other programs do here. There is no vfat in every
//! kernel that runs these: EFI system partitions are the virtual machines' part.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fledge_core::cmdline::Cmdline;
use fledge_core::root::transpose::{HALF, NOTE};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use super::*;
use crate::root::tests::{run, succeed};

const CMDLINE: &str = "ignition.firstboot ostree=/ostree/boot.1/nestos/abc/0";
const PROGRAM: &str = "ostree/deploy/nestos/deploy/d.0/usr/program";
const OBJECT: &str = "ostree/repo/objects/ab/cd.file";
const MIB: u64 = 1 << 20;

/// A disk, and links that udev would make.
struct Disk {
    folder: tempfile::TempDir,
    device: String,
    links: Vec<PathBuf>,
}

impl Disk {
    /// BIOS boot, boot (ext4), root; the system is in the root.
    fn new(format: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        File::create(&image).unwrap().set_len(1200 * MIB).unwrap();
        let device = succeed("losetup", &["--find", "--show", image.to_str().unwrap()]);
        let disk = Self { folder, device, links: Vec::new() };
        let parts =
            ["--new=1:1M:+1M", "--typecode=1:ef02", "--new=3:3M:+32M", "--new=4:36M:+400M", "--change-name=4:root"];
        disk.partition(&parts);
        disk.raw(0).write_all_at(&[0xb0; 440], 0).unwrap();
        disk.raw(1).write_all_at(&vec![0xc0; 70_000], 0).unwrap();
        disk.make("ext4", "boot", 3);
        disk.within(3, |boot| {
            fs::create_dir_all(boot.join("loader/entries")).unwrap();
            fs::write(boot.join("loader/entries/ostree-1.conf"), "options x\n").unwrap();
        });
        disk.make(format, "root", 4);
        disk.within(4, build);
        disk
    }

    fn partition(&self, args: &[&str]) {
        succeed("sgdisk", &[args, &[&self.device]].concat());
        // Not every kernel reads partition tables by itself.
        run("partx", &["--delete", &self.device]);
        run("partx", &["--add", &self.device]);
    }

    /// A partition, or the disk.
    fn part(&self, number: u32) -> String {
        if number == 0 { self.device.clone() } else { format!("{}p{number}", self.device) }
    }

    fn raw(&self, number: u32) -> File {
        File::options().read(true).write(true).open(self.part(number)).unwrap()
    }

    fn make(&self, format: &str, label: &str, number: u32) {
        let force = if format == "ext4" { "-F" } else { "-f" };
        succeed(&format!("mkfs.{format}"), &["-q", force, "-L", label, &self.part(number)]);
    }

    fn within<T>(&self, number: u32, look: impl FnOnce(&Path) -> T) -> T {
        let point = self.folder.path().join("look");
        fs::create_dir_all(&point).unwrap();
        succeed("mount", &[&self.part(number), point.to_str().unwrap()]);
        let seen = look(&point);
        succeed("umount", &[point.to_str().unwrap()]);
        seen
    }

    fn places(&self) -> Places {
        Places {
            state: self.folder.path().join("transpose.json"),
            boot: self.part(3).into(),
            root: self.part(4).into(),
            store: None,
        }
    }

    fn detect(&self, storage: &str) -> Result<(), String> {
        let storage = storage.replace("DISK", &self.device);
        let file = |name: &str| self.folder.path().join(name);
        fs::write(file("config"), format!("{{\"ignition\": {{\"version\": \"3.6.0\"}}, \"storage\": {storage}}}"))
            .unwrap();
        let args = StageArgs {
            root: "/".into(),
            platform: "metal".into(),
            config_cache: file("config"),
            neednet: file("neednet"),
            state_file: file("state"),
            fetch_timeout: Duration::ZERO,
            cmdline: Cmdline::parse(&format!("{CMDLINE} systemd.default_device_timeout_sec=1")),
        };
        detect(&args, &self.places()).map_err(|failures| failures[0].to_string())
    }

    fn note(&self) -> Option<String> {
        self.within(3, |boot| fs::read_to_string(boot.join(NOTE.trim_start_matches('/'))).ok())
    }

    fn udev_links(&mut self, label: &str, number: u32) {
        let link = Path::new("/dev/disk/by-partlabel").join(label);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(self.part(number), &link).unwrap();
        self.links.push(link);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for link in &self.links {
            let _ = fs::remove_file(link);
        }
        run("partx", &["--delete", &self.device]);
        run("losetup", &["--detach", &self.device]);
    }
}

fn build(root: &Path) {
    let folder = |path: &str| fs::create_dir_all(root.join(path)).unwrap();
    folder("ostree/repo/objects/ab");
    folder("ostree/deploy/nestos/deploy/d.0/usr");
    folder("ostree/boot.1.1/nestos/abc");
    symlink("boot.1.1", root.join("ostree/boot.1")).unwrap();
    symlink("../../../deploy/nestos/deploy/d.0", root.join("ostree/boot.1.1/nestos/abc/0")).unwrap();
    fs::write(root.join(OBJECT), vec![0x5a; 20 << 20]).unwrap();
    fs::set_permissions(root.join(OBJECT), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::hard_link(root.join(OBJECT), root.join(PROGRAM)).unwrap();
    let deployment = File::open(root.join("ostree/deploy/nestos/deploy/d.0")).unwrap();
    ioctl_setflags(&deployment, ioctl_getflags(&deployment).unwrap() | IFlags::IMMUTABLE).unwrap();
}

fn assert_is_the_system(root: &Path) {
    let (program, object) = (fs::metadata(root.join(PROGRAM)).unwrap(), fs::metadata(root.join(OBJECT)).unwrap());
    assert_eq!((program.ino(), program.nlink(), program.mode() & 0o7777), (object.ino(), 2, 0o4711));
    assert!(fs::read(root.join(OBJECT)).unwrap().iter().all(|byte| *byte == 0x5a));
    let through = fs::canonicalize(root.join("ostree/boot.1/nestos/abc/0")).unwrap();
    let flags = ioctl_getflags(File::open(through).unwrap()).unwrap();
    assert!(flags.contains(IFlags::IMMUTABLE));
    let mut names: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.retain(|name| name != "lost+found");
    assert_eq!(names, ["ostree"]);
}

const IN_PLACE: &str =
    r#"{"filesystems": [{"device": "DISKp4", "format": "ext4", "label": "root", "wipeFilesystem": true}]}"#;

#[test]
fn a_root_becomes_another_in_compressed_memory_meanwhile() {
    let disk = Disk::new("xfs");
    let places = disk.places();
    disk.detect(IN_PLACE).unwrap();
    assert_eq!(disk.note(), None);
    save(&places).unwrap();
    let uuid = succeed("blkid", &["--probe", "--output", "value", "--match-tag", "UUID", &disk.part(4)]);
    assert_eq!(disk.note(), Some(format!("{uuid}\n")));
    let number = Kept::read(&places.state).unwrap().unwrap().memory.unwrap();
    assert!(zram(number).exists() && is_in_memory(&places.state));
    disk.make("ext4", "root", 4);
    restore(&places, &Cmdline::parse(CMDLINE)).unwrap();
    disk.within(4, assert_is_the_system);
    assert_eq!(disk.note(), None);
    assert!(!zram(number).exists() && !is_in_memory(&places.state));

    // Its partition is the image's, and grows as any other would.
    let config = disk.folder.path().join("config");
    let size = || disk.within(4, |root| rustix::fs::statvfs(root).unwrap().f_blocks);
    let before = size();
    let grow = |state: &Path| {
        crate::root::grow::run(&places.root, &disk.folder.path().join("point"), &config, state, &Cmdline::parse(""))
            .unwrap();
    };
    grow(&disk.folder.path().join("nothing"));
    assert_eq!(size(), before);
    grow(&places.state);
    assert!(size() > 2 * before);
}

fn zram(number: u32) -> PathBuf {
    format!("/sys/block/zram{number}").into()
}

#[test]
fn a_power_cut_is_told_of_and_nothing_is_taken_for_a_system() {
    let disk = Disk::new("ext4");
    let places = disk.places();
    disk.detect(IN_PLACE).unwrap();
    save(&places).unwrap();
    let number = Kept::read(&places.state).unwrap().unwrap().memory.unwrap();
    // Cut before the disks stage began: all is there, and the next first boot begins anew.
    disk.detect(IN_PLACE).unwrap();
    // In it.
    disk.make("ext4", "root", 4);
    let told = disk.detect(IN_PLACE).unwrap_err();
    for words in ["is not a whole one", "cut off while it was in memory alone", "what to do: install the system again"]
    {
        assert!(told.contains(words), "{told}");
    }
    // Before there was another root.
    succeed("wipefs", &["--all", &disk.part(4)]);
    disk.partition(&["--delete=4"]);
    let told = disk.detect(IN_PLACE).unwrap_err();
    assert!(told.contains("the root is gone") && told.contains("install the system again"), "{told}");
    // While it was written back.
    disk.partition(&["--new=4:36M:+400M"]);
    disk.make("ext4", "root", 4);
    disk.within(4, |root| {
        build(root);
        fs::write(root.join(HALF), "").unwrap();
    });
    let told = disk.detect(IN_PLACE).unwrap_err();
    assert!(told.contains("it was being written back when the power went"), "{told}");
    // Whole, but the note is still there.
    disk.within(4, |root| fs::remove_file(root.join(HALF)).unwrap());
    disk.detect(IN_PLACE).unwrap();
    crate::host::zram::remove(number).unwrap();
}

#[test]
fn what_boots_the_machine_moves_along() {
    let mut disk = Disk::new("xfs");
    let label = format!("bios-{}", std::process::id());
    let places = Places { root: disk.part(7).into(), ..disk.places() };
    let config = r#"{"disks": [{"device": "DISK", "wipeTable": true, "partitions": [
      {"number": 5, "label": "LABEL", "startMiB": 1, "sizeMiB": 1, "typeGuid": "21686148-6449-6E6F-744E-656564454649"},
      {"number": 6, "label": "b", "startMiB": 500, "sizeMiB": 32}, {"number": 7, "label": "r", "startMiB": 600, "sizeMiB": 400}]}],
      "filesystems": [{"device": "DISKp6", "format": "ext4", "label": "boot", "wipeFilesystem": true},
      {"device": "DISKp7", "format": "ext4", "label": "root", "wipeFilesystem": true}]}"#
        .replace("LABEL", &label);
    let moved = config.replace("\"startMiB\": 1,", "\"startMiB\": 2,");
    let told = disk.detect(&moved).unwrap_err();
    assert!(
        told.contains("GRUB's boot code goes on at sector 2048") && told.contains("set its startMiB to 1"),
        "{told}"
    );
    disk.detect(&config).unwrap();
    assert!(!places.state.exists() || Kept::read(&places.state).unwrap().is_some());
    save(&disk.places()).unwrap();
    assert_eq!(disk.note(), None);
    disk.partition(&["--zap-all"]);
    let parts = ["--new=5:1M:+1M", "--typecode=5:ef02", "--new=6:500M:+32M", "--new=7:600M:+400M"];
    disk.partition(&parts);
    disk.raw(5).write_all_at(&vec![0; 70_000], 0).unwrap();
    disk.raw(0).write_all_at(&[0; 440], 0).unwrap();
    let mut table = [0; 72];
    disk.raw(0).read_exact_at(&mut table, 440).unwrap();
    disk.make("ext4", "boot", 6);
    disk.make("ext4", "root", 7);
    disk.udev_links(&label, 5);
    restore(&places, &Cmdline::parse(CMDLINE)).unwrap();
    disk.within(7, assert_is_the_system);
    let entry = disk.within(6, |boot| fs::read_to_string(boot.join("loader/entries/ostree-1.conf")).unwrap());
    assert_eq!(entry, "options x\n");
    let (mut code, mut partition, mut after) = ([0; 440], vec![0; 70_001], [0; 72]);
    disk.raw(0).read_exact_at(&mut code, 0).unwrap();
    disk.raw(0).read_exact_at(&mut after, 440).unwrap();
    disk.raw(5).read_exact_at(&mut partition, 0).unwrap();
    assert_eq!((code, after), ([0xb0; 440], table));
    assert!(partition[..70_000].iter().all(|byte| *byte == 0xc0) && partition[70_000] == 0);
}

#[test]
fn what_does_not_fit_into_memory_leaves_the_disk_as_it_is() {
    let disk = Disk::new("ext4");
    disk.within(4, |root| fs::write(root.join("large"), vec![3; 330 << 20]).unwrap());
    let store = disk.folder.path().join("store");
    File::create(&store).unwrap().set_len(300 * MIB).unwrap();
    let store = succeed("losetup", &["--find", "--show", store.to_str().unwrap()]);
    disk.detect(IN_PLACE).unwrap();
    let before = succeed("sha256sum", &[&disk.part(4)]);
    let told = save(&Places { store: Some(store.clone().into()), ..disk.places() }).unwrap_err().to_string();
    succeed("losetup", &["--detach", &store]);
    for words in ["keeping the root", "/large: No space left", "too little memory", "nothing was written to the disks"]
    {
        assert!(told.contains(words), "{told}");
    }
    assert_eq!(succeed("sha256sum", &[&disk.part(4)]), before);
    assert_eq!(disk.note(), None);
}

#[test]
fn a_file_system_that_holds_something_is_not_written_over() {
    let disk = Disk::new("ext4");
    let places = disk.places();
    disk.detect(IN_PLACE).unwrap();
    save(&places).unwrap();
    let number = Kept::read(&places.state).unwrap().unwrap().memory.unwrap();
    let told = restore(&places, &Cmdline::parse(CMDLINE)).unwrap_err().to_string();
    assert!(
        told.contains("isn't new: it holds ostree") && told.contains("lost when the machine is turned off"),
        "{told}"
    );
    crate::host::zram::remove(number).unwrap();
}

#[test]
fn an_xfs_of_many_groups_is_made_anew() {
    let disk = Disk::new("ext4");
    let image = disk.folder.path().join("large");
    let file = File::create(&image).unwrap();
    file.set_len(304 * MIB).unwrap();
    let device = succeed("losetup", &["--find", "--show", image.to_str().unwrap()]);
    let places = Places { root: device.clone().into(), ..disk.places() };
    let groups = |device: &str| {
        let file = File::open(device).unwrap();
        device::reading(&file, transpose::allocation_groups).unwrap()
    };
    let uuid = "01234567-89ab-cdef-0123-456789abcdef";
    succeed("mkfs.xfs", &["-q", "-f", "-L", "root", "-m", &format!("uuid={uuid}"), &device]);
    let point = disk.folder.path().join("large-root");
    fs::create_dir(&point).unwrap();
    let within = |look: &dyn Fn(&Path)| {
        succeed("mount", &[&device, point.to_str().unwrap()]);
        look(&point);
        succeed("umount", &[point.to_str().unwrap()]);
    };
    within(&build);
    regrow(&places, &Cmdline::parse(CMDLINE)).unwrap();
    assert_eq!(groups(&device), 4);
    // As an image's root grows on a large disk.
    file.set_len(31 << 30).unwrap();
    succeed("losetup", &["--set-capacity", &device]);
    within(&|root| drop(succeed("xfs_growfs", &[root.to_str().unwrap()])));
    assert!(groups(&device) > 400);
    regrow(&places, &Cmdline::parse(CMDLINE)).unwrap();
    assert!(groups(&device) < 16);
    within(&assert_is_the_system);
    assert_eq!(succeed("blkid", &["--probe", "--output", "value", "--match-tag", "UUID", &device]), uuid);
    assert_eq!(disk.note(), None);
    // Once more: there is nothing to do.
    regrow(&places, &Cmdline::parse(CMDLINE)).unwrap();
    succeed("losetup", &["--detach", &device]);
}
