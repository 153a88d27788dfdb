// SPDX-License-Identifier: Apache-2.0
//! Starts that nobody sees arrive: a kernel or an initramfs that fails before boots are counted.
//!
//! GRUB counts these, by variables of `grubenv` and a snippet that its `grub.cfg` has ([`SNIPPET`]). A system that goes off arms it for a
//! default that it doesn't know yet ([`arm`]); a start that arrives disarms it ([`decide`]); after one that GRUB left, whoever boots in its
//! stead writes down what happened, and disarms it once the default is right (`bless`).
//!
//! | variable | holds |
//! |---|---|
//! | [`STARTS`] | how often GRUB may still start the default, from 0 to 9; `fell-back` when it starts the other one instead |
//! | [`FALLBACK`] | the boot entry of the other one, without `.conf` |
//! | [`TRIED`] | the deployment that this is about, and how many starts it was given, as a record's name: `ID+STARTS-0` |
//!
//! GRUB takes one away before each start. Where it can't write, as on RAID and btrfs, the number stays, and nothing falls back. With none
//! left it starts the other one, and whoever arrives there sets the number to 0 again. Where nobody does, GRUB starts the default and the
//! other one in turn: entries go by their place, and a power cut may have changed what is in it.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::bless::Healthy;
use super::decide::{self, Decision, Effect, Facts};
use super::grub::{Environment, STEERING};
use super::menu::Deployment;
use super::records::{Id, Records, State, Tries};
use super::settings::{Settings, not_counted};
use crate::cmdline::Cmdline;

/// The variable that counts down.
const STARTS: &str = "fledge_starts";
/// The variable that names the other entry.
const FALLBACK: &str = "fledge_fallback";
/// The variable that says which deployment is counted.
const TRIED: &str = "fledge_tried";
/// The snippet that `grub.cfg` has, by its file's name.
pub const SNIPPET: &str = "fledge-starts.cfg";

/// The value of [`STARTS`] when GRUB starts the other entry. It is no number, because a person may pick that entry at the last start.
const FELL_BACK: &str = "fell-back";
/// The snippet knows one digit.
const MOST: u32 = 9;

/// What is left of the starts.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Left {
    /// So many, from 0 to 9.
    Starts(u32),
    /// GRUB starts the other entry.
    FellBack,
}

/// GRUB counts starts.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Starts {
    /// What is left.
    pub left: Left,
    /// The entry that is started instead, without `.conf`.
    pub fallback: String,
    /// The deployment that is counted.
    pub tried: Id,
    /// How many starts it was given.
    pub given: u32,
}

impl Starts {
    /// Reads the variables; `None` if GRUB counts nothing, or if what they say can't be told.
    pub fn read(environment: &Environment) -> Option<Self> {
        let left = match environment.get(STARTS)? {
            FELL_BACK => Left::FellBack,
            number => Left::Starts(number.parse().ok().filter(|left| (0..=MOST).contains(left))?),
        };
        let records = Records::parse([environment.get(TRIED)?]);
        let tried = records.iter().next()?;
        let Some(State::Trying(Tries { left: given, .. })) = tried.state else { return None };
        let fallback = environment.get(FALLBACK).filter(|entry| !entry.is_empty())?.to_owned();
        Some(Self { left, fallback, tried: tried.id.clone(), given })
    }

    /// The same variables with these.
    #[must_use]
    pub fn written(&self, environment: &Environment) -> Environment {
        let left = match self.left {
            Left::Starts(left) => left.to_string(),
            Left::FellBack => FELL_BACK.to_owned(),
        };
        let tried = State::Trying(Tries { left: self.given, done: 0 }).name(&self.tried);
        environment.with(STARTS, Some(&left)).with(FALLBACK, Some(&self.fallback)).with(TRIED, Some(&tried))
    }
}

/// The variables without those that are here.
#[must_use]
pub fn disarmed(environment: &Environment) -> Environment {
    environment.with(STARTS, None).with(FALLBACK, None).with(TRIED, None)
}

/// The entry that GRUB was told to start by itself: a default of its own wins over this one.
pub fn told(environment: &Environment) -> Option<&str> {
    let own = environment.get(STEERING).filter(|told| !told.is_empty() && *told != "0");
    own.or_else(|| environment.get(FALLBACK).filter(|_| environment.get(STARTS) == Some(FELL_BACK)))
}

/// Whether a `grub.cfg` has the snippet, by name or joined into it, behind where it reads `grubenv`. `beside` says whether there is such a
/// file beside it.
pub fn counts(config: &str, beside: bool) -> bool {
    let lines = || config.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let after = || lines().skip_while(|line| !line.split_whitespace().any(|word| word == "load_env")).skip(1);
    let sourced = |line: &str| {
        let mut words = line.split([' ', ';', '\t']).filter(|word| !word.is_empty());
        let named = |word: &str| word.trim_matches(['"', '\'']).rsplit('/').next() == Some(SNIPPET);
        words.any(|word| matches!(word, "source" | "." | "configfile")) && words.next().is_some_and(named)
    };
    let joined = |line: &str| line.split([' ', ';']).any(|word| word == "save_env") && line.contains(STARTS);
    after().any(|line| (beside && sourced(line)) || joined(line))
}

/// Decides which deployment a boot goes on with, and what is to be written first.
pub fn decide(facts: &Facts) -> Decision {
    let plain = decide::decide(facts);
    let own = facts.default.as_ref() == Some(&facts.booted);
    let Some(starts) = facts.starts.as_ref().filter(|_| own && facts.other.is_none()) else { return plain };
    let first = facts.deployments.first().map(|first| &first.id);
    let known = facts.records.state(&starts.tried).is_some_and(|state| !state.is_used_up());
    if first == Some(&facts.booted) {
        return arrived(plain);
    }
    match starts.left {
        // It arrived before, and GRUB wasn't told in time.
        Left::FellBack if first == Some(&starts.tried) && known => arrived(plain),
        Left::FellBack if first == Some(&starts.tried) => never_arrived(facts, starts),
        _ => plain,
    }
}

/// This start got as far as here: GRUB needs to count no more. What can't be counted here is left to it.
fn arrived(mut decision: Decision) -> Decision {
    // That one overwrites the same block.
    if decision.effects.iter().any(|effect| matches!(effect, Effect::SetDefault { .. })) {
        return decision;
    }
    let last = decision.effects.iter().position(|effect| matches!(effect, Effect::Pivot { .. }));
    decision.effects.insert(last.unwrap_or(decision.effects.len()), Effect::Disarm);
    decision
}

/// GRUB started the first deployment as often as it was given, and nobody saw it arrive. It is used up then.
fn never_arrived(facts: &Facts, starts: &Starts) -> Decision {
    let (id, given) = (&starts.tried, starts.given);
    let mut effects = Vec::new();
    let mut known = facts.clone();
    if facts.records.state(id).is_none() {
        let name = State::Trying(Tries { left: 0, done: given }).name(id);
        let names = facts.records.iter().flat_map(|record| &record.names).chain([&name]);
        known.records = Records::parse(names.map(String::as_str));
        known.records.odd.clone_from(&facts.records.odd);
        effects.extend([Effect::Create { name }, Effect::Sync]);
    }
    let Decision { effects: others, mut selection } = decide::decide(&known);
    effects.extend(others);
    // By the name of today.
    let fallback = facts.deployments.iter().find(|other| other.id == facts.booted).map(|other| other.entry.clone());
    let fallback = fallback.unwrap_or_else(|| starts.fallback.clone());
    let before = effects.iter().position(|effect| matches!(effect, Effect::Pivot { .. } | Effect::SetDefault { .. }));
    let again = Effect::Count { starts: Starts { left: Left::Starts(0), fallback, ..starts.clone() } };
    if !effects.iter().any(|effect| matches!(effect, Effect::SetDefault { .. })) {
        effects.insert(before.unwrap_or(effects.len()), again);
    }
    let why = format!(
        "the bootloader started {id} {given} times, and it never got to where boots are counted; this one was started in its stead"
    );
    selection.reason = format!("{why}: {}", selection.reason);
    selection.instead_of.get_or_insert_with(|| id.clone());
    selection.never_arrived = Some(given);
    Decision { effects, selection }
}

/// What is known of a system that goes off.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GoesOff {
    /// The deployments that boot entries start, in the bootloader's order.
    pub deployments: Vec<Deployment>,
    /// The one that runs, if it is one of them.
    pub running: Option<Id>,
    /// What is known of them.
    pub records: Records,
    /// What GRUB counts already.
    pub starts: Option<Starts>,
    /// Why GRUB can't count, or doesn't start the first by itself, in words.
    pub obstacle: Option<String>,
}

/// What becomes of the variables.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Arms {
    /// They are to say this.
    Set(Starts),
    /// There are to be none; why, in words.
    Remove(String),
    /// They stay as they are; why, in words.
    Keep(String),
}

/// Decides whether GRUB has to count starts from now on.
///
/// That is so if the default isn't known to arrive, if there is a deployment that is good, and if none of those that are good has the same
/// kernel and initramfs: such a one would fail alike, or shows that they work.
pub fn arm(off: &GoesOff) -> Arms {
    let remove = |why: &str| Arms::Remove(why.to_owned());
    let Some((first, others)) = off.deployments.split_first() else { return remove("there is no deployment") };
    let state = off.records.state(&first.id);
    let good = || {
        let usable = others.iter().filter(|other| other.id != first.id && unstartable(other).is_none());
        usable.filter(|other| off.records.state(&other.id) == Some(State::Good))
    };
    let is_left =
        |starts: &&Starts| matches!(starts.left, Left::FellBack | Left::Starts(0)) && starts.tried == first.id;
    if let Some(starts) = off.starts.as_ref().filter(is_left) {
        if state.is_some_and(State::is_used_up) && off.running.as_ref() != Some(&first.id) {
            // Names of entries go by their place.
            return match good().next() {
                Some(good) => {
                    Arms::Set(Starts { left: Left::Starts(0), fallback: good.entry.clone(), ..starts.clone() })
                }
                None => Arms::Keep("GRUB starts another one than the default, which isn't put right yet".to_owned()),
            };
        }
    }
    if let Some(obstacle) = &off.obstacle {
        return remove(obstacle);
    }
    if off.running.as_ref() == Some(&first.id) {
        return remove("the default runs");
    }
    // One that is used up is left as soon as it arrives, and may not.
    if state.is_some_and(|state| !state.is_used_up()) {
        return remove("the default is known to arrive");
    }
    let cmdline = Cmdline::parse(&first.options.join(" "));
    if let Some(why) = not_counted(&cmdline) {
        return Arms::Remove(format!("boots of the default aren't counted: {why}"));
    }
    if let Some(why) = unstartable(first) {
        return Arms::Remove(format!("the default can't be booted: {why}"));
    }
    if let Some(why) = &first.unblessed {
        return Arms::Remove(format!("boots of the default aren't counted: {why}"));
    }
    let Some(fallback) = good().next() else { return remove("no other deployment is good") };
    if good().any(|good| good.boots_like(first)) {
        return remove("a good deployment has the default's kernel, initramfs and arguments");
    }
    let given = Settings::read(&cmdline).tries.min(MOST);
    let (fallback, tried) = (fallback.entry.clone(), first.id.clone());
    Arms::Set(Starts { left: Left::Starts(given), fallback, tried, given })
}

/// Why GRUB can't start a deployment into its system, if it can't.
fn unstartable(deployment: &Deployment) -> Option<&String> {
    deployment.unusable.as_ref().or(deployment.unstartable.as_ref())
}

/// Whether a healthy boot takes the variables out of `grubenv`. `put_right`: it makes itself the default after a fallback; `right`: the
/// default may be started.
pub(super) fn is_over(boot: &Healthy, put_right: bool, right: bool) -> bool {
    let Some(first) = boot.first.as_ref().filter(|_| boot.armed) else { return false };
    // What nobody knows yet goes on being counted, or is armed for when this system goes off.
    put_right || *first == boot.running || (right && boot.records.state(first).is_some())
}
