// SPDX-License-Identifier: Apache-2.0
//! What is known about encrypted volumes.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Encrypted volumes, and what making one depends on.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Encryption {
    /// The LUKS headers of devices that the configuration names.
    pub volumes: Vec<Volume>,
    /// The machine's memory in KiB; 0 when it isn't known.
    pub memory: u64,
    /// How much of it can be had without swapping.
    pub available: u64,
}

/// A LUKS header, and what stands on it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Volume {
    /// The device as the configuration names it.
    pub device: String,
    /// 1 or 2.
    pub version: u16,
    /// UUID as written.
    pub uuid: String,
    /// Label, empty when there is none.
    pub label: String,
    /// Subsystem, empty when there is none.
    pub subsystem: String,
    /// Flags that every opening takes over, in the header's own words: `allow-discards`.
    pub flags: Vec<String>,
    /// The fingerprint in Fledge's token: which part of a configuration the volume was made from.
    pub made_from: Option<String>,
    /// Whether neither copy of the header is whole.
    pub damaged: bool,
    /// The name that it is open as, below `/dev/mapper`.
    pub open_as: Option<String>,
    /// Whether this boot made or opened it, or can: the target root has its key.
    pub held: bool,
    /// Whether its key is at hand, to be written to the target root.
    pub key: bool,
}

impl Encryption {
    /// The header on a device.
    pub fn volume(&self, device: &str) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.device == device)
    }
}
