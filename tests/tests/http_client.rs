// SPDX-License-Identifier: Apache-2.0
//! The HTTP client against servers that misbehave.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fledge_core::diag::Failure;
use fledge_core::url::Url;
use fledge_stages::host::net::client::Pace;
use fledge_stages::host::net::{Client, NetFiles, Request, Session, Settings, roots};
use fledge_tests::http::{Exchange, Identity, Kind, Server};
use fledge_tests::namespace::{alone_on_the_network, run};

/// Far less than any server here keeps silent, far more than a busy machine takes.
const SOON: Duration = Duration::from_secs(10);

/// Patience for a test: everything ten to fifty times as fast.
fn pace() -> Pace {
    Pace {
        first_wait: Duration::from_millis(20),
        longest_wait: Duration::from_millis(100),
        connect: Duration::from_secs(5),
        stall: Duration::from_millis(500),
        few: 3,
    }
}

/// No file of the host that the tests run on.
fn no_files() -> NetFiles {
    let nowhere = PathBuf::from("/nonexistent");
    NetFiles { resolv_conf: nowhere.clone(), hosts: nowhere.clone(), bundles: vec![nowhere], ..NetFiles::default() }
}

fn session(settings: Settings) -> Session {
    Arc::new(Client::new(settings, pace(), no_files(), None)).session()
}

fn get(session: &Session, url: &str) -> Result<String, Failure> {
    get_with(session, url, &[])
}

fn get_with(session: &Session, url: &str, headers: &[(String, String)]) -> Result<String, Failure> {
    let mut text = String::new();
    session.ask(&Request::get(&Url::parse(url).unwrap(), headers), &mut |answer| {
        text.clear();
        answer.body.read_to_string(&mut text).map_err(|error| Failure::new("reading", error.to_string()))?;
        Ok(())
    })?;
    Ok(text)
}

fn why(result: Result<String, Failure>) -> String {
    let failure = result.unwrap_err();
    assert!(failure.remedy.is_some(), "{failure}");
    failure.why
}

fn total(milliseconds: u64) -> Settings {
    Settings { total: Some(Duration::from_millis(milliseconds)), ..Settings::default() }
}

#[test]
fn a_request_carries_what_servers_of_ignition_know() {
    let server = Server::http(|exchange| exchange.reply(200, &[], b"hello"));
    let session = session(Settings::default());
    assert_eq!(get(&session, &server.url("/a b?c=d#e")).unwrap(), "hello");
    let authority = server.address().to_string();
    let url = format!("http://me:secret@{authority}/");
    let own = [("X-Token", "1"), ("x-token", "2"), ("Accept", "text/plain"), ("Host", "elsewhere")];
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(get_with(&session, &url, &own).unwrap(), "hello");
    let [first, second] = &server.seen()[..] else { panic!("{:?}", server.seen()) };
    assert_eq!((first.method.as_str(), first.path.as_str()), ("GET", "/a%20b?c=d"));
    assert_eq!(first.headers["host"], authority);
    assert_eq!(first.headers["accept-encoding"], "identity");
    assert_eq!(first.headers["accept"], "application/vnd.coreos.ignition+json;version=3.6.0, */*;q=0.1");
    assert!(first.headers["user-agent"].starts_with("Ignition/2."), "{first:?}");
    assert_eq!(first.headers.len(), 4, "{first:?}");
    assert_eq!(second.headers["x-token"], "2", "the last of one name counts");
    assert_eq!(second.headers["accept"], "text/plain");
    assert_eq!(second.headers["host"], authority);
    assert_eq!(second.headers["authorization"], "Basic bWU6c2VjcmV0");
}

#[test]
fn a_missing_file_is_final_and_secrets_are_not_told() {
    let server = Server::http(|exchange| exchange.reply(404, &[], b"no"));
    let url = server.url("/x?token=hidden").replace("http://", "http://me:secret@");
    let failure = get(&session(Settings::default()), &url).unwrap_err();
    assert_eq!(failure.why, "the server answered 404 Not Found");
    assert_eq!(server.seen().len(), 1);
    let text = failure.to_string();
    assert!(text.contains(&server.url("/x")) && !text.contains("hidden") && !text.contains("secret"), "{text}");
}

#[test]
fn a_server_that_is_not_ready_yet_is_asked_again() {
    for status in [500, 503, 429] {
        let server = Server::http(move |exchange| match exchange.seen.earlier {
            0..3 => exchange.reply(status, &[], b"later"),
            _ => exchange.reply(200, &[], b"hello"),
        });
        assert_eq!(get(&session(Settings::default()), &server.url("/")).unwrap(), "hello");
        assert_eq!(server.seen().len(), 4, "{status}");
    }
}

#[test]
fn a_server_that_is_not_there_yet_is_asked_again() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let start = Instant::now();
    let text = why(get(&session(total(600)), &format!("http://{port}/")));
    assert!(text.starts_with("connection refused; "), "{text}");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert!(start.elapsed() > Duration::from_millis(400), "{:?}", start.elapsed());
}

/// Answers questions on port 53: no name of the domain `down.example` can be told, and no IPv6 address. Everything else is here.
fn name_server() {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut message = buffer[..length].to_vec();
            let refused =
                message.ends_with(b"\0\x1c\0\x01") || message.windows(6).any(|label| label == b"\x04down\x07");
            message[2..4].copy_from_slice(&if refused { [0x81, 0x82] } else { [0x81, 0x80] });
            if !refused {
                message[7] = 1;
                message.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01");
            }
            socket.send_to(&message, from).unwrap();
        }
    });
}

#[test]
fn what_a_name_server_cannot_tell_does_not_hide_what_it_can() {
    let name = "http_client::what_a_name_server_cannot_tell_does_not_hide_what_it_can";
    alone_on_the_network(name, &[], || {
        name_server();
        let folder = tempfile::tempdir().unwrap();
        let resolv_conf = folder.path().join("resolv.conf");
        std::fs::write(&resolv_conf, "nameserver 127.0.0.1\nsearch down.example up.example\n").unwrap();
        let files = NetFiles { resolv_conf, ..no_files() };
        let client = Client::new(total(5000), pace(), files, None);
        let session = Arc::new(client).session();
        let server = Server::http(|exchange| exchange.reply(200, &[], b"hello"));
        for host in ["config", "config.example", "config.down.example"] {
            let url = format!("http://{host}:{}/", server.address().port());
            let result = get(&session, &url);
            if host.ends_with("down.example") {
                assert!(why(result).contains("no name server answered: 127.0.0.1 said: server failure"), "{host}");
            } else {
                assert_eq!(result.unwrap(), "hello", "{host}");
            }
        }
    });
}

#[test]
fn link_local_addresses_are_reached_by_their_zone() {
    alone_on_the_network("http_client::link_local_addresses_are_reached_by_their_zone", &[], || {
        run(Command::new("ip").args(["address", "add", "fe80::1/64", "dev", "lo", "nodad"]));
        let server = Server::http_at("[fe80::1%1]:0", |exchange| exchange.reply(200, &[], b"hello"));
        let port = server.address().port();
        let session = session(total(3000));
        assert_eq!(get(&session, &format!("http://[fe80::1%25lo]:{port}/")).unwrap(), "hello");
        assert_eq!(get(&session, &format!("http://[fe80::1%251]:{port}/")).unwrap(), "hello");
        let hosts: Vec<_> = server.seen().iter().map(|seen| seen.headers["host"].clone()).collect();
        assert_eq!(hosts, [format!("[fe80::1]:{port}"), format!("[fe80::1]:{port}")]);
        let text = why(get(&session, &format!("http://[fe80::1%25eth7]:{port}/")));
        assert!(text.contains("there is no network interface \"eth7\""), "{text}");
    });
}

#[test]
fn names_outside_ascii_are_refused_at_once() {
    let text = why(get(&session(Settings::default()), "http://b\u{fc}cher.example/"));
    assert_eq!(text, "the host name \"b\u{fc}cher.example\" has to be written in ASCII, as xn--...");
}

#[test]
fn a_bundle_without_certificates_is_named() {
    let bundle = tempfile::NamedTempFile::new().unwrap();
    let files = NetFiles { bundles: vec![bundle.path().to_owned()], ..no_files() };
    let text = why(get(&Arc::new(Client::new(total(3000), pace(), files, None)).session(), "https://127.0.0.1:1/"));
    let expected = format!("{} holds no certificate that can be used", bundle.path().display());
    assert!(text.contains(&expected), "{text}");
    let text = why(get(&session(total(3000)), "https://127.0.0.1:1/"));
    assert!(text.contains("none of /nonexistent is there"), "{text}");
}

#[test]
fn redirects_are_followed_without_the_headers_of_the_configuration() {
    let server = Server::http(|exchange| match exchange.seen.path.as_str() {
        "/a/start" => exchange.reply(302, &[("Location", "../b?x")], b"over there"),
        "/b?x" => exchange.reply(
            308,
            &[("Location", "//{HOST}/c".replace("{HOST}", &exchange.seen.headers["host"]).as_str())],
            b"",
        ),
        _ => exchange.reply(200, &[], b"hello"),
    });
    let headers =
        [("Authorization".to_owned(), "Bearer hidden".to_owned()), ("User-Agent".to_owned(), "me".to_owned())];
    assert_eq!(get_with(&session(Settings::default()), &server.url("/a/start"), &headers).unwrap(), "hello");
    let seen = server.seen();
    assert_eq!(seen.iter().map(|seen| seen.path.as_str()).collect::<Vec<_>>(), ["/a/start", "/b?x", "/c"]);
    assert_eq!(seen[0].headers["authorization"], "Bearer hidden");
    for seen in &seen[1..] {
        assert!(!seen.headers.contains_key("authorization"), "{seen:?}");
        assert!(seen.headers["user-agent"].starts_with("Ignition/"), "{seen:?}");
        assert_eq!(seen.headers["accept-encoding"], "identity", "{seen:?}");
    }
}

#[test]
fn redirects_that_lead_nowhere_end() {
    let server = Server::http(|exchange| match exchange.seen.path.as_str() {
        "/loop" => exchange.reply(301, &[("Location", "/loop")], b""),
        "/file" => exchange.reply(301, &[("Location", "file:///etc/shadow")], b""),
        _ => exchange.reply(301, &[], b"without a location"),
    });
    let session = session(Settings::default());
    assert_eq!(why(get(&session, &server.url("/loop"))), "more than 10 redirects");
    assert_eq!(server.seen().len(), 11);
    let text = why(get(&session, &server.url("/file")));
    assert!(text.starts_with("a redirect can't be followed: "), "{text}");
    assert_eq!(why(get(&session, &server.url("/"))), "the server answered 301 Moved Permanently");
}

#[test]
fn headers_that_are_slow_are_asked_for_again() {
    let settings = Settings { headers: Some(Duration::from_millis(300)), ..Settings::default() };
    let server = Server::http(|exchange| {
        if exchange.seen.earlier < 2 {
            std::thread::sleep(Duration::from_millis(700));
        }
        exchange.reply(200, &[], b"hello")
    });
    assert_eq!(get(&session(settings), &server.url("/")).unwrap(), "hello");
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn a_server_that_never_answers_costs_no_more_than_allowed() {
    let server = Server::http(|_| {
        std::thread::sleep(Duration::from_secs(30));
        Ok(())
    });
    let start = Instant::now();
    let text = why(get(&session(total(1000)), &server.url("/")));
    assert!(text.starts_with("timed out: the server sent no response headers within 1 s"), "{text}");
    assert!((1000..10_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let start = Instant::now();
    let settings = Settings { headers: Some(Duration::from_millis(200)), ..total(1000) };
    let text = why(get(&session(settings), &server.url("/")));
    assert!(text.starts_with("timed out: the server sent no response headers within 0.2 s; "), "{text}");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

fn half_a_body(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
}

#[test]
fn the_longest_time_that_a_configuration_can_allow_is_no_harm() {
    let server = Server::http(|exchange| exchange.reply(200, &[], b"late"));
    let longest = Some(Duration::from_secs(u64::MAX >> 1));
    for settings in [
        Settings { total: longest, ..Settings::default() },
        Settings { headers: longest, ..Settings::default() },
        Settings { total: Some(Duration::MAX), headers: Some(Duration::MAX), ..Settings::default() },
    ] {
        assert_eq!(get(&session(settings), &server.url("/x")).unwrap(), "late");
    }
}

#[test]
fn a_body_that_stalls_is_asked_for_again_a_few_times() {
    let server = Server::http(|exchange| {
        if exchange.seen.path == "/good" && exchange.seen.earlier > 0 {
            return exchange.reply(200, &[], b"hello");
        }
        half_a_body(exchange)?;
        std::thread::sleep(Duration::from_secs(30));
        Ok(())
    });
    let settings = Settings { headers: Some(Duration::from_millis(300)), ..Settings::default() };
    let session = session(settings);
    assert_eq!(get(&session, &server.url("/good")).unwrap(), "hello");
    let text = why(get(&session, &server.url("/bad")));
    assert!(text.starts_with("timed out: the server sent nothing for 0.5 s ("), "{text}");
}

#[test]
fn a_body_that_is_cut_short_is_asked_for_again_a_few_times() {
    for chunked in [false, true] {
        let server = Server::http(move |exchange| {
            if exchange.seen.path == "/good" && exchange.seen.earlier > 0 {
                return exchange.reply(200, &[], b"hello");
            }
            exchange.close();
            if chunked {
                exchange.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            } else {
                half_a_body(exchange)
            }
        });
        let session = session(Settings::default());
        assert_eq!(get(&session, &server.url("/good")).unwrap(), "hello");
        let text = why(get(&session, &server.url("/bad")));
        assert!(text.starts_with("truncated: "), "{chunked}: {text}");
        assert_eq!(server.seen().len(), 5);
    }
}

#[test]
fn a_slow_body_ends_with_the_time_allowed() {
    let server = Server::http(|exchange| {
        exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")?;
        loop {
            exchange.raw(b"x")?;
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let start = Instant::now();
    let text = why(get(&session(total(1000)), &server.url("/")));
    assert!(text.starts_with("timed out: the response was still coming"), "{text}");
    assert!(start.elapsed() < SOON);
}

#[test]
fn what_is_no_http_is_said_to_be_none() {
    let server = Server::http(|exchange| {
        exchange.close();
        exchange.raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    });
    let text = why(get(&session(Settings::default()), &server.url("/")));
    assert!(text.starts_with("the server's response is not understood"), "{text}");
    let text = why(get(&session(Settings::default()), "ftp://127.0.0.1/"));
    assert!(text.contains("ftp"), "{text}");
}

fn trusting(identity: &Identity) -> Settings {
    Settings { authorities: roots::parse_bundle(identity.authority().as_bytes()).unwrap(), ..Settings::default() }
}

#[test]
fn certificates_are_checked() {
    let own_address = ["127.0.0.1"];
    let hello = |exchange: &mut Exchange<'_>| exchange.reply(200, &[], b"hello");
    for (kind, names, expected) in [
        (Kind::Good, own_address, "hello"),
        (Kind::SelfSigned, own_address, "hello"),
        (Kind::Expired, own_address, "certificate expired, by this machine's clock (3 attempts in "),
        (Kind::Good, ["other.example"], "the certificate is for another host name (other.example) (3 "),
        (Kind::SelfSigned, ["other.example"], "the certificate is for another host name (other.example) (3 "),
    ] {
        let identity = Identity::new(kind, &names).unwrap();
        let server = Server::https(&identity, hello);
        let result = get(&session(trusting(&identity)), &server.url("/"));
        let text = result.unwrap_or_else(|failure| failure.why);
        assert!(text.starts_with(expected), "{kind:?}: {text}");
    }
    let (good, other) =
        (Identity::new(Kind::Good, &own_address).unwrap(), Identity::new(Kind::Good, &own_address).unwrap());
    let text = why(get(&session(trusting(&other)), &Server::https(&good, hello).url("/")));
    assert!(text.starts_with("certificate unknown: "), "{text}");
    let self_signed = Identity::new(Kind::SelfSigned, &own_address).unwrap();
    let text = why(get(&session(trusting(&other)), &Server::https(&self_signed, hello).url("/")));
    assert!(text.starts_with("certificate unknown: ") || text.contains("not accepted"), "{text}");
}

#[test]
fn a_clock_that_is_behind_may_yet_be_set() {
    let identity = Identity::new(Kind::NotYetValid, &["127.0.0.1"]).unwrap();
    let server = Server::https(&identity, |exchange| exchange.reply(200, &[], b"hello"));
    let settings = Settings { total: Some(Duration::from_millis(700)), ..trusting(&identity) };
    let failure = get(&session(settings), &server.url("/")).unwrap_err();
    assert!(failure.why.starts_with("certificate not yet valid, by this machine's clock; "), "{failure}");
    assert!(failure.remedy.as_ref().unwrap().contains("clock"), "{failure}");
}

#[test]
fn https_without_any_authority_says_so_and_http_needs_none() {
    let identity = Identity::new(Kind::Good, &["127.0.0.1"]).unwrap();
    let server = Server::https(&identity, |exchange| exchange.reply(200, &[], b"hello"));
    let text = why(get(&session(Settings::default()), &server.url("/")));
    assert!(text.starts_with("no certificate authority is known: "), "{text}");
    assert!(roots::parse_bundle(b"nothing").is_err());
    let plain = Server::http(|exchange| exchange.reply(200, &[], b"plain"));
    assert_eq!(get(&session(Settings::default()), &plain.url("/")).unwrap(), "plain");
}

#[test]
fn connections_are_used_again() {
    let identity = Identity::new(Kind::Good, &["127.0.0.1"]).unwrap();
    let server = Server::https(&identity, |exchange| exchange.reply(200, &[], b"hello"));
    let session = session(trusting(&identity));
    for _ in 0..5 {
        assert_eq!(get(&session, &server.url("/")).unwrap(), "hello");
    }
    assert_eq!(server.seen().len(), 5);
    assert_eq!(server.connections(), 1);
}

#[test]
fn names_are_looked_up_as_the_files_say_at_the_time() {
    let directory = tempfile::tempdir().unwrap();
    let hosts = directory.path().join("hosts");
    let server = Server::http(|exchange| exchange.reply(200, &[], b"hello"));
    let files = NetFiles { hosts: hosts.clone(), ..no_files() };
    let client = Arc::new(Client::new(total(20_000), pace(), files, None));
    let url = format!("http://config.example:{}/", server.address().port());
    let thread = std::thread::spawn(move || get(&client.session(), &url));
    std::thread::sleep(Duration::from_millis(300));
    assert!(!thread.is_finished());
    std::fs::write(&hosts, "127.0.0.1 config.example\n").unwrap();
    assert_eq!(thread.join().unwrap().unwrap(), "hello");
    let text = why(get(&session(total(300)), "http://config.example/"));
    assert!(text.starts_with("name not found: no name server is known yet (/nonexistent names none); "), "{text}");
}

#[test]
fn the_operator_has_the_last_word() {
    let server = Server::http(|exchange| exchange.reply(503, &[], b""));
    let start = Instant::now();
    let end = Some(start + Duration::from_millis(500));
    let client = Arc::new(Client::new(total(60_000), pace(), no_files(), end));
    let text = why(get(&client.session(), &server.url("/")));
    assert!(text.starts_with("the server answered 503 Service Unavailable; "), "{text}");
    assert!(start.elapsed() < SOON);
}

#[test]
fn the_last_attempt_is_made_while_there_is_time_for_it() {
    let server =
        Server::http(|exchange| exchange.reply(if exchange.seen.earlier == 0 { 503 } else { 200 }, &[], b"hello"));
    let patient = Pace { first_wait: Duration::from_secs(60), longest_wait: Duration::from_secs(60), ..pace() };
    let client = Arc::new(Client::new(total(4000), patient, no_files(), None));
    let start = Instant::now();
    assert_eq!(get(&client.session(), &server.url("/")).unwrap(), "hello");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn what_waits_can_be_cancelled() {
    let server = Server::http(|exchange| match exchange.seen.path.as_str() {
        "/never" => {
            std::thread::sleep(Duration::from_secs(30));
            Ok(())
        }
        _ => exchange.reply(503, &[], b""),
    });
    for path in ["/never", "/busy"] {
        let session = session(Settings::default());
        let start = Instant::now();
        let text = std::thread::scope(|scope| {
            let thread = scope.spawn(|| get(&session, &server.url(path)));
            std::thread::sleep(Duration::from_millis(200));
            session.cancel().set();
            why(thread.join().unwrap())
        });
        assert!(start.elapsed() < SOON, "{path}: {:?}", start.elapsed());
        assert!(!text.is_empty());
    }
}
