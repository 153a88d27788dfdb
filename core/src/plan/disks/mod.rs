// SPDX-License-Identifier: Apache-2.0
//! The disks stage: partitions, arrays, encrypted volumes, file systems.
//!
//! What one phase makes is the ground of the next (a partition's name is a device only once the partition is there), so on the
//! machine each [`Phase`] is planned from fresh facts, and carried out before the next is planned. Away from it, [`disks`] plans
//! all four, each from the facts that the ones before would leave.

pub mod filesystems;
pub mod luks;
pub mod partitions;
pub mod raid;

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Plan, PlannedStep, Step};
use crate::config::Config;
use crate::diag::Failure;
use crate::facts::{Device, Facts, Signature};
use crate::origin::{Origin, Sources};
use crate::stage::Stage;

pub(super) use filesystems::{format, is_on_device};

/// How the steps of a phase are planned.
pub type Planner = fn(&Config, &Facts, &Sources) -> Result<Vec<PlannedStep>, Vec<Failure>>;

/// A part of the disks stage.
#[derive(Clone, Copy)]
pub struct Phase {
    /// Whether it is planned from partition tables, too.
    pub tables: bool,
    /// Whether what a device holds decides what is done, so that one which looks empty is looked at twice.
    pub contents: bool,
    /// The devices of the configuration that must be there before it begins.
    pub devices: fn(&Config) -> BTreeSet<String>,
    /// Plans its steps.
    pub plan: Planner,
    /// Changes the facts as carrying out one of its steps would.
    pub apply: fn(&Step, &mut Facts),
}

/// The phases, in order.
pub const PHASES: [Phase; 4] = [partitions::PHASE, raid::PHASE, luks::PHASE, filesystems::PHASE];

impl Phase {
    /// The plan of this phase alone.
    ///
    /// # Errors
    /// Each part of the configuration that can't be carried out on this machine.
    pub fn plan(&self, config: &Config, facts: &Facts, sources: &Sources) -> Result<Plan, Vec<Failure>> {
        Ok(Plan { stage: Stage::Disks, steps: (self.plan)(config, facts, sources)? })
    }
}

/// Plans the whole stage.
///
/// # Errors
/// What makes the first phase that can't be planned impossible.
pub fn disks(config: &Config, facts: &Facts, sources: &Sources) -> Result<Plan, Vec<Failure>> {
    let mut facts = facts.clone();
    let mut plan = Plan { stage: Stage::Disks, steps: Vec::new() };
    for phase in PHASES {
        let steps = (phase.plan)(config, &facts, sources)?;
        for planned in &steps {
            (phase.apply)(&planned.step, &mut facts);
        }
        plan.steps.extend(steps);
    }
    Ok(plan)
}

/// Changes the facts as carrying out a step of any phase would.
pub(super) fn apply(step: &Step, facts: &mut Facts) {
    for phase in PHASES {
        (phase.apply)(step, facts);
    }
}

/// Gathers the steps and the failures of a phase, each with its place in the configuration.
pub(super) struct Gathered<'s> {
    sources: &'s Sources,
    steps: Vec<PlannedStep>,
    failures: Vec<Failure>,
}

impl<'s> Gathered<'s> {
    pub(super) fn new(sources: &'s Sources) -> Self {
        Self { sources, steps: Vec::new(), failures: Vec::new() }
    }

    /// Takes the steps for one entry of the list at `path` (such as `$.storage.disks`), or why there are none.
    pub(super) fn entry(&mut self, origin: Origin, path: &str, planned: Result<Vec<Step>, Vec<Failure>>) {
        let place = self.sources.place(origin, path);
        match planned {
            Ok(steps) => {
                self.steps.extend(steps.into_iter().map(|step| PlannedStep { step, place: place.clone() }));
            }
            Err(failures) => self.failures.extend(failures.into_iter().map(|failure| match &place {
                Some(place) if failure.place.is_none() => failure.at(place.clone()),
                _ => failure,
            })),
        }
    }

    pub(super) fn finish(self) -> Result<Vec<PlannedStep>, Vec<Failure>> {
        if self.failures.is_empty() { Ok(self.steps) } else { Err(self.failures) }
    }
}

/// What is wrong with the name of a device.
pub(super) fn device_fault(device: &str) -> Option<String> {
    let sound = device.starts_with('/') && !device.contains('\0');
    (!sound).then(|| format!("the device {device:?} is no absolute path"))
}

/// What is wrong with the arguments of a program.
pub(super) fn argument_fault(arguments: &[String]) -> Option<String> {
    arguments.iter().any(|argument| argument.contains('\0')).then(|| "there is a NUL in an argument".into())
}

/// Refuses an entry of the configuration, as JSON, with words that no program can be given.
pub(super) fn sayable(what: String, entry: &str) -> Result<(), Failure> {
    // A backslash that is part of the text is doubled.
    if entry.match_indices("\\u0000").any(|(at, _)| entry.get(..at).is_some_and(|before| !before.ends_with('\\'))) {
        return Err(Failure::new(what, "there is a NUL character in it").remedy("remove that"));
    }
    Ok(())
}

/// What a device holds, in words.
pub(super) fn describe(signature: &Signature) -> String {
    let mut text = signature.format.clone();
    for (word, value) in [("label", &signature.label), ("UUID", &signature.uuid)] {
        if !value.is_empty() {
            text.extend([", ", word, " \"", value, "\""]);
        }
    }
    text
}

/// The failure for a device that something uses.
pub(super) fn in_use(device: &str, what: String, found: &Device) -> Failure {
    Failure::new(what, format!("{device} is in use: it is {}", found.users.join(" and ")))
        .remedy("name another device, or see who uses this one before the disks stage")
}

/// The failure for a device that isn't there, with those that are.
pub(super) fn missing(device: &str, what: String, facts: &Facts) -> Failure {
    let there = if facts.block_devices.is_empty() {
        "there are no block devices at all".into()
    } else {
        format!("there are:\n    {}", facts.block_devices.join("\n    "))
    };
    Failure::new(what, format!("the device {device} did not appear; {there}")).remedy(
        "name a device that this machine has; /dev/disk/by-partlabel and by-id names stay the same from boot to boot",
    )
}
