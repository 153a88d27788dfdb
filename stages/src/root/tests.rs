// SPDX-License-Identifier: Apache-2.0
//! Real file systems in real partitions of loop devices, whose sizes and UUIDs other programs read. Tools that aren't installed fail
//! their test: they must be there.

use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use fledge_core::cmdline::Cmdline;
use fledge_core::config::Config;
use fledge_core::root::identity::IMAGE;

use super::*;

pub(super) fn run(program: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(args)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

pub(super) fn succeed(program: &str, args: &[&str]) -> String {
    let (succeeded, said) = run(program, args);
    assert!(succeeded, "{program} {args:?}: {said}");
    said.trim().to_owned()
}

/// mkfs.btrfs refuses a UUID that another device has: that of a test beside this one.
fn patiently(program: &str, args: &[&str]) -> String {
    for _ in 0..300 {
        let (succeeded, said) = run(program, args);
        if succeeded || !said.contains("non-unique UUID") {
            assert!(succeeded, "{program} {args:?}: {said}");
            return said;
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    panic!("{program} {args:?}: others have that UUID")
}

/// A disk of an image: boot (partition 3, ext4) and root (partition 4), and room behind it.
struct Disk {
    folder: tempfile::TempDir,
    device: String,
}

const SMALL: u64 = 352 << 20;
const LARGE: u64 = 640 << 20;
const IMAGES: &str = "00000000-0000-4000-A000-000000000001";

impl Disk {
    fn new(format: &str) -> Self {
        Self::with_sectors(format, "512")
    }

    fn with_sectors(format: &str, sector: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        let path = image.to_str().unwrap();
        let attach = || succeed("losetup", &["--find", "--show", "--sector-size", sector, path]);
        File::create(&image).unwrap().set_len(SMALL).unwrap();
        let small = attach();
        let parts = ["--new=3:1M:+16M", "--new=4:18M:+330M", "--change-name=4:root"];
        succeed("sgdisk", &[&["--disk-guid", IMAGES], parts.as_slice(), &[&small]].concat());
        succeed("losetup", &["--detach", &small]);
        File::options().write(true).open(&image).unwrap().set_len(LARGE).unwrap();
        let disk = Self { folder, device: attach() };
        // Not every kernel reads partition tables by itself.
        run("partx", &["--add", &disk.device]);
        disk.format(format);
        disk
    }

    fn format(&self, format: &str) {
        let (boot, root) = (self.part(3), self.part(4));
        succeed("mkfs.ext4", &["-q", "-L", "boot", "-U", IMAGE[0], &boot]);
        match format {
            "ext4" => succeed("mkfs.ext4", &["-q", "-U", IMAGE[1], &root]),
            // As it was made before e2fsprogs 1.47: every checksum holds the UUID.
            "old ext4" => {
                let features = "metadata_csum,^metadata_csum_seed,^orphan_file";
                succeed("mkfs.ext4", &["-q", "-O", features, "-U", IMAGE[1], &root]);
                succeed("tune2fs", &["-T", "20200101", &root])
            }
            "xfs" => succeed("mkfs.xfs", &["-q", "-m", &format!("uuid={}", IMAGE[1]), &root]),
            _ => patiently("mkfs.btrfs", &["-q", "-U", IMAGE[1], &root]),
        };
    }

    fn part(&self, number: u32) -> String {
        format!("{}p{number}", self.device)
    }

    fn make(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Mounts a partition for a moment.
    fn within<T>(&self, number: u32, look: impl FnOnce(&Path) -> T) -> T {
        let point = self.make("look");
        succeed("mount", &[&self.part(number), point.to_str().unwrap()]);
        let seen = look(&point);
        succeed("umount", &[point.to_str().unwrap()]);
        seen
    }

    fn size(&self) -> u64 {
        self.within(4, |point| {
            let stat = rustix::fs::statvfs(point).unwrap();
            stat.f_blocks * stat.f_frsize
        })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("partx", &["--delete", &self.device]);
        run("losetup", &["--detach", &self.device]);
    }
}

fn uuid(device: &str) -> String {
    succeed("blkid", &["--probe", "--output", "value", "--match-tag", "UUID", device])
}

fn grow(disk: &Disk) {
    grow_by(disk, &disk.folder.path().join("no-config"), "");
}

fn grow_by(disk: &Disk, config: &Path, cmdline: &str) {
    let point = disk.folder.path().join("point");
    let state = disk.folder.path().join("no-state");
    grow::run(Path::new(&disk.part(4)), &point, config, &state, &Cmdline::parse(cmdline)).unwrap();
}

fn grows(format: &str, check: &[&str]) {
    grows_on(&Disk::new(format), format, check);
}

fn grows_on(disk: &Disk, format: &str, check: &[&str]) {
    disk.within(4, |root| fs::write(root.join("kept"), "kept").unwrap());
    identity::disk(Path::new(&disk.part(3))).unwrap();
    let said = succeed("sgdisk", &["--print", "--verify", &disk.device]);
    assert!(said.contains("No problems found"), "{said}");
    assert!(!said.contains(IMAGES), "{said}");
    let guid = |text: &str| text.lines().find(|line| line.starts_with("Disk identifier")).unwrap().to_owned();
    let own = guid(&said);
    identity::disk(Path::new(&disk.part(3))).unwrap();
    assert_eq!(guid(&succeed("sgdisk", &["--print", &disk.device])), own);

    for number in [3, 4] {
        let part = disk.part(number);
        let image = uuid(&part);
        let give = |cmdline: &str| identity::file_system(Path::new(&part), &Cmdline::parse(cmdline)).unwrap();
        give(&format!("root=UUID={image}"));
        assert_eq!(uuid(&part), image);
        give("ostree=/o");
        let own = uuid(&part);
        assert!(!IMAGE.contains(&own.as_str()) && own.len() == 36, "{own}");
        give("ostree=/o");
        assert_eq!(uuid(&part), own);
    }

    let before = disk.size();
    grow(disk);
    let after = disk.size();
    assert!(after > before + (250 << 20), "{format}: {before} {after}");
    disk.within(4, |root| assert_eq!(fs::read_to_string(root.join("kept")).unwrap(), "kept"));
    let said = succeed("sgdisk", &["--verify", &disk.device]);
    assert!(said.contains("No problems found"), "{said}");
    let (program, args) = check.split_first().unwrap();
    succeed(program, &[args, &[disk.part(4).as_str()]].concat());

    // Once more: nothing changes.
    let table = fs::read(&disk.device).unwrap().get(..34 * 512).unwrap().to_vec();
    grow(disk);
    assert_eq!(disk.size(), after);
    assert_eq!(fs::read(&disk.device).unwrap().get(..34 * 512).unwrap(), table);
}

#[test]
fn an_ext4_root_gets_its_own_uuid_and_grows() {
    grows("ext4", &["e2fsck", "-f", "-n"]);
}

#[test]
fn an_ext4_whose_checksums_hold_its_uuid_is_checked_first() {
    grows("old ext4", &["e2fsck", "-f", "-n"]);
}

#[test]
fn a_root_on_large_sectors_grows() {
    grows_on(&Disk::with_sectors("ext4", "4096"), "ext4", &["e2fsck", "-f", "-n"]);
}

#[test]
fn an_xfs_root_gets_its_own_uuid_and_grows() {
    grows("xfs", &["xfs_repair", "-n"]);
}

#[test]
fn a_btrfs_root_gets_its_own_uuid_and_grows() {
    grows("btrfs", &["btrfs", "check"]);
}

#[test]
fn a_root_that_grew_only_half_grows_on() {
    let disk = Disk::new("xfs");
    let before = disk.size();
    // As if power was cut behind the partition table.
    succeed("sgdisk", &["--move-second-header", "--delete=4", "--new=4:18M:0", "--change-name=4:root", &disk.device]);
    succeed("partx", &["--update", &disk.device]);
    grow(&disk);
    assert!(disk.size() > before + (250 << 20));
}

#[test]
fn a_root_that_the_configuration_lays_out_keeps_its_partition() {
    let disk = Disk::new("ext4");
    let config = disk.folder.path().join("config");
    let before = disk.size();
    let sized = format!(
        r#"{{"disks": [{{"device": "{}", "partitions": [{{"number": 4, "sizeMiB": 330, "resize": true}}]}}]}}"#,
        disk.device
    );
    let made =
        r#"{"filesystems": [{"device": "/dev/x"}, {"device": "/dev/y", "label": "root", "wipeFilesystem": true}]}"#;
    for storage in [made, &sized] {
        fs::write(&config, format!(r#"{{"ignition": {{"version": "3.4.0"}}, "storage": {storage}}}"#)).unwrap();
        grow_by(&disk, &config, "");
        assert_eq!(disk.size(), before, "{storage}");
    }
}

#[test]
fn what_stands_at_the_end_of_what_is_gained_is_no_signature_of_the_root() {
    let disk = Disk::new("ext4");
    // An array's superblock of the format 1.0, where the partition is going to end.
    let end = (LARGE / 512 - 34) / 8 * 8 * 512;
    let file = File::options().write(true).open(&disk.device).unwrap();
    let mut block = [0; 256];
    block[..4].copy_from_slice(&0xA92B_4EFC_u32.to_le_bytes());
    block[4] = 1;
    std::os::unix::fs::FileExt::write_all_at(&file, &block, end - 8192).unwrap();
    file.sync_all().unwrap();
    drop(file);
    // As if power is cut when the table has been written.
    let plan = grow::plan(Path::new(&disk.part(4)), &Config::default(), Path::new("/nowhere"), false).unwrap();
    grow::execute(&plan.steps[0], &disk.folder.path().join("point")).unwrap();
    let size: u64 = succeed("blockdev", &["--getsize64", &disk.part(4)]).parse().unwrap();
    assert_eq!((18 << 20) + size, end);
    assert_eq!(device::superblock(Path::new(&disk.part(4))).unwrap(), None);
    grow(&disk);
}

#[test]
fn a_root_that_is_named_stays_if_it_cannot_grow() {
    let disk = Disk::new("ext4");
    succeed("mkfs.ext2", &["-q", "-F", &disk.part(4)]);
    let before = disk.size();
    grow_by(&disk, Path::new("/nowhere"), "root=LABEL=x");
    assert_eq!(disk.size(), before);
}

#[test]
fn a_boot_file_system_of_another_root_is_found_before_anything_is_changed() {
    let disk = Disk::new("ext4");
    let (boot, root) = (PathBuf::from(disk.part(3)), PathBuf::from(disk.part(4)));
    persist::check(&root, &boot).unwrap();
    persist::check(Path::new("/dev/nothing"), &boot).unwrap();
    disk.within(3, |boot| fs::write(boot.join(".root_uuid"), format!("{}\n", IMAGE[1])).unwrap());
    persist::check(&root, &boot).unwrap();
    disk.within(3, |boot| fs::write(boot.join(".root_uuid"), "another\n").unwrap());
    let failure = persist::check(&root, &boot).unwrap_err().to_string();
    assert!(failure.contains("bound to another root"), "{failure}");
}

#[test]
fn later_boots_are_told_of_the_root() {
    later_boots_are_told_while_boot_is(None);
}

#[test]
fn later_boots_are_told_where_the_configuration_mounts_boot() {
    for options in ["rw", "ro"] {
        later_boots_are_told_while_boot_is(Some(options));
    }
}

fn later_boots_are_told_while_boot_is(mounted: Option<&str>) {
    let disk = Disk::new("xfs");
    let entry = "title X\noptions quiet ostree=/o\n";
    disk.within(3, |boot| {
        fs::create_dir_all(boot.join("loader/entries")).unwrap();
        fs::create_dir(boot.join("grub2")).unwrap();
        for name in ["ostree-1-nestos.conf", "ostree-2-nestos.conf"] {
            fs::write(boot.join("loader/entries").join(name), entry).unwrap();
        }
    });
    let root = disk.make("root");
    let elsewhere = disk.make("elsewhere");
    let mount = |options: &str, number: u32, point: &Path| {
        succeed("mount", &["-o", options, &disk.part(number), point.to_str().unwrap()]);
    };
    let (boot, config) = (PathBuf::from(disk.part(3)), disk.folder.path().join("no-config"));
    mount("rw", 4, &root);
    if let Some(options) = mounted {
        mount(options, 3, &elsewhere);
    }
    let tell = |cmdline: &str| persist::run(&root, &boot, &config, &Cmdline::parse(cmdline));
    let first = tell("ostree=/o boot=UUID=x");
    let again = tell("root=UUID=x boot=UUID=x");
    let touched = fs::write(elsewhere.join("x"), "").is_ok();
    if mounted.is_some() {
        succeed("umount", &[elsewhere.to_str().unwrap()]);
    }
    disk.within(3, |boot| fs::write(boot.join(".root_uuid"), "another\n").unwrap());
    let another = tell("ostree=/o boot=UUID=x");
    succeed("umount", &[root.to_str().unwrap()]);
    first.unwrap();
    again.unwrap();
    assert_eq!(touched, mounted != Some("ro"), "the other mount is as it was");
    let failure = another.unwrap_err().to_string();
    assert!(failure.contains("bound to another root") && failure.contains("\"another\""), "{failure}");

    let [boot_uuid, root_uuid] = IMAGE;
    disk.within(3, |boot| {
        let wanted = format!("ostree=/o root=UUID={root_uuid} rw rootflags=prjquota boot=UUID={boot_uuid}\n");
        for name in ["ostree-1-nestos.conf", "ostree-2-nestos.conf"] {
            let text = fs::read_to_string(boot.join("loader/entries").join(name)).unwrap();
            assert_eq!(text, entry.replace("ostree=/o\n", &wanted));
        }
        let loader = fs::read_to_string(boot.join("grub2/bootuuid.cfg")).unwrap();
        assert_eq!(loader, format!("set BOOT_UUID=\"{boot_uuid}\"\n"));
    });
}
