// SPDX-License-Identifier: Apache-2.0
//! TFTP: from dnsmasq, and from servers that misbehave.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fledge_core::diag::Failure;
use fledge_core::url::Url;
use fledge_stages::host::net::client::Pace;
use fledge_stages::host::net::{Client, NetFiles, Request, Session, Settings};
use fledge_tests::Machine;
use fledge_tests::namespace::alone_on_the_network;
use fledge_tests::tftp::{Manners, Server};

fn session() -> Session {
    let nowhere = PathBuf::from("/nonexistent");
    let files = NetFiles { resolv_conf: nowhere.clone(), hosts: nowhere, ..NetFiles::default() };
    let wait = Duration::from_millis(20);
    let (connect, stall) = (Duration::from_secs(3), Duration::from_secs(2));
    let pace = Pace { first_wait: wait, longest_wait: wait * 2, connect, stall, few: 2 };
    Arc::new(Client::new(Settings::default(), pace, files, None)).session()
}

fn get(url: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    session().ask(&Request::get(&Url::parse(url).unwrap(), &[]), &mut |answer| {
        bytes.clear();
        answer.body.read_to_end(&mut bytes).map_err(|error| Failure::new("reading", error.to_string()))?;
        Ok(())
    })?;
    Ok(bytes)
}

/// Bytes that differ from block to block.
fn contents(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from((index / 7 + index / 1000) % 251).unwrap()).collect()
}

fn fetched(length: usize, manners: Manners) -> Server {
    let expected = contents(length);
    let server = Server::start("/pxe/a b", expected.clone(), manners);
    let got = get(&server.url("/pxe/a%20b")).unwrap_or_else(|failure| panic!("{manners:?}: {failure}"));
    assert!(got == expected, "{manners:?}: {} of {length} bytes, or others", got.len());
    server
}

#[test]
fn files_of_all_sizes_come_whole() {
    for length in [0, 1, 511, 512, 513, 1427, 1428, 1429, 2856, 100_000] {
        let server = fetched(length, Manners::default());
        assert_eq!(server.heard()[0], "/pxe/a b octet blksize 1428 tsize 0");
        fetched(length, Manners { no_options: true, ..Manners::default() });
    }
}

#[test]
fn servers_that_know_no_options_are_asked_without() {
    for code in [0, 4, 8] {
        let server = fetched(2000, Manners { refuse_options: Some(code), ..Manners::default() });
        assert_eq!(server.heard()[1], "/pxe/a b octet", "{code}");
    }
}

#[test]
fn what_gets_lost_is_sent_again_and_what_comes_twice_counts_once() {
    fetched(6000, Manners { lose_every: Some(3), ..Manners::default() });
    fetched(6000, Manners { lose_every: Some(2), no_options: true, ..Manners::default() });
    let server = fetched(20_000, Manners { send_twice: true, ..Manners::default() });
    assert!(!server.heard().iter().any(|line| line.starts_with("nonsense")), "{:?}", server.heard());
}

#[test]
fn others_who_send_to_the_same_port_are_told_off() {
    fetched(6000, Manners { stranger: true, ..Manners::default() });
}

#[test]
fn numbers_of_blocks_start_over() {
    fetched(8 * 66_000 + 3, Manners { block: Some(8), ..Manners::default() });
}

#[test]
fn refusals_are_final_and_say_why() {
    let server = Server::start("/there", b"x".to_vec(), Manners::default());
    let failure = get(&server.url("/missing")).unwrap_err();
    assert_eq!(failure.why, "the server has no such file");
    assert!(failure.what.ends_with("/missing") && failure.remedy.is_some(), "{failure}");
    assert_eq!(server.heard().len(), 1, "{:?}", server.heard());
    let server = Server::start("/x", b"x".to_vec(), Manners { block: Some(9000), ..Manners::default() });
    let failure = get(&server.url("/x")).unwrap_err();
    assert!(failure.why.contains("blksize=9000"), "{failure}");
}

#[test]
fn a_server_that_dies_or_lies_about_the_size_leaves_no_half_a_file() {
    let start = Instant::now();
    let server = Server::start("/x", contents(5000), Manners { die_after: Some(2), ..Manners::default() });
    let failure = get(&server.url("/x")).unwrap_err();
    assert!(failure.why.starts_with("timed out: the server sent nothing for 2 s (2 attempts in "), "{failure}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let server = Server::start("/x", contents(5000), Manners { size: Some(6000), ..Manners::default() });
    assert!(get(&server.url("/x")).unwrap_err().why.starts_with("truncated"));
}

#[test]
fn where_nobody_listens_the_wait_ends() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let failure = get(&format!("tftp://{}/x", silent.local_addr().unwrap())).unwrap_err();
    assert!(failure.why.starts_with("timed out: no TFTP server answered within 3 s (2 attempts in "), "{failure}");
    assert!(failure.remedy.unwrap().contains("UDP"));
}

#[test]
fn whoever_gives_up_tells_the_server() {
    let server = Server::start("/x", contents(50_000), Manners::default());
    let url = Url::parse(&server.url("/x")).unwrap();
    let full = session().ask(&Request::get(&url, &[]), &mut |answer| {
        answer.body.read_exact(&mut [0; 2000]).unwrap();
        Err(Failure::new("writing", "the disk is full"))
    });
    assert_eq!(full.unwrap_err().why, "the disk is full");
    let deadline = Instant::now() + Duration::from_secs(5);
    while !server.heard().iter().any(|line| line == "error 0: not wanted any more") {
        assert!(Instant::now() < deadline, "{:?}", server.heard());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends the server with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_machine_is_provisioned_from_dnsmasq() {
    alone_on_the_network(
        "fetch_tftp::a_machine_is_provisioned_from_dnsmasq",
        &[("127.0.0.1", &["tftp.example"]), ("fd00::1", &["tftp6.example"])],
        || {
            let folder = tempfile::tempdir().unwrap();
            let large = contents(3 << 20);
            std::fs::write(folder.path().join("large"), &large).unwrap();
            let config = r#"{"ignition": {"version": "3.6.0"}, "storage": {"files": [
                {"path": "/etc/large", "contents": {"source": "tftp://tftp6.example/large"}},
                {"path": "/etc/same", "contents": {"source": "tftp://tftp.example:69/large"}}]}}"#;
            std::fs::write(folder.path().join("config.ign"), config).unwrap();
            // dnsmasq serves only what its user may read.
            std::os::unix::fs::chown(folder.path(), Some(0), Some(0)).unwrap();
            let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(folder.path(), mode(0o755)).unwrap();
            let server = Command::new("/usr/sbin/dnsmasq")
                .args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--user=root", "--enable-tftp"])
                .arg(format!("--tftp-root={}", folder.path().display()))
                .stderr(Stdio::null())
                .spawn()
                .expect("dnsmasq (of the package dnsmasq-base) runs");
            let _server = Running(server);
            let machine = Machine::new();
            machine.put("cmdline", 0o644, "ignition.config.url=tftp://tftp.example/config.ign");
            let boot = machine.boot("");
            assert!(boot.stopped.is_none(), "{}", boot.output);
            for path in ["etc/large", "etc/same"] {
                assert!(std::fs::read(machine.root().join(path)).unwrap() == large, "{path}");
            }
            assert!(machine.run_file("neednet").exists(), "a network was asked for");
        },
    );
}
