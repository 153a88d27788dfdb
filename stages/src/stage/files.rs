// SPDX-License-Identifier: Apache-2.0
//! `files`: users and groups, directories, files, links, units, and the result file.

use fledge_core::diag::Failure;
use fledge_core::go::parse_bool;
use fledge_core::plan::{self, Settings};

use super::fetch;
use super::prepared::{Prepared, root};
use crate::observe;
use crate::run::{Journal, StageArgs};

/// Runs the stage.
///
/// # Errors
/// What the facts say can't be done, before anything is written; else why the first step that failed did.
pub fn run(args: &StageArgs, journal: &mut Journal) -> Result<(), Vec<Failure>> {
    let settings = settings()?;
    let mut prepared = Prepared::load(args, journal)?;
    let root = root(args)?;
    let facts = observe::for_files(&prepared.config, &root, &prepared.state)?;
    let plan = plan::files(&prepared.config, &facts, &prepared.sources, settings)?;
    // The plan has all that is needed of it.
    drop(std::mem::take(&mut prepared.config));
    let fetcher = fetch::fetcher(args, &prepared.rules, &prepared.sources)?;
    prepared.carry_out(&plan, &root, Some(&fetcher), args, journal)
}

/// What the distribution has settled in the environment.
fn settings() -> Result<Settings, Vec<Failure>> {
    const KEY: &str = "IGNITION_WRITE_AUTHORIZED_KEYS_FRAGMENT";
    let value = std::env::var(KEY).unwrap_or_default();
    if value.is_empty() {
        return Ok(Settings::default());
    }
    // Ignition stops at anything else, too.
    let keys_fragment = parse_bool(&value).ok_or_else(|| {
        let why = format!("{value:?} is neither true nor false");
        vec![
            Failure::new(format!("reading the environment variable {KEY}"), why)
                .remedy("set it to true or false where ignition.env is made"),
        ]
    })?;
    Ok(Settings { keys_fragment, ..Settings::default() })
}
