// SPDX-License-Identifier: Apache-2.0
//! What uses a disk and its partitions: mounts, swap areas, and devices that are made of them.

use std::fs;
use std::io;
use std::path::PathBuf;

use fledge_core::facts::Use;

use super::{Entry, kernel};
use crate::host::device::usage::{self, Users};

/// What uses a disk and its partitions. Parts of a device of device-mapper count as its partitions, not as its users.
pub(super) fn of(disk: &Entry) -> io::Result<Vec<Use>> {
    let now = Users::look()?;
    let mapped = disk.mapped();
    let mut parts = vec![(None, disk.sys.clone())];
    parts.extend(kernel::partitions(disk)?.into_iter().map(|(partition, sys)| (Some(partition.number), sys)));
    for (number, node) in mapped.iter().flat_map(|name| partitions(name)) {
        parts.push((Some(number), usage::directory(&node)?));
    }
    let mut uses = Vec::new();
    for (number, sys) in parts {
        let mut how = now.of(&sys);
        if number.is_none() && mapped.is_some() {
            how.retain(|how| !how.starts_with("part of"));
        }
        if !how.is_empty() {
            uses.push(Use { number, device: usage::node(&sys), how: how.join(" and ") });
        }
    }
    Ok(uses)
}

/// The partitions of a device of device-mapper, which are such devices themselves (kpartx makes them).
pub(super) fn partitions(name: &str) -> Vec<(u32, PathBuf)> {
    let prefix = format!("dm-name-{name}p");
    let links = fs::read_dir("/dev/disk/by-id").into_iter().flatten().flatten();
    let numbered = links.filter_map(|link| {
        let number = link.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()?;
        Some((number, link.path().canonicalize().ok()?))
    });
    numbered.collect()
}
