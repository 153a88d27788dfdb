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

/// Plans the umount stage. What the mount stage left word of is unmounted if it is still there; so is what the configuration
/// names, should that word be lost.
///
/// # Errors
/// None: whatever can't be unmounted shows when it is tried.
pub fn umount(config: &Config, facts: &Facts, sources: &Sources) -> Result<Plan, Vec<Failure>> {
    let wanted = mount::mount_points(config);
    let ours =
        |path: &String| facts.mounted.contains(path) || wanted.iter().any(|(_, mount_point)| mount_point == path);
    let mut paths: Vec<&String> = Vec::new();
    // In the order in which they were mounted; of several at one place only what is on top may be ours.
    for path in facts.mounts.iter().rev().filter(|path| ours(path)) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let steps = paths.into_iter().map(|path| {
        let place = wanted
            .iter()
            .find(|(_, mount_point)| mount_point == path)
            .and_then(|(filesystem, _)| sources.place(filesystem.origin, "$.storage.filesystems"));
        PlannedStep { step: Step::Unmount { path: path.clone() }, place }
    });
    Ok(Plan { stage: Stage::Umount, steps: steps.collect() })
}
