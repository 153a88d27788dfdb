// SPDX-License-Identifier: Apache-2.0
//! What the real tools write is told for what it is. A tool that isn't installed fails its test: it must be there.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;

const UUID: &str = "5ab36f4a-3c1b-4d0e-9d2f-0123456789ab";

struct Image {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn image(mebibytes: u64) -> Image {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    File::create(&path).unwrap().set_len(mebibytes << 20).unwrap();
    Image { _directory: directory, path }
}

fn made_by(mebibytes: u64, tool: &str, args: &[&str]) -> Vec<Signature> {
    let image = image(mebibytes);
    let mut command = Command::new(tool);
    command.args(args).arg(&image.path).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("{tool}: {error}"));
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    signatures(&image.path).unwrap()
}

fn signature(format: &str, label: &str, uuid: &str) -> Signature {
    Signature { format: format.into(), label: label.into(), uuid: uuid.into() }
}

#[test]
fn the_ext_family() {
    for format in ["ext2", "ext3", "ext4"] {
        let found = made_by(16, &format!("mkfs.{format}"), &["-q", "-F", "-L", "data", "-U", UUID]);
        assert_eq!(found, [signature(format, "data", UUID)]);
    }
}

#[test]
fn xfs() {
    let found = made_by(320, "mkfs.xfs", &["-q", "-L", "var", "-m", &format!("uuid={UUID}")]);
    assert_eq!(found, [signature("xfs", "var", UUID)]);
}

#[test]
fn btrfs() {
    let found = made_by(128, "mkfs.btrfs", &["-q", "-L", "pool of things", "-U", UUID]);
    assert_eq!(found, [signature("btrfs", "pool of things", UUID)]);
}

#[test]
fn vfat_of_every_width() {
    for (size, width) in [(2, "12"), (32, "16"), (96, "32")] {
        let found = made_by(size, "mkfs.vfat", &["-F", width, "-n", "EFI-SYSTEM", "-i", "a1b2c3d4"]);
        assert_eq!(found, [signature("vfat", "EFI-SYSTEM", "A1B2-C3D4")], "FAT{width}");
    }
}

#[test]
fn swap() {
    for page in ["4096", "65536"] {
        let found = made_by(2, "mkswap", &["-q", "-L", "swap", "-U", UUID, "-p", page]);
        assert_eq!(found, [signature("swap", "swap", UUID)], "pages of {page}");
    }
}

#[test]
fn luks_of_both_versions() {
    for (version, label) in [("luks1", ""), ("luks2", "secret")] {
        let image = image(32);
        let mut command = Command::new("cryptsetup");
        command.args(["luksFormat", "-q", "--type", version, "--uuid", UUID, "--pbkdf", "pbkdf2", "--iter-time", "10"]);
        if !label.is_empty() {
            command.args(["--label", label]);
        }
        command.args(["--key-file", "/dev/zero", "--keyfile-size", "32"]).arg(&image.path);
        let output = command.env("PATH", "/usr/sbin:/usr/bin").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(signatures(&image.path).unwrap(), [signature("crypto_LUKS", label, UUID)]);
        if version == "luks2" {
            // The second copy of the header alone.
            File::options().write(true).open(&image.path).unwrap().write_all_at(&[0; 4096], 0).unwrap();
            assert_eq!(signatures(&image.path).unwrap(), []);
            assert_eq!(listed(&image.path, None).unwrap()[0].format, "crypto_LUKS");
        }
    }
}

/// The tools and `blkid` agree about what is there, for every format at once.
#[test]
fn blkid_says_the_same() {
    for (tool, size, args) in [
        ("mkfs.ext4", 16, ["-q", "-F", "-L", "x"].as_slice()),
        ("mkfs.xfs", 320, &["-q", "-L", "x"]),
        ("mkfs.btrfs", 128, &["-q", "-L", "x"]),
        ("mkfs.vfat", 32, &["-n", "X"]),
        ("mkswap", 2, &["-q", "-L", "x"]),
    ] {
        let image = image(size);
        let status = Command::new(tool)
            .args(args)
            .arg(&image.path)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{tool}");
        let output = Command::new("/usr/sbin/blkid").args(["-p", "-o", "export"]).arg(&image.path).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let value = |key: &str| {
            said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default().to_owned()
        };
        let found = signatures(&image.path).unwrap();
        assert_eq!(found, [signature(&value("TYPE"), &value("LABEL"), &value("UUID"))], "{tool}: {said}");
    }
}

#[test]
fn a_device_that_is_not_there_is_waited_for_in_vain() {
    let name = String::from("/dev/disk/by-label/surely-not-there");
    let start = Instant::now();
    wait(&BTreeSet::from([name.clone()]), Duration::from_millis(300));
    assert!(start.elapsed() < Duration::from_secs(10));
    let mut told = Vec::new();
    let devices = BTreeSet::from([name.clone()]);
    wait_and_tell(&devices, Duration::from_secs(3), Duration::from_millis(400), &mut |line| told.push(line));
    // At 400 ms or once udev has settled, then at 1200; the next would be at 3600.
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains("surely-not-there since 1 s, for up to 3 s"), "{told:?}");
    let patience = |text: &str| patience(&Cmdline::parse(text)).as_secs();
    assert_eq!((patience(""), patience("systemd.default_device_timeout_sec=7")), (90, 7));
    assert_eq!(
        (patience("systemd.default_device_timeout_sec=20s"), patience("systemd.default_device_timeout_sec=x")),
        (20, 90)
    );
    assert_eq!(look(&name).unwrap(), Device::default());
}

/// What a tool leaves when it is cut off right before its last write.
#[test]
fn what_was_never_finished_is_nothing() {
    for (tool, mebibytes, args, offset, bytes) in [
        ("mkfs.xfs", 320, &["-q"][..], 126, &[1][..]),
        ("mkfs.btrfs", 128, &["-q"], 0x1_0040, b"!BHRfS_M"),
        ("mkswap", 2, &["-q"], 1024, &[0; 4]),
        ("mkfs.vfat", 32, &[], (32 << 20) - 32, signature::UNFINISHED),
    ] {
        let image = image(mebibytes);
        let mut command = Command::new(tool);
        command.args(args).arg(&image.path).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdout(Stdio::null());
        assert!(command.status().unwrap().success(), "{tool}");
        assert_eq!(signatures(&image.path).unwrap().len(), 1, "{tool}");
        File::options().write(true).open(&image.path).unwrap().write_all_at(bytes, offset).unwrap();
        assert_eq!(signatures(&image.path).unwrap(), [], "{tool}");
        // Nor does the second opinion make it something.
        let ours = read_by(&image.path, signature::unfinished).unwrap();
        assert_eq!(listed(&image.path, ours).unwrap(), [], "{tool}");
    }
}

/// What only libblkid knows, by the bytes that it goes by.
#[test]
fn what_looks_empty_is_shown_to_libblkid() {
    let uberblocks: Vec<_> = (0..8).map(|number| (0x2_0000 + number * 1024, &b"\x0c\xb1\xba\0\0\0\0\0"[..])).collect();
    for (format, bytes) in [
        ("zfs_member", uberblocks.as_slice()),
        ("ceph_bluestore", &[(0, b"bluestore block device")]),
        ("vdo", &[(0, b"dmvdo001")]),
        ("ufs", &[(0x2000 + 1372, &0x0001_1954_u32.to_le_bytes())]),
        ("DM_integrity", &[(0, b"integrt\0\x01")]),
        ("DM_verity_hash", &[(0, b"verity\0\0\x01")]),
        ("VMFS_volume_member", &[(0x10_0000, b"\x0d\xd0\x01\xc0")]),
        ("LVM1_member", &[(0, b"HM\x01\0")]),
    ] {
        let image = image(64);
        let file = File::options().write(true).open(&image.path).unwrap();
        for (offset, bytes) in bytes {
            file.write_all_at(bytes, *offset).unwrap();
        }
        assert_eq!(signatures(&image.path).unwrap(), [], "{format}");
        let found: Vec<_> = listed(&image.path, None).unwrap().into_iter().map(|found| found.format).collect();
        assert!(!found.is_empty() && found.iter().all(|found| found == format), "{format}: {found:?}");
    }
    // Neither a partition table nor nothing is content; what can't be read isn't empty.
    let image = image(64);
    assert_eq!(listed(&image.path, None).unwrap(), []);
    let table = Command::new("/usr/sbin/sgdisk").args(["-n", "1"]).arg(&image.path).output().unwrap();
    assert!(table.status.success());
    assert_eq!(listed(&image.path, None).unwrap(), []);
    assert!(listed(Path::new("/not/there"), None).is_err());
}

#[test]
fn a_line_of_wipefs_is_read() {
    assert_eq!(listed_signature("# offset,uuid,label,type"), None);
    assert_eq!(listed_signature("0x1fe,,,dos"), None);
    assert_eq!(listed_signature("0x0,c0ff-ee,a,b,vfat"), Some(signature("vfat", "a,b", "c0ff-ee")));
}
