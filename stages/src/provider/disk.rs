// SPDX-License-Identifier: Apache-2.0
//! A configuration in a file on a disk that the kernel command line names by the label of its file system.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use fledge_core::diag::Failure;

use super::{Raw, Surroundings, read_text};
use crate::host::{device, mount};

/// How long such a disk is waited for: upstream's time.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Where the file is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OnDisk {
    /// The file system's label.
    pub label: String,
    /// The file's path on it, with or without a slash at the beginning.
    pub path: String,
}

/// Reads the file. The file system is mounted read-only and where nobody sees it; links on it lead nowhere else.
///
/// # Errors
/// The disk didn't appear, holds no file system that the kernel knows, or no such file.
pub fn read(on_disk: &OnDisk, surroundings: &Surroundings) -> Result<Raw, Failure> {
    let OnDisk { label, path } = on_disk;
    let name = format!("{path} on the disk labelled {label}");
    let failed = |why: String| Failure::new(format!("reading the configuration {name}"), why);
    let link = surroundings.by_label.join(label);
    if !await_device(&link, surroundings.patience) {
        let there = device::list();
        let there = if there.is_empty() {
            "there are none".into()
        } else {
            format!("there are:\n    {}", there.join("\n    "))
        };
        return Err(failed(format!(
            "no disk of that label appeared within {} s; {there}",
            surroundings.patience.as_secs()
        ))
        .remedy("correct ignition.config.device=, or label the file system"));
    }
    let device = link.canonicalize().map_err(|error| failed(error.to_string()))?;
    let mounted = formats(&device)
        .and_then(|formats| mount::detached(&device, &formats))
        .map_err(|error| failed(format!("{} can't be mounted: {error}", device.display())))?;
    match mounted.open_file(path).and_then(read_text) {
        Ok(text) => Ok(Raw { name, text }),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(failed(error.to_string())),
        Err(error) => Err(failed(error.to_string()).remedy("correct ignition.config.path=, or put the file there")),
    }
}

fn await_device(link: &Path, patience: Duration) -> bool {
    let mut devices = BTreeSet::new();
    devices.extend(link.to_str().map(str::to_owned));
    device::wait(&devices, patience);
    link.to_str().is_some_and(device::is_there)
}

/// What the device may be mounted as: what it says it holds, else all that the kernel knows.
fn formats(device: &Path) -> io::Result<Vec<String>> {
    let found = device::signatures(device)?;
    if let Some(first) = found.first() {
        // The driver of the youngest reads all three.
        let format = if matches!(first.format.as_str(), "ext2" | "ext3") { "ext4" } else { &first.format };
        return Ok(vec![format.into()]);
    }
    let known = fs::read_to_string("/proc/filesystems")?;
    Ok(known.lines().filter_map(|line| line.strip_prefix('\t')).map(Into::into).collect())
}
