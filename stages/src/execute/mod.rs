// SPDX-License-Identifier: Apache-2.0
//! Carries out plans: one interpreter that maps each step to calls of [`crate::host`].
//!
//! All contents of a plan are fetched and verified before its first step. Then the steps are carried out in order, each timed and
//! told in the journal; the first that fails ends the stage.

mod accounts;
mod contents;
mod files;
mod filesystems;
mod kargs;
mod luks;
mod partitions;
mod raid;
mod result;

use fledge_core::diag::Failure;
use fledge_core::plan::{Plan, Step};
use fledge_core::report::{StepOutcome, StepReport};
use fledge_core::state::State;

use crate::fetch::Fetcher;
use crate::host::clock;
use crate::host::fs::Root;
use crate::host::mount::{self, Unmounted};
use crate::run::Journal;
use contents::Contents;

/// What steps work on.
pub struct Machine<'m> {
    /// The target root.
    pub root: &'m Root,
    /// How contents are fetched; plans without any need none.
    pub fetcher: Option<&'m Fetcher>,
    /// What is left for later stages; changed by steps that leave something.
    pub state: &'m mut State,
    /// Saves the state, whenever a step has changed it.
    pub save: &'m dyn Fn(&State) -> Result<(), Failure>,
}

/// Whether a step had anything to do.
type Done = Result<bool, Failure>;

/// Carries out a plan.
///
/// # Errors
/// Why the first step that failed did, or why contents can't be had; nothing was written then.
pub fn run(plan: &Plan, machine: &mut Machine<'_>, journal: &mut Journal) -> Result<(), Vec<Failure>> {
    let mut contents = fetch(plan, machine, journal).map_err(|failure| vec![failure])?;
    for (number, planned) in plan.steps.iter().enumerate() {
        let start = clock::millis();
        let what = planned.step.to_string();
        let result = machine.step(&planned.step, number, &mut contents);
        let outcome = match &result {
            Ok(true) => StepOutcome::Done,
            Ok(false) => StepOutcome::AlreadySo,
            Err(_) => StepOutcome::Failed,
        };
        match outcome {
            StepOutcome::Done => log::info!("{what}"),
            StepOutcome::AlreadySo => log::info!("already so: {what}"),
            StepOutcome::Failed => {}
        }
        let took_ms = clock::millis().saturating_sub(start);
        journal.steps.push(StepReport { what, place: planned.place.clone(), outcome, took_ms });
        if let Err(failure) = result {
            return Err(vec![match &planned.place {
                Some(place) => failure.at(place.clone()),
                None => failure,
            }]);
        }
    }
    Ok(())
}

/// Fetches the contents of all steps, as a step of its own in the journal.
fn fetch(plan: &Plan, machine: &Machine<'_>, journal: &mut Journal) -> Result<Contents, Failure> {
    let jobs = contents::jobs(plan, machine.root)?;
    if jobs.is_empty() {
        return Ok(Contents::default());
    }
    let start = clock::millis();
    let s = if jobs.len() == 1 { "" } else { "s" };
    let what = format!("fetch and verify {} resource{s}", jobs.len());
    let result = contents::fetch(jobs, machine.fetcher);
    let outcome = if result.is_ok() { StepOutcome::Done } else { StepOutcome::Failed };
    let took_ms = clock::millis().saturating_sub(start);
    journal.steps.push(StepReport { what, place: None, outcome, took_ms });
    result
}

/// A step that the operating system refused.
fn failed(step: &dyn std::fmt::Display, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let failure = Failure::new(step.to_string(), error.to_string());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            failure.remedy("give that file system more room, or write less to it")
        }
        ErrorKind::ReadOnlyFilesystem => {
            failure.remedy("choose a path that can be written: on OSTree systems those below /etc and /var")
        }
        ErrorKind::AlreadyExists => failure.remedy("something appeared there since the stage began: run it again"),
        _ => failure,
    }
}

impl Machine<'_> {
    fn step(&mut self, step: &Step, number: usize, contents: &mut Contents) -> Done {
        let io = |result: std::io::Result<bool>| result.map_err(|error| failed(step, &error));
        match step {
            Step::SetKernelArguments { should_exist, should_not_exist } => {
                kargs::set_kernel_arguments(step, should_exist, should_not_exist)
            }
            Step::Partition(step) => self.partition(step),
            Step::Raid(step) => self.raid(step),
            Step::Luks(step) => self.luks(step, number, contents),
            Step::Filesystem(step) => self.filesystem(step),
            Step::Mount { device, path, format, options } => {
                let mut made = Vec::new();
                let mounted = mount::mount(self.root, device.as_ref(), path, format, options, &mut |directory| {
                    made.push(directory.to_owned());
                });
                self.state.directories.append(&mut made);
                if !self.state.mounted.contains(path) && mounted.is_ok() {
                    self.state.mounted.push(path.clone());
                }
                (self.save)(self.state)?;
                io(mounted)
            }
            Step::Unmount { path } => self.unmount(step, path),
            Step::AdoptGroup { name } => io(self.adopt_group(name)),
            Step::EnsureGroup(group) => self.ensure_group(group),
            Step::DeleteGroup { name } => self.delete_group(name),
            Step::EnsureUser(user) => self.ensure_user(user),
            Step::DeleteUser { name } => self.delete_user(name),
            Step::OwnHome { user, directories } => io(self.own_home(user, directories)),
            Step::AuthorizeKeys { user, file, keys } => io(self.authorize_keys(user, file, keys)),
            Step::Remove { path } => io(self.root.remove(path)),
            Step::EnsureDirectory { path, attributes } => {
                io(self.attributes(attributes).and_then(|attributes| self.root.ensure_directory(path, attributes)))
            }
            Step::WriteFile { path, contents: own, append, attributes, replace } => {
                let written = files::File { path, contents: own.as_ref(), append, attributes, replace: *replace };
                io(self.write_file(&written, number, contents))
            }
            Step::Symlink { path, target, attributes, replace } => io(self
                .attributes(attributes)
                .and_then(|owner| self.root.ensure_symlink(path, target, owner, *replace))),
            Step::HardLink { path, target, replace } => io(self.root.ensure_hard_link(path, target, *replace)),
            Step::AddLines { path, lines } => io(self.add_lines(path, lines)),
            Step::Crypttab(step) => self.crypttab(step),
            Step::DisableUnit { unit } => self.disable_unit(unit),
            Step::WriteResult { path, user_config } => self.write_result(step, path, *user_config),
        }
    }

    fn unmount(&mut self, step: &Step, path: &str) -> Done {
        let unmounted = mount::unmount(self.root, path).map_err(|error| failed(step, &error))?;
        self.state.mounted.retain(|mounted| mounted != path);
        (self.save)(self.state)?;
        Ok(unmounted != Unmounted::NotMounted)
    }
}
