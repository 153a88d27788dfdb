// SPDX-License-Identifier: Apache-2.0
//! A walk through all that can become of a machine, boot by boot. On every way: it doesn't reboot for ever by itself, every boot ends in a
//! deployment that can boot, and a good deployment isn't lost.

use super::std::collections::{HashMap, HashSet};
use super::std::println;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::model::*;
use crate::counting::*;

/// What a mutation changes.
#[derive(Clone, Copy)]
pub(super) struct Hooks {
    pub(super) facts: fn(&mut Facts),
    pub(super) decision: fn(&Facts, &mut Decision),
    pub(super) selection: fn(&mut Selection),
    pub(super) steps: fn(&Healthy, &mut Vec<Step>),
    /// The same of what a person says.
    pub(super) said: fn(&mut Vec<Step>),
    /// What becomes of a record when the pivot fails into the deployment that it names.
    pub(super) refused: fn(&mut Selection),
    /// The same of what is written when a system goes off.
    pub(super) arms: fn(&mut Arms),
    /// GRUB writes what it counts.
    pub(super) saves: bool,
    /// Failures of effects aren't noticed.
    pub(super) deaf: bool,
}

pub(super) const UNCHANGED: Hooks = Hooks {
    facts: |_| (),
    decision: |_, _| (),
    selection: |_| (),
    steps: |_, _| (),
    said: |_| (),
    refused: |selection| selection.stay("it can't be mounted"),
    arms: |_| (),
    saves: true,
    deaf: false,
};

pub(super) type Checked<T> = Result<T, String>;

fn ensure(holds: bool, what: &str, about: &dyn core::fmt::Debug) -> Checked<()> {
    if holds { Ok(()) } else { Err(format!("{what}: {about:?}")) }
}

fn state(world: &World, id: &Id) -> Option<State> {
    world.names.records().state(id)
}

fn is_good(world: &World, id: &Id) -> bool {
    state(world, id) == Some(State::Good)
}

/// Whether another deployment of its commit was bad. Kernel arguments are all the same here.
fn is_redeployed(world: &World, id: &Id) -> bool {
    let records = world.names.records();
    records.state(id).is_none() && records.bad_of_the_commit_of(id).next().is_some()
}

fn is_used_up(world: &World, id: &Id) -> bool {
    is_redeployed(world, id) || state(world, id).is_some_and(State::is_used_up)
}

/// What becomes of a machine.
#[derive(Default)]
struct Next {
    /// After a person or a power cut.
    started: HashSet<World>,
    /// By itself.
    rebooted: HashSet<World>,
    /// After a person said what is known of a deployment.
    said: HashSet<World>,
    /// Worlds of which all was said already.
    talked: HashSet<World>,
    /// What was lived through already.
    lived: HashSet<(World, Alive)>,
}

/// What of a record counts for what comes after it: deployment, tries, in whose stead, fallback.
type Alive = (Option<Id>, Option<Tries>, Option<Id>, Option<Id>);

impl Next {
    fn starts(&mut self, world: World) {
        self.started.insert(world);
    }
}

/// Walks through all that can become of the machines that start in these worlds. Returns how many there are.
pub(super) fn walk(machine: &Machine, start: Vec<World>, hooks: Hooks) -> Checked<usize> {
    let mut known: HashMap<World, usize> = HashMap::new();
    let mut open = Vec::new();
    // Where each gets by itself.
    let mut ways: Vec<Vec<usize>> = Vec::new();
    let mut number = |world: World, open: &mut Vec<(usize, World)>, ways: &mut Vec<Vec<usize>>| {
        *known.entry(world).or_insert_with_key(|world| {
            open.push((ways.len(), world.clone()));
            ways.push(Vec::new());
            ways.len() - 1
        })
    };
    for world in start {
        number(world, &mut open, &mut ways);
    }
    let mut next = Next::default();
    while let Some((place, world)) = open.pop() {
        Walker { machine, hooks, before: &world }.boot(&mut next)?;
        let after =
            [(&mut next.started, false, false), (&mut next.rebooted, true, false), (&mut next.said, false, true)];
        let after =
            after.map(|(worlds, by_itself, said)| worlds.drain().map(|world| (world, by_itself, said)).collect());
        for (after, by_itself, said) in after.into_iter().flat_map(|worlds: Vec<_>| worlds) {
            // Without a good deployment nothing arms it, and it isn't armed yet if power is lost before.
            if machine.is_lost(&after) {
                continue;
            }
            let marked = after.names.records().iter().any(|record| record.switched > 0);
            ensure(
                !matches!(after.env, Env::Default(_)) || marked,
                "nobody knows any more whose the override is",
                &(&world, &after),
            )?;
            // What was gone for a while may be forgotten.
            let stayed = after.order.iter().filter(|deployment| !said && world.order.contains(deployment));
            for id in stayed.map(|deployment| machine.id(*deployment)) {
                let (old, new) = (state(&world, id), state(&after, id));
                ensure(old.is_none() || new.is_some(), "what was known is forgotten", &(&world, &after))?;
                let known = |wanted: State| old != Some(wanted) || new == Some(wanted);
                ensure(known(State::Good), "a good deployment isn't known any more", &(&world, &after))?;
                ensure(known(State::Bad), "what was bad gets good by itself", &(&world, &after))?;
                let used_up = !is_used_up(&world, id) || is_used_up(&after, id) || is_good(&after, id);
                ensure(used_up, "a deployment that is used up is tried again", &(&world, &after))?;
            }
            let after = number(after, &mut open, &mut ways);
            if by_itself {
                ways[place].push(after);
            }
        }
    }
    ensure(ends(&ways), "it reboots for ever by itself", &ways.len())?;
    Ok(ways.len())
}

/// Whether every way ends. What is left when all that leads nowhere is taken away, again and again, goes round in circles.
fn ends(ways: &[Vec<usize>]) -> bool {
    let mut left: Vec<usize> = ways.iter().map(Vec::len).collect();
    let mut back: Vec<Vec<usize>> = ways.iter().map(|_| Vec::new()).collect();
    ways.iter().enumerate().for_each(|(from, to)| to.iter().for_each(|to| back[*to].push(from)));
    let mut dead: Vec<usize> = (0..ways.len()).filter(|place| left[*place] == 0).collect();
    let mut count = 0;
    while let Some(place) = dead.pop() {
        count += 1;
        for from in &back[place] {
            left[*from] -= 1;
            if left[*from] == 0 {
                dead.push(*from);
            }
        }
    }
    count == ways.len()
}

struct Walker<'a> {
    machine: &'a Machine,
    hooks: Hooks,
    before: &'a World,
}

/// A boot that goes on.
#[allow(clippy::struct_excessive_bools, reason = "each is one thing that is asked of it")]
struct Way<'a> {
    world: &'a World,
    /// What the bootloader started.
    booted: usize,
    selection: &'a Selection,
    decision: &'a Decision,
    disk: &'a Disk,
    /// The bootloader started it by itself.
    by_itself: bool,
    /// It is the bootloader's own choice, as far as anybody can tell.
    own: bool,
    /// It may be that the bootloader didn't do as it was told, and chose this update itself.
    update: bool,
    /// Nothing failed.
    sound: bool,
}

impl Walker<'_> {
    /// All that can come of one start of the machine: by itself, or with any deployment picked by hand.
    fn boot(&self, next: &mut Next) -> Checked<()> {
        let mut world = self.before.clone();
        if self.machine.counts && self.hooks.saves {
            world = Machine::started(&world);
        }
        let default = self.machine.default(&world);
        if self.machine.grub == Grub::Clears {
            (world.env, world.seen) = (Env::Unset, Env::Unset);
        }
        for booted in world.order.clone() {
            if self.machine.kinds[booted].dies {
                let worlds = if booted == default { &mut next.rebooted } else { &mut next.started };
                worlds.insert(world.clone());
            } else if self.machine.boots(booted) && (self.machine.picked || booted == default) {
                self.select(&world, booted, booted == default, next)?;
            }
        }
        Ok(())
    }

    fn select(&self, world: &World, booted: usize, by_itself: bool, next: &mut Next) -> Checked<()> {
        let mut facts = self.machine.facts(world, booted);
        let id = self.machine.id(booted);
        let own = facts.default.as_ref() == Some(id);
        // It may be that the bootloader didn't do as it was told before, and starts an update by itself.
        let update = world.order.first() == Some(&booted) && facts.records.iter().any(|record| record.switched > 0);
        let arrives = own && facts.starts.is_some();
        (self.hooks.facts)(&mut facts);
        let mut decision = decide(&facts);
        (self.hooks.decision)(&facts, &mut decision);

        if !arrives && (!(own || update) || is_good(world, id)) {
            ensure(decision.effects.is_empty(), "a boot that isn't to be counted writes", &decision)?;
        }
        for fault in Fault::all(decision.effects.len()) {
            let mut disk = Disk::new(self.machine, world, fault);
            let mut selection = carry_out(decision.clone(), &mut |effect| {
                let done = disk.perform(effect);
                if self.hooks.deaf { Ok(()) } else { done }
            });
            if !disk.off && fault == Fault::Cut(decision.effects.len()) {
                disk.cut();
            }
            if disk.off {
                if disk.rebooted {
                    self.check_switch(world, booted, &disk.left)?;
                    // What a person chose, nothing reboots into again by itself.
                    let worlds = if by_itself { &mut next.rebooted } else { &mut next.started };
                    worlds.extend(disk.left);
                } else {
                    next.started.extend(disk.left);
                }
                continue;
            }
            (self.hooks.selection)(&mut selection);
            let chosen = selection.deployment.as_ref().map(|chosen| self.machine.deployment(chosen));
            let refused = chosen.is_some_and(|chosen| chosen != booted && !self.machine.kinds[chosen].pivots);
            if refused {
                (self.hooks.refused)(&mut selection);
                let told = selection.verdict == Verdict::Exhausted && selection.unreachable.is_some();
                ensure(told && !selection.counted, "nobody is told that a pivot failed", &selection)?;
            }
            let sound = fault == Fault::None && !self.machine.readonly && !refused;
            let (selection, decision, disk) = (&selection, &decision, &disk);
            let way = Way { world, booted, selection, decision, disk, by_itself, own, update, sound };
            self.check_choice(&way)?;
            self.check_stay(&way)?;
            self.check_count(&way)?;
            self.check_starts(&way)?;
            self.live(&disk.written(), selection, by_itself, next)?;
        }
        Ok(())
    }

    /// A reboot into another deployment: GRUB starts a better one, if it does what it is told.
    fn check_switch(&self, world: &World, booted: usize, left: &[World]) -> Checked<()> {
        if self.machine.grub != Grub::Obeys {
            return Ok(());
        }
        for after in left {
            let started = self.machine.default(after);
            ensure(started != booted, "it rebooted into the deployment that is used up", after)?;
            let id = self.machine.id(started);
            ensure(!is_used_up(after, id), "it rebooted into another deployment that is used up", after)?;
            ensure(self.machine.kinds[started].usable, "it rebooted into a deployment that can't be booted", after)?;
            let goods = world.order.iter().map(|d| (*d, self.machine.id(*d)));
            let good = goods.filter(|(d, id)| self.machine.kinds[*d].usable && is_good(world, id)).count() > 0;
            ensure(
                !good || is_good(after, id),
                "it rebooted into an untried deployment, though a good one is there",
                after,
            )?;
        }
        Ok(())
    }

    /// Only a deployment boots that can, with its own kernel and its own `/var`.
    fn check_choice(&self, way: &Way<'_>) -> Checked<()> {
        let Way { world, booted, selection, decision, .. } = *way;
        let Some(chosen) = &selection.deployment else { return Err("nobody knows what boots".into()) };
        let chosen = self.machine.deployment(chosen);
        let (from, to) = (self.machine.kinds[booted], self.machine.kinds[chosen]);
        let can_boot = self.machine.boots(chosen) && world.order.contains(&chosen);
        ensure(can_boot, "it boots what can't be booted", decision)?;
        let pivot = decision.effects.iter().find_map(|effect| match effect {
            Effect::Pivot { id, var, .. } => Some((self.machine.deployment(id), *var)),
            _ => None,
        });
        let wrong = "the record names another deployment than boots";
        if chosen == booted {
            return ensure(pivot.is_none() || !way.sound, wrong, decision);
        }
        ensure(pivot.map(|(to, _)| to) == Some(chosen), wrong, decision)?;
        ensure(from.kernel == to.kernel, "a deployment boots with another one's kernel", decision)?;
        let var = pivot.is_some_and(|(_, var)| var);
        ensure(var == (from.stateroot != to.stateroot), "a deployment gets another one's /var", decision)?;
        let used_up = is_used_up(world, self.machine.id(chosen));
        ensure(!used_up, "it fell back to a deployment that is used up", decision)
    }

    /// A deployment that is used up gives way, if it is the machine's own choice and another can be had.
    fn check_stay(&self, way: &Way<'_>) -> Checked<()> {
        let Way { world, booted, selection, decision, .. } = *way;
        let id = self.machine.id(booted);
        let chosen = way.own || way.update;
        if selection.deployment.as_ref() != Some(id) || !is_used_up(world, id) || !chosen || !way.sound {
            return Ok(());
        }
        // Nothing is known of what GRUB left before it is written down.
        let left = match &world.env {
            Env::Armed(Starts { left: Left::FellBack, tried, .. }) if state(world, tried).is_none() => Some(tried),
            _ => None,
        };
        let others = world.order.iter().filter(|other| **other != booted && self.machine.kinds[**other].usable);
        let others = others.filter(|other| Some(self.machine.id(**other)) != left);
        let mut better = others.filter(|other| !is_used_up(world, self.machine.id(**other)));
        let alike = |other: &usize| self.machine.kinds[*other].kernel == self.machine.kinds[booted].kernel;
        if !way.own {
            return ensure(!better.any(alike), "it stays with an update that is used up", decision);
        }
        let can_be_told = self.machine.grub != Grub::Unsteerable && world.names.records().switched(id) < 2;
        ensure(
            !better.clone().any(alike) || (can_be_told && self.a_better_one_takes_a_reboot(world, booted)),
            "it stays with a deployment that is used up",
            decision,
        )?;
        ensure(!can_be_told || better.next().is_none(), "it doesn't reboot into another deployment", decision)?;
        let told = selection.unreachable.is_some() == selection.fallback.is_some();
        ensure(told, "nobody is told why it stays", selection)
    }

    /// What counts is counted down, and on the disk before anything else happens.
    fn check_count(&self, way: &Way<'_>) -> Checked<()> {
        let Way { world, booted, selection, decision, disk, .. } = *way;
        let left = |world: &World, id: &Id| match state(world, id) {
            Some(State::Trying(tries)) => Some(tries.left),
            _ => None,
        };
        let id = self.machine.id(booted);
        if selection.counted {
            ensure(!disk.is_pending(), "a boot goes on before its count is on the disk", decision)?;
            let id = selection.deployment.as_ref().unwrap_or(id);
            let (old, new) = (left(world, id).unwrap_or(MOST), left(&disk.written(), id));
            return ensure(new.is_some_and(|new| new < old), "a boot is counted and has as many tries", decision);
        }
        // That one has got a try, whichever was started.
        let boots = selection.deployment.as_ref().filter(|_| selection.verdict == Verdict::FellBack).unwrap_or(id);
        let waits = !is_used_up(world, boots) && !is_good(world, boots);
        // Once after a power cut GRUB goes by what Linux doesn't see any more.
        let own = way.own || (way.by_itself && world.env == world.seen);
        let wanted = waits && own && way.sound && world.order.len() > 1;
        ensure(!wanted, "a boot that is to be counted isn't", decision)
    }

    /// GRUB counts no start that arrived, and what it left is used up.
    fn check_starts(&self, way: &Way<'_>) -> Checked<()> {
        let (Env::Armed(starts), true) = (&way.world.env, way.own && way.sound) else { return Ok(()) };
        let after = way.disk.written();
        self.check_help(way.world, &after)?;
        let first = way.world.order.first();
        // Such a one writes nothing but that it is the default and arrived.
        let writes = !self.machine.unwanted || way.booted != 0;
        if first == Some(&way.booted) {
            ensure(after.env == Env::Unset, "a start that arrived is counted by GRUB", way.decision)
        } else if writes && first == Some(&self.machine.deployment(&starts.tried)) {
            // It may have arrived before, and a power cut kept GRUB from being told.
            let known = state(way.world, &starts.tried).is_some();
            ensure(known || is_used_up(&after, &starts.tried), "what GRUB left isn't used up", way.decision)
        } else {
            Ok(())
        }
    }

    /// Nothing that goes well leaves the machine to a kernel that panics for ever.
    fn check_help(&self, before: &World, after: &World) -> Checked<()> {
        let helpless = |world| self.machine.counts && self.machine.is_helpless(world);
        // What an override hides is armed when the system goes off.
        let hidden = matches!(before.env, Env::Default(_));
        ensure(!helpless(after) || helpless(before) || hidden, "it panics for ever", &(before, after))
    }

    /// The system goes off in order: GRUB is armed, or disarmed. Returns what that leaves if nothing goes wrong.
    fn go_off(&self, world: &World, running: usize, next: &mut Next) -> Checked<World> {
        if !self.machine.counts {
            return Ok(world.clone());
        }
        let mut arms = self.machine.arms(world, running);
        (self.hooks.arms)(&mut arms);
        self.check_arms(world, running, &arms)?;
        let env = match arms {
            Arms::Set(starts) => Env::Armed(starts),
            Arms::Remove(_) if matches!(world.env, Env::Armed(_)) => Env::Unset,
            Arms::Remove(_) | Arms::Keep(_) => world.env.clone(),
        };
        let mut whole = world.clone();
        if env != world.env {
            for fault in Fault::all(1) {
                let mut disk = Disk::new(self.machine, world, fault);
                let done = disk.write(env.clone());
                if done.is_ok() && !disk.off {
                    whole = disk.written();
                }
                next.started.extend(disk.left);
            }
        }
        // One that is torn isn't written as long as it may have been an override.
        let hidden = whole.env == Env::Torn && Machine::is_overridden(&whole);
        ensure(hidden || !self.machine.is_helpless(&whole), "it goes off and panics for ever", &(world, &whole))?;
        next.starts(whole.clone());
        Ok(whole)
    }

    /// What is used up gets one start more, and what GRUB left none, as long as another one runs.
    fn check_arms(&self, world: &World, running: usize, arms: &Arms) -> Checked<()> {
        let Some(first) = world.order.first().filter(|first| **first != running) else { return Ok(()) };
        let first = self.machine.id(*first);
        let given = match arms {
            Arms::Set(Starts { left: Left::Starts(left), .. }) => *left,
            _ => 0,
        };
        ensure(given < 2 || !is_used_up(world, first), "what is used up gets all its starts", &(world, arms))?;
        let left = match &world.env {
            Env::Armed(Starts { left: Left::FellBack, tried, .. }) => tried == first && state(world, first).is_none(),
            _ => false,
        };
        ensure(
            !left || (given == 0 && !matches!(arms, Arms::Remove(_))),
            "GRUB tries again what it left",
            &(world, arms),
        )
    }

    /// The good ones are of another kernel, and one that was never seen healthy isn't taken in their stead.
    fn a_better_one_takes_a_reboot(&self, world: &World, booted: usize) -> bool {
        let good = |other: &&usize| is_good(world, self.machine.id(**other)) && self.machine.kinds[**other].usable;
        let mut goods = world.order.iter().filter(good);
        goods.clone().next().is_some()
            && goods.all(|other| self.machine.kinds[*other].kernel != self.machine.kinds[booted].kernel)
    }

    /// A deployment runs: what it and a person do until the machine is off.
    fn live(&self, world: &World, selection: &Selection, by_itself: bool, next: &mut Next) -> Checked<()> {
        if !by_itself || !selection.counted {
            let Selection { deployment, tries, instead_of, fallback, .. } = selection;
            let alive = (deployment.clone(), *tries, instead_of.clone(), fallback.clone());
            // Nothing more comes of it than of the first that was like it.
            if !next.lived.insert((world.clone(), alive)) {
                return Ok(());
            }
        }
        let running = self.machine.deployment(selection.deployment.as_ref().unwrap());
        if self.machine.kinds[running].healthy {
            self.bless(world, running, Some(selection), next)?;
            self.bless(world, running, None, next)?;
        } else if selection.counted && by_itself {
            // It panics, or a deadline passes.
            let off = self.go_off(world, running, next)?;
            next.rebooted.extend([world.clone(), off]);
        }
        self.go_off(world, running, next)?;
        // Somebody pulls the plug before anything comes of it, or updates at once.
        next.starts(world.clone());
        self.update(world, running, Some(selection), next)?;
        let steps = give_back(world.names.records(), selection);
        self.carry_out(world, &steps, &mut next.started);
        self.say(world, next);
        Ok(())
    }

    /// A person says that a deployment is good, or that nothing is known of it.
    fn say(&self, world: &World, next: &mut Next) {
        // Nothing but the world decides what comes of it.
        if !self.machine.talks || !next.talked.insert(world.clone()) {
            return;
        }
        let (records, overridden) = (world.names.records(), Machine::is_overridden(world));
        for id in world.order.iter().map(|deployment| self.machine.id(*deployment)) {
            for mut steps in [mark_good(records, id, overridden), forget(records, id, overridden)] {
                (self.hooks.said)(&mut steps);
                self.carry_out(world, &steps, &mut next.said);
            }
        }
    }

    fn bless(&self, world: &World, running: usize, selection: Option<&Selection>, next: &mut Next) -> Checked<()> {
        let healthy = |world: &World| Healthy {
            running: self.machine.id(running).clone(),
            records: world.names.records().clone(),
            selection: selection.cloned(),
            deployments: world.order.iter().map(|deployment| self.machine.id(*deployment).clone()).collect(),
            first: world.order.first().map(|deployment| self.machine.id(*deployment).clone()),
            overridden: Machine::is_overridden(world),
            armed: matches!(world.env, Env::Armed(_)),
        };
        let boot = healthy(world);
        let mut steps = bless(&boot);
        (self.hooks.steps)(&boot, &mut steps);
        let Some(after) = self.carry_out(world, &steps, &mut next.started) else { return Ok(()) };
        self.check_help(world, &after)?;
        self.go_off(&after, running, next)?;
        self.update(&after, running, selection, next)?;
        if self.machine.readonly {
            return Ok(());
        }
        let id = self.machine.id(running);
        let right = if state(world, id) == Some(State::Bad) { State::Bad } else { State::Good };
        ensure(state(&after, id) == Some(right), "a healthy boot isn't blessed, or what is bad is", &steps)?;
        let more = bless(&healthy(&after));
        ensure(more.is_empty(), "a boot of a blessed deployment writes", &(&after, &more))?;
        let Some(failed) = selection.and_then(|selection| selection.instead_of.as_ref()) else { return Ok(()) };
        ensure(state(&after, failed) == Some(State::Bad), "what failed isn't remembered", &(&after, &steps))?;
        let stays = Machine::is_overridden(world) && matches!(after.env, Env::Default(_));
        ensure(!stays, "an override stays after a healthy boot in another one's stead", &(&after, &steps))?;
        if is_good(&after, id) && world.order.first() == Some(&self.machine.deployment(failed)) {
            ensure(
                self.machine.default(&after) == running,
                "the bootloader goes on starting what failed",
                &(&after, &steps),
            )?;
        }
        Ok(())
    }

    /// What comes of steps, with all that can go wrong; returns what they end in if nothing does.
    fn carry_out(&self, world: &World, steps: &[Step], next: &mut HashSet<World>) -> Option<World> {
        let mut whole = None;
        for fault in Fault::all(steps.len()) {
            let mut disk = Disk::new(self.machine, world, fault);
            for step in steps {
                if disk.step(self.machine, step).is_err() || disk.off {
                    break;
                }
            }
            if !disk.off && fault == Fault::Cut(steps.len()) {
                disk.cut();
            }
            if disk.off {
                next.extend(disk.left);
                continue;
            }
            let written = disk.written();
            next.insert(written.clone());
            if fault == Fault::None {
                whole = Some(written);
            }
        }
        whole
    }

    /// The deployment that isn't there yet is deployed. OSTree keeps the running one, and what is pinned: what this boot would fall back
    /// to, until the running one is good. Where nothing was selected, as on a machine without Fledge in its initramfs, nothing is.
    fn update(&self, world: &World, running: usize, selection: Option<&Selection>, next: &mut Next) -> Checked<()> {
        let Some(new) = (0..self.machine.kinds.len()).find(|deployment| !world.order.contains(deployment)) else {
            return Ok(());
        };
        let runs_good = is_good(world, self.machine.id(running));
        let pinned = selection.filter(|_| !runs_good).and_then(|selection| selection.fallback.as_ref());
        let kept = |other: &usize| *other == running || pinned == Some(self.machine.id(*other));
        let good = |order: &[usize]| {
            order.iter().any(|one| self.machine.kinds[*one].usable && is_good(world, self.machine.id(*one)))
        };
        let mut disk = Disk::new(self.machine, world, Fault::None);
        let order = disk.order();
        order.retain(kept);
        let lost = good(&world.order) && !good(order);
        ensure(!lost || selection.is_none(), "an update takes the last good deployment away", &(world, selection))?;
        order.insert(0, new);
        next.starts(disk.written());
        self.go_off(&disk.written(), running, next).map(drop)
    }
}

pub(super) fn kind(stateroot: bool, kernel: bool, healthy: bool) -> Kind {
    let (stateroot, kernel) = (if stateroot { 'o' } else { 'n' }, if kernel { '2' } else { '1' });
    Kind { stateroot, kernel, healthy, usable: true, pivots: true, dies: false }
}

/// Machines with so many deployments, of the kinds that they have and that may come.
pub(super) fn machine(there: usize, kinds: &[Kind], grub: Grub, readonly: bool) -> (Machine, Vec<World>) {
    let machine = Machine::new(kinds, grub, readonly);
    let order: Vec<usize> = (0..there).rev().collect();
    let start = starts(&machine, &order);
    (machine, start)
}

const GRUBS: [Grub; 4] = [Grub::Obeys, Grub::Ignores, Grub::Clears, Grub::Unsteerable];

/// Machines with two deployments, of every kind. Nothing follows from what the first one is called.
pub(super) fn with_two() -> Vec<(Machine, Vec<World>)> {
    let mut machines = Vec::new();
    for grub in GRUBS {
        for bits in 0_u32..1 << 5 {
            let bit = |place: u32| bits >> place & 1 == 1;
            let kinds = [kind(false, false, bit(0)), kind(bit(1), bit(2), bit(3))];
            let (mut machine, start) = machine(2, &kinds, grub, bit(4));
            machine.talks = grub == Grub::Obeys && !machine.readonly;
            machines.push((machine, start));
        }
    }
    machines
}

/// The same with a third one that is deployed at any time.
pub(super) fn with_one_to_come() -> Vec<(Machine, Vec<World>)> {
    let mut machines = Vec::new();
    // GRUB is told something only where kernels differ.
    for grub in GRUBS.into_iter().rev() {
        for bits in 0_u32..1 << 2 {
            let bit = |place: u32| bits >> place & 1 == 1;
            if grub != Grub::Obeys && !bit(0) {
                continue;
            }
            let kinds = [kind(false, false, bit(0)), kind(false, true, bit(1)), kind(true, true, false)];
            let (mut machine, start) = machine(2, &kinds, grub, false);
            // There would be ten times as many states.
            machine.picked = false;
            machines.push((machine, start));
        }
    }
    for bits in 0_u32..1 << 4 {
        let bit = |place: u32| bits >> place & 1 == 1;
        let kinds = [kind(false, false, bit(0)), kind(bit(1), false, bit(2)), kind(false, false, bit(3))];
        machines.push(machine(2, &kinds, Grub::Obeys, false));
    }
    // The newest one is deployed once more.
    for bits in 0_u32..1 << 2 {
        let bit = |place: u32| bits >> place & 1 == 1;
        let update = kind(false, bit(0), bit(1));
        let (machine, start) = machine(2, &[kind(false, false, true), update, update], Grub::Obeys, false);
        machines.push((machine.with_the_last_redeployed(), start));
    }
    machines
}

/// Machines with three, the oldest of which may be broken.
pub(super) fn with_three() -> Vec<(Machine, Vec<World>)> {
    let mut machines = Vec::new();
    for bits in 0_u32..3 << 4 {
        let bit = |place: u32| bits >> place & 1 == 1;
        let oldest = Kind { usable: bits >> 4 > 0, pivots: bits >> 4 != 1, ..kind(false, false, true) };
        let kinds = [oldest, kind(bit(0), bit(1), bit(2)), kind(bit(0), bit(3), false)];
        machines.push(machine(3, &kinds, Grub::Obeys, false));
    }
    machines
}

/// Machines whose update, there or to come, has a kernel that panics before anything counts, and others that GRUB counts.
pub(super) fn with_panics() -> Vec<(Machine, Vec<World>)> {
    let panics = Kind { kernel: '3', dies: true, ..kind(false, true, false) };
    let mut machines = Vec::new();
    for bits in 0_u32..1 << 2 {
        let bit = |place: u32| bits >> place & 1 == 1;
        let (old, update) = (kind(false, false, bit(0)), kind(false, true, bit(1)));
        let mut all = [(2, [old, update].to_vec())].to_vec();
        if bit(0) && !bit(1) {
            all.push((1, [old, update, panics].to_vec()));
            all.push((1, [old, panics, update].to_vec()));
        }
        if !bit(1) {
            all.push((2, [old, panics].to_vec()));
        }
        if bit(0) {
            all.push((3, [old, update, panics].to_vec()));
        }
        for (there, kinds) in all {
            let (mut machine, start) = machine(there, &kinds, Grub::Obeys, false);
            machine.counts = true;
            machine.picked = kinds.len() < 3;
            let mut start: Vec<_> = start.into_iter().filter_map(|world| armed(&machine, world)).collect();
            if there == 3 {
                start = start
                    .into_iter()
                    .flat_map(|world| [Some(world.clone()), called_bad(&machine, world)])
                    .flatten()
                    .collect();
            }
            machines.push((machine, start));
        }
    }
    let old = kind(false, false, true);
    // What panics is deployed once more, and boots of the one that GRUB starts instead aren't counted.
    for (kinds, unwanted) in [([old, panics, panics].to_vec(), false), ([old, panics].to_vec(), true)] {
        let (mut machine, start) = machine(2, &kinds, Grub::Obeys, false);
        (machine.counts, machine.unwanted) = (true, unwanted);
        if kinds.len() == 3 {
            machine = machine.with_the_last_redeployed();
        }
        let known = |world: &World| !unwanted || is_good(world, machine.id(0));
        let start = start.into_iter().filter(known).filter_map(|world| armed(&machine, world)).collect();
        machines.push((machine, start));
    }
    machines
}

/// Machines on which no kernel that panics is said to have arrived, as the oldest deployment's system leaves them.
fn armed(machine: &Machine, mut world: World) -> Option<World> {
    let arrived = |deployment: &usize| {
        let state = state(&world, machine.id(*deployment));
        machine.kinds[*deployment].dies && state.is_some_and(|state| !state.is_used_up())
    };
    if world.order.iter().any(arrived) {
        return None;
    }
    if let Arms::Set(starts) = machine.arms(&world, 0) {
        world.env = Env::Armed(starts);
        world.seen = world.env.clone();
    }
    (!machine.is_lost(&world)).then_some(world)
}

/// The same after a person called the one bad that GRUB would start instead.
fn called_bad(machine: &Machine, mut world: World) -> Option<World> {
    let Env::Armed(starts) = &world.env else { return None };
    let id = machine.fallback(&world, starts);
    let names = [State::Good.name(&id), State::Bad.name(&id)];
    world.names = world.names.replaced(&names[0], &names[1]);
    Some(world)
}

/// Every state that each deployment can be in.
fn starts(machine: &Machine, order: &[usize]) -> Vec<World> {
    let none = World { names: Names::new([].into()), env: Env::Unset, seen: Env::Unset, order: order.to_vec() };
    let mut worlds = [none].to_vec();
    let trying = |left, done| Some(State::Trying(Tries { left, done }));
    for deployment in order {
        let id = machine.id(*deployment);
        let more = worlds.iter().flat_map(|world| {
            [None, trying(1, 1), trying(0, 2), Some(State::Good), Some(State::Bad)].map(|state| {
                let mut world = world.clone();
                world.names = world.names.with(state.map(|state| state.name(id)));
                world
            })
        });
        worlds = more.collect();
    }
    worlds
}

fn walk_all(machines: Vec<(Machine, Vec<World>)>, at_least: usize) {
    let (count, mut worlds) = (machines.len(), 0);
    for (machine, start) in machines {
        worlds += walk(&machine, start, UNCHANGED).unwrap_or_else(|why| panic!("{machine}: {why}"));
    }
    println!("{worlds} states of {count} machines walked");
    assert!(worlds >= at_least, "{worlds}");
}

#[test]
fn no_machine_with_two_deployments_gets_stuck() {
    walk_all(with_two(), 30_000);
}

#[test]
fn no_machine_gets_stuck_that_is_updated_at_any_time() {
    walk_all(with_one_to_come(), 60_000);
}

#[test]
fn no_machine_panics_for_ever_that_has_a_good_deployment() {
    walk_all(with_panics(), 1_000);
}

#[test]
fn no_machine_with_three_deployments_gets_stuck() {
    walk_all(with_three(), 15_000);
}
