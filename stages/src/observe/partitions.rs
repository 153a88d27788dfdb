// SPDX-License-Identifier: Apache-2.0
//! The disks that a configuration partitions.

use fledge_core::config::Config;
use fledge_core::diag::Failure;
use fledge_core::facts::Facts;

use crate::host::{block, device};

/// Adds what is known about these disks.
pub(super) fn look(config: &Config, facts: &mut Facts, failures: &mut Vec<Failure>) {
    for disk in &config.storage.disks {
        match block::look(&disk.device) {
            // It came or went meanwhile; a disk that isn't known counts as blank, away from the machine.
            Ok(None) if facts.devices.get(&disk.device).is_some_and(|device| device.present) => {
                let gone = std::io::Error::other("it was there a moment ago, and is no more");
                failures.push(device::unreadable(&disk.device, &gone));
            }
            Ok(found) => facts.disks.extend(found),
            Err(error) => {
                failures.push(device::unreadable(&disk.device, &error));
            }
        }
    }
}
