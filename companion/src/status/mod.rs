// SPDX-License-Identifier: Apache-2.0
//! The state of a machine's deployments: what is there, what is known of each, and why this boot is the one that it is. The JSON of
//! `fledgectl status --json` is [`Status`].

mod message;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;
use std::path::PathBuf;

use fledge_core::counting::{Id, Left, Records, Selection, Starts, State, Tries};
use fledge_core::diag::Failure;
use fledge_stages::boot_select::Grub;
use serde::{Deserialize, Serialize};

use crate::attempt::{self, Kept};
use crate::health::{self, Health};
use crate::sysroot::{Deployment, Sysroot};

pub use message::of_the_day;
pub use text::{printable, short, shortened};

/// The version of the form that this build writes.
pub const VERSION: u32 = 1;

/// A machine and its deployments.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// Whether a deployment runs. Otherwise this is what is on a disk.
    pub booted: bool,
    /// The deployments in the bootloader's order.
    pub deployments: Vec<Row>,
    /// Whether an update takes effect when the machine is shut down.
    pub staged: bool,
    /// What GRUB counts; `None` if nothing.
    pub starts: Option<Counted>,
    /// How this boot was selected; `None` where nothing selected it, as on a first boot.
    pub boot: Option<Selection>,
    /// Why the machine can't go to another deployment by itself, if that is so.
    pub exhausted: Option<String>,
    /// How the health checks of this boot went; `None` as long as they haven't ended.
    pub health: Option<Health>,
    /// What of this can't be read, and so isn't known: `deployments`, `running`, `records`, `boot`, `exhausted`, `health`, `starts`. Why
    /// is in the remarks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
    /// What is odd, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// Starts that GRUB counts, of a deployment that nobody has seen arrive.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// How often GRUB may still start it; `None` once it has started the other one instead.
    pub left: Option<u32>,
    /// The deployment.
    pub tried: Id,
    /// The boot entry that is started instead, without `.conf`.
    pub fallback: String,
}

impl Counted {
    /// A GRUB that isn't told anything by its variables counts nothing.
    fn of(grub: &Grub) -> Option<Self> {
        let Starts { left, fallback, tried, .. } = Starts::read(&grub.variables).filter(|_| grub.counts)?;
        let left = match left {
            Left::Starts(left) => Some(left),
            Left::FellBack => None,
        };
        Some(Self { left, tried, fallback })
    }
}

/// One deployment.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its place in the bootloader's order, from 0.
    pub index: usize,
    /// Its name in records.
    pub id: Id,
    /// Its stateroot.
    pub stateroot: String,
    /// Its commit and serial: `CHECKSUM.SERIAL`.
    pub deployment: String,
    /// Its boot entry's title: name and version of what it is.
    pub title: String,
    /// Where it came from.
    pub origin: Option<String>,
    /// Whether it runs.
    pub running: bool,
    /// Whether the bootloader starts it by itself, if nothing overrides that.
    pub default: bool,
    /// Whether OSTree keeps it whatever is deployed.
    pub pinned: bool,
    /// What is known of it.
    pub verdict: Verdict,
    /// Its tries, while it is neither good nor bad.
    pub tries: Option<Tries>,
    /// Why the verdict is what it is, in words.
    pub why: String,
    /// Its counted boots that were not healthy, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Try>,
}

/// What is known of a deployment.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing: it was not counted yet.
    New,
    /// It is being tried.
    Trying,
    /// Its tries are used up.
    UsedUp,
    /// A boot of it was healthy.
    Good,
    /// It isn't booted by itself any more.
    Bad,
    /// What is known of it can't be read.
    Unknown,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::New => "new",
            Self::Trying => "trying",
            Self::UsedUp => "used up",
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Unknown => "unknown",
        })
    }
}

/// One counted boot that was not healthy.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Try {
    /// Which try it was, from 1; 0 if it was before the deployment was forgotten, and its tries counted anew.
    pub number: u32,
    /// The boot's id.
    pub boot_id: String,
    /// Date and time by the wall clock of that boot.
    pub date: String,
    /// Why it ended, if it came to say so.
    pub end: Option<String>,
    /// The last lines of its journal, if there are any.
    pub journal: Option<PathBuf>,
}

/// Looks at a system.
///
/// # Errors
/// The boot entries of a system that isn't running can't be read: nothing is known then. What else can't be read is told in the remarks:
/// what is known is shown.
pub fn look(sysroot: &Sysroot) -> Result<Status, Failure> {
    let mut read = Read { remarks: Vec::new(), unknown: Vec::new() };
    let entries = match sysroot.entries() {
        Err(failure) if sysroot.live.is_none() => return Err(failure),
        entries => read.known("deployments", entries),
    };
    let is_listed = entries.is_some();
    let (deployments, damaged) = entries.unwrap_or_default();
    read.remarks.extend(damaged);
    let ids: Vec<Id> = deployments.iter().map(|deployment| deployment.id.clone()).collect();
    let running = read.known("running", sysroot.running(&ids));
    let records = read.known("records", sysroot.records());
    let boot = read.known("boot", sysroot.selection()).flatten();
    let exhausted = read.known("exhausted", sysroot.exhausted()).flatten();
    let health = sysroot.live.as_ref().map_or(Ok(None), |live| health::left(&live.runtime));
    let health = read.known("health", health).flatten();
    if sysroot.is_booted() && is_listed && running == Some(None) {
        read.remarks.push("no boot entry starts the deployment that runs".to_owned());
    }
    let grub = read.known("starts", sysroot.grub()).unwrap_or_default();
    if grub.overridden() {
        read.remarks.push("grubenv overrides the bootloader's default (default=)".to_owned());
    }
    let Read { mut remarks, unknown } = read;
    let odd = records.iter().flat_map(|records| &records.odd);
    remarks.extend(odd.map(|name| format!("the name {name:?} among the records means nothing")));
    remarks.extend(boot.iter().flat_map(|boot| boot.remarks.iter().cloned()));
    let mut told = BTreeSet::new();
    remarks.retain(|remark| told.insert(remark.clone()));
    let running = running.flatten();
    let row = |(index, deployment): (usize, Deployment)| {
        let attempts = attempt::of(&sysroot.var(deployment.id.stateroot()).join(attempt::FOLDER), &deployment.id);
        row(index, deployment, running.as_ref(), records.as_ref(), boot.as_ref(), attempts)
    };
    let rows: Vec<Row> = deployments.into_iter().enumerate().map(row).collect();
    // It may have got healthy after all: then there is one again.
    let is_good = rows.iter().any(|row| row.running && row.verdict == Verdict::Good);
    Ok(Status {
        version: VERSION,
        booted: sysroot.is_booted(),
        deployments: rows,
        staged: sysroot.is_staged(),
        starts: Counted::of(&grub),
        boot,
        exhausted: exhausted.filter(|_| !is_good),
        health,
        unknown,
        remarks,
    })
}

/// What is read of a system, and what of it can't be.
struct Read {
    remarks: Vec<String>,
    unknown: Vec<String>,
}

impl Read {
    /// `None` if it isn't known.
    fn known<T>(&mut self, what: &str, result: Result<T, Failure>) -> Option<T> {
        result
            .map_err(|failure| {
                self.unknown.push(what.to_owned());
                self.remark(&failure);
            })
            .ok()
    }

    fn remark(&mut self, failure: &Failure) {
        self.remarks.push(format!("{}: {}", failure.what, failure.why));
    }
}

fn row(
    index: usize,
    deployment: Deployment,
    running: Option<&Id>,
    records: Option<&Records>,
    boot: Option<&Selection>,
    attempts: Vec<Kept>,
) -> Row {
    let Deployment { id, title, origin, pinned } = deployment;
    let is_running = running == Some(&id);
    let state = records.and_then(|records| records.state(&id));
    let on_trial = is_running && boot.is_some_and(|boot| boot.counted && boot.deployment.as_ref() == Some(&id));
    let attempts: Vec<Try> = attempts
        .into_iter()
        .map(|Kept { attempt, journal }| Try {
            number: attempt.tries.map_or(0, |tries| tries.done),
            boot_id: attempt.boot_id,
            date: attempt.date,
            end: attempt.end,
            journal,
        })
        .collect();
    let last = attempts.iter().rev().filter(|attempt| attempt.number > 0).find_map(|attempt| attempt.end.as_deref());
    let last = last.map_or(String::new(), |end| format!("; the last that said why: {end}"));
    let (verdict, mut why) = match state {
        None if records.is_none() => (Verdict::Unknown, "what is known of it can't be read".to_owned()),
        None => (Verdict::New, "no boot of it was counted".to_owned()),
        Some(State::Good) => (Verdict::Good, "a boot of it was healthy".to_owned()),
        Some(State::Bad) => (Verdict::Bad, format!("it isn't booted by itself any more{last}")),
        Some(State::Trying(Tries { left, done })) if left > 0 || on_trial => {
            (Verdict::Trying, format!("try {done} of {} was begun", done.saturating_add(left)))
        }
        Some(State::Trying(Tries { done, .. })) => {
            (Verdict::UsedUp, format!("none of its {done} tries was healthy{last}"))
        }
    };
    if records.is_some_and(|records| records.switched(&id) > 0) {
        why.push_str("; the bootloader was told to start another one in its stead");
    }
    let tries = match state {
        Some(State::Trying(tries)) => Some(tries),
        _ => None,
    };
    Row {
        index,
        stateroot: id.stateroot().to_owned(),
        deployment: id.deployment().to_owned(),
        id,
        title,
        origin,
        running: is_running,
        default: index == 0,
        pinned,
        verdict,
        tries,
        why,
        attempts,
    }
}

impl Status {
    /// The deployment that runs.
    pub fn running(&self) -> Option<&Row> {
        self.deployments.iter().find(|row| row.running)
    }

    /// The deployment of an id.
    pub fn row(&self, id: &Id) -> Option<&Row> {
        self.deployments.iter().find(|row| row.id == *id)
    }

    /// Whether something can't be read.
    fn is_unknown(&self, what: &str) -> bool {
        self.unknown.iter().any(|unknown| unknown == what)
    }

    /// Why this boot can't be called healthy, if it can't.
    pub fn unhealthy(&self) -> Option<&'static str> {
        match &self.health {
            Some(health) if !health.healthy => Some("this boot isn't healthy"),
            None if self.is_unknown("health") => Some("whether this boot is healthy can't be read"),
            _ => None,
        }
    }

    /// Nothing is said of deployments that aren't known.
    fn listed(&self, what: &str) -> Result<(), Failure> {
        if !self.is_unknown("deployments") {
            return Ok(());
        }
        let why = self.remarks.first().map_or("the boot entries can't be read", String::as_str);
        Err(Failure::new(what, why).remedy("see that the boot file system is mounted at /boot: `findmnt /boot`"))
    }

    /// The deployment that a machine can be brought into by a person, where it can't go there by itself: it could be booted, and the
    /// bootloader could not be told.
    pub fn way_out(&self) -> Option<&Row> {
        let fallback = self.boot.as_ref().and_then(|boot| boot.fallback.as_ref()).filter(|_| self.exhausted.is_some());
        self.row(fallback?).filter(|row| !row.running && !matches!(row.verdict, Verdict::Bad | Verdict::UsedUp))
    }

    /// The deployment that a person means who rolls back without naming one: the running one, unless it is what the next boot starts
    /// anyway; then the newest other one that is good, or else one of which nothing bad is known. Who wants to reboot as well wants to leave
    /// the running one, whatever is staged.
    ///
    /// # Errors
    /// There is none, or they aren't known.
    pub fn rollback(&self, reboot: bool) -> Result<&Row, Failure> {
        self.listed("looking for a deployment to roll back to")?;
        if let Some(running) = self.running().filter(|row| !row.default || (self.staged && !reboot)) {
            return Ok(running);
        }
        let others = || self.deployments.iter().filter(|row| !row.running && !row.default);
        let good = others().find(|row| row.verdict == Verdict::Good);
        let found = good.or_else(|| others().find(|row| matches!(row.verdict, Verdict::New | Verdict::Trying)));
        found.ok_or_else(|| {
            Failure::new("looking for a deployment to roll back to", "no other one is known that isn't bad or used up")
                .remedy("see `fledgectl status`; name one to choose it all the same, or deploy another version")
        })
    }

    /// The deployment that a person means: by its index, `running`, its id, or the beginning of its commit.
    ///
    /// # Errors
    /// There is none, or more than one, or they aren't known.
    pub fn named(&self, name: &str) -> Result<&Row, Failure> {
        self.listed(&format!("looking for the deployment {name}"))?;
        let fits = |row: &&Row| match name.parse::<usize>() {
            // A commit may begin with digits alone; nobody has a hundred deployments.
            Ok(index) if name.len() <= 2 => row.index == index,
            _ if name == "running" => row.running,
            _ => {
                row.id.as_str() == name
                    || row.deployment == name
                    || (name.len() >= 4 && row.deployment.starts_with(name))
            }
        };
        let mut found = self.deployments.iter().filter(fits);
        match (found.next(), found.next()) {
            (Some(row), None) => Ok(row),
            (None, _) => Err(Failure::new(format!("looking for the deployment {name}"), "there is none")
                .remedy("name it by its index in `fledgectl status`, or by the beginning of its commit")),
            (Some(_), Some(_)) => Err(Failure::new(format!("looking for the deployment {name}"), "there are several")
                .remedy("name it by its index in `fledgectl status`")),
        }
    }
}

impl Row {
    /// How people are told of it: stateroot, the beginning of the commit, serial, and title.
    pub fn name(&self) -> String {
        if self.title.is_empty() { self.short() } else { format!("{} ({})", self.short(), self.title) }
    }

    /// In words: how many of its tries left nothing, once they are used up.
    pub fn traceless(&self) -> Option<String> {
        let done = self.tries.filter(|_| self.verdict == Verdict::UsedUp)?.done;
        let kept = self.attempts.iter().filter(|attempt| attempt.number > 0).count();
        let kept = u32::try_from(kept).unwrap_or(u32::MAX);
        let count = done.checked_sub(kept).filter(|count| *count > 0)?;
        Some(format!(
            "{count} of its tries left nothing: they ended before /var was there, in the kernel or the initramfs"
        ))
    }

    /// Without the title.
    pub fn short(&self) -> String {
        short(&self.id)
    }
}
