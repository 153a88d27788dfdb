// SPDX-License-Identifier: Apache-2.0
//! Who uses a block device, and what tells it from others: sysfs (kernel `Documentation/ABI/stable/sysfs-block`), the table of mounts, `/proc/swaps`.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};

use crate::host::mount;

/// The kernel's numbers of a block device, as sysfs writes them.
fn numbers(node: &Path) -> io::Result<String> {
    let metadata = fs::metadata(node)?;
    if !metadata.file_type().is_block_device() {
        return Err(io::Error::other(format!("{} is no block device", node.display())));
    }
    Ok(format!("{}:{}", major(metadata.rdev()), minor(metadata.rdev())))
}

/// Where sysfs has a device, all links followed.
///
/// # Errors
/// It isn't there, or is no block device.
pub fn directory(node: &Path) -> io::Result<PathBuf> {
    Path::new("/sys/dev/block").join(numbers(node)?).canonicalize()
}

/// The node of a device from its folder in sysfs, whose name has `!` for `/`.
pub fn node(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    format!("/dev/{}", name.replace('!', "/"))
}

/// The text of a file in sysfs; empty if there is none.
pub fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The devices in a folder of links of a device: `holders` are made of it, `slaves` it is made of.
pub fn linked(directory: &Path, kind: &str) -> Vec<String> {
    let entries = fs::read_dir(directory.join(kind)).into_iter().flatten().flatten();
    let mut nodes: Vec<_> = entries.map(|entry| node(&entry.path())).collect();
    nodes.sort();
    nodes
}

/// The array that a device is part of now.
pub fn array(node: &Path) -> Option<String> {
    linked(&directory(node).ok()?, "holders").into_iter().find(|holder| holder.starts_with("/dev/md"))
}

/// Who may use devices: what is mounted and swapped to now, by the kernel's numbers.
#[derive(Debug)]
pub struct Users(Vec<(String, String)>);

impl Users {
    /// Looks for them.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn look() -> io::Result<Self> {
        let mut users = Vec::new();
        let mut add = |source: &str, how: String| {
            if let Some(numbers) = source.starts_with('/').then(|| numbers(Path::new(source)).ok()).flatten() {
                users.push((numbers, how));
            }
        };
        for mount in mount::table()? {
            add(&mount.source, format!("mounted at {}", mount.point.display()));
        }
        // Kernels without swap have no such file.
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        for source in swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()) {
            add(source, "used as swap".into());
        }
        Ok(Self(users))
    }

    /// Who uses a device alone, without its partitions: a clause each.
    pub fn of(&self, directory: &Path) -> Vec<String> {
        let numbers = text(&directory.join("dev"));
        let others = self.0.iter().filter(|(used, _)| *used == numbers).map(|(_, how)| how.clone());
        linked(directory, "holders").into_iter().map(|holder| format!("part of {holder}")).chain(others).collect()
    }
}

/// Who uses a device or one of its partitions.
///
/// # Errors
/// Whatever the operating system says.
pub fn users(device: &Path) -> io::Result<Vec<String>> {
    let directory = directory(device)?;
    let users = Users::look()?;
    let mut by = users.of(&directory);
    for entry in fs::read_dir(&directory)?.flatten() {
        let part = entry.path();
        if part.join("partition").exists() {
            by.extend(users.of(&part).into_iter().map(|how| format!("with its partition {} {how}", node(&part))));
        }
    }
    Ok(by)
}

/// The serial numbers and world-wide names that a disk has.
pub fn serials(directory: &Path) -> Vec<String> {
    let names = ["wwid", "device/wwid", "serial", "device/serial", "dm/uuid", "md/uuid"];
    names.iter().map(|name| text(&directory.join(name))).filter(|found| !found.is_empty()).collect()
}

/// What tells a device from those of other machines: the serial number or world-wide name of its disk, and the number of the
/// partition. Empty when the disk has neither.
pub fn identity(node: &Path) -> String {
    let Ok(directory) = directory(node) else { return String::new() };
    let partition = text(&directory.join("partition"));
    let disk = if partition.is_empty() { Some(directory.as_path()) } else { directory.parent() };
    match disk.and_then(|disk| serials(disk).into_iter().next()) {
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
