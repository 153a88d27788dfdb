// SPDX-License-Identifier: Apache-2.0
//! File systems. This build makes none: what is there and fits is used as it is, the rest is refused.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::super::PlannedStep;
use super::{Gathered, Phase, describe, device_fault, missing};
use crate::config::{Config, Filesystem};
use crate::diag::Failure;
use crate::facts::{Device, Facts, Signature};
use crate::origin::Sources;

/// See the module.
pub const PHASE: Phase = Phase { name: "file systems", devices, plan, apply: |_, _| {} };

/// One thing to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Make sure that a device holds the file system that the configuration wants to keep.
    Reuse {
        /// The device as the configuration names it.
        device: String,
        /// What it is formatted as.
        format: String,
        /// Its label, if that matters.
        label: Option<String>,
        /// Its UUID, if that matters.
        uuid: Option<String>,
    },
}

impl Step {
    /// What is wrong with it, told without knowing how it was planned.
    pub(in crate::plan) fn faults(&self) -> Vec<String> {
        let Self::Reuse { device, .. } = self;
        device_fault(device).into_iter().collect()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Reuse { device, format, label, uuid } = self;
        write!(f, "keep the {format} file system of {device}")?;
        for (word, value) in [("label", label), ("UUID", uuid)] {
            if let Some(value) = value {
                write!(f, ", {word} {value:?}")?;
            }
        }
        Ok(())
    }
}

fn devices(config: &Config) -> BTreeSet<String> {
    let formatted = config.storage.filesystems.iter().filter(|filesystem| format(filesystem).is_some());
    formatted.map(|filesystem| filesystem.device.clone()).collect()
}

fn plan(config: &Config, facts: &Facts, sources: &Sources) -> Result<Vec<PlannedStep>, Vec<Failure>> {
    let mut gathered = Gathered::new(sources);
    for filesystem in &config.storage.filesystems {
        let Some(format) = format(filesystem) else { continue };
        let step = reusable(filesystem, format, facts).map(|()| {
            super::super::Step::Filesystem(Step::Reuse {
                device: filesystem.device.clone(),
                format: format.into(),
                label: filesystem.label.clone(),
                uuid: filesystem.uuid.clone(),
            })
        });
        let planned = step.map(|step| vec![step]).map_err(|failure| vec![failure]);
        gathered.entry(filesystem.origin, "$.storage.filesystems", planned);
    }
    gathered.finish()
}

/// The format of a file system on a device. `none` and no format at all leave the device alone.
pub(in crate::plan) fn format(filesystem: &Filesystem) -> Option<&str> {
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

impl Device {
    /// A device that is there and holds one thing.
    pub fn holding(format: &str, label: &str, uuid: &str) -> Self {
        let signature = Signature { format: format.into(), label: label.into(), uuid: uuid.into() };
        Self { present: true, signature: Some(signature), others: Vec::new() }
    }
}
