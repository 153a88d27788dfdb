// SPDX-License-Identifier: Apache-2.0
//! What every stage after `fetch` begins and ends with.

use fledge_core::config::{self, Config};
use fledge_core::diag::{Failure, Severity};
use fledge_core::facts::Facts;
use fledge_core::origin::Sources;
use fledge_core::plan::{self, Plan};
use fledge_core::state::State;

use crate::execute::{self, Machine};
use crate::fetch::Fetcher;
use crate::host::fs::Root;
use crate::run::{Journal, StageArgs};
use crate::{observe, state};

/// A stage that knows what it is asked for.
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) sources: Sources,
    pub(super) state: State,
}

impl Prepared {
    /// Loads what the stages before left. Fragments may have been added since, so what can't be done is looked for again.
    pub(super) fn load(args: &StageArgs, journal: &mut Journal) -> Result<Self, Vec<Failure>> {
        let (config, sources, state) = state::load(args)?;
        journal.sources = Some(sources.clone());
        let refused: Vec<_> = config::unsupported(&config, &sources)
            .into_iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .map(|diagnostic| Failure {
                what: "checking the configuration".into(),
                place: Some(Box::new(diagnostic.place)),
                why: diagnostic.reason,
                remedy: diagnostic.remedy,
            })
            .collect();
        if refused.is_empty() { Ok(Self { config, sources, state }) } else { Err(refused) }
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
pub(super) fn mounting_facts(prepared: &Prepared, root: &Root) -> Result<Facts, Vec<Failure>> {
    observe::for_mounting(&prepared.config, root, &prepared.state, crate::host::device::PATIENCE)
}
