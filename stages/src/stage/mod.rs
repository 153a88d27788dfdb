// SPDX-License-Identifier: Apache-2.0
//! The stages of a first boot, one module each.

pub mod fetch;

use fledge_core::diag::Failure;
use fledge_core::report::StageOutcome;
use fledge_core::stage::Stage;

use crate::run::{Journal, StageArgs};

/// Runs one stage.
///
/// # Errors
/// Why it stopped.
pub fn run(stage: Stage, args: &StageArgs, journal: &mut Journal) -> Result<StageOutcome, Vec<Failure>> {
    match stage {
        Stage::FetchOffline => fetch::run(true, args, journal),
        Stage::Fetch => fetch::run(false, args, journal),
        _ => Err(vec![Failure::new(format!("running the stage {stage}"), "it is not built yet")]),
    }
}
