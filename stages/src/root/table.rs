// SPDX-License-Identifier: Apache-2.0
//! Writing the partition table of the boot disk, which is in use, and telling the kernel.

use std::fs::File;
use std::io;
use std::time::Duration;

use fledge_core::diag::Failure;
use fledge_core::gpt::Table;
use fledge_core::plan::partitions::Mbr;

use super::SEE_DISK;
use crate::host::block::{self, Entry, Wanted};
use crate::host::device::udev;

const LOCK: Duration = Duration::from_secs(10);
const NODES: Duration = Duration::from_secs(30);

/// Writes it, tells the kernel of partitions that have changed, and waits until all have their nodes. Says whether anything had to change.
/// `first` are bytes of no partition that are erased before: where they begin, and how many.
pub(super) fn write(disk: &str, table: &Table, hybrid: bool, first: Option<(u64, u64)>) -> Result<bool, Failure> {
    let failure = |why: String| Failure::new(format!("writing the partition table of {disk}"), why).remedy(SEE_DISK);
    let failed = |error: io::Error| failure(error.to_string());
    let entry = Entry::of(disk).map_err(failed)?;
    // udev has the kernel read a table anew that was written, and all partitions go and come again: systemd then stops what it has
    // begun with the root's device. Not while one of them is open.
    let held = table.partitions.iter().find_map(|partition| File::open(entry.partition(partition.number)).ok());
    let file = block::open(&entry.node, LOCK).map_err(failed)?;
    let geometry = block::geometry(&file).map_err(failed)?;
    if let Some((start, len)) = first {
        block::erase(&file, start, len).map_err(failed)?;
    }
    let mbr = if hybrid { Mbr::Keep } else { Mbr::Protective };
    let written = block::write(&file, geometry, Some(table), mbr).map_err(failed)?;
    let wanted = Wanted::of(Some(table), geometry);
    let told = entry.tell(&file, &wanted).map_err(|(node, error)| failure(format!("{node}: {error}")))?;
    drop(file);
    // What udev knows of the disk and its partitions has changed even where the kernel's view hasn't.
    udev::look_again(&entry.node)?;
    drop(held);
    let amiss = block::wait(&entry, &wanted, NODES).map_err(failed)?;
    if !amiss.is_empty() {
        return Err(failure(format!("the kernel or udev has no right node for {}", amiss.join(", "))));
    }
    Ok(written || told)
}
