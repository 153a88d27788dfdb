// SPDX-License-Identifier: Apache-2.0
//! Which deployment a boot goes on with, and what is to be written first.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::menu::Deployment;
use super::records::{Id, Record, Records, State, Tries};
use super::selection::{Selection, Verdict};
use super::starts::Starts;

/// What is known about the machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// The deployments that boot entries start, in the bootloader's order. What is wrong with them isn't asked for if the booted one is good.
    pub deployments: Vec<Deployment>,
    /// The one that the bootloader started.
    pub booted: Id,
    /// The one that the bootloader starts by itself; `None` if that is no deployment.
    pub default: Option<Id>,
    /// What is known of them.
    pub records: Records,
    /// How often each is tried.
    pub tries: u32,
    /// Why the bootloader can't be told to start another one by itself, if it can't.
    pub unsteerable: Option<String>,
    /// Why nobody wants this boot to be counted, in words, if so ([`super::not_counted`]). GRUB is told all the same that it arrived.
    pub unwanted: Option<String>,
    /// Who else counts boots, in words, if somebody does.
    pub other: Option<String>,
    /// What GRUB counts.
    pub starts: Option<Starts>,
}

impl Facts {
    fn deployment(&self, id: &Id) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.id == *id)
    }

    /// What is known of it, or follows from what is known of others.
    fn state(&self, deployment: &Deployment) -> Option<State> {
        state(&self.deployments, &self.records, deployment)
    }

    fn is_good(&self, deployment: &Deployment) -> bool {
        self.state(deployment) == Some(State::Good)
    }

    fn is_used_up(&self, deployment: &Deployment) -> bool {
        self.state(deployment).is_some_and(State::is_used_up)
    }

    /// Whether that follows from what is known of others.
    fn is_redeployed(&self, deployment: &Deployment) -> bool {
        self.records.state(&deployment.id).is_none() && self.is_used_up(deployment)
    }
}

/// What is known of one of these deployments, or follows from what is known of others: that it is what was bad before, deployed once more.
/// It is of the same commit, as an updater without memory deploys it. A person who deploys it with other kernel arguments wants a try. If
/// the bad one isn't there any more to compare with, the arguments of all others stand for its own: OSTree takes them over from one of
/// those.
pub(super) fn state(deployments: &[Deployment], records: &Records, deployment: &Deployment) -> Option<State> {
    let alike = |other: &Deployment| deployment.has_arguments_of(other);
    let others = || deployments.iter().filter(|other| other.id != deployment.id);
    let is_redeployed = |bad: &Record| match others().find(|other| other.id == bad.id) {
        Some(bad) => alike(bad),
        None => others().any(alike),
    };
    let follows = || records.bad_of_the_commit_of(&deployment.id).any(is_redeployed).then_some(State::Bad);
    records.state(&deployment.id).or_else(follows)
}

/// Why a boot isn't counted that the bootloader may not have chosen itself.
const BY_HAND: &str = "it isn't the one that the bootloader starts by itself: it was picked by hand, or the bootloader was told to start another one and didn't";

/// One thing to do. Names are those of records.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Make an empty record.
    Create {
        /// Its name.
        name: String,
    },
    /// Rename a record.
    Rename {
        /// From.
        from: String,
        /// To.
        to: String,
    },
    /// Bring the names of records to the disk (fsync(2) of their folder).
    Sync,
    /// Tell the bootloader which entry to start by itself, and to count no starts, and bring that to the disk (fsync(2)).
    SetDefault {
        /// The entry's name, without `.conf`.
        entry: String,
    },
    /// Bring all that was written to where a bootloader sees it that replays no journal (`FIFREEZE` and `FITHAW`).
    Flush,
    /// Have GRUB count no starts any more, and bring that to where it sees it.
    Disarm,
    /// Have GRUB count these.
    Arm {
        /// What it counts.
        starts: Starts,
    },
    /// Reboot.
    Reboot,
    /// Let the pivot go by another link.
    Pivot {
        /// The deployment.
        id: Id,
        /// The value of its `ostree=`.
        link: String,
        /// Whether `/var` has to be told, because systemd would otherwise be told of another stateroot's.
        var: bool,
    },
    /// Leave the flag that all deployments are used up.
    Exhausted {
        /// Why, in words.
        why: String,
    },
}

impl Effect {
    /// Whether it is for nothing, or does harm, if something before it failed. A boot goes on with or without its record.
    fn needs_those_before(&self) -> bool {
        !matches!(self, Self::Pivot { .. } | Self::Exhausted { .. })
    }
}

/// What to do, in this order, and what to leave for later if all of it works.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// The effects. None for a deployment that is blessed, unless GRUB counts starts.
    pub effects: Vec<Effect>,
    /// The record.
    pub selection: Selection,
}

/// Decides, whatever GRUB counts.
pub(super) fn regardless_of_starts(facts: &Facts) -> Decision {
    let mut decision = choose(facts);
    let selection = &mut decision.selection;
    let is_good = |id: &Id| facts.records.state(id) == Some(State::Good);
    // Before a reboot nobody reads it, and a good deployment isn't left.
    if selection.verdict != Verdict::Rebooting && !selection.deployment.as_ref().is_some_and(is_good) {
        let (chosen, unreachable) = fallback(facts, selection.deployment.as_ref());
        selection.fallback = chosen;
        selection.unreachable = unreachable.filter(|_| selection.counted || selection.verdict == Verdict::Exhausted);
    }
    if selection.instead_of.is_none() && facts.default.as_ref() == Some(&facts.booted) {
        selection.instead_of = left_behind(facts);
    }
    let odd = facts.records.odd.iter();
    selection.remarks = odd.map(|name| format!("the name {name:?} among the records means nothing")).collect();
    let redeployed = facts.deployments.iter().filter(|deployment| facts.is_redeployed(deployment));
    selection.remarks.extend(redeployed.map(|Deployment { id, .. }| {
        format!(
            "{id} counts as bad: another deployment of its commit was, and its kernel arguments are the same; `fledgectl bless --forget` has it tried"
        )
    }));
    decision
}

fn choose(facts: &Facts) -> Decision {
    let Some(booted) = facts.deployment(&facts.booted) else {
        return not_counted(facts, "no boot entry starts the booted deployment");
    };
    if let Some(other) = &facts.other {
        not_counted(facts, &format!("{other}, and two may not count the same boots"))
    } else if facts.deployments.iter().all(|deployment| deployment.id == booted.id) {
        not_counted(facts, "there is no other deployment to fall back to")
    } else if facts.default.as_ref() == Some(&booted.id) || comes_after_a_switch(facts, booted) {
        count_or_fall_back(facts, booted)
    } else {
        not_counted(facts, BY_HAND)
    }
}

fn not_counted(facts: &Facts, reason: &str) -> Decision {
    let selection = Selection::not_counted(Verdict::NotCounted, Some(facts.booted.clone()), reason);
    Decision { effects: Vec::new(), selection }
}

/// Whether this is the first one, which the bootloader starts although it was told before to start another one: either it didn't obey, or
/// a person picked what it would start by itself once the override is gone.
fn comes_after_a_switch(facts: &Facts, booted: &Deployment) -> bool {
    facts.deployments.first().is_some_and(|first| first.id == booted.id)
        && facts.records.iter().any(|record| record.switched > 0)
}

/// The deployment that would be booted if the one that `boots` were used up, and why none can be then, if none can. A blessed one that can't
/// be reached goes before one that can and was never seen healthy: it is the one to keep.
fn fallback(facts: &Facts, boots: Option<&Id>) -> (Option<Id>, Option<String>) {
    let other = |other: &Deployment| Some(&other.id) != boots && other.id != facts.booted;
    let best = candidate(facts, other);
    let Some(booted) = facts.deployment(&facts.booted) else { return (best.map(|best| best.id.clone()), None) };
    let next = if facts.default.as_ref() == Some(&facts.booted) {
        destination(facts, booted, other)
    } else {
        candidate(facts, |one| other(one) && one.boots_like(booted))
    };
    let chosen = next.filter(|next| facts.is_good(next) || !best.is_some_and(|best| facts.is_good(best))).or(best);
    let unreachable = chosen.filter(|_| next.is_none()).map(|chosen| {
        obstacle(facts, booted, chosen).unwrap_or_else(|| {
            "the bootloader was told to start another one than the first, and starts the first".into()
        })
    });
    (chosen.map(|chosen| chosen.id.clone()), unreachable)
}

fn count_or_fall_back(facts: &Facts, booted: &Deployment) -> Decision {
    if facts.is_good(booted) {
        let selection = Selection::not_counted(Verdict::Blessed, Some(booted.id.clone()), "it was blessed before");
        return Decision { effects: Vec::new(), selection };
    }
    if facts.is_used_up(booted) {
        let mut decision = fall_back(facts, booted);
        // Whoever goes by records alone knows it then, too.
        if facts.is_redeployed(booted) && decision.selection.verdict != Verdict::NotCounted {
            decision.effects.splice(..0, [Effect::Create { name: State::Bad.name(&booted.id) }, Effect::Sync]);
        }
        return decision;
    }
    if let Some(why) = &booted.unblessed {
        return not_counted(facts, why);
    }
    let (effects, tries) = count(facts, &booted.id);
    let mut selection = Selection::not_counted(Verdict::Counted, Some(booted.id.clone()), told(tries));
    (selection.tries, selection.counted) = (Some(tries), true);
    Decision { effects, selection }
}

/// A deployment that isn't used up is tried once more. One without a record gets one.
fn count(facts: &Facts, id: &Id) -> (Vec<Effect>, Tries) {
    let record = facts.records.get(id);
    let (tries, old) = match record.and_then(|record| Some((record.state?, record.names.first()?))) {
        Some((State::Trying(tries), name)) => (tries, Some(name)),
        _ => (Tries { left: facts.tries, done: 0 }, None),
    };
    let tries = Tries { left: tries.left.saturating_sub(1), done: tries.done.saturating_add(1) };
    let name = State::Trying(tries).name(id);
    let write = match old {
        Some(old) => Effect::Rename { from: old.clone(), to: name },
        None => Effect::Create { name },
    };
    ([write, Effect::Sync].into(), tries)
}

fn told(tries: Tries) -> String {
    let Tries { left, done } = tries;
    format!("it isn't blessed yet: this is try {done} of {}", done.saturating_add(left))
}

/// The deployment to boot instead: the newest that was blessed; where none was, the newest that has tries left. The first that can be
/// booted counts.
fn candidate(facts: &Facts, wanted: impl Fn(&Deployment) -> bool) -> Option<&Deployment> {
    let of = |known: &dyn Fn(&Deployment) -> bool| {
        let fits = |other: &&Deployment| wanted(other) && other.unusable.is_none();
        facts.deployments.iter().find(|other| fits(other) && known(other))
    };
    of(&|other| facts.is_good(other)).or_else(|| of(&|other| !facts.is_used_up(other)))
}

/// The deployment that gets booted in the stead of the booted one, of those that can be: without a reboot rather than with one, but a
/// blessed one that takes a reboot goes before one that nobody has seen healthy.
fn destination<'f>(
    facts: &'f Facts,
    booted: &Deployment,
    wanted: impl Fn(&Deployment) -> bool,
) -> Option<&'f Deployment> {
    let best = candidate(facts, |other| wanted(other) && obstacle(facts, booted, other).is_none())?;
    let without_reboot = candidate(facts, |other| wanted(other) && other.boots_like(booted));
    without_reboot.filter(|found| facts.is_good(found) || !facts.is_good(best)).or(Some(best))
}

/// Why another deployment can't be booted in the stead of the booted one, if it can't.
fn obstacle(facts: &Facts, booted: &Deployment, other: &Deployment) -> Option<String> {
    if other.boots_like(booted) {
        return None;
    }
    let id = &other.id;
    if let Some(why) = &facts.unsteerable {
        return Some(format!("{id} would take a reboot, and the bootloader can't be told: {why}"));
    }
    if let Some(why) = &other.unstartable {
        return Some(format!("{id} would take a reboot, and the bootloader can't start it: {why}"));
    }
    let is_spent = facts.records.next_switch(&booted.id).is_none();
    is_spent.then(|| format!("the bootloader was told twice to start another one, such as {id}, and didn't"))
}

fn fall_back(facts: &Facts, booted: &Deployment) -> Decision {
    let other = |other: &Deployment| other.id != booted.id;
    if facts.default.as_ref() != Some(&booted.id) {
        // The bootloader was told before, and may go on as it does.
        let alike = candidate(facts, |one| other(one) && one.boots_like(booted));
        return alike.map_or_else(|| not_counted(facts, BY_HAND), |found| pivot(facts, booted, found));
    }
    match (destination(facts, booted, other), facts.records.next_switch(&booted.id)) {
        (Some(found), _) if found.boots_like(booted) => pivot(facts, booted, found),
        (Some(found), Some(mark)) => reboot(booted, found, mark),
        (_, _) => {
            let why = match candidate(facts, other).and_then(|best| obstacle(facts, booted, best)) {
                Some(why) => format!("it is used up; {why}"),
                None => "it is used up, and no other deployment can be booted".into(),
            };
            exhausted(facts, booted, &why)
        }
    }
}

fn pivot(facts: &Facts, booted: &Deployment, found: &Deployment) -> Decision {
    let mut selection = Selection::not_counted(Verdict::FellBack, Some(found.id.clone()), "");
    selection.bootloader = Some(booted.id.clone());
    selection.instead_of = Some(booted.id.clone());
    selection.reason = format!("{} is used up; this one boots in its stead, without a reboot", booted.id);
    let mut effects = Vec::new();
    if facts.is_good(found) {
    } else if let Some(why) = &found.unblessed {
        selection.reason = format!("{}; it isn't counted: {why}", selection.reason);
    } else {
        let (count, tries) = count(facts, &found.id);
        effects = count;
        (selection.tries, selection.counted) = (Some(tries), true);
        selection.reason = format!("{}, and {}", selection.reason, told(tries));
    }
    let var = found.id.stateroot() != booted.id.stateroot();
    effects.push(Effect::Pivot { id: found.id.clone(), link: found.link.clone(), var });
    Decision { effects, selection }
}

fn reboot(booted: &Deployment, best: &Deployment, mark: String) -> Decision {
    let effects = [
        Effect::Create { name: mark },
        Effect::Sync,
        Effect::SetDefault { entry: best.entry.clone() },
        Effect::Flush,
        Effect::Reboot,
    ];
    let mut selection = Selection::not_counted(Verdict::Rebooting, Some(best.id.clone()), "");
    selection.bootloader = Some(booted.id.clone());
    selection.instead_of = Some(booted.id.clone());
    selection.reason = format!("{} is used up; the machine reboots into {}", booted.id, best.id);
    Decision { effects: effects.into(), selection }
}

fn exhausted(facts: &Facts, booted: &Deployment, why: &str) -> Decision {
    let mut selection = Selection::not_counted(Verdict::Exhausted, Some(booted.id.clone()), why);
    if let Some(State::Trying(tries)) = facts.records.state(&booted.id) {
        selection.tries = Some(tries);
    }
    Decision { effects: [Effect::Exhausted { why: why.into() }].into(), selection }
}

/// The deployment in whose stead the bootloader was told to start this one, before a reboot.
fn left_behind(facts: &Facts) -> Option<Id> {
    let left = facts.deployments.iter().find(|other| {
        other.id != facts.booted
            && facts.records.switched(&other.id) > 0
            && facts.records.state(&other.id).is_some_and(State::is_used_up)
    });
    left.map(|other| other.id.clone())
}

/// Carries out a decision, and returns the record of what came of it. `perform` does one effect, or says why it could not.
///
/// Whatever fails, the boot goes on: without being counted, and, if a reboot was wanted, in the deployment that the bootloader chose.
pub fn carry_out(decision: Decision, perform: &mut dyn FnMut(&Effect) -> Result<(), String>) -> Selection {
    let Decision { effects, mut selection } = decision;
    let mut failed: Option<String> = None;
    for effect in &effects {
        if failed.is_some() && effect.needs_those_before() {
            continue;
        }
        let Err(why) = perform(effect) else { continue };
        match effect {
            Effect::Pivot { .. } => stay(&mut selection, &why, perform),
            // The first is for others to know, and this record says the same; with the others, the boot is counted all the same.
            Effect::Exhausted { .. } | Effect::Disarm | Effect::Arm { .. } => selection.remarks.push(why),
            _ => failed = Some(why),
        }
    }
    let Some(why) = failed else { return selection };
    match selection.verdict {
        Verdict::Rebooting => stay(&mut selection, &why, perform),
        Verdict::Counted => {
            selection.verdict = Verdict::CouldNotCount;
            selection.reason = format!("this boot should have been counted: {why}");
        }
        _ => selection.remarks.push(format!("a record could not be written: {why}")),
    }
    (selection.tries, selection.counted) = (None, false);
    selection
}

/// Another deployment could not be booted: this one goes on.
fn stay(selection: &mut Selection, why: &str, perform: &mut dyn FnMut(&Effect) -> Result<(), String>) {
    selection.stay(why);
    if let Err(why) = perform(&Effect::Exhausted { why: selection.reason.clone() }) {
        selection.remarks.push(why);
    }
}
