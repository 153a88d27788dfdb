// SPDX-License-Identifier: Apache-2.0
//! The disks stage. This build makes nothing: what is there and fits is used as it is, the rest is refused.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Plan, PlannedStep, Step};
use crate::config::{Config, Filesystem};
use crate::diag::Failure;
use crate::facts::{Device, Facts, Signature};
use crate::origin::Sources;
use crate::stage::Stage;

/// Plans the disks stage: the file systems that the configuration names must be there already.
///
/// # Errors
/// Each device that isn't there or doesn't hold what is asked for, and each file system that would have to be made.
pub fn disks(config: &Config, facts: &Facts, sources: &Sources) -> Result<Plan, Vec<Failure>> {
    let mut plan = Plan { stage: Stage::Disks, steps: Vec::new() };
    let mut failures = Vec::new();
    for filesystem in &config.storage.filesystems {
        let Some(format) = format(filesystem) else { continue };
        let place = sources.place(filesystem.origin, "$.storage.filesystems");
        match reusable(filesystem, format, facts) {
            Ok(()) => plan.steps.push(PlannedStep {
                step: Step::ReuseFilesystem {
                    device: filesystem.device.clone(),
                    format: format.into(),
                    label: filesystem.label.clone(),
                    uuid: filesystem.uuid.clone(),
                },
                place,
            }),
            Err(failure) => failures.push(match place {
                Some(place) => failure.at(place),
                None => failure,
            }),
        }
    }
    if failures.is_empty() { Ok(plan) } else { Err(failures) }
}

/// The format of a file system on a device. `none` and no format at all leave the device alone.
pub(super) fn format(filesystem: &Filesystem) -> Option<&str> {
    filesystem.format.as_deref().filter(|format| !matches!(*format, "" | "none"))
}

/// Ignition's rules: format, and label and UUID where they are given. Left-over signatures beside the first don't count.
fn reusable(filesystem: &Filesystem, format: &str, facts: &Facts) -> Result<(), Failure> {
    let device = &filesystem.device;
    let what = format!("using the {format} file system of {device}");
    if filesystem.wipe_filesystem == Some(true) {
        return Err(Failure::new(
            what,
            "wipeFilesystem asks for a new one, and this build can't make file systems yet",
        )
        .remedy("format the device beforehand and leave wipeFilesystem out, or use a later build"));
    }
    let Some(found) = facts.devices.get(device) else { return Ok(()) };
    if !found.present {
        return Err(missing(device, what, facts));
    }
    match &found.signature {
        Some(signature) if fits(signature, format, filesystem) => Ok(()),
        Some(signature) => Err(Failure::new(what, format!("it holds {}", describe(signature))).remedy(
            "write format, label and uuid as they are; a device is never reformatted unless wipeFilesystem says so, which this build can't do yet",
        )),
        None => Err(Failure::new(what, "the device holds no file system, and this build can't make one yet")
            .remedy(format!("format it beforehand, for instance with mkfs.{format}, or use a later build"))),
    }
}

fn fits(signature: &Signature, format: &str, filesystem: &Filesystem) -> bool {
    signature.format == format
        && filesystem.label.as_ref().is_none_or(|label| *label == signature.label)
        && filesystem.uuid.as_ref().is_none_or(|uuid| canonical(format, uuid) == canonical(format, &signature.uuid))
}

/// Case doesn't matter in a UUID, nor does the dash in the volume id of a vfat.
fn canonical(format: &str, uuid: &str) -> String {
    let uuid = uuid.to_ascii_lowercase();
    if format == "vfat" { uuid.replace('-', "") } else { uuid }
}

/// What a device holds, in words.
pub(super) fn describe(signature: &Signature) -> String {
    let mut text = signature.format.clone();
    for (word, value) in [("label", &signature.label), ("UUID", &signature.uuid)] {
        if !value.is_empty() {
            text.push_str(&format!(", {word} {value:?}"));
        }
    }
    text
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

impl Device {
    /// A device that is there and holds one thing.
    pub fn holding(format: &str, label: &str, uuid: &str) -> Self {
        let signature = Signature { format: format.into(), label: label.into(), uuid: uuid.into() };
        Self { present: true, signature: Some(signature), others: Vec::new() }
    }
}
