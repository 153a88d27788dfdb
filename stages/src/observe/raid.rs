// SPDX-License-Identifier: Apache-2.0
//! What the devices of the configuration's arrays say about themselves, and which levels the kernel lacks.

use std::fs;
use std::path::Path;

use fledge_core::config::Config;
use fledge_core::facts::{Facts, Member};
use fledge_core::plan::raid::kernel_names;

use crate::host::device::{self, usage};
use crate::host::module;

/// Adds what arrays are planned from.
///
/// # Errors
/// The device that can't be read, and why.
pub(super) fn arrays(config: &Config, facts: &mut Facts) -> Result<(), (String, std::io::Error)> {
    if config.storage.raid.is_empty() {
        return Ok(());
    }
    // The UUID of the firmware; few machines have none.
    let machine = fs::read_to_string("/sys/class/dmi/id/product_uuid").unwrap_or_default();
    machine.trim().clone_into(&mut facts.raid.machine);
    for raid in &config.storage.raid {
        for name in raid.devices.iter().filter(|name| device::is_there(name)) {
            let node = Path::new(name);
            let superblock = device::superblock(node).map_err(|error| (name.clone(), error))?;
            let member = Member { identity: usage::identity(node), superblock, array: usage::array(node) };
            facts.raid.members.insert(name.clone(), member);
        }
        if let Some(level) = raid.level.as_ref().filter(|level| is_lacking(level)) {
            facts.raid.lacking.push(level.clone());
        }
    }
    Ok(())
}

/// Whether the kernel surely lacks a level: it neither has it now nor is there a module for it.
fn is_lacking(level: &str) -> bool {
    let Some((personality, module)) = kernel_names(level) else { return false };
    let known = fs::read_to_string("/proc/mdstat").unwrap_or_default();
    !known.contains(&format!("[{personality}]")) && module::is_there(module) == Some(false)
}
