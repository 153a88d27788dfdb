// SPDX-License-Identifier: Apache-2.0
//! `kargs`: kernel arguments. A configuration that asks for any is refused in this build.

use fledge_core::diag::Failure;

use super::prepared::Prepared;
use crate::run::{Journal, StageArgs};

/// Runs the stage. It touches nothing.
///
/// # Errors
/// There is no configuration, or it asks for what this build can't do.
pub fn run(args: &StageArgs, journal: &mut Journal) -> Result<(), Vec<Failure>> {
    Prepared::load(args, journal).map(drop)
}
