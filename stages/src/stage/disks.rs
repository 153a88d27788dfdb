// SPDX-License-Identifier: Apache-2.0
//! `disks`: in this build, sees that the file systems that the configuration names are there already.

use fledge_core::diag::Failure;
use fledge_core::facts::Facts;
use fledge_core::plan::{self, Questions};

use super::prepared::Prepared;
use crate::execute::{self, Machine};
use crate::host::device;
use crate::host::fs::Root;
use crate::run::{Journal, StageArgs};
use crate::state;

/// Runs the stage. It doesn't need the target root, which may not be there yet.
///
/// # Errors
/// A device isn't there or doesn't hold what is asked for, or the configuration asks for what this build can't do.
pub fn run(args: &StageArgs, journal: &mut Journal) -> Result<(), Vec<Failure>> {
    let mut prepared = Prepared::load(args, journal)?;
    let mut facts = Facts::default();
    let questions = Questions::of_mounting(&prepared.config);
    device::wait(questions.devices.iter(), device::PATIENCE);
    for name in questions.devices {
        let found = device::look(&name)
            .map_err(|error| vec![Failure::new(format!("reading the device {name}"), error.to_string())])?;
        facts.devices.insert(name, found);
    }
    facts.block_devices = device::list();
    let plan = plan::disks(&prepared.config, &facts, &prepared.sources)?;
    plan::check(&plan)?;
    // Nothing in this plan touches the root; the initramfs's own stands in for it.
    let root = Root::open("/".as_ref()).map_err(|error| vec![Failure::new("opening /", error.to_string())])?;
    let save = |state: &fledge_core::state::State| state::write(args, state);
    let mut machine = Machine { root: &root, fetcher: None, state: &mut prepared.state, save: &save };
    execute::run(&plan, &mut machine, journal)
}
