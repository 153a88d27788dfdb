// SPDX-License-Identifier: Apache-2.0
//! What a device is used for while nothing may be written over it.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Which device a name means, and who has it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    /// The device node that the name leads to, such as `/dev/vda1`. Two names with the same node are one device.
    pub node: String,
    /// Who has it, or a partition of it, a clause each: `mounted at /boot`, `used as swap`, `part of /dev/dm-0`.
    pub by: Vec<String>,
}
