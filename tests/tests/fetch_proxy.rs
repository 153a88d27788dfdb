// SPDX-License-Identifier: Apache-2.0
//! Proxies: those that do what they are asked, and those that refuse.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fledge_core::config::{Proxy, Resource};
use fledge_core::proxy::Proxies;
use fledge_stages::fetch::{Conditions, Error, Fetcher};
use fledge_stages::host::net::client::Pace;
use fledge_stages::host::net::{NetFiles, Settings, roots};
use fledge_tests::http::{Identity, Kind, Server};
use fledge_tests::proxy::{Rules, serve};

const ALLOWED: &str = "Basic bWU6c2VjcmV0";

/// Names need no resolving where a proxy is asked, so there is nothing that could.
fn fetch(proxy: &Proxy, authorities: &[&Identity], source: &str) -> Result<String, String> {
    let nowhere = PathBuf::from("/nonexistent");
    let first_wait = Duration::from_millis(20);
    let conditions = Conditions {
        pace: Pace { first_wait, longest_wait: first_wait * 2, few: 2, ..Pace::default() },
        files: NetFiles {
            resolv_conf: nowhere.clone(),
            hosts: nowhere.clone(),
            bundles: vec![nowhere],
            ..NetFiles::default()
        },
        ..Conditions::default()
    };
    let authorities =
        authorities.iter().flat_map(|identity| roots::parse_bundle(identity.authority().as_bytes()).unwrap()).collect();
    let total = Some(Duration::from_secs(3));
    let settings = Settings { total, authorities, proxies: Arc::new(Proxies::of(proxy)), ..Settings::default() };
    let resource = Resource { source: Some(source.into()), ..Resource::default() };
    match Fetcher::new(conditions, settings).to_buffer(&resource, 1 << 20) {
        Ok(bytes) => Ok(String::from_utf8(bytes).unwrap()),
        Err(Error::Failed(failure)) => {
            assert!(failure.remedy.is_some() && !failure.to_string().contains("secret"), "{failure}");
            Err(failure.to_string())
        }
        Err(Error::NeedNet(what)) => panic!("{what}"),
    }
}

fn proxied(url: &str) -> Proxy {
    Proxy { http_proxy: Some(url.into()), https_proxy: Some(url.into()), ..Proxy::default() }
}

/// A server, its certificate, and its URL by a name that only a proxy knows.
fn plain() -> (Server, String) {
    let server = Server::http(|exchange| match exchange.seen.path.as_str() {
        "/away" => {
            let to = format!("http://{}/next", exchange.seen.headers["host"].replace("server", "other"));
            exchange.reply(302, &[("Location", &to)], b"")
        }
        path => exchange.reply(200, &[], format!("this is {path}").as_bytes()),
    });
    let url = format!("http://server.example:{}", server.address().port());
    (server, url)
}

fn secure() -> (Server, Identity, String) {
    let identity = Identity::new(Kind::Good, &["server.example"]).unwrap();
    let server = Server::https(&identity, |exchange| exchange.reply(200, &[], &vec![b'x'; 200_000]));
    let url = format!("https://server.example:{}/x", server.address().port());
    (server, identity, url)
}

#[test]
fn plain_http_goes_to_the_proxy_in_absolute_form() {
    let proxy = Server::http(|exchange| serve(Rules::default(), exchange));
    let (server, url) = plain();
    let settings = proxied(&proxy.url(""));
    assert_eq!(fetch(&settings, &[], &format!("{url}/a b?c=d")).as_deref(), Ok("this is /a%20b?c=d"));
    let [seen] = &proxy.seen()[..] else { panic!("{:?}", proxy.seen()) };
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", &*format!("{url}/a%20b?c=d")));
    assert!(!seen.headers.contains_key("proxy-authorization"));
    assert_eq!(server.seen().len(), 1);
    assert_eq!(fetch(&settings, &[], &format!("{url}/away")).as_deref(), Ok("this is /next"));
    let paths: Vec<_> = proxy.seen().into_iter().skip(1).map(|seen| seen.path).collect();
    assert_eq!(paths, [format!("{url}/away"), format!("{url}/next").replace("server", "other")]);
}

#[test]
fn https_goes_through_a_tunnel() {
    let proxy = Server::http(|exchange| serve(Rules::default(), exchange));
    let (_server, identity, url) = secure();
    assert_eq!(fetch(&proxied(&proxy.url("")), &[&identity], &url).unwrap().len(), 200_000);
    let [seen] = &proxy.seen()[..] else { panic!("{:?}", proxy.seen()) };
    assert!(seen.head.starts_with(&format!("CONNECT {} HTTP/1.1\r\n", url.split('/').nth(2).unwrap())), "{seen:?}");
    assert!(!seen.head.contains("/x"), "what is asked for is nobody's business");
    let stranger = fetch(&proxied(&proxy.url("")), &[&Identity::new(Kind::Good, &["a"]).unwrap()], &url).unwrap_err();
    assert!(stranger.contains("certificate unknown") && stranger.contains(&proxy.url("")), "{stranger}");
}

#[test]
fn a_proxy_is_told_who_asks_and_the_server_is_not() {
    let rules = Rules { credentials: Some(ALLOWED), ..Rules::default() };
    let proxy = Server::http(move |exchange| serve(rules, exchange));
    let with = |user: &str| proxied(&proxy.url("").replace("http://", &format!("http://{user}@")));
    let (server, url) = plain();
    let (other, identity, secure_url) = secure();
    assert_eq!(fetch(&with("me:secret"), &[], &format!("{url}/")).as_deref(), Ok("this is /"));
    assert_eq!(fetch(&with("me:secret"), &[&identity], &secure_url).unwrap().len(), 200_000);
    for seen in server.seen().iter().chain(&other.seen()) {
        assert!(!seen.headers.keys().any(|name| name.contains("auth")), "{seen:?}");
    }
    for target in [&format!("{url}/"), &secure_url] {
        let text = fetch(&with("you:secret2"), &[&identity], target).unwrap_err();
        let expected = format!("the proxy {} refused: it answered 407 Proxy Authentication Required", proxy.url(""));
        assert!(text.contains(&expected) && text.contains("ignition.proxy"), "{text}");
    }
}

#[test]
fn a_proxy_that_is_spoken_to_by_tls_does_both() {
    let own = Identity::new(Kind::Good, &["127.0.0.1"]).unwrap();
    let rules = Rules { credentials: Some(ALLOWED), ..Rules::default() };
    let proxy = Server::https(&own, move |exchange| serve(rules, exchange));
    let settings = proxied(&proxy.url("").replace("https://", "https://me:secret@"));
    let (_server, url) = plain();
    assert_eq!(fetch(&settings, &[&own], &format!("{url}/x")).as_deref(), Ok("this is /x"));
    let (_server, identity, url) = secure();
    assert_eq!(fetch(&settings, &[&own, &identity], &url).unwrap().len(), 200_000);
    let text = fetch(&settings, &[&identity], &url).unwrap_err();
    assert!(text.contains("certificate unknown") && text.contains(&proxy.url("")), "{text}");
}

#[test]
fn a_proxy_that_refuses_is_named_with_its_answer() {
    for (status, words) in [(403, "403 Forbidden"), (502, "502 Bad Gateway")] {
        let proxy = Server::http(move |exchange| serve(Rules { refuse: Some(status), ..Rules::default() }, exchange));
        let (_server, identity, secure_url) = secure();
        let text = fetch(&proxied(&proxy.url("")), &[&identity], &secure_url).unwrap_err();
        let expected = format!("the proxy {} refused: it answered {words} to CONNECT", proxy.url(""));
        assert!(text.contains(&expected) && text.contains("noProxy"), "{text}");
        assert_eq!(proxy.seen().len() > 1, status == 502, "only what may pass is asked for again");
        let (server, url) = plain();
        let text = fetch(&proxied(&proxy.url("")), &[], &format!("{url}/")).unwrap_err();
        let expected = format!("the server answered {words} (asked through the proxy {})", proxy.url(""));
        assert!(text.contains(&expected), "{text}");
        assert_eq!(server.seen().len(), 0);
    }
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for target in ["http://server.example/", "https://server.example/"] {
        let identity = Identity::new(Kind::Good, &["a"]).unwrap();
        let text = fetch(&proxied(&format!("http://{nobody}")), &[&identity], target).unwrap_err();
        assert!(text.contains(&format!("the proxy http://{nobody} can't be reached: connection refused")), "{text}");
        let text = fetch(&proxied("http://proxy.example:3128"), &[&identity], target).unwrap_err();
        assert!(text.contains("the proxy http://proxy.example:3128 can't be reached: name not found"), "{text}");
    }
    // One that talks nonsense, and one that hangs up.
    for nonsense in [&b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..], b""] {
        let proxy = Server::http(move |exchange| {
            exchange.close();
            exchange.raw(nonsense)
        });
        let identity = Identity::new(Kind::Good, &["a"]).unwrap();
        let text = fetch(&proxied(&proxy.url("")), &[&identity], "https://server.example/").unwrap_err();
        assert!(text.contains(&proxy.url("")), "{text}");
    }
}

#[test]
fn exceptions_are_asked_directly() {
    let proxy = Server::http(|exchange| serve(Rules::default(), exchange));
    let (server, _) = plain();
    for no_proxy in ["127.0.0.0/8", "*", "nothing.example"] {
        let settings = Proxy { no_proxy: vec![no_proxy.into()], ..proxied(&proxy.url("")) };
        assert_eq!(fetch(&settings, &[], &server.url("/x")).as_deref(), Ok("this is /x"), "loopback is always direct");
    }
    let settings = Proxy { no_proxy: vec!["server.example".into()], ..proxied(&proxy.url("")) };
    let text = fetch(&settings, &[], "http://www.server.example/").unwrap_err();
    assert!(text.contains("name not found") && !text.contains("the proxy"), "{text}");
    let only_http = Proxy { https_proxy: None, ..proxied(&proxy.url("")) };
    let identity = Identity::new(Kind::Good, &["a"]).unwrap();
    let text = fetch(&only_http, &[&identity], "https://server.example/").unwrap_err();
    assert!(text.contains("name not found") && !text.contains("the proxy"), "{text}");
    assert_eq!(proxy.seen().len(), 0);
}

#[test]
fn tftp_knows_no_proxy() {
    use fledge_tests::tftp::{Manners, Server as Tftp};
    let proxy = Server::http(|exchange| serve(Rules::default(), exchange));
    let settings = proxied(&proxy.url(""));
    let server = Tftp::start("/x", b"by datagrams".to_vec(), Manners::default());
    assert_eq!(fetch(&settings, &[], &server.url("/x")).as_deref(), Ok("by datagrams"));
    let lying = Tftp::start("/x", b"by datagrams".to_vec(), Manners { size: Some(1), ..Manners::default() });
    let text = fetch(&settings, &[], &lying.url("/x")).unwrap_err();
    assert!(text.contains("truncated") && !text.contains("proxy"), "{text}");
    assert_eq!(proxy.seen().len(), 0);
}
