// SPDX-License-Identifier: Apache-2.0
//! Disks that are to be partitioned.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::gpt::{Found, Geometry};

/// A disk that the configuration names.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The kernel's node for it, such as `/dev/vda`.
    pub node: String,
    /// Its size.
    pub geometry: Geometry,
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

/// Something that uses a disk or a partition.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Use {
    /// The number of the partition; `None` for the whole disk.
    #[serde(default)]
    pub number: Option<u32>,
    /// The kernel's node for it.
    pub device: String,
    /// How it is used, to follow "it is": `mounted at /var`, `held by md127`.
    pub how: String,
}
