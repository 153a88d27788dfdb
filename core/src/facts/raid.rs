// SPDX-License-Identifier: Apache-2.0
//! Linux software RAID, as far as a configuration asks for it.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// What arrays are planned from.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raid {
    /// What tells this machine from others: the UUID that its firmware has for it, or nothing.
    pub machine: String,
    /// The devices of the configuration's arrays, by the names that it has for them.
    pub members: BTreeMap<String, Member>,
    /// The levels of the configuration, as it writes them, that the kernel surely lacks.
    pub lacking: Vec<String>,
}

/// A device that is to be, or is, part of an array.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Member {
    /// What tells this device from those of other machines: serial number or world-wide name of its disk, and the partition's
    /// number. Empty when the disk has neither.
    pub identity: String,
    /// What it says about the array that it was made part of.
    pub superblock: Option<Superblock>,
    /// The array that the kernel has it in now: `/dev/md127`.
    pub array: Option<String>,
}

/// What a member's superblock says about its array.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Superblock {
    /// UUID of the array, as `blkid` prints it.
    pub uuid: String,
    /// Name of the array, with its host where it has one: `data`, `host:data`. Empty for version 0.90.
    pub name: String,
    /// Level by the kernel's number: -1 is linear.
    pub level: i32,
    /// How many devices the array has, spares not counted.
    pub devices: u32,
}
