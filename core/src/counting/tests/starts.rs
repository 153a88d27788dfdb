// SPDX-License-Identifier: Apache-2.0
//! Starts that GRUB counts: their variables, its snippet, and what each of the three sides decides.

use alloc::format;
use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::{blessing, cases};
use crate::bls::Entry;
use crate::counting::*;

/// The snippet as it is installed.
const INSTALLED: &str = include_str!("../../../../dracut/grub2/fledge-starts.cfg");

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

fn starts(left: Left) -> Starts {
    Starts { left, fallback: "ostree-2".into(), tried: id("n-cc.0"), given: 3 }
}

#[test]
fn the_variables_say_what_was_written() {
    let others = Environment::default().with("kernelopts", Some("x")).with("fledge", Some("y"));
    for left in [Left::Starts(0), Left::Starts(9), Left::FellBack] {
        let written = starts(left).written(&others);
        let read = Environment::parse(&written.render().unwrap()).unwrap();
        assert_eq!(Starts::read(&read), Some(starts(left)));
        assert_eq!(disarmed(&read), others);
        assert_eq!(told(&read), (left == Left::FellBack).then_some("ostree-2"));
        assert_eq!(told(&read.with("default", Some("ostree-1"))), Some("ostree-1"), "a default of its own wins");
        assert_eq!(told(&read.with("default", Some("0"))), told(&read), "that is what it is without one");
    }
    assert_eq!(Starts::read(&others), None);
    let whole = starts(Left::Starts(3)).written(&others);
    for (name, value) in [
        ("fledge_starts", None),
        ("fledge_starts", Some("10")),
        ("fledge_starts", Some("-1")),
        ("fledge_starts", Some("x")),
        ("fledge_fallback", None),
        ("fledge_fallback", Some("")),
        ("fledge_tried", None),
        ("fledge_tried", Some("n-cc.0.good")),
        ("fledge_tried", Some("x")),
    ] {
        assert_eq!(Starts::read(&whole.with(name, value)), None, "{name}={value:?}");
    }
}

#[test]
fn grub_counts_where_its_configuration_has_the_snippet_behind_load_env() {
    for (config, counted) in [
        ("load_env\nsource $prefix/fledge-starts.cfg\nblscfg\n", true),
        ("load_env\nif [ -f $prefix/fledge-starts.cfg ]; then source \"$prefix/fledge-starts.cfg\"; fi\n", true),
        ("load_env\n. ($root)/grub2/fledge-starts.cfg\n", true),
        ("if [ -s $prefix/grubenv ]; then load_env; fi\nsource $prefix/fledge-starts.cfg\n", true),
        ("load_env -f $prefix/grubenv; source $prefix/fledge-starts.cfg; load_env x\n", true),
        ("load_env x\nsource $prefix/fledge-starts.cfg\nload_env\n", false),
        ("load_env; echo source $prefix/fledge-starts.cfg\n", false),
        ("source $prefix/fledge-starts.cfg\nload_env\n", false),
        ("load_env\n# source $prefix/fledge-starts.cfg\n", false),
        ("load_env\nif [ -f $prefix/fledge-starts.cfg ]; then echo x; fi\n", false),
        ("load_env\nsource $prefix/custom.cfg\n", false),
        ("load_env\nconfigfile $prefix/fledge-starts.cfg\n", false),
        ("source $prefix/fledge-starts.cfg\n", false),
    ] {
        assert_eq!(counts(config, true), counted, "{config}");
        assert!(!counts(config, false), "the file isn't there: {config}");
    }
    let joined = format!("set default=0\nload_env\n{INSTALLED}blscfg\n");
    assert!(counts(&joined, false));
    steering(&joined, &[]).unwrap();
    assert!(!counts(&format!("{INSTALLED}load_env\n"), false));
    assert!(!counts("load_env\nblscfg\n", true));
}

/// GRUB has no arithmetic, so the snippet is a table.
#[test]
fn the_snippet_takes_one_away_until_it_starts_the_other_one() {
    let lines: Vec<&str> = INSTALLED.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    let to = |from: &str| {
        let test =
            lines.iter().position(|line| line.ends_with(&format!("if [ \"${{fledge_starts}}\" = \"{from}\" ]; then")));
        let next = &lines[test.unwrap() + 1..];
        assert_eq!(next[1], "save_env fledge_starts");
        next[0].strip_prefix("set fledge_starts=").unwrap()
    };
    for left in 1..=9_u32 {
        assert_eq!(to(&left.to_string()), (left - 1).to_string());
    }
    let environment = Environment::default().with("fledge_starts", Some(to("0"))).with("fledge_fallback", Some("b"));
    assert_eq!(told(&environment), Some("b"));
    let count = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
    assert_eq!(to("fell-back"), "0");
    assert_eq!(
        (count("save_env"), count("set fledge_starts="), count("set default=\"${fledge_fallback}\"")),
        (11, 11, 1)
    );
}

#[test]
fn a_start_that_arrives_is_counted_here_and_no_more_by_grub() {
    let mut facts = cases::facts("n-cc.0", "n-cc.0", &["n-bb.0.good"]);
    facts.starts = Some(starts(Left::Starts(2)));
    let mut said = |names: &[&str]| {
        facts.records = Records::parse(names.iter().copied());
        cases::said(&decide(&facts)).1
    };
    assert_eq!(said(&["n-bb.0.good"]), "create n-cc.0+2-1, sync, disarm");
    assert_eq!(said(&["n-bb.0.good", "n-cc.0.good"]), "disarm", "a good one isn't to be left some day");
    let reboots = "create n-cc.0.switched, sync, default ostree-2, flush, reboot";
    assert_eq!(said(&["n-bb.0.good", "n-cc.0.bad"]), reboots, "that is one block");
    facts.deployments[1].bootcsum = "2".into();
    facts.records = Records::parse(["n-bb.0.good", "n-cc.0.bad"]);
    let (_, said, _) = cases::said(&decide(&facts));
    assert!(said.starts_with("disarm, pivot n-bb.0"), "{said}");

    // What could not be counted here goes on being counted there.
    facts.records = Records::default();
    let mut done = Vec::new();
    let selection = carry_out(decide(&facts), &mut |effect| {
        done.push(effect.clone());
        Err("no room".into())
    });
    assert_eq!((selection.verdict, done.len()), (Verdict::CouldNotCount, 1), "{done:?}");
    let fails = |effect: &Effect| if *effect == Effect::Disarm { Err("torn".into()) } else { Ok(()) };
    let selection = carry_out(decide(&facts), &mut |effect| fails(effect));
    assert!(selection.counted && selection.remarks == ["torn"], "{selection:?}");
}

#[test]
fn a_start_that_arrives_and_isn_t_wanted_to_be_counted_isn_t_by_grub_either() {
    let why = "the command line asks for a rescue or emergency shell";
    for (booted, default, left, armed, said) in [
        ("n-cc.0", "n-cc.0", Left::Starts(0), true, "disarm"),
        ("n-cc.0", "n-cc.0", Left::Starts(2), true, "disarm"),
        ("n-cc.0", "n-cc.0", Left::Starts(2), false, ""),
        ("n-bb.0", "n-cc.0", Left::Starts(2), true, ""),
        ("n-cc.0", "n-bb.0", Left::FellBack, true, ""),
        ("n-bb.0", "n-bb.0", Left::FellBack, true, ""),
    ] {
        for names in [&[][..], &["n-bb.0.good"], &["n-cc.0+0-3", "n-bb.0.good", "odd"], &["n-cc.0.good"]] {
            let mut facts = cases::facts(booted, default, names);
            facts.starts = armed.then(|| starts(left));
            facts.unwanted = Some(why.into());
            let decision = decide(&facts);
            assert_eq!(cases::said(&decision).1, said, "{booted} {default} {left:?} {names:?}");
            let expected = Selection::not_counted(Verdict::NotCounted, Some(facts.booted.clone()), why);
            assert_eq!(decision.selection, expected);
            facts.other = Some("somebody counts".into());
            assert!(decide(&facts).effects.is_empty());
        }
    }
}

#[test]
fn what_a_person_picks_and_what_others_count_stays_as_it_is() {
    for left in [Left::Starts(0), Left::Starts(2), Left::FellBack] {
        let default = if left == Left::FellBack { "n-bb.0" } else { "n-cc.0" };
        for booted in ["n-cc.0", "n-bb.0", "o-aa.0"].into_iter().filter(|booted| *booted != default) {
            let mut facts = cases::facts(booted, default, &["n-bb.0.good"]);
            facts.starts = Some(starts(left));
            let (verdict, effects, _) = cases::said(&decide(&facts));
            assert_eq!((verdict, effects.as_str()), (Verdict::NotCounted, ""), "{left:?} {booted}");
        }
        let mut facts = cases::facts(default, default, &["n-bb.0.good"]);
        facts.starts = Some(starts(left));
        facts.other = Some("somebody counts".into());
        assert_eq!(cases::said(&decide(&facts)).1, "");
    }
}

#[test]
fn what_never_arrived_is_used_up_and_the_good_one_runs() {
    let mut facts = cases::facts("n-bb.0", "n-bb.0", &["n-bb.0.good", "odd"]);
    facts.starts = Some(starts(Left::FellBack));
    let decision = decide(&facts);
    let expected = (Verdict::Blessed, "create n-cc.0+0-3, sync, arm 0 ostree-2".into(), "n-bb.0".into());
    assert_eq!(cases::said(&decision), expected);
    let Selection { instead_of, never_arrived, reason, remarks, .. } = decision.selection;
    assert_eq!((instead_of, never_arrived), (Some(id("n-cc.0")), Some(3)));
    assert!(reason.contains("started n-cc.0 3 times, and it never got to where boots are counted"), "{reason}");
    assert_eq!(remarks.len(), 1, "{remarks:?}");

    // The same boot once more: it is known.
    facts.records = Records::parse(["n-bb.0.good", "n-cc.0+0-3"]);
    let decision = decide(&facts);
    assert_eq!(cases::said(&decision).1, "arm 0 ostree-2");
    assert_eq!(decision.selection.instead_of, Some(id("n-cc.0")));
    // One arrived before, and the variables could not be removed then.
    facts.records = Records::parse(["n-bb.0.good", "n-cc.0+1-2"]);
    let decision = decide(&facts);
    assert_eq!(cases::said(&decision).1, "disarm");
    let said = "instead of n-cc.0, although that one arrived before";
    assert!(decision.selection.remarks.iter().any(|remark| remark.contains(said)), "{decision:?}");
    // The other one isn't good any more.
    facts.records = Records::parse(["n-bb.0+1-2"]);
    let (verdict, effects, _) = cases::said(&decide(&facts));
    let counted = "create n-cc.0+0-3, sync, rename n-bb.0+1-2 n-bb.0+0-3, sync, arm 0 ostree-2";
    assert_eq!((verdict, effects.as_str()), (Verdict::Counted, counted));

    // Another one is the first now: that one didn't fail.
    facts.records = Records::parse(["n-bb.0.good"]);
    facts.starts = Some(Starts { tried: id("n-dd.0"), ..starts(Left::FellBack) });
    let decision = decide(&facts);
    assert!(decision.effects.is_empty() && decision.selection.instead_of.is_none(), "{decision:?}");

    let selection = carry_out(
        {
            facts.starts = Some(starts(Left::FellBack));
            decide(&facts)
        },
        &mut |_| Err("no room".into()),
    );
    assert_eq!(selection.verdict, Verdict::Blessed);
    assert_eq!(selection.remarks, ["a record could not be written: no room"]);
}

#[test]
fn a_healthy_boot_puts_the_default_right_and_disarms_then() {
    let boot = |running: &str, names: &[&str]| Healthy { armed: true, ..blessing::healthy(running, names) };
    let mut fell_back = boot("n-aa.0", &["n-aa.0.good", "n-bb.0+0-3"]);
    fell_back.selection = Some(blessing::instead_of("n-aa.0", "n-bb.0"));
    let said = blessing::said(&bless(&fell_back));
    assert_eq!(said, "rename n-bb.0+0-3 n-bb.0.bad, sync, default n-aa.0, disarm");
    // Selection could not write it down.
    fell_back.records = Records::parse(["n-aa.0.good"]);
    fell_back.selection.as_mut().unwrap().never_arrived = Some(3);
    let said = blessing::said(&bless(&fell_back));
    assert_eq!(said, "create n-bb.0.bad, sync, default n-aa.0, disarm");
    // A person has it forgotten after that.
    assert_eq!(blessing::said(&bless(&Healthy { armed: false, ..fell_back.clone() })), "");
    // A person says otherwise.
    fell_back.records = Records::parse(["n-aa.0.good", "n-bb.0.good"]);
    assert_eq!(blessing::said(&bless(&fell_back)), "disarm");

    for (running, names, said) in [
        // Nobody says that this boot is one in its stead.
        ("n-aa.0", &["n-aa.0.good", "n-bb.0+0-3"][..], ""),
        // A good one that was picked by hand, while the default waits to be tried.
        ("n-aa.0", &["n-aa.0.good"], ""),
        // The variables could not be removed when it arrived.
        ("n-bb.0", &["n-bb.0.good"], "disarm"),
        ("n-bb.0", &["n-bb.0+2-1"], "rename n-bb.0+2-1 n-bb.0.good, sync, disarm"),
        ("n-aa.0", &["n-aa.0.good", "n-bb.0+2-1"], "disarm"),
        // A person says that it is good.
        ("n-aa.0", &["n-aa.0.good", "n-bb.0.good"], "disarm"),
    ] {
        assert_eq!(blessing::said(&bless(&boot(running, names))), said, "{running} {names:?}");
        let boot = Healthy { armed: false, ..boot(running, names) };
        assert!(!blessing::said(&bless(&boot)).contains("disarm"));
    }
}

fn off(running: &str, names: &[&str]) -> GoesOff {
    let facts = cases::facts(running, running, names);
    let (starts, obstacle) = (None, None);
    GoesOff { deployments: facts.deployments, running: Some(facts.booted), records: facts.records, starts, obstacle }
}

fn removed(off: &GoesOff, why: &str) {
    match arm(off) {
        Arms::Remove(said) => assert!(said.contains(why), "{said}"),
        other => panic!("{why}: {other:?}"),
    }
}

#[test]
fn grub_counts_for_a_default_that_nobody_knows_with_a_kernel_that_nobody_knows() {
    let good = ["n-bb.0.good", "o-aa.0.good"];
    assert_eq!(arm(&off("n-bb.0", &good)), Arms::Set(starts(Left::Starts(3))));
    // Whichever runs.
    assert_eq!(arm(&off("o-aa.0", &good)), Arms::Set(starts(Left::Starts(3))));
    let oldest = Starts { fallback: "ostree-1".into(), ..starts(Left::Starts(3)) };
    assert_eq!(arm(&off("n-bb.0", &["o-aa.0.good"])), Arms::Set(oldest));
    let mut broken = off("o-aa.0", &good);
    broken.deployments[1].unstartable = Some("gone".into());
    assert!(matches!(arm(&broken), Arms::Set(starts) if starts.fallback == "ostree-1"));
    let mut half = off("n-bb.0", &good);
    half.starts = Some(starts(Left::Starts(1)));
    assert_eq!(arm(&half), Arms::Set(starts(Left::Starts(3))), "all starts again after one that was picked by hand");

    let mut with = off("n-bb.0", &good);
    with.deployments[0].options.push("fledge.boot.tries=12".into());
    assert!(matches!(arm(&with), Arms::Set(Starts { left: Left::Starts(9), given: 9, .. })));
    // They are kept without their quotes.
    with.deployments[0].options.push("dyndbg=func a; 1".into());
    assert!(matches!(arm(&with), Arms::Set(Starts { given: 9, .. })));
    with.deployments[0].options.push("fledge.boot.count=0".into());
    removed(&with, "count=0");

    removed(&off("n-cc.0", &good), "the default runs");
    removed(&off("n-bb.0", &["n-cc.0.good", "n-bb.0.good"]), "known");
    removed(&off("n-bb.0", &["n-cc.0+2-1", "n-bb.0.good"]), "known");
    let once = Starts { given: 1, ..starts(Left::Starts(1)) };
    let bad = off("n-bb.0", &["n-cc.0.bad", "n-bb.0.good"]);
    assert_eq!(arm(&bad), Arms::Set(once.clone()), "a person said so, before it was ever started");
    // An updater deploys what was bad once more.
    let mut again = off("n-bb.0", &["n-cc.7.bad", "n-bb.0.good"]);
    assert_eq!(arm(&again), Arms::Set(once.clone()));
    again.starts = Some(Starts { left: Left::FellBack, ..once.clone() });
    assert_eq!(arm(&again), Arms::Set(Starts { left: Left::Starts(0), ..once.clone() }));
    again.starts = None;
    again.records = Records::parse(["n-cc.7.good", "o-cc.7.bad", "n-bb.0.good"]);
    assert_eq!(arm(&again), Arms::Set(starts(Left::Starts(3))), "nothing bad is known of it");
    again.records = Records::parse(["n-cc.7.bad", "n-bb.0.good"]);
    again.deployments[0].options.push("x".into());
    assert_eq!(arm(&again), Arms::Set(starts(Left::Starts(3))), "a person wants a try with other arguments");
    removed(&off("n-bb.0", &["n-bb.0+2-1"]), "no other deployment is good");
    let mut off = off("n-bb.0", &good);
    off.deployments[0].unblessed = Some("it has no fledgectl".into());
    removed(&off, "no fledgectl");
    off.deployments[0].unblessed = None;
    off.deployments[0].unstartable = Some("its kernel is gone".into());
    removed(&off, "its kernel is gone");
    off.deployments[0].unstartable = None;
    off.obstacle = Some("GRUB has no snippet".into());
    removed(&off, "no snippet");
    off.obstacle = None;
    off.deployments[0] = {
        let entry = Entry::new("options rw ostree=/ostree/boot.1/n/1/0\n".to_string());
        Listed::new("ostree-3.conf", &entry).deployment(id("n-cc.0")).unwrap()
    };
    removed(&off, "has the default's kernel");
}

#[test]
fn until_the_default_is_right_grub_goes_on_with_the_other_one() {
    let mut fell_back = off("n-bb.0", &["n-cc.0+0-3", "n-bb.0.good"]);
    fell_back.starts = Some(Starts { fallback: "ostree-9".into(), ..starts(Left::FellBack) });
    assert_eq!(arm(&fell_back), Arms::Set(starts(Left::Starts(0))), "by its name of today");
    fell_back.records = Records::parse(["n-cc.0.bad"]);
    assert!(matches!(arm(&fell_back), Arms::Keep(_)));
    // Boots of the good one aren't counted, so nobody wrote it down.
    fell_back.records = Records::parse(["n-bb.0.good"]);
    assert_eq!(arm(&fell_back), Arms::Set(starts(Left::Starts(0))));
    // A person wants to have it tried once more.
    fell_back.starts = Some(starts(Left::Starts(0)));
    assert_eq!(arm(&fell_back), Arms::Set(starts(Left::Starts(3))));
    fell_back.starts = Some(starts(Left::FellBack));
    fell_back.records = Records::parse(["n-bb.0.good", "n-cc.0+1-2"]);
    removed(&fell_back, "known to arrive");
    fell_back.records = Records::parse(["n-bb.0.good", "n-cc.0+0-3"]);
    fell_back.running = Some(id("n-cc.0"));
    removed(&fell_back, "runs");
}
