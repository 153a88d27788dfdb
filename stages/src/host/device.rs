// SPDX-License-Identifier: Apache-2.0
//! Block devices: waiting for them, telling what they hold, and naming those that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;
use std::time::{Duration, Instant};

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::facts::{Device, Signature, Superblock};
use fledge_core::signature;

use super::cmd;

pub mod udev;
pub mod usage;

/// How long a device is waited for, as systemd does; slow controllers take their time.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// After how long the console is told that a device is waited for, and again each time that it took three times as long.
const SILENCE: Duration = Duration::from_secs(10);

/// How long devices are waited for on this boot: the operator may tell systemd, in seconds.
pub fn patience(cmdline: &Cmdline) -> Duration {
    let said = cmdline.value("systemd.default_device_timeout_sec");
    let seconds = said.and_then(|said| said.trim_end_matches('s').parse().ok());
    seconds.map_or(PATIENCE, Duration::from_secs)
}

/// Waits until all devices are there, or the time is over.
pub fn wait(devices: &BTreeSet<String>, patience: Duration) {
    wait_and_tell(devices, patience, SILENCE, &mut |line| log::warn!("{line}"));
}

fn wait_and_tell(devices: &BTreeSet<String>, patience: Duration, silence: Duration, tell: &mut dyn FnMut(String)) {
    let missing = || devices.iter().find(|device| !is_there(device));
    let Some(first) = missing() else { return };
    log::info!("waiting up to {} s for the device {first}", patience.as_secs());
    let (start, mut next) = (Instant::now(), silence);
    settle(patience.min(silence));
    while let Some(device) = missing() {
        let waited = start.elapsed();
        if waited >= patience {
            return;
        }
        if waited >= next {
            let (waited, patience) = (waited.as_secs(), patience.as_secs());
            tell(format!("waiting for the device {device} since {waited} s, for up to {patience} s"));
            next *= 3;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until udev has looked at all that the kernel found, or the time is over.
pub fn settle(patience: Duration) {
    let seconds = format!("--timeout={}", patience.as_secs().max(1));
    if let Err(failure) = cmd::output(cmd::UDEVADM, &["settle".into(), (&seconds).into()]) {
        log::warn!("{failure}");
    }
}

/// Whether there is a block device of that name.
pub fn is_there(device: &str) -> bool {
    fs::metadata(device).is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// What is known about a device.
///
/// # Errors
/// It is there but can't be read.
pub fn look(device: &str) -> io::Result<Device> {
    if !is_there(device) {
        return Ok(Device::default());
    }
    let node = fs::canonicalize(device)?;
    let mut signatures = signatures(&node)?.into_iter();
    Ok(Device {
        present: true,
        signature: signatures.next(),
        others: signatures.collect(),
        users: usage::users(&node)?,
        identity: usage::identity(&node),
        superblock: superblock(&node)?,
        array: usage::array(&node),
        node: node.to_string_lossy().into_owned(),
    })
}

/// The same with a second opinion on what looks empty. libblkid knows more formats than [`signature::identify`], and what it finds would
/// be destroyed by what is made there.
///
/// # Errors
/// The device is there and can't be read, or `wipefs` can't be asked: nobody knows then what it holds.
pub fn examine(device: &str) -> Result<Device, Failure> {
    let reading = |error: io::Error| unreadable(device, &error);
    let mut found = look(device).map_err(reading)?;
    if found.present && found.signature.is_none() {
        let ours = read_by(Path::new(&found.node), signature::unfinished).map_err(reading)?;
        let mut known = listed(Path::new(&found.node), ours)?.into_iter();
        found.signature = known.next();
        found.others = known.collect();
    }
    Ok(found)
}

/// What libblkid finds on a device or in a file, but for partition tables and the unfinished format.
fn listed(path: &Path, unfinished: Option<&str>) -> Result<Vec<Signature>, Failure> {
    let lines = cmd::run(cmd::WIPEFS, &["--no-act".into(), "--parsable".into(), path.into()])?.stdout;
    let known = lines.lines().filter_map(listed_signature).filter(|known| unfinished != Some(known.format.as_str()));
    Ok(known.collect())
}

/// The failure for a device that is there and can't be read.
pub fn unreadable(device: &str, error: &io::Error) -> Failure {
    Failure::new(format!("reading the device {device}"), error.to_string()).remedy(SEE_KERNEL)
}

/// What to do when a device doesn't do as it is told.
pub const SEE_KERNEL: &str = "see what the kernel says about it in the journal; another device may be needed";

/// Partition tables; like Ignition, this leaves it to the kernel and to whoever uses the partitions to keep them.
const TABLES: [&str; 10] = ["gpt", "PMBR", "dos", "bsd", "mac", "sgi", "sun", "atari", "ultrix", "unixware"];

/// A line of `wipefs --parsable`: offset, UUID, label, type.
fn listed_signature(line: &str) -> Option<Signature> {
    let (offset, rest) = line.split_once(',')?;
    let (uuid, rest) = rest.split_once(',')?;
    let (label, format) = rest.rsplit_once(',')?;
    let counts = !offset.starts_with('#') && !TABLES.contains(&format);
    counts.then(|| Signature { format: format.into(), label: label.into(), uuid: uuid.into() })
}

/// What a device or a file holds; see [`signature::identify`].
///
/// # Errors
/// Whatever the operating system says.
pub fn signatures(path: &Path) -> io::Result<Vec<Signature>> {
    read_by(path, signature::identify)
}

/// What a device says about the array that it is part of; see [`signature::superblock`].
///
/// # Errors
/// Whatever the operating system says.
pub fn superblock(path: &Path) -> io::Result<Option<Superblock>> {
    read_by(path, signature::superblock)
}

/// The array whose metadata stand at the end of a disk; see [`signature::at_end`].
///
/// # Errors
/// Whatever the operating system says.
pub fn at_end(path: &Path) -> io::Result<Option<&'static str>> {
    read_by(path, signature::at_end)
}

fn read_by<T>(path: &Path, look: fn(u64, signature::Read<'_>) -> T) -> io::Result<T> {
    let mut file = File::open(path)?;
    let size = file.seek(SeekFrom::End(0))?;
    reading(&file, |read| look(size, read))
}

/// What is made of parts of a file or device: `look` asks for them by offset and length, and gets none behind the end.
///
/// # Errors
/// Whatever the operating system says about one of them.
pub fn reading<T>(file: &File, look: impl FnOnce(signature::Read<'_>) -> T) -> io::Result<T> {
    let mut failed = None;
    let found = look(&mut |offset, len| {
        let mut bytes = vec![0; len];
        match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => {
                failed.get_or_insert(error);
                None
            }
        }
    });
    failed.map_or(Ok(found), Err)
}

/// The block devices that are there, a line each: name, size, and the labels by which udev names them.
pub fn list() -> Vec<String> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (kind, words) in [("by-label", "label"), ("by-partlabel", "partition label")] {
        let Ok(links) = fs::read_dir(Path::new("/dev/disk").join(kind)) else { continue };
        for link in links.flatten() {
            let target = link.path().canonicalize().unwrap_or_default();
            let label = format!("{words} {}", link.file_name().to_string_lossy());
            names.entry(target.to_string_lossy().into_owned()).or_default().push(label);
        }
    }
    let Ok(entries) = fs::read_dir("/sys/class/block") else { return Vec::new() };
    let lines = entries.flatten().filter_map(|entry| {
        let sectors: u64 = fs::read_to_string(entry.path().join("size")).ok()?.trim().parse().ok()?;
        let device = format!("/dev/{}", entry.file_name().to_string_lossy());
        let mut line = format!("{device} ({} MiB", sectors / 2048);
        for label in names.get(&device).into_iter().flatten() {
            line.push_str(", ");
            line.push_str(label);
        }
        line.push(')');
        (sectors > 0).then_some(line)
    });
    let mut sorted = BTreeSet::new();
    for line in lines {
        sorted.insert(line);
    }
    sorted.into_iter().collect()
}

#[cfg(test)]
mod tests;
