// SPDX-License-Identifier: Apache-2.0
//! `disks`: makes partitions, arrays, encrypted volumes and file systems, phase after phase.

use fledge_core::diag::Failure;
use fledge_core::plan::PHASES;

use super::fetch;
use super::prepared::Prepared;
use crate::host::device;
use crate::host::fs::Root;
use crate::observe;
use crate::run::{Journal, StageArgs};

/// Runs the stage. It doesn't need the target root, which may not be there yet.
///
/// # Errors
/// A device isn't there, doesn't hold what is asked for, or can't be made so.
pub fn run(args: &StageArgs, journal: &mut Journal) -> Result<(), Vec<Failure>> {
    let mut prepared = Prepared::load(args, journal)?;
    // Nothing in these plans touches the root; the initramfs's own stands in for it.
    let root = Root::open("/".as_ref()).map_err(|error| vec![Failure::new("opening /", error.to_string())])?;
    // Keys may have to be fetched, and tang servers be waited for.
    let fetcher = if prepared.config.storage.luks.is_empty() {
        None
    } else {
        Some(fetch::fetcher(args, &prepared.rules, &prepared.sources)?)
    };
    for phase in PHASES {
        let mut facts = observe::for_phase(&phase, &prepared.config, device::patience(&args.cmdline))?;
        observe::encryption(&mut facts, &prepared.config, &mut prepared.state, &args.cmdline)?;
        let plan = phase.plan(&prepared.config, &facts, &prepared.sources)?;
        prepared.carry_out(&plan, &root, fetcher.as_ref(), args, journal)?;
    }
    Ok(())
}
