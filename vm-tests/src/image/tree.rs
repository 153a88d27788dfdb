// SPDX-License-Identifier: Apache-2.0
//! Turns a Debian root into what OSTree commits: `/usr` with everything, `usr/etc`, and links into `/var`.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{Variant, recipe};
use crate::host;

/// Lays the trees under test and the image's own files over a freshly unpacked root. After it, dracut can run.
pub(super) fn furnish(tree: &Path, trees: &[&Path], variant: Variant) -> Result<()> {
    for (path, contents) in recipe::FILES.iter().chain(variant.files()) {
        write(&tree.join(path), contents)?;
    }
    for (path, target) in recipe::LINKS {
        link(&tree.join(path), target)?;
    }
    for path in recipe::DISABLED {
        let path = tree.join("etc/systemd/system").join(path);
        if path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else if path.is_symlink() {
            fs::remove_file(&path)?;
        }
    }
    // setfiles brings the folder; the system has no policy to go with it, and OSTree would look for one.
    drop(fs::remove_dir_all(tree.join("etc/selinux")));
    add_groups(tree)?;
    write(&tree.join("etc/fstab"), "")?;
    drop(fs::remove_file(tree.join("etc/hostname")));
    for dist in trees {
        let mut copy = Command::new("cp");
        copy.args(["-r", "--no-dereference", "--preserve=mode,links", "--no-target-directory", "--"])
            .arg(dist)
            .arg(tree);
        host::run(&mut copy).context("copying the tree under test")?;
    }
    Ok(())
}

/// Gives the root the form of a deployment: kernel and initramfs in `usr/lib/modules`, nothing outside `/usr`.
pub(super) fn shape(tree: &Path, kernel: &str, initramfs: &Path, variant: Variant) -> Result<()> {
    for (path, contents) in variant.deployed() {
        write(&tree.join(path), contents)?;
    }
    // Not before: some of them the initramfs starts.
    for unit in variant.less().units {
        let (name, kind) = unit.rsplit_once('.').unwrap_or((unit, ""));
        let template = name.split_once('@').map(|(name, _)| format!("{name}@.{kind}"));
        let there = tree.join("usr/lib/systemd").join(template.as_deref().unwrap_or(unit));
        ensure!(there.exists(), "there is no {unit} to be masked");
        link(&tree.join("etc/systemd").join(unit), "/dev/null")?;
    }
    let modules = tree.join("usr/lib/modules").join(kernel);
    fs::copy(tree.join(format!("boot/vmlinuz-{kernel}")), modules.join("vmlinuz")).context("copying the kernel")?;
    fs::copy(initramfs, modules.join("initramfs.img")).context("copying the initramfs")?;
    let database = tree.join("usr/lib/sysimage");
    fs::create_dir_all(&database)?;
    fs::rename(tree.join("var/lib/dpkg"), database.join("dpkg")).context("moving dpkg's database")?;

    for name in ["vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"] {
        drop(fs::remove_file(tree.join(name)));
    }
    for name in ["boot", "dev", "proc", "run", "sys", "tmp", "var"] {
        let path = tree.join(name);
        fs::remove_dir_all(&path).with_context(|| format!("emptying {}", path.display()))?;
        fs::create_dir(&path)?;
    }
    fs::set_permissions(tree.join("tmp"), Permissions::from_mode(0o1777))?;
    for (name, target) in recipe::TOP_LINKS {
        let path = tree.join(name);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path)?;
        }
        link(&path, target)?;
    }
    fs::create_dir(tree.join("sysroot"))?;
    // An empty file is no first boot: neither presets nor ConditionFirstBoot.
    write(&tree.join("etc/machine-id"), "uninitialized\n")?;
    fs::rename(tree.join("etc"), tree.join("usr/etc")).context("moving /etc")
}

fn add_groups(tree: &Path) -> Result<()> {
    let path = tree.join("etc/group");
    let mut text = fs::read_to_string(&path).context("reading /etc/group")?;
    let shadow = tree.join("etc/gshadow");
    let mut hidden = fs::read_to_string(&shadow).context("reading /etc/gshadow")?;
    for (name, id) in recipe::GROUPS {
        if !text.lines().any(|line| line.starts_with(&format!("{name}:"))) {
            writeln!(text, "{name}:x:{id}:")?;
            writeln!(hidden, "{name}:!::")?;
        }
    }
    fs::write(&path, text)?;
    fs::write(&shadow, hidden)?;
    Ok(())
}

fn write(path: &Path, contents: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // Not through a link: some of Debian's point outside.
    drop(fs::remove_file(path));
    fs::write(path, contents).with_context(|| format!("writing {}", path.display()))
}

fn link(path: &Path, target: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    drop(fs::remove_file(path));
    symlink(target, path).with_context(|| format!("linking {}", path.display()))
}
