// SPDX-License-Identifier: Apache-2.0
//! The stages of a first boot, one module each.

pub mod apply;
pub mod disks;
pub mod fetch;
pub mod files;
pub mod kargs;
pub mod mount;
mod prepared;
pub mod umount;

use fledge_core::diag::Failure;
use fledge_core::report::StageOutcome;
use fledge_core::stage::Stage;

use crate::run::{Journal, StageArgs};

/// Runs one stage.
///
/// # Errors
/// Why it stopped.
pub fn run(stage: Stage, args: &StageArgs, journal: &mut Journal) -> Result<StageOutcome, Vec<Failure>> {
    let done = |()| StageOutcome::Done;
    match stage {
        Stage::FetchOffline => fetch::run(true, args, journal),
        Stage::Fetch => fetch::run(false, args, journal),
        Stage::Kargs => kargs::run(args, journal).map(done),
        Stage::Disks => disks::run(args, journal).map(done),
        Stage::Mount => mount::run(args, journal).map(done),
        Stage::Files => files::run(args, journal).map(done),
        Stage::Umount => umount::run(args, journal).map(done),
    }
}
