// SPDX-License-Identifier: Apache-2.0
//! Objects in the stores of clouds, from servers that check who asks. Each test has a network of its own, in which the real names
//! lead to them.

use std::path::PathBuf;
use std::time::Duration;

use fledge_core::config::{HttpHeader, Proxy, Resource};
use fledge_core::proxy::Proxies;
use fledge_stages::fetch::{Conditions, Error, Fetcher};
use fledge_stages::host::net::client::Pace;
use fledge_stages::host::net::{NetFiles, Settings};
use fledge_tests::Machine;
use fledge_tests::clouds::{Clouds, METADATA, NAMES, World};
use fledge_tests::http::Server;
use fledge_tests::namespace::alone_on_the_network;

const HOSTS: &[(&str, &[&str])] = &[("127.0.0.1", NAMES), (METADATA, &[])];

struct Bench {
    clouds: Clouds,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(world: World) -> Self {
        let clouds = Clouds::start(world);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bundle"), clouds.identity.authority()).unwrap();
        Self { clouds, folder }
    }

    fn bundle(&self) -> PathBuf {
        self.folder.path().join("bundle")
    }

    /// A fetcher of a machine on that platform.
    fn fetcher(&self, platform: &str) -> Fetcher {
        let first_wait = Duration::from_millis(20);
        let conditions = Conditions {
            pace: Pace { first_wait, longest_wait: first_wait * 2, few: 2, ..Pace::default() },
            files: NetFiles { bundles: vec![self.bundle()], ..NetFiles::default() },
            platform: platform.into(),
            google: (platform == "gcp").then(|| METADATA.into()),
            ..Conditions::default()
        };
        Fetcher::new(conditions, Settings { total: Some(Duration::from_secs(5)), ..Settings::default() })
    }

    fn get(&self, platform: &str, source: &str) -> Result<String, String> {
        fetch(&self.fetcher(platform), source)
    }

    fn asked_for_metadata(&self) -> usize {
        self.clouds.metadata.seen().len()
    }
}

fn fetch(fetcher: &Fetcher, source: &str) -> Result<String, String> {
    let resource = Resource { source: Some(source.into()), ..Resource::default() };
    match fetcher.to_buffer(&resource, 1000) {
        Ok(bytes) => Ok(String::from_utf8(bytes).unwrap()),
        Err(Error::Failed(failure)) => {
            assert!(failure.remedy.is_some() && failure.what.contains(source.split('?').next().unwrap()), "{failure}");
            Err(failure.why)
        }
        Err(Error::NeedNet(what)) => panic!("{what}"),
    }
}

#[test]
fn s3_is_asked_with_the_role_of_an_instance() {
    alone_on_the_network("fetch_clouds::s3_is_asked_with_the_role_of_an_instance", HOSTS, || {
        let bench = Bench::new(World::default());
        let fetcher = bench.fetcher("aws");
        for (source, text) in [
            ("s3://private-bucket/a/key", "private-bucket a/key  for reader"),
            ("s3://private-bucket/a b+c=%C3%A9(1)'*!", "private-bucket a b+c=\u{e9}(1)'*!  for reader"),
            ("s3://private-bucket/key?versionId=v/1+2", "private-bucket key versionId=v%2F1%202 for reader"),
            ("s3://public-bucket/key", "public-bucket key  for reader"),
            ("arn:aws:s3:::private-bucket/a/key", "private-bucket a/key  for reader"),
            ("arn:aws:s3:::dotted.bucket/key?versionId=3", "dotted.bucket key versionId=3 for reader"),
            (
                "arn:aws:s3:eu-west-1:123456789012:accesspoint/point/object/a/key?versionId=3",
                "point a/key versionId=3 for reader",
            ),
        ] {
            assert_eq!(fetch(&fetcher, source).as_deref(), Ok(text), "{source}");
        }
        assert_eq!(bench.asked_for_metadata(), 4, "credentials are remembered");
        let hosts: Vec<_> = bench.clouds.stores.seen().iter().map(|seen| seen.headers["host"].clone()).collect();
        assert_eq!(
            hosts[0], "private-bucket.s3.dualstack.eu-west-1.amazonaws.com",
            "the instance's region is asked first"
        );
        let why = fetch(&fetcher, "s3://private-bucket/missing").unwrap_err();
        assert_eq!(why, "the server answered 404 Not Found (NoSuchKey), asked by the instance's role");
        let why = fetch(&fetcher, "s3://missing-bucket/key").unwrap_err();
        assert!(why.contains("no bucket \"missing-bucket\" in the partition of eu-west-1"), "{why}");
    });
}

#[test]
fn s3_is_asked_anonymously_elsewhere() {
    alone_on_the_network("fetch_clouds::s3_is_asked_anonymously_elsewhere", HOSTS, || {
        let bench = Bench::new(World::default());
        for (source, text) in [
            ("s3://public-bucket/key", "public-bucket key  for nobody"),
            ("arn:aws-cn:s3:::china-bucket/a%20b", "china-bucket a%20b  for nobody"),
            ("arn:aws:s3:::dotted.bucket/key", "dotted.bucket key  for nobody"),
        ] {
            assert_eq!(bench.get("metal", source).as_deref(), Ok(text), "{source}");
        }
        let why = bench.get("metal", "s3://private-bucket/key").unwrap_err();
        let expected = "the server answered 403 Forbidden (AccessDenied), asked by nobody, since there are no credentials: \
                        this is no machine in AWS";
        assert_eq!(why, expected);
        let why = bench.get("metal", "arn:aws:s3:eu-west-1:123456789012:accesspoint/point/object/key").unwrap_err();
        assert!(why.starts_with("access points can't be asked anonymously"), "{why}");
        let why = bench.get("metal", "arn:aws:s3:::only-a-bucket").unwrap_err();
        assert!(why.contains("not the ARN of an object"), "{why}");
        assert_eq!(bench.asked_for_metadata(), 0);
    });
}

#[test]
fn an_instance_without_a_role_asks_anonymously() {
    alone_on_the_network("fetch_clouds::an_instance_without_a_role_asks_anonymously", HOSTS, || {
        let bench = Bench::new(World { known: false, ..World::default() });
        assert_eq!(bench.get("aws", "s3://public-bucket/key").as_deref(), Ok("public-bucket key  for nobody"));
        let why = bench.get("aws", "s3://private-bucket/key").unwrap_err();
        assert!(why.ends_with("since there are no credentials: the instance has no role"), "{why}");
    });
}

#[test]
fn the_first_version_of_the_metadata_service_will_do_and_a_wrong_clock_too() {
    let name = "fetch_clouds::the_first_version_of_the_metadata_service_will_do_and_a_wrong_clock_too";
    alone_on_the_network(name, HOSTS, || {
        for ahead in [-86_400 * 365, 86_400] {
            let bench = Bench::new(World { old_metadata: true, ahead, ..World::default() });
            assert_eq!(
                bench.get("aws", "s3://private-bucket/k").as_deref(),
                Ok("private-bucket k  for reader"),
                "{ahead}"
            );
            let gets = bench.clouds.stores.seen().iter().filter(|seen| seen.method == "GET").count();
            assert_eq!(gets, 2, "signed by this machine's clock, and again by S3's");
        }
    });
}

#[test]
fn google_is_asked_with_a_token_if_there_is_one() {
    alone_on_the_network("fetch_clouds::google_is_asked_with_a_token_if_there_is_one", HOSTS, || {
        let bench = Bench::new(World::default());
        let fetcher = bench.fetcher("gcp");
        assert_eq!(fetch(&fetcher, "gs://private/a/b c").as_deref(), Ok("private a%2Fb%20c"));
        assert_eq!(fetch(&fetcher, "gs://public//x").as_deref(), Ok("public x"));
        assert_eq!(bench.asked_for_metadata(), 1);
        let why = fetch(&fetcher, "gs://missing/x").unwrap_err();
        assert_eq!(why, "the server answered 404 Not Found, asked by the instance's service account");
        assert_eq!(bench.get("metal", "gs://public/x").as_deref(), Ok("public x"));
        let why = bench.get("metal", "gs://private/x").unwrap_err();
        assert!(why.contains("401 Unauthorized") && why.ends_with("this is no machine of Google's"), "{why}");
        drop(bench);
        let bench = Bench::new(World { known: false, ..World::default() });
        assert_eq!(bench.get("gcp", "gs://public/x").as_deref(), Ok("public x"));
        let why = bench.get("gcp", "gs://private/x").unwrap_err();
        assert!(why.ends_with("there is no token: the instance has no service account"), "{why}");
    });
}

#[test]
fn azure_is_asked_with_the_machines_identity_and_then_anonymously() {
    alone_on_the_network("fetch_clouds::azure_is_asked_with_the_machines_identity_and_then_anonymously", HOSTS, || {
        let bench = Bench::new(World::default());
        let fetcher = bench.fetcher("azure");
        let url = |path: &str| format!("https://account.blob.core.windows.net{path}");
        assert_eq!(fetch(&fetcher, &url("/private/file")).as_deref(), Ok("private file"));
        assert_eq!(fetch(&fetcher, &url("/public/file")).as_deref(), Ok("public file"));
        assert_eq!(bench.asked_for_metadata(), 1);
        let why = fetch(&fetcher, &url("/private/missing")).unwrap_err();
        let expected = "the server answered 404 Not Found; asked by the machine's identity, the server answered 404 Not Found \
                        (ResourceNotFound)";
        assert_eq!(why, expected);
        assert_eq!(fetch(&fetcher, &url("/private/file?sv=1&sig=abc")).as_deref(), Ok("signed file"));
        let asked = bench.asked_for_metadata();
        assert_eq!(bench.get("metal", &url("/public/file")).as_deref(), Ok("public file"));
        assert_eq!(bench.get("metal", &url("/private/file")).unwrap_err(), "the server answered 404 Not Found");
        assert_eq!(bench.asked_for_metadata(), asked, "elsewhere nobody is asked for a token");
        drop(bench);
        let bench = Bench::new(World { known: false, ..World::default() });
        assert_eq!(bench.get("azure", &url("/public/file")).as_deref(), Ok("public file"));
        let why = bench.get("azure", &url("/private/file")).unwrap_err();
        assert!(why.ends_with("there is no token of a managed identity: the machine has none"), "{why}");
    });
}

#[test]
fn stores_are_asked_through_a_proxy_and_metadata_services_are_not() {
    let name = "fetch_clouds::stores_are_asked_through_a_proxy_and_metadata_services_are_not";
    alone_on_the_network(name, HOSTS, || {
        let bench = Bench::new(World::default());
        let proxy =
            Server::http(|exchange| fledge_tests::proxy::serve(fledge_tests::proxy::Rules::default(), exchange));
        let proxies = Proxies::of(&Proxy {
            http_proxy: Some(proxy.url("")),
            https_proxy: Some(proxy.url("")),
            ..Proxy::default()
        });
        let total = Some(Duration::from_secs(3));
        let fetcher = bench.fetcher("aws").with(Settings { total, proxies: proxies.into(), ..Settings::default() });
        let text = fetch(&fetcher, "s3://private-bucket/key");
        assert_eq!(text.as_deref(), Ok("private-bucket key  for reader"));
        assert!(proxy.seen().iter().all(|seen| seen.method == "CONNECT"), "{:?}", proxy.seen());
        assert_eq!(proxy.seen().len(), 1);
        assert_eq!(bench.asked_for_metadata(), 4);
        // A configuration may name the address itself; then it goes as the configuration says.
        let url = format!("http://{METADATA}/latest/api/token");
        let headers = HttpHeader { name: "A".into(), value: Some("b".into()), ..HttpHeader::default() };
        let resource = Resource { source: Some(url), http_headers: vec![headers], ..Resource::default() };
        assert!(fetcher.to_buffer(&resource, 100).is_err());
        assert_eq!(proxy.seen().last().unwrap().method, "GET");
    });
}

#[test]
fn a_whole_boot_is_provisioned_from_public_stores() {
    alone_on_the_network("fetch_clouds::a_whole_boot_is_provisioned_from_public_stores", HOSTS, || {
        let bench = Bench::new(World::default());
        let machine = Machine::new().environment("SSL_CERT_FILE", bench.bundle().to_str().unwrap());
        let config = r#"{"ignition": {"version": "3.4.0"}, "storage": {"files": [
            {"path": "/etc/s3", "contents": {"source": "s3://public-bucket/key?versionId=7"}},
            {"path": "/etc/arn", "contents": {"source": "arn:aws-cn:s3:::china-bucket/key", "verification": {"hash":
                "sha256-HASH"}}},
            {"path": "/etc/gs", "contents": {"source": "gs://public/a/b"}},
            {"path": "/etc/blob", "contents": {"source": "https://account.blob.core.windows.net/public/file"}}]}}"#;
        let hash = ring::digest::digest(&ring::digest::SHA256, b"china-bucket key  for nobody");
        let hash = data_encoding::HEXLOWER.encode(hash.as_ref());
        let boot = machine.boot(&config.replace("HASH", &hash));
        assert!(boot.stopped.is_none(), "{}", boot.output);
        for (path, text) in [
            ("etc/s3", "public-bucket key versionId=7 for nobody"),
            ("etc/arn", "china-bucket key  for nobody"),
            ("etc/gs", "public a%2Fb"),
            ("etc/blob", "public file"),
        ] {
            assert_eq!(std::fs::read_to_string(machine.root().join(path)).unwrap(), text, "{path}");
        }
        assert!(machine.run_file("neednet").exists(), "a network was asked for");
    });
}
