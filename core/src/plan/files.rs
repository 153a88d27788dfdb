// SPDX-License-Identifier: Apache-2.0
//! The files stage: groups and users, then directories, files and links, then units, then the result file.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::book::Book;
use super::world::{Standing, World};
use super::{Plan, PlannedStep, Step, accounts, crypttab, nodes, units};
use crate::config::Config;
use crate::diag::{Failure, Place};
use crate::facts::Facts;
use crate::origin::{Origin, SourceKind, Sources};
use crate::path;
use crate::stage::Stage;

/// What is remembered of a run until the first boot is complete ([`crate::facts::Begun`]): in `/etc`, which the stage writes in any
/// case and which goes when the target is made anew.
pub const BEGUN: &str = "/etc/.fledge-begun.json";
/// Ignition's result file.
pub(super) const RESULT: &str = "/etc/.ignition-result.json";

/// What the distribution settles.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Whether SSH keys go to `.ssh/authorized_keys.d/ignition`; else they go to `.ssh/authorized_keys`.
    /// (`IGNITION_WRITE_AUTHORIZED_KEYS_FRAGMENT`)
    pub keys_fragment: bool,
    /// Whether an image is built in a container, and no machine is set up: then nothing is noted for another run, no result is
    /// written, and labels are left to what labels the image.
    pub in_container: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { keys_fragment: true, in_container: false }
    }
}

/// Plans the files stage.
///
/// # Errors
/// Everything that the facts say can't be done, in the order of the stage.
pub fn files(config: &Config, facts: &Facts, sources: &Sources, settings: Settings) -> Result<Plan, Vec<Failure>> {
    let mut planner = Planner { sources, steps: Vec::new(), failures: Vec::new() };
    let mut world = World::new(facts, !settings.in_container);
    let book = accounts::plan(config, &mut world, &mut planner, settings);
    nodes::plan(config, &mut world, &book, &mut planner);
    units::plan(config, &mut world, &mut planner);
    crypttab::plan(config, &mut world, &mut planner);

    if !settings.in_container {
        frame(&mut world, &mut planner);
    }
    crypttab::settle(config, &world, &mut planner);
    if planner.failures.is_empty() {
        Ok(Plan { stage: Stage::Files, steps: planner.steps })
    } else {
        Err(planner.failures)
    }
}

/// What goes before and after the steps of the configuration: the note, the result file and the labels.
fn frame(world: &mut World<'_>, planner: &mut Planner<'_>) {
    let begun = world.begun();
    if !begun.is_empty() {
        planner.steps.insert(0, PlannedStep { step: Step::Begin { path: world.resolve(BEGUN), begun }, place: None });
        world.label(BEGUN);
    }
    let path = world.resolve(RESULT);
    let user_config = planner.sources.0.iter().any(|source| source.kind == SourceKind::User);
    match world.at(&path) {
        Standing::Nothing | Standing::OldFile(..) | Standing::NewFile => {
            world.label(&path);
            planner.step(Step::WriteResult { path, user_config }, None);
        }
        standing => {
            let why = standing_in_the_way(&path, &standing);
            let remedy = "remove it from the target";
            planner.refuse(None, Failure::new(format!("writing the result file {path}"), why).remedy(remedy));
        }
    }
    match policy(world.facts()) {
        Ok(Some(policy)) => {
            let paths = world.begun().labels.into_iter().collect();
            planner.step(Step::Label { policy, paths }, None);
        }
        Ok(None) => {}
        Err(failure) => planner.refuse(None, failure),
    }
}

/// The SELinux policy by which what is made in the target is labelled; `None` if the target has no SELinux.
///
/// # Errors
/// It has, and nothing could be labelled.
pub(super) fn policy(facts: &Facts) -> Result<Option<String>, Failure> {
    let Some(selinux) = &facts.selinux else { return Ok(None) };
    let policy = &selinux.policy;
    let what = || format!("labelling what is made by the target's SELinux policy {policy:?}");
    if !selinux.contexts {
        return Err(Failure::new(what(), format!("/etc/selinux/{policy}/contexts/files/file_contexts isn't there"))
            .remedy(
                "install the policy that SELINUXTYPE in /etc/selinux/config names, or set SELINUX=disabled there",
            ));
    }
    if !selinux.tool {
        return Err(Failure::new(what(), "the program setfiles is not in the initramfs").remedy(
            "install policycoreutils, which brings it, where the initramfs is made, and make it again; or set SELINUX=disabled in the target's /etc/selinux/config",
        ));
    }
    Ok(Some(policy.clone()))
}

/// Why a path can't be written.
pub(super) fn standing_in_the_way(path: &str, standing: &Standing<'_>) -> String {
    match standing {
        Standing::Blocked(thing) => format!("{thing} is above it and is not a directory"),
        standing => format!("{} stands at {path}", standing.describe()),
    }
}

/// Collects steps and refusals.
pub(super) struct Planner<'s> {
    sources: &'s Sources,
    steps: Vec<PlannedStep>,
    failures: Vec<Failure>,
}

impl Planner<'_> {
    pub(super) fn place(&self, origin: Origin, section: &str) -> Option<Place> {
        self.sources.place(origin, section)
    }

    pub(super) fn step(&mut self, step: Step, place: Option<Place>) {
        self.steps.push(PlannedStep { step, place });
    }

    /// Takes back the steps that make what stands at a path or below it, for a later one that replaces all of it.
    ///
    /// # Errors
    /// A hard link of the plan names it.
    pub(super) fn withdraw(
        &mut self,
        path: &str,
        world: &mut World<'_>,
        what: &dyn Fn() -> String,
    ) -> Result<(), Failure> {
        for planned in &self.steps {
            if let Step::HardLink { path: link, target, .. } = &planned.step {
                if path::is_within(target, path) && !path::is_within(link, path) {
                    return Err(Failure::new(what(), format!("the hard link {link} of the configuration names {target}, which the unit takes the place of"))
                        .remedy("link to another file, or make it a symbolic link: leave hard out"));
                }
            }
        }
        self.steps.retain(|planned| match &planned.step {
            Step::EnsureDirectory { path: made, .. }
            | Step::WriteFile { path: made, .. }
            | Step::Symlink { path: made, .. }
            | Step::HardLink { path: made, .. } => !path::is_within(made, path),
            _ => true,
        });
        world.unmake(path);
        Ok(())
    }

    pub(super) fn refuse(&mut self, place: Option<Place>, failure: Failure) {
        self.failures.push(match place {
            Some(place) => failure.at(place),
            None => failure,
        });
    }
}

/// An owner as a step has it.
///
/// # Errors
/// The id is none, or nobody has the name.
pub(super) fn owner(
    id: Option<i64>,
    name: Option<&str>,
    kind: &str,
    has: impl Fn(&Book, &str) -> bool,
    book: &Book,
) -> Result<super::Owner, Failure> {
    match (accounts::id(id, kind)?, name.filter(|name| !name.is_empty())) {
        (Some(id), _) => Ok(super::Owner::Id(id)),
        (None, Some(name)) if has(book, name) => Ok(super::Owner::Name(name.into())),
        (None, Some(name)) => Err(Failure::new("", format!("there is no {kind} {name:?} in the target"))
            .remedy(format!("add the {kind} to passwd of the configuration, or correct the name"))),
        (None, None) => Ok(super::Owner::Keep),
    }
}
