// SPDX-License-Identifier: Apache-2.0
//! Tests that mount something run alone in a mount namespace of their own, so that nothing of it outlives them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Says which test runs in its own namespace.
const ALONE: &str = "FLEDGE_TEST_ALONE";

/// Runs a test in a process with a mount namespace of its own. `name` is the test's full name in this test program.
///
/// # Panics
/// The test fails, or there is no such test.
pub fn alone(name: &str, test: impl FnOnce()) {
    alone_with(name, &["--mount"], test);
}

/// Runs a test as [`alone`] does, with a network of its own too: nothing but the loopback interface, which has the addresses of
/// `hosts`. The hosts file gives those addresses their names, and nothing else.
///
/// # Panics
/// The test fails, there is no such test, or the network can't be made.
pub fn alone_on_the_network(name: &str, hosts: &[(&str, &[&str])], test: impl FnOnce()) {
    alone_with(name, &["--mount", "--net"], || {
        run(Command::new("ip").args(["link", "set", "lo", "up"]));
        let mut lines = String::new();
        for (address, names) in hosts {
            if !address.starts_with("127.") {
                run(Command::new("ip").args(["address", "add", address, "dev", "lo"]));
            }
            lines.extend(names.iter().map(|name| format!("{address} {name}\n")));
        }
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(&file, lines).expect("a hosts file");
        run(Command::new("mount").arg("--bind").arg(file.path()).arg("/etc/hosts"));
        test();
    });
}

fn alone_with(name: &str, apart: &[&str], test: impl FnOnce()) {
    if std::env::var(ALONE).is_ok_and(|alone| alone == name) {
        return test();
    }
    let program = std::env::current_exe().expect("the test program's path");
    let output = Command::new("unshare")
        .args(apart)
        .args(["--propagation", "private", "--"])
        .arg(program)
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, name)
        .output()
        .expect("unshare runs");
    let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && printed.contains("1 passed"), "{name} in its own mount namespace:\n{printed}");
}

/// A loop device on a file with a fresh file system; it goes when this is dropped.
pub struct Disk {
    /// The device's path.
    pub device: PathBuf,
    _folder: tempfile::TempDir,
}

impl Disk {
    /// A device of that size, formatted by that command (with the device's path as last argument) unless it is empty.
    ///
    /// # Panics
    /// It can't be made.
    pub fn new(mebibytes: u64, format: &[&str]) -> Self {
        Self::attached(mebibytes, format, &[])
    }

    /// A blank device that can't be written.
    ///
    /// # Panics
    /// It can't be made.
    pub fn read_only(mebibytes: u64) -> Self {
        Self::attached(mebibytes, &[], &["--read-only"])
    }

    fn attached(mebibytes: u64, format: &[&str], flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let image = folder.path().join("image");
        std::fs::File::create(&image).expect("an image").set_len(mebibytes << 20).expect("a sparse image");
        if let Some((tool, args)) = format.split_first() {
            run(Command::new(tool).args(args).arg(&image));
        }
        let device = run(Command::new("losetup").args(["--find", "--show"]).args(flags).arg(&image));
        Self { device: device.trim().into(), _folder: folder }
    }

    /// The device's path as text.
    ///
    /// # Panics
    /// It is no text.
    pub fn name(&self) -> &str {
        self.device.to_str().expect("a path that is text")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has it mounted keeps it until then.
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

/// Where things are mounted at or below a path.
///
/// # Panics
/// The kernel's table can't be read.
pub fn mounts_below(path: &Path) -> Vec<String> {
    let path = path.canonicalize().expect("a path that is there");
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("a table of mounts");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| Path::new(point).starts_with(&path)).map(Into::into).collect()
}

/// Runs a command and returns what it prints.
///
/// # Panics
/// It fails.
pub fn run(command: &mut Command) -> String {
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
