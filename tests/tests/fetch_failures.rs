// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between a server and a disk, seen from the whole program: it says what, and leaves nothing that looks whole.
//! And what fetching costs.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use fledge_tests::Machine;
use fledge_tests::http::{Identity, Kind, Server};
use fledge_tests::namespace::{alone, run};
use fledge_tests::proxy::{Rules, serve};

fn config(ignition: &str, path: &str, source: &str) -> String {
    format!(
        r#"{{"ignition": {{"version": "3.6.0"{ignition}}}, "storage": {{"files": [
  {{"path": "{path}", "contents": {{"source": "{source}"}}}}]}}}}"#
    )
}

/// Boots with a config whose files can't be fetched: the stage says these words, and writes nothing.
fn fails(machine: &Machine, config: &str, words: &[&str]) {
    let before = machine.tree();
    let boot = machine.boot(config);
    let stopped = boot.stopped.unwrap_or_else(|| panic!("it went through:\n{}", boot.output));
    assert_eq!((stopped.stage, stopped.code), ("files", 1), "{}", stopped.output);
    for word in [words, &["config.ign:2:3", "$.storage.files.0", "what to do: "]].concat() {
        assert!(stopped.output.contains(word), "{word:?} is not in:\n{}", stopped.output);
    }
    assert_eq!(machine.tree(), before, "the target root is not what it was");
}

#[test]
fn a_certificate_that_is_not_trusted_names_the_bundle() {
    let names = ["127.0.0.1"];
    let (own, other) = (Identity::new(Kind::Good, &names).unwrap(), Identity::new(Kind::Good, &names).unwrap());
    let server = Server::https(&own, |exchange| exchange.reply(200, &[], b"hello"));
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.crt");
    std::fs::write(&bundle, other.authority()).unwrap();
    let bundle = bundle.to_str().unwrap();
    let machine = Machine::new().environment("SSL_CERT_FILE", bundle);
    let timeouts = r#", "timeouts": {"httpTotal": 2}"#;
    let known = format!("it trusts 1 in {bundle} and 0 of the configuration");
    let words = ["certificate unknown", &known, "certificateAuthorities"];
    fails(&machine, &config(timeouts, "/etc/motd", &server.url("/")), &words);
    std::fs::write(bundle, own.authority()).unwrap();
    assert!(machine.boot(&config(timeouts, "/etc/motd", &server.url("/"))).stopped.is_none());
}

#[test]
fn a_server_that_dies_in_the_middle_of_a_file_leaves_none() {
    let server = Server::http(|exchange| {
        exchange.close();
        exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
        exchange.raw(&vec![b'x'; 50_000])
    });
    fails(
        &Machine::new(),
        &config("", "/etc/motd", &server.url("/half")),
        &["truncated", &server.url("/half"), "5 attempts"],
    );
    assert_eq!(server.seen().len(), 5);
}

#[test]
fn a_proxy_that_refuses_is_named_with_its_answer() {
    let proxy = Server::http(|exchange| serve(Rules { refuse: Some(403), ..Rules::default() }, exchange));
    let ignition =
        format!(r#", "proxy": {{"httpsProxy": "{}"}}"#, proxy.url("").replace("http://", "http://me:secret@"));
    let identity = Identity::new(Kind::Good, &["a"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.crt");
    std::fs::write(&bundle, identity.authority()).unwrap();
    let machine = Machine::new().environment("SSL_CERT_FILE", bundle.to_str().unwrap());
    let refused = format!("the proxy {} refused: it answered 403 Forbidden to CONNECT", proxy.url(""));
    fails(&machine, &config(&ignition, "/etc/motd", "https://server.example/"), &[&refused, "ignition.proxy.noProxy"]);
}

#[test]
fn a_disk_that_is_too_small_is_told_and_stays_empty() {
    alone("fetch_failures::a_disk_that_is_too_small_is_told_and_stays_empty", || {
        let server = Server::http(|exchange| exchange.reply(200, &[], &vec![b'x'; 4 << 20]));
        let machine = Machine::new();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1M", "tmpfs"]).arg(machine.root().join("var")));
        let words = ["can't be written: No space left on device", &server.url("/large"), "has space"];
        fails(&machine, &config("", "/var/large", &server.url("/large")), &words);
        assert_eq!(server.seen().len(), 1, "asking again would not make it larger");
    });
}

/// The size of a file that is far above the bound.
const SIZE: usize = 64 << 20;
/// The bound of the whole program, in KiB.
const BOUND: u64 = 16 << 10;

#[test]
fn the_program_stays_small_while_it_writes_a_large_file_over_https() {
    let identity = Identity::new(Kind::Good, &["127.0.0.1"]).unwrap();
    let server = Server::https(&identity, |exchange| {
        exchange.raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes())?;
        let piece = vec![b'x'; 1 << 20];
        (0..SIZE >> 20).try_for_each(|_| exchange.raw(&piece))
    });
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.crt");
    std::fs::write(&bundle, identity.authority()).unwrap();
    let machine = Machine::new().environment("SSL_CERT_FILE", bundle.to_str().unwrap());
    let boot = machine.boot(&config("", "/var/large", &server.url("/large")));
    assert!(boot.stopped.is_none(), "{}", boot.output);
    assert_eq!(std::fs::metadata(machine.root().join("var/large")).unwrap().size(), SIZE as u64);
    let report = machine.report();
    let stages: Vec<_> = report["stages"].as_array().unwrap().iter().collect();
    let peaks: Vec<_> =
        stages.iter().map(|stage| (&stage["stage"], stage["memory"]["own_kib"].as_u64().unwrap())).collect();
    eprintln!("peaks of resident memory in KiB, for a file of {} MiB: {peaks:?}", SIZE >> 20);
    assert!(peaks.len() > 4 && peaks.iter().all(|(_, peak)| (500..BOUND).contains(peak)), "{peaks:?}");
}
