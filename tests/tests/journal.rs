// SPDX-License-Identifier: Apache-2.0
//! The entries that distributions look for in the journal, as journald's socket gets them from the real program.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fledge_tests::Machine;
use fledge_tests::http::{Answer, Server};
use fledge_tests::namespace::{alone, run};

const SOCKET: &str = "/run/systemd/journal/socket";

/// A journal that keeps what it gets; in a mount namespace of one's own only.
fn listen() -> UnixDatagram {
    run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]));
    fs::create_dir_all(Path::new(SOCKET).parent().unwrap()).unwrap();
    let socket = UnixDatagram::bind(SOCKET).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

/// The entries so far, without their priority.
fn entries(socket: &UnixDatagram) -> Vec<Vec<String>> {
    let mut buffer = [0; 4096];
    let mut entries = Vec::new();
    while let Ok(length) = socket.recv(&mut buffer) {
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        assert!(text.contains("\nPRIORITY=6\n"), "{text}");
        entries.push(text.lines().filter(|line| !line.starts_with("PRIORITY=")).map(Into::into).collect());
    }
    entries
}

fn fetched(kind: &str, source: &str, referenced: bool) -> Vec<String> {
    let by = if referenced { "referenced " } else { "" };
    vec![
        format!("MESSAGE=fetched {by}{kind} config from \"{source}\""),
        "MESSAGE_ID=57124006b5c94805b77ce473e92a8aeb".into(),
        format!("IGNITION_CONFIG_TYPE={kind}"),
        format!("IGNITION_CONFIG_SRC={source}"),
        format!("IGNITION_CONFIG_REFERENCED={referenced}"),
    ]
}

#[test]
fn what_was_fetched_and_whose_keys_were_written_is_told() {
    alone("journal::what_was_fetched_and_whose_keys_were_written_is_told", || {
        let socket = listen();
        let part = r#"{"ignition": {"version": "3.6.0"}, "passwd": {"users": [{"name": "nest", "sshAuthorizedKeys": ["ssh-ed25519 A"]}]}}"#;
        let server = Server::start([("/a%20part.ign?secret", Answer::body(part))]);
        let machine = Machine::new();
        machine.put("var/home/.keep", 0o644, "");
        fs::remove_dir(machine.root().join("home")).unwrap();
        std::os::unix::fs::symlink("var/home", machine.root().join("home")).unwrap();
        let config = format!(
            r#"{{"ignition": {{"version": "3.6.0", "config": {{"merge": [{{"source": "{}"}},
                {{"source": "data:,%7B%22ignition%22:%7B%22version%22:%223.0.0%22%7D%7D"}}]}}}}}}"#,
            server.url("/a%20part.ign?secret")
        );
        // Nothing is told of what can't be fetched yet.
        assert!(machine.stage("fetch-offline", &mut String::new()).is_some());
        assert_eq!(entries(&socket), Vec::<Vec<String>>::new());
        let boot = machine.boot(&config);
        assert!(boot.stopped.is_none(), "{}", boot.output);
        let keys = machine.root().canonicalize().unwrap().join("var/home/nest/.ssh/authorized_keys.d/ignition");
        let told = [
            fetched("base", "system", false),
            fetched("user", "file", false),
            fetched("user", "/a part.ign", true),
            fetched("user", "", true),
            vec![
                "MESSAGE=wrote ssh authorized keys file for user: nest".into(),
                "MESSAGE_ID=225067b87bbd4a0cb6ab151f82fa364b".into(),
                "IGNITION_USER_NAME=nest".into(),
                format!("IGNITION_PATH={}", keys.display()),
            ],
        ];
        assert_eq!(entries(&socket), told);
        // Once more with keys that are there already.
        machine.lose_power();
        let boot = machine.boot(&config);
        assert!(boot.stopped.is_none(), "{}", boot.output);
        assert_eq!(entries(&socket), told);
    });
}

#[test]
fn a_machine_without_a_config_has_the_distributions_alone() {
    alone("journal::a_machine_without_a_config_has_the_distributions_alone", || {
        let socket = listen();
        let machine = Machine::new();
        let boot = machine.boot("");
        assert!(boot.stopped.is_none(), "{}", boot.output);
        assert_eq!(entries(&socket), [fetched("base", "system", false)]);
    });
}
