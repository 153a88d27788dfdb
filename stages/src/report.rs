// SPDX-License-Identifier: Apache-2.0
//! `/run/fledge`: the report, and the words for an operator whose machine did not boot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fledge_core::diag::Failure;
use fledge_core::report::{Report, VERSION};

use crate::host::{atomic, environment};

/// What this program calls itself.
pub const PROGRAM: &str = concat!("fledge ", env!("CARGO_PKG_VERSION"));

/// Where the report of the first boot is kept in the real root.
pub const KEPT: &str = "/var/lib/fledge/first-boot.json";

/// The folder of what a boot leaves for later stages and for people: `/run/fledge`, or `FLEDGE_RUNTIME_DIR`.
pub fn runtime_dir() -> PathBuf {
    environment::path("FLEDGE_RUNTIME_DIR", "/run/fledge")
}

/// The file of the report.
pub fn path() -> PathBuf {
    runtime_dir().join("report.json")
}

/// Reads a report.
///
/// # Errors
/// The file can't be read, is no report, or comes from a newer Fledge.
pub fn read(path: &Path) -> Result<Report, Failure> {
    let what = || format!("reading the report {}", path.display());
    let text = fs::read(path).map_err(|error| Failure::new(what(), error.to_string()))?;
    let report: Report = serde_json::from_slice(&text).map_err(|error| Failure::new(what(), error.to_string()))?;
    if report.version > VERSION {
        let why = format!("its form is version {}, this fledge knows up to {VERSION}", report.version);
        return Err(Failure::new(what(), why).remedy("read it with the fledge that wrote it, or a newer one"));
    }
    Ok(report)
}

/// Adds to the report so far: that of earlier stages of this boot, or a new one. Instances that run at once wait for each
/// other. It holds no secret, and all may read it.
///
/// # Errors
/// Whatever the operating system says.
pub fn add(change: impl FnOnce(&mut Report)) -> io::Result<()> {
    let _turn = turn()?;
    let boot_id = boot_id().unwrap_or_default();
    let mut report = match read(&path()) {
        Ok(report) if report.boot_id == boot_id => report,
        _ => Report::new(PROGRAM, boot_id),
    };
    change(&mut report);
    let mut text = serde_json::to_vec(&report)?;
    text.push(b'\n');
    atomic::write(&path(), 0o644, &text)
}

/// Makes the folder, open to all, and holds it until the result is dropped.
fn turn() -> io::Result<fs::File> {
    let folder = runtime_dir();
    atomic::make_directory(&folder, 0o755)?;
    let folder = fs::File::open(folder)?;
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(folder)
}

/// Leaves the reason of a stage's failure for whoever shows it on the console.
///
/// # Errors
/// Whatever the operating system says.
pub fn leave_reason(stage: &str, failures: &[Failure]) -> io::Result<()> {
    leave(&format!("Ignition's stage {stage} failed; this machine does not boot on."), failures)
}

/// Leaves a headline and failures for whoever shows them on the console, below what was left earlier in this boot: the first
/// failure is the one that matters, and cleaning up after it may fail, too.
///
/// # Errors
/// Whatever the operating system says.
pub fn leave(headline: &str, failures: &[Failure]) -> io::Result<()> {
    use std::fmt::Write as _;
    let _turn = turn()?;
    let path = runtime_dir().join("failure");
    let mut text = fs::read_to_string(&path).map_or_else(|_| String::new(), |earlier| earlier + "\n");
    // Writing to a String can't fail.
    let _ = writeln!(text, "{headline}");
    for failure in failures {
        let _ = writeln!(text, "\n{failure}");
    }
    atomic::write(&path, 0o644, text.as_bytes())
}

/// The id of this boot.
///
/// # Errors
/// Whatever the operating system says.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
