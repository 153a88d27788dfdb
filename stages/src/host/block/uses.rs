// SPDX-License-Identifier: Apache-2.0
//! What uses a disk and its partitions: mounts, swap areas, and devices that are made of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fledge_core::facts::Use;

use super::{Entry, kernel};
use crate::host::device::usage::{self, Users};

/// What uses a disk and its partitions. Parts of a device of device-mapper count as its partitions, not as its users.
pub(super) fn of(disk: &Entry) -> io::Result<Vec<Use>> {
    let now = Users::look()?;
    let mapped = disk.mapped();
    let mut parts = vec![(None, disk.sys.clone())];
    parts.extend(kernel::partitions(disk)?.into_iter().map(|(partition, sys)| (Some(partition.number), sys)));
    parts.extend(partitions(&disk.sys).into_iter().map(|(number, sys)| (Some(number), sys)));
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

/// The partitions of a device of device-mapper, which are such devices themselves, with their folders in sysfs. kpartx makes them under
/// names that distributions choose; their UUIDs are always the device's with the number before (multipath-tools `kpartx/devmapper.c`).
pub(super) fn partitions(disk: &Path) -> Vec<(u32, PathBuf)> {
    let whole = usage::text(&disk.join("dm/uuid"));
    if whole.is_empty() {
        return Vec::new();
    }
    let holders = fs::read_dir(disk.join("holders")).into_iter().flatten().flatten();
    let numbered = holders.filter_map(|holder| {
        let sys = holder.path().canonicalize().ok()?;
        let uuid = usage::text(&sys.join("dm/uuid"));
        let (number, of) = uuid.strip_prefix("part")?.split_once('-')?;
        (of == whole).then_some((number.parse().ok()?, sys))
    });
    numbered.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_device_mapper_go_by_their_uuids() {
        let sys = tempfile::tempdir().unwrap();
        let device = |name: &str, uuid: &str| {
            let folder = sys.path().join(name);
            fs::create_dir_all(folder.join("dm")).unwrap();
            fs::create_dir_all(folder.join("holders")).unwrap();
            fs::write(folder.join("dm/uuid"), format!("{uuid}\n")).unwrap();
            folder
        };
        let disk = device("dm-0", "mpath-3600");
        let held = |name: &str, uuid: &str| {
            let folder = device(name, uuid);
            std::os::unix::fs::symlink(&folder, disk.join("holders").join(name)).unwrap();
            folder
        };
        let fourth = held("dm-1", "part4-mpath-3600");
        held("dm-2", "part4-mpath-3601");
        held("dm-3", "CRYPT-LUKS2-0123-root");
        held("dm-4", "");
        assert_eq!(partitions(&disk), [(4, fourth.canonicalize().unwrap())]);
        assert_eq!(partitions(&device("dm-5", "")), []);
    }
}
