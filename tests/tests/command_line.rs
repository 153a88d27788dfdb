// SPDX-License-Identifier: Apache-2.0
//! What the program's command lines promise to upstream's users: exit codes, and words for what can't be understood.

use std::fs;
use std::process::{Command, Output};

use fledge_tests::{Machine, fledge};

fn run(args: &[&str], runtime: &std::path::Path) -> (i32, String) {
    let command = Command::new(fledge()).args(args).env("FLEDGE_RUNTIME_DIR", runtime).output();
    let Output { status, stdout, stderr } = command.unwrap();
    (status.code().unwrap(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn exit_codes_are_upstreams() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("damaged"), "{").unwrap();
    fs::write(path("empty.ign"), "").unwrap();
    let state = format!("--state-file={}", path("damaged"));
    for (args, code, words) in [
        (&["ignition", "-version"][..], 0, "fledge "),
        (&["ignition", "-stage=fetch"], 2, "'--platform' must be provided"),
        (&["ignition", "-platform=file"], 2, "'--stage' must be provided"),
        (&["ignition", "-platform=file", "-stage=dance"], 2, "dance"),
        (&["ignition", "-platform=moon", "-stage=fetch"], 2, "moon"),
        (&["ignition", "-colour"], 2, "-colour"),
        (&["ignition", "-fetch-timeout", "5"], 2, "5"),
        (&["ignition", "-platform=file", "-stage=files", &state], 3, "damaged"),
        (&["ignition-validate"], 1, "usage"),
        (&["ignition-validate", "/nonexistent"], 1, "/nonexistent"),
        (&["validate", &path("empty.ign")], 1, "empty"),
        (&["plan"], 2, "usage"),
        (&["report", "/nonexistent"], 1, "/nonexistent"),
        (&["nothing"], 2, "nothing"),
        (&["--list-applets"], 0, "ignition /usr/bin/ignition\n"),
    ] {
        let (found, output) = run(args, folder.path());
        assert_eq!(found, code, "{args:?}: {output}");
        assert!(output.contains(words), "{args:?}: {output}");
    }
}

#[test]
fn a_plan_says_for_which_machine_it_is_and_keeps_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.ign");
    fs::write(
        &config,
        r#"{"ignition": {"version": "3.4.0"}, "passwd": {"users": [{"name": "core", "passwordHash": "$y$secret"}]},
            "storage": {"files": [{"path": "/etc/key", "mode": 384, "contents": {"source": "data:,secret"}}]}}"#,
    )
    .unwrap();
    let (code, plan) = run(&["plan", config.to_str().unwrap()], folder.path());
    assert_eq!(code, 0, "{plan}");
    assert!(plan.starts_with("for a blank machine"), "{plan}");
    assert!(plan.contains("create the user \"core\""), "{plan}");
    assert!(plan.contains("write /etc/key"), "{plan}");
    assert!(!plan.contains("secret"), "{plan}");
}

#[test]
fn what_is_wrong_with_a_config_goes_to_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ignition-validate");
    std::os::unix::fs::symlink(fledge(), &program).unwrap();
    let file = folder.path().join("config.ign");
    for (text, code, word) in [
        (r#"{"ignition": {"version": "3.4.0"}, "surplus": 1}"#, 0, "surplus"),
        (r#"{"ignition": {"version": "3.4.0"}, "storage": {"files": [{"path": "x"}]}}"#, 1, "config.ign:1:"),
    ] {
        fs::write(&file, text).unwrap();
        let output = Command::new(&program).arg(&file).output().unwrap();
        let (said, complaint) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!((output.status.code(), complaint.as_str()), (Some(code), ""), "{text}");
        assert!(said.contains(word), "{said}");
    }
    let output = Command::new(&program).arg("/nonexistent").output().unwrap();
    assert!(output.stdout.is_empty() && !output.stderr.is_empty());
}

#[test]
fn an_empty_variable_counts_for_none() {
    let machine = Machine::new().environment("IGNITION_KERNEL_CMDLINE_PATH", "");
    machine.booted(r#"{"ignition": {"version": "3.4.0"}, "storage": {"files": [{"path": "/etc/a"}]}}"#);
    assert_eq!(machine.text("etc/a"), "");
}
