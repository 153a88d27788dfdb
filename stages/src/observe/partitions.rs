// SPDX-License-Identifier: Apache-2.0
//! The disks that a configuration partitions.

use fledge_core::config::Config;
use fledge_core::diag::Failure;
use fledge_core::facts::Facts;

use crate::host::block;

/// Adds what is known about these disks.
pub(super) fn look(config: &Config, facts: &mut Facts, failures: &mut Vec<Failure>) {
    for disk in &config.storage.disks {
        match block::look(&disk.device) {
            // It came or went meanwhile; a disk that isn't known counts as blank, away from the machine.
            Ok(None) if facts.devices.get(&disk.device).is_some_and(|device| device.present) => {
                let what = format!("looking at the disk {}", disk.device);
                failures.push(
                    Failure::new(what, "it was there a moment ago, and is there no more")
                        .remedy("see what the kernel says about it in the journal, and boot again"),
                );
            }
            Ok(found) => facts.disks.extend(found),
            Err(error) => {
                failures.push(Failure::new(format!("looking at the disk {}", disk.device), error.to_string()));
            }
        }
    }
}
