// SPDX-License-Identifier: Apache-2.0
//! The end of a system: GRUB counts starts of a default that nobody has seen arrive.

use std::fs;

use fledge_core::counting::{
    Arms, Deployment, Environment, GoesOff, Id, Listed, Menu, SNIPPET, Selection, Starts, arm as decide, disarmed,
    other_counter, times, told,
};
use fledge_core::diag::Failure;
use fledge_stages::boot_select::{Grub, unblessed, unstartable};
use fledge_stages::host::bootfs::{BootFs, Place};

use super::Machine;
use crate::records;
use crate::sysroot::Sysroot;

/// Writes what GRUB has to count from the next start on, if that isn't what is there.
///
/// # Errors
/// The boot file system or a `grubenv` on it can't be read or written.
pub fn arm(machine: &Machine) -> Result<(), Failure> {
    let sysroot = &machine.sysroot;
    let grub = sysroot.grub()?;
    let Some(path) = &grub.path else { return Ok(()) };
    let wanted = match decide(&goes_off(sysroot, &grub)?) {
        Arms::Set(starts) => {
            let given = times(starts.given);
            log::info!("GRUB starts {} at most {given} before it arrives, then {}", starts.tried, starts.fallback);
            starts.written(&grub.variables)
        }
        Arms::Remove(why) => {
            log::info!("GRUB counts no starts: {why}");
            disarmed(&grub.variables)
        }
        Arms::Keep(why) => {
            log::info!("what GRUB counts stays as it is: {why}");
            return Ok(());
        }
    };
    // A damaged one that may have told GRUB to start another entry is put right by whoever takes that back.
    let damaged = grub.torn && !grub.overridden();
    if wanted == grub.variables && !damaged {
        return Ok(());
    }
    write(&records::writable(sysroot)?, path, &wanted)
}

/// Has GRUB count no starts any more.
///
/// # Errors
/// As [`arm`].
pub(crate) fn disarm(sysroot: &Sysroot, boot: &BootFs) -> Result<(), Failure> {
    let Some((path, variables)) = sysroot.grubenv()? else { return Ok(()) };
    write(boot, &path, &disarmed(&variables))?;
    log::info!("GRUB counts no starts any more");
    Ok(())
}

fn write(boot: &BootFs, path: &str, variables: &Environment) -> Result<(), Failure> {
    let what = || format!("writing {path} on the boot file system");
    let block = variables.render().map_err(|why| Failure::new(what(), why))?;
    boot.overwrite(path, &block)?;
    // GRUB replays no journal. A file system that can't be frozen has none.
    if let Err(failure) = boot.flush() {
        log::warn!("{failure}");
    }
    Ok(())
}

/// By this a deployment shows that it, and its initramfs, can tell GRUB that a start arrived.
const KNOWS: &str = "usr/lib/systemd/system/fledge-arm.service";

/// Why GRUB can't count starts of the first entry, if it can't.
fn obstacle(grub: &Grub) -> Option<String> {
    if let Some(why) = &grub.unsteerable {
        return Some(why.clone());
    }
    if !grub.counts {
        return Some(format!("grub.cfg doesn't have {SNIPPET}"));
    }
    if grub.torn && grub.overridden() {
        return Some("grubenv is damaged, and may have had a default of its own".to_owned());
    }
    told(&disarmed(&grub.variables)).map(|_| "grubenv has a default of its own".to_owned())
}

fn goes_off(sysroot: &Sysroot, grub: &Grub) -> Result<GoesOff, Failure> {
    let boot = BootFs::open(&Place::Mounted(sysroot.boot.clone()), false)?;
    let (entries, odd) = boot.readable_entries()?;
    for failure in odd {
        log::warn!("{}: {}; it is passed over", failure.what, failure.why);
    }
    let menu = Menu::new(entries.iter().map(|entry| Listed::new(&entry.name, &entry.entry)).collect());
    let folder = |id: &Id| sysroot.root.join(id.path().trim_start_matches('/'));
    let deployments = menu.iter().filter_map(|entry| {
        let deployment = entry.deployment(sysroot.leads_to(entry.link.as_ref()?).ok()?)?;
        let folder = folder(&deployment.id);
        Some(Deployment {
            unusable: fs::metadata(folder.join("usr")).is_err().then(|| "it has no usr".to_owned()),
            unstartable: unstartable(&boot, entry),
            unblessed: unblessed(&folder),
            ..deployment
        })
    });
    let deployments: Vec<_> = deployments.collect();
    let ids: Vec<Id> = deployments.iter().map(|deployment| deployment.id.clone()).collect();
    // Its initramfs is as old: it would be healthy, and GRUB leave it some day.
    let knows = |id: &Id| fs::symlink_metadata(folder(id).join(KNOWS)).is_ok();
    let older = || {
        ids.first().filter(|first| !knows(first)).map(|_| {
            format!("the default has no {KNOWS}: it is from before GRUB counted, and wouldn't say that it arrived")
        })
    };
    let other = other_counter(&grub.variables, menu.iter().map(|entry| entry.name.as_str()));
    Ok(GoesOff {
        deployments,
        running: sysroot.running(&ids)?,
        records: sysroot.records()?,
        starts: Starts::read(&grub.variables),
        obstacle: other.or_else(|| obstacle(grub)).or_else(older),
    })
}

/// In words, if GRUB left a deployment whose starts never arrived.
pub fn never_arrived(selection: &Selection) -> Option<String> {
    let starts = times(selection.never_arrived?);
    Some(format!(
        "the bootloader started it {starts}, and it never got to where boots are counted: its kernel or its initramfs fails, or what they wait for wasn't there, such as a disk or a Tang server"
    ))
}
