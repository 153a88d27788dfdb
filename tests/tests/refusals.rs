// SPDX-License-Identifier: Apache-2.0
//! What can't be done is refused: by the right stage, in words that name the place, in bounded time, with nothing written.

use std::time::Duration;

use fledge_tests::Machine;
use fledge_tests::http::{Answer, Server};

/// Boots with a config that must be refused, and checks all that every refusal has in common.
fn refused(machine: &Machine, config: &str, stage: &str, within: Duration, words: &[&str]) {
    let before = machine.tree();
    let boot = machine.boot(config);
    let stopped = boot.stopped.unwrap_or_else(|| panic!("it went through:\n{}", boot.output));
    assert_eq!((stopped.stage, stopped.code), (stage, 1), "{}", stopped.output);
    for word in words {
        assert!(stopped.output.contains(word), "{word:?} is not in:\n{}", stopped.output);
    }
    assert!(boot.took < within, "it took {:?}", boot.took);
    assert_eq!(machine.tree(), before, "the target root is not what it was");
}

const SOON: Duration = Duration::from_secs(15);

#[test]
fn truncated_json() {
    let config = "{\n  \"ignition\": {\"version\": \"3.3.0\"},\n  \"storage\": {";
    refused(&Machine::new(), config, "fetch-offline", SOON, &["config.ign:3:", "ends"]);
}

#[test]
fn a_wrong_hash() {
    let hash = "0".repeat(128);
    let config = format!(
        r#"{{"ignition": {{"version": "3.3.0"}}, "storage": {{"files": [
  {{"path": "/etc/first", "contents": {{"source": "data:,first"}}}},
  {{"path": "/etc/motd", "contents": {{"source": "data:,hello", "verification": {{"hash": "sha512-{hash}"}}}}}}
]}}}}"#
    );
    refused(&Machine::new(), &config, "files", SOON, &["config.ign:3:3", "$.storage.files.1", "sha512", "0000000000"]);
}

#[test]
fn a_file_that_is_not_there() {
    let server = Server::start([("/tool", Answer::status(404))]);
    let config = format!(
        r#"{{"ignition": {{"version": "3.3.0"}}, "storage": {{"files": [
  {{"path": "/etc/tool", "contents": {{"source": "{}"}}}}]}}}}"#,
        server.url("/tool")
    );
    refused(
        &Machine::new(),
        &config,
        "files",
        SOON,
        &["config.ign:2:3", "$.storage.files.0", "404", &server.url("/tool")],
    );
}

#[test]
fn a_config_url_that_never_answers() {
    let server = Server::start([("/config.ign", Answer::never())]);
    let machine = Machine::new().flag("--fetch-timeout=5s");
    machine.put("cmdline", 0o644, &format!("ignition.config.url={}", server.url("/config.ign")));
    let words = [&*server.url("/config.ign"), "5 s", "ignition.config.url"];
    refused(&machine, "", "fetch", Duration::from_secs(20), &words);
}

#[test]
fn a_relative_path() {
    let config = r#"{"ignition": {"version": "3.3.0"}, "storage": {"files": [
  {"path": "etc/motd"}]}}"#;
    refused(
        &Machine::new(),
        config,
        "fetch-offline",
        SOON,
        &["config.ign:2:", "$.storage.files.0.path", "relative", "slash"],
    );
}

#[test]
fn a_file_over_a_directory() {
    let config = r#"{"ignition": {"version": "3.3.0"}, "storage": {"files": [
  {"path": "/etc/first", "contents": {"source": "data:,first"}},
  {"path": "/home", "contents": {"source": "data:,x"}}]}}"#;
    refused(
        &Machine::new(),
        config,
        "files",
        SOON,
        &["config.ign:3:3", "$.storage.files.1", "/home", "directory", "overwrite"],
    );
}

#[test]
fn two_entries_for_one_path() {
    let config = r#"{"ignition": {"version": "3.3.0"}, "storage": {
  "files": [{"path": "/etc/motd"}],
  "links": [{"path": "/etc/motd", "target": "/etc/issue"}]}}"#;
    refused(
        &Machine::new(),
        config,
        "fetch-offline",
        SOON,
        &["config.ign:3:", "$.storage.links.0", "/etc/motd", "$.storage.files.0"],
    );
}

#[test]
fn a_unit_with_a_bad_name() {
    let config = r#"{"ignition": {"version": "3.3.0"}, "systemd": {"units": [
  {"name": "hello.servce", "enabled": true}]}}"#;
    refused(
        &Machine::new(),
        config,
        "fetch-offline",
        SOON,
        &["config.ign:2:", "$.systemd.units.0.name", "hello.servce", ".service"],
    );
}

#[test]
fn a_user_that_cannot_be_made() {
    let config = r#"{"ignition": {"version": "3.3.0"}, "passwd": {"users": [
  {"name": "core"},
  {"name": "ops", "uid": 990}]}}"#;
    refused(&Machine::new(), config, "files", SOON, &["config.ign:3:3", "$.passwd.users.1", "990", "dnsmasq"]);
}

/// Runs the program with this kernel command line; gives its exit code, what it said, and the reason that it left.
fn run(cmdline: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cmdline"), cmdline).unwrap();
    let output = std::process::Command::new(fledge_tests::fledge())
        .args(args)
        .env("IGNITION_KERNEL_CMDLINE_PATH", folder.path().join("cmdline"))
        .env("FLEDGE_RUNTIME_DIR", folder.path())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let reason = std::fs::read_to_string(folder.path().join("failure")).unwrap_or_default();
    (output.status.code(), said, reason)
}

#[test]
fn a_boot_without_a_platform_says_so_on_the_console() {
    let (code, said, reason) = run("ignition.firstboot", &["ignition", "--stage=fetch-offline", "--platform="]);
    assert_eq!(code, Some(2), "{said}");
    for text in [said, reason] {
        assert!(text.contains("'--platform' must be provided") && text.contains("ignition.platform.id="), "{text}");
    }
}

#[test]
fn a_first_boot_that_was_turned_off_is_not_marked_as_done() {
    let (code, said, reason) = run("ignition.firstboot ignition.firstboot=0", &["firstboot-complete"]);
    assert_eq!((code, reason.as_str()), (Some(0), ""), "{said}");
    assert!(said.contains("nothing to finish"), "{said}");
}
