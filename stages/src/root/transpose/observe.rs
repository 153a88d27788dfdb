// SPDX-License-Identifier: Apache-2.0
//! Looks at the parts of the installed system, as far as the configuration has to do with them.

use std::fs;
use std::io;
use std::path::Path;

use fledge_core::cmdline::Cmdline;
use fledge_core::config::Config;
use fledge_core::diag::Failure;
use fledge_core::gpt::Found;
use fledge_core::pivot;
use fledge_core::plan::{PlannedStep, Step};
use fledge_core::root::Kind;
use fledge_core::root::transpose::{self, Facts, HALF, NOTE, Old, Part, Wanted, not_whole};
use rustix::fs::{AtFlags, fstatvfs, statat};

use super::Places;
use crate::host::bootfs::{BootFs, Place};
use crate::host::{block, device, mount};
use crate::root::stack;

/// The facts. What is to be kept is waited for.
pub(super) fn facts<'f>(
    config: &Config,
    wanted: &[Wanted],
    cmdline: &Cmdline,
    steps: &'f [PlannedStep],
    places: &Places,
) -> Result<Facts<'f>, Failure> {
    let has = |part: Part| wanted.iter().any(|one| one.part == part);
    let mut facts = Facts { memory: memory(), ..Facts::default() };
    facts.tables.extend(steps.iter().filter_map(|planned| match &planned.step {
        Step::Partition(step) => Some(step),
        _ => None,
    }));
    for name in transpose::devices(config) {
        if let Ok(node) = fs::canonicalize(name) {
            facts.nodes.push((name.to_owned(), node.to_string_lossy().into_owned()));
        }
    }
    if !wanted.is_empty() {
        wait(&places.boot, cmdline);
    }
    if device::is_there(&places.boot.to_string_lossy()) {
        let boot = BootFs::open(&Place::Device(places.boot.clone()), false)?;
        let note = boot.root().text(NOTE).map_err(|error| unreadable(&places.boot, &error))?;
        facts.note = Some(note).filter(|note| !note.is_empty());
    }
    // After a power cut it may be there no more.
    if has(Part::Root) && facts.note.is_none() {
        wait(&places.root, cmdline);
    }
    for (part, place) in [(Part::Root, &places.root), (Part::Boot, &places.boot)] {
        if device::is_there(&place.to_string_lossy()) {
            let old = file_system(part, place, has(part), cmdline, facts.note.is_some())?;
            facts.old.push((part, old));
        }
    }
    others(wanted, &mut facts.old)?;
    Ok(facts)
}

/// The facts for making the root anew where it is.
pub(super) fn of_root<'f>(places: &Places, cmdline: &Cmdline) -> Result<Facts<'f>, Failure> {
    let mut facts = Facts { memory: memory(), ..Facts::default() };
    facts.old.push((Part::Root, file_system(Part::Root, &places.root, true, cmdline, false)?));
    if device::is_there(&places.boot.to_string_lossy()) {
        facts.old.push((Part::Boot, file_system(Part::Boot, &places.boot, false, cmdline, false)?));
    }
    Ok(facts)
}

fn wait(place: &Path, cmdline: &Cmdline) {
    device::wait(&[place.to_string_lossy().into_owned()].into(), device::patience(cmdline));
}

fn unreadable(place: &Path, error: &io::Error) -> Failure {
    device::unreadable(&place.to_string_lossy(), error)
}

fn memory() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |field: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let kibibytes: u64 = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default();
        kibibytes << 10
    };
    (bytes("MemTotal:"), bytes("MemAvailable:"))
}

fn file_system(part: Part, place: &Path, kept: bool, cmdline: &Cmdline, noted: bool) -> Result<Old, Failure> {
    let failed = |error: io::Error| unreadable(place, &error);
    let found = stack::file_system(place).map_err(failed)?;
    let mut old = Old { node: found.node, format: found.format, uuid: found.uuid, ..Old::default() };
    for layer in stack::of(Path::new(&old.node)).map_err(failed)? {
        let (Kind::Partition { disk, number }, true) = (layer.kind, layer.node == old.node) else { continue };
        if let Some(Found::Gpt(gpt)) = block::look(&disk).map_err(failed)?.map(|found| found.holds) {
            if let Some(partition) = gpt.table.partition(number) {
                (old.start, old.sectors) = (partition.start, partition.size());
            }
        }
        old.disk = Some(disk);
    }
    if kept {
        let root = mount::detached(Path::new(&old.node), std::slice::from_ref(&old.format))
            .map_err(|error| not_whole(part, &old, &error.to_string(), noted))?;
        let used = fstatvfs(&root).map_err(|error| failed(error.into()))?;
        old.bytes = used.f_blocks.saturating_sub(used.f_bfree).saturating_mul(used.f_frsize);
        let whole = |why: String| not_whole(part, &old, &why, noted);
        if statat(&root, HALF, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(whole(format!("/{HALF} says that it was being written back when the power went")));
        }
        let folder = match part {
            Part::Root => pivot::target(cmdline).unwrap_or("/ostree"),
            _ => "/loader",
        };
        root.directory(folder).map_err(|error| whole(format!("{folder}: {error}")))?;
    }
    Ok(old)
}

/// What boots the machine, on the disk of the boot file system: there, and nowhere else, it is this system's.
fn others(wanted: &[Wanted], old: &mut Vec<(Part, Old)>) -> Result<(), Failure> {
    let boot = old.iter().find(|(part, _)| *part == Part::Boot);
    let Some(disk) = boot.and_then(|(_, boot)| boot.disk.clone()) else { return Ok(()) };
    let failed = |error: io::Error| device::unreadable(&disk, &error);
    for part in wanted.iter().map(|one| one.part) {
        let Some(kind) = part.kind() else { continue };
        let Some(found) = block::look(&disk).map_err(failed)? else { continue };
        let Found::Gpt(gpt) = &found.holds else { continue };
        let Some(partition) = gpt.table.partitions.iter().find(|one| one.kind == kind) else { continue };
        let node = block::Entry::of(&disk).map_err(failed)?.partition(partition.number);
        let format =
            device::signatures(Path::new(&node)).map_err(failed)?.into_iter().next().unwrap_or_default().format;
        let mut bytes = partition.size().saturating_mul(u64::from(found.sector));
        if part.has_files() {
            let root = mount::detached(Path::new(&node), std::slice::from_ref(&format));
            let root = root.map_err(|error| device::unreadable(&node, &error))?;
            let used = fstatvfs(&root).map_err(|error| device::unreadable(&node, &error.into()))?;
            bytes = used.f_blocks.saturating_sub(used.f_bfree).saturating_mul(used.f_frsize);
        }
        let (start, sectors, disk) = (partition.start, partition.size(), Some(disk.clone()));
        old.push((part, Old { node, format, bytes, disk, start, sectors, ..Old::default() }));
    }
    Ok(())
}
