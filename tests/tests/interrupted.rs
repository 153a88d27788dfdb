// SPDX-License-Identifier: Apache-2.0
//! First boots that lose power in the files stage or after it, and begin again.

use std::fs;
use std::os::unix::fs::MetadataExt;

use fledge_tests::Machine;
use fledge_tests::http::Server;

const NOTE: &str = "etc/.fledge-begun.json";

/// A server that answers with the number of the request.
fn counting() -> Server {
    Server::http(|exchange| {
        let count = exchange.seen.earlier.to_string();
        exchange.reply(200, &[], count.as_bytes())
    })
}

#[test]
fn what_was_appended_is_not_appended_again() {
    let (machine, server) = (Machine::new(), counting());
    machine.put("etc/hosts", 0o640, "before\n");
    machine.put("etc/skel/.profile", 0o644, "from skel\n");
    let config = format!(
        r#"{{"ignition": {{"version": "3.4.0"}}, "passwd": {{"users": [{{"name": "nest"}}]}}, "storage": {{"files": [
  {{"path": "/etc/hosts", "append": [{{"source": "data:,one%0A"}}, {{"source": "{url}"}}]}},
  {{"path": "/home/nest/.profile", "append": [{{"source": "data:,mine%0A"}}]}},
  {{"path": "/etc/new", "append": [{{"source": "{url}"}}]}}]}}}}"#,
        url = server.url("/text")
    );
    for _ in 0..3 {
        machine.booted(&config);
        let seen = server.requests().len();
        // What was fetched last is what counts.
        let last = [seen - 1, seen - 2].map(|count| format!("before\none\n{count}"));
        assert!(last.contains(&machine.text("etc/hosts")), "{seen}: {}", machine.text("etc/hosts"));
        assert_eq!(machine.text("home/nest/.profile"), "from skel\nmine\n");
        assert!(machine.text("etc/new").parse::<usize>().unwrap() + 2 >= seen);
        assert_eq!(fs::metadata(machine.root().join("etc/hosts")).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::metadata(machine.root().join(NOTE)).unwrap().mode() & 0o7777, 0o600);
        machine.lose_power();
    }
    // Power was lost before the new file took the place of the old one.
    machine.put("etc/hosts", 0o640, "before\n");
    machine.booted(&config);
    assert!(machine.text("etc/hosts").starts_with("before\none\n"));
    machine.lose_power();
    // A first boot that was completed, and asked for again.
    fs::remove_file(machine.root().join(NOTE)).unwrap();
    fs::remove_file(machine.root().join("etc/new")).unwrap();
    machine.booted(&config);
    assert_eq!(machine.text("home/nest/.profile"), "from skel\nmine\nmine\n");
}

#[test]
fn a_file_that_somebody_changed_meanwhile_is_left_alone() {
    let machine = Machine::new();
    machine.put("etc/hosts", 0o644, "before\n");
    let config = r#"{"ignition": {"version": "3.4.0"}, "storage": {"files": [
  {"path": "/etc/hosts", "append": [{"source": "data:,one%0A"}]}]}}"#;
    machine.booted(config);
    machine.lose_power();
    machine.put("etc/hosts", 0o644, "other\n");
    let stopped = machine.boot(config).stopped.unwrap();
    for words in
        ["neither what it held before nor that with what was appended", "config.ign:2:3", "/etc/.fledge-begun.json"]
    {
        assert!(stopped.output.contains(words), "{words:?} is not in:\n{}", stopped.output);
    }
    assert_eq!(machine.text("etc/hosts"), "other\n");
}

#[test]
fn what_somebody_added_since_stays() {
    let (machine, server) = (Machine::new(), counting());
    machine.put("etc/hosts", 0o644, "before\n");
    machine.put("etc/skel/.profile", 0o644, "from skel\n");
    let config = format!(
        r#"{{"ignition": {{"version": "3.4.0"}}, "passwd": {{"users": [{{"name": "nest"}}]}}, "storage": {{"files": [
  {{"path": "/etc/hosts", "mode": 384, "append": [{{"source": "data:,one%0A"}}, {{"source": "{}"}}]}},
  {{"path": "/home/nest/.profile", "append": [{{"source": "data:,mine%0A"}}]}}]}}}}"#,
        server.url("/text")
    );
    machine.booted(&config);
    machine.put("etc/hosts", 0o644, "before\none\n0\nan admin's\n");
    machine.put("home/nest/.profile", 0o644, "from skel\nmine\nan admin's\n");
    for _ in 0..2 {
        machine.lose_power();
        machine.booted(&config);
        assert_eq!(machine.text("etc/hosts"), "before\none\n0\nan admin's\n");
        assert_eq!(machine.text("home/nest/.profile"), "from skel\nmine\nan admin's\n");
        assert_eq!(fs::metadata(machine.root().join("etc/hosts")).unwrap().mode() & 0o7777, 0o600);
    }
    // Instead of what was appended, not behind it: then whose it is can't be told.
    machine.lose_power();
    machine.put("etc/hosts", 0o644, "before\nan admin's\n");
    assert!(machine.boot(&config).stopped.is_some());
    assert_eq!(machine.text("etc/hosts"), "before\nan admin's\n");
}

#[test]
fn what_was_half_made_is_made_again_and_what_was_not_ours_still_stands_in_the_way() {
    let (machine, server) = (Machine::new(), counting());
    let config = format!(
        r#"{{"ignition": {{"version": "3.4.0"}}, "storage": {{
  "files": [{{"path": "/etc/fetched", "contents": {{"source": "{}"}}}}, {{"path": "/etc/told", "contents": {{"source": "data:,told"}}}}],
  "links": [{{"path": "/etc/hard", "target": "/etc/fetched", "hard": true}}]}}}}"#,
        server.url("/text")
    );
    machine.booted(&config);
    machine.lose_power();
    // As a journaling file system may leave them: the name is there, the bytes aren't.
    machine.put("etc/told", 0o644, "");
    machine.booted(&config);
    assert_eq!((machine.text("etc/told"), machine.text("etc/fetched")), ("told".into(), "1".into()));
    let inode = |path: &str| fs::metadata(machine.root().join(path)).unwrap().ino();
    assert_eq!(inode("etc/hard"), inode("etc/fetched"));
    machine.lose_power();

    // Another configuration knows nothing of it.
    let other = config.replace("told\"}", "else\"}");
    assert_ne!(other, config);
    let stopped = machine.boot(&other).stopped.unwrap();
    assert!(stopped.output.contains("a file stands at /etc/fetched and overwrite is not set"), "{}", stopped.output);
    assert_eq!(machine.text("etc/told"), "told");
}

#[test]
fn a_note_that_cannot_be_read_is_no_note() {
    let machine = Machine::new();
    machine.put(NOTE, 0o600, "{\"config\": 7");
    let boot = machine.booted(r#"{"ignition": {"version": "3.4.0"}, "storage": {"files": [{"path": "/etc/a"}]}}"#);
    assert!(boot.output.contains("/etc/.fledge-begun.json of the target is none of this build"), "{}", boot.output);
    assert!(machine.text(NOTE).contains("\"made\":[\"/etc/a\"]"), "{}", machine.text(NOTE));
}
