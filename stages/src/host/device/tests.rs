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
    }
}
