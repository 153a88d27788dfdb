// SPDX-License-Identifier: Apache-2.0
//! What a configuration makes anew of the installed system.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Part, WHAT, at};
use crate::config::{Config, Filesystem, Partition as Entry};
use crate::diag::{Failure, Place};
use crate::gpt::Guid;
use crate::origin::Sources;

/// A part that the configuration makes anew.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wanted {
    /// Which.
    pub part: Part,
    /// The devices that are to hold it, by the names that they will have.
    pub devices: Vec<String>,
    /// What a file system for it is formatted as, and its UUID, as far as the configuration says so.
    pub made: (Option<String>, Option<String>),
    /// Which part of the configuration says so.
    pub place: Option<Place>,
}

/// What a configuration makes anew.
///
/// # Errors
/// It makes two of one of them, or has partitions for one that can't be told from each other.
pub fn wanted(config: &Config, sources: &Sources) -> Result<Vec<Wanted>, Failure> {
    let mut wanted = Vec::new();
    for part in Part::ALL {
        let found = match (part.label(), part.kind()) {
            (Some(label), _) => file_system(part, label, config, sources)?,
            (None, Some(kind)) => partitions(part, kind, config, sources)?,
            (None, None) => None,
        };
        wanted.extend(found);
    }
    Ok(wanted)
}

fn file_system(part: Part, label: &str, config: &Config, sources: &Sources) -> Result<Option<Wanted>, Failure> {
    let is_it = |one: &&Filesystem| one.label.as_deref() == Some(label) && one.wipe_filesystem == Some(true);
    let mut all = config.storage.filesystems.iter().filter(is_it);
    let Some(first) = all.next() else { return Ok(None) };
    if let Some(second) = all.next() {
        let why = format!("{} and {} are both to be made with the label {label:?}", first.device, second.device);
        let failure = Failure::new(WHAT, why).remedy("give one of them another label");
        return Err(at(failure, sources.place(second.origin, "$.storage.filesystems")));
    }
    Ok(Some(Wanted {
        part,
        devices: [first.device.clone()].into(),
        made: (first.format.clone(), first.uuid.clone()),
        place: sources.place(first.origin, "$.storage.filesystems"),
    }))
}

fn partitions(part: Part, kind: Guid, config: &Config, sources: &Sources) -> Result<Option<Wanted>, Failure> {
    let mut wanted = Wanted { part, devices: Vec::new(), made: (None, None), place: None };
    for disk in &config.storage.disks {
        let is_it = |one: &&Entry| {
            one.should_exist != Some(false) && one.type_guid.as_deref().and_then(Guid::parse) == Some(kind)
        };
        for partition in disk.partitions.iter().filter(is_it) {
            let above = sources.place(disk.origin, "$.storage.disks").map(|place| place.path).unwrap_or_default();
            let place = sources.place(partition.origin, &format!("{above}.partitions"));
            let refused = |why: String| {
                let failure = Failure::new(WHAT, why)
                    .remedy("give each partition of that type a label of its own: by that it is found once it is made");
                at(failure, place.clone())
            };
            let label = partition.label.as_deref().unwrap_or_default();
            if label.is_empty() {
                return Err(refused(format!("a partition for the {part} on {} has no label", disk.device)));
            }
            let device = format!("/dev/disk/by-partlabel/{label}");
            if wanted.devices.contains(&device) {
                return Err(refused(format!("two partitions for the {part} have the label {label:?}")));
            }
            wanted.devices.push(device);
            wanted.place = wanted.place.or_else(|| place.clone());
        }
    }
    Ok(Some(wanted).filter(|wanted| !wanted.devices.is_empty()))
}

/// Whether a configuration changes disks at all. If not, nothing needs to be known about them.
pub fn touches_disks(config: &Config) -> bool {
    let storage = &config.storage;
    let wipes = |one: &Filesystem| one.wipe_filesystem == Some(true);
    !(storage.disks.is_empty() && storage.raid.is_empty() && storage.luks.is_empty())
        || storage.filesystems.iter().any(wipes)
}

/// The names of devices in a configuration whose nodes [`super::plan`] wants to know.
pub fn devices(config: &Config) -> BTreeSet<&str> {
    let storage = &config.storage;
    let members = storage.raid.iter().flat_map(|raid| raid.devices.iter().map(String::as_str));
    let volumes = storage.luks.iter().filter_map(|luks| luks.device.as_deref());
    storage.filesystems.iter().map(|one| one.device.as_str()).chain(members).chain(volumes).collect()
}
