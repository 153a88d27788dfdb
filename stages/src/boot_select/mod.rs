// SPDX-License-Identifier: Apache-2.0
//! Boot selection: a later boot is counted, or falls back to another deployment. [`fledge_core::counting`] decides; here the machine is
//! looked at, and what was decided is carried out.
//!
//! Nothing here stops a boot: what fails is told in the record and in the journal, and the boot goes on. A boot of a blessed deployment
//! mounts the boot file system read-only, where nobody sees it, reads a few names and entries, and writes nothing, unless GRUB counts
//! starts: it is told then that this one arrived, and what it left is written down.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fledge_core::cmdline::Cmdline;
use fledge_core::counting::{
    self, Decision, EXHAUSTED, Id, SELECTION, Selection, Settings, Verdict, carry_out, decide,
};
use fledge_core::diag::Failure;

use crate::host::bootfs::BootFs;
use crate::host::{atomic, mount, reboot};
use crate::report;

mod execute;
mod grub;
mod observe;
mod retreat;
#[cfg(test)]
mod tests;

pub use grub::Grub;
pub use observe::{unblessed, unstartable};
pub use retreat::pivot;

/// How long the boot file system is waited for. It is most often there: the root is.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// Where the physical root is mounted.
    pub root: PathBuf,
    /// The root of the initramfs, for its settings of the pivot.
    pub initramfs: PathBuf,
    /// Where the record is left, and what others need to know of it.
    pub runtime: PathBuf,
    /// Where units are written that go before those of generators (systemd.unit(5)).
    pub units: PathBuf,
    /// Reboots the machine; returns only if that fails.
    pub reboot: fn() -> Failure,
}

impl Places {
    /// Those of this boot.
    pub fn of_this_boot(root: PathBuf) -> Self {
        Self {
            root,
            initramfs: "/".into(),
            runtime: report::runtime_dir(),
            units: "/run/systemd/system".into(),
            reboot: || reboot::firmware("into another deployment"),
        }
    }
}

/// Waits until the physical root is mounted. Most of what selection costs is for mounting the boot file system and reading it for the first
/// time: that is done meanwhile, and kept for [`run`].
pub fn ahead(cmdline: &str, places: &Places) -> Option<BootFs> {
    let boot = observe::ahead(&Cmdline::parse(cmdline));
    if let Err(error) = mount::wait(&places.root) {
        log::warn!("waiting for {}: {error}", places.root.display());
    }
    boot
}

/// Selects. `cmdline` is the kernel command line's text; `ahead` what [`ahead`] kept.
pub fn run(cmdline: &str, places: &Places, ahead: Option<BootFs>) -> Selection {
    if let Err(error) = open_to_all(&places.runtime) {
        log::warn!("{}: {error}", places.runtime.display());
    }
    let selection = select(cmdline, places, ahead);
    let Selection { verdict, reason, .. } = &selection;
    let deployment = selection.deployment.as_ref().map_or("a deployment that can't be told", Id::as_str);
    match verdict {
        Verdict::NotCounted | Verdict::Blessed | Verdict::Counted => log::info!("booting {deployment}: {reason}"),
        _ => log::warn!("booting {deployment}: {reason}"),
    }
    for remark in &selection.remarks {
        log::warn!("{remark}");
    }
    if let Err(failure) = leave(&selection, &places.runtime) {
        log::warn!("{failure}");
    }
    selection
}

fn select(text: &str, places: &Places, ahead: Option<BootFs>) -> Selection {
    let cmdline = Cmdline::parse(text);
    let booted = match observe::booted(&places.root, &cmdline) {
        Ok(booted) => booted,
        Err(failure) => return Selection::not_counted(Verdict::CouldNotCount, None, in_words(&failure)),
    };
    let unwanted = counting::not_counted(&cmdline);
    if let Some(why) = unwanted.filter(|_| !may_be_armed(&cmdline, places)) {
        return Selection::not_counted(Verdict::NotCounted, Some(booted), why);
    }
    let Settings { tries, remark } = Settings::read(&cmdline);
    let seen = observe::facts(booted.clone(), tries, &cmdline, places);
    let mut seen = match (seen, unwanted) {
        (Ok(seen), _) => seen,
        (Err(failure), Some(why)) => {
            log::info!("{failure}");
            return Selection::not_counted(Verdict::NotCounted, Some(booted), why);
        }
        (Err(failure), None) => {
            return Selection::not_counted(Verdict::CouldNotCount, Some(booted), in_words(&failure));
        }
    };
    seen.facts.unwanted = unwanted.map(str::to_owned);
    // What is mounted for writing is mounted once.
    drop(ahead);
    let decision: Decision = decide(&seen.facts);
    let odd = seen.remarks.clone();
    let mut hands = execute::Hands::new(seen, text, places);
    let mut selection = carry_out(decision, &mut |effect| hands.perform(effect).map_err(|failure| in_words(&failure)));
    if unwanted.is_none() {
        selection.remarks.extend(remark.into_iter().chain(odd));
    }
    selection
}

/// Whether it is worth a look if GRUB counts this start, though nobody wants to have the boot counted. A first boot has no such start.
fn may_be_armed(cmdline: &Cmdline, places: &Places) -> bool {
    !cmdline.flag("ignition.firstboot") && observe::is_at_hand(&places.root, cmdline)
}

/// On one line.
fn in_words(failure: &Failure) -> String {
    format!("{}: {}", failure.what, failure.why)
}

/// What is left there is for everybody to read.
fn open_to_all(runtime: &Path) -> io::Result<()> {
    atomic::make_directory(runtime, 0o755)?;
    std::fs::set_permissions(runtime, std::fs::Permissions::from_mode(0o755))
}

fn leave(selection: &Selection, runtime: &Path) -> Result<(), Failure> {
    let path = runtime.join(SELECTION);
    let text = serde_json::to_vec_pretty(selection).map_err(io::Error::from);
    text.and_then(|text| atomic::write(&path, 0o644, &text))
        .map_err(|error| Failure::new(format!("writing {}", path.display()), error.to_string()))
}

/// Leaves the flag that all deployments are used up.
fn leave_flag(runtime: &Path, text: &str) -> io::Result<()> {
    atomic::write(&runtime.join(EXHAUSTED), 0o644, format!("{text}\n").as_bytes())
}
