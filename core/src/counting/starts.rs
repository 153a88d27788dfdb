// SPDX-License-Identifier: Apache-2.0
//! Starts that nobody sees arrive: a kernel or an initramfs that fails before boots are counted.
//!
//! GRUB counts these, by variables of `grubenv` and a snippet that its `grub.cfg` has ([`SNIPPET`]). A system that goes off arms it for a
//! default that it doesn't know yet ([`super::arm`]); a start that arrives disarms it ([`decide`]); after one that GRUB left, whoever boots in its
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

use super::decide::{Decision, Effect, Facts, regardless_of_starts};
use super::grub::{Environment, STEERING, commands, unquoted, variables};
use super::records::{Id, Records, State, Tries};
use super::selection::{Selection, Verdict};

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
pub(super) const MOST: u32 = 9;

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
/// file beside it. `configfile` is nothing of the kind: what it reads has variables of its own.
pub fn counts(config: &str, beside: bool) -> bool {
    let config = unquoted(config);
    let loads = |command: &Vec<&str>| matches!(command.as_slice(), ["load_env", named @ ..] if variables(named) == 0);
    commands(&config).skip_while(|command| !loads(command)).any(|command| match command.as_slice() {
        ["source" | ".", path, ..] => beside && path.rsplit('/').next() == Some(SNIPPET),
        ["save_env", STARTS, ..] => true,
        _ => false,
    })
}

/// Decides which deployment a boot goes on with, and what is to be written first.
pub fn decide(facts: &Facts) -> Decision {
    let plain = match &facts.unwanted {
        Some(why) => {
            let selection = Selection::not_counted(Verdict::NotCounted, Some(facts.booted.clone()), why.as_str());
            Decision { effects: Vec::new(), selection }
        }
        None => regardless_of_starts(facts),
    };
    let own = facts.default.as_ref() == Some(&facts.booted);
    let Some(starts) = facts.starts.as_ref().filter(|_| own && facts.other.is_none()) else { return plain };
    let first = facts.deployments.first().map(|first| &first.id);
    let known = facts.records.state(&starts.tried).is_some_and(|state| !state.is_used_up());
    if first == Some(&facts.booted) {
        return arrived(plain);
    }
    match starts.left {
        _ if facts.unwanted.is_some() => plain,
        Left::FellBack if first == Some(&starts.tried) && known => arrived_before(plain, &starts.tried),
        Left::FellBack if first == Some(&starts.tried) => never_arrived(facts, starts),
        _ => plain,
    }
}

/// GRUB wasn't told in time, or was told to count one that is known.
fn arrived_before(plain: Decision, tried: &Id) -> Decision {
    let mut decision = arrived(plain);
    let why = format!(
        "the bootloader started this one instead of {tried}, although that one arrived before: it counts no more"
    );
    decision.selection.remarks.push(why);
    decision
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

/// A number of starts in words.
pub fn times(starts: u32) -> String {
    if starts == 1 { "once".to_owned() } else { format!("{starts} times") }
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
    let Decision { effects: others, mut selection } = regardless_of_starts(&known);
    effects.extend(others);
    // By the name of today.
    let fallback = facts.deployments.iter().find(|other| other.id == facts.booted).map(|other| other.entry.clone());
    let fallback = fallback.unwrap_or_else(|| starts.fallback.clone());
    let before = effects.iter().position(|effect| matches!(effect, Effect::Pivot { .. }));
    let again = Effect::Arm { starts: Starts { left: Left::Starts(0), fallback, ..starts.clone() } };
    if !effects.iter().any(|effect| matches!(effect, Effect::SetDefault { .. })) {
        effects.insert(before.unwrap_or(effects.len()), again);
    }
    let why = format!(
        "the bootloader started {id} {}, and it never got to where boots are counted; this one was started in its stead",
        times(given)
    );
    selection.reason = format!("{why}: {}", selection.reason);
    selection.instead_of.get_or_insert_with(|| id.clone());
    selection.never_arrived = Some(given);
    Decision { effects, selection }
}
