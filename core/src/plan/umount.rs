// SPDX-License-Identifier: Apache-2.0
//! The umount stage: what the mount stage mounted, in reverse, whatever happened in between.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Plan, PlannedStep, Step, mount};
use crate::config::Config;
use crate::diag::Failure;
use crate::facts::Facts;
use crate::origin::Sources;
use crate::stage::Stage;

/// Plans the umount stage. What the mount stage left word of is unmounted; so is what the configuration names and is mounted,
/// should that word be lost.
///
/// # Errors
/// None: whatever can't be unmounted shows when it is tried.
pub fn umount(config: &Config, facts: &Facts, sources: &Sources) -> Result<Plan, Vec<Failure>> {
    let wanted = mount::mount_points(config);
    let mut paths: Vec<&String> = facts.mounted.iter().collect();
    for (_, mount_point) in &wanted {
        if facts.mounts.contains(mount_point) && !paths.contains(&mount_point) {
            paths.push(mount_point);
        }
    }
    // In the order in which things are mounted, as far as that is known.
    paths.sort_by_key(|path| facts.mounts.iter().position(|mount| mount == *path));
    let steps = paths.into_iter().rev().map(|path| {
        let place = wanted
            .iter()
            .find(|(_, mount_point)| mount_point == path)
            .and_then(|(filesystem, _)| sources.place(filesystem.origin, "$.storage.filesystems"));
        PlannedStep { step: Step::Unmount { path: path.clone() }, place }
    });
    Ok(Plan { stage: Stage::Umount, steps: steps.collect() })
}
