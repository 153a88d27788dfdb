// SPDX-License-Identifier: Apache-2.0
//! A healthy boot.

use fledge_core::counting::{self, Healthy, Id};
use fledge_core::diag::Failure;
use fledge_stages::host::bootfs::{BootFs, Place};

use super::{Machine, Tried};
use crate::attempt;
use crate::records::{self, PINNED};

/// Marks the running deployment as good; after a fallback, marks the one that failed as bad and puts the bootloader's default right. A
/// deployment that was blessed before is read about, and nothing is written.
///
/// # Errors
/// Each thing that could not be done. What doesn't rely on another is tried.
pub fn bless(machine: &Machine) -> Result<(), Vec<Failure>> {
    let mut tried = Tried::default();
    let marked = mark(machine);
    let is_marked = marked.is_ok();
    tried.note(marked);
    if is_marked {
        tried.note(attempt::forget(&machine.store(), &machine.boot_id));
        tried.note(unpin(machine));
    }
    tried.note(machine.tell());
    tried.all()
}

fn mark(machine: &Machine) -> Result<(), Failure> {
    let sysroot = &machine.sysroot;
    let deployments = sysroot.all()?;
    let running = sysroot.running(&deployments)?.ok_or_else(|| {
        Failure::new("marking the running deployment as good", "none of the deployments is the one that runs")
            .remedy("this is for systems that OSTree booted: see `ostree admin status`")
    })?;
    let boot = Healthy {
        records: sysroot.records()?,
        // The deployment is healthy, whatever else can't be read.
        selection: or_warn(sysroot.selection()),
        first: sysroot.deployments()?.into_iter().next().map(|first| first.id),
        overridden: or_warn(sysroot.overridden()),
        deployments,
        running,
    };
    let steps = counting::bless(&boot);
    records::carry_out(&steps, sysroot, &machine.admin)?;
    match steps.as_slice() {
        [] => log::info!("{} was good before", boot.running),
        _ => log::info!("{} is good", boot.running),
    }
    Ok(())
}

fn or_warn<T: Default>(result: Result<T, Failure>) -> T {
    result.unwrap_or_else(|failure| {
        log::warn!("{failure}");
        T::default()
    })
}

/// Lets go of what was pinned while this deployment was tried. It may be gone; then the note goes, too.
fn unpin(machine: &Machine) -> Result<(), Failure> {
    let names = BootFs::open(&Place::Mounted(machine.sysroot.boot.clone()), false)?.names(PINNED)?;
    if names.is_empty() {
        return Ok(());
    }
    let deployments = machine.sysroot.deployments()?;
    for name in &names {
        let pinned = deployments.iter().find(|deployment| Id::parse(name).as_ref() == Some(&deployment.id));
        if let Some(pinned) = pinned.filter(|deployment| deployment.pinned) {
            machine.admin.pin(&pinned.id, false)?;
        }
    }
    let boot = records::writable(&machine.sysroot)?;
    for name in &names {
        boot.remove_name(PINNED, name)?;
    }
    boot.sync_names(PINNED)
}
