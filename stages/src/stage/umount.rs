// SPDX-License-Identifier: Apache-2.0
//! `umount`: unmounts what `mount` mounted, whether or not the stages in between succeeded.

use std::time::Duration;

use fledge_core::config::Config;
use fledge_core::diag::Failure;
use fledge_core::plan;

use super::prepared::{Prepared, root};
use crate::run::{Journal, StageArgs};
use crate::{observe, state};

/// Runs the stage.
///
/// # Errors
/// Something can't be unmounted. Without a configuration that can be read, what `mount` left word of is unmounted before that
/// is told.
pub fn run(args: &StageArgs, journal: &mut Journal) -> Result<(), Vec<Failure>> {
    let (mut prepared, told) = match Prepared::load(args, journal) {
        Ok(prepared) => (prepared, Ok(())),
        Err(failures) => {
            let state = state::read(args).map_err(|failure| vec![failure])?;
            (Prepared { state, ..Prepared::default() }, Err(failures))
        }
    };
    let root = root(args)?;
    // Devices don't matter any more.
    let facts = observe::for_mounting(&Config::default(), &root, &prepared.state, Duration::ZERO)?;
    let plan = plan::umount(&prepared.config, &facts, &prepared.sources)?;
    prepared.carry_out(&plan, &root, None, args, journal)?;
    told
}
