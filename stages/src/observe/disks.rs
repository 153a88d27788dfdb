// SPDX-License-Identifier: Apache-2.0
//! What the phases of the disks stage are planned from.

use std::time::Duration;

use fledge_core::config::Config;
use fledge_core::diag::Failure;
use fledge_core::facts::Facts;
use fledge_core::plan::Phase;

use crate::host::device;

/// The facts that a phase is planned from. Its devices are waited for.
///
/// # Errors
/// Each device that is there and can't be looked at.
pub fn for_phase(phase: &Phase, config: &Config, patience: Duration) -> Result<Facts, Vec<Failure>> {
    let mut facts = Facts::default();
    let mut failures = Vec::new();
    let devices = (phase.devices)(config);
    device::wait(&devices, patience);
    for name in devices {
        let look = |name| device::look(name).map_err(|error| device::unreadable(name, &error));
        match if phase.contents { device::examine(&name) } else { look(&name) } {
            Ok(found) => {
                facts.devices.insert(name, found);
            }
            Err(failure) => failures.push(failure),
        }
    }
    if phase.tables {
        super::partitions::look(config, &mut facts, &mut failures);
    }
    super::raid::arrays(config, &mut facts);
    facts.block_devices = device::list();
    if failures.is_empty() { Ok(facts) } else { Err(failures) }
}
