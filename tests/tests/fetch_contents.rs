// SPDX-License-Identifier: Apache-2.0
//! The contents of files, many at once, from real servers into real directories.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use fledge_core::config::{HttpHeader, Resource, Verification};
use fledge_core::diag::{Failure, Place};
use fledge_core::verification::{Function, Hasher};
use fledge_stages::fetch::contents::{Fetched, Job, PARALLEL, fetch_all};
use fledge_stages::fetch::{Conditions, Error, Fetcher};
use fledge_stages::host::net::client::Pace;
use fledge_stages::host::net::{Settings, roots};
use fledge_tests::http::{Identity, Kind, Server};
use tempfile::TempDir;

fn fetcher(offline: bool) -> Fetcher {
    let first_wait = Duration::from_millis(20);
    let pace = Pace { first_wait, longest_wait: first_wait * 2, ..Pace::default() };
    Fetcher::new(Conditions { offline, pace, ..Conditions::default() }, Settings::default())
}

fn resource(source: &str) -> Resource {
    Resource { source: Some(source.into()), ..Resource::default() }
}

fn job<'r>(id: usize, resource: &'r Resource, directory: &TempDir) -> Job<'r, usize> {
    let place = Place { source: "config.ign".into(), path: format!("$.storage.files.{id}"), position: None };
    Job { id, resource, place: Some(place), directory: File::open(directory).unwrap().into() }
}

fn fetch(directory: &TempDir, resources: &[Resource]) -> Result<Vec<Fetched<usize>>, Failure> {
    fetch_with(&fetcher(false), directory, resources)
}

fn fetch_with(fetcher: &Fetcher, directory: &TempDir, resources: &[Resource]) -> Result<Vec<Fetched<usize>>, Failure> {
    let jobs = resources.iter().enumerate().map(|(id, resource)| job(id, resource, directory)).collect();
    fetch_all(fetcher, jobs, PARALLEL).map_err(|error| match error {
        Error::Failed(failure) => failure,
        Error::NeedNet(what) => panic!("{what}"),
    })
}

fn text(fetched: &Fetched<usize>) -> String {
    let mut text = String::new();
    fetched.file.file().read_to_string(&mut text).unwrap();
    assert_eq!(fetched.size, text.len() as u64);
    text
}

fn is_empty(directory: &TempDir) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

fn hash(function: Function, bytes: &[u8]) -> Verification {
    let mut hasher = Hasher::new(function);
    hasher.update(bytes);
    Verification { hash: Some(hasher.finish().to_string()) }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn many_files_come_side_by_side_but_not_all_at_once() {
    // Nobody is answered before as many as may come have come.
    let counts = Arc::new((Mutex::new((0, 0)), Condvar::new()));
    let for_server = Arc::clone(&counts);
    let server = Server::http(move |exchange| {
        let (lock, changed) = &*for_server;
        let mut counts = lock.lock().unwrap();
        counts.0 += 1;
        counts.1 = counts.1.max(counts.0);
        changed.notify_all();
        let full = |counts: &mut (usize, usize)| counts.1 < PARALLEL;
        let mut counts = changed.wait_timeout_while(counts, Duration::from_secs(20), full).unwrap().0;
        counts.0 -= 1;
        drop(counts);
        exchange.reply(200, &[], format!("this is {}", exchange.seen.path).as_bytes())
    });
    let directory = tempfile::tempdir().unwrap();
    let resources: Vec<_> = (0..60).map(|index| resource(&server.url(&format!("/{index}")))).collect();
    let fetched = fetch(&directory, &resources).unwrap();
    assert!(is_empty(&directory), "what was fetched has no name yet");
    for (index, one) in fetched.iter().enumerate() {
        assert_eq!((one.id, text(one)), (index, format!("this is /{index}")));
        assert_eq!(one.file.file().metadata().unwrap().dev(), std::fs::metadata(&directory).unwrap().dev());
    }
    assert_eq!(fetched.len(), 60);
    assert_eq!(*counts.0.lock().unwrap(), (0, PARALLEL));
    let handle = File::open(&directory).unwrap();
    for one in fetched {
        let name = format!("file {}", one.id);
        one.file.publish(handle.as_fd(), &name).unwrap();
    }
    assert_eq!(std::fs::read_to_string(directory.path().join("file 7")).unwrap(), "this is /7");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 60);
}

#[test]
fn contents_are_decompressed_and_verified_on_the_way() {
    let server = Server::http(|exchange| match exchange.seen.headers.get("x-token").map(String::as_str) {
        Some("1") => exchange.reply(200, &[], &gzip(b"packed")),
        _ => exchange.reply(403, &[], b""),
    });
    let header = HttpHeader { name: "X-Token".into(), value: Some("1".into()), ..HttpHeader::default() };
    let packed = Resource {
        compression: Some("gzip".into()),
        verification: hash(Function::Sha512, b"packed"),
        http_headers: vec![header],
        ..resource(&server.url("/"))
    };
    let plain = Resource { verification: hash(Function::Sha256, b"a b"), ..resource("data:,a%20b") };
    let base64 = Resource {
        compression: Some("gzip".into()),
        ..resource(&format!("data:;base64,{}", data_encoding::BASE64.encode(&gzip(b"inline"))))
    };
    let directory = tempfile::tempdir().unwrap();
    let fetched = fetch(&directory, &[packed, plain, base64, Resource::default()]).unwrap();
    assert_eq!(fetched.iter().map(text).collect::<Vec<_>>(), ["packed", "a b", "inline", ""]);
}

#[test]
fn the_first_failure_ends_the_others_and_leaves_nothing() {
    let server = Server::http(|exchange| match exchange.seen.path.as_str() {
        "/missing" => {
            std::thread::sleep(Duration::from_millis(200));
            exchange.reply(404, &[], b"")
        }
        "/busy" => exchange.reply(503, &[], b""),
        _ => {
            exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")?;
            loop {
                exchange.raw(&[0; 1000])?;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let paths = ["/endless", "/busy", "/missing", "/endless", "/busy"];
    let start = Instant::now();
    let failure = fetch(&directory, &paths.map(|path| resource(&server.url(path)))).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(failure.place.as_ref().unwrap().path, "$.storage.files.2", "{failure}");
    assert_eq!(failure.what, format!("fetching {}", server.url("/missing")));
    assert!(failure.why.contains("404"), "{failure}");
    assert!(is_empty(&directory));
}

#[test]
fn what_is_wrong_with_contents_is_said_with_its_place() {
    let server = Server::http(|exchange| exchange.reply(200, &[], b"hullo"));
    let directory = tempfile::tempdir().unwrap();
    let (url, data) = (server.url("/secret?token=hidden"), "data:,hullo");
    for source in [url.as_str(), data] {
        let wrong = Resource { verification: hash(Function::Sha512, b"hello"), ..resource(source) };
        let failure = fetch(&directory, &[Resource::default(), wrong]).unwrap_err();
        assert_eq!(failure.place.as_ref().unwrap().path, "$.storage.files.1", "{failure}");
        let expected = hash(Function::Sha512, b"hello").hash.unwrap();
        let found = hash(Function::Sha512, b"hullo").hash.unwrap();
        assert!(failure.why.contains(&expected) && failure.why.contains(&found), "{failure}");
        assert!(!failure.to_string().contains("hidden") && !failure.what.contains("hullo"), "{failure}");
        let no_gzip = Resource { compression: Some("gzip".into()), ..resource(source) };
        assert!(fetch(&directory, &[no_gzip]).unwrap_err().why.contains("gzip"));
    }
    assert_eq!(server.seen().len(), 2, "what came whole is not asked for again");
    for (source, word) in [("ftp://h/x", "ftp"), ("data:no-comma", "comma"), ("/etc/passwd", "no URL")] {
        let failure = fetch(&directory, &[resource(source)]).unwrap_err();
        assert!(failure.to_string().contains(word), "{failure}");
    }
    assert!(is_empty(&directory));
}

#[test]
fn a_header_without_a_value_is_refused_before_anything_is_asked() {
    let server = Server::http(|exchange| exchange.reply(200, &[], b"hello"));
    let directory = tempfile::tempdir().unwrap();
    for value in [None, Some(String::new())] {
        let header = HttpHeader { name: "X-Token: s3cr3t".into(), value, ..HttpHeader::default() };
        let resource = Resource { http_headers: vec![header], ..resource(&server.url("/")) };
        let failure = fetch(&directory, &[resource]).unwrap_err();
        assert_eq!(failure.why, "the header \"X-Token\" has no value");
    }
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn without_a_network_only_what_is_at_hand_is_had() {
    let directory = tempfile::tempdir().unwrap();
    let resources = ["data:,x", "http://me:secret@h/y?z=secret"].map(resource);
    let jobs = |count| resources.iter().take(count).map(|resource| job(0, resource, &directory)).collect::<Vec<_>>();
    assert_eq!(fetch_all(&fetcher(true), jobs(1), 1).unwrap().len(), 1);
    let result = fetch_all(&fetcher(true), jobs(2), 1);
    assert!(matches!(&result, Err(Error::NeedNet(what)) if what == "http://h/y?z=..."), "{result:?}");
}

const MIB: usize = 1 << 20;
/// Sixteen of them are 208 MiB.
const SIZE: usize = 13;

/// Not a test of its own: [`memory_does_not_grow_with_files`] runs it in a process of its own.
#[test]
#[ignore = "a part of another test"]
fn memory_child() {
    let Ok(urls) = std::env::var("FLEDGE_TEST_URLS") else { return };
    let directory = tempfile::tempdir().unwrap();
    let zeros = hash_of_zeros();
    let one = |url: &str| {
        let plain = resource(url);
        if !url.ends_with("gz") {
            return plain;
        }
        Resource { compression: Some("gzip".into()), verification: zeros.clone(), ..plain }
    };
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap();
    let objects = |maps: &str| maps.lines().filter(|line| line.contains(".so")).count();
    let before = objects(&maps());
    let authorities = roots::parse_bundle(std::env::var("FLEDGE_TEST_AUTHORITY").unwrap().as_bytes()).unwrap();
    let before_fetching = peak();
    let trusting = fetcher(false).with(Settings { authorities, ..Settings::default() });
    let fetched = fetch_with(&trusting, &directory, &urls.split(' ').map(one).collect::<Vec<_>>()).unwrap();
    assert_eq!(fetched.iter().map(|one| one.size).collect::<Vec<_>>(), vec![SIZE as u64 * MIB as u64; 16]);
    assert_eq!(objects(&maps()), before, "looking up names and fetching load no shared object");
    println!("before {before_fetching} peak {}", peak());
}

/// Peak resident memory of this process, in KiB (proc(5)).
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn hash_of_zeros() -> Verification {
    let mut hasher = Hasher::new(Function::Sha256);
    for _ in 0..SIZE {
        hasher.update(&vec![0; MIB]);
    }
    Verification { hash: Some(hasher.finish().to_string()) }
}

#[test]
fn memory_does_not_grow_with_files() {
    let packed = gzip(&vec![0; SIZE * MIB]);
    let identity = Identity::new(Kind::Good, &["localhost"]).unwrap();
    let server = Server::https(&identity, move |exchange| {
        if exchange.seen.path.ends_with("gz") {
            return exchange.reply(200, &[], &packed);
        }
        exchange.raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", SIZE * MIB).as_bytes())?;
        (0..SIZE).try_for_each(|_| exchange.raw(&vec![0; MIB]))
    });
    let urls: Vec<_> = (0..16)
        .map(|index| server.url(&format!("/{index}{}", if index % 4 == 0 { ".gz" } else { "" })))
        .map(|url| url.replace("127.0.0.1", "localhost"))
        .collect();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fetch_contents::memory_child", "--ignored", "--nocapture", "--test-threads=1"])
        .env("FLEDGE_TEST_URLS", urls.join(" "))
        .env("FLEDGE_TEST_AUTHORITY", identity.authority())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let figure = |name: &str| -> usize {
        let rest = text.split(name).nth(1).unwrap_or_else(|| panic!("{text}"));
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    let (before, peak) = (figure("before "), figure("peak "));
    eprintln!("16 files of {SIZE} MiB at once: from {before} to {peak} KiB at the peak");
    // 16 MiB is the budget of the whole program; this test program, unoptimized, starts out larger than it.
    assert!(peak - before < 12 << 10, "from {before} to {peak} KiB");
}

/// Keeps the file descriptor type of jobs honest: any directory will do.
#[test]
fn a_directory_that_cannot_be_written_to_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let data = resource("data:,x");
    let mut broken = job(3, &data, &directory);
    broken.directory = File::open("/proc").unwrap().as_fd().try_clone_to_owned().unwrap();
    let result = fetch_all(&fetcher(false), vec![broken], 1);
    let Err(Error::Failed(failure)) = result else { panic!("{result:?}") };
    assert!(failure.why.contains("can't be written"), "{failure}");
    assert_eq!(failure.place.unwrap().path, "$.storage.files.3");
}
