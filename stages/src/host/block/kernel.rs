// SPDX-License-Identifier: Apache-2.0
//! The partitions as the kernel knows them.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fledge_core::gpt::{Geometry, Table};

use super::blkpg::{Operation, change};
use super::{Entry, device, uses};
use crate::host::device::usage::{node, text};

/// A partition that the kernel knows or is to know; places in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wanted {
    /// Its number.
    pub number: u32,
    /// Where it begins.
    pub start: u64,
    /// How long it is.
    pub length: u64,
}

/// The partitions of a disk that the kernel knows, in any order.
pub(super) fn partitions(disk: &Entry) -> io::Result<Vec<(Wanted, PathBuf)>> {
    let mut found = Vec::new();
    for folder in fs::read_dir(&disk.sys)? {
        let sys = folder?.path();
        let value = |file: &str| text(&sys.join(file)).parse::<u64>().ok();
        if let (Some(number), Some(start), Some(size)) = (value("partition"), value("start"), value("size")) {
            let number = u32::try_from(number).unwrap_or_default();
            // Always in units of 512 bytes.
            found.push((Wanted { number, start: start << 9, length: size << 9 }, sys.clone()));
        }
    }
    Ok(found)
}

impl Wanted {
    /// What a table makes the kernel's partitions.
    pub fn of(table: Option<&Table>, geometry: Geometry) -> Vec<Self> {
        let partitions = table.map(|table| table.partitions.as_slice()).unwrap_or_default();
        let bytes = |sectors: u64| sectors.saturating_mul(u64::from(geometry.sector));
        let wanted = |partition: &fledge_core::gpt::Partition| Self {
            number: partition.number,
            start: bytes(partition.start),
            length: bytes(partition.size()),
        };
        partitions.iter().map(wanted).collect()
    }
}

/// How long a partition may be in use by who only looks at it, as blkid does.
const GLANCE: Duration = Duration::from_secs(2);

fn patiently(change: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match change() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && start.elapsed() < GLANCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            result => return result,
        }
    }
}

impl Entry {
    /// Tells the kernel of partitions that aren't there yet, any longer, or in this size. Others stay untouched, mounted ones
    /// too. Says whether there was anything to tell.
    ///
    /// # Errors
    /// With the node of the partition, and what the operating system says.
    pub fn tell(&self, disk: &File, wanted: &[Wanted]) -> Result<bool, (String, io::Error)> {
        if self.mapped().is_some() {
            return Ok(false);
        }
        let known = partitions(self).map_err(|error| (node(&self.sys), error))?;
        let mut calls = Vec::new();
        for (partition, _) in &known {
            match wanted.iter().find(|other| other.number == partition.number) {
                Some(other) if other == partition => {}
                Some(other) if other.start == partition.start => {
                    // What becomes smaller makes room for what becomes larger.
                    let order = if other.length < partition.length { 1 } else { 2 };
                    calls.push((order, Operation::Resize, *other));
                }
                _ => calls.push((0, Operation::Delete, *partition)),
            }
        }
        for partition in wanted {
            let there =
                |other: &(Wanted, PathBuf)| other.0.number == partition.number && other.0.start == partition.start;
            if !known.iter().any(there) {
                calls.push((3, Operation::Add, *partition));
            }
        }
        for turn in 0..4 {
            for (_, operation, Wanted { number, start, length }) in calls.iter().filter(|(order, ..)| *order == turn) {
                patiently(|| change(disk, *operation, *number, *start, *length))
                    .map_err(|error| (self.partition(*number), error))?;
            }
        }
        Ok(!calls.is_empty())
    }

    /// The node that a partition has.
    pub fn partition(&self, number: u32) -> String {
        if let Some(name) = self.mapped() {
            let parts = uses::partitions(&self.sys);
            // One that isn't there yet has no node that could be told before.
            return match parts.iter().find(|(other, _)| *other == number) {
                Some((_, sys)) => node(sys),
                None => format!("/dev/disk/by-id/dm-name-{name}p{number}"),
            };
        }
        let disk = node(&self.sys);
        let p = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
        format!("{disk}{p}{number}")
    }

    /// What isn't yet as wanted, as the nodes of the partitions. Where partitions of device-mapper begin, sysfs doesn't say.
    fn amiss(&self, wanted: &[Wanted]) -> io::Result<Vec<String>> {
        let mut known: Vec<_> = partitions(self)?.into_iter().map(|(partition, _)| partition).collect();
        for (number, sys) in uses::partitions(&self.sys) {
            let size: u64 = text(&sys.join("size")).parse().unwrap_or_default();
            let start = wanted.iter().find(|partition| partition.number == number);
            let start = start.map(|partition| partition.start).unwrap_or_default();
            known.push(Wanted { number, start, length: size << 9 });
        }
        let there =
            |partition: &&Wanted| known.contains(partition) && device::is_there(&self.partition(partition.number));
        let missing = wanted.iter().filter(|partition| !there(partition)).map(|partition| partition.number);
        let left = known.iter().map(|partition| partition.number);
        let left = left.filter(|number| !wanted.iter().any(|partition| partition.number == *number));
        Ok(missing.chain(left).map(|number| self.partition(number)).collect())
    }
}

/// Waits until all partitions have their nodes and others have none. Gives those of which that can't be said when the time is over.
///
/// # Errors
/// Whatever the operating system says.
pub fn wait(disk: &Entry, wanted: &[Wanted], patience: Duration) -> io::Result<Vec<String>> {
    let deadline = Instant::now() + patience;
    loop {
        let amiss = disk.amiss(wanted)?;
        if amiss.is_empty() || Instant::now() >= deadline {
            return Ok(amiss);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
