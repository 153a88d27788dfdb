// SPDX-License-Identifier: Apache-2.0
//! The program itself: what it prints where, and its exit codes.

use std::fs;
use std::process::{Command, Output};

use fledge_companion::duty;
use fledge_core::counting::{Environment, STEERING, Selection, Verdict};

use crate::machine::System;

fn fledgectl(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fledgectl")).args(args).env_remove("JOURNAL_STREAM").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_is_no_error_and_nonsense_is_one() {
    for command in ["status", "rollback", "pin", "bless", "health", "report", "unit"] {
        let output = fledgectl(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).starts_with(&format!("usage: fledgectl {command} ")), "{command}");
        assert!(text(&fledgectl(&["--help"]).stdout).contains(&format!("\n  {command} ")), "{command}");
        let output = fledgectl(&[command, "--no-such-flag"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty() && text(&output.stderr).contains("--no-such-flag"), "{command}");
    }
    for args in
        [&[][..], &["frobnicate"], &["status", "extra"], &["unit"], &["unit", "x"], &["bless", "--bad", "--forget"]]
    {
        assert_eq!(fledgectl(args).status.code(), Some(2), "{args:?}");
    }
    assert!(text(&fledgectl(&["--version"]).stdout).starts_with("fledgectl 0."));
}

#[test]
fn a_system_on_a_disk_is_shown_marked_and_pinned() {
    let system = System::new(&["1", "2"]);
    let root = system.machine.sysroot.root.to_str().unwrap().to_owned();
    let run = |args: &[&str]| fledgectl(&[args, &["--sysroot", &root]].concat());
    for (args, says) in
        [(&["bless", "1"][..], "is good.\n"), (&["bless", "--bad", "0"], "is bad.\n"), (&["pin", "1"], "")]
    {
        let output = run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stdout).ends_with(says), "{args:?}");
    }
    let shown = text(&run(&["status"]).stdout);
    assert!(shown.contains("bad       default") && shown.contains("good      pinned"), "{shown}");
    let status: serde_json::Value = serde_json::from_slice(&run(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status.pointer("/deployments/0/verdict"), Some(&"bad".into()));
    assert_eq!(status.pointer("/deployments/1/pinned"), Some(&true.into()));
    let refused = run(&["rollback", "0"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("fledgectl bless --forget 0"), "{}", text(&refused.stderr));
    assert_eq!(run(&["bless", "--forget", "0"]).status.code(), Some(0));
    assert_eq!(system.records(), [format!("{}.good", system.ids()[1])]);
    let (rolled, id) = (run(&["rollback"]), system.ids()[0].clone());
    if System::has_set_default() {
        assert_eq!(rolled.status.code(), Some(0), "{}", text(&rolled.stderr));
        assert!(system.records()[0].starts_with(id.as_str()), "the good one is the first now");
    } else {
        assert!(rolled.status.code() == Some(1) && text(&rolled.stderr).contains("2023.6"));
    }
    let running = run(&["pin"]);
    assert!(running.status.code() == Some(1) && text(&running.stderr).contains("running"), "no deployment runs there");
}

fn grub_is_told(grubenv: &std::path::Path) -> Option<String> {
    Environment::parse(&fs::read(grubenv).unwrap()).unwrap().get(STEERING).map(str::to_owned)
}

/// An override whose mark is gone would have the bootloader start another one for ever.
#[test]
fn a_rollback_takes_any_override_away() {
    let system = System::new(&["1", "2"]);
    let root = system.machine.sysroot.root.to_str().unwrap().to_owned();
    for records in [&[][..], &[format!("{}.good", system.ids()[0])], &[format!("{}.switched", system.ids()[1])]] {
        let _ = fs::remove_dir_all(system.machine.sysroot.records_folder());
        system.record(records);
        let grubenv = system.tell_grub("ostree-1");
        let output = fledgectl(&["rollback", "0", "--sysroot", &root]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(grub_is_told(&grubenv), None, "{records:?}");
    }
}

/// What a person does to get out of trouble isn't refused for the trouble; what can't be read isn't written, either.
#[test]
fn a_rollback_passes_over_a_grubenv_that_is_none() {
    let system = System::new(&["1", "2"]);
    let root = system.machine.sysroot.root.to_str().unwrap().to_owned();
    let grubenv = system.tell_grub("ostree-1");
    for damaged in ["not a grubenv\n".to_owned(), "#".repeat(1024)] {
        fs::write(&grubenv, &damaged).unwrap();
        let output = fledgectl(&["rollback", "0", "--sysroot", &root]);
        let said = text(&output.stderr);
        assert!(output.status.success() && text(&output.stdout).ends_with("is the default.\n"), "{said}");
        assert!(said.contains("grubenv") && said.contains("may start another deployment than this one"), "{said}");
        assert_eq!(fs::read_to_string(&grubenv).unwrap(), damaged);
    }
}

#[test]
fn a_rollback_ends_what_grub_counts() {
    let system = System::new(&["1", "2"]);
    let root = system.machine.sysroot.root.to_str().unwrap().to_owned();
    let grubenv = system.tell_grub("0");
    let counting = Environment::default().with("kept", Some("1")).with("fledge_starts", Some("fell-back"));
    for starts in [counting.clone(), counting.with("fledge_fallback", Some("ostree-1"))] {
        fs::write(&grubenv, starts.render().unwrap()).unwrap();
        let output = fledgectl(&["rollback", "0", "--sysroot", &root]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let left = Environment::parse(&fs::read(&grubenv).unwrap()).unwrap();
        assert_eq!(left, Environment::default().with("kept", Some("1")));
    }
}

/// GRUB replays no journal: what it doesn't see yet is not done.
#[test]
fn an_override_that_may_not_have_got_to_where_grub_sees_it_is_not_gone() {
    let system = System::new(&["1", "2"]);
    let root = system.machine.sysroot.root.to_str().unwrap().to_owned();
    system.tell_grub("ostree-1");
    let output = Command::new("setpriv")
        .args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin", env!("CARGO_BIN_EXE_fledgectl")])
        .args(["rollback", "0", "--sysroot", &root])
        .output()
        .unwrap();
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("freezing"), "{}", text(&output.stderr));
}

/// What a person pinned with this program stays pinned, even if this program had pinned it before.
#[test]
fn a_person_takes_a_pin_over() {
    let system = System::new(&["1", "2"]);
    let ids = system.ids();
    let root = system.machine.sysroot.root.to_str().unwrap().to_owned();
    let mut counted = Selection::not_counted(Verdict::Counted, Some(ids[0].clone()), "try 1 of 3");
    (counted.counted, counted.fallback) = (true, Some(ids[1].clone()));
    system.boot(&ids[0], Some(&counted));
    duty::begin(&system.machine).unwrap();
    assert_eq!(system.pinned(), [ids[1].as_str()]);
    assert!(fledgectl(&["pin", "1", "--sysroot", &root]).status.success());
    assert!(system.pinned().is_empty());
    duty::bless(&system.machine).unwrap();
    assert_eq!(system.pinned_by_ostree(), 1);
}

#[test]
fn what_is_forgotten_is_counted_anew_and_its_tries_are_set_aside() {
    let system = System::new(&["1", "2"]);
    let id = system.ids()[0].clone();
    let root = system.machine.sysroot.root.clone();
    system.record(&[format!("{id}+0-3")]);
    let attempt = root.join("ostree/deploy/nestos/var/lib/fledge/attempts/b1/attempt.json");
    fs::create_dir_all(attempt.parent().unwrap()).unwrap();
    let json = format!(
        r#"{{"version":1,"boot_id":"b1","deployment":"{id}","tries":{{"left":2,"done":1}},"date":"2026-11-20T10:31:08Z"}}"#
    );
    fs::write(&attempt, json).unwrap();
    let run = |args: &[&str]| text(&fledgectl(&[args, &["--sysroot", root.to_str().unwrap()]].concat()).stdout);
    assert!(run(&["status"]).contains("try 1: "));
    assert!(run(&["bless", "--forget", "0"]).ends_with("is new.\n"));
    assert!(run(&["status"]).contains("an earlier try: "));
}

/// A disk that doesn't answer gives no pages back.
#[test]
fn what_waits_for_the_deadline_stays_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let cmdline = directory.path().join("cmdline");
    fs::write(&cmdline, "fledge.boot.deadline=1000000h").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fledgectl"));
    let mut child = command.args(["unit", "deadline"]).env("IGNITION_KERNEL_CMDLINE_PATH", &cmdline).spawn().unwrap();
    let locked = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        status.lines().any(|line| line.starts_with("VmLck:") && !line.ends_with("\t       0 kB"))
    };
    let is_locked = (0..600).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        locked()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_locked);
}

#[test]
fn what_failed_is_an_error_in_the_journal() {
    let output = Command::new(env!("CARGO_BIN_EXE_fledgectl"))
        .args(["status", "--sysroot", "/no/such/folder"])
        .env("JOURNAL_STREAM", "8:1")
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.lines().count() > 0, "{said}");
    assert!(said.lines().all(|line| line.starts_with("<3>")), "{said}");
}

#[test]
fn a_report_is_printed_or_drawn() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    let json = r#"{"version":1,"program":"fledge 0.1.0","boot_id":"b007","stages":[{"stage":"files","start_ms":4200,"took_ms":31,"outcome":"done","steps":[{"what":"write /etc/<motd>","outcome":"done","took_ms":12}]}]}"#;
    fs::write(&file, json).unwrap();
    let path = file.to_str().unwrap();
    assert!(text(&fledgectl(&["report", path]).stdout).contains("write /etc/<motd>"));
    let svg = text(&fledgectl(&["report", "--svg", path]).stdout);
    assert!(svg.starts_with("<?xml") && svg.contains("write /etc/&lt;motd&gt; (12 ms)"), "{svg}");
    fs::write(&file, r#"{"version":99,"program":"","boot_id":""}"#).unwrap();
    let newer = fledgectl(&["report", path]);
    assert!(newer.status.code() == Some(1) && text(&newer.stderr).contains("version 99"));
    assert_eq!(fledgectl(&["report", "/no/such/file"]).status.code(), Some(1));
}
