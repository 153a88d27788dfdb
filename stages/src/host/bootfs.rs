// SPDX-License-Identifier: Apache-2.0
//! The boot file system, mounted where nobody else sees it, and its boot entries.
//!
//! It is mounted without a place in the tree (fsmount(2)): only this process reaches it, and it is unmounted when the last
//! descriptor is closed, however the process ends. That matters beyond tidiness: a bootloader doesn't replay a journal, so what was
//! changed is there for it only once the file system was unmounted.

mod records;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fledge_core::bls::{Entry, is_entry};
use fledge_core::diag::Failure;
use rustix::fs::{Dir, Mode, OFlags, StatVfsMountFlags, fstat, fstatvfs, fsync, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, fspick,
};

use super::device;
use super::fs::{Attributes, Directory, Root, copy_extended_attributes};

/// File systems that a boot file system may have, the likeliest first. A type is never guessed from more than this list.
pub const TYPES: [&str; 4] = ["ext4", "xfs", "vfat", "btrfs"];
/// Where a distribution has it.
pub const DEVICE: &str = fledge_core::boot_mount::LABELLED;

const ENTRIES: &str = "/loader/entries";
/// No boot entry is anywhere near as long.
const LIMIT: u64 = 1 << 20;

/// Where the boot file system is.
#[derive(Clone, Debug)]
pub enum Place {
    /// On this device.
    Device(PathBuf),
    /// Mounted here.
    Mounted(PathBuf),
}

impl Default for Place {
    fn default() -> Self {
        Self::Device(DEVICE.into())
    }
}

/// The boot file system.
#[derive(Debug)]
pub struct BootFs {
    root: Root,
}

/// A boot entry of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BootEntry {
    /// The file's name.
    pub name: String,
    /// What it holds.
    pub entry: Entry,
}

impl BootFs {
    /// Opens it, waiting for its device for a while. Reading alone changes nothing on the disk, unless a journal has to be replayed.
    ///
    /// # Errors
    /// The device doesn't appear, or can't be mounted.
    pub fn open(place: &Place, writable: bool) -> Result<Self, Failure> {
        Self::open_within(device::PATIENCE, place, writable)
    }

    /// As [`Self::open`], for who wants to wait for another time.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_within(patience: Duration, place: &Place, writable: bool) -> Result<Self, Failure> {
        let root = match place {
            Place::Mounted(path) => Root::open(path)
                .map_err(|error| Failure::new(format!("opening {}", path.display()), error.to_string()))?,
            Place::Device(device) => mount(device, writable, patience)?,
        };
        Ok(Self { root })
    }

    /// Its root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The boot entries, in the order of their names: with OSTree, the last one is the default.
    ///
    /// # Errors
    /// There is none, or one can't be read or is no text.
    pub fn entries(&self) -> Result<Vec<BootEntry>, Failure> {
        let (entries, odd) = self.readable_entries()?;
        odd.into_iter().next().map_or(Ok(entries), Err)
    }

    /// As [`Self::entries`], for who can do with those that can be read: the others come as what is wrong with each.
    ///
    /// # Errors
    /// There is none that can be read, or the folder can't be.
    pub fn readable_entries(&self) -> Result<(Vec<BootEntry>, Vec<Failure>), Failure> {
        let failure = |what: String, why: String| {
            Failure::new(what, why).remedy(
                "check the files loader/entries/*.conf of the boot file system; the bootloader of this system must use such entries",
            )
        };
        let reading = |error: io::Error| failure("reading the boot entries".into(), error.to_string());
        let directory = self.root.directory(ENTRIES).map_err(reading)?;
        let (mut entries, mut odd): (Vec<BootEntry>, Vec<Failure>) = (Vec::new(), Vec::new());
        for found in Dir::read_from(&directory).map_err(|error| reading(error.into()))? {
            let found = found.map_err(|error| reading(error.into()))?;
            let Ok(name) = found.file_name().to_str() else { continue };
            if !is_entry(name) {
                continue;
            }
            let text = match text(&directory, name) {
                Ok(text) => text,
                Err(error) => {
                    odd.push(failure(format!("reading the boot entry {name}"), error.to_string()));
                    continue;
                }
            };
            let place = entries.partition_point(|entry| entry.name.as_str() < name);
            entries.insert(place, BootEntry { name: name.to_owned(), entry: Entry::new(text) });
        }
        if entries.is_empty() {
            let none = || failure("reading the boot entries".into(), "the boot file system has none".into());
            return Err(odd.into_iter().next().unwrap_or_else(none));
        }
        Ok((entries, odd))
    }

    /// Opens a kernel or an image of an initramfs that an entry names. Paths are those of the boot file system; where `/boot` is a folder of
    /// the root file system, OSTree puts it before them.
    ///
    /// # Errors
    /// It isn't there, is no regular file, or whatever the operating system says.
    pub fn image(&self, path: &str) -> io::Result<File> {
        let not_found = || io::Error::new(io::ErrorKind::NotFound, format!("there is no {path}"));
        match (self.root.file(path)?, path.strip_prefix("/boot/")) {
            (Some(file), _) => Ok(file),
            (None, Some(below)) => self.root.file(below)?.ok_or_else(not_found),
            (None, None) => Err(not_found()),
        }
    }

    /// Gives an entry a new text, at once and for good: with its owner, its mode and its label, on the disk when this returns.
    ///
    /// # Errors
    /// Whatever the operating system says; the old entry stands then.
    pub fn replace_entry(&self, name: &str, entry: &Entry) -> Result<(), Failure> {
        let failure = |error: io::Error| {
            Failure::new(format!("writing the boot entry {name}"), error.to_string())
                .remedy("check that the boot file system has room and can be written")
        };
        let replace = || {
            let directory = self.root.directory(ENTRIES)?;
            let old = directory.file(name)?.ok_or(io::ErrorKind::NotFound)?;
            let stat = fstat(&old)?;
            let attributes =
                Attributes { mode: Some(stat.st_mode & 0o7777), uid: Some(stat.st_uid), gid: Some(stat.st_gid) };
            put(&directory, name, entry.text().as_bytes(), attributes, Some(&old))
        };
        replace().map_err(failure)
    }

    /// Writes a file of root's that all may read, in a folder that is there and with that folder's label, at once and for good.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn write_readable(&self, path: &str, bytes: &[u8]) -> Result<(), Failure> {
        let write = || {
            let (above, name) = fledge_core::path::split(path).ok_or(Errno::INVAL)?;
            let directory = self.root.directory(if above.is_empty() { "/" } else { above })?;
            let like = File::from(openat(
                &directory,
                ".",
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?);
            put(&directory, name, bytes, Attributes::default().or(0, 0, 0o644), Some(&like))
        };
        write().map_err(|error: io::Error| {
            Failure::new(format!("writing {path} on the file system {}", self.root.path().display()), error.to_string())
                .remedy("check that this file system has room and can be written")
        })
    }

    /// Writes a file of root's, mode 0600, at once and for good; folders that it needs get 0700.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<(), Failure> {
        let write = || {
            let (above, name) = fledge_core::path::split(path).ok_or(Errno::INVAL)?;
            let folder = Attributes::default().or(0, 0, 0o700);
            let directory = self.root.directory("/")?.make_beneath(above.trim_start_matches('/'), folder)?;
            put(&directory, name, bytes, Attributes::default().or(0, 0, 0o600), None)
        };
        write().map_err(|error: io::Error| {
            Failure::new(format!("writing {path} on the boot file system"), error.to_string())
                .remedy("check that the boot file system has room and can be written")
        })
    }
}

fn text(directory: &Directory, name: &str) -> io::Result<String> {
    let mut text = String::new();
    let file = directory.file(name)?.ok_or(io::ErrorKind::NotFound)?;
    file.take(LIMIT).read_to_string(&mut text)?;
    if text.len() as u64 == LIMIT { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

/// One fsync of the file before it gets its name, one of the directory after: whatever happens, the name stands for a whole file.
fn put(directory: &Directory, name: &str, bytes: &[u8], attributes: Attributes, like: Option<&File>) -> io::Result<()> {
    let temporary = directory.temporary()?;
    temporary.file().write_all(bytes)?;
    if let Some(like) = like {
        copy_extended_attributes(&temporary, like)?;
    }
    temporary.file().sync_all()?;
    directory.place(temporary, name, attributes, true)?;
    Ok(fsync(directory)?)
}

fn mount(device: &Path, writable: bool, patience: Duration) -> Result<Root, Failure> {
    let failure = |why: String| {
        Failure::new(format!("mounting the boot file system {}", device.display()), why).remedy(
            "check that the disk has a file system with the label \"boot\", and that the initramfs has its driver",
        )
    };
    let name = device.to_string_lossy().into_owned();
    device::wait(&[name].into(), patience);
    if !device.exists() {
        return Err(failure("it did not appear".into()));
    }
    for kind in TYPES {
        match mount_patiently(device, kind, writable) {
            Ok(root) => return Ok(root),
            // No such file system here, or no driver for it.
            Err(Errno::INVAL | Errno::NODEV) => {}
            Err(error) => return Err(failure(format!("as {kind}: {error}"))),
        }
    }
    Err(failure(format!("it is none of {}", TYPES.join(", "))))
}

/// Who looked at it read-only lets go of it soon: a program that was started meanwhile holds on to it until it runs.
fn mount_patiently(device: &Path, kind: &str, writable: bool) -> rustix::io::Result<Root> {
    const TRIES: u32 = 20;
    let mut tries = 0;
    loop {
        match mount_as(device, kind, writable) {
            Err(Errno::BUSY) if tries < TRIES => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            result => return result,
        }
    }
}

fn mount_as(device: &Path, kind: &str, writable: bool) -> rustix::io::Result<Root> {
    let context = match make(device, kind, writable) {
        // The kernel has one state for all mounts of a file system: it is mounted elsewhere with the other one. Who asked to read gets
        // a mount that can only be read from all the same.
        Err(Errno::BUSY) => make(device, kind, !writable)?,
        context => context?,
    };
    let mut attributes =
        MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    if !writable {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let mounted = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    if writable && fstatvfs(&mounted)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        // The other mount stays as it is.
        let whole = fspick(&mounted, "", FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH)?;
        fsconfig_set_flag(whole.as_fd(), "rw")?;
        fsconfig_reconfigure(whole.as_fd())?;
    }
    let path = format!("/proc/self/fd/{}", mounted.as_raw_fd());
    Ok(Root::at(mounted, path.into()))
}

fn make(device: &Path, kind: &str, writable: bool) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", device)?;
    if !writable {
        fsconfig_set_flag(context.as_fd(), "ro")?;
    }
    fsconfig_create(context.as_fd())?;
    Ok(context)
}
