// SPDX-License-Identifier: Apache-2.0
//! The stages of a first boot, by the names that units and operators know.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A stage of `ignition --stage=...`. Each runs as a process of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Finds the configuration without any network, or leaves word that a network is needed.
    FetchOffline,
    /// Finds the configuration with the network up.
    Fetch,
    /// Puts kernel arguments in place.
    Kargs,
    /// Partitions, RAID, LUKS, file systems.
    Disks,
    /// Mounts what the configuration names below the target root.
    Mount,
    /// Users, files, directories, links, units.
    Files,
    /// Unmounts what `mount` mounted.
    Umount,
}

impl Stage {
    /// All stages, in the order of a boot.
    pub const ALL: [Self; 7] =
        [Self::FetchOffline, Self::Fetch, Self::Kargs, Self::Disks, Self::Mount, Self::Files, Self::Umount];

    /// The name on the command line and in unit names.
    pub fn name(self) -> &'static str {
        match self {
            Self::FetchOffline => "fetch-offline",
            Self::Fetch => "fetch",
            Self::Kargs => "kargs",
            Self::Disks => "disks",
            Self::Mount => "mount",
            Self::Files => "files",
            Self::Umount => "umount",
        }
    }

    /// The stage of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
