// SPDX-License-Identifier: Apache-2.0
//! Members of Linux software RAID.

use alloc::string::String;

use serde::{Deserialize, Serialize};

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
    /// Whether the array surely never ran, so that nothing was ever stored in it: the kernel counts what happens to an array from its
    /// first start on. Version 0.90 can't tell.
    pub never_ran: bool,
}
