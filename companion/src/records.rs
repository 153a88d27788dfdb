// SPDX-License-Identifier: Apache-2.0
//! Carries out what [`fledge_core::counting`] decided for after boot: names on the boot file system, the bootloader's variable, OSTree's
//! default.

use fledge_core::counting::{FOLDER, Id, STEERING, Step};
use fledge_core::diag::Failure;
use fledge_stages::host::bootfs::{BootFs, Place};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount_change, mount_remount};

use crate::admin::Admin;
use crate::duty;
use crate::sysroot::Sysroot;

/// Names of deployments that this program pinned, so that it lets go of them again: a folder of the boot file system.
pub const PINNED: &str = "/fledge/pinned";

/// Carries out steps in their order, up to the first that fails.
///
/// # Errors
/// The boot file system can't be written, or whatever the step says.
pub fn carry_out(steps: &[Step], sysroot: &Sysroot, admin: &Admin) -> Result<(), Failure> {
    if steps.is_empty() {
        return Ok(());
    }
    let boot = writable(sysroot)?;
    for step in steps {
        match step {
            Step::Create { name } => boot.create_name(FOLDER, name),
            Step::Rename { from, to } => boot.rename_name(FOLDER, from, to),
            Step::Remove { name } => boot.remove_name(FOLDER, name),
            Step::Sync => boot.sync_names(FOLDER),
            Step::SetDefault { id } => admin.set_default(id).map(|changed| {
                if changed {
                    log::info!("{id} is the default now");
                }
            }),
            Step::RemoveOverride => remove_override(sysroot, &boot),
            Step::Disarm => duty::disarm(sysroot, &boot),
        }?;
    }
    Ok(())
}

/// Takes the bootloader's variable out of `grubenv`, so that it starts the first entry again. One that hasn't got it is written as well: it
/// may not have got to where the bootloader sees it.
///
/// # Errors
/// The file can't be read, is none, or whatever the operating system says: then the bootloader may see the variable yet, and what relies
/// on its absence is not to be done.
fn remove_override(sysroot: &Sysroot, boot: &BootFs) -> Result<(), Failure> {
    let Some((path, environment)) = sysroot.grubenv()? else { return Ok(()) };
    let what = || format!("removing {STEERING} from {path} on the boot file system");
    let block = environment.with(STEERING, None).render().map_err(|why| Failure::new(what(), why))?;
    boot.overwrite(&path, &block)?;
    // GRUB replays no journal.
    boot.flush()?;
    log::info!("the bootloader starts the first entry by itself again");
    Ok(())
}

/// Notes that this program pins a deployment.
///
/// # Errors
/// The boot file system can't be written.
pub fn note_pin(sysroot: &Sysroot, id: &Id) -> Result<(), Failure> {
    let boot = writable(sysroot)?;
    boot.create_name(PINNED, id.as_str())?;
    boot.sync_names(PINNED)
}

/// Forgets that this program pinned a deployment, if it did: its pin is a person's now. Nothing is written if it did not.
///
/// # Errors
/// The boot file system can't be read or written.
pub fn forget_pin(sysroot: &Sysroot, id: &Id) -> Result<(), Failure> {
    if !pins(sysroot)?.iter().any(|name| name == id.as_str()) {
        return Ok(());
    }
    let boot = writable(sysroot)?;
    boot.remove_name(PINNED, id.as_str())?;
    boot.sync_names(PINNED)
}

/// The names of the deployments that this program pinned.
///
/// # Errors
/// The boot file system can't be read.
pub fn pins(sysroot: &Sysroot) -> Result<Vec<String>, Failure> {
    BootFs::open(&Place::Mounted(sysroot.boot.clone()), false)?.names(PINNED)
}

/// Opens the boot file system for writing. If it is mounted read-only, as most distributions have it, it becomes writable for this process
/// alone.
///
/// # Errors
/// It can't be made writable.
pub fn writable(sysroot: &Sysroot) -> Result<BootFs, Failure> {
    let open = || BootFs::open(&Place::Mounted(sysroot.boot.clone()), true);
    let boot = open()?;
    if boot.is_writable() {
        return Ok(boot);
    }
    drop(boot);
    let failure = |why: String| {
        Failure::new(format!("making {} writable", sysroot.boot.display()), why)
            .remedy("do this as root; if it is root, check that file system")
    };
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| failure(error.to_string()))?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .and_then(|()| mount_remount(&sysroot.boot, MountFlags::NODEV | MountFlags::NOSUID, ""))
        .map_err(|error| failure(error.to_string()))?;
    open()
}
