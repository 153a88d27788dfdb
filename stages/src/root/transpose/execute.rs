// SPDX-License-Identifier: Apache-2.0
//! Carries the steps out.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::gpt::Found;
use fledge_core::root::transpose::{HALF, NOTE, Old, Part, Step, remedy_of_memory};
use fledge_core::root::{FileSystem, Kind};
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use super::{Kept, Places, WHAT};
use crate::host::bootfs::{BootFs, Place};
use crate::host::cmd::{self, Arg};
use crate::host::device::udev;
use crate::host::fs::Root;
use crate::host::tree::{self, Stopped, Totals, Way};
use crate::host::{block, device, mount, zram};
use crate::root::{SEE_DISK, identity, stack};

/// Bytes of the first sector that hold boot code; the rest of it is the partition table's.
const BOOT_CODE: usize = 440;
const BOOT_CODE_FILE: &str = "boot-code";
const MIB: u64 = 1 << 20;
/// What can hold a system; which of them a kernel and an initramfs have is the distribution's choice.
const FORMATS: [(&str, cmd::Tool, &[&str]); 2] = [
    ("xfs", cmd::MKFS_XFS, &["-q", "-f"]),
    ("ext4", cmd::MKFS_EXT4, &["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,nodiscard"]),
];

pub(super) struct Work<'w> {
    pub(super) kept: &'w mut Kept,
    pub(super) places: &'w Places,
    /// The file system that holds what is kept, while it is mounted.
    pub(super) store: Option<Root>,
}

/// The name of what is kept of a part.
const fn name(part: Part) -> &'static str {
    match part {
        Part::Root => "root",
        Part::Boot => "boot",
        Part::Esp => "esp",
        Part::Prep => "prep",
        Part::Bios => "bios",
    }
}

impl Work<'_> {
    pub(super) fn carry_out(&mut self, step: &Step) -> Result<bool, Failure> {
        match step {
            Step::Memory { bytes, limit } => self.memory(*bytes, *limit)?,
            Step::Save { part, from } => self.save(*part, from).map_err(|failure| self.with_remedy(failure))?,
            Step::Note { uuid } => {
                let boot = BootFs::open(&Place::Device(self.places.boot.clone()), true)?;
                boot.write(NOTE, format!("{uuid}\n").as_bytes())?;
            }
            Step::Uuid { device, uuid } => {
                let failed = |error: io::Error| device::unreadable(device, &error);
                device::wait(&[device.to_owned()].into(), device::PATIENCE);
                let of = stack::file_system(Path::new(device)).map_err(failed)?;
                if of.uuid == *uuid {
                    return Ok(false);
                }
                identity::change(&of, uuid)?;
            }
            Step::Restore { part, device, start } => self.restore(*part, device, *start)?,
            Step::Unnote => self.remove_note()?,
            Step::Free => self.free(),
        }
        Ok(true)
    }

    /// Whatever fails before the disks stage, the disks are as they were; mostly it is the memory that is too small.
    fn with_remedy(&self, failure: Failure) -> Failure {
        let bytes = self.kept.plan.before.iter().chain(&self.kept.plan.after).find_map(size);
        failure.remedy(remedy_of_memory(bytes.unwrap_or_default() / MIB))
    }

    /// The size of the device is arbitrary: what counts is how much memory it may take. What isn't written to takes none.
    fn memory(&mut self, bytes: u64, limit: u64) -> Result<(), Failure> {
        let failure = |error: io::Error| {
            Failure::new("making a device in compressed memory (zram)", error.to_string())
                .remedy("see that the initramfs holds the kernel module zram (dracut: add_drivers); nothing was written to the disks")
        };
        let node = if let Some(node) = &self.places.store {
            node.clone()
        } else {
            let size = bytes.saturating_mul(2).saturating_add(1 << 30).next_multiple_of(MIB);
            let number = zram::add(size, limit).map_err(failure)?;
            self.kept.memory = Some(number);
            zram::node(number)
        };
        let mut last = Failure::new("making a file system in memory", "there is neither mkfs.xfs nor mkfs.ext4");
        for (format, tool, args) in FORMATS.iter().filter(|(_, tool, _)| cmd::find(*tool).is_some()) {
            let args: Vec<_> = args.iter().map(Arg::from).chain([Arg::from(node.as_os_str())]).collect();
            let made = cmd::run(*tool, &args);
            match made.and_then(|_| mount::detached_writable(&node, format).map_err(failure)) {
                Ok(store) => {
                    (*format).clone_into(&mut self.kept.format);
                    self.store = Some(store);
                    return Ok(());
                }
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    fn save(&mut self, part: Part, from: &Old) -> Result<(), Failure> {
        let what = || format!("keeping the {part} {} in memory", from.node);
        let failed = |error: io::Error| Failure::new(what(), error.to_string());
        let store = self.store.as_ref().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let totals = if part.has_files() {
            let source = mount::detached(Path::new(&from.node), std::slice::from_ref(&from.format)).map_err(failed)?;
            let target = folder(store, name(part), true).map_err(|error| failed(error.into()))?;
            // vfat's names and contents are all it has, and what shows itself as owner and mode does no harm.
            tree::copy(source.as_fd(), target.as_fd(), Way::Out).map_err(|stopped| full(what(), &stopped))?
        } else {
            if let (Part::Bios, Some(disk)) = (part, &from.disk) {
                let mut code = vec![0; BOOT_CODE];
                File::open(disk).and_then(|mut disk| disk.read_exact(&mut code)).map_err(failed)?;
                create(store, BOOT_CODE_FILE).and_then(|mut file| file.write_all(&code)).map_err(failed)?;
            }
            let copied = File::open(&from.node)
                .and_then(|mut device| io::copy(&mut device, &mut create(store, name(part))?))
                .map_err(failed)?;
            Totals { entries: 1, bytes: copied, ..Totals::default() }
        };
        // Only now is it sure that there was memory enough: it is taken when a file system writes, not when a file is written.
        tree::sync(store.as_fd()).map_err(|error| full(what(), &Stopped { path: "/".into(), error }))?;
        if let Some(used) = self.kept.memory.and_then(zram::used) {
            log::info!(
                "{}: {} entries, {} MiB; {} MiB of memory",
                what(),
                totals.entries,
                totals.bytes / MIB,
                used / MIB
            );
        }
        self.kept.totals.push((part, totals));
        Ok(())
    }

    fn restore(&mut self, part: Part, device: &str, start: Option<u64>) -> Result<(), Failure> {
        let what = || format!("writing the {part} back to {device}");
        let failed = |error: io::Error| Failure::new(what(), error.to_string());
        if self.store.is_none() {
            let node = self.node();
            self.store = Some(mount::detached(&node, std::slice::from_ref(&self.kept.format)).map_err(failed)?);
        }
        let store = self.store.as_ref().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        device::wait(&[device.to_owned()].into(), device::PATIENCE);
        let new = stack::file_system(Path::new(device)).map_err(failed)?;
        let kept =
            self.kept.totals.iter().find(|(kept, _)| *kept == part).map(|(_, totals)| *totals).unwrap_or_default();
        if part.has_files() {
            let source = folder(store, name(part), false).map_err(|error| failed(error.into()))?;
            let written = fill(part, &source, &new, what)?;
            if (written.entries, written.bytes) != (kept.entries, kept.bytes) {
                let why = format!("{written:?} were written of {kept:?}");
                return Err(Failure::new(what(), why));
            }
            if written.without_verity > 0 {
                log::warn!("{}: {} files had fs-verity, which this file system hasn't", what(), written.without_verity);
            }
            return udev::look_again(Path::new(&new.node));
        }
        raw(part, store, &new.node, start, kept.bytes).map_err(failed)?;
        udev::look_again(Path::new(&new.node))
    }

    fn node(&self) -> PathBuf {
        match (&self.places.store, self.kept.memory) {
            (Some(node), _) => node.clone(),
            (None, number) => zram::node(number.unwrap_or_default()),
        }
    }

    fn remove_note(&self) -> Result<(), Failure> {
        let boot = BootFs::open(&Place::Device(self.places.boot.clone()), true)?;
        let root = boot.root();
        let removed = match unlinkat(root, NOTE.trim_start_matches('/'), AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            result => result.and_then(|()| tree::sync(root.as_fd())),
        };
        removed.map_err(|error| Failure::new(format!("removing {NOTE} from the boot file system"), error.to_string()))
    }

    /// When all was in vain before anything was destroyed.
    pub(super) fn give_up(&mut self) -> Result<(), Failure> {
        self.free();
        let boot = BootFs::open(&Place::Device(self.places.boot.clone()), false)?;
        let note = boot.root().file(NOTE).is_ok_and(|file| file.is_some());
        drop(boot);
        if note { self.remove_note() } else { Ok(()) }
    }

    fn free(&mut self) {
        self.store = None;
        let Some(number) = self.kept.memory.take() else { return };
        if let Err(error) = zram::remove(number) {
            // All is where it belongs; what is lost is memory.
            log::warn!("the memory of {} could not be given back: {error}", zram::node(number).display());
        }
    }
}

fn size(step: &Step) -> Option<u64> {
    match step {
        Step::Memory { bytes, .. } => Some(*bytes),
        _ => None,
    }
}

/// Where memory is full, the device has no more to give, and the kernel calls that an error of input or output.
fn full(what: String, stopped: &Stopped) -> Failure {
    let why = match stopped.error {
        Errno::IO | Errno::NOSPC | Errno::NOMEM => {
            format!("{stopped}; either there is too little memory, or the kernel's log has an error of the disk")
        }
        _ => stopped.to_string(),
    };
    Failure::new(what, why)
}

fn create(store: &Root, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    Ok(openat(store, name, flags, Mode::RUSR | Mode::WUSR)?.into())
}

fn folder(store: &Root, name: &str, new: bool) -> rustix::io::Result<rustix::fd::OwnedFd> {
    if new {
        mkdirat(store, name, Mode::RWXU)?;
    }
    openat(store, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Writes files to a new file system. It counts as not whole until all of them are on the disk.
fn fill(part: Part, source: &impl AsFd, new: &FileSystem, what: impl Fn() -> String) -> Result<Totals, Failure> {
    let failed = |error: io::Error| Failure::new(what(), error.to_string()).remedy(SEE_DISK);
    let stopped = |error: Errno| failed(error.into());
    let root = mount::detached_writable(Path::new(&new.node), &new.format).map_err(failed)?;
    if part == Part::Esp {
        return tree::copy(source.as_fd(), root.as_fd(), Way::Plain)
            .map_err(|error| Failure::new(what(), error.to_string()));
    }
    let there = tree::list(root.as_fd()).map_err(stopped)?;
    if let Some(there) = there.iter().find(|there| there.to_bytes() != b"lost+found") {
        let why = format!("the {} on {} isn't new: it holds {}", new.format, new.node, there.to_string_lossy());
        return Err(Failure::new(what(), why));
    }
    let mark = create(&root, HALF).map_err(failed)?;
    mark.sync_all().and_then(|()| Ok(tree::sync(root.as_fd())?)).map_err(failed)?;
    drop(mark);
    let written = tree::copy(source.as_fd(), root.as_fd(), Way::Back)
        .map_err(|error| Failure::new(what(), error.to_string()).remedy(SEE_DISK))?;
    unlinkat(&root, HALF, AtFlags::empty()).and_then(|()| tree::sync(root.as_fd())).map_err(stopped)?;
    Ok(written)
}

fn raw(part: Part, store: &Root, node: &str, start: Option<u64>, bytes: u64) -> io::Result<()> {
    let open = |name: &str| store.open_file(name);
    let write = |to: &str, mut from: File, limit: u64| -> io::Result<()> {
        let mut device = OpenOptions::new().write(true).open(to)?;
        if device.seek(SeekFrom::End(0))? < limit {
            return Err(io::Error::other(format!("{to} is smaller than what was kept ({limit} bytes)")));
        }
        device.rewind()?;
        io::copy(&mut from, &mut device)?;
        device.sync_all()
    };
    let layers = stack::of(Path::new(node))?;
    let partition = layers.iter().rev().find_map(|layer| match &layer.kind {
        Kind::Partition { disk, number } => Some((disk.clone(), *number)),
        _ => None,
    });
    let (disk, number) = partition.ok_or_else(|| io::Error::other(format!("{node} is no partition")))?;
    if let Some(start) = start {
        let Some(Found::Gpt(gpt)) = block::look(&disk)?.map(|found| found.holds) else {
            return Err(io::Error::other(format!("{disk} has no GUID partition table")));
        };
        let begins = gpt.table.partition(number).map(|partition| partition.start).unwrap_or_default();
        if begins != start {
            return Err(io::Error::other(format!(
                "it begins at sector {begins}, but GRUB's boot code goes on at {start}"
            )));
        }
    }
    write(node, open(name(part))?, bytes)?;
    if part == Part::Bios { write(&disk, open(BOOT_CODE_FILE)?, BOOT_CODE as u64) } else { Ok(()) }
}

/// Whether the new root is what the command line leads to.
pub(super) fn is_found(steps: &[Step], places: &Places, cmdline: &Cmdline) -> Result<(), Failure> {
    let new = steps.iter().find_map(|step| match step {
        Step::Restore { part: Part::Root, device, .. } => Some(device),
        _ => None,
    });
    let Some(new) = new else { return Ok(()) };
    let node = |path: &Path| fs::canonicalize(path).unwrap_or_default();
    device::wait(&[places.root.to_string_lossy().into_owned()].into(), device::patience(cmdline));
    let new = node(Path::new(new));
    if node(&places.root) != new {
        // A volume may have the same label as the file system in it; who was looked at last has the link.
        udev::look_again(&new)?;
    }
    let found = node(&places.root);
    if found == new {
        return Ok(());
    }
    let why =
        format!("{} leads to {}, and the new root is on {}", places.root.display(), found.display(), new.display());
    Err(Failure::new(WHAT, why).remedy("let the configuration delete or wipe whatever else has the same label or UUID"))
}
