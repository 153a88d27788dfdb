// SPDX-License-Identifier: Apache-2.0
//! File systems: made where nothing is, kept where they are as they shall be, else refused unless the configuration says that they
//! may be wiped. These are Ignition's rules (its operator notes, "Filesystem-Reuse Semantics").
//!
//! # Interrupted runs
//! A file system whose making was cut off counts as nothing (see [`crate::signature`]), so a second run makes it anew, without
//! `wipeFilesystem` too; one that was finished fits, and is kept. What was there before a wipe that was cut off is wiped again,
//! because the configuration still says so.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::super::PlannedStep;
use super::{Gathered, Phase, argument_fault, describe, device_fault, missing, sayable};
use crate::config::schema::VIRTIOFS;
use crate::config::{Config, Filesystem};
use crate::diag::Failure;
use crate::facts::{Device, Facts, Signature};
use crate::origin::Sources;

/// See the module.
pub const PHASE: Phase = Phase { tables: false, contents: true, devices, plan, apply };

/// One thing to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Make sure that a device holds the file system that the configuration wants to keep.
    Reuse {
        /// The device as the configuration names it.
        device: String,
        /// The node that it was judged by.
        node: String,
        /// What it is formatted as.
        format: String,
        /// Its label, if that matters.
        label: Option<String>,
        /// Its UUID, if that matters.
        uuid: Option<String>,
    },
    /// Make a file system. Whatever the device holds is wiped first.
    Make {
        /// The device as the configuration names it.
        device: String,
        /// The node that it was judged by.
        node: String,
        /// What it is formatted as.
        format: String,
        /// The program.
        tool: &'static str,
        /// Its arguments before the device.
        arguments: Vec<String>,
        /// Label and UUID that it is given.
        named: (Option<String>, Option<String>),
        /// Whether [`crate::signature::UNFINISHED`] marks it until it is made.
        marked: bool,
        /// What it takes the place of.
        replaces: Option<String>,
    },
    /// Wipe what a device holds and make nothing.
    Wipe {
        /// The device as the configuration names it.
        device: String,
        /// The node that it was judged by.
        node: String,
        /// What it holds.
        replaces: Option<String>,
    },
}

impl Step {
    /// The device that it is about, as the configuration names it.
    pub fn device(&self) -> &str {
        let (Self::Reuse { device, .. } | Self::Make { device, .. } | Self::Wipe { device, .. }) = self;
        device
    }

    /// The node that the device was judged by; empty if nobody looked.
    pub fn node(&self) -> &str {
        let (Self::Reuse { node, .. } | Self::Make { node, .. } | Self::Wipe { node, .. }) = self;
        node
    }

    /// What is wrong with it, told without knowing how it was planned.
    pub(in crate::plan) fn faults(&self) -> Vec<String> {
        let mut faults: Vec<_> = device_fault(self.device()).into_iter().collect();
        if let Self::Make { format, tool, arguments, .. } = self {
            if MAKERS.iter().all(|maker| maker.format != format || maker.tool != *tool) {
                faults.push(format!("{tool} makes no {format}"));
            }
            faults.extend(argument_fault(arguments));
        }
        faults
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (replaces, arguments) = match self {
            Self::Reuse { device, format, label, uuid, .. } => {
                write!(f, "keep the {format} file system of {device}")?;
                for (word, value) in [("label", label), ("UUID", uuid)] {
                    if let Some(value) = value {
                        write!(f, ", {word} {value:?}")?;
                    }
                }
                return Ok(());
            }
            Self::Make { device, format, tool, arguments, replaces, .. } => {
                write!(f, "make the {format} file system of {device}: {tool}")?;
                (replaces, arguments.as_slice())
            }
            Self::Wipe { device, replaces, .. } => {
                write!(f, "wipe {device}")?;
                (replaces, [].as_slice())
            }
        };
        shown(f, arguments)?;
        match replaces {
            Some(replaces) => write!(f, "; this destroys what it holds: {replaces}"),
            None => Ok(()),
        }
    }
}

/// Arguments of a program, quoted where a reader could take them for something else.
pub(super) fn shown(f: &mut fmt::Formatter<'_>, arguments: &[String]) -> fmt::Result {
    for argument in arguments {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=,./:^+@%".contains(&byte);
        if !argument.is_empty() && argument.bytes().all(plain) {
            write!(f, " {argument}")?;
        } else {
            write!(f, " {argument:?}")?;
        }
    }
    Ok(())
}

/// A program that makes file systems, and its flags; those are Ignition's.
struct Maker {
    format: &'static str,
    tool: &'static str,
    force: Option<&'static str>,
    /// The flag before the UUID, and what precedes the UUID in the argument itself.
    uuid: (&'static str, &'static str),
    label: &'static str,
    /// Whether what it has begun looks finished, so that a mark is needed.
    marked: bool,
}

const MAKERS: &[Maker] = &[
    Maker { format: "ext4", tool: "mkfs.ext4", force: Some("-F"), uuid: ("-U", ""), label: "-L", marked: false },
    Maker { format: "xfs", tool: "mkfs.xfs", force: Some("-f"), uuid: ("-m", "uuid="), label: "-L", marked: false },
    Maker { format: "btrfs", tool: "mkfs.btrfs", force: Some("--force"), uuid: ("-U", ""), label: "-L", marked: false },
    Maker { format: "vfat", tool: "mkfs.fat", force: None, uuid: ("-i", ""), label: "-n", marked: true },
    Maker { format: "swap", tool: "mkswap", force: Some("-f"), uuid: ("-U", ""), label: "-L", marked: false },
];

impl Maker {
    fn step(&self, filesystem: &Filesystem, node: String, replaces: Option<String>) -> Step {
        let mut arguments = filesystem.options.clone();
        arguments.extend(self.force.map(ToOwned::to_owned));
        if let Some(uuid) = &filesystem.uuid {
            let (flag, before) = self.uuid;
            arguments.extend([flag.into(), format!("{before}{}", canonical(self.format, uuid))]);
        }
        if let Some(label) = &filesystem.label {
            arguments.extend([self.label.into(), label.clone()]);
        }
        Step::Make {
            device: filesystem.device.clone(),
            node,
            format: self.format.into(),
            tool: self.tool,
            arguments,
            named: (filesystem.label.clone(), filesystem.uuid.clone()),
            marked: self.marked,
            replaces,
        }
    }
}

/// The format of a file system that can be mounted or used. `none` and no format at all leave the device alone.
pub(in crate::plan) fn format(filesystem: &Filesystem) -> Option<&str> {
    filesystem.format.as_deref().filter(|format| !matches!(*format, "" | "none"))
}

/// Whether a file system has a device that is to be looked at.
pub(in crate::plan) fn is_on_device(filesystem: &Filesystem) -> bool {
    format_here(filesystem).is_some()
}

/// The format of a file system if this stage has to do with it: on a device, and said at all.
fn format_here(filesystem: &Filesystem) -> Option<&str> {
    filesystem.format.as_deref().filter(|format| !matches!(*format, "" | VIRTIOFS))
}

fn devices(config: &Config) -> BTreeSet<String> {
    let here = config.storage.filesystems.iter().filter(|filesystem| format_here(filesystem).is_some());
    here.map(|filesystem| filesystem.device.clone()).collect()
}

fn plan(config: &Config, facts: &Facts, sources: &Sources) -> Result<Vec<PlannedStep>, Vec<Failure>> {
    let mut gathered = Gathered::new(sources);
    // Device nodes and the name that was first to mean each.
    let mut taken: Vec<(&str, &str)> = Vec::new();
    for filesystem in &config.storage.filesystems {
        let Some(format) = format_here(filesystem) else { continue };
        let device = filesystem.device.as_str();
        let node = node(facts, device);
        let planned = match taken.iter().find(|(taken, _)| *taken == node) {
            Some((_, other)) => Err(Failure::new(
                format!("making the {format} file system of {device}"),
                format!("{other} is the same device, and has a file system of its own"),
            )
            .remedy("name each device once")),
            None => step(filesystem, format, facts),
        };
        taken.push((node, device));
        let planned = planned.map(|step| step.map(super::super::Step::Filesystem).into_iter().collect());
        gathered.entry(filesystem.origin, "$.storage.filesystems", planned.map_err(|failure| Vec::from([failure])));
    }
    gathered.finish()
}

fn step(filesystem: &Filesystem, format: &str, facts: &Facts) -> Result<Option<Step>, Failure> {
    let device = &filesystem.device;
    let wanted = (format != "none").then_some(format);
    let what = || match wanted {
        Some(format) => format!("making the {format} file system of {device}"),
        None => format!("leaving {device} without a file system"),
    };
    sayable(what(), &serde_json::to_string(filesystem).unwrap_or_default())?;
    let blank = Device { present: true, ..Device::default() };
    let found = facts.devices.get(device).unwrap_or(&blank);
    if !found.present {
        return Err(missing(device, what(), facts));
    }
    let node = found.node.clone();
    let wipe = filesystem.wipe_filesystem == Some(true);
    match (&found.signature, wanted) {
        (Some(signature), Some(format)) if !wipe && fits(signature, format, filesystem) => {
            return Ok(Some(Step::Reuse {
                device: device.clone(),
                node,
                format: format.into(),
                label: filesystem.label.clone(),
                uuid: filesystem.uuid.clone(),
            }));
        }
        (None, None) if !wipe => return Ok(None),
        (Some(signature), _) if !wipe => {
            return Err(Failure::new(what(), format!("it holds {}", describe(signature)))
                .remedy("write format, label and uuid as they are to keep it, or set wipeFilesystem to destroy it"));
        }
        _ => {}
    }
    if !found.users.is_empty() {
        let users = found.users.join(" and ");
        return Err(Failure::new(what(), format!("the device is in use: it is {users}"))
            .remedy("name another device, or see who uses this one before the disks stage"));
    }
    let held: Vec<_> = found.signature.iter().chain(&found.others).map(describe).collect();
    let replaces = (!held.is_empty()).then(|| held.join(" and "));
    let Some(format) = wanted else { return Ok(Some(Step::Wipe { device: device.clone(), node, replaces })) };
    match MAKERS.iter().find(|maker| maker.format == format) {
        Some(maker) => Ok(Some(maker.step(filesystem, node, replaces))),
        None => Err(Failure::new(what(), format!("{format:?} is no format that can be made"))),
    }
}

/// The node of a device as far as it is known, else its name.
pub(super) fn node<'n>(facts: &'n Facts, device: &'n str) -> &'n str {
    let node = facts.devices.get(device).map(|found| found.node.as_str());
    node.filter(|node| !node.is_empty()).unwrap_or(device)
}

fn apply(step: &super::super::Step, facts: &mut Facts) {
    if let super::super::Step::Filesystem(step) = step {
        let holds = match step {
            Step::Reuse { .. } => return,
            Step::Make { format, named: (label, uuid), .. } => {
                Device::holding(format, label.as_deref().unwrap_or_default(), uuid.as_deref().unwrap_or_default())
            }
            Step::Wipe { .. } => Device { present: true, ..Device::default() },
        };
        facts.devices.insert(step.device().to_string(), holds);
    }
}

fn fits(signature: &Signature, format: &str, filesystem: &Filesystem) -> bool {
    signature.format == format
        && filesystem.label.as_ref().is_none_or(|label| *label == signature.label)
        && filesystem.uuid.as_ref().is_none_or(|uuid| canonical(format, uuid) == canonical(format, &signature.uuid))
}

/// Case doesn't matter in a UUID, nor does the dash in the volume id of a vfat, which `mkfs.fat` doesn't take.
fn canonical(format: &str, uuid: &str) -> String {
    let mut uuid = uuid.to_ascii_lowercase();
    if format == "vfat" && uuid.as_bytes().get(4) == Some(&b'-') {
        uuid.remove(4);
    }
    uuid
}

impl Device {
    /// A device that is there and holds one thing.
    pub fn holding(format: &str, label: &str, uuid: &str) -> Self {
        let signature = Signature { format: format.into(), label: label.into(), uuid: uuid.into() };
        Self { present: true, signature: Some(signature), ..Self::default() }
    }
}
