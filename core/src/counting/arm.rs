// SPDX-License-Identifier: Apache-2.0
//! Whether GRUB has to count starts: decided when a system goes off, and taken back when a boot is healthy.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::bless::Healthy;
use super::decide::state as known;
use super::menu::Deployment;
use super::records::{Id, Records, State};
use super::settings::{Settings, not_counted};
use super::starts::{Left, MOST, Starts};
use crate::cmdline::Cmdline;

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
/// kernel, initramfs (with the same overlays of it) and arguments: such a one would fail alike, or shows that they work. One that is used up
/// gets one start, and so does what was bad before and is deployed once more.
pub fn arm(off: &GoesOff) -> Arms {
    let remove = |why: &str| Arms::Remove(why.to_owned());
    let Some((first, others)) = off.deployments.split_first() else { return remove("there is no deployment") };
    let state = known(&off.deployments, &off.records, first);
    let good = || {
        let usable = others.iter().filter(|other| other.id != first.id && unstartable(other).is_none());
        usable.filter(|other| off.records.state(&other.id) == Some(State::Good))
    };
    let is_left = |starts: &&Starts| match starts.left {
        _ if starts.tried != first.id => false,
        // Where boots of the other one aren't counted, or it couldn't write, nobody wrote it down.
        Left::FellBack => state.is_none_or(State::is_used_up),
        // Somebody did, and a person may have had it forgotten since.
        Left::Starts(left) => left == 0 && state.is_some_and(State::is_used_up),
    };
    if let Some(starts) = off.starts.as_ref().filter(is_left) {
        if off.running.as_ref() != Some(&first.id) {
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
    if state.is_some_and(|state| !state.is_used_up()) {
        return remove("the default is known to arrive");
    }
    // They have lost their quotes.
    let options: Vec<String> = first.options.iter().map(|option| format!("\"{option}\"")).collect();
    let cmdline = Cmdline::parse(&options.join(" "));
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
    // One that is used up is left as soon as it arrives, and may not.
    let given = if state.is_some() { 1 } else { Settings::read(&cmdline).tries.min(MOST) };
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
