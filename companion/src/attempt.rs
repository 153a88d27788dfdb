// SPDX-License-Identifier: Apache-2.0
//! What is kept of boots that were counted: which deployment, which try, why it ended, and the last lines of its journal.
//!
//! A counted boot notes that it began, below `/var/lib/fledge/attempts/BOOT-ID/`. One that ends because it isn't healthy adds why, and its
//! journal. One that hung or panicked can't: its journal is read later, from where the journal keeps those of earlier boots. The
//! next boot may be of another stateroot, which has a `/var` of its own: all stateroots are looked through.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fledge_core::counting::{Id, Tries};
use fledge_core::diag::Failure;
use fledge_stages::host::atomic;
use serde::{Deserialize, Serialize};

use crate::programs::{JOURNALCTL, Programs};
use crate::sysroot::Sysroot;

/// The version of the file's form that this build writes.
pub const VERSION: u32 = 1;
/// The folder of attempts, below `/var`.
pub const FOLDER: &str = "lib/fledge/attempts";
/// How many of the last lines of a journal are kept.
pub const LINES: &str = "200";
/// How many attempts are kept; the oldest go first. A deployment has at most 99 tries.
const KEPT: usize = 100;

const RECORD: &str = "attempt.json";
const JOURNAL: &str = "journal.txt";

/// One counted boot: the file `attempt.json`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// [`VERSION`].
    pub version: u32,
    /// The boot's id, as in `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// The deployment that ran.
    pub deployment: Id,
    /// Which try it was; `None` if the deployment was forgotten since, and its tries are counted anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries: Option<Tries>,
    /// Date and time by the wall clock of that boot, for people only.
    pub date: String,
    /// Why it ended without being healthy. Without it, it didn't get as far as to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
}

/// An attempt and where it is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    /// What is known of it.
    pub attempt: Attempt,
    /// The last lines of its journal, if there are any.
    pub journal: Option<PathBuf>,
}

/// Notes that a counted boot began.
///
/// # Errors
/// Whatever the operating system says.
pub fn begin(store: &Path, attempt: &Attempt) -> Result<(), Failure> {
    write(store, attempt)?;
    prune(store);
    Ok(())
}

/// Notes why this boot ends, and keeps the last lines of its journal.
///
/// # Errors
/// The note can't be written. A journal that can't be read is told in its place.
pub fn end(store: &Path, attempt: &Attempt, programs: &Programs) -> Result<(), Failure> {
    write(store, attempt)?;
    // What is on its way to the journal is to be in it.
    let _ = programs.run(JOURNALCTL, &["--sync"]);
    let text = journal(&["--boot"], programs).unwrap_or_else(|failure| format!("{failure}\n"));
    keep_journal(&store.join(&attempt.boot_id), &text)
}

/// This boot was healthy: it is no attempt to be remembered.
///
/// # Errors
/// Whatever the operating system says.
pub fn forget(store: &Path, boot_id: &str) -> Result<(), Failure> {
    let folder = store.join(boot_id);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::new(format!("removing {}", folder.display()), error.to_string()))
        }
        _ => Ok(()),
    }
}

/// Tries of a deployment are counted anew: those that are kept lose their numbers.
///
/// # Errors
/// The first that can't be written; all are tried.
pub fn set_aside(store: &Path, deployment: &Id) -> Result<(), Failure> {
    let numbered = of(store, deployment).into_iter().map(|kept| kept.attempt).filter(|attempt| attempt.tries.is_some());
    let written: Vec<_> = numbered.map(|attempt| write(store, &Attempt { tries: None, ..attempt })).collect();
    written.into_iter().collect()
}

/// The attempts of a deployment that are kept, in the order of its tries. What can't be read is passed over, and logged.
pub fn of(store: &Path, deployment: &Id) -> Vec<Kept> {
    let mut attempts: Vec<Kept> =
        all(store).into_iter().filter(|kept| kept.attempt.deployment == *deployment).collect();
    attempts.sort_by(|one, other| order(&one.attempt).cmp(&order(&other.attempt)));
    attempts
}

fn order(attempt: &Attempt) -> (u32, &str) {
    (attempt.tries.map_or(0, |tries| tries.done), &attempt.date)
}

/// After a fallback: brings the attempts of the deployment that failed together in this boot's store, each with its journal if one can be
/// had. `own` is this boot's `/var`. A journal that can't be had is told in the log: it may never have been kept.
///
/// # Errors
/// The first thing that could not be written; all are tried.
pub fn gather(sysroot: &Sysroot, own: &Path, deployment: &Id, programs: &Programs) -> Result<(), Failure> {
    let mut first = None;
    let mut noted = |result: Result<(), Failure>| {
        if let Err(failure) = result {
            log::warn!("{failure}");
            first.get_or_insert(failure);
        }
    };
    let store = own.join(FOLDER);
    let other = sysroot.root.join("ostree/deploy").join(deployment.stateroot()).join("var");
    for var in [own, other.as_path()] {
        for kept in of(&var.join(FOLDER), deployment) {
            let folder = store.join(&kept.attempt.boot_id);
            if !folder.join(RECORD).exists() {
                noted(write(&store, &kept.attempt));
            }
            if folder.join(JOURNAL).exists() {
                continue;
            }
            let text = match &kept.journal {
                Some(journal) => fs::read_to_string(journal)
                    .map_err(|error| Failure::new(format!("reading {}", journal.display()), error.to_string())),
                None => earlier_journal(var, var == own, &kept.attempt.boot_id, programs),
            };
            match text {
                Ok(text) => noted(keep_journal(&folder, &text)),
                Err(failure) => log::warn!("{failure}"),
            }
        }
    }
    first.map_or(Ok(()), Err)
}

/// The end of the journal of an earlier boot, of those that are kept in a `/var`.
fn earlier_journal(var: &Path, own: bool, boot_id: &str, programs: &Programs) -> Result<String, Failure> {
    let directory = format!("--directory={}", var.join("log/journal").display());
    let boot = format!("--boot={}", boot_id.replace('-', ""));
    // Its own journal may be kept elsewhere than usual; where one of another system is, has to be said.
    let args: &[&str] = if own { &[&boot] } else { &[&directory, &boot] };
    journal(args, programs)
}

fn journal(which: &[&str], programs: &Programs) -> Result<String, Failure> {
    let form = ["--lines", LINES, "--output=short-monotonic", "--no-pager", "--quiet"];
    let args: Vec<&str> = which.iter().chain(&form).copied().collect();
    let text = programs.run(JOURNALCTL, &args)?.stdout;
    if text.trim().is_empty() {
        return Err(Failure::new("reading the journal of a boot that failed", "it is empty")
            .remedy("have the journal kept over reboots: create /var/log/journal (journald.conf(5), Storage=)"));
    }
    Ok(text)
}

fn keep_journal(folder: &Path, text: &str) -> Result<(), Failure> {
    let path = folder.join(JOURNAL);
    // Journals may hold what not everybody is to read.
    let written = atomic::write(&path, 0o600, text.as_bytes()).and_then(|()| settle(folder));
    written.map_err(|error| Failure::new(format!("writing {}", path.display()), error.to_string()))
}

/// The power may fail, or be taken away, at once.
fn settle(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

fn write(store: &Path, attempt: &Attempt) -> Result<(), Failure> {
    let folder = store.join(&attempt.boot_id);
    let path = folder.join(RECORD);
    let write = || {
        atomic::make_directory(&folder, 0o755)?;
        let mut text = serde_json::to_vec(attempt)?;
        text.push(b'\n');
        atomic::write(&path, 0o644, &text)?;
        settle(&folder)?;
        settle(store)
    };
    write().map_err(|error: io::Error| Failure::new(format!("writing {}", path.display()), error.to_string()))
}

fn all(store: &Path) -> Vec<Kept> {
    let Ok(entries) = fs::read_dir(store) else { return Vec::new() };
    let mut all = Vec::new();
    for folder in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let read = fs::read(folder.join(RECORD)).and_then(|text| Ok(serde_json::from_slice::<Attempt>(&text)?));
        match read {
            Ok(attempt) if attempt.version <= VERSION => {
                let journal = Some(folder.join(JOURNAL)).filter(|path| path.exists());
                all.push(Kept { attempt, journal });
            }
            Ok(_) => log::warn!("{} comes from a newer fledgectl", folder.display()),
            Err(error) => log::warn!("{}: {error}", folder.display()),
        }
    }
    all
}

/// Only to save room: what fails is left for the next time.
fn prune(store: &Path) {
    let Ok(entries) = fs::read_dir(store) else { return };
    let mut folders: Vec<_> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    folders.sort();
    let excess = folders.len().saturating_sub(KEPT);
    for (_, folder) in folders.into_iter().take(excess) {
        if let Err(error) = fs::remove_dir_all(&folder) {
            log::warn!("{} could not be removed: {error}", folder.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::programs::tests::executable;

    fn id(stateroot: &str, deployment: &str) -> Id {
        Id::new(stateroot, deployment).unwrap()
    }

    fn attempt(boot: &str, deployment: &Id, done: u32) -> Attempt {
        Attempt {
            version: VERSION,
            boot_id: boot.into(),
            deployment: deployment.clone(),
            tries: Some(Tries { left: 3 - done, done }),
            date: "2026-11-20T10:31:08Z".into(),
            end: None,
        }
    }

    /// Tells the arguments that it got, as a journal of one line.
    fn journalctl(folder: &Path) -> Programs {
        executable(&folder.join("journalctl"), "#!/bin/sh\necho journal \"$@\"\n");
        Programs::within([folder])
    }

    #[test]
    fn what_failed_says_why_and_what_was_healthy_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let programs = journalctl(directory.path());
        let (store, bad) = (directory.path().join("var").join(FOLDER), id("nestos", "aa.0"));
        begin(&store, &attempt("b2", &bad, 2)).unwrap();
        begin(&store, &attempt("b1", &bad, 1)).unwrap();
        begin(&store, &attempt("b3", &id("nestos", "bb.0"), 1)).unwrap();
        let ended = Attempt { end: Some("a check failed".into()), ..attempt("b1", &bad, 1) };
        end(&store, &ended, &programs).unwrap();
        let kept = of(&store, &bad);
        assert_eq!(kept.iter().map(|kept| kept.attempt.boot_id.as_str()).collect::<Vec<_>>(), ["b1", "b2"]);
        assert_eq!(kept[0].attempt, ended);
        let journal = kept[0].journal.as_ref().unwrap();
        let text = fs::read_to_string(journal).unwrap();
        assert_eq!(text, "journal --boot --lines 200 --output=short-monotonic --no-pager --quiet\n");
        assert_eq!(fs::metadata(journal).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(kept[1].journal, None);
        forget(&store, "b1").unwrap();
        forget(&store, "b1").unwrap();
        assert_eq!(of(&store, &bad).len(), 1);
    }

    #[test]
    fn attempts_of_another_stateroot_come_over_with_their_journals() {
        let directory = tempfile::tempdir().unwrap();
        let programs = journalctl(directory.path());
        let sysroot = Sysroot::at(&directory.path().join("sysroot"));
        let (own, bad) = (directory.path().join("var"), id("other", "aa.0"));
        let other = sysroot.root.join("ostree/deploy/other/var");
        // The first said why it ended, the second hung.
        end(&other.join(FOLDER), &Attempt { end: Some("why".into()), ..attempt("b-1", &bad, 1) }, &programs).unwrap();
        begin(&other.join(FOLDER), &attempt("b-2", &bad, 2)).unwrap();
        gather(&sysroot, &own, &bad, &programs).unwrap();
        let kept = of(&own.join(FOLDER), &bad);
        assert_eq!(kept[0].attempt.end.as_deref(), Some("why"));
        assert!(fs::read_to_string(kept[0].journal.as_ref().unwrap()).unwrap().starts_with("journal --boot --lines"));
        let second = fs::read_to_string(kept[1].journal.as_ref().unwrap()).unwrap();
        assert!(
            second.starts_with(&format!("journal --directory={}/log/journal --boot=b2 ", other.display())),
            "{second}"
        );
        // A second time changes nothing.
        fs::write(kept[1].journal.as_ref().unwrap(), "mine").unwrap();
        gather(&sysroot, &own, &bad, &programs).unwrap();
        assert_eq!(fs::read_to_string(kept[1].journal.as_ref().unwrap()).unwrap(), "mine");
    }

    #[test]
    fn a_journal_that_was_not_kept_is_told_and_stops_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let programs = journalctl(directory.path());
        executable(&directory.path().join("journalctl"), "#!/bin/sh\nexit 0\n");
        let sysroot = Sysroot::at(&directory.path().join("sysroot"));
        let (own, bad) = (directory.path().join("var"), id("nestos", "aa.0"));
        begin(&own.join(FOLDER), &attempt("b1", &bad, 1)).unwrap();
        begin(&own.join(FOLDER), &attempt("b2", &bad, 2)).unwrap();
        gather(&sysroot, &own, &bad, &programs).unwrap();
        executable(&directory.path().join("journalctl"), "#!/bin/sh\nexit 1\n");
        gather(&sysroot, &own, &bad, &programs).unwrap();
        assert_eq!(of(&own.join(FOLDER), &bad).len(), 2);
        assert!(of(&own.join(FOLDER), &bad).iter().all(|kept| kept.journal.is_none()));
    }

    #[test]
    fn what_can_not_be_written_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let programs = journalctl(directory.path());
        let sysroot = Sysroot::at(&directory.path().join("sysroot"));
        let (own, bad) = (directory.path().join("var"), id("other", "aa.0"));
        begin(&sysroot.root.join("ostree/deploy/other/var").join(FOLDER), &attempt("b1", &bad, 1)).unwrap();
        // A file where the folder of attempts would be.
        fs::create_dir_all(own.join("lib")).unwrap();
        fs::write(own.join("lib/fledge"), "").unwrap();
        assert!(gather(&sysroot, &own, &bad, &programs).unwrap_err().what.starts_with("writing "));
    }

    #[test]
    fn the_oldest_go_and_what_is_damaged_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let bad = id("nestos", "aa.0");
        for boot in 0..KEPT + 3 {
            begin(directory.path(), &attempt(&format!("b{boot:03}"), &bad, 1)).unwrap();
        }
        assert_eq!(of(directory.path(), &bad).len(), KEPT);
        assert!(!directory.path().join("b000").exists() && directory.path().join("b102").exists());
        fs::write(directory.path().join("b102").join(RECORD), "{").unwrap();
        assert_eq!(of(directory.path(), &bad).len(), KEPT - 1);
    }
}
