// SPDX-License-Identifier: Apache-2.0
//! What is written after boot: when it is healthy, and when a person says so.
//!
//! Every list may be carried out again from its beginning, and stops at the first step that fails: what comes later relies on what
//! comes first.

use alloc::string::String;
use alloc::vec::Vec;

use super::arm;
use super::records::{Id, Record, Records, State, Tries};
use super::selection::Selection;

/// One thing to do. Names are those of records.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Make an empty record.
    Create {
        /// Its name.
        name: String,
    },
    /// Rename a record; one of the new name gives way.
    Rename {
        /// From.
        from: String,
        /// To.
        to: String,
    },
    /// Remove a record.
    Remove {
        /// Its name.
        name: String,
    },
    /// Bring the names to the disk (fsync(2) of their folder).
    Sync,
    /// Make a deployment the one that OSTree lists first (`ostree admin set-default`, `rpm-ostree rollback`).
    SetDefault {
        /// Which.
        id: Id,
    },
    /// Take the variable [`super::STEERING`] out of `grubenv`, in place, and bring that to where GRUB sees it (fsync(2), `FIFREEZE` and
    /// `FITHAW`).
    RemoveOverride,
    /// Take the variables out of `grubenv` by which GRUB counts starts ([`super::disarmed`]), in the same manner.
    Disarm,
}

/// A boot that is healthy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Healthy {
    /// The deployment that runs. It is taken from the system, not from the command line: after a fallback without a reboot that names
    /// another one, and after a soft reboot [`Selection`] may, too.
    pub running: Id,
    /// What is known.
    pub records: Records,
    /// What selection left; `None` if there was none, as on a first boot, and on a machine whose initramfs has no Fledge: what runs there
    /// is marked, as what has been healthy.
    pub selection: Option<Selection>,
    /// All deployments that are there, with or without a boot entry.
    pub deployments: Vec<Id>,
    /// The deployment that OSTree lists first.
    pub first: Option<Id>,
    /// Whether `grubenv` has the variable [`super::STEERING`], or is damaged and may have had it, as a mark tells.
    pub overridden: bool,
    /// Whether GRUB counts starts.
    pub armed: bool,
}

/// What a healthy boot writes: nothing, if its deployment is blessed and it is no fallback.
///
/// A deployment that was marked as bad stays so: [`mark_good`] is for a person who knows better.
pub fn bless(boot: &Healthy) -> Vec<Step> {
    let Healthy { running, records, .. } = boot;
    let mut steps = Vec::new();
    // What failed is remembered before anything else can be deployed: OSTree drops it then.
    let instead_of = boot.selection.as_ref().filter(|selection| selection.deployment.as_ref() == Some(running));
    let unseen = instead_of.is_some_and(|selection| selection.never_arrived.is_some());
    let instead_of = instead_of.and_then(|selection| selection.instead_of.as_ref());
    let left = records.iter().filter(|record| record.id != *running && record.state.is_some_and(State::is_used_up));
    // The override may be of one that GRUB fell back to before, which a mark tells of: the first, which never arrived, has none then.
    let switched = records.iter().any(|record| record.switched > 0);
    let hidden = boot.first.as_ref().filter(|_| boot.overridden && switched && instead_of.is_some());
    let is_left = |record: &&Record| record.switched > 0 || [instead_of, hidden].contains(&Some(&record.id));
    let left = left.filter(is_left).map(|record| &record.id);
    // What counts as bad because of another deployment of its commit may have no record of its own yet, and what never arrived has none
    // if selection couldn't write. GRUB isn't disarmed before it has one: later, a person wants to have it forgotten.
    let redeployed = |id: &&Id| records.state(id).is_none() && records.bad_of_the_commit_of(id).next().is_some();
    let mut left: Vec<&Id> = left.collect();
    let more = |id: &&Id| redeployed(id) || (unseen && boot.armed && records.state(id) != Some(State::Good));
    left.extend(instead_of.filter(more).filter(|id| !left.contains(id)));
    for id in &left {
        steps.extend(become_state(records, id, State::Bad));
    }
    if records.state(running) != Some(State::Bad) {
        steps.extend(become_state(records, running, State::Good));
    }
    // Only then is the bootloader's own default put right, and the override, which goes by an entry's place, removed.
    let fell_back = boot.first.as_ref().filter(|first| *first != running && left.contains(first));
    if fell_back.is_some() {
        steps.push(Step::SetDefault { id: running.clone() });
    }
    let may_start = |first: &Id| first == running || !records.state(first).is_some_and(State::is_used_up);
    let right = fell_back.is_some() || boot.first.as_ref().is_some_and(may_start);
    if boot.overridden && switched && right {
        steps.push(Step::RemoveOverride);
    }
    if arm::is_over(boot, fell_back.is_some(), right) {
        steps.push(Step::Disarm);
    }
    // The marks keep a machine from rebooting for ever, and tell of the override, so they go last, and all at once.
    if right {
        for record in records.iter() {
            steps.extend(marks(records, &record.id).map(|name| Step::Remove { name: name.clone() }));
        }
    }
    let remembered = |id: &Id| left.contains(&id) || records.state(id) == Some(State::Bad);
    let gone = |id: &&Id| !boot.deployments.contains(id) && *id != running && !remembered(id);
    for id in records.iter().map(|record| &record.id).filter(gone) {
        steps.extend(states(records, id).map(|name| Step::Remove { name: name.clone() }));
    }
    synced(steps)
}

/// What a person writes who says that a deployment is good. `overridden` is as in [`Healthy`].
pub fn mark_good(records: &Records, id: &Id, overridden: bool) -> Vec<Step> {
    let mut steps = become_state(records, id, State::Good);
    steps.extend(remove_override(records, id, overridden));
    steps.extend(marks(records, id).map(|name| Step::Remove { name: name.clone() }));
    synced(steps)
}

/// What a person writes who says that a deployment is bad.
pub fn mark_bad(records: &Records, id: &Id) -> Vec<Step> {
    synced(become_state(records, id, State::Bad))
}

/// What a person writes who wants a deployment to be counted as if it were new. `overridden` is as in [`Healthy`].
///
/// That other deployments of its commit are bad is forgotten, too: it would count for this one.
pub fn forget(records: &Records, id: &Id, overridden: bool) -> Vec<Step> {
    let mut steps: Vec<Step> = remove_override(records, id, overridden).into_iter().collect();
    let others = records.bad_of_the_commit_of(id).flat_map(|record| states(records, &record.id));
    steps.extend(names(records, id).chain(others).map(|name| Step::Remove { name: name.clone() }));
    synced(steps)
}

/// Without a mark nobody would know any more whose the override is, so it goes before the last one.
fn remove_override(records: &Records, id: &Id, overridden: bool) -> Option<Step> {
    let last = records.switched(id) > 0 && !records.iter().any(|other| other.id != *id && other.switched > 0);
    (overridden && last).then_some(Step::RemoveOverride)
}

/// What gives this boot's try back, because the boot wasn't one: a rescue shell that a person asked for, or a soft reboot.
///
/// The caller sets [`Selection::counted`] to false in the record afterwards: a try is given back once.
pub fn give_back(records: &Records, selection: &Selection) -> Vec<Step> {
    let Some(id) = selection.deployment.as_ref().filter(|_| selection.counted) else { return Vec::new() };
    let Some(State::Trying(tries)) = records.state(id).filter(|_| selection.tries.is_some()) else { return Vec::new() };
    if Some(tries) != selection.tries {
        return Vec::new();
    }
    let Tries { left, done } = tries;
    let Some(done) = done.checked_sub(1) else { return Vec::new() };
    let given = State::Trying(Tries { left: left.saturating_add(1), done });
    synced(become_state(records, id, given))
}

/// A deployment's state becomes another one, by a rename where it has one. Its other states give way, its marks don't.
fn become_state(records: &Records, id: &Id, state: State) -> Vec<Step> {
    let to = state.name(id);
    let mut states = states(records, id);
    let mut steps = Vec::new();
    match states.next() {
        Some(from) if *from == to => {}
        Some(from) => steps.push(Step::Rename { from: from.clone(), to: to.clone() }),
        None => steps.push(Step::Create { name: to.clone() }),
    }
    steps.extend(states.filter(|name| **name != to).map(|name| Step::Remove { name: name.clone() }));
    steps
}

/// The names of a deployment's states, the one that counts first.
fn states<'r>(records: &'r Records, id: &Id) -> impl Iterator<Item = &'r String> {
    names(records, id).filter(|name| !is_mark(name))
}

/// The names of a deployment's marks that another one was to be started in its stead.
fn marks<'r>(records: &'r Records, id: &Id) -> impl Iterator<Item = &'r String> {
    names(records, id).filter(|name| is_mark(name))
}

fn names<'r>(records: &'r Records, id: &Id) -> impl Iterator<Item = &'r String> {
    records.get(id).map(|record| record.names.as_slice()).unwrap_or_default().iter()
}

fn is_mark(name: &str) -> bool {
    name.ends_with(".switched") || name.ends_with(".switched-again")
}

/// Names are on the disk before anything else relies on them, and at the end.
fn synced(steps: Vec<Step>) -> Vec<Step> {
    let mut synced = Vec::new();
    let mut pending = false;
    for step in steps {
        let is_name = matches!(step, Step::Create { .. } | Step::Rename { .. } | Step::Remove { .. });
        if pending && !is_name {
            synced.push(Step::Sync);
        }
        pending = is_name;
        synced.push(step);
    }
    if pending {
        synced.push(Step::Sync);
    }
    synced
}
