// SPDX-License-Identifier: Apache-2.0
//! The beginning of a boot in the real root.

use fledge_core::counting::{Id, Selection, State};
use fledge_core::diag::Failure;

use super::unhealthy::was_soft_rebooted;
use super::{Machine, Tried, bounded, give_back};
use crate::attempt;
use crate::records;

/// Notes a counted boot. After a fallback, collects what is known of the deployment that failed, and tells. Then pins the one that would be
/// fallen back to until the running one is good: whatever is deployed meanwhile, that one stays.
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
    if let Some(failed) = selection.instead_of.clone() {
        let (what, gathering) = (format!("collecting what is known of {failed}"), machine.clone());
        let gather = move || attempt::gather(&gathering.sysroot, &gathering.var(), &failed, &gathering.admin.programs);
        tried.note(in_time(machine, what, "the journal doesn't answer", gather));
    }
    tried.note(machine.tell());
    // Not only where it is counted: a boot that a person chose, and one after which none is left by itself, may deploy, too. Whoever deploys
    // just now has OSTree's lock, and it is waited for: what has to be told has been told.
    if let Some(fallback) = selection.fallback {
        let state = |id| machine.state(id).ok().flatten();
        if selection.deployment.as_ref().and_then(state) != Some(State::Good) {
            let (what, pinning) = (format!("pinning {fallback}"), machine.clone());
            tried.note(in_time(machine, what, "another program may have OSTree's lock", move || {
                pin(&pinning, &fallback)
            }));
        }
    }
    tried.all()
}

/// Does something that may take long, and not longer than this machine has patience.
fn in_time(
    machine: &Machine,
    what: String,
    why: &str,
    work: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    bounded(machine.patience, work).unwrap_or_else(|| {
        let limit = machine.patience.as_secs();
        Err(Failure::new(what, format!("it did not end within {limit} seconds: {why}"))
            .remedy("once that is over: `systemctl restart fledge-attempt`"))
    })
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
