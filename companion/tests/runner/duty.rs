// SPDX-License-Identifier: Apache-2.0
//! Boots, from their beginning to their end: with real deployments, records and scripts, and with systemd's programs noted instead of run.

use std::fs;
use std::time::{Duration, Instant};

use fledge_companion::duty::{self, Machine};
use fledge_companion::mark::{self, Word};
use fledge_companion::{records, status};
use fledge_core::cmdline::Cmdline;
use fledge_core::counting::{BLOCK, EXHAUSTED, Environment, Id, STEERING, Selection, Step, Tries, Verdict};
use fledge_core::diag::Failure;

use crate::machine::System;

fn counted(id: &Id, fallback: Option<&Id>, left: u32, done: u32) -> Selection {
    let mut selection = Selection::not_counted(Verdict::Counted, Some(id.clone()), format!("this is try {done} of 3"));
    (selection.counted, selection.tries) = (true, Some(Tries { left, done }));
    selection.fallback = fallback.cloned();
    selection
}

/// One of two deployments, the first one, is tried.
fn on_trial(left: u32, done: u32) -> (System, Vec<Id>) {
    let system = System::new(&["1", "2"]);
    let ids = system.ids();
    system.record(&[format!("{}+{left}-{done}", ids[0]), format!("{}.good", ids[1])]);
    system.boot(&ids[0], Some(&counted(&ids[0], Some(&ids[1]), left, done)));
    (system, ids)
}

/// The machine is as after a fallback without a reboot: the second one runs, the first is used up.
fn fallen_back() -> (System, Vec<Id>) {
    let (system, ids) = on_trial(0, 2);
    let mut selection = Selection::not_counted(Verdict::FellBack, Some(ids[1].clone()), "the other one is used up");
    (selection.bootloader, selection.instead_of) = (Some(ids[0].clone()), Some(ids[0].clone()));
    system.boot(&ids[1], Some(&selection));
    (system, ids)
}

fn reboots(system: &System) -> usize {
    system.calls("systemctl").iter().filter(|call| call.ends_with(" reboot")).count()
}

const MESSAGE: &str = "run/motd.d/80-fledge-boot";

#[test]
fn a_healthy_try_is_blessed_and_leaves_nothing_behind() {
    let (system, ids) = on_trial(2, 1);
    let machine = &system.machine;
    duty::begin(machine).unwrap();
    assert_eq!(system.pinned(), [ids[1].as_str()], "what it would fall back to stays");
    assert_eq!(system.pinned_by_ostree(), 1);
    let begun = system.text("var/lib/fledge/attempts/b007-1d/attempt.json").unwrap();
    assert!(begun.contains(ids[0].as_str()) && !begun.contains("end"), "{begun}");
    system.file("etc/fledge/health.d/10.sh", "exit 0");
    assert!(duty::check(machine).unwrap());
    duty::bless(machine).unwrap();
    assert_eq!(system.records(), sorted([format!("{}.good", ids[0]), format!("{}.good", ids[1])]));
    assert!(system.pinned().is_empty() && system.pinned_by_ostree() == 0);
    assert_eq!(system.text("var/lib/fledge/attempts/b007-1d/attempt.json"), None);
    assert_eq!((system.text(MESSAGE), reboots(&system)), (None, 0));
}

/// A boot that isn't counted may deploy, too, and OSTree keeps what runs and what is new.
#[test]
fn what_would_be_fallen_back_to_stays_until_the_running_one_is_good() {
    for verdict in [Verdict::NotCounted, Verdict::Exhausted, Verdict::CouldNotCount] {
        let (system, ids) = on_trial(0, 3);
        let mut selection = Selection::not_counted(verdict, Some(ids[0].clone()), "");
        selection.fallback = Some(ids[1].clone());
        system.boot(&ids[0], Some(&selection));
        duty::begin(&system.machine).unwrap();
        assert_eq!((system.pinned(), system.pinned_by_ostree()), (vec![ids[1].to_string()], 1), "{verdict:?}");
        assert_eq!(system.text("var/lib/fledge/attempts"), None, "it is no try");
        duty::bless(&system.machine).unwrap();
        assert!(system.pinned().is_empty() && system.pinned_by_ostree() == 0);
    }
    let (system, ids) = on_trial(0, 3);
    let mut blessed = Selection::not_counted(Verdict::Blessed, Some(ids[1].clone()), "it was blessed before");
    blessed.fallback = Some(ids[0].clone());
    system.boot(&ids[1], Some(&blessed));
    duty::begin(&system.machine).unwrap();
    assert!(system.pinned().is_empty() && system.pinned_by_ostree() == 0);
}

#[test]
fn a_boot_of_a_blessed_deployment_writes_nothing_to_the_boot_file_system() {
    let (system, ids) = on_trial(2, 1);
    duty::bless(&system.machine).unwrap();
    let blessed = Selection::not_counted(Verdict::Blessed, Some(ids[0].clone()), "it was blessed before");
    system.boot(&ids[0], Some(&blessed));
    let folder = system.machine.sysroot.records_folder();
    let times = || {
        let modified = |path: &std::path::Path| fs::metadata(path).unwrap().modified().unwrap();
        (modified(&folder), modified(folder.parent().unwrap()), modified(&system.machine.sysroot.boot))
    };
    let before = times();
    duty::begin(&system.machine).unwrap();
    assert!(duty::check(&system.machine).unwrap());
    duty::bless(&system.machine).unwrap();
    assert_eq!(times(), before);
    assert_eq!(system.text("var/lib/fledge/attempts"), None);
}

#[test]
fn what_a_person_pinned_stays_pinned() {
    let (system, ids) = on_trial(2, 1);
    system.machine.admin.pin(&ids[1], true).unwrap();
    duty::begin(&system.machine).unwrap();
    assert!(system.pinned().is_empty());
    duty::bless(&system.machine).unwrap();
    assert_eq!(system.pinned_by_ostree(), 1);
}

#[test]
fn a_failed_check_runs_the_red_hooks_keeps_the_journal_and_reboots_once() {
    let (system, ids) = on_trial(2, 1);
    let machine = &system.machine;
    duty::begin(machine).unwrap();
    system.file("etc/greenboot/check/required.d/10_net.sh", "echo no route to host; exit 5");
    let ran = system.path().join("red");
    system.file("etc/greenboot/red.d/10.sh", &format!("echo red >> {}", ran.display()));
    assert!(!duty::check(machine).unwrap());
    assert_eq!(reboots(&system), 0);
    duty::red(machine).unwrap();
    assert_eq!(fs::read_to_string(ran).unwrap(), "red\n");
    assert_eq!(reboots(&system), 1);
    let attempt = system.text("var/lib/fledge/attempts/b007-1d/attempt.json").unwrap();
    assert!(attempt.contains("10_net.sh failed with exit code 5; it said: no route to host"), "{attempt}");
    let journal = system.text("var/lib/fledge/attempts/b007-1d/journal.txt").unwrap();
    assert!(journal.contains("--boot --lines 200"), "{journal}");
    assert!(system.text(MESSAGE).unwrap().contains("THIS BOOT IS NOT HEALTHY"));
    assert!(system.records().contains(&format!("{}+2-1", ids[0])), "{:?}", system.records());
}

/// Whether the machine stays up after a boot that wasn't healthy.
fn stays_up(system: &System) -> bool {
    system.file("etc/fledge/health.d/10.sh", "exit 1");
    assert!(!duty::check(&system.machine).unwrap());
    duty::red(&system.machine).unwrap();
    reboots(system) == 0
}

#[test]
fn boots_that_are_not_counted_or_lead_nowhere_stay_up() {
    let (system, ids) = on_trial(2, 1);
    system.boot(&ids[0], None);
    assert!(stays_up(&system), "nothing selected it");
    let (system, ids) = on_trial(2, 1);
    system.boot(&ids[0], Some(&Selection::not_counted(Verdict::NotCounted, Some(ids[0].clone()), "picked by hand")));
    assert!(stays_up(&system));
    assert!(
        system.text(MESSAGE).unwrap().contains("isn't rebooted by itself: this boot isn't counted: picked by hand.\n")
    );
    let (system, ids) = on_trial(0, 3);
    system.boot(&ids[0], Some(&Selection::not_counted(Verdict::Exhausted, Some(ids[0].clone()), "it is used up")));
    system.file(&format!("run/fledge/{EXHAUSTED}"), "all deployments are used up\n");
    assert!(stays_up(&system));
    assert!(system.text(MESSAGE).unwrap().contains("NO DEPLOYMENT OF THIS MACHINE IS LEFT"));
    system.file("etc/fledge/health.d/10.sh", "exit 0");
    assert!(duty::check(&system.machine).unwrap());
    duty::bless(&system.machine).unwrap();
    assert_eq!(system.text(MESSAGE), None, "it was repaired");
    let (system, ids) = on_trial(0, 3);
    system.boot(&ids[0], Some(&counted(&ids[0], None, 0, 3)));
    assert!(stays_up(&system), "the last try, and nothing to fall back to");
    let (system, _) = fallen_back();
    assert!(stays_up(&system));
    let (system, _) = on_trial(2, 1);
    duty::bless(&system.machine).unwrap();
    assert!(stays_up(&system), "it was healthy before");
    let (system, _) = on_trial(0, 3);
    assert!(!stays_up(&system), "the last try, and the next boot falls back");
}

/// `/boot` is unmounted, or its disk doesn't answer, when a service fails later in that boot.
#[test]
fn a_boot_that_was_healthy_is_not_rebooted_though_its_mark_can_not_be_read() {
    let later = |system: &System, ids: &[Id], why: &str| {
        fs::remove_dir_all(system.machine.sysroot.records_folder()).unwrap();
        assert!(stays_up(system), "{why}");
        let selection = system.machine.sysroot.selection().unwrap().unwrap();
        assert_eq!((selection.counted, selection.deployment.as_ref()), (false, Some(&ids[0])));
        assert_eq!(selection.reason, format!("it was try 1 of 3, and {why}"));
        assert!(system.text(MESSAGE).unwrap().contains(why));
    };
    let (system, ids) = on_trial(2, 1);
    duty::begin(&system.machine).unwrap();
    assert!(duty::check(&system.machine).unwrap());
    duty::bless(&system.machine).unwrap();
    later(&system, &ids, "it got healthy");
    let (system, ids) = on_trial(2, 1);
    let Machine { sysroot, admin, .. } = &system.machine;
    let status = status::look(sysroot).unwrap();
    mark::mark(sysroot, admin, &status, Some("1"), Word::Bad).unwrap();
    assert!(sysroot.selection().unwrap().unwrap().counted, "it isn't the one that runs");
    mark::mark(sysroot, admin, &status, None, Word::Bad).unwrap();
    later(&system, &ids, "its deployment was marked as bad, by a person");
}

#[test]
fn a_deployment_that_is_not_healthy_is_called_good_by_its_name_alone() {
    let (system, ids) = on_trial(0, 3);
    let Machine { sysroot, admin, .. } = &system.machine;
    let say = |name, word| {
        let status = status::look(sysroot).unwrap();
        mark::mark(sysroot, admin, &status, name, word).map(|row| row.id.clone())
    };
    let before = system.records();
    let check = system.file("etc/fledge/health.d/10.sh", "exit 1");
    assert!(!duty::check(&system.machine).unwrap());
    let refused = say(None, Word::Good).unwrap_err();
    assert!(refused.remedy.is_some_and(|remedy| remedy.contains("fledgectl bless running")));
    assert_eq!(system.records(), before);
    assert_eq!(say(Some("running"), Word::Good), Ok(ids[0].clone()));
    assert!(system.records().contains(&format!("{}.good", ids[0])));
    assert_eq!(say(None, Word::Bad), Ok(ids[0].clone()), "that is no praise");
    fs::write(check, "exit 0").unwrap();
    assert!(duty::check(&system.machine).unwrap());
    assert_eq!(say(None, Word::Good), Ok(ids[0].clone()));
    system.file("run/fledge/health.json", "{");
    assert!(say(None, Word::Good).is_err(), "nobody knows");
}

fn is_told_as_unhealthy(system: &System, why: &str) -> bool {
    let status = status::look(&system.machine.sysroot).unwrap().to_string();
    let message = system.text(MESSAGE).unwrap();
    let all = status.contains("NOT HEALTHY")
        && status.contains(why)
        && message.contains("NOT HEALTHY")
        && message.contains(why);
    assert!(all, "{status}\n{message}");
    all
}

#[test]
fn a_unit_that_keeps_the_target_from_being_reached_is_named() {
    let (system, _) = on_trial(2, 1);
    system.program("systemctl", "case $1 in list-units) echo 'app.service loaded failed failed App' ;; esac");
    duty::red(&system.machine).unwrap();
    let attempt = system.text("var/lib/fledge/attempts/b007-1d/attempt.json").unwrap();
    assert!(attempt.contains("boot-complete.target was not reached; failed: app.service\""), "{attempt}");
    assert_eq!(reboots(&system), 1);
    assert!(is_told_as_unhealthy(&system, "failed: app.service"), "no check ran");
    assert!(duty::check(&system.machine).unwrap());
    assert_eq!(system.text(MESSAGE).map(drop), Some(()));
    duty::red(&system.machine).unwrap();
    assert!(is_told_as_unhealthy(&system, "failed: app.service"), "the checks are well");
}

#[test]
fn after_the_deadline_a_boot_that_is_not_healthy_is_rebooted() {
    let (system, _) = on_trial(2, 1);
    let cmdline = Cmdline::parse("fledge.boot.deadline=1ms");
    system.program("systemctl", "case $1 in is-active) exit 0 ;; esac");
    duty::deadline(&system.machine, &cmdline).unwrap();
    assert_eq!(reboots(&system), 0, "it is healthy");
    system.program(
        "systemctl",
        "case $1 in is-active) exit 3 ;; list-jobs) printf '77 slow.service start running\\n78 multi-user.target start waiting\\n' ;; esac",
    );
    duty::deadline(&system.machine, &Cmdline::parse("quiet")).unwrap();
    assert_eq!(reboots(&system), 0, "nobody asked");
    duty::deadline(&system.machine, &cmdline).unwrap();
    assert_eq!(reboots(&system), 1);
    let attempt = system.text("var/lib/fledge/attempts/b007-1d/attempt.json").unwrap();
    assert!(attempt.contains("still starting: slow.service; failed: none\""), "{attempt}");
    assert!(is_told_as_unhealthy(&system, "still starting: slow.service"));
    // One that isn't rebooted may get healthy after its deadline.
    let (system, ids) = on_trial(2, 1);
    system.boot(&ids[0], Some(&Selection::not_counted(Verdict::NotCounted, Some(ids[0].clone()), "picked by hand")));
    assert!(duty::check(&system.machine).unwrap());
    duty::deadline(&system.machine, &cmdline).unwrap();
    assert!(is_told_as_unhealthy(&system, "picked by hand"));
    duty::bless(&system.machine).unwrap();
    assert_eq!(system.text(MESSAGE), None);
    assert!(status::look(&system.machine.sysroot).unwrap().to_string().contains("health:  healthy"));
}

/// What hangs may be what this would wait for.
#[test]
fn a_boot_ends_even_if_what_is_kept_of_it_hangs() {
    let (system, _) = on_trial(2, 1);
    system.program("journalctl", "exec sleep 30");
    let machine = Machine { patience: Duration::from_secs(3), ..system.machine.clone() };
    let start = Instant::now();
    let cmdline = Cmdline::parse("fledge.boot.deadline=1ms");
    duty::deadline(&machine, &cmdline).unwrap();
    assert!(reboots(&system) > 0 && start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    // Not even systemd's own programs can be read.
    system.program("systemctl", "exec sleep 30");
    let restart = || Failure::new("restarting the machine", "the kernel was asked");
    let patience = Duration::from_millis(300);
    let start = Instant::now();
    let failures = duty::deadline(&Machine { restart, patience, ..machine }, &cmdline).unwrap_err();
    assert!(failures.iter().any(|failure| failure.why == "the kernel was asked"), "{failures:?}");
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
}

/// Such as one that tells somebody, over a network that isn't there.
#[test]
fn a_red_hook_that_hangs_keeps_no_boot_from_ending() {
    let (system, _) = on_trial(2, 1);
    system.file("etc/fledge/health.d/10.sh", "exit 1");
    system.file("etc/greenboot/red.d/10.sh", "sleep 120");
    assert!(!duty::check(&system.machine).unwrap());
    let start = Instant::now();
    duty::red(&Machine { hooks: Duration::from_secs(1), ..system.machine.clone() }).unwrap();
    assert!(reboots(&system) == 1 && start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert!(system.text("var/lib/fledge/attempts/b007-1d/attempt.json").unwrap().contains("10.sh failed"));
}

#[test]
fn a_boot_whose_records_can_not_be_read_stays_up() {
    let (system, _) = on_trial(2, 1);
    let folder = system.machine.sysroot.records_folder();
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    system.file("etc/fledge/health.d/10.sh", "exit 1");
    assert!(!duty::check(&system.machine).unwrap());
    assert_eq!(duty::red(&system.machine).unwrap_err().len(), 1);
    assert_eq!(reboots(&system), 0);
}

#[test]
fn a_deployment_that_was_healthy_has_no_failed_try() {
    let (system, ids) = on_trial(2, 1);
    duty::begin(&system.machine).unwrap();
    duty::bless(&system.machine).unwrap();
    assert!(stays_up(&system));
    assert_eq!(system.text("var/lib/fledge/attempts/b007-1d/attempt.json"), None);
    assert!(status::look(&system.machine.sysroot).unwrap().row(&ids[0]).unwrap().attempts.is_empty());
}

#[test]
fn a_reboot_that_is_refused_is_forced() {
    let (system, _) = on_trial(2, 1);
    system.program("systemctl", "case $* in '--force --force reboot') ;; *) exit 1 ;; esac");
    duty::red(&system.machine).unwrap();
    let asked = system.calls("systemctl").into_iter().filter(|call| call.ends_with(" reboot")).collect::<Vec<_>>();
    assert_eq!(
        asked,
        ["systemctl --check-inhibitors=no reboot", "systemctl --force reboot", "systemctl --force --force reboot"]
    );
    let restart = || Failure::new("restarting the machine", "the kernel was asked");
    let machine = Machine { restart, ..system.machine.clone() };
    system.program("systemctl", "exit 1");
    let failures = duty::red(&machine).unwrap_err();
    assert!(failures.iter().any(|failure| failure.why == "the kernel was asked"), "{failures:?}");
}

#[test]
fn a_fallback_is_told_and_then_made_good() {
    let (system, ids) = fallen_back();
    let machine = &system.machine;
    let store = "var/lib/fledge/attempts";
    for (boot, done, end) in [("b1", 1, r#","end":"a check failed""#), ("b2", 2, "")] {
        let text = format!(
            r#"{{"version":1,"boot_id":"{boot}","deployment":"{}","tries":{{"left":{},"done":{done}}},"date":"2026-11-20T10:31:08Z"{end}}}"#,
            ids[0],
            2 - done
        );
        system.file(&format!("{store}/{boot}/attempt.json"), &text);
    }
    system.file(&format!("{store}/b1/journal.txt"), "kept by itself\n");
    duty::begin(machine).unwrap();
    assert_eq!(system.text(&format!("{store}/b1/journal.txt")).unwrap(), "kept by itself\n");
    let second = system.text(&format!("{store}/b2/journal.txt")).unwrap();
    assert!(second.contains("--boot=b2 --lines 200"), "{second}");
    let message = system.text(MESSAGE).unwrap();
    for part in ["THIS MACHINE FELL BACK", "try 1: a check failed", "try 2: it didn't say why", "(NestOS 2"] {
        assert!(message.contains(part), "{message}");
    }
    // It gets healthy: only then anything is written.
    assert!(system.records().contains(&format!("{}+0-2", ids[0])));
    assert!(duty::check(machine).unwrap());
    system.set_default(true);
    duty::bless(machine).unwrap();
    assert_eq!(system.records(), sorted([format!("{}.bad", ids[0]), format!("{}.good", ids[1])]));
    assert_eq!(system.ids()[0], ids[1], "it is the default");
    assert!(system.text(MESSAGE).unwrap().contains("fledgectl bless --forget"));
}

/// The bootloader was told to start the second one in the stead of the first, and did.
fn fallen_back_by_a_reboot() -> (System, Vec<Id>, std::path::PathBuf) {
    let (system, ids) = on_trial(0, 2);
    system.record(&[format!("{}.switched", ids[0])]);
    let grubenv = system.tell_grub("ostree-1");
    let mut selection = Selection::not_counted(Verdict::Blessed, Some(ids[1].clone()), "it was blessed before");
    selection.instead_of = Some(ids[0].clone());
    system.boot(&ids[1], Some(&selection));
    (system, ids, grubenv)
}

/// Not even root can write it then.
fn immutable(path: &std::path::Path, is: bool) {
    let status = std::process::Command::new("chattr").arg(if is { "+i" } else { "-i" }).arg(path).status().unwrap();
    assert!(status.success(), "chattr {}", path.display());
}

fn grub_is_told(grubenv: &std::path::Path) -> Option<String> {
    let block = fs::read(grubenv).unwrap();
    let environment = Environment::parse(&block).unwrap();
    assert_eq!((block.len(), environment.get("kept")), (BLOCK, Some("1")));
    environment.get(STEERING).map(str::to_owned)
}

#[test]
fn after_a_fallback_by_a_reboot_the_default_is_put_right_then_the_override_goes_then_the_mark() {
    let (system, ids, grubenv) = fallen_back_by_a_reboot();
    assert!(status::look(&system.machine.sysroot).unwrap().remarks.iter().any(|remark| remark.contains("default=")));
    let marked = sorted([format!("{}.bad", ids[0]), format!("{}.switched", ids[0]), format!("{}.good", ids[1])]);
    // The default isn't right yet, so the override stays, and with it the machine's way back.
    system.set_default(false);
    assert!(duty::bless(&system.machine).unwrap_err()[0].why.contains("2023.6"));
    assert_eq!((grub_is_told(&grubenv).as_deref(), system.records()), (Some("ostree-1"), marked.to_vec()));
    // The override can't go, so the mark stays.
    system.set_default(true);
    immutable(&grubenv, true);
    let blessed = duty::bless(&system.machine);
    immutable(&grubenv, false);
    assert!(blessed.unwrap_err()[0].what.contains("grubenv"));
    assert_eq!(system.ids()[0], ids[1], "it is the default");
    assert_eq!((grub_is_told(&grubenv).as_deref(), system.records()), (Some("ostree-1"), marked.to_vec()));
    duty::bless(&system.machine).unwrap();
    assert_eq!(grub_is_told(&grubenv), None);
    assert_eq!(system.records(), sorted([format!("{}.bad", ids[0]), format!("{}.good", ids[1])]));
}

/// What a person says of a deployment is written as far as the override doesn't matter to it.
#[test]
fn a_grubenv_that_can_not_be_read_may_have_the_override() {
    let (system, ids, grubenv) = fallen_back_by_a_reboot();
    fs::write(&grubenv, "no such block").unwrap();
    let Machine { sysroot, admin, .. } = &system.machine;
    let (status, mark) = (status::look(sysroot).unwrap(), format!("{}.switched", ids[0]));
    let say = |word| mark::mark(sysroot, admin, &status, Some("0"), word);
    assert!(say(Word::New).is_err() && system.records().contains(&mark), "{:?}", system.records());
    assert!(system.records().contains(&format!("{}+0-2", ids[0])), "nothing is forgotten before the override is gone");
    say(Word::Bad).unwrap();
    assert!(system.records().contains(&format!("{}.bad", ids[0])));
    assert!(say(Word::Good).is_err() && system.records().contains(&mark), "{:?}", system.records());
    assert!(system.records().contains(&format!("{}.good", ids[0])), "it is no less good");
}

#[test]
fn a_step_that_fails_is_the_last_one() {
    let (system, ids, grubenv) = fallen_back_by_a_reboot();
    let mark = format!("{}.switched", ids[0]);
    let steps = [Step::RemoveOverride, Step::Remove { name: mark.clone() }, Step::Sync];
    let carry_out = || records::carry_out(&steps, &system.machine.sysroot, &system.machine.admin);
    let block = fs::read(&grubenv).unwrap();
    fs::write(&grubenv, "torn").unwrap();
    assert!(carry_out().is_err() && system.records().contains(&mark));
    fs::write(&grubenv, block).unwrap();
    carry_out().unwrap();
    assert!(grub_is_told(&grubenv).is_none() && !system.records().contains(&mark));
    carry_out().unwrap();
}

#[test]
fn a_default_that_can_not_be_put_right_makes_the_deployment_no_less_good_and_is_told() {
    let (system, ids) = on_trial(1, 2);
    duty::begin(&system.machine).unwrap();
    system.record(&[format!("{}+0-3", ids[0])]);
    fs::remove_file(system.machine.sysroot.records_folder().join(format!("{}.good", ids[1]))).unwrap();
    fs::remove_file(system.machine.sysroot.records_folder().join(format!("{}+1-2", ids[0]))).unwrap();
    let mut selection = counted(&ids[1], None, 2, 1);
    (selection.verdict, selection.instead_of) = (Verdict::FellBack, Some(ids[0].clone()));
    system.boot(&ids[1], Some(&selection));
    let machine = Machine { boot_id: "b2".into(), ..system.machine.clone() };
    duty::begin(&machine).unwrap();
    assert!(duty::check(&machine).unwrap());
    system.set_default(false);
    assert_eq!(duty::bless(&machine).unwrap_err().len(), 1);
    assert!(system.records().contains(&format!("{}.good", ids[1])));
    assert_eq!(system.text("var/lib/fledge/attempts/b2/attempt.json"), None, "it was no failed try");
    assert!(system.pinned().is_empty() && system.pinned_by_ostree() == 0);
    let message = system.text(MESSAGE).unwrap();
    assert!(
        message.contains("BUT WHAT FOLLOWS A HEALTHY BOOT COULD NOT BE DONE") && message.contains("2023.6"),
        "{message}"
    );
    assert!(!message.contains("isn't marked as good"), "{message}");
    assert!(status::look(&machine.sysroot).unwrap().to_string().contains("could not be done after it"));
    system.set_default(true);
    duty::bless(&machine).unwrap();
    assert!(!system.text(MESSAGE).unwrap().contains("COULD NOT BE DONE"));
}

#[test]
fn a_healthy_boot_that_can_not_be_marked_as_good_says_so() {
    let (system, _) = on_trial(1, 2);
    assert!(duty::check(&system.machine).unwrap());
    let folder = system.machine.sysroot.records_folder();
    immutable(&folder, true);
    let blessed = duty::bless(&system.machine);
    immutable(&folder, false);
    assert!(blessed.is_err());
    let message = system.text(MESSAGE).unwrap();
    assert!(
        message.contains("isn't marked as good") && message.contains("systemctl restart fledge-bless"),
        "{message}"
    );
}

#[test]
fn an_override_that_is_not_needed_any_more_goes() {
    let (system, ids) = on_trial(0, 2);
    // The first one runs, and the other one is what the bootloader was once told to leave out.
    fs::remove_dir_all(system.machine.sysroot.records_folder()).unwrap();
    system.record(&[format!("{}.good", ids[0]), format!("{}.bad", ids[1]), format!("{}.switched", ids[1])]);
    system
        .boot(&ids[0], Some(&Selection::not_counted(Verdict::Blessed, Some(ids[0].clone()), "it was blessed before")));
    let grubenv = system.tell_grub("ostree-2");
    duty::bless(&system.machine).unwrap();
    assert_eq!(grub_is_told(&grubenv), None);
    assert_eq!(system.records(), sorted([format!("{}.good", ids[0]), format!("{}.bad", ids[1])]));
}

#[test]
fn a_try_is_given_back_once_and_then_nothing_reboots() {
    let (system, ids) = on_trial(0, 3);
    let machine = &system.machine;
    duty::begin(machine).unwrap();
    duty::give_back(machine).unwrap();
    duty::give_back(machine).unwrap();
    assert!(system.records().contains(&format!("{}+1-2", ids[0])), "{:?}", system.records());
    assert_eq!(system.text("var/lib/fledge/attempts/b007-1d/attempt.json"), None);
    assert!(stays_up(&system));
}

/// The deadline is a time since the kernel started, and `fledge-deadline` doesn't wait for what gives the try back.
#[test]
fn after_a_soft_reboot_there_is_no_deadline() {
    for has_begun in [true, false] {
        let (system, ids) = on_trial(2, 1);
        if has_begun {
            duty::begin(&system.machine).unwrap();
        }
        system.program("systemctl", "case $1 in show) echo 1 ;; is-active) exit 3 ;; esac");
        duty::deadline(&system.machine, &Cmdline::parse("fledge.boot.deadline=1ms")).unwrap();
        assert_eq!((reboots(&system), system.text("run/fledge/health.json")), (0, None));
        duty::begin(&system.machine).unwrap();
        assert!(system.records().contains(&format!("{}+3-0", ids[0])), "whenever its first userspace ended");
    }
}

#[test]
fn a_soft_reboot_gives_the_try_back() {
    let (system, ids) = on_trial(2, 1);
    let machine = &system.machine;
    duty::begin(machine).unwrap();
    duty::begin(machine).unwrap();
    assert!(system.records().contains(&format!("{}+2-1", ids[0])), "the unit was only started again");
    system.program("systemctl", "case $1 in show) echo 1 ;; esac");
    duty::begin(machine).unwrap();
    assert!(system.records().contains(&format!("{}+3-0", ids[0])), "{:?}", system.records());
}

/// Another program deploys, and has OSTree's lock.
#[test]
fn a_fallback_is_told_though_nothing_can_be_pinned() {
    let (system, ids) = fallen_back();
    let folder = system.machine.sysroot.records_folder();
    fs::rename(folder.join(format!("{}.good", ids[1])), folder.join(format!("{}+2-1", ids[1]))).unwrap();
    let mut selection = counted(&ids[1], Some(&ids[0]), 2, 1);
    (selection.verdict, selection.instead_of) = (Verdict::FellBack, Some(ids[0].clone()));
    system.boot(&ids[1], Some(&selection));
    system.program("ostree", "exec sleep 60");
    let start = Instant::now();
    let machine = Machine { patience: Duration::from_secs(5), ..system.machine.clone() };
    let failures = duty::begin(&machine).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(failures[0].what.starts_with("pinning ") && failures[0].why.contains("OSTree's lock"), "{failures:?}");
    assert!(system.text(MESSAGE).unwrap().contains("THIS MACHINE FELL BACK"));
    assert_eq!(system.pinned(), [ids[0].as_str()], "the note is there, should it be pinned after all");
    // Nor does a journal that takes its time keep it from being told.
    system.program("ostree", "exec /usr/bin/ostree \"$@\"");
    machine.admin.pin(&ids[0], true).unwrap();
    fs::remove_file(machine.live.root.join(MESSAGE)).unwrap();
    system.file(
        "var/lib/fledge/attempts/b1/attempt.json",
        &format!(r#"{{"version":1,"boot_id":"b1","deployment":"{}","date":"2026-11-20T10:31:08Z"}}"#, ids[0]),
    );
    system.program("journalctl", "exec sleep 60");
    let failures = duty::begin(&machine).unwrap_err();
    assert!(failures.len() == 1 && failures[0].why.contains("the journal doesn't answer"), "{failures:?}");
    assert!(system.text(MESSAGE).unwrap().contains("THIS MACHINE FELL BACK"));
}

/// With `systemd-boot-check-no-failures.service`, a unit that fails here would make the deployment that is left an unhealthy one.
#[test]
fn a_journal_that_was_not_kept_is_no_failure_of_the_boot_after_it() {
    let (system, ids) = fallen_back();
    let text = format!(
        r#"{{"version":1,"boot_id":"b1","deployment":"{}","tries":{{"left":1,"done":1}},"date":"2026-11-20T10:31:08Z"}}"#,
        ids[0]
    );
    system.file("var/lib/fledge/attempts/b1/attempt.json", &text);
    for journalctl in ["exit 0", "echo 'Data from the specified boot is not available' >&2; exit 1"] {
        system.program("journalctl", journalctl);
        duty::begin(&system.machine).unwrap();
        assert!(system.text(MESSAGE).unwrap().contains("[no journal was kept]"));
    }
}

#[test]
fn a_healthy_boot_is_blessed_whatever_else_can_not_be_read() {
    let (system, ids) = on_trial(2, 1);
    system.file(&format!("run/fledge/{}", fledge_core::counting::SELECTION), r#"{"version":99}"#);
    let grubenv = system.machine.sysroot.boot.join("grub2/grubenv");
    fs::create_dir_all(grubenv.parent().unwrap()).unwrap();
    fs::write(&grubenv, "default=x\n").unwrap();
    duty::bless(&system.machine).unwrap();
    assert!(system.records().contains(&format!("{}.good", ids[0])));
    assert_eq!(fs::read_to_string(grubenv).unwrap(), "default=x\n");
}

#[test]
fn what_can_not_be_done_is_told_and_the_rest_is_done() {
    let (system, ids) = on_trial(2, 1);
    // A file where the folder of attempts would be.
    system.file("var/lib/fledge", "");
    let failures = duty::begin(&system.machine).unwrap_err();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(system.pinned(), [ids[1].as_str()]);
    let machine = Machine { boot_id: "b2".into(), ..system.machine.clone() };
    fs::remove_file(system.machine.live.root.join("run/ostree-booted")).unwrap();
    assert!(duty::bless(&machine).unwrap_err()[0].remedy.is_some());
}

fn sorted<const N: usize>(mut names: [String; N]) -> [String; N] {
    names.sort();
    names
}
