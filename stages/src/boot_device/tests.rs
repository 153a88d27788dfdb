// SPDX-License-Identifier: Apache-2.0
//! On a sysfs made by hand, with files for devices.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, symlink};

use fledge_core::gpt::{Geometry, Guid, Partition, Table};
use fledge_core::plan::partitions::Mbr;
use tempfile::TempDir;

use super::*;

const MIB: u64 = 1 << 20;

struct Machine {
    _folder: TempDir,
    places: Places,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let places = Places { sys: folder.path().join("sys"), dev: folder.path().join("dev") };
        fs::create_dir_all(places.sys.join("class/block")).unwrap();
        fs::create_dir_all(&places.dev).unwrap();
        Self { _folder: folder, places }
    }

    /// A device below `above` in sysfs, with these files there and `bytes` as its node.
    fn device(&self, above: &str, name: &str, files: &[(&str, &str)], size: u64) -> File {
        let folder = self.places.sys.join("devices").join(above).join(name);
        for (file, text) in [("size", format!("{}\n", size / 512))]
            .iter()
            .map(|(file, text)| (*file, text.as_str()))
            .chain(files.iter().copied())
        {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        symlink(&folder, self.places.sys.join("class/block").join(name)).unwrap();
        let node = self.places.dev.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(node).unwrap();
        file.set_len(size).unwrap();
        file
    }

    /// A disk with a boot and a root partition.
    fn disk(&self, name: &str, files: &[(&str, &str)], uuid: u8) {
        self.device("", name, files, 16 * MIB);
        for (number, label) in [("1", "boot"), ("2", "root")] {
            let file = self.device(name, &format!("{name}{number}"), &[("partition", number)], 4 * MIB);
            ext4(&file, 0, label, uuid);
        }
    }

    /// Device-mapper's `name`, made of `below`.
    fn mapped(&self, name: &str, uuid: &str, below: &[&str], label: &str) {
        let file = self.device("", name, &[("dm/uuid", uuid), ("slaves/.keep", ""), ("holders/.keep", "")], 4 * MIB);
        if !label.is_empty() {
            ext4(&file, 0, label, 7);
        }
        let of = |name: &str| self.places.sys.join("class/block").join(name).canonicalize().unwrap();
        fs::remove_file(of(name).join("slaves/.keep")).unwrap();
        fs::remove_file(of(name).join("holders/.keep")).unwrap();
        for other in below {
            symlink(of(other), of(name).join("slaves").join(other)).unwrap();
            fs::create_dir_all(of(other).join("holders")).unwrap();
            symlink(of(name), of(other).join("holders").join(name)).unwrap();
        }
    }

    fn judge(&self) -> Result<String, String> {
        let text = |text: String| text.replace(&format!("{}", self.places.dev.display()), "/dev");
        let found = judge(&Cmdline::default(), Moment::BeforeDisks, &self.places, None);
        let lines = |evidence: Evidence| {
            let found = evidence.found.iter().map(|found| format!("{}: {found}\n", found.name));
            found.chain(evidence.remarks).collect::<String>()
        };
        found.map(|found| text(lines(found))).map_err(|failure| text(failure.to_string()))
    }
}

fn ext4(file: &File, at: u64, label: &str, uuid: u8) {
    file.write_all_at(&0xEF53_u16.to_le_bytes(), at + 1024 + 56).unwrap();
    file.write_all_at(&0x40_u32.to_le_bytes(), at + 1024 + 96).unwrap();
    file.write_all_at(&[uuid; 16], at + 1024 + 104).unwrap();
    file.write_all_at(label.as_bytes(), at + 1024 + 120).unwrap();
}

#[test]
fn one_disk_is_evidence_and_two_are_named() {
    let machine = Machine::new();
    machine.disk("vda", &[("serial", "same")], 1);
    machine.device("", "sr0", &[], 0);
    machine.device("", "vdz", &[], 16 * MIB);
    let found = machine.judge().unwrap();
    assert!(found.starts_with("boot: /dev/vda1 on /dev/vda (ext4, label \"boot\""), "{found}");
    assert!(found.contains("root: /dev/vda2 on /dev/vda (ext4"), "{found}");
    // A copy, with the serial number that somebody gave to both.
    machine.disk("vdb", &[("serial", "same")], 1);
    let refused = machine.judge().unwrap_err();
    assert!(refused.contains("/dev/vda1 on /dev/vda") && refused.contains("/dev/vdb1 on /dev/vdb"), "{refused}");
}

#[test]
fn several_paths_are_one_disk_with_multipath_and_without() {
    let machine = Machine::new();
    machine.disk("sda", &[("device/wwid", "naa.5")], 7);
    machine.disk("sdb", &[("device/wwid", "naa.5")], 7);
    let found = machine.judge().unwrap();
    assert!(found.contains("/dev/sda1 on /dev/sda (") && found.contains("also seen as /dev/sdb1"), "{found}");
    machine.mapped("dm-0", "mpath-5", &["sda", "sdb"], "");
    machine.mapped("dm-1", "part1-mpath-5", &["dm-0"], "boot");
    machine.mapped("dm-2", "part2-mpath-5", &["dm-0"], "root");
    let found = machine.judge().unwrap();
    assert!(
        found.starts_with("boot: /dev/dm-1 on /dev/dm-0 (") && found.contains("root: /dev/dm-2 on /dev/dm-0"),
        "{found}"
    );
    assert!(!found.contains("also seen"), "{found}");
    machine.disk("sdc", &[("device/wwid", "naa.6")], 7);
    assert!(machine.judge().unwrap_err().contains("/dev/sdc1 on /dev/sdc"));
}

#[test]
fn names_that_only_a_serial_number_tells_apart_make_no_two_disks_one() {
    let machine = Machine::new();
    machine.disk("sda", &[("device/wwid", "t10.ATA     QEMU HARDDISK                           QM00001")], 7);
    machine.disk("sdb", &[("device/wwid", "t10.ATA     QEMU HARDDISK                           QM00001")], 7);
    assert!(machine.judge().unwrap_err().contains("/dev/sdb1 on /dev/sdb"));
}

#[test]
fn what_cannot_be_read_is_told_and_what_is_no_disk_is_left_out() {
    let machine = Machine::new();
    machine.disk("vda", &[], 7);
    for (name, files) in [("loop0", &[][..]), ("sr0", &[]), ("nvme0c0n1", &[("hidden", "1\n")])] {
        ext4(&machine.device("", name, files, 4 * MIB), 0, "boot", 7);
    }
    let found = machine.judge().unwrap();
    assert_eq!(found.lines().count(), 2, "{found}");
    machine.device("", "sdx", &[], 4 * MIB);
    fs::remove_file(machine.places.dev.join("sdx")).unwrap();
    fs::create_dir(machine.places.dev.join("sdx")).unwrap();
    let found = machine.judge().unwrap();
    assert!(found.contains("can't be read: /dev/sdx (Is a directory"), "{found}");
    machine.disk("vdb", &[], 7);
    assert!(machine.judge().unwrap_err().contains("/dev/sdx (Is a directory"));
    let failure =
        judge(&Cmdline::default(), Moment::AfterDisks, &machine.places, Some("udev is busy".into())).unwrap_err();
    assert!(failure.why.contains("; udev is busy"), "{failure}");
}

#[test]
fn the_boot_disk_loses_its_names_and_no_other() {
    let machine = Machine::new();
    let folder = machine.places.dev.join("disk/by-id");
    fs::create_dir_all(&folder).unwrap();
    for name in ["nestos-boot-disk", "coreos-boot-disk", "virtio-x"] {
        symlink("../../vda", folder.join(name)).unwrap();
    }
    for _ in 0..2 {
        forget_links(&machine.places).unwrap();
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["virtio-x"]);
    }
}

/// Gives a disk a table with one partition, and that a file system.
fn partitioned(file: &File, label: &str) {
    let geometry = Geometry { sector: 512, sectors: 16 * MIB / 512 };
    let guid = Guid::parse("0FC63DAF-8483-4772-8E79-3D69D8477DE4").unwrap();
    let mut table = Table::fresh(geometry, guid).unwrap();
    table.partitions.push(Partition {
        number: 3,
        start: 2048,
        end: 2048 + 8191,
        kind: guid,
        guid,
        label: "boot".into(),
        name: None,
        attributes: 0,
    });
    block::write(file, geometry, Some(&table), Mbr::Protective).unwrap();
    ext4(file, MIB, label, 1);
}

#[test]
fn a_disk_tells_by_its_own_bytes_whether_it_has_the_boot_file_system() {
    let machine = Machine::new();
    let has = |name: &str| contains_boot(name, &machine.places).unwrap();
    partitioned(&machine.device("", "sda", &[], 16 * MIB), "boot");
    // The partition's name says so, too; the file system doesn't.
    partitioned(&machine.device("", "sdb", &[], 16 * MIB), "data");
    // A file system on a whole device is on no partition of a disk: an array's, for one.
    ext4(&machine.device("", "vdc", &[], 4 * MIB), 0, "boot", 1);
    machine.device("", "vdd", &[], 4 * MIB);
    assert_eq!(["sda", "sdb", "vdc", "vdd"].map(has), [true, false, false, false]);
    assert!(contains_boot("none", &machine.places).is_err());

    machine.mapped("dm-0", "mpath-5", &["sda"], "");
    assert!(!has("sda"), "the link is for the disk, not for a path to it");
    let mapped = OpenOptions::new().read(true).write(true).open(machine.places.dev.join("dm-0")).unwrap();
    mapped.set_len(16 * MIB).unwrap();
    partitioned(&mapped, "boot");
    assert!(has("dm-0"));
}
