// SPDX-License-Identifier: Apache-2.0
//! Mistakes that somebody could make in what is decided and in what carries it out: with each of them, the walk finds a machine that
//! gets stuck.

use super::std::println;
use super::walk::{Hooks, UNCHANGED, walk, with_one_to_come, with_panics, with_three, with_two};
use crate::counting::*;
use alloc::vec::Vec;

fn position(effects: &[Effect], wanted: fn(&Effect) -> bool) -> Option<usize> {
    effects.iter().position(wanted)
}

fn drop_all(decision: &mut Decision, unwanted: fn(&Effect) -> bool) {
    decision.effects.retain(|effect| !unwanted(effect));
}

fn swap(decision: &mut Decision, one: fn(&Effect) -> bool, other: fn(&Effect) -> bool) {
    if let (Some(one), Some(other)) = (position(&decision.effects, one), position(&decision.effects, other)) {
        decision.effects.swap(one, other);
    }
}

fn is_name(effect: &Effect) -> bool {
    matches!(effect, Effect::Create { .. } | Effect::Rename { .. })
}

fn is_sync(effect: &Effect) -> bool {
    *effect == Effect::Sync
}

fn switches(decision: &Decision) -> bool {
    decision.selection.verdict == Verdict::Rebooting
}

/// The records of the facts, without some of them.
fn without(facts: &Facts, unwanted: fn(&str) -> bool) -> Records {
    let names = facts.records.iter().flat_map(|record| &record.names).map(alloc::string::String::as_str);
    Records::parse(names.filter(|name| !unwanted(name)))
}

fn says(name: &str, word: &str) -> bool {
    name.rsplit('.').next() == Some(word)
}

const MUTATIONS: &[(&str, Hooks)] = &[
    (
        "the count is synced before it is renamed",
        Hooks { decision: |_, decision| swap(decision, is_name, is_sync), ..UNCHANGED },
    ),
    ("nothing is synced", Hooks { decision: |_, decision| drop_all(decision, is_sync), ..UNCHANGED }),
    (
        "a try isn't taken away",
        Hooks {
            decision: |_, decision| {
                for effect in &mut decision.effects {
                    if let Effect::Rename { from, to } = effect {
                        to.clone_from(from);
                    }
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "a deployment that is used up is taken for one that nobody knows",
        Hooks { facts: |facts| facts.records = without(facts, |name| name.contains("+0-")), ..UNCHANGED },
    ),
    (
        "a boot without tries that are left isn't noticed",
        Hooks {
            facts: |facts| {
                let good = facts.booted.clone();
                if facts.records.state(&good).is_some_and(State::is_used_up) {
                    facts.default = None;
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "no mark is left before a reboot",
        Hooks {
            decision: |_, decision| {
                if switches(decision) {
                    drop_all(decision, |effect| is_name(effect) || is_sync(effect));
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "the mark isn't synced before a reboot",
        Hooks {
            decision: |_, decision| {
                if switches(decision) {
                    drop_all(decision, is_sync);
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "marks aren't looked at",
        Hooks { facts: |facts| facts.records = without(facts, |name| name.contains(".switched")), ..UNCHANGED },
    ),
    (
        "the boot file system isn't written out before a reboot",
        Hooks { decision: |_, decision| drop_all(decision, |effect| *effect == Effect::Flush), ..UNCHANGED },
    ),
    (
        "the boot file system is written out before GRUB is told",
        Hooks {
            decision: |_, decision| {
                swap(decision, |effect| matches!(effect, Effect::SetDefault { .. }), |effect| *effect == Effect::Flush);
            },
            ..UNCHANGED
        },
    ),
    (
        "GRUB is told to start what is used up",
        Hooks {
            decision: |facts, decision| {
                let booted = facts.deployments.iter().find(|deployment| deployment.id == facts.booted);
                for effect in &mut decision.effects {
                    if let (Effect::SetDefault { entry }, Some(booted)) = (effect, booted) {
                        entry.clone_from(&booted.entry);
                    }
                }
            },
            ..UNCHANGED
        },
    ),
    ("failures aren't noticed", Hooks { deaf: true, ..UNCHANGED }),
    (
        "the kernel isn't compared",
        Hooks {
            facts: |facts| facts.deployments.iter_mut().for_each(|deployment| deployment.bootcsum = "same".into()),
            ..UNCHANGED
        },
    ),
    (
        "the stateroot isn't compared",
        Hooks {
            decision: |_, decision| {
                for effect in &mut decision.effects {
                    if let Effect::Pivot { var, .. } = effect {
                        *var = false;
                    }
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "a deployment that can't be booted is chosen",
        Hooks { facts: |facts| facts.deployments.iter_mut().for_each(|one| one.unusable = None), ..UNCHANGED },
    ),
    (
        "what is bad is forgotten",
        Hooks { facts: |facts| facts.records = without(facts, |name| says(name, "bad")), ..UNCHANGED },
    ),
    (
        "blessed deployments are counted",
        Hooks { facts: |facts| facts.records = without(facts, |name| says(name, "good")), ..UNCHANGED },
    ),
    ("a choice by hand is counted", Hooks { facts: |facts| facts.default = Some(facts.booted.clone()), ..UNCHANGED }),
    (
        "the machine reboots when nothing is left to boot",
        Hooks {
            decision: |_, decision| {
                if decision.selection.verdict == Verdict::Exhausted {
                    decision.effects.push(Effect::Reboot);
                }
            },
            ..UNCHANGED
        },
    ),
    ("any boot may be ended by a deadline", Hooks { selection: |selection| selection.counted = true, ..UNCHANGED }),
    (
        "the record names what the bootloader chose",
        Hooks { selection: |selection| selection.deployment.clone_from(&selection.bootloader), ..UNCHANGED },
    ),
    (
        "what fails isn't remembered when its successor is blessed",
        Hooks {
            steps: |_, steps| {
                steps.retain(|step| !matches!(step, Step::Rename { to, .. } if says(to, "bad")));
            },
            ..UNCHANGED
        },
    ),
    (
        "a record is removed and made anew",
        Hooks {
            steps: |_, steps| {
                let rename = |step| match step {
                    Step::Rename { from, to } => [Step::Remove { name: from }, Step::Create { name: to }].to_vec(),
                    step => [step].to_vec(),
                };
                *steps = steps.drain(..).flat_map(rename).collect();
            },
            ..UNCHANGED
        },
    ),
    (
        "the bootloader's default isn't put right",
        Hooks { steps: |_, steps| steps.retain(|step| !matches!(step, Step::SetDefault { .. })), ..UNCHANGED },
    ),
    ("the override stays", Hooks { steps: |_, steps| steps.retain(|step| *step != Step::RemoveOverride), ..UNCHANGED }),
    (
        "a healthy boot marks what is good as bad",
        Hooks {
            steps: |_, steps| {
                if let Some(Step::Rename { from, to }) = steps.first_mut().filter(|step| !is_bad(step)) {
                    if let Some((id, _)) = from.rsplit_once('+') {
                        *to = alloc::format!("{id}.bad");
                    }
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "the marks go before the override",
        Hooks {
            steps: |_, steps| {
                if let Some(place) = steps.iter().position(|step| *step == Step::RemoveOverride) {
                    let step = steps.remove(place);
                    steps.push(step);
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "a boot without a deployment that is left keeps no other",
        Hooks {
            selection: |selection| {
                if selection.verdict == Verdict::Exhausted {
                    (selection.fallback, selection.unreachable) = (None, None);
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "an update isn't counted after a switch that GRUB ignored",
        Hooks {
            decision: |facts, decision| {
                if facts.default.as_ref() != Some(&facts.booted) {
                    let booted = Some(facts.booted.clone());
                    decision.effects.clear();
                    decision.selection = Selection::not_counted(Verdict::NotCounted, booted, "picked by hand");
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "an update that is used up isn't left after a switch that GRUB ignored",
        Hooks {
            decision: |facts, decision| {
                let fell_back = decision.selection.verdict == Verdict::FellBack;
                if fell_back && facts.default.as_ref() != Some(&facts.booted) {
                    let booted = Some(facts.booted.clone());
                    decision.effects.clear();
                    decision.selection = Selection::not_counted(Verdict::NotCounted, booted, "picked by hand");
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "what was bad is tried again under another serial",
        Hooks {
            decision: |facts, decision| {
                let redeployed = matches!(decision.effects.first(), Some(Effect::Create { name }) if says(name, "bad"));
                if redeployed {
                    let tries = Tries { left: facts.tries - 1, done: 1 };
                    let name = State::Trying(tries).name(&facts.booted);
                    decision.effects = [Effect::Create { name }, Effect::Sync].into();
                    decision.selection = Selection::not_counted(Verdict::Counted, Some(facts.booted.clone()), "");
                    (decision.selection.tries, decision.selection.counted) = (Some(tries), true);
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "a pivot that fails ends the boot",
        Hooks {
            refused: |selection| {
                let refused = selection.deployment.clone();
                selection.stay("it can't be mounted");
                selection.deployment = refused;
            },
            ..UNCHANGED
        },
    ),
    ("nobody is told of a pivot that failed", Hooks { refused: |_| (), ..UNCHANGED }),
    (
        "a fallback to a deployment that nobody has seen healthy isn't counted",
        Hooks {
            decision: |_, decision| {
                if decision.selection.verdict == Verdict::FellBack {
                    drop_all(decision, |effect| is_name(effect) || is_sync(effect));
                    (decision.selection.counted, decision.selection.tries) = (false, None);
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "a healthy boot takes back that its deployment is bad",
        Hooks {
            steps: |boot, steps| {
                if boot.records.state(&boot.running) == Some(State::Bad) {
                    let name = |state: State| state.name(&boot.running);
                    steps.push(Step::Rename { from: name(State::Bad), to: name(State::Good) });
                    steps.push(Step::Sync);
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "GRUB isn't told that a start arrived",
        Hooks { decision: |_, decision| drop_all(decision, |effect| *effect == Effect::Disarm), ..UNCHANGED },
    ),
    (
        "what GRUB left isn't written down",
        Hooks {
            decision: |_, decision| {
                if decision.selection.never_arrived.is_some() {
                    drop_all(decision, is_name);
                }
            },
            ..UNCHANGED
        },
    ),
    ("GRUB doesn't write what it counts", Hooks { saves: false, ..UNCHANGED }),
    (
        "what GRUB counts is removed when the system goes off before the default is right",
        Hooks {
            arms: |arms| {
                if matches!(arms, Arms::Set(starts) if starts.left == Left::Starts(0)) {
                    *arms = Arms::Remove("it is known".into());
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "what GRUB left is started again as often as it was given",
        Hooks {
            arms: |arms| {
                if let Arms::Set(starts) = arms {
                    starts.left = Left::Starts(starts.given);
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "what is used up gets all its starts",
        Hooks {
            arms: |arms| {
                if let Arms::Set(starts @ Starts { left: Left::Starts(1..), .. }) = arms {
                    (starts.left, starts.given) = (Left::Starts(3), 3);
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "what GRUB left stays the default where another one was left, too",
        Hooks {
            steps: |boot, steps| {
                let known = boot.selection.as_ref().and_then(|selection| selection.instead_of.as_ref());
                let hides = |first: &&Id| boot.overridden && known != Some(*first) && boot.records.switched(first) == 0;
                let first = boot.first.as_ref().filter(hides).and_then(|first| boot.records.state(first));
                let is_mark = |name: &str| says(name, "switched") || says(name, "switched-again");
                if first.is_some_and(State::is_used_up) {
                    steps.retain(|step| match step {
                        Step::Remove { name } => !is_mark(name),
                        step => !matches!(step, Step::SetDefault { .. } | Step::RemoveOverride),
                    });
                }
            },
            ..UNCHANGED
        },
    ),
    (
        "GRUB isn't disarmed once the default is right",
        Hooks { steps: |_, steps| steps.retain(|step| *step != Step::Disarm), ..UNCHANGED },
    ),
];

/// The same of what people say.
const OF_WORDS: &[(&str, Hooks)] = &[(
    "a person's word takes the mark away and leaves the override",
    Hooks { said: |steps| steps.retain(|step| *step != Step::RemoveOverride), ..UNCHANGED },
)];

fn is_bad(step: &Step) -> bool {
    matches!(step, Step::Rename { to, .. } if says(to, "bad"))
}

#[test]
fn every_mutation_is_found() {
    let (mut quiet, mut talking) = (with_two(), with_two());
    // Where people talk, there are ten times as many states.
    for (machine, _) in &mut quiet {
        machine.talks = false;
    }
    talking.retain(|(machine, _)| machine.talks);
    // Those with few states first.
    let (few, many): (Vec<_>, Vec<_>) = with_panics().into_iter().partition(|(machine, _)| machine.kinds.len() == 2);
    let machines = [few, quiet, with_three(), with_one_to_come(), many].concat();
    let mut survived = Vec::new();
    let of_words = OF_WORDS.iter().map(|mutation| (mutation, &talking));
    for ((name, hooks), machines) in MUTATIONS.iter().map(|mutation| (mutation, &machines)).chain(of_words) {
        let found = machines.iter().find_map(|(machine, start)| {
            let why = walk(machine, start.clone(), *hooks).err()?;
            Some((machine, why))
        });
        match found {
            Some((machine, why)) => println!("{name}: {machine}: {}", why.split(':').next().unwrap_or_default()),
            None => survived.push(*name),
        }
    }
    println!("{} mutations killed", MUTATIONS.len() + OF_WORDS.len() - survived.len());
    assert!(survived.is_empty(), "{survived:?}");
}
