// SPDX-License-Identifier: Apache-2.0
//! The systemd generator of the initramfs: gathers what [`fledge_core::generator`] decides on, and writes what it decides.
//!
//! systemd runs it with three directories (systemd.generator(7)), before any unit and without a journal.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::generator::{Environment, Node, Tree, decide};

use crate::host::atomic;
use crate::host::cmd;

/// Where things are: on a boot, below `/`.
#[derive(Clone, Debug)]
pub struct Roots {
    /// The generator's output, its first argument.
    pub units: PathBuf,
    /// The generator's output that goes before the initramfs's own files, its second argument.
    pub early: PathBuf,
    /// The root of the initramfs.
    pub root: PathBuf,
}

impl Roots {
    /// The initramfs that this process runs in.
    pub fn of_this_boot(units: PathBuf, early: PathBuf) -> Self {
        Self { units, early, root: "/".into() }
    }

    fn join(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

/// Generates, and tells the kernel's log what was decided. `live`: what [`is_live_image`] says.
///
/// # Errors
/// The command line can't be read, or the output can't be written.
pub fn run(roots: &Roots, live: Result<bool, Failure>) -> io::Result<Tree> {
    let cmdline = Cmdline::parse(&String::from_utf8_lossy(&fs::read(roots.join("proc/cmdline"))?));
    // The log is for people only.
    let log = |message: &str| drop(log_to_kernel(&roots.join("dev/kmsg"), message));
    // Without an answer it is a machine with a disk: if it isn't, the boot stops at that disk rather than go on unprovisioned.
    let live = live.unwrap_or_else(|failure| {
        log(&format!("a boot disk is expected: {failure}"));
        false
    });
    let tree = decide(&cmdline, observe(roots, live));
    write(roots, &tree)?;
    log(&tree.message);
    Ok(tree)
}

fn observe(roots: &Roots, live: bool) -> Environment {
    let generator =
        |name: &str| roots.join(&format!("usr/lib/systemd/system-generators/{name}-diskful-generator")).exists();
    Environment {
        live,
        ostree_module: roots.join("usr/lib/systemd/system/fledge-user-config.service").exists(),
        root_is_mounted_by_other: generator("coreos") || generator("nestos"),
        multipath_boot: ["coreos", "nestos"]
            .iter()
            .any(|name| roots.join(&format!("usr/lib/udev/rules.d/90-{name}-device-mapper.rules")).exists())
            .then_some("dm-mpath-boot"),
    }
}

/// Asks the distribution's hook `is-live-image`, if there is one: success means that the system runs from memory.
///
/// # Errors
/// The hook is there, but can't be run.
pub fn is_live_image() -> Result<bool, Failure> {
    if cmd::find(cmd::IS_LIVE_IMAGE).is_none() {
        return Ok(false);
    }
    Ok(cmd::output(cmd::IS_LIVE_IMAGE, &[])?.code == Some(0))
}

fn write(roots: &Roots, tree: &Tree) -> io::Result<()> {
    let units = tree.units.iter().map(|node| (node, &roots.units));
    for (node, below) in units.chain(tree.early.iter().map(|node| (node, &roots.early))) {
        let (Node::Link { path, .. } | Node::File { path, .. }) = node;
        let path = below.join(path);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        match node {
            Node::Link { target, .. } => link(target, &path)?,
            Node::File { text, .. } => fs::write(&path, text)?,
        }
    }
    if tree.needs_network {
        atomic::write(&roots.join("run/ignition/neednet"), 0o644, b"")?;
    }
    atomic::write(&roots.join("run/ignition.env"), 0o644, tree.env.as_bytes())
}

pub(crate) fn link(target: &str, path: &Path) -> io::Result<()> {
    match symlink(target, path) {
        // Another generator may want the same.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && fs::read_link(path)? == Path::new(target) => {
            Ok(())
        }
        result => result,
    }
}

/// A generator has no journal (systemd#15638); what the kernel logs gets there later.
pub(crate) fn log_to_kernel(kmsg: &Path, message: &str) -> io::Result<()> {
    fs::OpenOptions::new().append(true).open(kmsg)?.write_all(format!("<6>fledge: {message}\n").as_bytes())
}

#[cfg(test)]
mod tests;
