// SPDX-License-Identifier: Apache-2.0
//! The words for states that machines get into.

use fledge_core::counting::Verdict as Selected;

use std::path::Path;

use super::*;
use crate::attempt::{Attempt, FOLDER};
use crate::health::{Check, Kind, Outcome};

const NEW: &str = "nestos-bbbbbbbbbbbbbbbbbb.0";
const OLD: &str = "nestos-aaaaaaaaaaaaaaaaaa.0";

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

fn deployment(text: &str, title: &str) -> Deployment {
    Deployment { id: id(text), title: title.into(), origin: Some("nestos/x".into()), pinned: false }
}

fn kept(number: u32, end: Option<&str>) -> Kept {
    let attempt = Attempt {
        version: attempt::VERSION,
        boot_id: format!("boot-{number}"),
        deployment: id(NEW),
        tries: Some(Tries { left: 3 - number, done: number }),
        date: "2026-11-20T10:31:08Z".into(),
        end: end.map(str::to_owned),
    };
    let journal = end.map(|_| Path::new("/var").join(FOLDER).join(&attempt.boot_id).join("journal.txt"));
    Kept { attempt, journal }
}

fn status(running: &str, names: &[&str], boot: Option<&Selection>, attempts: Vec<Kept>) -> Status {
    let records = Records::parse(names.iter().copied());
    let running = id(running);
    let known = |index, deployment, attempts| row(index, deployment, Some(&running), Some(&records), boot, attempts);
    Status {
        version: VERSION,
        booted: true,
        deployments: vec![
            known(0, deployment(NEW, "NestOS 2.0"), attempts),
            known(1, deployment(OLD, "NestOS 1.0"), Vec::new()),
        ],
        staged: false,
        starts: None,
        boot: boot.cloned(),
        exhausted: None,
        health: None,
        unknown: Vec::new(),
        remarks: Vec::new(),
    }
}

fn fell_back() -> Status {
    let mut boot = Selection::not_counted(Selected::FellBack, Some(id(OLD)), "the other one is used up");
    boot.bootloader = Some(id(NEW));
    boot.instead_of = Some(id(NEW));
    let end = "required check /etc/fledge/health.d/10.sh failed with exit code 1; it said: no route to host";
    status(OLD, &[&format!("{NEW}+0-2"), &format!("{OLD}.good")], Some(&boot), vec![kept(1, Some(end)), kept(2, None)])
}

#[test]
fn after_a_fallback_the_table_and_the_message_say_what_happened() {
    let status = fell_back();
    let table = "\
boot:    FELL BACK; the other one is used up
         in the stead of nestos bbbbbbbbbbbb.0 (NestOS 2.0)
health:  not checked yet

   #  deployment             verdict                       title
   0  nestos bbbbbbbbbbbb.0  used up   default             NestOS 2.0
       none of its 2 tries was healthy; the last that said why: required check /etc/fledge/health.d/10.sh failed with exit code 1; it said: no route to host
         try 1: required check /etc/fledge/health.d/10.sh failed with exit code 1; it said: no route to host [/var/lib/fledge/attempts/boot-1/journal.txt]
         try 2: it didn't say why it ended: it hung, lost its power, panicked or was rebooted [no journal was kept]
*  1  nestos aaaaaaaaaaaa.0  good      running             NestOS 1.0
       a boot of it was healthy
";
    assert_eq!(status.to_string(), table);
    let message = of_the_day(&status).unwrap();
    for part in [
        "THIS MACHINE FELL BACK to an earlier deployment.\n  failed:  nestos bbbbbbbbbbbb.0 (NestOS 2.0)\n  running: nestos aaaaaaaaaaaa.0 (NestOS 1.0)\n  try 1: required check",
        "/var is as the failed one left it",
        "fledgectl bless --forget 0; fledgectl rollback --reboot 0",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn what_grub_counts_is_a_line() {
    for (left, words) in [
        (
            Some(2),
            "GRUB counts starts of nestos bbbbbbbbbbbb.0 (NestOS 2.0) until one arrives: 2 left, then it starts ostree-1 instead.\n",
        ),
        (Some(0), "(NestOS 2.0): none is left, it starts ostree-1 instead.\n"),
        (None, "GRUB counted starts of nestos bbbbbbbbbbbb.0 (NestOS 2.0), and has started ostree-1 instead.\n"),
    ] {
        let mut status = status(OLD, &[], None, Vec::new());
        assert!(!status.to_string().contains("GRUB"), "{status}");
        status.starts = Some(Counted { left, tried: id(NEW), fallback: "ostree-1".into() });
        assert!(status.to_string().contains(words), "{status}");
    }
}

/// Why is known to nobody: what an initramfs waits for may have been away.
#[test]
fn what_never_arrived_may_be_tried_again() {
    let mut boot = Selection::not_counted(Selected::Blessed, Some(id(OLD)), "");
    (boot.instead_of, boot.never_arrived) = (Some(id(NEW)), Some(2));
    let message = of_the_day(&status(OLD, &[&format!("{NEW}.bad")], Some(&boot), Vec::new())).unwrap();
    for part in [
        "started it 2 times, and it never got to where boots are counted: ",
        "what they wait for wasn't there",
        "To try it once more: fledgectl bless --forget 0; fledgectl rollback --reboot 0\n",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn tries_that_left_nothing_are_counted() {
    let names = [format!("{NEW}+0-3"), format!("{OLD}.good")];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut boot = Selection::not_counted(Selected::FellBack, Some(id(OLD)), "");
    boot.instead_of = Some(id(NEW));
    let status = status(OLD, &names, Some(&boot), vec![kept(2, None)]);
    let words = "2 of its tries left nothing: they ended before /var was there";
    assert!(status.to_string().contains(words) && of_the_day(&status).unwrap().contains(words), "{status}");
}

/// `fledgectl bless --forget`, and three tries anew, of which two left nothing.
#[test]
fn tries_of_an_earlier_round_are_not_counted_with_those_of_this_one() {
    let names = [format!("{NEW}+0-3"), format!("{OLD}.good")];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut earlier = kept(3, Some("of the earlier round"));
    earlier.attempt.tries = None;
    let mut boot = Selection::not_counted(Selected::FellBack, Some(id(OLD)), "");
    boot.instead_of = Some(id(NEW));
    let status = status(OLD, &names, Some(&boot), vec![earlier.clone(), earlier, kept(1, None)]);
    let (text, message) = (status.to_string(), of_the_day(&status).unwrap());
    assert!(message.contains("  try 1: ") && !message.contains("earlier try"), "{message}");
    assert!(text.contains("       none of its 3 tries was healthy\n"), "{text}");
    assert!(
        text.contains("an earlier try: of the earlier round") && text.contains("2 of its tries left nothing"),
        "{text}"
    );
}

#[test]
fn later_boots_still_tell_of_the_bad_one_as_long_as_it_is_there() {
    let boot = Selection::not_counted(Selected::Blessed, Some(id(OLD)), "it was blessed before");
    let status = status(OLD, &[&format!("{NEW}.bad"), &format!("{OLD}.good")], Some(&boot), vec![kept(1, Some("why"))]);
    assert_eq!(status.deployments[0].verdict, Verdict::Bad);
    let message = of_the_day(&status).unwrap();
    assert!(message.contains("A deployment failed on this machine") && message.contains("try 1: why"), "{message}");
}

#[test]
fn where_all_is_well_there_is_no_message() {
    let names = [format!("{NEW}.good"), format!("{OLD}.good")];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let boot = Selection::not_counted(Selected::Blessed, Some(id(NEW)), "it was blessed before");
    assert_eq!(of_the_day(&status(NEW, &names, Some(&boot), Vec::new())), None);
    assert_eq!(of_the_day(&status(NEW, &[], None, Vec::new())), None);
    let mut trying = Selection::not_counted(Selected::Counted, Some(id(NEW)), "this is try 3 of 3");
    trying.counted = true;
    let trying = status(NEW, &[&format!("{NEW}+0-3")], Some(&trying), Vec::new());
    assert_eq!(trying.deployments[0].verdict, Verdict::Trying, "the last try, while it runs");
    assert_eq!(of_the_day(&trying), None);
}

#[test]
fn an_unhealthy_boot_and_an_exhausted_machine_are_told() {
    let mut status = fell_back();
    status.exhausted = Some("all deployments are used up".into());
    let check = Check {
        kind: Kind::Required,
        path: "/etc/fledge/health.d/10.sh".into(),
        outcome: Outcome::Failed(1),
        took_ms: 5,
        said: Some("no route to host".into()),
    };
    status.health = Some(Health { checks: vec![check], ..Health::ended("b") });
    let message = of_the_day(&status).unwrap();
    for part in [
        "NO DEPLOYMENT OF THIS MACHINE IS LEFT",
        "deploy another version, and reboot. Or repair this one, then\n  systemctl restart fledge-health\n  systemctl start fledge-bless\n",
        "THIS BOOT IS NOT HEALTHY.\n  required check /etc/fledge/health.d/10.sh failed with exit code 1; it said: no route to host\n",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("fledgectl bless\n"), "nobody has to say that a healthy boot is good: {message}");
    status.deployments[1].verdict = Verdict::Bad;
    let message = of_the_day(&status).unwrap();
    assert!(message.contains("systemctl start fledge-bless\n  fledgectl bless\n"), "it stays bad otherwise: {message}");
    let table = status.to_string();
    assert!(table.contains("health:  NOT HEALTHY; checks run: 1, failed: 1\n"), "{table}");
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
}

#[test]
fn a_deployment_is_named_by_index_commit_or_running() {
    let status = fell_back();
    for (name, index) in [("0", 0), ("1", 1), ("running", 1), ("bbbb", 0), (OLD, 1), ("aaaaaaaaaaaaaaaaaa.0", 1)] {
        assert_eq!(status.named(name).unwrap().index, index, "{name}");
    }
    for name in ["2", "aaa", "cccc", "", "nestos"] {
        assert!(status.named(name).is_err(), "{name}");
    }
}

/// The other one is good, and the bootloader could not be told.
#[test]
fn a_good_deployment_that_can_not_be_reached_is_named_with_the_way_to_it() {
    let names = [format!("{NEW}+0-3"), format!("{OLD}.good")];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut boot = Selection::not_counted(Selected::Exhausted, Some(id(NEW)), "it is used up");
    boot.fallback = Some(id(OLD));
    let mut stuck = status(NEW, &names, Some(&boot), Vec::new());
    stuck.exhausted = Some("it is used up; the bootloader can't be told".into());
    let (message, table) = (of_the_day(&stuck).unwrap(), stuck.to_string());
    for text in [&message, &table] {
        assert!(!text.contains("NO DEPLOYMENT"), "{text}");
        assert!(text.contains("LEAVE") && text.contains("fledgectl rollback --reboot 1\n"), "{text}");
    }
    assert!(message.contains("There is nestos aaaaaaaaaaaa.0 (NestOS 1.0), which is good."), "{message}");
    assert_eq!(stuck.rollback(true).unwrap().index, 1, "and without its number");
    // Once that one is bad as well, none is left.
    stuck.deployments[1].verdict = Verdict::Bad;
    assert!(of_the_day(&stuck).unwrap().contains("NO DEPLOYMENT OF THIS MACHINE IS LEFT"));
    assert!(stuck.to_string().contains("NO DEPLOYMENT IS LEFT"));
}

#[test]
fn a_rollback_goes_to_the_running_one_while_another_would_boot_next() {
    let names = [format!("{NEW}.good"), format!("{OLD}.good")];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut running = status(NEW, &names, None, Vec::new());
    assert_eq!((running.rollback(false).unwrap().index, running.rollback(true).unwrap().index), (1, 1));
    running.staged = true;
    assert_eq!(running.rollback(false).unwrap().index, 0, "the staged update is what is undone");
    assert_eq!(running.rollback(true).unwrap().index, 1, "nobody reboots to be where they are");
    assert_eq!((fell_back().rollback(false).unwrap().index, fell_back().rollback(true).unwrap().index), (1, 1));
}

#[test]
fn ids_are_short_for_people_and_nothing_else_is_changed() {
    let sum = "0123456789abcdef".repeat(4);
    for (text, short) in [
        (
            format!("n-{sum}.0 is used up; the machine reboots into my-root-{sum}.12"),
            "n 0123456789ab.0 is used up; the machine reboots into my-root 0123456789ab.12",
        ),
        (format!("  (such as\tn-{sum}.1),\n\nn-{sum}.0: no"), "  (such as\tn 0123456789ab.1),\n\nn 0123456789ab.0: no"),
    ] {
        assert_eq!(shortened(&text), short);
    }
    for text in [
        format!("/boot/fledge/boot/n-{sum}.0.good"),
        format!("the name \"n-{sum}.0+2-1\""),
        sum.clone(),
        "n-aa.0".into(),
    ] {
        assert_eq!(shortened(&text), text);
    }
    let mut status = fell_back();
    status.exhausted = Some(format!("it is used up, and n-{sum}.0 could not be booted"));
    let message = of_the_day(&status).unwrap();
    assert!(message.contains("and n 0123456789ab.0 could not be booted.") && !message.contains(&sum), "{message}");
}

/// Checks write what they were told by others, and titles are what an image says.
#[test]
fn nothing_that_others_wrote_steers_a_terminal() {
    let mut status = fell_back();
    status.health = Some(Health { end: Some("\u{1b}]0;x\u{7}\u{9b}2J\rall is well".into()), ..Health::ended("b") });
    status.deployments[0].title = "\u{1b}[2JNestOS".into();
    for text in [of_the_day(&status).unwrap(), printable(&status.to_string())] {
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert!(
            text.contains("\\u{1b}]0;x\\u{7}\\u{9b}2J\\rall is well") && text.contains("\\u{1b}[2JNestOS"),
            "{text}"
        );
    }
}
