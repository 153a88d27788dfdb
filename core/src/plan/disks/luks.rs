// SPDX-License-Identifier: Apache-2.0
//! Encrypted volumes: made, or opened where they are there and fit.
//!
//! # Whose a volume is
//! A volume is ours and not ready from the first sector that `luksFormat` writes: the header's subsystem is [`MARK`], and magic and
//! subsystem share a sector, so no power cut leaves one without the other. It stays so while its key may be nowhere but in memory: until the
//! files stage has written key and crypttab, and these are on the disk. Then a token ([`TOKEN`]) is added that tells which part of a
//! configuration the volume was made from, and the mark goes. The system starts only after that, so on a volume that still has the mark
//! is nothing but what a configuration put there. Hence, for a first boot that was interrupted:
//!
//! - with the mark: it is made anew, whoever's configuration began it. Nobody may have its key.
//! - without the mark, with our token, and the configuration is the same: it is opened. Its key is in the configuration, in the target
//!   root (`/etc/luks/NAME`, written before the mark went), or bound.
//! - any other volume is foreign: opened if it fits by Ignition's rules (key file given, no clevis, same label, UUID and discard), else refused. Only
//!   `wipeVolume` has one made over it.

mod clevis;
pub mod header;

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

pub use clevis::Binding;
pub(in crate::plan) use clevis::needs_network;

use super::super::PlannedStep;
use super::filesystems::node;
use super::{Gathered, Phase, describe, device_fault, in_use, missing, sayable};
use crate::config::{Config, Luks, Resource};
use crate::diag::Failure;
use crate::facts::{Device, Facts, Volume};
use crate::origin::Sources;
use crate::url::redact;

/// See the module.
pub const PHASE: Phase = Phase { tables: false, contents: true, devices, plan, apply };

/// The subsystem of a volume that is not ready.
pub const MARK: &str = "fledge: not ready";
/// Where keys are kept in the target root.
pub const KEYS: &str = "/etc/luks";
/// The type of our token.
pub const TOKEN: &str = "fledge";
/// The token's field with the fingerprint of what the volume was made from.
pub const MADE_FROM: &str = "fledge-made-from";
/// What cryptsetup takes for argon2 unless the machine is small, in KiB.
const USUAL_MEMORY: u64 = 1 << 20;
/// What it gets on the smallest, in KiB: less would protect nothing.
const LEAST_MEMORY: u64 = 32 << 10;
/// Options that would have something else made than what is opened, or from another key.
const REFUSED: [&str; 3] = ["--type", "--header", "--key-file"];
/// Options of one letter that have no value.
const FLAGS: &str = "qvyrV?";

/// One thing to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Make a volume on a device, and open it.
    Make(Box<Make>),
    /// Open a volume that is there.
    Open(Box<Opening>),
}

/// A volume to make.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Make {
    /// How it is opened.
    pub opening: Opening,
    /// Label.
    pub label: Option<String>,
    /// UUID; a random one without.
    pub uuid: Option<String>,
    /// Options of `cryptsetup luksFormat`.
    pub options: Vec<String>,
    /// How much memory the key derivation may take, in KiB; `None` for what cryptsetup chooses.
    pub memory: Option<u64>,
    /// Clevis's binding. A generated key is removed once it is bound.
    pub binding: Option<Binding>,
    /// What is there now, in words, if anything is.
    pub instead: Option<String>,
    /// The name that what is there now is open as.
    pub close: Option<String>,
}

/// How a volume is opened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Opening {
    /// Its name below `/dev/mapper`.
    pub name: String,
    /// The device as the configuration names it.
    pub device: String,
    /// The node that it was judged by.
    pub node: String,
    /// Where its key comes from.
    pub key: Key,
    /// Whether discards reach the device; kept in the header.
    pub discard: bool,
    /// Options of `cryptsetup open`, kept in the header as far as it can hold them.
    pub options: Vec<String>,
}

/// Where a key comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Key {
    /// From the configuration.
    Given(Resource),
    /// It is made from random bytes.
    Generated,
    /// An earlier run left it, in the state or in the target root.
    Held,
    /// Clevis has it.
    Bound,
}

impl Step {
    /// How the volume is opened.
    pub fn opening(&self) -> &Opening {
        match self {
            Self::Make(make) => &make.opening,
            Self::Open(opening) => opening,
        }
    }

    /// What has to be fetched before: the key first, if it is given, then what shows that servers answer.
    pub fn resources(&self) -> Vec<&Resource> {
        let mut resources = Vec::new();
        if let Key::Given(resource) = &self.opening().key {
            resources.push(resource);
        }
        if let Self::Make(make) = self {
            resources.extend(make.binding.iter().flat_map(|binding| &binding.servers));
        }
        resources
    }

    /// What is wrong with it, told without knowing how it was planned.
    pub(in crate::plan) fn faults(&self) -> Vec<String> {
        let opening = self.opening();
        let mut faults: Vec<_> = device_fault(&opening.device).into_iter().collect();
        if !is_name(&opening.name) {
            faults.push(format!("{:?} is no name of a volume", opening.name));
        }
        match self {
            Self::Make(make) if !matches!(make.opening.key, Key::Given(_) | Key::Generated) => {
                faults.push("a new volume can't have a key already".into());
            }
            Self::Open(opening) if opening.key == Key::Generated => {
                faults.push("a key that is made now opens nothing".into());
            }
            _ => {}
        }
        faults
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Opening { name, device, key, discard, options, .. } = self.opening();
        match self {
            Self::Make(_) => write!(f, "make the encrypted volume {name:?} on {device}")?,
            Self::Open(_) => write!(f, "open the encrypted volume {name:?} of {device}")?,
        }
        match key {
            Key::Given(resource) => {
                let source = resource.source.as_deref().unwrap_or_default();
                write!(f, " with the key of {}", redact(source))?;
            }
            Key::Generated => f.write_str(" with a random key")?,
            Key::Held => f.write_str(" with the key that it was made with")?,
            Key::Bound => f.write_str(" by clevis")?,
        }
        if let Self::Make(make) = self {
            for (word, value) in [("label", &make.label), ("UUID", &make.uuid)] {
                if let Some(value) = value {
                    write!(f, ", {word} {value:?}")?;
                }
            }
            if let Some(memory) = make.memory {
                write!(f, ", at most {} MiB of memory to derive keys", memory / 1024)?;
            }
            if !make.options.is_empty() {
                write!(f, ", options {}", make.options.join(" "))?;
            }
            if let Some(binding) = &make.binding {
                write!(f, ", bound by clevis's pin {}", binding.pin)?;
                let urls = binding.servers.iter().filter_map(|server| server.source.as_deref());
                for url in urls {
                    write!(f, ", asking {}", redact(url))?;
                }
            }
        }
        if *discard {
            f.write_str(", discards let through")?;
        }
        if !options.is_empty() {
            write!(f, ", opened with {}", options.join(" "))?;
        }
        match self {
            Self::Make(make) if make.instead.is_some() => {
                write!(f, ", in place of {}", make.instead.as_deref().unwrap_or_default())
            }
            _ => Ok(()),
        }
    }
}

fn devices(config: &Config) -> BTreeSet<String> {
    config.storage.luks.iter().filter_map(|luks| luks.device.clone()).collect()
}

fn plan(config: &Config, facts: &Facts, sources: &Sources) -> Result<Vec<PlannedStep>, Vec<Failure>> {
    let mut gathered = Gathered::new(sources);
    for (index, luks) in config.storage.luks.iter().enumerate() {
        let mut others = config.storage.luks.iter().take(index);
        let other = others.find(|other| node(facts, device(other)) == node(facts, device(luks)));
        let step = match other {
            Some(other) => {
                let why = format!("the volume {:?} is to be made there too", other.name);
                Err(Failure::new(what(luks), why).remedy("give each volume a device of its own"))
            }
            None => step(luks, facts),
        };
        let planned = step.map(|step| vec![super::super::Step::Luks(step)]).map_err(|failure| vec![failure]);
        gathered.entry(luks.origin, "$.storage.luks", planned);
    }
    gathered.finish()
}

fn what(luks: &Luks) -> String {
    format!("making the encrypted volume {:?} on {}", luks.name, device(luks))
}

pub(in crate::plan) fn device(luks: &Luks) -> &str {
    luks.device.as_deref().unwrap_or_default()
}

fn said(value: Option<&String>) -> Option<&str> {
    value.map(String::as_str).filter(|text| !text.is_empty())
}

/// A name that device-mapper, crypttab (its fields end at white space) and a file below `/etc/luks` can have.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | ".." | "control")
        && !name.starts_with(['-', '#'])
        && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control())
}

/// The file that keeps the key of a volume, seen from the target root.
pub fn key_path(name: &str) -> String {
    crate::path::below(KEYS, name)
}

/// Which part of a configuration a volume is made from: a hash of all of it but the key, which a hash would give away, and
/// whether it is wiped.
pub(in crate::plan) fn fingerprint(luks: &Luks) -> String {
    let told = Luks { key_file: Resource::default(), wipe_volume: None, ..luks.clone() };
    let text = serde_json::to_vec(&told).unwrap_or_default();
    HEXLOWER.encode(Sha256::digest(text).as_slice())
}

fn step(luks: &Luks, facts: &Facts) -> Result<Step, Failure> {
    let device = device(luks);
    let refused = |why: String| Failure::new(what(luks), why);
    if !is_name(&luks.name) {
        return Err(refused("the name can't stand in /etc/crypttab".into())
            .remedy("name it without white space, and not beginning with - or #"));
    }
    sayable(what(luks), &serde_json::to_string(luks).unwrap_or_default())?;
    if let Some(option) = refused_option(&luks.options) {
        return Err(refused(format!("the option {option} would have something else made"))
            .remedy("remove it; volumes are LUKS2 with their header on the device, and the key is that of keyFile"));
    }
    let opening = Opening {
        name: luks.name.clone(),
        device: device.into(),
        node: facts.devices.get(device).map(|found| found.node.clone()).unwrap_or_default(),
        key: match said(luks.key_file.source.as_ref()) {
            Some(_) => Key::Given(luks.key_file.clone()),
            None => Key::Generated,
        },
        discard: luks.discard == Some(true),
        options: luks.open_options.clone(),
    };
    let found = facts.devices.get(device);
    if found.is_some_and(|found| !found.present) {
        return Err(missing(device, what(luks), facts));
    }
    let volume = facts.volume(device);
    // One that is open may be kept, and ours that isn't ready is closed first.
    let wipe = luks.wipe_volume == Some(true);
    let open = volume.filter(|volume| volume.open_as.is_some() && (!wipe || volume.held || volume.subsystem == MARK));
    if let Some(found) = found.filter(|found| found.users.len() > usize::from(open.is_some())) {
        return Err(in_use(device, what(luks), found));
    }
    let instead = match (volume, found.and_then(|found| found.signature.as_ref())) {
        (Some(volume), _) if volume.held && volume.open_as.as_ref() == Some(&luks.name) => {
            return Ok(Step::Open(Box::new(Opening { key: Key::Held, ..opening })));
        }
        (Some(volume), _) if volume.subsystem == MARK => {
            Some("one that an interrupted first boot left unfinished".into())
        }
        (Some(volume), _) if !wipe => {
            return match reuse(luks, volume, opening.key) {
                Ok(key) => Ok(Step::Open(Box::new(Opening { key, ..opening }))),
                Err(why) => Err(refused(format!("{device} is a LUKS volume that can't be used as it is: {why}"))
                    .remedy("write it as it is; only wipeVolume has a new one made in its place, and all in it lost")),
            };
        }
        (Some(_), _) => Some("the LUKS volume there".into()),
        (None, Some(signature)) if !wipe => {
            return Err(refused(format!("it holds {}", describe(signature)))
                .remedy("use another device; only wipeVolume has a volume made in its place, and all in it lost"));
        }
        (None, Some(signature)) => Some(describe(signature)),
        (None, None) => None,
    };
    Ok(Step::Make(Box::new(Make {
        opening,
        label: said(luks.label.as_ref()).map(Into::into),
        uuid: said(luks.uuid.as_ref()).map(Into::into),
        options: luks.options.clone(),
        memory: memory(&luks.options, facts),
        binding: clevis::binding(&luks.clevis),
        instead,
        // Nobody but us opens one that isn't ready. Where another is open, cryptsetup refuses.
        close: volume.filter(|volume| volume.subsystem == MARK).and_then(|volume| volume.open_as.clone()),
    })))
}

fn refused_option(options: &[String]) -> Option<&str> {
    for (index, option) in options.iter().enumerate() {
        let (name, value) = match (option.starts_with("--"), option.split_once('=')) {
            (true, Some((name, value))) => (name, value),
            (true, None) => (option.as_str(), ""),
            // Letters may share a dash, and the last one its value.
            (false, _) => {
                let Some(letters) = option.strip_prefix('-').map(|rest| rest.trim_start_matches(|c| FLAGS.contains(c)))
                else {
                    continue;
                };
                let name = match letters.chars().next() {
                    Some('d') => "--key-file",
                    Some('M') => "--type",
                    _ => continue,
                };
                (name, letters.get(1..).unwrap_or_default().trim_start_matches('='))
            }
        };
        let next = options.get(index + 1).filter(|_| value.is_empty() && !option.ends_with('='));
        let value = next.map_or(value, String::as_str);
        if REFUSED.contains(&name) && !(name == "--type" && value == "luks2") {
            return Some(option);
        }
    }
    None
}

/// The subsystem that options of `luksFormat` ask for; the last one counts.
pub(in crate::plan) fn subsystem(options: &[String]) -> &str {
    let mut found = "";
    for (index, option) in options.iter().enumerate() {
        found = match option.strip_prefix("--subsystem") {
            Some("") => options.get(index + 1).map_or("", String::as_str),
            Some(value) => value.strip_prefix('=').unwrap_or(found),
            None => found,
        };
    }
    found
}

/// The key by which a volume that is there is opened, or why it isn't used: Ignition's rules, and what our token adds to them.
fn reuse(luks: &Luks, volume: &Volume, key: Key) -> Result<Key, String> {
    match volume.version {
        2 => {}
        0 => return Err("its header is damaged".into()),
        version => return Err(format!("it is LUKS{version}, not LUKS2")),
    }
    match &volume.open_as {
        Some(name) if *name != luks.name => return Err(format!("it is open as /dev/mapper/{name}")),
        _ => {}
    }
    // What the header says is what this configuration asks for: it was made from it.
    let ours = volume.made_from.as_deref() == Some(&fingerprint(luks));
    let bound = luks.clevis.is_present();
    if bound && !ours {
        return Err("it can't be told whether it is bound by clevis as the configuration says".into());
    }
    let key = match key {
        Key::Generated if bound => Key::Bound,
        Key::Generated if ours && volume.held => Key::Held,
        Key::Generated if ours => {
            return Err(format!(
                "it was made from this configuration, but its key is not in /etc/luks/{} of the target any more",
                luks.name
            ));
        }
        Key::Generated => return Err("the configuration has no keyFile, and a new key would not open it".into()),
        key => key,
    };
    match &luks.label {
        Some(label) if *label != volume.label => return Err(format!("its label is {:?}, not {label:?}", volume.label)),
        _ => {}
    }
    match &luks.uuid {
        Some(uuid) if !uuid.eq_ignore_ascii_case(&volume.uuid) => {
            return Err(format!("its UUID is {:?}, not {uuid:?}", volume.uuid));
        }
        _ => {}
    }
    let discard = volume.flags.iter().any(|flag| flag == "allow-discards");
    if discard != (luks.discard == Some(true)) {
        let not = if discard { "" } else { "not " };
        return Err(format!("discards are {not}let through"));
    }
    Ok(key)
}

/// How much memory argon2 may take: a quarter of the machine's and half of what is free, so that this boot and the later ones have
/// room beside it. `None` where cryptsetup's own choice is no more.
fn memory(options: &[String], facts: &Facts) -> Option<u64> {
    if facts.memory == 0 || options.iter().any(|option| option.starts_with("--pbkdf-memory")) {
        return None;
    }
    let bound = (facts.memory / 4).min(facts.available_memory / 2).max(LEAST_MEMORY);
    (bound < USUAL_MEMORY).then_some(bound)
}

fn apply(step: &super::super::Step, facts: &mut Facts) {
    let super::super::Step::Luks(step) = step else { return };
    let opening = step.opening();
    let Opening { name, device, .. } = opening;
    let open_as = Some(name.clone());
    let volumes = &mut facts.volumes;
    match step {
        Step::Make(make) => {
            let uuid = make.uuid.clone().unwrap_or_else(|| "(random)".into());
            let label = make.label.clone().unwrap_or_default();
            let users = Vec::from([format!("part of /dev/mapper/{name}")]);
            facts.devices.insert(device.clone(), Device { users, ..Device::holding("crypto_LUKS", &label, &uuid) });
            facts.devices.insert(format!("/dev/mapper/{name}"), Device { present: true, ..Device::default() });
            let (device, subsystem) = (device.clone(), MARK.into());
            volumes.retain(|volume| volume.device != device);
            let volume =
                Volume { device, version: 2, uuid, label, subsystem, open_as, held: true, ..Volume::default() };
            volumes.push(volume);
        }
        Step::Open(_) => {
            if let Some(found) = facts.devices.get_mut(device) {
                found.users = Vec::from([format!("part of /dev/mapper/{name}")]);
            }
            if let Some(volume) = volumes.iter_mut().find(|volume| volume.device == *device) {
                (volume.open_as, volume.held) = (open_as, true);
            }
        }
    }
}
