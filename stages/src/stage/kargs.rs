// SPDX-License-Identifier: Apache-2.0
//! `kargs`: kernel arguments, by the distribution's helper.

use fledge_core::diag::Failure;
use fledge_core::facts::Facts;
use fledge_core::plan;

use super::prepared::Prepared;
use crate::host::fs::Root;
use crate::run::{Journal, StageArgs};

/// Runs the stage. It doesn't need the target root, which isn't there yet.
///
/// # Errors
/// An argument can't be one, or the helper is missing or fails.
pub fn run(args: &StageArgs, journal: &mut Journal) -> Result<(), Vec<Failure>> {
    let mut prepared = Prepared::load(args, journal)?;
    let plan = plan::kargs(&prepared.config, &Facts::default(), &prepared.sources)?;
    // Nothing in this plan touches the root; the initramfs's own stands in for it.
    let root = Root::open("/".as_ref()).map_err(|error| vec![Failure::new("opening /", error.to_string())])?;
    prepared.carry_out(&plan, &root, None, args, journal)
}
