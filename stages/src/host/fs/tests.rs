// SPDX-License-Identifier: Apache-2.0
//! Real trees in a temporary folder, hostile ones too. What lies beside the root must stay as it was.

use std::fs as std_fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use fledge_core::facts::NodeKind;
use fledge_core::verification::Function;

use super::*;

/// A root and, beside it, something that nobody may touch.
struct Bench {
    folder: tempfile::TempDir,
    root: Root,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std_fs::create_dir_all(folder.path().join("root/etc")).unwrap();
        std_fs::create_dir_all(folder.path().join("outside/etc")).unwrap();
        std_fs::write(folder.path().join("outside/etc/passwd"), "precious").unwrap();
        let root = Root::open(&folder.path().join("root")).unwrap();
        Self { folder, root }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path.trim_start_matches('/'))
    }

    fn link(&self, path: &str, target: impl AsRef<Path>) {
        symlink(target, self.path(path)).unwrap();
    }

    fn write(&self, path: &str, text: &str, attributes: Attributes, replace: bool) -> io::Result<()> {
        let (above, name) = self.root.make_parent(path)?;
        let new = above.temporary()?;
        new.file().write_all(text.as_bytes())?;
        above.place(new, name, attributes, replace)
    }

    fn outside(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut todo = vec![self.folder.path().join("outside")];
        while let Some(directory) = todo.pop() {
            for entry in std_fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                names.push(path.strip_prefix(self.folder.path()).unwrap().to_string_lossy().into_owned());
                if path.is_dir() {
                    todo.push(path);
                }
            }
        }
        names.sort();
        names
    }

    fn assert_untouched(&self) {
        assert_eq!(self.outside(), ["outside/etc", "outside/etc/passwd"]);
        assert_eq!(std_fs::read_to_string(self.folder.path().join("outside/etc/passwd")).unwrap(), "precious");
        let leftovers: Vec<_> = std_fs::read_dir(self.folder.path()).unwrap().collect();
        assert_eq!(leftovers.len(), 2);
    }
}

const PLAIN: Attributes = Attributes { uid: Some(0), gid: Some(0), mode: Some(0o640) };

#[test]
fn links_lead_nowhere_but_into_the_root() {
    let bench = Bench::new();
    let outside = bench.folder.path().join("outside");
    bench.link("absolute", &outside);
    bench.link("upwards", "../outside");
    bench.link("far", "../../../../../../../../../../../../etc");
    bench.link("chain", "upwards");
    bench.link("etc/again", "/../../outside");
    for path in ["/absolute/a", "/upwards/b", "/far/c", "/chain/d", "/etc/again/e"] {
        // Dangling links above a file aren't made real; what can be written lands inside.
        let _ = bench.write(path, "hostile", PLAIN, true);
        let _ = bench.root.ensure_directory(&format!("{path}-dir"), PLAIN);
        let _ = bench.root.ensure_symlink(&format!("{path}-link"), "/x", PLAIN, true);
        let _ = bench.root.ensure_hard_link(&format!("{path}-hard"), "/etc/passwd", true);
        let _ = bench.root.remove(path);
        let _ = bench.root.remove("/absolute/etc");
        let _ = bench.root.remove("/upwards/etc/passwd");
    }
    bench.write("/far/c", "inside", PLAIN, false).unwrap();
    assert_eq!(std_fs::read_to_string(bench.path("etc/c")).unwrap(), "inside");
    // Once the root has a directory of that name, the same links lead there.
    std_fs::create_dir(bench.path("outside")).unwrap();
    bench.write("/upwards/b", "inside", PLAIN, false).unwrap();
    bench.write("/etc/again/e", "inside", PLAIN, false).unwrap();
    assert!(bench.path("outside/b").is_file() && bench.path("outside/e").is_file());
    bench.assert_untouched();
}

#[test]
fn a_root_that_changes_while_it_is_written_stays_the_limit() {
    let bench = Bench::new();
    let stop = AtomicBool::new(false);
    let outside = bench.folder.path().join("outside");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Turns /d into a directory and into a link that leads out, again and again.
            while !stop.load(Ordering::Relaxed) {
                let _ = std_fs::create_dir(bench.path("d"));
                let _ = std_fs::rename(bench.path("d"), bench.path("old"));
                let _ = symlink(&outside, bench.path("d"));
                let _ = std_fs::remove_file(bench.path("d"));
                let _ = std_fs::remove_dir_all(bench.path("old"));
            }
        });
        for number in 0..2000 {
            let _ = bench.write(&format!("/d/{number}"), "x", PLAIN, true);
            let _ = bench.root.ensure_directory(&format!("/d/etc/{number}"), PLAIN);
            let _ = bench.root.remove("/d/etc");
            let _ = bench.root.ensure_directory("/d", Attributes { mode: Some(0o700), ..PLAIN });
        }
        stop.store(true, Ordering::Relaxed);
    });
    bench.assert_untouched();
    assert_eq!(std_fs::metadata(outside).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn files_appear_with_owner_and_mode_and_nothing_is_left_of_failures() {
    let bench = Bench::new();
    let special = Attributes { uid: Some(12), gid: Some(34), mode: Some(0o6755) };
    bench.write("/a/b/c", "text", special, false).unwrap();
    let metadata = std_fs::metadata(bench.path("a/b/c")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (12, 34, 0o6755));
    assert_eq!(std_fs::metadata(bench.path("a")).unwrap().mode() & 0o7777, IMPLIED_MODE);
    let error = bench.write("/a/b/c", "other", PLAIN, false).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    bench.write("/a/b/c", "other", PLAIN, true).unwrap();
    assert_eq!(std_fs::read_to_string(bench.path("a/b/c")).unwrap(), "other");
    assert!(bench.write("/a/b/c/d", "x", PLAIN, false).is_err());
    std_fs::create_dir(bench.path("a/b/dir")).unwrap();
    assert!(bench.write("/a/b/dir", "x", PLAIN, true).is_err());
    let mut names: Vec<_> =
        std_fs::read_dir(bench.path("a/b")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["c", "dir"]);
}

#[test]
fn a_file_moves_to_the_file_system_of_its_directory() {
    let bench = Bench::new();
    // /dev/shm is a file system of its own.
    let elsewhere = Directory(openat(CWD, "/dev/shm", DIRECTORY, Mode::empty()).unwrap());
    let here = bench.root.directory("/etc").unwrap();
    assert_ne!(fstat(&elsewhere).unwrap().st_dev, fstat(&here).unwrap().st_dev);
    let new = elsewhere.temporary().unwrap();
    new.file().write_all(b"travelled").unwrap();
    here.place(new, "file", Attributes { uid: Some(5), gid: Some(6), mode: Some(0o604) }, false).unwrap();
    let metadata = std_fs::metadata(bench.path("etc/file")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (5, 6, 0o604));
    assert_eq!(std_fs::read(bench.path("etc/file")).unwrap(), b"travelled");
}

#[test]
fn directories_and_links_are_ensured() {
    let bench = Bench::new();
    let mode = |path: &str| std_fs::symlink_metadata(bench.path(path)).unwrap().mode() & 0o7777;
    let sticky = Attributes { uid: Some(1), gid: None, mode: Some(0o1777) };
    assert!(bench.root.ensure_directory("/x/y", sticky).unwrap());
    assert_eq!((mode("x"), mode("x/y")), (0o755, 0o1777));
    assert!(!bench.root.ensure_directory("/x/y", sticky).unwrap());
    assert!(bench.root.ensure_directory("/x/y", Attributes { mode: Some(0o700), ..Attributes::default() }).unwrap());
    assert_eq!(std_fs::metadata(bench.path("x/y")).unwrap().uid(), 1);
    assert!(!bench.root.ensure_directory("/", Attributes::default()).unwrap());

    assert!(bench.root.ensure_symlink("/l/link", "../x/./y/", sticky, false).unwrap());
    assert!(!bench.root.ensure_symlink("/l/link", "../x/y", sticky, false).unwrap());
    // The plan takes these for one, too.
    assert!(!bench.root.ensure_symlink("/l/link", "../x/z/../y", sticky, false).unwrap());
    assert!(bench.root.ensure_symlink("/l/link", "/other", sticky, false).is_err());
    assert!(bench.root.ensure_symlink("/l/link", "/other", sticky, true).unwrap());
    assert_eq!(std_fs::read_link(bench.path("l/link")).unwrap(), Path::new("/other"));
    assert_eq!(std_fs::symlink_metadata(bench.path("l/link")).unwrap().uid(), 1);
    assert!(bench.root.ensure_directory("/l/link", PLAIN).is_err());

    bench.write("/x/file", "one", PLAIN, false).unwrap();
    assert!(bench.root.ensure_hard_link("/h/hard", "/x/file", false).unwrap());
    assert!(!bench.root.ensure_hard_link("/h/hard", "/x/file", false).unwrap());
    bench.write("/x/other", "two", PLAIN, false).unwrap();
    assert!(bench.root.ensure_hard_link("/h/hard", "/x/other", false).is_err());
    assert!(bench.root.ensure_hard_link("/h/hard", "/x/other", true).unwrap());
    assert_eq!(
        std_fs::metadata(bench.path("h/hard")).unwrap().ino(),
        std_fs::metadata(bench.path("x/other")).unwrap().ino()
    );
    assert_eq!(std_fs::read_dir(bench.path("h")).unwrap().count(), 1);
}

#[test]
fn removing_does_not_follow_links() {
    let bench = Bench::new();
    std_fs::create_dir_all(bench.path("d/e")).unwrap();
    bench.link("d/e/out", bench.folder.path().join("outside"));
    std_fs::write(bench.path("d/e/f"), "x").unwrap();
    assert!(bench.root.remove("/d").unwrap());
    assert!(!bench.root.remove("/d").unwrap());
    assert!(!bench.path("d").exists());
    assert!(bench.root.remove("/").is_err());
    bench.assert_untouched();
}

#[test]
fn nodes_say_where_paths_lead() {
    let bench = Bench::new();
    std_fs::create_dir_all(bench.path("var/home/core")).unwrap();
    bench.link("home", "var/home");
    bench.link("var/home/core/self", "../core");
    bench.link("up", "../../..//var/../var");
    bench.link("loop", "loop");
    bench.link("dangling", "/no/where");
    std_fs::write(bench.path("etc/file"), "new").unwrap();
    let node = |path: &str| {
        let node = bench.root.node(path, None).unwrap();
        (node.resolved, node.kind)
    };
    assert_eq!(node("/home/core/x"), ("/var/home/core/x".into(), NodeKind::Missing));
    assert_eq!(node("/home/core/self/self/y"), ("/var/home/core/y".into(), NodeKind::Missing));
    assert_eq!(node("/up/home"), ("/var/home".into(), NodeKind::Directory));
    assert_eq!(node("/home"), ("/home".into(), NodeKind::Symlink("var/home".into())));
    assert_eq!(node("/dangling/a/b"), ("/no/where/a/b".into(), NodeKind::Missing));
    assert_eq!(node("/etc/file/x"), ("/etc/file/x".into(), NodeKind::Blocked("/etc/file".into())));
    assert!(matches!(node("/loop/x"), (_, NodeKind::Blocked(_))));
    assert_eq!(node("/"), ("/".into(), NodeKind::Directory));
    let NodeKind::File { digest, .. } = bench.root.node("/etc/file", Some(Function::Sha256)).unwrap().kind else {
        panic!("it is a file")
    };
    assert_eq!(digest.unwrap(), "sha256-11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437");
    let tree = bench.root.tree("/var").unwrap();
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["home", "home/core", "home/core/self"]);
    assert!(bench.root.tree("/none").unwrap().is_empty());
}

#[test]
fn what_lies_beneath_a_home_does_not_lead_out_of_it() {
    let bench = Bench::new();
    std_fs::create_dir_all(bench.path("home/evil")).unwrap();
    bench.link("home/evil/.ssh", "../../etc");
    let home = bench.root.directory("/home/evil").unwrap();
    assert!(home.make_beneath(".ssh/authorized_keys.d", PLAIN).is_err());
    assert!(!bench.path("etc/authorized_keys.d").exists());
    std_fs::remove_file(bench.path("home/evil/.ssh")).unwrap();
    bench.link("home/evil/.ssh", "real");
    std_fs::create_dir(bench.path("home/evil/real")).unwrap();
    home.make_beneath(".ssh/authorized_keys.d", Attributes { uid: Some(7), gid: Some(8), mode: Some(0o700) }).unwrap();
    let metadata = std_fs::metadata(bench.path("home/evil/real/authorized_keys.d")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.permissions().mode() & 0o7777), (7, 8, 0o700));
}
