// SPDX-License-Identifier: Apache-2.0
//! `mount`: mounts the file systems of the configuration below the target root.

use fledge_core::diag::Failure;
use fledge_core::plan;

use super::prepared::{Prepared, mounting_facts, root};
use crate::run::{Journal, StageArgs};

/// Runs the stage. It leaves word of what it mounted and which directories it made for that.
///
/// # Errors
/// A device isn't there, a mount point can't be made, or something can't be mounted.
pub fn run(args: &StageArgs, journal: &mut Journal) -> Result<(), Vec<Failure>> {
    let mut prepared = Prepared::load(args, journal)?;
    let root = root(args)?;
    let facts = mounting_facts(&prepared, &root, args)?;
    let plan = plan::mount(&prepared.config, &facts, &prepared.sources)?;
    prepared.carry_out(&plan, &root, None, args, journal)
}
