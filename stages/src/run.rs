// SPDX-License-Identifier: Apache-2.0
//! One run of one stage: settings in; effects, report and the words for the operator out.

use std::path::PathBuf;
use std::time::Duration;

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::{Diagnostic, Failure};
use fledge_core::origin::Sources;
use fledge_core::report::{StageOutcome, StageReport, StepReport};
use fledge_core::stage::Stage;

use crate::host::{clock, limit};
use crate::{report, stage};

/// What the command line of `ignition` settles.
#[derive(Clone, Debug)]
pub struct StageArgs {
    /// The target root: `/sysroot` on a boot.
    pub root: PathBuf,
    /// The platform's id.
    pub platform: String,
    /// Where the user's configuration is cached, in upstream's form.
    pub config_cache: PathBuf,
    /// The flag file that asks for a network.
    pub neednet: PathBuf,
    /// What one stage leaves for the next.
    pub state_file: PathBuf,
    /// How long fetching one configuration may take.
    pub fetch_timeout: Duration,
    /// The kernel command line.
    pub cmdline: Cmdline,
}

/// What a stage tells while it runs.
#[derive(Debug, Default)]
pub struct Journal {
    /// The configurations that took part, once they are known.
    pub sources: Option<Sources>,
    /// Remarks about configurations.
    pub remarks: Vec<Diagnostic>,
    /// Steps so far.
    pub steps: Vec<StepReport>,
}

/// Runs a stage, adds it to the report, and leaves the reason for the operator if it failed.
///
/// # Errors
/// Why the stage failed. It has been logged and left for the console already.
pub fn run(stage: Stage, args: &StageArgs) -> Result<(), Vec<Failure>> {
    log::info!("{}", report::PROGRAM);
    log::info!("Stage: {stage}");
    limit::raise_open_files();
    let start = clock::millis();
    let mut journal = Journal::default();
    let result = stage::run(stage, args, &mut journal);
    let outcome = match &result {
        Ok(outcome) => outcome.clone(),
        Err(failures) => StageOutcome::Failed(failures.clone()),
    };
    let added = report::add(|report| {
        if let Some(sources) = journal.sources {
            report.sources = sources;
        }
        report.stages.push(StageReport {
            stage,
            start_ms: start,
            took_ms: clock::millis().saturating_sub(start),
            outcome,
            remarks: journal.remarks,
            steps: journal.steps,
            memory: limit::memory(),
        });
    });
    if let Err(error) = added {
        log::warn!("the report could not be written to {}: {error}", report::path().display());
    }
    match result {
        Ok(_) => {
            log::info!("Ignition finished successfully");
            Ok(())
        }
        Err(failures) => {
            for failure in &failures {
                log::error!("{failure}");
            }
            log::error!("Ignition failed in stage {stage}");
            if let Err(error) = report::leave_reason(stage.name(), &failures) {
                log::warn!("the reason could not be left for the console: {error}");
            }
            Err(failures)
        }
    }
}
