// SPDX-License-Identifier: Apache-2.0
//! Arrays of disks, made by `mdadm --create` with Ignition's arguments.
//!
//! Like Ignition, this makes an array whatever its devices hold, unless one of them is in use. What Ignition doesn't know is an
//! array that is there already.
//!
//! # Interrupted runs
//! The array's UUID is the mark. It is derived from all that the configuration says about the array, and from what tells the
//! devices and the machine from others (serial numbers, the firmware's UUID), so that two machines never make arrays of the same UUID. When all devices
//! carry it, the array was made by an earlier run and is kept, with what it holds. When only some do and none of these was ever part of an
//! array that ran, that run was cut off before the array was of any use, and it is made anew: mdadm marks all devices before it starts the
//! array. When it did run, a device was lost since, and the array is refused: it may hold somebody's data. Where nothing tells the machine from others, or the metadata has no
//! room for a UUID (`imsm`, `ddf`), there is no mark, and the array is made anew by every run. A UUID among the options is taken for the mark.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha512};

use super::super::PlannedStep;
use super::filesystems::{node, shown};
use super::{Gathered, Phase, argument_fault, describe, device_fault, in_use, missing, sayable};
use crate::config::{self, Config};
use crate::diag::Failure;
use crate::facts::{Device, Facts};
use crate::origin::Sources;

/// See the module.
pub const PHASE: Phase = Phase { tables: false, contents: false, devices, plan, apply };

/// One thing to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Make an array.
    Create {
        /// Its name as the configuration has it.
        name: String,
        /// The arguments of `mdadm` before the devices.
        arguments: Vec<String>,
        /// Its devices as the configuration names them.
        devices: Vec<String>,
        /// The nodes that these were judged by.
        nodes: Vec<String>,
        /// The kernel's arrays that hold some of the devices because of a run that was cut off; they are stopped first.
        stop: Vec<String>,
        /// What its devices hold, which this destroys: a clause each.
        replaces: Vec<String>,
    },
    /// Make sure that an array that an earlier run made is running.
    Keep {
        /// Its name as the configuration has it.
        name: String,
        /// Its devices as the configuration names them.
        devices: Vec<String>,
        /// The nodes that these were judged by.
        nodes: Vec<String>,
        /// The kernel's arrays that hold some of the devices now.
        running: Vec<String>,
    },
}

impl Step {
    /// Its devices, as the configuration names them.
    pub fn devices(&self) -> &[String] {
        let (Self::Create { devices, .. } | Self::Keep { devices, .. }) = self;
        devices
    }

    /// The nodes that its devices were judged by.
    pub fn nodes(&self) -> &[String] {
        let (Self::Create { nodes, .. } | Self::Keep { nodes, .. }) = self;
        nodes
    }

    /// Where the array appears.
    pub fn path(&self) -> String {
        let (Self::Create { name, .. } | Self::Keep { name, .. }) = self;
        path(name)
    }

    /// What is wrong with it, told without knowing how it was planned.
    pub(in crate::plan) fn faults(&self) -> Vec<String> {
        let mut faults: Vec<_> = self.devices().iter().filter_map(|device| device_fault(device)).collect();
        if self.devices().is_empty() {
            faults.push("an array has no devices".into());
        }
        if let Self::Create { arguments, .. } = self {
            let [command, name, ..] = arguments.as_slice() else {
                return Vec::from(["there are no arguments".into()]);
            };
            if command != "--create" || name.is_empty() || name.starts_with('-') {
                faults.push(format!("{command} {name:?} makes no array"));
            }
            faults.extend(argument_fault(arguments));
        }
        faults
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { name, arguments, devices, stop, replaces, .. } => {
                write!(f, "make the array {name:?}: mdadm")?;
                shown(f, arguments)?;
                shown(f, devices)?;
                if !stop.is_empty() {
                    write!(f, "; {} is stopped before", stop.join(", "))?;
                }
                if !replaces.is_empty() {
                    write!(f, "; this destroys what {}", replaces.join(" and "))?;
                }
                Ok(())
            }
            Self::Keep { name, devices, .. } => {
                write!(f, "keep the array {name:?} that was made of {}", devices.join(", "))
            }
        }
    }
}

/// Where an array of this name appears.
fn path(name: &str) -> String {
    if name.starts_with("/dev") { name.into() } else { format!("/dev/md/{name}") }
}

fn devices(config: &Config) -> BTreeSet<String> {
    config.storage.raid.iter().flat_map(|raid| raid.devices.iter().cloned()).collect()
}

fn plan(config: &Config, facts: &Facts, sources: &Sources) -> Result<Vec<PlannedStep>, Vec<Failure>> {
    let mut gathered = Gathered::new(sources);
    // Device nodes and the array that was first to name each.
    let mut taken: Vec<(&str, &str)> = Vec::new();
    for raid in &config.storage.raid {
        let mut failures = Vec::new();
        for device in &raid.devices {
            let node = node(facts, device);
            if let Some((_, other)) = taken.iter().find(|(taken, _)| *taken == node) {
                failures.push(
                    Failure::new(what(raid), format!("{device} is part of the array {other:?} already"))
                        .remedy("name each device once"),
                );
            }
            taken.push((node, &raid.name));
        }
        let planned = match step(raid, facts) {
            Ok(step) if failures.is_empty() => Ok(Vec::from([super::super::Step::Raid(step)])),
            Ok(_) => Err(failures),
            Err(more) => Err([failures, more].concat()),
        };
        gathered.entry(raid.origin, "$.storage.raid", planned);
    }
    gathered.finish()
}

fn what(raid: &config::Raid) -> String {
    format!("making the array {:?}", raid.name)
}

fn step(raid: &config::Raid, facts: &Facts) -> Result<Step, Vec<Failure>> {
    sayable(what(raid), &serde_json::to_string(raid).unwrap_or_default()).map_err(|failure| [failure])?;
    if raid.name.starts_with('-') {
        return Err(Vec::from([Failure::new(what(raid), "mdadm would take its name for an option")
            .remedy("choose a name that doesn't begin with -")]));
    }
    let blank = Device { present: true, ..Device::default() };
    let members: Vec<_> = raid.devices.iter().map(|name| facts.devices.get(name).unwrap_or(&blank)).collect();
    let mark = mark(raid, &members, facts);
    let ours = |member: &Device| mark.as_ref().is_some_and(|mark| carries(member, raid, mark));
    let mut held: Vec<String> =
        members.iter().filter(|member| ours(member)).filter_map(|member| member.array.clone()).collect();
    held.sort();
    held.dedup();

    let mut failures = Vec::new();
    for (device, member) in raid.devices.iter().zip(&members) {
        if !member.present {
            failures.push(missing(device, what(raid), facts));
        } else if !member.users.is_empty() && (member.array.is_none() || !ours(member)) {
            failures.push(in_use(device, what(raid), member));
        }
    }
    let level = raid.level.as_deref().unwrap_or_default();
    let arguments = arguments(raid, level, mark.as_deref());
    if facts.lacking_levels.iter().any(|lacking| lacking == level) {
        let create = Step::Create {
            name: raid.name.clone(),
            arguments: arguments.clone(),
            devices: raid.devices.clone(),
            nodes: Vec::new(),
            stop: Vec::new(),
            replaces: Vec::new(),
        };
        failures.push(
            Failure::new(create.to_string(), format!("this machine's kernel has no RAID level {level}"))
                .remedy("choose another level, or add the kernel's module for it to the initramfs if there is one"),
        );
    }
    if !failures.is_empty() {
        return Err(failures);
    }
    let nodes = members.iter().map(|member| member.node.clone()).collect();
    if !members.is_empty() && members.iter().all(|member| ours(member)) {
        return Ok(Step::Keep { name: raid.name.clone(), devices: raid.devices.clone(), nodes, running: held });
    }
    let (lost, carrying): (Vec<_>, Vec<_>) = raid.devices.iter().zip(&members).partition(|(_, member)| !ours(member));
    let ran = |member: &Device| member.superblock.as_ref().is_some_and(|block| !block.never_ran);
    if carrying.iter().any(|(_, member)| ran(member)) {
        let names =
            |part: &[(&String, &&Device)]| part.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let why = format!(
            "{} of {} devices carry an array that was made from this configuration and has been running ({}); {} no longer",
            carrying.len(),
            members.len(),
            names(&carrying),
            names(&lost)
        );
        return Err(Vec::from([Failure::new(what(raid), why).remedy(
            "repair it with mdadm --add; to have it made anew, all in it lost, erase its devices with mdadm --zero-superblock",
        )]));
    }
    let replaces =
        raid.devices.iter().zip(&members).filter(|(_, member)| !ours(member)).filter_map(|(device, member)| {
            let signature = member.signature.as_ref()?;
            Some(format!("{device} holds: {}", describe(signature)))
        });
    Ok(Step::Create {
        name: raid.name.clone(),
        arguments,
        devices: raid.devices.clone(),
        nodes,
        replaces: replaces.collect(),
        stop: held,
    })
}

/// Ignition's arguments, and the UUID that is our mark.
fn arguments(raid: &config::Raid, level: &str, mark: Option<&str>) -> Vec<String> {
    let spares = raid.spares.unwrap_or_default();
    let count = active(raid).to_string();
    let fixed =
        ["--create", &raid.name, "--force", "--run", "--homehost", "any", "--level", level, "--raid-devices", &count];
    let mut arguments: Vec<String> = fixed.into_iter().map(Into::into).collect();
    if spares > 0 {
        arguments.extend(["--spare-devices".into(), spares.to_string()]);
    }
    if let Some(mark) = mark.filter(|_| option(raid, "--uuid", "-u").is_none()) {
        let groups: Vec<_> = [0, 8, 16, 24].into_iter().filter_map(|at| mark.get(at..at + 8)).collect();
        arguments.push(format!("--uuid={}", groups.join(":")));
    }
    arguments.extend(raid.options.iter().cloned());
    arguments
}

/// How many devices an array has, spares not counted.
fn active(raid: &config::Raid) -> i64 {
    i64::try_from(raid.devices.len()).unwrap_or(i64::MAX).saturating_sub(raid.spares.unwrap_or_default())
}

/// The value of an option of `mdadm`, however it is written.
fn option<'r>(raid: &'r config::Raid, long: &str, short: &str) -> Option<&'r str> {
    let mut options = raid.options.iter();
    while let Some(option) = options.next() {
        if option == long || option == short {
            return Some(options.next().map_or("", String::as_str));
        }
        let rest = option.strip_prefix(long).and_then(|rest| rest.strip_prefix('='));
        if let Some(value) = rest.or_else(|| option.strip_prefix(short).filter(|_| !option.starts_with("--"))) {
            return Some(value);
        }
    }
    None
}

/// The UUID that an array of ours has: 32 hexadecimal digits. See the module.
fn mark(raid: &config::Raid, members: &[&Device], facts: &Facts) -> Option<String> {
    if let Some(uuid) = option(raid, "--uuid", "-u") {
        return Some(digits(uuid)).filter(|digits| digits.len() == 32);
    }
    if matches!(option(raid, "--metadata", "-e"), Some("imsm" | "ddf" | "intel")) {
        return None;
    }
    let known = !facts.machine.is_empty() || members.iter().all(|member| !member.identity.is_empty());
    if members.is_empty() || !known {
        return None;
    }
    let mut hash = Sha512::new();
    let mut add = |part: &str| {
        hash.update(part.len().to_le_bytes().as_slice());
        hash.update(part.as_bytes());
    };
    let spares = raid.spares.unwrap_or_default().to_string();
    for part in ["fledge array", &facts.machine, &raid.name, raid.level.as_deref().unwrap_or_default(), &spares] {
        add(part);
    }
    raid.options.iter().for_each(|option| add(option));
    for (device, member) in raid.devices.iter().zip(members) {
        add(device);
        add(&member.identity);
    }
    HEXLOWER.encode(hash.finalize().as_slice()).get(..32).map(Into::into)
}

fn digits(uuid: &str) -> String {
    uuid.chars().filter(char::is_ascii_hexdigit).map(|digit| digit.to_ascii_lowercase()).collect()
}

/// Whether a device is part of the array that this configuration makes.
fn carries(member: &Device, raid: &config::Raid, mark: &str) -> bool {
    member.superblock.as_ref().is_some_and(|block| {
        digits(&block.uuid) == mark
            && raid.level.as_deref().and_then(number) == Some(block.level)
            && i64::from(block.devices) == active(raid)
    })
}

/// The kernel's number of a level (`include/uapi/linux/raid/md_p.h`), by the names that `mdadm` has for it.
fn number(level: &str) -> Option<i32> {
    Some(match level {
        "linear" => -1,
        "raid0" | "0" | "stripe" => 0,
        "raid1" | "1" | "mirror" => 1,
        "raid4" | "4" => 4,
        "raid5" | "5" => 5,
        "raid6" | "6" => 6,
        "raid10" | "10" => 10,
        _ => return None,
    })
}

/// The names that the kernel has for a level: in `/proc/mdstat`, and of the module. `None` for what is no level.
pub fn kernel_names(level: &str) -> Option<(&'static str, &'static str)> {
    Some(match number(level)? {
        -1 => ("linear", "md-linear"),
        0 => ("raid0", "md-raid0"),
        1 => ("raid1", "md-raid1"),
        4 => ("raid4", "md-raid4"),
        5 => ("raid5", "md-raid5"),
        6 => ("raid6", "md-raid6"),
        _ => ("raid10", "md-raid10"),
    })
}

fn apply(step: &super::super::Step, facts: &mut Facts) {
    if let super::super::Step::Raid(step) = step {
        for device in step.devices() {
            let users = Vec::from([format!("part of {}", step.path())]);
            facts.devices.insert(device.clone(), Device { users, ..Device::holding("linux_raid_member", "", "") });
        }
        // What an array of these devices held before may still be in it; that isn't known here.
        facts.devices.entry(step.path()).or_default().present = true;
    }
}
