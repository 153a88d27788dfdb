// SPDX-License-Identifier: Apache-2.0
//! The stages `fetch-offline` and `fetch`, from real servers to the cache.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use fledge_core::cmdline::Cmdline;
use fledge_core::config::Resource;
use fledge_core::diag::Failure;
use fledge_core::origin::SourceKind;
use fledge_core::report::StageOutcome;
use fledge_core::verification::{Function, Hasher};
use fledge_stages::fetch::Conditions;
use fledge_stages::host::net::NetFiles;
use fledge_stages::host::net::client::Pace;
use fledge_stages::provider::Surroundings;
use fledge_stages::run::{Journal, StageArgs};
use fledge_stages::stage::fetch::{fetcher_in, run_in};
use fledge_stages::state;
use fledge_tests::http::{Identity, Kind, Server};
use fledge_tests::namespace::{Disk, alone, run};
use tempfile::TempDir;

/// What the two stages work on, all of it in a temporary folder.
struct Bench {
    folder: TempDir,
    args: StageArgs,
    surroundings: Surroundings,
}

impl Bench {
    /// A machine of the platform `file` with that config.
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let args = StageArgs {
            root: path("root"),
            platform: "file".into(),
            config_cache: path("run/ignition.json"),
            neednet: path("run/ignition/neednet"),
            state_file: path("run/ignition/state"),
            fetch_timeout: Duration::from_secs(30),
            cmdline: Cmdline::default(),
        };
        let surroundings = Surroundings {
            config_dirs: ["runtime", "local", "system"].map(path),
            by_label: path("by-label"),
            patience: Duration::from_millis(300),
            config_file: path("config.ign"),
            fw_cfg: path("fw_cfg"),
            load_module: |name| Err(Failure::new(name, "there are no modules here")),
        };
        let bench = Self { folder, args, surroundings };
        bench.put("config.ign", config);
        bench
    }

    fn with_cmdline(mut self, cmdline: &str) -> Self {
        self.args.cmdline = Cmdline::parse(cmdline);
        self
    }

    fn put(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn conditions(offline: bool) -> Conditions {
        let nowhere = PathBuf::from("/nonexistent");
        let first_wait = Duration::from_millis(20);
        Conditions {
            offline,
            end: None,
            pace: Pace { first_wait, longest_wait: first_wait * 2, few: 3, ..Pace::default() },
            files: NetFiles { resolv_conf: nowhere.clone(), bundles: vec![nowhere], ..NetFiles::default() },
            ..Conditions::default()
        }
    }

    fn run(&self, offline: bool) -> Result<StageOutcome, Vec<Failure>> {
        let conditions = Self::conditions(offline);
        run_in(conditions, &self.args, &self.surroundings, &mut Journal::default())
    }

    /// Runs `fetch`, which must succeed; returns the cache.
    fn fetched(&self) -> String {
        let outcome = self.run(false).unwrap_or_else(|failures| panic!("{failures:#?}"));
        assert_eq!(outcome, StageOutcome::Done);
        fs::read_to_string(&self.args.config_cache).unwrap()
    }

    /// Runs `fetch`, which must fail and leave no cache; returns what it says.
    fn refused(&self) -> String {
        let failures = self.run(false).unwrap_err();
        assert!(!self.args.config_cache.exists() && !self.args.state_file.exists());
        failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    fn asked_for_network(&self) -> bool {
        self.args.neednet.exists()
    }
}

/// A config of the newest version with one file of that path, and more of `ignition`.
fn config(path: &str, ignition: &str) -> String {
    format!(r#"{{"ignition": {{"version": "3.6.0"{ignition}}}, "storage": {{"files": [{{"path": "{path}"}}]}}}}"#)
}

fn merging(sources: &[String]) -> String {
    let list: Vec<_> = sources.iter().map(|source| format!(r#"{{"source": "{source}"}}"#)).collect();
    format!(r#", "config": {{"merge": [{}]}}"#, list.join(","))
}

/// Without it, a server that isn't found is looked for as long as it takes.
const SOON: &str = r#""timeouts": {"httpTotal": 4}"#;

fn data(text: &str) -> String {
    format!("data:;base64,{}", BASE64.encode(text.as_bytes()))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn sha512(text: &str) -> String {
    let mut hasher = Hasher::new(Function::Sha512);
    hasher.update(text.as_bytes());
    hasher.finish().to_string()
}

#[test]
fn what_is_at_hand_takes_no_network() {
    let bench = Bench::new(&config("/a", &merging(&[data(&config("/b", ""))])));
    assert_eq!(bench.run(true).unwrap(), StageOutcome::Done);
    assert!(!bench.asked_for_network());
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&bench.args.config_cache), mode(&bench.args.state_file)), (0o640, 0o600));
    let state::Loaded { config, sources, state, .. } = state::load_from(&bench.args, &bench.surroundings).unwrap();
    let paths: Vec<_> = config.storage.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["/a", "/b"]);
    assert!(!state.sources.0.is_empty());
    let place = |index: usize| sources.place(config.storage.files[index].origin, "$.storage.files").unwrap();
    let name = bench.surroundings.config_file.display();
    assert!(place(0).to_string().starts_with(&format!("{name}:1:")), "{}", place(0));
    assert!(place(1).source.starts_with("the data URL of ") && place(1).path == "$.storage.files.0", "{}", place(1));
}

#[test]
fn the_cache_has_the_form_that_scripts_expect() {
    let bench =
        Bench::new(r#"{"ignition": {"version": "3.0.0"}, "storage": {"files": [{"path": "/a", "mode": 420}]}}"#);
    bench.put("system/base.d/10-x.ign", config("/base", ""));
    // What Go's encoder makes of upstream's types: structures are always there, absent values never.
    let expected = concat!(
        r#"{"ignition":{"config":{"replace":{"verification":{}}},"proxy":{},"security":{"tls":{}},"timeouts":{},"#,
        r#""version":"3.7.0-experimental"},"kernelArguments":{},"passwd":{},"storage":{"files":[{"group":{},"path":"/a","user":{},"#,
        r#""contents":{"verification":{}},"mode":420}]},"systemd":{}}"#
    );
    assert_eq!(bench.fetched(), expected);
}

#[test]
fn files_from_the_network_take_one_but_the_config_is_cached() {
    let text = r#"{"ignition": {"version": "3.6.0"}, "storage": {"files": [
        {"path": "/a", "contents": {"source": "http://127.0.0.1:1/a"}}]}}"#;
    let bench = Bench::new(text);
    assert_eq!(bench.run(true).unwrap(), StageOutcome::Done);
    assert!(bench.asked_for_network() && bench.args.config_cache.exists());
}

#[test]
fn a_base_config_may_take_a_network_too() {
    let bench = Bench::new("");
    let text = r#"{"ignition": {"version": "3.6.0"}, "storage": {"files": [
        {"path": "/a", "contents": {"source": "http://127.0.0.1:1/a"}}]}}"#;
    bench.put("system/base.platform.d/file/10-x.ign", text);
    assert_eq!(bench.run(true).unwrap(), StageOutcome::Done);
    assert!(bench.asked_for_network() && bench.args.config_cache.exists());
}

#[test]
fn a_config_from_the_network_takes_one_first() {
    let server = Server::http(|exchange| exchange.reply(200, &[], config("/b", "").as_bytes()));
    let authority =
        format!(r#", "security": {{"tls": {{"certificateAuthorities": [{{"source": "{}"}}]}}}}"#, server.url("/ca"));
    for (config_file, cmdline) in [
        (config("/a", &merging(&[server.url("/b")])), String::new()),
        (config("/a", &authority), String::new()),
        (config("/a", &format!(r#", "config": {{"replace": {{"source": "{}"}}}}"#, server.url("/b"))), String::new()),
        (config("/a", &merging(&[data(&config("/c", &merging(&[server.url("/b")])))])), String::new()),
        (String::new(), format!("ignition.config.url={}", server.url("/b"))),
        (String::new(), "ignition.config.url=tftp://h/x".into()),
        (config("/a", &merging(&["s3://b/k".into()])), String::new()),
        (config("/a", &merging(&["arn:aws:s3:::b/k".into()])), String::new()),
        (config("/a", &merging(&["gs://b/k".into()])), String::new()),
    ] {
        let bench = Bench::new(&config_file).with_cmdline(&cmdline);
        assert_eq!(bench.run(true).unwrap(), StageOutcome::NeedsNetwork, "{config_file}");
        assert!(bench.asked_for_network() && !bench.args.config_cache.exists() && !bench.args.state_file.exists());
    }
    assert_eq!(server.seen().len(), 0, "nothing was asked for offline");
}

#[test]
fn the_command_line_comes_first_then_user_ign_then_the_platform() {
    let server = Server::http(|exchange| exchange.reply(200, &[], &gzip(config("/cmdline", "").as_bytes())));
    let bench = Bench::new(&config("/platform", ""));
    assert!(bench.fetched().contains(r#""/platform""#));
    bench.put("local/user.ign", gzip(config("/user", "").as_bytes()));
    assert!(bench.fetched().contains(r#""/user""#));
    let bench = bench.with_cmdline(&format!("ignition.config.url={}", server.url("/?token=hidden")));
    let cache = bench.fetched();
    assert!(cache.contains(r#""/cmdline""#) && !cache.contains("/user") && !cache.contains("/platform"), "{cache}");
    let state = fs::read_to_string(&bench.args.state_file).unwrap();
    assert!(!state.contains("hidden") && state.contains(&server.url("/?token=...")), "{state}");
    let inline =
        Bench::new("").with_cmdline("ignition.config.url=data:,%7B%22ignition%22:%7B%22version%22:%223.6.0%22%7D%7D");
    assert_eq!(inline.run(true).unwrap(), StageOutcome::Done);
}

#[test]
fn an_empty_config_is_none_and_no_error() {
    for platform in ["file", "metal", "qemu"] {
        let mut bench = Bench::new("");
        bench.args.platform = platform.into();
        fs::create_dir(&bench.surroundings.fw_cfg).unwrap();
        assert_eq!(bench.run(true).unwrap(), StageOutcome::Done);
        let state::Loaded { config, sources, state, .. } = state::load_from(&bench.args, &bench.surroundings).unwrap();
        assert_eq!(config, fledge_core::config::empty());
        assert!(sources.0.is_empty() && state.sources.0.is_empty());
    }
}

#[test]
fn referenced_configs_are_merged_in_order_and_verified() {
    let leaf = config("/leaf", "");
    let server = Server::http(move |exchange| {
        let url = format!("http://{}", exchange.seen.headers["host"]);
        let seen = exchange.seen.clone();
        match seen.path.as_str() {
            "/middle" if seen.headers.get("x-token").map(String::as_str) == Some("1") => {
                let text = config("/middle", &merging(&[format!("{url}/leaf")]));
                exchange.reply(200, &[], &gzip(text.as_bytes()))
            }
            "/leaf" if !seen.headers.contains_key("x-token") => exchange.reply(200, &[], leaf.as_bytes()),
            "/new" => exchange.reply(200, &[], config("/new", &merging(&[format!("{url}/leaf")])).as_bytes()),
            _ => exchange.reply(403, &[], b""),
        }
    });
    let url = server.url("");
    let middle = config("/middle", &merging(&[format!("{url}/leaf")]));
    let merge = format!(
        r#", "config": {{"merge": [{{"source": "{url}/middle", "compression": "gzip", "verification": {{"hash": "{}"}},
            "httpHeaders": [{{"name": "X-Token", "value": "1"}}]}}, {{"source": "{}"}}]}}"#,
        sha512(&middle),
        data(&config("/last", ""))
    );
    let bench = Bench::new(&config("/first", &merge));
    bench.fetched();
    let state::Loaded { config: merged, sources, .. } = state::load_from(&bench.args, &bench.surroundings).unwrap();
    let paths: Vec<_> = merged.storage.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["/first", "/middle", "/leaf", "/last"]);
    let names: Vec<_> = sources.0.iter().map(|source| (source.kind, source.referenced, source.name.as_str())).collect();
    assert_eq!(names[0].0, SourceKind::User);
    assert!(!names[0].1 && names[0].2.ends_with("config.ign"), "{names:?}");
    assert_eq!(names[1], (SourceKind::User, true, format!("{url}/middle").as_str()));
    assert_eq!(names[2], (SourceKind::User, true, format!("{url}/leaf").as_str()));
    assert!(names[3].1 && names[3].2.contains("$.ignition.config.merge.1"), "{names:?}");

    let replaced = Bench::new(&config("/old", &format!(r#", "config": {{"replace": {{"source": "{url}/new"}}}}"#)));
    let cache = replaced.fetched();
    assert!(cache.contains("/new") && cache.contains(r#""/leaf""#) && !cache.contains("/old"), "{cache}");
}

/// A server that has a text packed, for those who show a token.
fn guarded(text: &str) -> Server {
    let packed = gzip(text.as_bytes());
    Server::http(move |exchange| match exchange.seen.headers.get("x-token").map(String::as_str) {
        Some("1") => exchange.reply(200, &[], &packed),
        _ => exchange.reply(403, &[], b""),
    })
}

/// A resource that asks [`guarded`] rightly, and expects that text.
fn asking(server: &Server, expected: &str) -> String {
    format!(
        r#"{{"source": "{}", "compression": "gzip", "verification": {{"hash": "{}"}},
            "httpHeaders": [{{"name": "X-Token", "value": "1"}}]}}"#,
        server.url("/"),
        sha512(expected)
    )
}

#[test]
fn a_config_that_replaces_is_asked_for_unpacked_and_verified() {
    let new = config("/new", "");
    let server = guarded(&new);
    let replacing = |expected| config("/old", &format!(r#", "config": {{"replace": {}}}"#, asking(&server, expected)));
    let cache = Bench::new(&replacing(&new)).fetched();
    assert!(cache.contains(r#""/new""#) && !cache.contains("/old"), "{cache}");
    let text = Bench::new(&replacing("another")).refused();
    assert!(text.contains(&sha512("another")) && text.contains("$.ignition.config.replace"), "{text}");
}

#[test]
fn an_authority_is_asked_for_unpacked_and_verified() {
    let identity = Identity::new(Kind::Good, &["127.0.0.1"]).unwrap();
    let secure = Server::https(&identity, |exchange| exchange.reply(200, &[], config("/secure", "").as_bytes()));
    let server = guarded(identity.authority());
    let trusting = |expected| {
        let authorities = format!(r#"{{"certificateAuthorities": [{}]}}"#, asking(&server, expected));
        config("/a", &format!(r#", "security": {{"tls": {authorities}}}{}"#, merging(&[secure.url("/")])))
    };
    assert!(Bench::new(&trusting(identity.authority())).fetched().contains(r#""/secure""#));
    let text = Bench::new(&trusting("another")).refused();
    assert!(text.contains(&sha512("another")) && text.contains("certificateAuthorities.0"), "{text}");
}

#[test]
fn what_is_wrong_with_a_reference_is_said_with_its_place() {
    let server = Server::http(|exchange| match exchange.seen.path.as_str() {
        "/empty" => exchange.reply(200, &[], b""),
        "/broken" => exchange.reply(200, &[], b"{\n  \"ignition\": }"),
        "/fine" => exchange.reply(200, &[], config("/b", "").as_bytes()),
        "/relative" => exchange.reply(200, &[], config("relative", "").as_bytes()),
        _ => exchange.reply(404, &[], b""),
    });
    let wrong = sha512("something else");
    let hash = format!(
        r#", "config": {{"merge": [{{"source": "{}", "verification": {{"hash": "{wrong}"}}}}]}}"#,
        server.url("/fine")
    );
    let at = "config.ign:1:";
    for (ignition, words) in [
        (
            merging(&[server.url("/fine"), server.url("/missing")]),
            vec!["404", at, "$.ignition.config.merge.1", "/missing"],
        ),
        (merging(&[server.url("/empty")]), vec!["it is empty", at, "$.ignition.config.merge.0"]),
        (merging(&[server.url("/broken")]), vec!["/broken:2:"]),
        (merging(&[server.url("/relative")]), vec!["/relative:1:", "$.storage.files.0.path"]),
        (hash, vec![wrong.as_str(), at, "$.ignition.config.merge.0"]),
        (merging(&["ftp://h/x".into()]), vec!["ftp", at, "$.ignition.config.merge.0"]),
        (
            format!(r#", "config": {{"replace": {{"source": "{}"}}}}"#, server.url("/missing")),
            vec!["404", at, "$.ignition.config.replace"],
        ),
    ] {
        let text = Bench::new(&config("/a", &ignition)).refused();
        for word in words {
            assert!(text.contains(word), "{word} is not in: {text}");
        }
    }
}

#[test]
fn references_in_a_circle_end() {
    let server = Server::http(|exchange| {
        let next = if exchange.seen.path == "/a" { "/b" } else { "/a" };
        let url = format!("http://{}{next}", exchange.seen.headers["host"]);
        exchange.reply(200, &[], config("/x", &merging(&[url])).as_bytes())
    });
    let text = Bench::new(&config("/a", &merging(&[server.url("/a")]))).refused();
    let circle = format!("they go in a circle: {} -> {} -> {}", server.url("/a"), server.url("/b"), server.url("/a"));
    assert!(text.contains(&circle), "{text}");
    assert!(server.seen().len() <= 32, "{}", server.seen().len());
}

#[test]
fn authorities_are_trusted_once_known_and_kept_in_the_cache() {
    let identity = Identity::new(Kind::Good, &["127.0.0.1"]).unwrap();
    let secure = Server::https(&identity, |exchange| exchange.reply(200, &[], config("/secure", "").as_bytes()));
    let (pem, packed) = (identity.authority().to_owned(), gzip(identity.authority().as_bytes()));
    let plain = Server::http(move |exchange| exchange.reply(200, &[], &packed));
    let authority = format!(
        r#"{{"source": "{}", "compression": "gzip", "verification": {{"hash": "{}"}}, "httpHeaders": [{{"name": "A", "value": "b"}}]}}"#,
        plain.url("/ca"),
        sha512(&pem)
    );
    let security = format!(r#", "security": {{"tls": {{"certificateAuthorities": [{authority}]}}}}"#);
    let bench = Bench::new(&config("/a", &format!("{security}{}", merging(&[secure.url("/")]))));
    let cache = bench.fetched();
    assert!(cache.contains(r#""/secure""#), "{cache}");
    assert_eq!(plain.seen().len(), 1, "fetched once");
    let state::Loaded { config: loaded, .. } = state::load_from(&bench.args, &bench.surroundings).unwrap();
    let [kept] = &loaded.ignition.security.tls.certificate_authorities[..] else { panic!("{cache}") };
    assert_eq!((&kept.compression, kept.http_headers.len()), (&None, 0));
    let embedded = fledge_core::dataurl::decode(kept.source.as_deref().unwrap()).unwrap();
    assert_eq!(embedded, pem.as_bytes());

    let state::Loaded { rules, sources, .. } = state::load_from(&bench.args, &bench.surroundings).unwrap();
    let fetcher = fetcher_in(Bench::conditions(false), &rules, &sources).unwrap();
    let resource = Resource { source: Some(secure.url("/")), ..Resource::default() };
    assert!(fetcher.to_buffer(&resource, 1000).is_ok(), "later stages trust it too");

    let untrusted = Bench::new(&config("/a", &merging(&[secure.url("/")]))).refused();
    assert!(untrusted.contains("no certificate authority is known"), "{untrusted}");
    let nonsense = config("/a", &security.replace(&authority, r#"{"source": "data:,nonsense"}"#));
    let text = Bench::new(&nonsense).refused();
    assert!(text.contains("no certificate in PEM form") && text.contains("certificateAuthorities.0"), "{text}");
}

#[test]
fn an_authority_is_held_against_every_hash_that_a_config_gives_for_it() {
    let identity = Identity::new(Kind::Good, &["127.0.0.1"]).unwrap();
    let pem = identity.authority().to_owned();
    let authority = Server::http(move |exchange| exchange.reply(200, &[], pem.as_bytes()));
    let security = |rest: &str| {
        let source = authority.url("/ca");
        format!(r#", "security": {{"tls": {{"certificateAuthorities": [{{"source": "{source}"{rest}}}]}}}}"#)
    };
    let wrong = format!(r#", "verification": {{"hash": "{}"}}"#, sha512("another"));
    let child = config("/child", &security(&wrong));
    let server = Server::http(move |exchange| exchange.reply(200, &[], child.as_bytes()));
    let parent = config("/parent", &format!("{}{}", security(""), merging(&[server.url("/")])));
    let text = Bench::new(&parent).refused();
    assert!(text.contains("is expected") && text.contains("certificateAuthorities.0"), "{text}");
}

#[test]
fn a_server_that_never_answers_costs_no_more_than_the_flag_allows() {
    let server = Server::http(|_| {
        std::thread::sleep(Duration::from_secs(60));
        Ok(())
    });
    let mut bench = Bench::new("").with_cmdline(&format!("ignition.config.url={}", server.url("/config.ign")));
    bench.args.fetch_timeout = Duration::from_secs(1);
    let start = Instant::now();
    let text = bench.refused();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    for word in [&*server.url("/config.ign"), "within 1 s", "ignition.config.url"] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
}

#[test]
fn timeouts_of_a_config_hold_for_what_it_refers_to() {
    // Who waits for the first answer is sent away.
    let server = Server::http(|exchange| {
        if exchange.seen.path == "/slow" || exchange.seen.earlier == 0 {
            std::thread::sleep(Duration::from_secs(3));
            return exchange.reply(404, &[], b"");
        }
        exchange.reply(200, &[], config("/b", "").as_bytes())
    });
    let bench = |timeouts: &str, path: &str| {
        Bench::new(&config("/a", &format!(r#", "timeouts": {{{timeouts}}}{}"#, merging(&[server.url(path)]))))
    };
    let text = bench(r#""httpTotal": 1"#, "/slow").refused();
    assert!(text.contains("within 1 s") && text.contains("merge.0"), "{text}");
    assert!(bench(r#""httpResponseHeaders": 1"#, "/busy").fetched().contains(r#""/b""#));
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn the_proxy_of_a_config_holds_for_what_it_refers_to_and_for_later_stages() {
    let proxy = Server::http(|exchange| fledge_tests::proxy::serve(fledge_tests::proxy::Rules::default(), exchange));
    let server = Server::http(|exchange| exchange.reply(200, &[], config("/b", "").as_bytes()));
    let url = format!("http://server.example:{}/", server.address().port());
    let ignition = format!(
        r#", "proxy": {{"httpProxy": "{}", "noProxy": ["other.example"]}}, {SOON}{}"#,
        proxy.url(""),
        merging(std::slice::from_ref(&url))
    );
    let bench = Bench::new(&config("/a", &ignition));
    assert!(bench.fetched().contains(r#""/b""#));
    assert_eq!(proxy.seen().len(), 1);
    let state::Loaded { rules, sources, .. } = state::load_from(&bench.args, &bench.surroundings).unwrap();
    let fetcher = fetcher_in(Bench::conditions(false), &rules, &sources).unwrap();
    let resource = Resource { source: Some(url), ..Resource::default() };
    assert!(fetcher.to_buffer(&resource, 1000).is_ok());
    assert_eq!(proxy.seen().len(), 2);
}

#[test]
fn a_config_says_which_servers_are_asked_through_which_proxy() {
    let proxy = Server::http(|exchange| fledge_tests::proxy::serve(fledge_tests::proxy::Rules::default(), exchange));
    let identity = Identity::new(Kind::Good, &["server.example"]).unwrap();
    let secure = Server::https(&identity, |exchange| exchange.reply(200, &[], config("/secure", "").as_bytes()));
    let url = format!("https://server.example:{}/", secure.address().port());
    let ignition = format!(
        r#", "proxy": {{"httpProxy": "http://127.0.0.1:1", "httpsProxy": "{}"}}, {SOON},
           "security": {{"tls": {{"certificateAuthorities": [{{"source": "{}"}}]}}}}{}"#,
        proxy.url(""),
        data(identity.authority()),
        merging(&[url])
    );
    assert!(Bench::new(&config("/a", &ignition)).fetched().contains(r#""/secure""#));
    assert!(proxy.seen()[0].head.starts_with("CONNECT server.example:"), "{:?}", proxy.seen());

    let asked = proxy.seen().len();
    let ignition = format!(
        r#", "proxy": {{"httpProxy": "{}", "noProxy": ["server.example"]}}, {SOON}{}"#,
        proxy.url(""),
        merging(&["http://server.example/".into()])
    );
    let text = Bench::new(&config("/a", &ignition)).refused();
    assert!(text.contains("name not found") && !text.contains("the proxy"), "{text}");
    assert_eq!(proxy.seen().len(), asked);
}

#[test]
fn a_base_config_has_no_say_in_how_things_are_fetched() {
    let bench = Bench::new(&config("/user", r#", "timeouts": {"httpTotal": 7}"#));
    let rules =
        r#", "proxy": {"httpProxy": "http://proxy.example"}, "timeouts": {"httpTotal": 8, "httpResponseHeaders": 9}"#;
    bench.put("runtime/base.d/10-rules.ign", config("/base", rules));
    bench.fetched();
    let state::Loaded { config, rules, .. } = state::load_from(&bench.args, &bench.surroundings).unwrap();
    assert_eq!(config.ignition.proxy.http_proxy.as_deref(), Some("http://proxy.example"));
    assert_eq!((&rules.proxy.http_proxy, rules.timeouts.http_total), (&None, Some(7)));
    assert_eq!(rules.timeouts.http_response_headers, None);
}

#[test]
fn base_configs_are_merged_anew_by_every_stage() {
    let bench = Bench::new(&config("/user", ""));
    assert!(!bench.fetched().contains("/base"));
    bench.put("runtime/base.platform.d/file/50-later.ign", config("/base", ""));
    let state::Loaded { config, sources, .. } = state::load_from(&bench.args, &bench.surroundings).unwrap();
    let files = &config.storage.files;
    assert_eq!(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["/base", "/user"]);
    let place = sources.place(files[0].origin, "$.storage.files").unwrap();
    assert!(place.source.ends_with("50-later.ign"), "{place}");
    bench.put("runtime/base.d/broken.ign", "{");
    let failures = state::load_from(&bench.args, &bench.surroundings).unwrap_err();
    assert!(failures[0].to_string().contains("broken.ign:1:"), "{failures:?}");
    fs::remove_file(&bench.args.config_cache).unwrap();
    fs::remove_file(&bench.args.state_file).unwrap();
    assert!(bench.refused().contains("broken.ign:1:"));
}

#[test]
fn a_changed_cache_is_read_but_loses_its_places() {
    let bench = Bench::new(&config("/user", ""));
    let cache = bench.fetched().replace("/user", "/other");
    fs::write(&bench.args.config_cache, cache).unwrap();
    let state::Loaded { config, .. } = state::load_from(&bench.args, &bench.surroundings).unwrap();
    assert_eq!(config.storage.files[0].path, "/other");
    assert_eq!(config.storage.files[0].origin.source, None);
    fs::write(&bench.args.state_file, "{").unwrap();
    assert!(state::load_from(&bench.args, &bench.surroundings).is_err());
    fs::remove_file(&bench.args.state_file).unwrap();
    fs::remove_file(&bench.args.config_cache).unwrap();
    let failures = state::load_from(&bench.args, &bench.surroundings).unwrap_err();
    assert!(failures[0].to_string().contains("fetch"), "{failures:?}");
}

#[test]
fn what_this_build_cannot_do_is_refused_before_anything_is_written() {
    let packed = r#"{"ignition": {"version": "3.6.0"}, "storage": {"files": [
        {"path": "/b", "contents": {"source": "s3://bucket/x", "compression": "gzip"}}]}}"#;
    let text = Bench::new(packed).refused();
    assert!(text.contains("what comes from S3 can't be decompressed"), "{text}");
    let volume = r#"{"ignition": {"version": "3.6.0"}, "storage": {"luks": [
        {"name": "data", "device": "/dev/vdb", "cex": {"enabled": true}}]}}"#;
    let text = Bench::new(volume).refused();
    assert!(text.contains("s390x") && text.contains("$.storage.luks.0.cex.enabled"), "{text}");
    let mut bench = Bench::new("");
    bench.args.platform = "aws".into();
    assert!(bench.refused().contains("later build"));
    let bench = Bench::new("").with_cmdline("ignition.config.device=x ignition.config.path=y");
    assert!(bench.refused().contains("ignition.config.device"));
}

#[test]
fn a_config_on_a_disk_is_read_by_label_and_path() {
    alone("fetch_stage::a_config_on_a_disk_is_read_by_label_and_path", || {
        let content = tempfile::tempdir().unwrap();
        fs::create_dir(content.path().join("deep")).unwrap();
        fs::write(content.path().join("deep/plain.ign"), config("/from-disk", "")).unwrap();
        fs::write(content.path().join("packed.ign"), gzip(config("/packed", "").as_bytes())).unwrap();
        fs::write(content.path().join("empty.ign"), "").unwrap();
        // Were it followed to this machine's root, it would lead nowhere.
        std::os::unix::fs::symlink("/deep/plain.ign", content.path().join("link.ign")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", content.path().join("away.ign")).unwrap();
        let format = ["mkfs.ext4", "-q", "-F", "-d", content.path().to_str().unwrap()];
        let disk = Disk::new(16, &format);
        let fetch = |arguments: &str| {
            let bench = Bench::new("").with_cmdline(arguments);
            fs::create_dir(&bench.surroundings.by_label).unwrap();
            std::os::unix::fs::symlink(&disk.device, bench.surroundings.by_label.join("CONFIG")).unwrap();
            bench
        };
        for (path, written) in [
            ("/deep/plain.ign", "/from-disk"),
            ("deep/plain.ign", "/from-disk"),
            ("link.ign", "/from-disk"),
            ("/deep/../packed.ign", "/packed"),
        ] {
            let bench = fetch(&format!("ignition.config.device=CONFIG ignition.config.path={path}"));
            // It takes no network.
            assert_eq!(bench.run(true).unwrap(), StageOutcome::Done, "{path}");
            assert!(fs::read_to_string(&bench.args.config_cache).unwrap().contains(&format!("\"path\":\"{written}\"")));
        }
        let empty = fetch("ignition.config.device=CONFIG ignition.config.path=empty.ign").fetched();
        assert!(!empty.contains("files"), "{empty}");
        for (arguments, words) in [
            ("ignition.config.device=CONFIG ignition.config.path=/absent.ign", "No such file"),
            ("ignition.config.device=CONFIG ignition.config.path=away.ign", "No such file"),
            ("ignition.config.device=CONFIG ignition.config.path=deep", "not a regular file"),
            ("ignition.config.device=OTHER ignition.config.path=deep/plain.ign", "no disk of that label appeared"),
            ("ignition.config.device=CONFIG", "without ignition.config.path"),
        ] {
            let said = fetch(arguments).refused();
            assert!(said.contains(words) && said.contains("the kernel command line"), "{said}");
        }
        // It is let go of: with the last that has it open, the kernel takes the image from the device.
        let device = disk.device.clone();
        drop(disk);
        let left = run(Command::new("losetup").args(["--list", "--noheadings", "--output=NAME"]));
        assert!(!left.lines().any(|name| Path::new(name.trim()) == device), "{left}");
    });
}

#[test]
fn a_disk_that_holds_no_file_system_is_named() {
    alone("fetch_stage::a_disk_that_holds_no_file_system_is_named", || {
        let disk = Disk::new(1, &[]);
        let bench = Bench::new("").with_cmdline("ignition.config.device=CONFIG ignition.config.path=/c.ign");
        fs::create_dir(&bench.surroundings.by_label).unwrap();
        std::os::unix::fs::symlink(&disk.device, bench.surroundings.by_label.join("CONFIG")).unwrap();
        let said = bench.refused();
        assert!(said.contains("can't be mounted") && said.contains(disk.name()), "{said}");
    });
}
