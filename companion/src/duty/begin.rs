// SPDX-License-Identifier: Apache-2.0
//! The beginning of a boot in the real root.

use fledge_core::counting::{Id, Selection, State};
use fledge_core::diag::Failure;

use super::unhealthy::was_soft_rebooted;
use super::{Machine, Tried, give_back};
use crate::attempt;
use crate::records;

/// Notes a counted boot, and pins the deployment that would be fallen back to until the running one is good: whatever is deployed
/// meanwhile, that one stays. After a fallback, collects what is known of the one that failed, and tells.
///
/// # Errors
/// Each thing that could not be done. All are tried, and none stops a boot.
pub fn begin(machine: &Machine) -> Result<(), Vec<Failure>> {
    let mut tried = Tried::default();
    let Some(Some(selection)) = tried.note(machine.sysroot.selection()) else {
        return tried.all();
    };
    // The userspace of the same boot began once more: the first one did not fail.
    if was_soft_rebooted(machine) {
        tried.note(give_back(machine));
    } else if let Selection { counted: true, deployment: Some(deployment), .. } = &selection {
        tried.note(attempt::begin(&machine.store(), &machine.attempt(&selection, deployment, None)));
    }
    // Not only where it is counted: a boot that a person chose, and one after which none is left by itself, may deploy, too.
    if let Some(fallback) = &selection.fallback {
        let state = |id| machine.state(id).ok().flatten();
        if selection.deployment.as_ref().and_then(state) != Some(State::Good) {
            tried.note(pin(machine, fallback));
        }
    }
    if let Some(failed) = &selection.instead_of {
        tried.note(attempt::gather(&machine.sysroot, &machine.var(), failed, &machine.admin.programs));
    }
    tried.note(machine.tell());
    tried.all()
}

/// A deployment that a person pinned is left to that person.
fn pin(machine: &Machine, id: &Id) -> Result<(), Failure> {
    let deployments = machine.sysroot.deployments()?;
    if deployments.iter().any(|deployment| deployment.id == *id && deployment.pinned) {
        return Ok(());
    }
    // First the note: what is pinned without one would stay for ever.
    records::note_pin(&machine.sysroot, id)?;
    machine.admin.pin(id, true)
}
