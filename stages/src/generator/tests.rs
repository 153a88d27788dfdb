// SPDX-License-Identifier: Apache-2.0
//! Golden trees of the generator: a folder a case in `systemd-generators/cases/`, with the command line, the surroundings, and
//! what must have been written. `UPDATE_GOLDEN=1` writes what the generator now writes; read the difference before keeping it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use fledge_core::diag::Failure;

use super::{Roots, run};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd-generators/cases")
}

/// An initramfs with just what the generator looks at.
fn initramfs(cmdline: &str, surroundings: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let file = |path: &str, text: &str, mode: u32| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    file("proc/cmdline", cmdline, 0o444);
    file("dev/kmsg", "", 0o644);
    for word in surroundings.split_whitespace() {
        match word {
            // What the hook says is given as it is.
            "live" => {}
            "ostree-module" => file("usr/lib/systemd/system/fledge-user-config.service", "", 0o644),
            "multipath-labels" => file("usr/lib/udev/rules.d/90-nestos-device-mapper.rules", "", 0o644),
            "other-root-mount" => file("usr/lib/systemd/system-generators/nestos-diskful-generator", "", 0o755),
            word => panic!("no such surrounding: {word}"),
        }
    }
    root
}

/// The tree below a directory as text, sorted by path.
fn tree(directory: &Path, below: &Path, text: &mut String) {
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = path.strip_prefix(below).unwrap().display();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_symlink() {
            writeln!(text, "{name} -> {}", fs::read_link(&path).unwrap().display()).unwrap();
        } else if kind.is_dir() {
            tree(&path, below, text);
        } else {
            writeln!(text, "{name}:").unwrap();
            for line in fs::read_to_string(&path).unwrap().lines() {
                writeln!(text, "{}{line}", if line.is_empty() { "" } else { "    " }).unwrap();
            }
        }
    }
}

fn generate(cmdline: &str, surroundings: &str) -> String {
    let root = initramfs(cmdline, surroundings);
    let units = root.path().join("run/systemd/generator");
    let live = surroundings.split_whitespace().any(|word| word == "live");
    let early = units.with_file_name("generator.early");
    run(&Roots { units: units.clone(), early: early.clone(), root: root.path().into() }, Ok(live)).unwrap();
    let mut text = String::new();
    tree(&units, &units, &mut text);
    if early.exists() {
        tree(&early, units.parent().unwrap(), &mut text);
    }
    if root.path().join("run/ignition/neednet").exists() {
        text.push_str("/run/ignition/neednet\n");
    }
    for path in ["run/ignition.env", "dev/kmsg"] {
        write!(text, "/{path}: {}", fs::read_to_string(root.path().join(path)).unwrap()).unwrap();
    }
    text
}

#[test]
fn golden_trees() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut names: Vec<_> = fs::read_dir(cases()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(names.len() >= 10, "cases are missing: {names:?}");
    for case in names {
        let read = |name: &str| fs::read_to_string(case.join(name)).unwrap_or_default();
        let found = generate(&read("cmdline"), &read("surroundings"));
        if update {
            fs::write(case.join("expected"), &found).unwrap();
        }
        assert_eq!(found, read("expected"), "{}", case.display());
    }
}

#[test]
fn running_again_changes_nothing() {
    let root = initramfs("ignition.firstboot ostree=/x netroot=iscsi:x", "ostree-module");
    let roots = Roots { units: root.path().join("units"), early: root.path().join("early"), root: root.path().into() };
    let first = run(&roots, Ok(false)).unwrap();
    assert_eq!(run(&roots, Ok(false)).unwrap(), first);
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let root = initramfs("ignition.firstboot", "");
    fs::write(root.path().join("units"), "a file").unwrap();
    let units = root.path().join("units");
    assert!(run(&Roots { early: units.clone(), units, root: root.path().into() }, Ok(false)).is_err());
}

#[test]
fn without_an_answer_of_the_hook_a_boot_disk_is_expected() {
    let root = initramfs("ignition.firstboot", "");
    let roots = Roots { units: root.path().join("units"), early: root.path().join("early"), root: root.path().into() };
    run(&roots, Err(Failure::new("running is-live-image", "Permission denied"))).unwrap();
    assert!(root.path().join("units/ignition-complete.target.requires/ignition-diskful.target").is_symlink());
    assert!(fs::read_to_string(root.path().join("dev/kmsg")).unwrap().contains("Permission denied"));
}
