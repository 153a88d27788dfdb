// SPDX-License-Identifier: Apache-2.0
//! What every stage after `fetch` begins and ends with.

use fledge_core::config::{self, Config, Ignition};
use fledge_core::diag::Failure;
use fledge_core::facts::Facts;
use fledge_core::origin::Sources;
use fledge_core::plan::{self, Plan};
use fledge_core::state::State;

use crate::execute::{self, Machine};
use crate::fetch::Fetcher;
use crate::host::device;
use crate::host::fs::Root;
use crate::observe;
use crate::reading::Readings;
use crate::run::{Journal, StageArgs};
use crate::state::{self, Loaded};

/// A stage that knows what it is asked for.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) config: Config,
    /// How it wants things fetched.
    pub(super) rules: Ignition,
    pub(super) sources: Sources,
    pub(super) state: State,
}

impl Prepared {
    /// Loads what the stages before left. Fragments may have been added since, so what can't be done is looked for again.
    pub(super) fn load(args: &StageArgs, journal: &mut Journal) -> Result<Self, Vec<Failure>> {
        let Loaded { config, rules, sources, state } = state::load(args)?;
        journal.sources = Some(sources.clone());
        let mut readings = Readings { told: true, ..Readings::default() };
        let refused = readings.sort_out(config::unsupported(&config, &sources), "checking the configuration");
        if refused.is_empty() { Ok(Self { config, rules, sources, state }) } else { Err(refused) }
    }

    /// Checks a plan and carries it out.
    pub(super) fn carry_out(
        &mut self,
        plan: &Plan,
        root: &Root,
        fetcher: Option<&Fetcher>,
        args: &StageArgs,
        journal: &mut Journal,
    ) -> Result<(), Vec<Failure>> {
        plan::check(plan)?;
        let save = |state: &State| state::write(args, state);
        let mut machine = Machine { root, fetcher, state: &mut self.state, save: &save };
        execute::run(plan, &mut machine, journal)
    }
}

/// Opens the target root.
pub(super) fn root(args: &StageArgs) -> Result<Root, Vec<Failure>> {
    observe::open(&args.root).map_err(|failure| vec![failure])
}

/// The facts that mounting is planned from.
pub(super) fn mounting_facts(prepared: &Prepared, root: &Root, args: &StageArgs) -> Result<Facts, Vec<Failure>> {
    observe::for_mounting(&prepared.config, root, &prepared.state, device::patience(&args.cmdline))
}
