// SPDX-License-Identifier: Apache-2.0
//! Who uses a block device, and what tells it from others: sysfs (kernel `Documentation/ABI/stable/sysfs-block`), the table of mounts, `/proc/swaps`.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};

use crate::host::mount;

/// Where sysfs has a device, all links followed.
fn directory(node: &Path) -> io::Result<PathBuf> {
    let number = fs::metadata(node)?.rdev();
    fs::canonicalize(format!("/sys/dev/block/{}:{}", major(number), minor(number)))
}

/// The name of a device from the name of its folder in sysfs, where `!` stands for `/`.
fn name(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    format!("/dev/{}", name.replace('!', "/"))
}

/// The text of a file in sysfs; empty if there is none.
fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The devices that are made of this one.
fn holders(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory.join("holders")) else { return Vec::new() };
    let mut holders: Vec<_> = entries.flatten().map(|entry| name(&entry.path())).collect();
    holders.sort();
    holders
}

/// The array that a device is part of now.
pub fn array(node: &Path) -> Option<String> {
    holders(&directory(node).ok()?).into_iter().find(|holder| holder.starts_with("/dev/md"))
}

/// Who uses a device or one of its partitions.
///
/// # Errors
/// Whatever the operating system says.
pub fn users(node: &Path) -> io::Result<Vec<String>> {
    let directory = directory(node)?;
    let mounts = mount::table()?;
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let mut by = Vec::new();
    let mut look = |directory: &Path, whose: &str| -> io::Result<()> {
        by.extend(holders(directory).into_iter().map(|holder| format!("{whose}part of {holder}")));
        let number = text(&directory.join("dev"));
        let is_it = |path: &str| {
            path.starts_with('/')
                && fs::metadata(path).is_ok_and(|found| {
                    let rdev = found.rdev();
                    found.file_type().is_block_device() && number == format!("{}:{}", major(rdev), minor(rdev))
                })
        };
        for mount in mounts.iter().filter(|mount| is_it(&mount.source)) {
            by.push(format!("{whose}mounted at {}", mount.point.display()));
        }
        let swaps = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        if swaps.into_iter().any(is_it) {
            by.push(format!("{whose}used as swap"));
        }
        Ok(())
    };
    look(&directory, "")?;
    for entry in fs::read_dir(&directory)?.flatten() {
        if entry.path().join("partition").exists() {
            look(&entry.path(), &format!("with its partition {} ", name(&entry.path())))?;
        }
    }
    Ok(by)
}

/// What tells a device from those of other machines: the serial number or world-wide name of its disk, and the number of the
/// partition. Empty when the disk has neither.
pub fn identity(node: &Path) -> String {
    let Ok(directory) = directory(node) else { return String::new() };
    let partition = text(&directory.join("partition"));
    let disk = if partition.is_empty() { Some(directory.as_path()) } else { directory.parent() };
    let names = ["wwid", "device/wwid", "serial", "device/serial", "dm/uuid", "md/uuid"];
    let found = names.iter().filter_map(|name| Some(text(&disk?.join(name)))).find(|found| !found.is_empty());
    match found {
        Some(found) if partition.is_empty() => found,
        Some(found) => format!("{found} {partition}"),
        None => String::new(),
    }
}

/// Whether a device is an array that is there and running.
pub fn runs(array: &Path) -> bool {
    directory(array).is_ok_and(|directory| {
        let state = text(&directory.join("md/array_state"));
        !matches!(state.as_str(), "" | "clear" | "inactive")
    })
}
