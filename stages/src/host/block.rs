// SPDX-License-Identifier: Apache-2.0
//! Whole disks: what they hold, what uses them, writing their partition tables, and telling the kernel.

mod blkpg;
mod kernel;
mod uses;

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fledge_core::facts;
use fledge_core::gpt::{self, Found, Geometry, Region, Table};
use fledge_core::plan::partitions::Mbr;
use rustix::fs::{FlockOperation, flock};

use super::device::{self, usage};
use super::dmi;
pub use kernel::{Wanted, wait};

/// A disk as `/sys` has it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its node, without symbolic links.
    pub node: PathBuf,
    /// Its folder.
    sys: PathBuf,
}

impl Entry {
    /// The entry of a block device.
    ///
    /// # Errors
    /// It isn't there, or `/sys` doesn't know it.
    pub fn of(device: &str) -> io::Result<Self> {
        let node = Path::new(device).canonicalize()?;
        let sys = usage::directory(&node)?;
        Ok(Self { node, sys })
    }

    /// The name that device-mapper has for it, if it is one of its devices. The kernel doesn't see to the partitions of these.
    fn mapped(&self) -> Option<String> {
        Some(usage::text(&self.sys.join("dm/name"))).filter(|name| !name.is_empty())
    }

    /// What tells the disk from others, in this and other machines.
    fn identity(&self) -> String {
        let mut identity = usage::serials(&self.sys);
        identity.extend(Some(dmi::product_uuid()).filter(|uuid| !uuid.is_empty()));
        identity.join(" ")
    }
}

/// What is known about a disk; nothing if there is no block device of that name.
///
/// # Errors
/// It is there but can't be read.
pub fn look(device: &str) -> io::Result<Option<facts::Disk>> {
    if !device::is_there(device) {
        return Ok(None);
    }
    let entry = Entry::of(device)?;
    let file = File::open(&entry.node)?;
    let geometry = geometry(&file)?;
    let part_of = entry.sys.parent().filter(|_| entry.sys.join("partition").exists()).map(usage::node);
    let mut holds = holds(&file, geometry)?;
    if holds == Found::Nothing && part_of.is_none() && !kernel::partitions(&entry)?.is_empty() {
        holds = Found::Broken("the kernel sees partitions, and their table is of another kind".into());
    }
    Ok(Some(facts::Disk {
        device: device.to_owned(),
        node: entry.node.to_string_lossy().into_owned(),
        sector: geometry.sector,
        sectors: geometry.sectors,
        read_only: usage::text(&entry.sys.join("ro")) == "1",
        part_of,
        identity: entry.identity(),
        holds,
        uses: uses::of(&entry)?,
    }))
}

/// The size of a block device, or of a file as if it were one with sectors of 512 bytes.
///
/// # Errors
/// Whatever the operating system says.
pub fn geometry(mut file: &File) -> io::Result<Geometry> {
    let sector = rustix::fs::ioctl_blksszget(file.as_fd()).unwrap_or(512).max(1);
    let size = file.seek(SeekFrom::End(0))?;
    Ok(Geometry { sector, sectors: size / u64::from(sector) })
}

/// The partition table of a disk or of an image of one.
///
/// # Errors
/// Whatever the operating system says.
pub fn holds(file: &File, geometry: Geometry) -> io::Result<Found> {
    device::reading(file, |read| gpt::read(geometry, read))
}

/// Opens a disk for writing and keeps udev from looking at it meanwhile.
///
/// # Errors
/// Whatever the operating system says.
pub fn open(node: &Path, patience: Duration) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(node)?;
    // The lock that systemd's "Locking Block Device Access" describes; who ignores it goes on.
    let deadline = Instant::now() + patience;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(file)
}

/// Makes the bytes of a table those on the disk; `None` stands for no table. Says whether any differed.
///
/// Each part is safe before the next is begun: the second copy, the first, the MBR.
///
/// # Errors
/// Whatever the operating system says.
pub fn write(file: &File, geometry: Geometry, table: Option<&Table>, mbr: Mbr) -> io::Result<bool> {
    let Some(table) = table else { return ensure(file, &gpt::blank(geometry)) };
    let mut changed = false;
    for part in table.render(geometry) {
        changed |= ensure(file, &[part])?;
    }
    let mut old = [0; 512];
    if mbr == Mbr::Protective {
        file.read_exact_at(&mut old, 0)?;
    }
    if mbr != Mbr::Keep {
        changed |= ensure(file, &[Region { offset: 0, bytes: gpt::protective(geometry, &old) }])?;
    }
    Ok(changed)
}

/// Erases some bytes of a disk, and waits until that is safe.
///
/// # Errors
/// Whatever the operating system says.
pub fn erase(disk: &File, start: u64, len: u64) -> io::Result<()> {
    let bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    ensure(disk, &[Region { offset: start, bytes }]).map(drop)
}

/// Writes the regions that differ, and waits until they are safe.
fn ensure(file: &File, regions: &[Region]) -> io::Result<bool> {
    let mut changed = false;
    for region in regions {
        let mut there = vec![0; region.bytes.len()];
        file.read_exact_at(&mut there, region.offset)?;
        if there != region.bytes {
            file.write_all_at(&region.bytes, region.offset)?;
            changed = true;
        }
    }
    if changed {
        file.sync_all()?;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests;
