// SPDX-License-Identifier: Apache-2.0
//! What uses a disk and its partitions: mounts, swap areas, and devices that are made of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fledge_core::facts::Use;

use super::{Entry, kernel};
use crate::host::mount;

/// What uses a disk and its partitions. Parts of a device of device-mapper count as its partitions, not as its users.
pub(super) fn of(disk: &Entry) -> io::Result<Vec<Use>> {
    let nodes = used_nodes()?;
    let mapped = disk.mapped();
    let mut parts = vec![(None, disk.node.clone(), mapped.is_none().then(|| disk.sys.clone()))];
    for (partition, sys) in kernel::partitions(disk)? {
        parts.push((Some(partition.number), kernel::node(&sys).into(), Some(sys)));
    }
    for (number, node) in mapped.iter().flat_map(|name| mapped_partitions(name)) {
        let sys = Entry::of(&node.to_string_lossy())?.sys;
        parts.push((Some(number), node, Some(sys)));
    }
    let mut uses = Vec::new();
    for (number, node, sys) in parts {
        let how = nodes.iter().find(|(used, _)| *used == node).map(|(_, how)| how.clone());
        let how = match (how, sys) {
            (None, Some(sys)) => held(&sys)?,
            (how, _) => how,
        };
        uses.extend(how.map(|how| Use { number, device: node.to_string_lossy().into_owned(), how }));
    }
    Ok(uses)
}

/// The devices that are mounted or swapped to, and how.
fn used_nodes() -> io::Result<Vec<(PathBuf, String)>> {
    let mounts = mount::table()?.into_iter().filter(|mount| mount.source.starts_with('/'));
    let mounts = mounts.filter_map(|mount| {
        let node = Path::new(&mount.source).canonicalize().ok()?;
        Some((node, format!("mounted at {}", mount.point.display())))
    });
    // Kernels without swap have no such file.
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let swaps = swaps.lines().filter_map(|line| Path::new(line.split_whitespace().next()?).canonicalize().ok());
    Ok(mounts.chain(swaps.map(|node| (node, "a swap area in use".to_owned()))).collect())
}

/// By which devices a device is held.
fn held(sys: &Path) -> io::Result<Option<String>> {
    let mut names = Vec::new();
    match fs::read_dir(sys.join("holders")) {
        Ok(holders) => {
            for holder in holders {
                names.push(holder?.file_name().to_string_lossy().into_owned());
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    names.sort();
    Ok((!names.is_empty()).then(|| format!("held by {}", names.join(", "))))
}

/// The partitions of a device of device-mapper, which are such devices themselves (kpartx makes them).
fn mapped_partitions(name: &str) -> Vec<(u32, PathBuf)> {
    let prefix = format!("dm-name-{name}p");
    let links = fs::read_dir("/dev/disk/by-id").into_iter().flatten().flatten();
    let numbered = links.filter_map(|link| {
        let number = link.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()?;
        Some((number, link.path().canonicalize().ok()?))
    });
    numbered.collect()
}
