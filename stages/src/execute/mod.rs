// SPDX-License-Identifier: Apache-2.0
//! Carries out plans: one interpreter that maps each step to calls of [`crate::host`].
//!
//! All contents of a plan are fetched and verified before its first step. Then the steps are carried out in order, each timed and
//! told in the journal; the first that fails ends the stage. File systems that stand next to each other in a plan are made side by
//! side, and told in the plan's order.

mod accounts;
mod contents;
mod files;
mod filesystems;
mod kargs;
mod luks;
mod partitions;
mod raid;
mod result;

use std::path::{Path, PathBuf};

use fledge_core::config::schema::VIRTIOFS;
use fledge_core::diag::Failure;
use fledge_core::plan::{Plan, PlannedStep, Step};
use fledge_core::report::{StepOutcome, StepReport};
use fledge_core::state::State;

use crate::fetch::Fetcher;
use crate::host::fs::Root;
use crate::host::{clock, label, mount};
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
    let mut number = 0;
    while let Some(rest) = plan.steps.get(number..).filter(|rest| !rest.is_empty()) {
        let together: Vec<_> = rest.iter().map_while(|planned| filesystem(&planned.step)).collect();
        let results = if let (true, Some(first)) = (together.is_empty(), rest.first()) {
            let start = clock::millis();
            let done = machine.step(&first.step, number, &mut contents);
            Vec::from([(done, start, clock::millis())])
        } else {
            filesystems::all(&together)
        };
        number += results.len();
        let mut failures = Vec::new();
        for (planned, (done, start, end)) in rest.iter().zip(results) {
            failures.extend(tell(planned, done, end.saturating_sub(start), journal).err());
        }
        if !failures.is_empty() {
            return Err(failures);
        }
    }
    Ok(())
}

fn filesystem(step: &Step) -> Option<&fledge_core::plan::filesystems::Step> {
    match step {
        Step::Filesystem(step) => Some(step),
        _ => None,
    }
}

/// Tells the journal how a step ended. The failure of one that failed comes back with its place.
fn tell(planned: &PlannedStep, done: Done, took_ms: u64, journal: &mut Journal) -> Result<(), Failure> {
    let what = planned.step.to_string();
    let outcome = match &done {
        Ok(true) => StepOutcome::Done,
        Ok(false) => StepOutcome::AlreadySo,
        Err(_) => StepOutcome::Failed,
    };
    match outcome {
        StepOutcome::Done => log::info!("{what}"),
        StepOutcome::AlreadySo => log::info!("already so: {what}"),
        StepOutcome::Failed => {}
    }
    journal.steps.push(StepReport { what, place: planned.place.clone(), outcome, took_ms });
    done.map(drop).map_err(|failure| match &planned.place {
        Some(place) => failure.at(place.clone()),
        None => failure,
    })
}

/// Fetches the contents of all steps, as a step of its own in the journal.
fn fetch(plan: &Plan, machine: &Machine<'_>, journal: &mut Journal) -> Result<Contents, Failure> {
    let jobs = contents::jobs(plan, machine.root)?;
    if jobs.is_empty() {
        return Contents::default().measured(plan);
    }
    let start = clock::millis();
    let s = if jobs.len() == 1 { "" } else { "s" };
    let what = format!("fetch and verify {} resource{s}", jobs.len());
    let result = contents::fetch(jobs, machine.fetcher);
    let outcome = if result.is_ok() { StepOutcome::Done } else { StepOutcome::Failed };
    let took_ms = clock::millis().saturating_sub(start);
    journal.steps.push(StepReport { what, place: None, outcome, took_ms });
    result?.measured(plan)
}

/// The node of a device, if it is the one that the plan was made for. Nothing is written to another.
fn judged(step: &dyn std::fmt::Display, device: &str, node: &str) -> Result<PathBuf, Failure> {
    let now = Path::new(device).canonicalize().map_err(|error| failed(step, &error))?;
    if now == Path::new(node) {
        return Ok(now);
    }
    let why = if node.is_empty() {
        format!("nobody has looked at {device}")
    } else {
        format!("{device} was {node} when it was looked at, and is {} now", now.display())
    };
    Err(Failure::new(step.to_string(), why)
        .remedy("boot again; name the device by what stays, such as /dev/disk/by-id"))
}

/// A step that the operating system refused.
fn failed(step: &dyn std::fmt::Display, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let failure = Failure::new(step.to_string(), error.to_string());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            failure.remedy(
                "give that file system more room, or write less to it; a file that is replaced stays there until the new one is whole",
            )
        }
        ErrorKind::ReadOnlyFilesystem => {
            failure.remedy("choose a path that can be written: on OSTree systems those below /etc and /var")
        }
        ErrorKind::ResourceBusy => failure.remedy("see what starts that in the initramfs, and has it end before"),
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
            Step::Partition(step) => partitions::partition(step),
            Step::Raid(step) => raid::one(step),
            Step::Luks(step) => self.luks(step, number, contents),
            Step::Filesystem(step) => filesystems::one(step),
            Step::Mount { path, policy, .. } => {
                let mounted = self.mount(step)?;
                if let Some(policy) = policy {
                    label::set_empty(self.root, policy, path)?;
                }
                Ok(mounted)
            }
            Step::Unmount { path } => self.unmount(step, path),
            Step::Begin { path, begun } => io(self.begin(path, begun, contents)),
            Step::NoteOriginal { note, path } => io(self.note_original(note, path)),
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
            Step::WriteFile { path, contents: own, keep, append, attributes, replace } => {
                let (own, keep, replace) = (own.as_ref(), *keep, *replace);
                let written = files::File { path, contents: own, keep, append, attributes, replace };
                io(self.write_file(&written, number, contents))
            }
            Step::Symlink { path, target, attributes, replace } => io(self
                .attributes(attributes)
                .and_then(|owner| self.root.ensure_symlink(path, target, owner, *replace))),
            Step::HardLink { path, target, replace } => io(self.root.ensure_hard_link(path, target, *replace)),
            Step::AddLines { path, lines } => io(self.add_lines(path, lines)),
            Step::Crypttab(step) => self.crypttab(step),
            Step::DisableUnit { unit } => self.disable_unit(unit),
            Step::Label { policy, paths } => label::set(self.root, policy, paths.iter().map(String::as_str)),
            Step::WriteResult { path, user_config } => self.write_result(step, path, *user_config),
        }
    }

    /// Mounts, and leaves word of what was made and mounted. Says whether it wasn't so already.
    fn mount(&mut self, step: &Step) -> Done {
        let Step::Mount { device, path, format, options, policy } = step else { return Ok(false) };
        let io = |error: std::io::Error| failed(step, &error);
        let source = if format == VIRTIOFS { device.into() } else { Path::new(device).canonicalize().map_err(io)? };
        let is_mounted = mount::is_mounted(self.root, &source, path).map_err(io)?;
        if !is_mounted {
            let directories = &mut self.state.directories;
            let made = self.root.make_directories(path, &mut |directory| directories.push(directory.to_owned()));
            (self.save)(self.state)?;
            made.map_err(io)?;
            if let Some(policy) = policy {
                label::set_mount_point(self.root, policy, path)?;
            }
            mount::mount(self.root, &source, path, format, options).map_err(io)?;
        }
        if !self.state.mounted.contains(path) {
            self.state.mounted.push(path.clone());
            (self.save)(self.state)?;
        }
        Ok(!is_mounted)
    }

    fn unmount(&mut self, step: &Step, path: &str) -> Done {
        let unmounted = mount::unmount(self.root, path).map_err(|error| failed(step, &error))?;
        self.state.mounted.retain(|mounted| mounted != path);
        (self.save)(self.state)?;
        Ok(unmounted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_elsewhere_by_now_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        for name in ["vda", "vdb"] {
            std::fs::write(at(name), "").unwrap();
        }
        std::os::unix::fs::symlink("vda", at("by-id")).unwrap();
        let (name, node) = (at("by-id").display().to_string(), at("vda").display().to_string());
        assert_eq!(judged(&"step", &name, &node).unwrap(), at("vda"));
        assert!(judged(&"step", &name, "").is_err());
        std::fs::remove_file(at("by-id")).unwrap();
        assert!(judged(&"step", &name, &node).is_err());
        std::os::unix::fs::symlink("vdb", at("by-id")).unwrap();
        let failure = judged(&"step", &name, &node).unwrap_err();
        assert!(failure.why.ends_with("/vdb now") && failure.remedy.is_some(), "{failure:?}");
    }
}
