// SPDX-License-Identifier: Apache-2.0
//! What a configuration makes one want to know about a machine: the questions that observers answer with facts.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;

use super::{accounts, contents, crypttab, units};
use crate::config::Config;
use crate::facts::Accounts;
use crate::path;
use crate::verification::Function;

/// What to find out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Questions {
    /// Devices.
    pub devices: BTreeSet<String>,
    /// Clean paths in the target root; with a hash function where the contents of a file there are to be compared.
    pub paths: BTreeMap<String, Option<Function>>,
    /// Whether users and groups matter.
    pub accounts: bool,
    /// Units of which to find out whether they are enabled.
    pub units: BTreeSet<String>,
}

impl Questions {
    /// What is to be known before the mount stage is planned. Of the devices, those that are mounted: the name of another may be
    /// gone, as a label is when the file system that had it was wiped.
    pub fn of_mounting(config: &Config) -> Self {
        let mut questions = Self::default();
        for (filesystem, mount_point) in super::mount::mount_points(config) {
            if super::disks::is_on_device(filesystem) {
                questions.devices.insert(filesystem.device.clone());
            }
            for path in path::ancestors(&mount_point).chain([mount_point.as_str()]) {
                questions.path(path);
            }
        }
        questions
    }

    /// What is to be known before the files stage is planned. `accounts` are those of the target, for their home directories.
    pub fn of_files(config: &Config, accounts: Option<&Accounts>) -> Self {
        let mut questions = Self { accounts: true, ..Self::default() };
        for directory in &config.storage.directories {
            questions.path(&directory.path);
        }
        for file in &config.storage.files {
            let compared = file.contents.source.is_some() || !file.append.is_empty();
            let digest = compared.then(|| contents::function(&file.contents, &file.append));
            questions.paths.insert(path::clean(&file.path), digest);
        }
        for link in &config.storage.links {
            questions.path(&link.path);
            if link.hard == Some(true) {
                questions.path(link.target.as_deref().unwrap_or_default());
            }
        }
        for home in accounts::homes(config, accounts) {
            questions.path(&home);
        }
        for unit in &config.systemd.units {
            questions.path(&units::unit_path(&unit.name));
            for dropin in &unit.dropins {
                questions.path(&units::dropin_path(&unit.name, &dropin.name));
            }
            if unit.enabled == Some(false) {
                questions.units.insert(unit.name.clone());
            }
        }
        for path in crypttab::paths(config) {
            questions.path(&path);
        }
        for path in [units::PRESET, super::files::RESULT, super::files::BEGUN, accounts::PASSWD, accounts::GROUP] {
            questions.path(path);
        }
        questions
    }

    /// All that is to be known of a machine.
    pub fn of(config: &Config, accounts: Option<&Accounts>) -> Self {
        let mut questions = Self::of_files(config, accounts);
        let mounting = Self::of_mounting(config);
        let on_devices = config.storage.filesystems.iter().filter(|filesystem| super::disks::is_on_device(filesystem));
        questions.devices.extend(on_devices.map(|filesystem| filesystem.device.clone()));
        questions.devices.extend(config.storage.disks.iter().map(|disk| disk.device.clone()));
        questions.devices.extend(config.storage.raid.iter().flat_map(|raid| raid.devices.iter().cloned()));
        questions.devices.extend(config.storage.luks.iter().filter_map(|luks| luks.device.clone()));
        for path in mounting.paths.into_keys() {
            questions.path(&path);
        }
        questions
    }

    fn path(&mut self, path: &str) {
        self.paths.entry(path::clean(path)).or_insert(None);
    }
}
