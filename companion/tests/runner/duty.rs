// SPDX-License-Identifier: Apache-2.0
//! Boots, from their beginning to their end: with real deployments, records and scripts, and with systemd's programs noted instead of run.

use std::fs;

use fledge_companion::duty::{self, Machine};
use fledge_companion::status;
use fledge_core::cmdline::Cmdline;
use fledge_core::counting::{BLOCK, EXHAUSTED, Environment, Id, STEERING, Selection, Tries, Verdict};

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
    let (system, _) = on_trial(0, 3);
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

#[test]
fn a_unit_that_keeps_the_target_from_being_reached_is_named() {
    let (system, _) = on_trial(2, 1);
    system.program("systemctl", "case $1 in list-units) echo 'app.service loaded failed failed App' ;; esac");
    duty::red(&system.machine).unwrap();
    let attempt = system.text("var/lib/fledge/attempts/b007-1d/attempt.json").unwrap();
    assert!(attempt.contains("boot-complete.target was not reached; failed: app.service\""), "{attempt}");
    assert_eq!(reboots(&system), 1);
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
    let blessed = duty::bless(machine);
    let names = system.records();
    assert!(names.contains(&format!("{}.bad", ids[0])) && names.contains(&format!("{}.good", ids[1])), "{names:?}");
    if System::has_set_default() {
        blessed.unwrap();
        assert_eq!(system.ids()[0], ids[1]);
    } else {
        assert!(blessed.unwrap_err()[0].why.contains("2023.6"));
    }
    assert!(system.text(MESSAGE).unwrap().contains("fledgectl bless --forget"));
}

#[test]
fn after_a_fallback_by_a_reboot_the_override_goes() {
    let (system, ids) = on_trial(0, 2);
    if !System::has_set_default() {
        eprintln!("this OSTree can't change the default: only what comes before was seen");
    }
    system.record(&[format!("{}.switched", ids[0])]);
    let grubenv = system.machine.sysroot.boot.join("grub2/grubenv");
    fs::create_dir_all(grubenv.parent().unwrap()).unwrap();
    let told = Environment::default().with("kept", Some("1")).with(STEERING, Some("ostree-1"));
    fs::write(&grubenv, told.render().unwrap()).unwrap();
    let mut selection = Selection::not_counted(Verdict::Blessed, Some(ids[1].clone()), "it was blessed before");
    selection.instead_of = Some(ids[0].clone());
    system.boot(&ids[1], Some(&selection));
    assert!(status::look(&system.machine.sysroot).unwrap().remarks.iter().any(|remark| remark.contains("default=")));
    let blessed = duty::bless(&system.machine);
    let block = fs::read(&grubenv).unwrap();
    let left = Environment::parse(&block).unwrap();
    assert_eq!((block.len(), left.get("kept")), (BLOCK, Some("1")));
    if System::has_set_default() {
        blessed.unwrap();
        assert_eq!(left.get(STEERING), None);
        assert_eq!(system.records(), sorted([format!("{}.bad", ids[0]), format!("{}.good", ids[1])]));
    } else {
        // The default isn't right yet, so the override stays, and with it the machine's way back.
        assert!(blessed.is_err());
        assert_eq!(left.get(STEERING), Some("ostree-1"));
    }
}

#[test]
fn an_override_that_is_not_needed_any_more_goes() {
    let (system, ids) = on_trial(0, 2);
    // The first one runs, and the other one is what the bootloader was once told to leave out.
    fs::remove_dir_all(system.machine.sysroot.records_folder()).unwrap();
    system.record(&[format!("{}.good", ids[0]), format!("{}.bad", ids[1]), format!("{}.switched", ids[1])]);
    system
        .boot(&ids[0], Some(&Selection::not_counted(Verdict::Blessed, Some(ids[0].clone()), "it was blessed before")));
    let grubenv = system.machine.sysroot.boot.join("grub/grubenv");
    fs::create_dir_all(grubenv.parent().unwrap()).unwrap();
    let told = Environment::default().with("kept", Some("1")).with(STEERING, Some("ostree-2"));
    fs::write(&grubenv, told.render().unwrap()).unwrap();
    duty::bless(&system.machine).unwrap();
    let left = Environment::parse(&fs::read(&grubenv).unwrap()).unwrap();
    assert_eq!((left.get("kept"), left.get(STEERING)), (Some("1"), None));
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
