// SPDX-License-Identifier: Apache-2.0
//! A boot that isn't healthy, and what follows.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use fledge_core::cmdline::Cmdline;
use fledge_core::counting::{Records, Selection, State, Tries};
use fledge_core::diag::Failure;
use fledge_core::go;
use fledge_stages::host::clock;
use rustix::system::RebootCommand;

use super::{Machine, Tried, bounded};
use crate::attempt;
use crate::health::{self, Health, Kind};
use crate::programs::{Output, SYSTEMCTL};

/// How long after boot it has to be healthy.
const DEADLINE: &str = "fledge.boot.deadline";

/// How long after their time hooks may take to be ended.
const LATE: Duration = Duration::from_secs(5);

/// How many units are named.
const TOLD: usize = 5;

/// What follows a boot that isn't healthy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Next {
    /// The machine is rebooted: into the next try, or into the deployment that it falls back to.
    Reboot,
    /// It stays as it is, for a person to repair; why.
    Stay(String),
}

/// Decides it. Only a counted boot is rebooted, since only that comes to an end: the tries are used up one day.
pub fn after_unhealthy(selection: Option<&Selection>, records: &Records, exhausted: Option<&str>) -> Next {
    let stay = |why: &str| Next::Stay(why.to_owned());
    if let Some(why) = exhausted {
        return Next::Stay(format!("it can't go to another deployment by itself: {why}"));
    }
    let Some(selection) = selection else {
        return stay("nothing selected this boot: nobody counts how often it is rebooted");
    };
    let Some(deployment) = selection.deployment.as_ref().filter(|_| selection.counted) else {
        return Next::Stay(format!("this boot isn't counted: {}", selection.reason));
    };
    let tries = match records.state(deployment) {
        Some(State::Good) => {
            return stay("the deployment was healthy before, in this boot: rebooting it would never end");
        }
        Some(State::Bad) => return stay("the deployment was marked as bad in this boot, by a person"),
        Some(State::Trying(tries)) => Some(tries),
        // The boot file system may be what isn't there, or what doesn't answer. The try was counted in the initramfs.
        None => selection.tries,
    };
    match tries {
        None => stay("nobody knows how often it was tried"),
        Some(Tries { left: 0, .. }) if selection.fallback.is_none() => {
            stay("this was the last try, and there is no other deployment to boot")
        }
        Some(Tries { left: 0, .. }) if selection.unreachable.is_some() => {
            let why = selection.unreachable.as_deref().unwrap_or_default();
            Next::Stay(format!("this was the last try, and no other deployment would be booted by itself: {why}"))
        }
        Some(_) => Next::Reboot,
    }
}

/// Runs the red hooks, for a while, keeps why and the journal, tells, and reboots if this boot was counted.
///
/// # Errors
/// Each thing that could not be done. All are tried.
pub fn red(machine: &Machine) -> Result<(), Vec<Failure>> {
    let mut tried = Tried::default();
    red_hooks(machine);
    let health = tried.note(health::left(&machine.live.runtime)).flatten();
    let why = health.as_ref().and_then(reason).unwrap_or_else(|| not_reached(machine));
    conclude(machine, &why, &mut tried);
    tried.all()
}

/// They end at their time; if they can't be ended, because a disk doesn't answer, nothing but a thread waits for them.
fn red_hooks(machine: &Machine) {
    let (root, until) = (machine.live.root.clone(), Instant::now() + machine.hooks);
    if bounded(machine.hooks + LATE, move || health::hooks(&root, Kind::Red, Some(until))).is_none() {
        log::warn!("the red hooks don't come to an end");
    }
}

/// The first thing that made a boot unhealthy.
fn reason(health: &Health) -> Option<String> {
    let failed = health.failed().find(|check| check.kind == Kind::Required).map(ToString::to_string);
    failed.or_else(|| health.problems.first().map(|problem| format!("{}: {}", problem.what, problem.why)))
}

fn not_reached(machine: &Machine) -> String {
    format!("boot-complete.target was not reached; failed: {}", listed(&failed_units(machine)))
}

/// Runs systemctl, whatever its exit code. If it can't even be read from the disk, nothing but a thread waits for it.
fn systemctl(machine: &Machine, args: &'static [&'static str]) -> Result<Output, Failure> {
    let programs = machine.admin.programs.clone();
    bounded(machine.patience, move || programs.output(SYSTEMCTL, args)).unwrap_or_else(|| {
        let what = format!("running systemctl {}", args.join(" "));
        Err(Failure::new(what, format!("it did not end within {} seconds", machine.patience.as_secs())))
    })
}

/// What systemctl says; nothing if it fails.
fn said(machine: &Machine, args: &'static [&'static str]) -> String {
    systemctl(machine, args).map(|output| output.stdout).unwrap_or_default()
}

fn failed_units(machine: &Machine) -> Vec<String> {
    let text = said(machine, &["list-units", "--failed", "--no-legend", "--plain", "--no-pager"]);
    text.lines().filter_map(|line| line.split_whitespace().next()).take(TOLD).map(str::to_owned).collect()
}

fn listed(units: &[String]) -> String {
    if units.is_empty() { "none".to_owned() } else { units.join(", ") }
}

/// Waits for the time that `fledge.boot.deadline=` gives; a boot that isn't healthy then ends as one that failed a check. Not after a soft
/// reboot: that boot is no try any more.
///
/// # Errors
/// The time can't be understood; otherwise as [`red`].
pub fn deadline(machine: &Machine, cmdline: &Cmdline) -> Result<(), Vec<Failure>> {
    let Some(limit) = limit(cmdline).map_err(|failure| vec![failure])? else { return Ok(()) };
    loop {
        let left = limit.saturating_sub(clock::since_boot());
        if left.is_zero() {
            break;
        }
        // A machine that sleeps doesn't count this time, and the clock since boot does.
        thread::sleep(left.min(Duration::from_secs(30)));
    }
    // The time was that of an earlier userspace, and the try is given back, maybe only later than this.
    if was_soft_rebooted(machine) {
        log::info!("there was a soft reboot: this boot is no try any more, and has no deadline");
        return Ok(());
    }
    // A systemd that doesn't answer is no healthy one.
    if systemctl(machine, &["is-active", "boot-complete.target"]).is_ok_and(|output| output.code == Some(0)) {
        return Ok(());
    }
    let mut why = format!("it was not healthy {} seconds after boot ({DEADLINE})", limit.as_secs());
    for (what, units) in [("still starting", running_jobs(machine)), ("failed", failed_units(machine))] {
        // Writing to a String can't fail.
        let _ = write!(why, "; {what}: {}", listed(&units));
    }
    let mut tried = Tried::default();
    conclude(machine, &why, &mut tried);
    tried.all()
}

/// Whether this isn't the first userspace of this boot: systemd counts soft reboots since the kernel started. One that doesn't know them
/// does none.
pub(super) fn was_soft_rebooted(machine: &Machine) -> bool {
    let count = said(machine, &["show", "--property=SoftRebootsCount", "--value"]);
    count.trim().parse().is_ok_and(|count: u32| count > 0)
}

/// The units that systemd is starting, without those that only wait for them.
fn running_jobs(machine: &Machine) -> Vec<String> {
    let text = said(machine, &["list-jobs", "--no-legend", "--plain", "--no-pager"]);
    let unit = |line: &str| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        [_, unit, "start", "running"] => Some((*unit).to_owned()),
        _ => None,
    };
    text.lines().filter_map(unit).take(TOLD).collect()
}

/// The deadline, if there is one.
fn limit(cmdline: &Cmdline) -> Result<Option<Duration>, Failure> {
    let Some(text) = cmdline.value(DEADLINE) else { return Ok(None) };
    match go::duration(text) {
        Some(limit) => Ok(Some(limit).filter(|limit| !limit.is_zero())),
        None if text.is_empty() => Ok(None),
        None => Err(Failure::new(format!("reading {DEADLINE}={text}"), "it is no time")
            .remedy("write it with units, such as 10m or 1m30s; there is no deadline now")),
    }
}

/// What comes of it is decided first; then why is left, and kept as far as that is possible, and the machine rebooted. Nothing is waited
/// for without an end: a disk that doesn't answer is a reason to be here.
fn conclude(machine: &Machine, why: &str, tried: &mut Tried) {
    log::error!("this boot is not healthy: {why}");
    let selection = tried.note(machine.sysroot.selection()).flatten();
    let exhausted = machine.sysroot.exhausted().unwrap_or_else(|failure| Some(failure.to_string()));
    let sysroot = machine.sysroot.clone();
    let answer = bounded(machine.patience, move || sysroot.records());
    if answer.is_none() {
        log::warn!("the boot file system doesn't answer");
    }
    let records = answer.map_or(Some(Records::default()), |records| tried.note(records));
    let next = match &records {
        Some(records) => after_unhealthy(selection.as_ref(), records, exhausted.as_deref()),
        None => Next::Stay("what is known of the deployments can't be read".to_owned()),
    };
    match &next {
        Next::Stay(why) => log::warn!("the machine is not rebooted: {why}"),
        Next::Reboot => {
            log::warn!("the machine reboots: into the next try, or into the deployment that it falls back to");
        }
    }
    tried.note(leave(machine, why, &next));
    let attempt = selection.filter(|selection| selection.counted).and_then(|selection| {
        let deployment = selection.deployment.as_ref()?;
        // One that was healthy in this boot is no failed try.
        let is_good = records.as_ref().and_then(|records| records.state(deployment)) == Some(State::Good);
        (!is_good).then(|| machine.attempt(&selection, deployment, Some(why.to_owned())))
    });
    let keeping = machine.clone();
    let kept = bounded(machine.patience, move || {
        let mut tried = Tried::default();
        if let Some(attempt) = attempt {
            tried.note(attempt::end(&keeping.store(), &attempt, &keeping.admin.programs));
        }
        tried.note(keeping.tell());
        tried.failures
    });
    match kept {
        Some(failures) => tried.failures.extend(failures),
        None => log::warn!("what is known of this boot could not be kept in time: what it takes doesn't answer"),
    }
    if next == Next::Reboot {
        tried.note(reboot(machine));
    }
}

/// Leaves why with what the checks left, if it isn't theirs, and what comes of it: who asks for the status is told that this boot isn't
/// healthy.
fn leave(machine: &Machine, why: &str, next: &Next) -> Result<(), Failure> {
    let left = health::left(&machine.live.runtime).unwrap_or_default();
    let mut health = left.unwrap_or_else(|| Health::ended(&machine.boot_id));
    health.end = Some(why.to_owned()).filter(|why| health.healthy || reason(&health).as_ref() != Some(why));
    health.healthy = false;
    health.stays = match next {
        Next::Stay(why) => Some(why.clone()),
        Next::Reboot => None,
    };
    health::leave(&machine.live.runtime, &health)
}

/// Whatever is in the way of a reboot, this boot is to end: programs that would rather not be interrupted, a systemd that takes no jobs, a
/// systemd that doesn't answer, and a disk for which all of these wait.
fn reboot(machine: &Machine) -> Result<(), Failure> {
    const WAYS: [&[&str]; 3] =
        [&["--check-inhibitors=no", "reboot"], &["--force", "reboot"], &["--force", "--force", "reboot"]];
    for args in WAYS {
        match systemctl(machine, args) {
            Ok(Output { code: Some(0), .. }) => return Ok(()),
            Ok(Output { stderr, .. }) => log::warn!("systemctl {} failed: {}", args.join(" "), stderr.trim()),
            Err(failure) => log::warn!("{failure}"),
        }
    }
    Err((machine.restart)())
}

/// Has the kernel restart the machine at once. What is in memory alone is lost: whoever would write it out has been asked before.
pub(super) fn restart() -> Failure {
    let why = rustix::system::reboot(RebootCommand::Restart).err().map_or_else(String::new, |error| error.to_string());
    Failure::new("restarting the machine", why).remedy("reset this machine by hand")
}

#[cfg(test)]
mod tests {
    use fledge_core::counting::{Id, Verdict};

    use super::*;

    #[test]
    fn only_a_counted_boot_that_leads_somewhere_is_rebooted() {
        let id = Id::parse("n-aa.0").unwrap();
        let records = |name: &str| Records::parse([name]);
        let mut counted = Selection::not_counted(Verdict::Counted, Some(id.clone()), "try 1 of 3");
        counted.counted = true;
        counted.fallback = Id::parse("n-bb.0");
        let next = |selection: &Selection, name: &str| after_unhealthy(Some(selection), &records(name), None);
        assert_eq!(next(&counted, "n-aa.0+2-1"), Next::Reboot);
        assert_eq!(next(&counted, "n-aa.0+0-3"), Next::Reboot, "the next boot falls back");
        assert!(matches!(next(&counted, "n-aa.0.good"), Next::Stay(_)));
        assert!(matches!(next(&counted, "n-aa.0.bad"), Next::Stay(_)));
        assert!(matches!(next(&counted, ""), Next::Stay(_)), "its tries aren't known");
        let known = Selection { tries: Some(Tries { left: 1, done: 2 }), ..counted.clone() };
        assert_eq!(next(&known, ""), Next::Reboot, "the boot file system isn't there");
        assert!(matches!(after_unhealthy(Some(&counted), &records("n-aa.0+2-1"), Some("why")), Next::Stay(_)));
        assert!(matches!(after_unhealthy(None, &records("n-aa.0+2-1"), None), Next::Stay(_)));
        let alone = Selection { fallback: None, ..counted.clone() };
        assert_eq!(next(&alone, "n-aa.0+1-2"), Next::Reboot, "it may get healthy yet");
        assert!(matches!(next(&alone, "n-aa.0+0-3"), Next::Stay(_)));
        let stuck = Selection { unreachable: Some("the bootloader can't be told".into()), ..counted.clone() };
        assert_eq!(next(&stuck, "n-aa.0+1-2"), Next::Reboot, "it may get healthy yet");
        assert!(matches!(next(&stuck, "n-aa.0+0-3"), Next::Stay(why) if why.contains("can't be told")));
        let blessed = Selection::not_counted(Verdict::Blessed, Some(id), "it was blessed before");
        assert!(matches!(next(&blessed, "n-aa.0+2-1"), Next::Stay(_)));
    }

    #[test]
    fn a_deadline_has_units_and_nothing_means_none() {
        let limit = |text: &str| limit(&Cmdline::parse(text));
        assert_eq!(limit("quiet").unwrap(), None);
        assert_eq!(limit("fledge.boot.deadline=0").unwrap(), None);
        assert_eq!(limit("fledge.boot.deadline=").unwrap(), None);
        assert_eq!(limit("fledge.boot.deadline=10m fledge.boot.deadline=90s").unwrap(), Some(Duration::from_secs(90)));
        for text in ["fledge.boot.deadline=600", "fledge.boot.deadline=soon", "fledge.boot.deadline=-1s"] {
            assert!(limit(text).unwrap_err().remedy.is_some(), "{text}");
        }
    }
}
