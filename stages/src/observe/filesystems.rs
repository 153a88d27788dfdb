// SPDX-License-Identifier: Apache-2.0
//! Which device each name means, and who uses it.

use fledge_core::facts::Facts;

use crate::host::device::usage;

/// Adds the uses of the devices that are there.
///
/// # Errors
/// The device that can't be looked at, and why.
pub(super) fn uses(facts: &mut Facts) -> Result<(), (String, std::io::Error)> {
    for name in facts.devices.iter().filter(|(_, device)| device.present).map(|(name, _)| name) {
        let found = usage::of(name).map_err(|error| (name.clone(), error))?;
        facts.uses.insert(name.clone(), found);
    }
    Ok(())
}
