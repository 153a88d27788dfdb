// SPDX-License-Identifier: Apache-2.0
//! Disks that are to be partitioned.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::gpt::{Found, Geometry};

/// A disk that the configuration names.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its name in the configuration.
    pub device: String,
    /// The kernel's node for it, such as `/dev/vda`.
    pub node: String,
    /// Bytes of a logical sector.
    pub sector: u32,
    /// Logical sectors.
    pub sectors: u64,
    /// Whether it can't be written to.
    #[serde(default)]
    pub read_only: bool,
    /// The disk that it is a partition of, if it is no disk at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<String>,
    /// What tells it from other disks, in this and other machines: serial numbers and the like.
    #[serde(default)]
    pub identity: String,
    /// The partition table that is there.
    #[serde(default)]
    pub holds: Found,
    /// What uses the disk or its partitions.
    #[serde(default)]
    pub uses: Vec<Use>,
}

/// Something that uses a disk or a partition. As text: the number or 0, the device, and how, between spaces.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Use {
    /// The number of the partition; `None` for the whole disk.
    pub number: Option<u32>,
    /// The kernel's node for it.
    pub device: String,
    /// How it is used, to follow "it is": `mounted at /var`, `part of /dev/md127`.
    pub how: String,
}

impl Disk {
    /// Its size.
    pub fn geometry(&self) -> Geometry {
        Geometry { sector: self.sector, sectors: self.sectors }
    }
}

impl From<Use> for String {
    fn from(used: Use) -> Self {
        format!("{} {} {}", used.number.unwrap_or_default(), used.device, used.how)
    }
}

impl TryFrom<String> for Use {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut words = text.splitn(3, ' ');
        let number = words.next().and_then(|number| number.parse::<u64>().ok()?.try_into().ok());
        let (Some(number), Some(device), Some(how)) = (number, words.next(), words.next()) else {
            return Err("a use of a disk is a number, a device, and how it is used");
        };
        Ok(Self { number: Some(number).filter(|number| *number > 0), device: device.into(), how: how.into() })
    }
}
