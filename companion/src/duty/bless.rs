// SPDX-License-Identifier: Apache-2.0
//! A healthy boot.

use fledge_core::counting::{self, Healthy, Id, Starts, State};
use fledge_core::diag::Failure;

use super::{Machine, Tried};
use crate::attempt;
use crate::health::{self, Health};
use crate::records::{self, PINNED};

/// Marks the running deployment as good; after a fallback, marks the one that failed as bad and puts the bootloader's default right. A
/// deployment that was blessed before is read about, and nothing is written.
///
/// # Errors
/// Each thing that could not be done. What doesn't rely on another is tried.
pub fn bless(machine: &Machine) -> Result<(), Vec<Failure>> {
    let mut tried = Tried::default();
    let mut is_good = false;
    if let Some(running) = tried.note(running(machine)) {
        tried.note(mark(machine, &running));
        // A default that can't be put right doesn't make it less good.
        is_good = machine.state(&running).is_ok_and(|state| state == Some(State::Good));
        if is_good {
            // Not only by its mark: the boot file system may be gone when something fails later in this boot.
            tried.note(machine.sysroot.stop_counting("it got healthy"));
            tried.note(attempt::forget(&machine.store(), &machine.boot_id));
            tried.note(unpin(machine));
        }
    }
    let left = leave(machine, is_good, &tried.failures);
    tried.note(left);
    tried.note(machine.tell());
    tried.all()
}

fn running(machine: &Machine) -> Result<Id, Failure> {
    machine.sysroot.running(&machine.sysroot.all()?)?.ok_or_else(|| {
        Failure::new("marking the running deployment as good", "none of the deployments is the one that runs")
            .remedy("this is for systems that OSTree booted: see `ostree admin status`")
    })
}

fn mark(machine: &Machine, running: &Id) -> Result<(), Failure> {
    let sysroot = &machine.sysroot;
    let boot = Healthy {
        running: running.clone(),
        records: sysroot.records()?,
        // The deployment is healthy, whatever else can't be read.
        selection: or_warn(sysroot.selection()),
        deployments: sysroot.all()?,
        first: sysroot.deployments()?.into_iter().next().map(|first| first.id),
        // One that is damaged may have been the override, and be it again for a bootloader that reads more of it.
        overridden: sysroot.overridden().unwrap_or_else(|failure| {
            log::warn!("{failure}");
            true
        }),
        armed: or_warn(sysroot.grubenv()).is_some_and(|(_, variables)| Starts::read(&variables).is_some()),
    };
    let steps = counting::bless(&boot);
    records::carry_out(&steps, sysroot, &machine.admin)?;
    match boot.records.state(running) {
        Some(State::Bad) => {
            log::warn!(
                "{running} is marked as bad, and stays so though this boot is healthy: `fledgectl bless` marks it as good"
            );
        }
        Some(State::Good) if steps.is_empty() => log::info!("{running} was good before"),
        Some(State::Good) => log::info!("{running} was good before; what other deployments left is put right"),
        _ => log::info!("{running} is good"),
    }
    Ok(())
}

/// Leaves what could not be done with what the checks left. A boot that gets healthy after all, such as after its deadline, is.
fn leave(machine: &Machine, is_good: bool, undone: &[Failure]) -> Result<(), Failure> {
    let Some(left) = health::left(&machine.live.runtime)? else { return Ok(()) };
    let mut health = Health { undone: undone.to_vec(), ..left.clone() };
    if is_good {
        (health.healthy, health.end, health.stays) = (left.is_by_checks(), None, None);
    }
    if health == left { Ok(()) } else { health::leave(&machine.live.runtime, &health) }
}

fn or_warn<T: Default>(result: Result<T, Failure>) -> T {
    result.unwrap_or_else(|failure| {
        log::warn!("{failure}");
        T::default()
    })
}

/// Lets go of what was pinned while this deployment was tried. It may be gone; then the note goes, too.
fn unpin(machine: &Machine) -> Result<(), Failure> {
    let names = records::pins(&machine.sysroot)?;
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
