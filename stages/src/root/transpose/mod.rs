// SPDX-License-Identifier: Apache-2.0
//! A root that the configuration makes anew, and what boots it: looked at and kept in memory before the disks stage, written back after it.
//! [`fledge_core::root::transpose`] decides.
//!
//! It is kept in a file system on zram, as with Fedora CoreOS: a tmpfs compresses nothing, and has no attributes `user.*` before Linux 6.6.
//! Everything is mounted where no path leads, and gone when a process ends; the device stays until all is written back.

mod execute;
mod observe;
mod regrow;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::gpt::Partition;
use fledge_core::plan::PHASES;
use fledge_core::root::transpose::{self, Part, Plan};
use serde::{Deserialize, Serialize};

use crate::host::tree::Totals;
use crate::host::{atomic, bootfs, device};
use crate::run::StageArgs;
use crate::{observe as facts, state};

pub use regrow::run as regrow;

/// What one of these steps leaves for the next.
pub const STATE: &str = "/run/fledge/transpose.json";

const WHAT: &str = "replacing the root and what boots it";

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// What one of these steps leaves for the next.
    pub state: PathBuf,
    /// The boot file system's device.
    pub boot: PathBuf,
    /// The root's device, as the command line names it.
    pub root: PathBuf,
    /// The device that holds what is kept; compressed memory, unless a test has another.
    pub store: Option<PathBuf>,
}

impl Places {
    /// Those of a boot.
    pub fn of_this_boot(cmdline: &Cmdline) -> Self {
        Self {
            state: STATE.into(),
            boot: bootfs::DEVICE.into(),
            root: fledge_core::root::device(cmdline.value("root")).into(),
            store: None,
        }
    }
}

/// What is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Kept {
    plan: Plan,
    /// The number of the device in memory, and its format.
    memory: Option<u32>,
    format: String,
    totals: Vec<(Part, Totals)>,
}

impl Kept {
    fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let failed = |why: String| Failure::new(format!("reading {}", path.display()), why);
        match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_vec(self).map_err(io::Error::from);
        text.and_then(|text| atomic::write(path, 0o600, &text))
            .map_err(|error| Failure::new(format!("writing {}", path.display()), error.to_string()))
    }
}

/// Finds out what the configuration makes anew, and whether that can be done. Where it makes nothing anew, nothing is left for the others.
///
/// # Errors
/// It can't be done. Nothing was written.
pub fn detect(args: &StageArgs, places: &Places) -> Result<(), Vec<Failure>> {
    let loaded = state::load(args)?;
    let (config, sources) = (&loaded.config, &loaded.sources);
    if !transpose::touches_disks(config) {
        log::info!("the configuration leaves all disks as they are");
        return Ok(());
    }
    let wanted = transpose::wanted(config, sources).map_err(|failure| vec![failure])?;
    let [tables, ..] = PHASES;
    let patience = device::patience(&args.cmdline);
    let steps = if config.storage.disks.is_empty() {
        Vec::new()
    } else {
        let facts = facts::for_phase(&tables, config, patience)?;
        tables.plan(config, &facts, sources)?.steps
    };
    let plan = observe::facts(config, &wanted, &args.cmdline, &steps, places)
        .and_then(|facts| transpose::plan(config, sources, &args.cmdline, &facts))
        .map_err(|failure| vec![failure])?;
    log::info!("{plan}");
    if plan.before.is_empty() {
        return Ok(());
    }
    Kept { plan, ..Kept::default() }.write(&places.state).map_err(|failure| vec![failure])
}

/// Keeps it in memory.
///
/// # Errors
/// It doesn't fit, or can't be read. The disks are as they were.
pub fn save(places: &Places) -> Result<(), Failure> {
    let Some(mut kept) = Kept::read(&places.state)? else { return Ok(()) };
    let steps = kept.plan.before.clone();
    let mut work = execute::Work { kept: &mut kept, places, store: None };
    if let Err(failure) = super::carry_out(&steps, |step| work.carry_out(step)) {
        // Whoever comes to the console needs the memory; the first failure is the one to tell.
        let _ = work.give_up();
        return Err(failure);
    }
    drop(work);
    kept.write(&places.state)
}

/// Writes it back.
///
/// # Errors
/// What is made for it can't hold it, or whatever the operating system says.
pub fn restore(places: &Places, cmdline: &Cmdline) -> Result<(), Failure> {
    let Some(mut kept) = Kept::read(&places.state)? else { return Ok(()) };
    let steps = std::mem::take(&mut kept.plan.after);
    let replaces_root = kept.plan.root.is_some();
    let mut work = execute::Work { kept: &mut kept, places, store: None };
    super::carry_out(&steps, |step| work.carry_out(step)).map_err(|failure| {
        failure.remedy("what was to be written back is lost when the machine is turned off: install the system again")
    })?;
    drop(work);
    kept.write(&places.state)?;
    if replaces_root { execute::is_found(&steps, places, cmdline) } else { Ok(()) }
}

/// Whether what the configuration replaces is in memory, and not written back yet.
pub fn is_in_memory(state: &Path) -> bool {
    Kept::read(state).is_ok_and(|kept| kept.is_some_and(|kept| kept.memory.is_some()))
}

/// Whether a partition is one that the root was on before, and as it was: such a one may grow, although the configuration makes the
/// file system on it.
pub(super) fn was_root(state: &Path, disk: &str, partition: &Partition) -> Result<bool, Failure> {
    let old = Kept::read(state)?.and_then(|kept| kept.plan.root);
    Ok(old.is_some_and(|old| {
        old.disk.as_deref() == Some(disk) && (old.start, old.sectors) == (partition.start, partition.size())
    }))
}
