// SPDX-License-Identifier: Apache-2.0
//! Later boots are told which root they have; [`fledge_core::root::persist`] decides.

use std::io;
use std::path::Path;

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::gpt::{Found, Guid};
use fledge_core::root::persist::{self, BOOT_UUID, BOUND, Facts, GRUB, Loader, Step, needs_network};
use fledge_core::root::{Kind, made};
use rustix::fs::Dir;

use super::{SEE_DISK, stack};
use crate::host::bootfs::{BootFs, Place};
use crate::host::fs::Root;
use crate::host::{atomic, block, device};

/// The type of EFI system partitions (UEFI specification 2.10, section 5.3.3).
const ESP: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
const WHAT: &str = "looking at the root";

/// Tells them. `root` is where the deployment is mounted, with the physical root below its `sysroot`.
///
/// # Errors
/// Something can't be looked at, the boot file system is bound to another root, or can't be written.
pub fn run(root: &Path, boot: &Path, config: &Path, cmdline: &Cmdline) -> Result<(), Failure> {
    let facts = observe(root, boot, config, cmdline)?;
    let plan = persist::plan(&facts)?;
    log::info!("{plan}");
    super::carry_out(&plan.steps, |step| execute(step, boot))
}

/// Refuses a boot file system that is bound to another root, before anything is done to either disk. Where one of the two isn't there
/// yet, there is nothing to compare.
///
/// # Errors
/// It is so, or one can't be read.
pub fn check(root: &Path, boot: &Path) -> Result<(), Failure> {
    if [root, boot].iter().any(|device| !device::is_there(&device.to_string_lossy())) {
        return Ok(());
    }
    let failed = |error: io::Error| Failure::new(WHAT, error.to_string()).remedy(SEE_DISK);
    let opened = BootFs::open(&Place::Device(boot.into()), false)?;
    let note = opened.root().text(BOUND).map_err(failed)?;
    drop(opened);
    let note = Some(note.as_str()).filter(|note| !note.is_empty());
    persist::bound(note, &stack::file_system(root).map_err(failed)?, &stack::file_system(boot).map_err(failed)?)
}

fn observe(root: &Path, boot: &Path, config: &Path, cmdline: &Cmdline) -> Result<Facts, Failure> {
    let failed = |error: io::Error| Failure::new(WHAT, error.to_string()).remedy(SEE_DISK);
    let node = stack::mounted(&[&root.join("sysroot"), root]).map_err(failed)?;
    let file_system = stack::file_system(Path::new(&node)).map_err(failed)?;
    let mut stack = stack::of(Path::new(&file_system.node)).map_err(failed)?;
    let root_is_named = cmdline.value("root").is_some_and(|root| !root.is_empty());
    let crypttab = Root::open(root).and_then(|root| root.text("/etc/crypttab")).map_err(failed)?;
    for layer in &mut stack {
        if let Kind::Luks { name, network, .. } = &mut layer.kind {
            let needs = needs_network(&crypttab, name);
            if needs.is_none() && !root_is_named {
                let why = format!("/etc/crypttab has no line for the volume {name:?}, which the root is on");
                return Err(Failure::new(WHAT, why)
                    .remedy("let the configuration's luks section make the volume, or add it to /etc/crypttab"));
            }
            *network = needs.unwrap_or_default();
        }
    }
    let made_options = made(&super::config(config)?).map(|made| made.mount_options.join(","));
    let opened = BootFs::open(&Place::Device(boot.into()), false)?;
    let entries = opened.entries()?.into_iter().map(|found| (found.name, found.entry)).collect();
    let text = |path: &str| opened.root().text(path).map(|text| Some(text).filter(|text| !text.is_empty()));
    let mut loaders = Vec::new();
    for folder in GRUB.iter().filter(|folder| opened.root().directory_without_links(folder).is_ok()) {
        let text = text(&format!("{folder}/{BOOT_UUID}")).map_err(failed)?;
        loaders.push(persist::loader(None, folder, text));
    }
    let bound = text(BOUND).map_err(failed)?;
    drop(opened);
    let boot = stack::file_system(boot).map_err(failed)?;
    loaders.extend(efi(&boot.node)?);
    Ok(Facts {
        options: made_options.filter(|options| !options.is_empty()),
        multipath_is_linked: Path::new(&persist::multipath(&file_system.uuid))
            .canonicalize()
            .is_ok_and(|path| path == Path::new(&file_system.node)),
        root: file_system,
        stack,
        root_is_named,
        boot_is_named: cmdline.value("boot").is_some_and(|boot| !boot.is_empty()),
        boot,
        bound,
        entries,
        loaders,
    })
}

/// GRUB's folders on the EFI system partitions of the boot file system's disk: those with a `grub.cfg` of a distribution.
fn efi(boot: &str) -> Result<Vec<Loader>, Failure> {
    let failed =
        |error: io::Error| Failure::new("looking for EFI system partitions", error.to_string()).remedy(SEE_DISK);
    let mut loaders = Vec::new();
    for layer in stack::of(Path::new(boot)).map_err(failed)? {
        let Kind::Partition { disk, .. } = layer.kind else { continue };
        let Some(Found::Gpt(gpt)) = block::look(&disk).map_err(failed)?.map(|found| found.holds) else { continue };
        let esp = |partition: &&fledge_core::gpt::Partition| Guid::parse(ESP) == Some(partition.kind);
        for partition in gpt.table.partitions.iter().filter(esp) {
            let node = block::Entry::of(&disk).map_err(failed)?.partition(partition.number);
            if !device::is_there(&node) {
                // Of device-mapper, without kpartx.
                log::warn!("the EFI system partition {node} isn't there: GRUB on it is told nothing");
                continue;
            }
            let vfat = device::signatures(Path::new(&node)).map_err(failed)?;
            if vfat.first().is_none_or(|found| found.format != "vfat") {
                continue;
            }
            let opened = BootFs::open(&Place::Device(node.clone().into()), false)?;
            let Ok(folder) = opened.root().directory_without_links("/EFI") else { continue };
            for found in Dir::read_from(&folder).map_err(|error| failed(error.into()))? {
                let found = found.map_err(|error| failed(error.into()))?;
                let Ok(name) = found.file_name().to_str() else { continue };
                let folder = format!("/EFI/{name}");
                if name.starts_with('.')
                    || !opened.root().file(&format!("{folder}/grub.cfg")).is_ok_and(|file| file.is_some())
                {
                    continue;
                }
                let text = opened.root().text(&format!("{folder}/{BOOT_UUID}")).map_err(failed)?;
                let text = Some(text).filter(|text| !text.is_empty());
                loaders.push(persist::loader(Some(node.clone()), &folder, text));
            }
        }
    }
    Ok(loaders)
}

/// Each step mounts and unmounts: a bootloader reads no journal.
fn execute(step: &Step, boot: &Path) -> Result<bool, Failure> {
    let open = |device: Option<&String>| {
        BootFs::open(&Place::Device(device.map_or(boot, |device| Path::new(device)).into()), true)
    };
    match step {
        Step::Entry { name, entry, .. } => open(None)?.replace_entry(name, entry)?,
        Step::File { device, path, text } => open(device.as_ref())?.write_readable(path, text.as_bytes())?,
        Step::Tell { path, text } => tell(Path::new(path), text).map_err(|error| {
            Failure::new(format!("writing {path}"), error.to_string()).remedy("see whether /run is full or read-only")
        })?,
    }
    Ok(true)
}

/// For programs of the real root that aren't root's.
fn tell(path: &Path, text: &str) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| atomic::make_directory(folder, 0o755))?;
    atomic::write(path, 0o644, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_told_can_be_read_by_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coreos/bootfs_uuid");
        tell(&path, "x\n").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o755, 0o644));
    }
}
