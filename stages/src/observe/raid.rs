// SPDX-License-Identifier: Apache-2.0
//! Which machine this is, and which levels its kernel lacks.

use std::fs;

use fledge_core::config::Config;
use fledge_core::facts::Facts;
use fledge_core::plan::raid::kernel_names;

use crate::host::{dmi, module};

/// Adds what arrays are planned from, beside their devices.
pub(super) fn arrays(config: &Config, facts: &mut Facts) {
    if config.storage.raid.is_empty() {
        return;
    }
    facts.machine = dmi::product_uuid();
    let levels = config.storage.raid.iter().filter_map(|raid| raid.level.as_ref());
    facts.lacking_levels = levels.filter(|level| is_lacking(level)).cloned().collect();
}

/// Whether the kernel surely lacks a level: it neither has it now nor is there a module for it.
fn is_lacking(level: &str) -> bool {
    let Some((personality, module)) = kernel_names(level) else { return false };
    let known = fs::read_to_string("/proc/mdstat").unwrap_or_default();
    !known.contains(&format!("[{personality}]")) && module::is_there(module) == Some(false)
}
