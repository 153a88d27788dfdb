// SPDX-License-Identifier: Apache-2.0
//! What is known about an encrypted volume.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// A LUKS header, and what stands on it. In JSON all of it is text, without what is empty; code to read each kind of field would be the
/// larger part of all there is about LUKS.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Volume {
    /// The device as the configuration names it.
    pub device: String,
    /// The node that it is on, which stays when the device's name goes with what the device held.
    pub node: String,
    /// 1 or 2; 0 when neither copy of the header is whole.
    pub version: u64,
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
    /// The name that it is open as, below `/dev/mapper`.
    pub open_as: Option<String>,
    /// Whether this boot made or opened it, or has found its key in the target root; for the files stage, whether that key is still
    /// at hand.
    pub held: bool,
}

impl From<Volume> for BTreeMap<String, String> {
    fn from(volume: Volume) -> Self {
        let mut map = Self::new();
        for (name, value) in [
            ("device", volume.device),
            ("node", volume.node),
            ("version", volume.version.to_string()),
            ("uuid", volume.uuid),
            ("label", volume.label),
            ("subsystem", volume.subsystem),
            ("flags", volume.flags.join(" ")),
            ("made_from", volume.made_from.unwrap_or_default()),
            ("open_as", volume.open_as.unwrap_or_default()),
            ("held", if volume.held { "true".into() } else { String::new() }),
        ] {
            if !value.is_empty() {
                map.insert(name.into(), value);
            }
        }
        map
    }
}

impl TryFrom<BTreeMap<String, String>> for Volume {
    type Error = String;

    fn try_from(map: BTreeMap<String, String>) -> Result<Self, String> {
        let mut volume = Self::default();
        for (name, value) in map {
            match name.as_str() {
                "device" => volume.device = value,
                "node" => volume.node = value,
                "version" => volume.version = value.parse().map_err(|_| format!("{value:?} is no version of LUKS"))?,
                "uuid" => volume.uuid = value,
                "label" => volume.label = value,
                "subsystem" => volume.subsystem = value,
                "flags" => volume.flags = value.split_whitespace().map(Into::into).collect(),
                "made_from" => volume.made_from = Some(value),
                "open_as" => volume.open_as = Some(value),
                "held" => volume.held = value == "true",
                _ => return Err(format!("a volume has no {name:?}")),
            }
        }
        Ok(volume)
    }
}
