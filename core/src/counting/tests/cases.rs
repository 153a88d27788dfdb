// SPDX-License-Identifier: Apache-2.0
//! What selection decides, and what it says.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::bls::Entry;
use crate::counting::*;

/// The newest deployment is `n-cc.0`, of another kernel; `n-bb.0` and `o-aa.0` have the same one.
pub(super) fn facts(booted: &str, default: &str, names: &[&str]) -> Facts {
    let deployments =
        [("n-cc.0", "2"), ("n-bb.0", "1"), ("o-aa.0", "1")].iter().enumerate().map(|(place, (id, kernel))| {
            let id = Id::parse(id).unwrap();
            let text = format!("options rw ostree=/ostree/boot.1/{}/{kernel}/{place}\n", id.stateroot());
            Listed::new(&format!("ostree-{}.conf", 3 - place), &Entry::new(text)).deployment(id).unwrap()
        });
    Facts {
        deployments: deployments.collect(),
        booted: Id::parse(booted).unwrap(),
        default: Id::parse(default),
        records: Records::parse(names.iter().copied()),
        tries: 3,
        unsteerable: None,
        unwanted: None,
        other: None,
        starts: None,
    }
}

/// The verdict, the effects in short, and what boots.
pub(super) fn said(decision: &Decision) -> (Verdict, String, String) {
    let short = |effect: &Effect| match effect {
        Effect::Create { name } => format!("create {name}"),
        Effect::Rename { from, to } => format!("rename {from} {to}"),
        Effect::SetDefault { entry } => format!("default {entry}"),
        Effect::Pivot { id, link, var } => format!("pivot {id} {link}{}", if *var { " with /var" } else { "" }),
        Effect::Exhausted { .. } => "exhausted".into(),
        Effect::Arm { starts: Starts { left: Left::Starts(left), fallback, .. } } => {
            format!("arm {left} {fallback}")
        }
        other => format!("{other:?}").to_lowercase(),
    };
    let effects: Vec<_> = decision.effects.iter().map(short).collect();
    let boots = decision.selection.deployment.as_ref().map(ToString::to_string);
    (decision.selection.verdict, effects.join(", "), boots.unwrap_or_default())
}

#[test]
fn a_deployment_is_counted_until_it_is_blessed() {
    let mut facts = facts("n-bb.0", "n-bb.0", &["o-aa.0.good"]);
    facts.deployments.remove(0);
    let mut names: Vec<String> = ["o-aa.0.good".into()].into();
    for (count, effects) in [
        "create n-bb.0+2-1, sync",
        "rename n-bb.0+2-1 n-bb.0+1-2, sync",
        "rename n-bb.0+1-2 n-bb.0+0-3, sync",
        "pivot o-aa.0 /ostree/boot.1/o/1/2 with /var",
    ]
    .iter()
    .enumerate()
    {
        facts.records = Records::parse(names.iter().map(String::as_str));
        let decision = decide(&facts);
        let (verdict, told, boots) = said(&decision);
        assert_eq!(told, *effects);
        let selection = &decision.selection;
        if count < 3 {
            assert_eq!((verdict, boots.as_str(), selection.counted), (Verdict::Counted, "n-bb.0", true));
            assert_eq!(selection.reason, format!("it isn't blessed yet: this is try {} of 3", count + 1));
            assert_eq!(selection.fallback, Id::parse("o-aa.0"));
            names.retain(|name| !name.contains('+'));
            names.push(selection.tries.map(|tries| State::Trying(tries).name(&facts.booted)).unwrap());
        } else {
            assert_eq!((verdict, boots.as_str(), selection.counted), (Verdict::FellBack, "o-aa.0", false));
            assert_eq!((&selection.bootloader, &selection.instead_of), (&Id::parse("n-bb.0"), &Id::parse("n-bb.0")));
        }
    }
    facts.records = Records::parse(["n-bb.0.good", "o-aa.0.good"]);
    assert_eq!(said(&decide(&facts)), (Verdict::Blessed, String::new(), "n-bb.0".into()));
}

#[test]
fn another_kernel_takes_a_reboot_and_at_most_two() {
    let used_up = "n-cc.0+0-3";
    let switch = |mark: &str| format!("create n-cc.0.{mark}, sync, default ostree-2, flush, reboot");
    for (marks, verdict, effects) in [
        (&[][..], Verdict::Rebooting, switch("switched")),
        (&["n-cc.0.switched"], Verdict::Rebooting, switch("switched-again")),
        (&["n-cc.0.switched", "n-cc.0.switched-again"], Verdict::Exhausted, "exhausted".into()),
    ] {
        let names = [&[used_up, "n-bb.0.good"], marks].concat();
        let (told, done, _) = said(&decide(&facts("n-cc.0", "n-cc.0", &names)));
        assert_eq!((told, done), (verdict, effects));
    }
    let mut facts = facts("n-cc.0", "n-cc.0", &[used_up, "n-bb.0.good"]);
    facts.unsteerable = Some("its grub.cfg doesn't read grubenv".into());
    let decision = decide(&facts);
    assert_eq!(said(&decision), (Verdict::Exhausted, "exhausted".into(), "n-cc.0".into()));
    assert!(decision.selection.reason.contains("doesn't read grubenv"), "{}", decision.selection.reason);
}

#[test]
fn the_boot_after_such_a_reboot_knows_in_whose_stead_it_is() {
    let names = ["n-cc.0+0-3", "n-cc.0.switched", "n-bb.0.good"];
    let decision = decide(&facts("n-bb.0", "n-bb.0", &names));
    assert_eq!(said(&decision), (Verdict::Blessed, String::new(), "n-bb.0".into()));
    assert_eq!(decision.selection.instead_of, Id::parse("n-cc.0"));
}

#[test]
fn without_a_blessed_one_the_newest_other_is_tried_and_counted() {
    let decision = decide(&facts("n-bb.0", "n-bb.0", &["n-bb.0.bad", "n-cc.0.bad"]));
    let effects = "create o-aa.0+2-1, sync, pivot o-aa.0 /ostree/boot.1/o/1/2 with /var";
    assert_eq!(said(&decision), (Verdict::FellBack, effects.into(), "o-aa.0".into()));
    assert!(decision.selection.counted);
    let none = decide(&facts("n-bb.0", "n-bb.0", &["n-bb.0+0-3", "n-cc.0.bad", "o-aa.0+0-3"]));
    assert_eq!(said(&none), (Verdict::Exhausted, "exhausted".into(), "n-bb.0".into()));
}

#[test]
fn a_blessed_one_that_takes_a_reboot_goes_before_one_that_nobody_has_seen_healthy() {
    let (verdict, effects, _) = said(&decide(&facts("n-cc.0", "n-cc.0", &["n-cc.0.bad", "o-aa.0.good"])));
    assert_eq!(verdict, Verdict::Rebooting);
    assert!(effects.contains("default ostree-1"), "{effects}");
    let (verdict, effects, _) = said(&decide(&facts("n-bb.0", "n-bb.0", &["n-bb.0.bad", "n-cc.0.good"])));
    assert_eq!(verdict, Verdict::Rebooting, "{effects}");
}

#[test]
fn what_can_t_be_reached_is_kept_and_told() {
    // The good one has another kernel, and GRUB can't be told.
    let mut told = facts("n-cc.0", "n-cc.0", &["n-cc.0+1-2", "n-bb.0.good"]);
    told.unsteerable = Some("it isn't read".into());
    let counted = decide(&told).selection;
    assert_eq!((counted.verdict, &counted.fallback), (Verdict::Counted, &Id::parse("n-bb.0")));
    assert!(counted.unreachable.unwrap().contains("n-bb.0 would take a reboot"));
    told.records = Records::parse(["n-cc.0+0-3", "n-bb.0.good"]);
    let exhausted = decide(&told).selection;
    assert_eq!((exhausted.verdict, &exhausted.fallback), (Verdict::Exhausted, &Id::parse("n-bb.0")));
    assert!(exhausted.unreachable.is_some());
    // The marks are spent.
    let names = ["n-cc.0+1-2", "n-bb.0.good", "n-cc.0.switched", "n-cc.0.switched-again"];
    assert!(decide(&facts("n-cc.0", "n-cc.0", &names)).selection.unreachable.unwrap().contains("told twice"));
    // GRUB could start it, if it were there.
    let mut missing = facts("n-cc.0", "n-cc.0", &["n-cc.0.bad", "n-bb.0.good"]);
    missing.deployments[1].unstartable = Some("there is no /vmlinuz".into());
    assert_eq!(said(&decide(&missing)).0, Verdict::Rebooting, "into the older one");
    missing.deployments[2].unstartable = Some("there is no /vmlinuz".into());
    let decision = decide(&missing);
    assert_eq!(said(&decision).0, Verdict::Exhausted);
    assert!(
        decision.selection.reason.contains("can't start it: there is no /vmlinuz"),
        "{}",
        decision.selection.reason
    );
    // With the same kernel nobody has to.
    missing.booted = Id::parse("o-aa.0").unwrap();
    missing.default = Id::parse("o-aa.0");
    missing.records = Records::parse(["o-aa.0.bad", "n-bb.0.good"]);
    assert_eq!(said(&decide(&missing)).0, Verdict::FellBack);

    let fallback = |names: &[&str]| decide(&facts("n-bb.0", "n-bb.0", names)).selection;
    let reached = fallback(&["n-bb.0+2-1", "o-aa.0.good"]);
    assert_eq!((reached.fallback, reached.unreachable), (Id::parse("o-aa.0"), None));
    let alone = fallback(&["n-bb.0+2-1", "o-aa.0.bad", "n-cc.0.bad"]);
    assert_eq!((alone.fallback, alone.unreachable), (None, None));
}

#[test]
fn where_the_blessed_one_can_t_be_reached_another_is_tried() {
    let mut facts = facts("n-bb.0", "n-bb.0", &["n-bb.0+0-3", "n-cc.0.good"]);
    facts.unsteerable = Some("it isn't read".into());
    let decision = decide(&facts);
    let effects = "create o-aa.0+2-1, sync, pivot o-aa.0 /ostree/boot.1/o/1/2 with /var";
    assert_eq!(said(&decision), (Verdict::FellBack, effects.into(), "o-aa.0".into()));
    assert_eq!(decision.selection.fallback, Id::parse("n-cc.0"), "it is the one to keep");
}

#[test]
fn what_could_not_be_booted_is_kept() {
    let fails = |effect: &Effect| match effect {
        Effect::Reboot | Effect::Pivot { .. } => Err("it is full".to_string()),
        _ => Ok(()),
    };
    for (booted, names, fallback) in
        [("n-cc.0", ["n-cc.0.bad", "n-bb.0.good"], "n-bb.0"), ("n-bb.0", ["n-bb.0.bad", "o-aa.0.good"], "o-aa.0")]
    {
        let selection = carry_out(decide(&facts(booted, booted, &names)), &mut |effect| fails(effect));
        assert_eq!((selection.verdict, selection.fallback), (Verdict::Exhausted, Id::parse(fallback)));
        assert!(selection.unreachable.unwrap().contains("it is full"));
    }
}

#[test]
fn a_deployment_that_nobody_could_bless_isn_t_counted() {
    let mut facts = facts("n-bb.0", "n-bb.0", &["n-cc.0.good"]);
    facts.deployments[1].unblessed = Some("it has no fledgectl".into());
    let decision = decide(&facts);
    assert_eq!(said(&decision), (Verdict::NotCounted, String::new(), "n-bb.0".into()));
    assert!(decision.selection.reason.contains("no fledgectl"), "{}", decision.selection.reason);
    // What was marked before counts all the same.
    facts.records = Records::parse(["n-bb.0.good"]);
    assert_eq!(decide(&facts).selection.verdict, Verdict::Blessed);
    facts.records = Records::parse(["n-bb.0.bad", "n-cc.0.bad"]);
    facts.deployments[2].unblessed = Some("it has no fledgectl".into());
    let decision = decide(&facts);
    let effects = "pivot o-aa.0 /ostree/boot.1/o/1/2 with /var";
    assert_eq!(said(&decision), (Verdict::FellBack, effects.into(), "o-aa.0".into()));
    assert!(!decision.selection.counted && decision.selection.reason.contains("no fledgectl"));
}

#[test]
fn an_update_after_a_switch_that_grub_ignored_is_counted() {
    // GRUB was told to start n-bb.0, and starts the first.
    let ignored = ["n-dd.0.bad", "n-dd.0.switched", "n-bb.0.good"];
    let decision = decide(&facts("n-cc.0", "n-bb.0", &ignored));
    assert_eq!(said(&decision), (Verdict::Counted, "create n-cc.0+2-1, sync".into(), "n-cc.0".into()));
    assert!(decision.selection.unreachable.unwrap().contains("starts the first"));
    for (booted, name) in [("n-cc.0", "n-cc.0+0-3"), ("n-cc.0", "n-cc.0.bad"), ("o-aa.0", "n-cc.0+2-1")] {
        let names = [&ignored[..], &[name]].concat();
        assert_eq!(said(&decide(&facts(booted, "n-bb.0", &names))).0, Verdict::NotCounted, "{booted} {name}");
    }
}

#[test]
fn behind_an_override_that_grub_ignored_a_used_up_update_gives_way_without_a_reboot() {
    // GRUB was told to start n-bb.0, and starts the first, whose kernel the oldest has, too.
    let ignored = |names: &[&str]| {
        let names = [&["n-dd.0.bad", "n-dd.0.switched", "n-bb.0.good"], names].concat();
        let mut facts = facts("n-cc.0", "n-bb.0", &names);
        facts.deployments[2].bootcsum = "2".into();
        facts
    };
    let decision = decide(&ignored(&["n-cc.0+0-3", "o-aa.0.good"]));
    assert_eq!(
        said(&decision),
        (Verdict::FellBack, "pivot o-aa.0 /ostree/boot.1/o/1/2 with /var".into(), "o-aa.0".into())
    );
    let decision = decide(&ignored(&["n-cc.0.bad"]));
    let effects = "create o-aa.0+2-1, sync, pivot o-aa.0 /ostree/boot.1/o/1/2 with /var";
    assert_eq!(said(&decision), (Verdict::FellBack, effects.into(), "o-aa.0".into()));
    assert_eq!(decision.selection.instead_of, Id::parse("n-cc.0"));
    let decision = decide(&ignored(&["n-cc.0.bad", "o-aa.0.bad"]));
    assert_eq!(said(&decision), (Verdict::NotCounted, String::new(), "n-cc.0".into()));
    assert!(decision.selection.reason.contains("picked by hand"), "{}", decision.selection.reason);
    // It is told beforehand.
    let counted = decide(&ignored(&["n-cc.0+1-2", "o-aa.0.good"])).selection;
    assert_eq!((counted.verdict, &counted.fallback), (Verdict::Counted, &Id::parse("o-aa.0")));
    assert_eq!(counted.unreachable, None);
}

#[test]
fn what_was_bad_isn_t_tried_again_under_another_serial() {
    // An updater without memory deployed n-cc once more; OSTree dropped n-cc.0.
    let redeployed = |names: &[&str]| {
        let mut facts = facts("n-cc.0", "n-cc.0", names);
        facts.deployments[0].id = Id::parse("n-cc.1").unwrap();
        facts.booted = facts.deployments[0].id.clone();
        facts.default = Some(facts.booted.clone());
        facts
    };
    let bad = ["n-cc.0.bad", "n-bb.0.good"];
    let decision = decide(&redeployed(&bad));
    let effects = "create n-cc.1.bad, sync, create n-cc.1.switched, sync, default ostree-2, flush, reboot";
    assert_eq!(said(&decision), (Verdict::Rebooting, effects.into(), "n-bb.0".into()));
    assert!(decision.selection.remarks[0].contains("n-cc.1 counts as bad"), "{:?}", decision.selection.remarks);
    // With arguments that no other has, a person wants a try.
    let mut changed = redeployed(&bad);
    changed.deployments[0].options.push("quiet".into());
    assert_eq!(said(&decide(&changed)).1, "create n-cc.1+2-1, sync");
    // The bad one is still there: its own arguments count.
    let mut old = facts("n-cc.0", "n-cc.0", &[]).deployments[0].clone();
    old.options.push("quiet".into());
    let mut both = redeployed(&bad);
    both.deployments.push(old.clone());
    assert_eq!(said(&decide(&both)).1, "create n-cc.1+2-1, sync");
    both.deployments[0].options = old.options;
    assert_eq!(said(&decide(&both)).0, Verdict::Rebooting);
    // It is no fallback either. What is known of it by itself counts, and of another stateroot nothing follows.
    for (names, effects) in [
        (&["n-bb.0.bad", "n-cc.0.bad", "o-aa.0.bad"][..], "exhausted"),
        (
            &["n-bb.0.bad", "n-cc.0.bad", "o-aa.0.bad", "n-cc.1.good"],
            "create n-bb.0.switched, sync, default ostree-3, flush, reboot",
        ),
        (
            &["n-bb.0.bad", "o-cc.0.bad", "n-cc1.0.bad", "o-aa.0.bad"],
            "create n-bb.0.switched, sync, default ostree-3, flush, reboot",
        ),
    ] {
        let mut facts = redeployed(names);
        facts.booted = Id::parse("n-bb.0").unwrap();
        facts.default = Id::parse("n-bb.0");
        assert_eq!(said(&decide(&facts)).1, effects, "{names:?}");
    }
}

#[test]
fn what_is_not_to_be_counted_isn_t() {
    let by_hand = facts("n-bb.0", "n-cc.0", &[]);
    let mut alone = facts("n-cc.0", "n-cc.0", &[]);
    alone.deployments.truncate(1);
    let mut other = facts("n-cc.0", "n-cc.0", &["n-cc.0+0-3"]);
    other.other = Some("the bootloader counts boots itself, by boot_counter in grubenv".into());
    let unknown = facts("n-dd.0", "n-cc.0", &[]);
    for (facts, why) in [
        (by_hand, "picked by hand"),
        (alone, "no other deployment"),
        (other, "two may not count"),
        (unknown, "no boot entry"),
    ] {
        let decision = decide(&facts);
        assert_eq!(said(&decision), (Verdict::NotCounted, String::new(), facts.booted.to_string()));
        assert!(decision.selection.reason.contains(why), "{}", decision.selection.reason);
    }
}

#[test]
fn what_is_damaged_is_armed_once_and_told() {
    let decision = decide(&facts("n-cc.0", "n-cc.0", &["n-cc.0+x-y", "n-cc.0+3"]));
    assert_eq!(said(&decision).1, "create n-cc.0+2-1, sync");
    assert_eq!(decision.selection.remarks.len(), 2);
}

#[test]
fn whatever_fails_the_boot_goes_on() {
    let fails = |wanted: &'static str| {
        move |effect: &Effect| {
            let kind = format!("{effect:?}");
            if kind.starts_with(wanted) { Err("it is full".to_string()) } else { Ok(()) }
        }
    };
    for (booted, names, effect, verdict, boots) in [
        ("n-cc.0", &["n-bb.0.good"][..], "Create", Verdict::CouldNotCount, "n-cc.0"),
        ("n-cc.0", &["n-cc.0.bad", "n-bb.0.good"], "Create", Verdict::Exhausted, "n-cc.0"),
        ("n-cc.0", &["n-cc.0.bad", "n-bb.0.good"], "SetDefault", Verdict::Exhausted, "n-cc.0"),
        ("n-cc.0", &["n-cc.0.bad", "n-bb.0.good"], "Flush", Verdict::Exhausted, "n-cc.0"),
        ("n-cc.0", &["n-cc.0.bad", "n-bb.0.good"], "Reboot", Verdict::Exhausted, "n-cc.0"),
        ("n-bb.0", &["n-bb.0.bad", "o-aa.0.good"], "Pivot", Verdict::Exhausted, "n-bb.0"),
        // The fallback works without being counted.
        ("n-bb.0", &["n-bb.0.bad", "n-cc.0.bad"], "Create", Verdict::FellBack, "o-aa.0"),
    ] {
        let mut performed = Vec::new();
        let perform = fails(effect);
        let selection = carry_out(decide(&facts(booted, booted, names)), &mut |effect| {
            performed.push(effect.clone());
            perform(effect)
        });
        assert_eq!((selection.verdict, selection.deployment), (verdict, Id::parse(boots)), "{effect} {names:?}");
        assert!(!selection.counted && selection.tries.is_none());
        assert_eq!(
            performed.iter().any(|effect| matches!(effect, Effect::Exhausted { .. })),
            verdict == Verdict::Exhausted
        );
        assert!(effect == "Reboot" || !performed.contains(&Effect::Reboot), "{performed:?}");
        let told = [&[selection.reason], selection.remarks.as_slice()].concat().join(" ");
        assert!(told.contains("it is full"), "{told}");
    }
}

#[test]
fn a_record_comes_back_as_it_was_written() {
    let selection = decide(&facts("n-bb.0", "n-bb.0", &["n-bb.0.bad", "odd"])).selection;
    let text = serde_json::to_string(&selection).unwrap();
    assert!(text.contains("\"version\":1,\"verdict\":\"fell-back\""), "{text}");
    assert!(text.contains("\"deployment\":\"o-aa.0\",\"bootloader\":\"n-bb.0\""), "{text}");
    assert_eq!(serde_json::from_str::<Selection>(&text).unwrap(), selection);
}
