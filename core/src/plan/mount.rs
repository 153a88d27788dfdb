// SPDX-License-Identifier: Apache-2.0
//! The mount stage: the file systems of the configuration, from the shallowest mount point to the deepest.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Plan, PlannedStep, Step, disks, options};
use crate::config::schema::VIRTIOFS;
use crate::config::{Config, Filesystem};
use crate::diag::Failure;
use crate::facts::{Facts, NodeKind};
use crate::origin::Sources;
use crate::path;
use crate::stage::Stage;

/// Plans the mount stage.
///
/// # Errors
/// Each device that isn't there, each mount point whose path has something else than directories in it (symbolic links too:
/// a later boot would mount elsewhere), each option that a device can't be mounted with.
pub fn mount(config: &Config, facts: &Facts, sources: &Sources) -> Result<Plan, Vec<Failure>> {
    let mut plan = Plan { stage: Stage::Mount, steps: Vec::new() };
    let mut failures = Vec::new();
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    let policy = super::files::policy(facts);
    for (filesystem, mount_point) in mount_points(config) {
        let place = sources.place(filesystem.origin, "$.storage.filesystems");
        let planned = match taken.insert(mount_point.clone(), &filesystem.device) {
            Some(other) => Err(Failure::new(
                format!("mounting {} at {mount_point}", filesystem.device),
                format!("{other} is to be mounted there too"),
            )
            .remedy("give one of them another path")),
            None => step(filesystem, mount_point, facts).and_then(|step| labelled(step, policy.clone())),
        };
        match planned {
            Ok(step) => plan.steps.push(PlannedStep { step, place }),
            Err(failure) => failures.push(match place {
                Some(place) => failure.at(place),
                None => failure,
            }),
        }
    }
    if failures.is_empty() { Ok(plan) } else { Err(failures) }
}

fn labelled(mut step: Step, wanted: Result<Option<String>, Failure>) -> Result<Step, Failure> {
    if let Step::Mount { policy, .. } = &mut step {
        *policy = wanted?;
    }
    Ok(step)
}

/// The file systems that get mounted and their clean mount points, in the order of mounting.
pub(super) fn mount_points(config: &Config) -> Vec<(&Filesystem, String)> {
    let mounted = config
        .storage
        .filesystems
        .iter()
        .filter(|filesystem| disks::format(filesystem).is_some_and(|format| format != "swap"))
        .filter_map(|filesystem| Some((filesystem, filesystem.path.as_deref().filter(|path| !path.is_empty())?)))
        .map(|(filesystem, mount_point)| (filesystem, path::clean(mount_point)));
    let mut list: Vec<(&Filesystem, String)> = Vec::new();
    for mount in mounted {
        path::insert_by(&mut list, mount, |(_, mount_point)| (false, path::depth(mount_point)));
    }
    list
}

fn step(filesystem: &Filesystem, mount_point: String, facts: &Facts) -> Result<Step, Failure> {
    let device = &filesystem.device;
    let what = || format!("mounting {device} at {mount_point}");
    let options = options::sort(&filesystem.mount_options).map_err(|why| {
        Failure::new(what(), why).remedy("remove it from mountOptions, or mount this with a unit of your own")
    })?;
    if mount_point == "/" {
        return Err(Failure::new(what(), "the root file system is mounted already")
            .remedy("leave the path out; the root is mounted by the initramfs"));
    }
    let tagged = filesystem.format.as_deref() == Some(VIRTIOFS);
    if !tagged && facts.devices.get(device).is_some_and(|device| !device.present) {
        return Err(disks::missing(device, what(), facts));
    }
    for above in path::ancestors(&mount_point).chain([mount_point.as_str()]) {
        let thing = match facts.nodes.get(above).map(|node| &node.kind) {
            Some(NodeKind::Symlink(target)) => format!("{above} is a symbolic link to {target}"),
            Some(NodeKind::File { .. } | NodeKind::Other) => format!("{above} is not a directory"),
            _ => continue,
        };
        return Err(Failure::new(what(), thing).remedy("mount at a path that is made of directories only"));
    }
    let format = disks::format(filesystem).unwrap_or_default().into();
    Ok(Step::Mount { device: device.clone(), path: mount_point, format, options, policy: None })
}
