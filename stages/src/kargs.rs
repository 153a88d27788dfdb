// SPDX-License-Identifier: Apache-2.0
//! Kernel arguments of the boot entries, and the one reboot that they ask for.
//!
//! [`adjust`] is what `ignition-kargs-helper` does: it edits all boot entries and leaves a flag if the running kernel lacks what they
//! say. [`reboot`] is what one later unit does for all who left such a flag. In between the boot file system is unmounted, so that a
//! bootloader sees the new entries, and only then a note is left on it: a boot that finds the note, right entries and a wrong command
//! line knows that its bootloader passes the entries over, and stops instead of going round in circles.

mod reboot;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fledge_core::bls::{Entry, Marker, Next, Request};
use fledge_core::diag::Failure;

use crate::host::bootfs::{BootEntry, BootFs, Place};
use crate::host::{atomic, environment};
use crate::report;

pub use reboot::{FOREIGN_FLAGS, reboot};

/// What the helper says when neither the boot entries nor the running kernel have to change.
pub const ALREADY_SO: &str = "the boot entries and the running kernel have these arguments already";
/// The note on the boot file system that a reboot was asked for.
pub const MARKER: &str = "/fledge/kargs-reboot";

const WHAT: &str = "setting the kernel arguments";

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The boot file system.
    pub boot: Place,
    /// The flag that asks for a reboot.
    pub flag: PathBuf,
    /// The running kernel's command line.
    pub cmdline: PathBuf,
    /// This boot's id.
    pub boot_id: String,
}

impl Places {
    /// Those of this boot.
    ///
    /// # Errors
    /// The kernel doesn't tell this boot's id.
    pub fn of_this_boot(boot: Place) -> Result<Self, Failure> {
        let boot_id = report::boot_id().map_err(|error| Failure::new("reading this boot's id", error.to_string()))?;
        let flag = report::runtime_dir().join("kargs-reboot");
        Ok(Self { boot, flag, cmdline: environment::cmdline(), boot_id })
    }

    fn command_line(&self) -> Result<String, Failure> {
        let bytes = fs::read(&self.cmdline).map_err(|error| {
            Failure::new(format!("reading the kernel command line from {}", self.cmdline.display()), error.to_string())
        })?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\0']).to_owned())
    }
}

/// What was done.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// The boot entries that were changed.
    pub edited: Vec<String>,
    /// Whether the machine has to boot once more.
    pub reboot: bool,
}

/// Puts what is asked for into all boot entries, and asks for a reboot if the running kernel lacks it.
///
/// # Errors
/// This is a live system, there are no boot entries, one can't be read or written, or the bootloader has passed them over.
pub fn adjust(request: &Request, live: bool, places: &Places) -> Result<Outcome, Failure> {
    let running = places.command_line()?;
    let unmet = request.unmet(&running);
    if live {
        return on_live_system(&unmet);
    }
    let (edits, marker) = {
        let boot = BootFs::open(&places.boot, false)?;
        (edits(&boot, request)?, read_marker(&boot)?)
    };
    let next = Next::decide(unmet.is_empty(), request, marker.as_ref(), &places.boot_id);
    if next == Next::Ignored {
        return Err(ignored(&unmet, &edits, &places.boot));
    }
    let mut outcome = Outcome { edited: Vec::new(), reboot: next == Next::Reboot };
    if !edits.is_empty() {
        let boot = BootFs::open(&places.boot, true)?;
        for edit in edits {
            boot.replace_entry(&edit.name, &edit.entry)?;
            outcome.edited.push(edit.name);
        }
    }
    if outcome.reboot {
        atomic::write(&places.flag, 0o600, request.to_text().as_bytes()).map_err(|error| {
            Failure::new(format!("asking for a reboot by {}", places.flag.display()), error.to_string())
        })?;
    }
    Ok(outcome)
}

fn on_live_system(unmet: &[String]) -> Result<Outcome, Failure> {
    if unmet.is_empty() {
        return Ok(Outcome::default());
    }
    let why = format!("this is a live system, whose command line can't be changed: {}", unmet.join(", "));
    Err(Failure::new(WHAT, why).remedy(
        "boot the live system with these arguments (PXE configuration, coreos-installer iso kargs), or take them out of the config",
    ))
}

/// The entries that have to change, as they are to be.
fn edits(boot: &BootFs, request: &Request) -> Result<Vec<BootEntry>, Failure> {
    let edit = |BootEntry { name, entry }: BootEntry| {
        let edited = entry.edit(request).map_err(|unclosed| {
            Failure::new(format!("editing the boot entry {name}"), format!("its options can't be read: {unclosed}"))
                .remedy("put that entry right by hand")
        });
        edited.map(|entry| entry.map(|entry| BootEntry { name, entry })).transpose()
    };
    boot.entries()?.into_iter().filter_map(edit).collect()
}

fn read_marker(boot: &BootFs) -> Result<Option<Marker>, Failure> {
    let text = boot.root().text(MARKER).map_err(|error| {
        Failure::new(format!("reading {MARKER} of the boot file system"), error.to_string()).remedy("remove it by hand")
    })?;
    Ok((!text.is_empty()).then(|| Marker::from_text(&text)))
}

fn ignored(unmet: &[String], lost: &[BootEntry], boot: &Place) -> Failure {
    let unmet = unmet.join(", ");
    let entries = BootFs::open(boot, false).and_then(|boot| boot.entries()).unwrap_or_default();
    let names: Vec<_> = entries.iter().map(|entry| format!("loader/entries/{}", entry.name)).collect();
    let why = if lost.is_empty() {
        format!(
            "{} on the boot file system would start the kernel as asked for, but after a reboot its command line is another: {unmet}. The bootloader doesn't read these entries",
            names.join(", ")
        )
    } else {
        format!("{} of the boot file system had been changed, but a reboot later the change is gone", names.join(", "))
    };
    Failure::new(WHAT, why).remedy(
        "see which file or server the bootloader takes its kernel arguments from, and set them there; to have it tried once more, remove fledge/kargs-reboot from the boot file system",
    )
}

/// Removes the note, once a first boot is over. What else is in its folder stays.
///
/// # Errors
/// Whatever the operating system says.
pub fn forget(boot: &Path) -> io::Result<()> {
    let marker = boot.join(MARKER.trim_start_matches('/'));
    match fs::remove_file(&marker) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    }
    if let Some(folder) = marker.parent() {
        // Others may keep something there.
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

/// The entry that the running system was booted from: the one with its `ostree=`; else the only one.
fn booted<'e>(entries: &'e [BootEntry], command_line: &str) -> Option<&'e Entry> {
    if let [only] = entries {
        return Some(&only.entry);
    }
    let deployment = fledge_core::cmdline::words(command_line).find(|word| word.starts_with("ostree="))?;
    let mut found = entries.iter().filter(|entry| entry.entry.arguments().any(|word| word == deployment));
    found.next().filter(|_| found.next().is_none()).map(|entry| &entry.entry)
}

#[cfg(test)]
mod tests;
