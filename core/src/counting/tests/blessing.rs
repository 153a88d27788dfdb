// SPDX-License-Identifier: Apache-2.0
//! What is written after boot.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::counting::*;

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

pub(super) fn healthy(running: &str, names: &[&str]) -> Healthy {
    Healthy {
        running: id(running),
        records: Records::parse(names.iter().copied()),
        selection: None,
        deployments: ["n-bb.0", "n-aa.0"].map(id).into(),
        first: Some(id("n-bb.0")),
        overridden: false,
        armed: false,
    }
}

pub(super) fn said(steps: &[Step]) -> String {
    let short = |step: &Step| match step {
        Step::Create { name } => format!("create {name}"),
        Step::Rename { from, to } => format!("rename {from} {to}"),
        Step::Remove { name } => format!("remove {name}"),
        Step::SetDefault { id } => format!("default {id}"),
        other => format!("{other:?}").to_lowercase(),
    };
    steps.iter().map(short).collect::<Vec<_>>().join(", ")
}

pub(super) fn instead_of(running: &str, failed: &str) -> Selection {
    let mut selection = Selection::not_counted(Verdict::FellBack, Some(id(running)), "");
    selection.instead_of = Some(id(failed));
    selection
}

#[test]
fn a_healthy_boot_is_blessed_once() {
    for (names, steps) in [
        (&[][..], "create n-bb.0.good, sync"),
        (&["n-bb.0+2-1"], "rename n-bb.0+2-1 n-bb.0.good, sync"),
        (&["n-bb.0+0-3", "n-aa.0.good"], "rename n-bb.0+0-3 n-bb.0.good, sync"),
        (&["n-bb.0+2-1", "n-bb.0+1-2"], "rename n-bb.0+1-2 n-bb.0.good, remove n-bb.0+2-1, sync"),
        (&["n-bb.0.good"], ""),
        (&["n-bb.0.good", "n-aa.0.bad", "odd"], ""),
        // Only a person takes that back.
        (&["n-bb.0.bad"], ""),
    ] {
        assert_eq!(said(&bless(&healthy("n-bb.0", names))), steps, "{names:?}");
    }
}

#[test]
fn after_a_fallback_what_failed_is_remembered_first_and_the_default_put_right() {
    let mut boot = healthy("n-aa.0", &["n-bb.0+0-3", "n-aa.0.good"]);
    boot.selection = Some(instead_of("n-aa.0", "n-bb.0"));
    assert_eq!(said(&bless(&boot)), "rename n-bb.0+0-3 n-bb.0.bad, sync, default n-aa.0");

    let mut boot = healthy("n-aa.0", &["n-bb.0+0-3", "n-bb.0.switched", "n-aa.0.good"]);
    boot.overridden = true;
    let all = "rename n-bb.0+0-3 n-bb.0.bad, sync, default n-aa.0, removeoverride, remove n-bb.0.switched, sync";
    assert_eq!(said(&bless(&boot)), all, "without a record, too");
    boot.first = Some(id("n-aa.0"));
    assert!(!said(&bless(&boot)).contains("default"), "it is right already");

    // Something new was deployed meanwhile: it is to be tried.
    boot.first = Some(id("n-cc.0"));
    boot.deployments = ["n-cc.0", "n-aa.0"].map(id).into();
    assert!(said(&bless(&boot)).ends_with("sync, removeoverride, remove n-bb.0.switched, sync"));
}

#[test]
fn a_first_one_that_never_arrived_is_left_though_the_mark_is_another_one_s() {
    // GRUB fell back from n-cc.0 to n-bb.0; a person called that bad, and selection had GRUB start n-aa.0.
    let mut boot = healthy("n-aa.0", &["n-cc.0+0-3", "n-bb.0.bad", "n-bb.0.switched", "n-aa.0.good"]);
    boot.first = Some(id("n-cc.0"));
    boot.deployments = ["n-cc.0", "n-bb.0", "n-aa.0"].map(id).into();
    boot.selection = Some(instead_of("n-aa.0", "n-bb.0"));
    boot.overridden = true;
    let all = "rename n-cc.0+0-3 n-cc.0.bad, sync, default n-aa.0, removeoverride, remove n-bb.0.switched, sync";
    assert_eq!(said(&bless(&boot)), all);
    // Nothing says that the machine left it by itself.
    boot.overridden = false;
    assert_eq!(said(&bless(&boot)), "");
}

#[test]
fn an_override_of_a_person_s_own_stays() {
    let mut boot = healthy("n-aa.0", &["n-aa.0.good", "n-bb.0+2-1"]);
    boot.overridden = true;
    assert_eq!(bless(&boot), []);
}

#[test]
fn the_record_of_another_boot_means_nothing() {
    // After a soft reboot another one may run.
    let mut boot = healthy("n-bb.0", &["n-aa.0+0-3", "n-bb.0+2-1"]);
    boot.selection = Some(instead_of("n-cc.0", "n-aa.0"));
    assert_eq!(said(&bless(&boot)), "rename n-bb.0+2-1 n-bb.0.good, sync");
}

#[test]
fn what_is_gone_is_forgotten_unless_it_was_bad() {
    let names = ["n-bb.0.good", "n-11.0.good", "n-22.0+2-1", "n-33.0.bad", "n-33.0.switched"];
    let steps = said(&bless(&healthy("n-bb.0", &names)));
    assert_eq!(steps, "remove n-33.0.switched, remove n-11.0.good, remove n-22.0+2-1, sync");
}

#[test]
fn people_say_what_they_know() {
    let records = Records::parse(["n-bb.0.bad", "n-bb.0.switched", "n-aa.0.good"]);
    assert_eq!(
        said(&mark_good(&records, &id("n-bb.0"), false)),
        "rename n-bb.0.bad n-bb.0.good, remove n-bb.0.switched, sync"
    );
    assert_eq!(said(&mark_good(&records, &id("n-aa.0"), true)), "");
    assert_eq!(said(&mark_bad(&records, &id("n-aa.0"))), "rename n-aa.0.good n-aa.0.bad, sync");
    assert_eq!(said(&mark_bad(&records, &id("n-cc.0"))), "create n-cc.0.bad, sync");
    assert_eq!(said(&forget(&records, &id("n-bb.0"), false)), "remove n-bb.0.bad, remove n-bb.0.switched, sync");
    assert_eq!(said(&forget(&records, &id("n-cc.0"), true)), "");
}

#[test]
fn a_commit_that_was_bad_is_remembered_and_forgotten_under_each_serial() {
    let mut boot = healthy("n-aa.0", &["n-bb.7.bad", "n-aa.0.good"]);
    boot.selection = Some(instead_of("n-aa.0", "n-bb.0"));
    assert_eq!(said(&bless(&boot)), "create n-bb.0.bad, sync, default n-aa.0", "its own record could not be written");
    let records = Records::parse(["n-bb.1+1-2", "n-bb.0.bad", "n-bb.2.good", "o-bb.0.bad", "n-bb.10.bad", "n-b.0.bad"]);
    let all = "remove n-bb.1+1-2, remove n-bb.0.bad, remove n-bb.10.bad, sync";
    assert_eq!(said(&forget(&records, &id("n-bb.1"), false)), all);
}

#[test]
fn an_override_goes_before_the_last_mark_that_tells_of_it() {
    let all = "rename n-bb.0.bad n-bb.0.good, sync, removeoverride, remove n-bb.0.switched, sync";
    let alone = Records::parse(["n-bb.0.bad", "n-bb.0.switched", "n-aa.0.good"]);
    assert_eq!(said(&mark_good(&alone, &id("n-bb.0"), true)), all);
    let all = "removeoverride, remove n-bb.0.bad, remove n-bb.0.switched, sync";
    assert_eq!(said(&forget(&alone, &id("n-bb.0"), true)), all);
    // It is another one's, for all that is known.
    let two = Records::parse(["n-bb.0.bad", "n-bb.0.switched", "n-aa.0.bad", "n-aa.0.switched"]);
    for steps in [mark_good(&two, &id("n-bb.0"), true), forget(&two, &id("n-bb.0"), true)] {
        assert!(!steps.contains(&Step::RemoveOverride), "{steps:?}");
    }

    // The running one may have marks itself: it was left once, and a person picked it.
    let mut boot = healthy("n-bb.0", &["n-bb.0+0-3", "n-bb.0.switched", "n-aa.0.good"]);
    boot.overridden = true;
    let all = "rename n-bb.0+0-3 n-bb.0.good, sync, removeoverride, remove n-bb.0.switched, sync";
    assert_eq!(said(&bless(&boot)), all);
    // As long as the default isn't right, marks stay, even those of what is gone.
    let mut boot = healthy("n-aa.0", &["n-bb.0.bad", "n-aa.0.good", "n-11.0.good", "n-11.0.switched"]);
    boot.overridden = true;
    assert_eq!(said(&bless(&boot)), "remove n-11.0.good, sync");
}

#[test]
fn a_try_is_given_back_once() {
    let mut selection = Selection::not_counted(Verdict::Counted, Some(id("n-bb.0")), "");
    selection.tries = Some(Tries { left: 1, done: 2 });
    selection.counted = true;
    let given = |selection: &Selection, name: &str| said(&give_back(&Records::parse([name]), selection));
    assert_eq!(given(&selection, "n-bb.0+1-2"), "rename n-bb.0+1-2 n-bb.0+2-1, sync");
    // It is another boot's by now, or blessed.
    for name in ["n-bb.0+2-1", "n-bb.0+0-3", "n-bb.0.good", "n-aa.0+1-2"] {
        assert_eq!(given(&selection, name), "", "{name}");
    }
    selection.counted = false;
    assert_eq!(given(&selection, "n-bb.0+1-2"), "");
}
