// SPDX-License-Identifier: Apache-2.0
//! A tree with all that a system has goes from an ext4 to an xfs, and on to a btrfs, as it does on a machine; and is looked at by means of the
//! standard library.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::host::fs::Root;
use crate::host::mount;

/// A file system in a loop device.
struct Made {
    device: String,
    root: Option<Root>,
    _image: tempfile::NamedTempFile,
}

impl Made {
    fn new(format: &str, options: &[&str], size: u64) -> Self {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(size).unwrap();
        let path = image.path().to_str().unwrap();
        succeed(&format!("mkfs.{format}"), &[options, &[path]].concat());
        let device = succeed("losetup", &["--find", "--show", path]);
        let root = mount::detached_writable(Path::new(&device), format).unwrap();
        Self { device, root: Some(root), _image: image }
    }

    fn root(&self) -> &Root {
        self.root.as_ref().unwrap()
    }

    fn path(&self) -> PathBuf {
        // Not a link, which calls for links themselves would take it for.
        format!("/proc/self/fd/{}/.", self.root().as_fd().as_raw_fd()).into()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.root = None;
        succeed("losetup", &["--detach", &self.device]);
    }
}

fn succeed(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn set(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap_or_else(|error| panic!("{name}: {error}"));
}

fn flag(path: &Path, flags: IFlags) {
    let file = File::open(path).unwrap();
    ioctl_setflags(&file, ioctl_getflags(&file).unwrap() | flags).unwrap();
}

/// As OSTree has it, and worse.
fn build(root: &Path) {
    let folder = |path: &str, mode: u32| {
        fs::create_dir_all(root.join(path)).unwrap();
        fs::set_permissions(root.join(path), Permissions::from_mode(mode)).unwrap();
    };
    folder("ostree/repo/objects/ab", 0o755);
    folder("ostree/deploy/nestos/deploy/c.0/usr/bin", 0o555);
    folder("ostree/deploy/nestos/var/tmp", 0o1777);
    let object = root.join("ostree/repo/objects/ab/cd.file");
    fs::write(&object, "a program").unwrap();
    chown(&object, Some(7), Some(8)).unwrap();
    fs::set_permissions(&object, Permissions::from_mode(0o4755)).unwrap();
    set(&object, "security.selinux", b"system_u:object_r:bin_t:s0\0");
    // cap_net_raw, as setcap(8) writes it.
    set(&object, "security.capability", &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    set(&object, "user.ostreemeta", &[7; 30]);
    let deployment = root.join("ostree/deploy/nestos/deploy/c.0");
    for name in ["one", "two", "three"] {
        fs::hard_link(&object, deployment.join("usr/bin").join(name)).unwrap();
    }
    symlink("one", deployment.join("usr/bin/link")).unwrap();
    lchown(deployment.join("usr/bin/link"), Some(9), Some(9)).unwrap();
    set(&deployment.join("usr/bin/link"), "security.selinux", b"system_u:object_r:lib_t:s0\0");
    fs::hard_link(deployment.join("usr/bin/link"), root.join("ostree/repo/objects/ab/ef.file")).unwrap();
    set(&root.join("ostree/deploy/nestos/var"), "trusted.overlay.opaque", b"y");
    set(root, "security.selinux", b"system_u:object_r:root_t:s0\0");
    fs::write(root.join("empty"), "").unwrap();
    // A hole at both ends, and one in the middle.
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    for at in [8 << 20, 40 << 20] {
        pwrite(&sparse, &[7; 5000], at).unwrap();
    }
    fs::write(root.join("large"), (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
    let name = std::ffi::OsStr::from_bytes(b"not \xff UTF-8\n");
    fs::write(root.join(name), "x").unwrap();
    let device = |name: &str, kind, rdev| mknodat(rustix::fs::CWD, root.join(name), kind, Mode::RUSR, rdev).unwrap();
    device("pipe", FileType::Fifo, 0);
    device("null", FileType::CharacterDevice, makedev(1, 3));
    device("whiteout", FileType::CharacterDevice, 0);
    device("loop", FileType::BlockDevice, makedev(7, 0));
    device("socket", FileType::Socket, 0);
    fs::write(root.join("log"), "a line\n").unwrap();
    flag(&root.join("log"), IFlags::APPEND);
    fs::write(root.join("immutable"), "so it stays").unwrap();
    fs::hard_link(root.join("immutable"), root.join("immutable too")).unwrap();
    flag(&root.join("immutable"), IFlags::IMMUTABLE);
    flag(&deployment, IFlags::IMMUTABLE);
    let long_ago = Timespec { tv_sec: 86_400, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: long_ago, last_modification: long_ago };
    for path in ["large", "ostree/repo/objects/ab", "ostree/deploy"] {
        utimensat(rustix::fs::CWD, root.join(path), &times, AtFlags::empty()).unwrap();
    }
}

/// A line for each name, with all that it is but for inode numbers.
fn describe(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut first = BTreeMap::new();
    look_at(root, Path::new("."), &mut first, &mut lines);
    lines
}

fn look_at(root: &Path, path: &Path, first: &mut BTreeMap<u64, PathBuf>, lines: &mut Vec<String>) {
    let full = root.join(path);
    let meta = fs::symlink_metadata(&full).unwrap();
    let kind = meta.file_type();
    let same = first.entry(meta.ino()).or_insert_with(|| path.to_owned()).clone();
    let mut names = [0; 4096];
    let len = llistxattr(&full, &mut names).unwrap();
    let mut attributes: Vec<_> = names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    attributes.sort_unstable();
    let values: Vec<_> = attributes
        .iter()
        .map(|name| {
            let mut value = [0; 4096];
            let len = lgetxattr(&full, *name, &mut value).unwrap();
            (String::from_utf8_lossy(name), value[..len].to_vec())
        })
        .collect();
    let mut told = format!(
        "{path:?} {:o} {}:{} {} {}.{} {values:?} {same:?}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.rdev(),
        meta.mtime(),
        meta.mtime_nsec()
    );
    if kind.is_file() || kind.is_dir() {
        let flags = ioctl_getflags(File::open(&full).unwrap()).unwrap() & (IFlags::IMMUTABLE | IFlags::APPEND);
        write!(told, " {flags:?}").unwrap();
    }
    if kind.is_file() {
        let bytes = fs::read(&full).unwrap();
        write!(told, " {} {}", meta.nlink(), bytes.len()).unwrap();
        write!(told, " {:x}", bytes.iter().fold(7_u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(*byte))).unwrap();
    } else if kind.is_symlink() {
        write!(told, " {} {:?}", meta.nlink(), fs::read_link(&full).unwrap()).unwrap();
    } else if kind.is_fifo() || kind.is_socket() {
        told += " special";
    }
    lines.push(told);
    if kind.is_dir() {
        let mut names: Vec<_> = fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names.iter().filter(|name| *name != "lost+found") {
            look_at(root, &path.join(name), first, lines);
        }
    }
}

#[test]
fn nothing_is_lost_on_the_way_out_and_back() {
    let old = Made::new("ext4", &["-q", "-F"], 192 << 20);
    build(&old.path());
    let before = describe(&old.path());
    let store = Made::new("xfs", &["-q", "-f"], 320 << 20);
    let out = copy(old.root().as_fd(), store.root().as_fd(), Way::Out).unwrap();
    let new = Made::new("btrfs", &["-q", "-f"], 256 << 20);
    let back = copy(store.root().as_fd(), new.root().as_fd(), Way::Back).unwrap();
    let after = describe(&new.path());
    assert_eq!(after.len(), before.len());
    for (after, before) in after.iter().zip(&before) {
        assert_eq!(after, before);
    }
    assert_eq!(before.iter().filter(|line| line.contains("Flags(IMMUTABLE)")).count(), 3);
    assert_eq!(back, out);
    // Of all that is described, the root is none of the entries, but lost+found is.
    assert_eq!(out.entries, before.len() as u64);
    let sparse = fs::metadata(new.path().join("sparse")).unwrap();
    assert!(sparse.blocks() < 256, "{}", sparse.blocks());
    // What is immutable is so: else it would say nothing that the flag is there.
    assert!(fs::write(new.path().join("ostree/deploy/nestos/deploy/c.0/x"), "").is_err());
}

#[test]
fn what_does_not_fit_stops_and_is_named() {
    let old = Made::new("ext4", &["-q", "-F"], 64 << 20);
    fs::create_dir(old.path().join("folder")).unwrap();
    fs::write(old.path().join("folder/large"), vec![1; 24 << 20]).unwrap();
    let small = Made::new("ext4", &["-q", "-F"], 16 << 20);
    let stopped = copy(old.root().as_fd(), small.root().as_fd(), Way::Out).unwrap_err();
    assert_eq!((stopped.path.as_str(), stopped.error), ("/folder/large", Errno::NOSPC));
}

#[test]
fn plain_copies_replace_what_is_there() {
    let old = Made::new("ext4", &["-q", "-F"], 32 << 20);
    fs::create_dir_all(old.path().join("EFI/BOOT")).unwrap();
    fs::write(old.path().join("EFI/BOOT/BOOTX64.EFI"), "new").unwrap();
    let store = Made::new("ext4", &["-q", "-F"], 32 << 20);
    copy(old.root().as_fd(), store.root().as_fd(), Way::Out).unwrap();
    let new = Made::new("ext4", &["-q", "-F"], 32 << 20);
    fs::create_dir_all(new.path().join("EFI/BOOT")).unwrap();
    fs::write(new.path().join("EFI/BOOT/BOOTX64.EFI"), "an older and longer one").unwrap();
    for _ in 0..2 {
        let totals = copy(store.root().as_fd(), new.root().as_fd(), Way::Plain).unwrap();
        assert_eq!(totals.bytes, 3);
    }
    assert_eq!(fs::read_to_string(new.path().join("EFI/BOOT/BOOTX64.EFI")).unwrap(), "new");
    let names = list(new.root().as_fd()).unwrap();
    assert!(
        names.contains(&CString::new("EFI").unwrap())
            && !names.iter().any(|name| name.to_bytes().starts_with(b".fledge"))
    );
}
