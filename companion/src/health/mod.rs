// SPDX-License-Identifier: Apache-2.0
//! Whether a boot is healthy: greenboot's contract (<https://github.com/fedora-iot/greenboot>), and a folder of this project's.
//!
//! | what | where, in this order | what follows |
//! |---|---|---|
//! | required checks | `/usr/lib/greenboot/check/required.d`, `/etc/greenboot/check/required.d`, `/etc/fledge/health.d` | the first that fails makes the boot unhealthy, and nothing runs after it |
//! | wanted checks | `/usr/lib/greenboot/check/wanted.d`, `/etc/greenboot/check/wanted.d` | failures are told |
//! | green hooks | `/usr/lib/greenboot/green.d`, `/etc/greenboot/green.d` | after a healthy boot; failures are told |
//! | red hooks | `/usr/lib/greenboot/red.d`, `/etc/greenboot/red.d` | after an unhealthy boot; failures are told |
//!
//! In each folder files run one after the other, in the order of their names' bytes: `*.sh` by bash, whatever their mode, others themselves if
//! they are executable. Success is exit code 0. `DISABLED_HEALTHCHECKS` of `/etc/greenboot/greenboot.conf` names checks that don't run.

pub mod config;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use fledge_core::diag::Failure;
use fledge_stages::host::{atomic, clock};
use serde::{Deserialize, Serialize};

use crate::programs;

/// The version of the file's form that this build writes.
pub const VERSION: u32 = 1;
/// The name of the file below the runtime directory that tells how the checks of this boot went.
pub const FILE: &str = "health.json";
/// The longest line of a script that is kept, in characters. All that it wrote is in the journal.
const LONGEST: usize = 300;

/// What a script is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Must not fail.
    Required,
    /// May fail.
    Wanted,
    /// Runs after a healthy boot.
    Green,
    /// Runs after an unhealthy one.
    Red,
}

impl Kind {
    /// Its folders, in the order in which they are gone through.
    fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Required => {
                &["usr/lib/greenboot/check/required.d", "etc/greenboot/check/required.d", "etc/fledge/health.d"]
            }
            Self::Wanted => &["usr/lib/greenboot/check/wanted.d", "etc/greenboot/check/wanted.d"],
            Self::Green => &["usr/lib/greenboot/green.d", "etc/greenboot/green.d"],
            Self::Red => &["usr/lib/greenboot/red.d", "etc/greenboot/red.d"],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Required => "required check",
            Self::Wanted => "wanted check",
            Self::Green => "green hook",
            Self::Red => "red hook",
        }
    }
}

/// How one script went.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It ended with exit code 0.
    Passed,
    /// It ended with this exit code.
    Failed(i32),
    /// This signal ended it.
    Killed(i32),
    /// It could not be started, in the system's words.
    NotStarted(String),
    /// greenboot.conf says that it is not to run.
    Disabled,
    /// A required check had failed before.
    Skipped,
    /// It was ended, or not started, because the time of all hooks of its kind was over.
    TooLate,
}

impl Outcome {
    /// Whether it ran, and not well.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Killed(_) | Self::NotStarted(_) | Self::TooLate)
    }

    /// Whether it ran, or was to run and could not be started.
    pub fn is_run(&self) -> bool {
        !matches!(self, Self::Disabled | Self::Skipped)
    }
}

impl std::fmt::Display for Check {
    /// On one line, with the last line that it wrote.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.kind.name(), self.path.display(), self.outcome)?;
        match &self.said {
            Some(line) => write!(f, "; it said: {line}"),
            None => Ok(()),
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(code) => write!(f, "failed with exit code {code}"),
            Self::Killed(signal) => write!(f, "failed: signal {signal} ended it"),
            Self::NotStarted(why) => write!(f, "failed: it could not be started: {why}"),
            Self::Disabled => f.write_str("was not run: greenboot.conf disables it"),
            Self::Skipped => f.write_str("was not run: a required check failed before"),
            Self::TooLate => f.write_str("failed: the time for all of them was over"),
        }
    }
}

/// One script and how it went.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What it is for.
    pub kind: Kind,
    /// Where it is.
    pub path: PathBuf,
    /// How it went.
    pub outcome: Outcome,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The last line that it wrote, if it failed. No more of it: everybody reads it, and the journal isn't for everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
}

/// How the checks of one boot went: the file `/run/fledge/health.json`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// [`VERSION`].
    pub version: u32,
    /// The boot's id, as in `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Whether no required check failed, nor anything else that keeps a boot from being healthy.
    pub healthy: bool,
    /// When the checks began, in milliseconds since the machine booted.
    pub start_ms: u64,
    /// The checks, in the order in which they ran.
    pub checks: Vec<Check>,
    /// What was wrong besides the checks: a folder or greenboot.conf could not be read, which makes a boot unhealthy, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Failure>,
    /// Names that greenboot.conf disables and that no check has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_disabled: Vec<String>,
    /// Why the boot ended as one that isn't healthy, where no check says so: a service that failed, a deadline that passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Why the machine isn't rebooted for that, if it isn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays: Option<String>,
    /// What was to be done after a healthy boot and could not be: marking its deployment as good, and what belongs to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undone: Vec<Failure>,
}

impl Health {
    /// A boot that isn't healthy, of which no check says so.
    pub fn ended(boot_id: &str) -> Self {
        Self {
            version: VERSION,
            boot_id: boot_id.to_owned(),
            healthy: false,
            start_ms: clock::millis(),
            checks: Vec::new(),
            problems: Vec::new(),
            unknown_disabled: Vec::new(),
            end: None,
            stays: None,
            undone: Vec::new(),
        }
    }

    /// Whether the checks say that the boot is healthy.
    pub fn is_by_checks(&self) -> bool {
        self.problems.is_empty() && !self.failed().any(|check| check.kind == Kind::Required)
    }

    /// The checks that ran and failed.
    pub fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.outcome.is_failure())
    }
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for check in &self.checks {
            writeln!(f, "{check}, {} ms", check.took_ms)?;
        }
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        f.write_str(if self.healthy { "healthy" } else { "NOT HEALTHY" })
    }
}

/// Runs the checks below a root, which on a machine is `/`. Lines of the scripts and results are logged as they come.
pub fn check(root: &Path, boot_id: &str) -> Health {
    let start_ms = clock::millis();
    let mut problems = Vec::new();
    let disabled = disabled(root).unwrap_or_else(|failure| {
        log::error!("{failure}");
        problems.push(failure);
        Vec::new()
    });
    let mut checks = Vec::new();
    for kind in [Kind::Required, Kind::Wanted] {
        for path in scripts(root, kind, &mut problems) {
            let is_disabled =
                path.file_name().is_some_and(|name| disabled.iter().any(|disabled| name == disabled.as_str()));
            let unhealthy =
                checks.iter().any(|check: &Check| check.kind == Kind::Required && check.outcome.is_failure());
            let without_run = if unhealthy { Some(Outcome::Skipped) } else { is_disabled.then_some(Outcome::Disabled) };
            checks.push(match without_run {
                Some(outcome) => Check { kind, path, outcome, took_ms: 0, said: None },
                None => run(kind, path, None),
            });
        }
    }
    let is_known = |name: &String| checks.iter().any(|check| check.path.file_name() == Some(name.as_ref()));
    let unknown_disabled: Vec<_> = disabled.into_iter().filter(|name| !is_known(name)).collect();
    for name in &unknown_disabled {
        log::warn!("greenboot.conf disables {name:?}, but there is no check of that name");
    }
    let health = Health { start_ms, checks, problems, unknown_disabled, ..Health::ended(boot_id) };
    Health { healthy: health.is_by_checks(), ..health }
}

/// Runs the hooks of a kind below a root. Whatever they do, all of them run, unless a moment is given by which they have to end: what still
/// runs then is ended, and what would come after it doesn't run.
pub fn hooks(root: &Path, kind: Kind, until: Option<Instant>) -> Vec<Check> {
    let mut problems = Vec::new();
    let scripts = scripts(root, kind, &mut problems);
    for failure in &problems {
        log::error!("{failure}");
    }
    scripts.into_iter().map(|path| run(kind, path, until)).collect()
}

/// Leaves the result for `status` and for those who come after.
///
/// # Errors
/// Whatever the operating system says.
pub fn leave(runtime: &Path, health: &Health) -> Result<(), Failure> {
    let path = runtime.join(FILE);
    let failure = |error: io::Error| {
        Failure::new(format!("writing the result of the health checks to {}", path.display()), error.to_string())
            .remedy("see that /run has room: `df /run`")
    };
    atomic::make_directory(runtime, 0o755).map_err(failure)?;
    let mut text = serde_json::to_vec(health).map_err(|error| failure(error.into()))?;
    text.push(b'\n');
    atomic::write(&path, 0o644, &text).map_err(failure)
}

/// The result that this boot left, if there is one yet.
///
/// # Errors
/// It is there and can't be read, or comes from a newer program.
pub fn left(runtime: &Path) -> Result<Option<Health>, Failure> {
    let path = runtime.join(FILE);
    let failure = |why: String| Failure::new(format!("reading {}", path.display()), why);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failure(error.to_string())),
    };
    let health: Health = serde_json::from_slice(&text).map_err(|error| failure(error.to_string()))?;
    if health.version > VERSION {
        return Err(failure(format!("its form is version {}, this fledgectl knows up to {VERSION}", health.version)));
    }
    Ok(Some(health))
}

fn disabled(root: &Path) -> Result<Vec<String>, Failure> {
    let path = root.join("etc/greenboot/greenboot.conf");
    let failure = |why: String| {
        Failure::new(format!("reading {}", path.display()), why)
            .remedy("correct the file: as long as it can't be read, nobody knows which checks are not to run")
    };
    match fs::read_to_string(&path) {
        Ok(text) => config::disabled(&text).map_err(failure),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failure(error.to_string())),
    }
}

/// The scripts of a kind in the order in which they run. A folder that isn't there has none.
fn scripts(root: &Path, kind: Kind, problems: &mut Vec<Failure>) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for folder in kind.folders() {
        let folder = root.join(folder);
        match in_folder(&folder) {
            Ok(scripts) => all.extend(scripts),
            Err(error) => problems.push(
                Failure::new(format!("looking for scripts in {}", folder.display()), error.to_string())
                    .remedy("see that it is a folder that can be read, or remove it"),
            ),
        }
    }
    all
}

fn in_folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut scripts = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")) && is_script(&path) {
            scripts.push(path);
        }
    }
    scripts.sort();
    Ok(scripts)
}

/// A link to nothing is a script, too, if its name says so: it fails, which somebody will want to know.
fn is_script(path: &Path) -> bool {
    let named = path.extension().is_some_and(|extension| extension == "sh");
    match fs::metadata(path) {
        Ok(metadata) => metadata.is_file() && (named || metadata.permissions().mode() & 0o111 != 0),
        Err(_) => named,
    }
}

fn run(kind: Kind, path: PathBuf, until: Option<Instant>) -> Check {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let start = Instant::now();
    let mut said = None;
    let mut told = |line: &str| {
        log::info!("{name}: {line}");
        if !line.trim().is_empty() {
            said = Some(line.chars().take(LONGEST).collect());
        }
    };
    let is_over = until.is_some_and(|until| until <= start);
    let ended = if is_over { Ok(None) } else { programs::script(&path, until, &mut told) };
    let outcome = match ended {
        Ok(None) => Outcome::TooLate,
        Ok(Some(status)) if status.success() => Outcome::Passed,
        Ok(Some(status)) => match status.code() {
            Some(code) => Outcome::Failed(code),
            None => Outcome::Killed(status.signal().unwrap_or_default()),
        },
        Err(error) => Outcome::NotStarted(error.to_string()),
    };
    if !outcome.is_failure() {
        said = None;
    }
    let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let check = Check { kind, path, outcome, took_ms, said };
    match (check.outcome.is_failure(), kind) {
        (false, _) => log::info!("{check}"),
        (true, Kind::Required) => log::error!("{check}"),
        (true, _) => log::warn!("{check}"),
    }
    check
}

#[cfg(test)]
mod tests;
