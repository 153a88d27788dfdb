// SPDX-License-Identifier: Apache-2.0
use alloc::string::ToString as _;

use super::*;

#[test]
fn takes_urls_apart() {
    let url = Url::parse("HTTPS://us%40er:p%3Aw@Example.org:8443/a%20b/c?x=1&y=a%20b#frag").unwrap();
    assert_eq!(url.scheme(), "https");
    assert_eq!((url.user(), url.password()), (Some("us@er"), Some("p:w")));
    assert_eq!((url.host(), url.port(), url.path()), ("Example.org", Some(8443), "/a%20b/c"));
    assert_eq!(url.query(), Some("x=1&y=a%20b"));
    assert_eq!(url.query_value("y").as_deref(), Some("a b"));
    assert_eq!(url.query_value("z"), None);
    assert_eq!(url.to_string(), "https://us%40er:p%3Aw@Example.org:8443/a%20b/c?x=1&y=a%20b");
    assert_eq!(url.redacted(), "https://Example.org:8443/a%20b/c?x=...&y=...");
    assert_eq!(url.host_header(), "Example.org:8443");
}

#[test]
fn reads_every_scheme_and_host_form() {
    for (text, host, port, path, header, target) in [
        ("http://h", "h", Some(80), "", "h", "/"),
        ("http://h?q", "h", Some(80), "", "h", "/?q"),
        ("http://h:80/x", "h", Some(80), "/x", "h", "/x"),
        ("http://h:/x", "h", Some(80), "/x", "h", "/x"),
        ("https://h:80/x", "h", Some(80), "/x", "h:80", "/x"),
        ("http://[2001:db8::1]:8080/x", "2001:db8::1", Some(8080), "/x", "[2001:db8::1]:8080", "/x"),
        ("http://[fe80::1%25eth0]/x", "fe80::1%eth0", Some(80), "/x", "[fe80::1]", "/x"),
        ("tftp://192.0.2.1/pxe/config.ign", "192.0.2.1", Some(69), "/pxe/config.ign", "192.0.2.1", "/pxe/config.ign"),
        ("s3://bucket/key?versionId=3", "bucket", None, "/key", "bucket", "/key?versionId=3"),
        ("gs://bucket/o", "bucket", None, "/o", "bucket", "/o"),
        ("http://h/a b/\u{e9}?q=\u{e9}\"", "h", Some(80), "/a b/\u{e9}", "h", "/a%20b/%C3%A9?q=%C3%A9%22"),
        ("arn:aws:s3:::b/k?versionId=1", "", None, "aws:s3:::b/k", "", "/aws:s3:::b/k?versionId=1"),
    ] {
        let url = Url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let got = (url.host(), url.port_or_default(), url.path(), &*url.host_header(), &*url.request_target());
        assert_eq!(got, (host, port, path, header, target), "{text}");
    }
    let with_zone = Url::parse("http://[fe80::1%25eth0]:1/x").unwrap();
    assert_eq!(Url::parse(&with_zone.to_string()).unwrap(), with_zone);
}

#[test]
fn says_why_a_text_is_no_url() {
    for (text, error) in [
        ("", UrlError::NoScheme),
        ("/etc/x", UrlError::NoScheme),
        ("example.org/x", UrlError::NoScheme),
        ("1http://h/", UrlError::NoScheme),
        (":x", UrlError::NoScheme),
        ("http://h/\n", UrlError::ControlCharacter),
        ("http://h/%zz", UrlError::Escape),
        ("http://h/%4", UrlError::Escape),
        ("http://h%zz/", UrlError::Escape),
        ("http://a b/", UrlError::Host),
        ("http://[::1/", UrlError::Ipv6),
        ("http://[h]/", UrlError::Ipv6),
        ("http://[::1]8/", UrlError::Port),
        ("http://h:port/", UrlError::Port),
        ("http://h:65536/", UrlError::Port),
        ("http://h:-1/", UrlError::Port),
        ("http://::1/", UrlError::Port),
        ("http:///x", UrlError::NoHost),
        ("http:x", UrlError::NoHost),
        ("s3:///key", UrlError::NoHost),
    ] {
        assert_eq!(Url::parse(text), Err(error), "{text}");
    }
}

#[test]
fn follows_redirects() {
    let base = Url::parse("http://u:p@h:8080/a/b/c?x=1").unwrap();
    for (location, target) in [
        ("https://other/x", "https://other/x"),
        ("//other/x", "http://other/x"),
        ("/x?y", "http://u:p@h:8080/x?y"),
        ("x", "http://u:p@h:8080/a/b/x"),
        ("../x", "http://u:p@h:8080/a/x"),
        ("../../../x", "http://u:p@h:8080/x"),
        ("./", "http://u:p@h:8080/a/b/"),
        ("..", "http://u:p@h:8080/a/"),
        ("?y=2", "http://u:p@h:8080/a/b/c?y=2"),
        ("", "http://u:p@h:8080/a/b/c?x=1"),
        ("#f", "http://u:p@h:8080/a/b/c?x=1"),
    ] {
        assert_eq!(base.join(location).unwrap().to_string(), target, "{location}");
    }
    assert_eq!(base.join("/%q"), Err(UrlError::Escape));
    assert_eq!(base.join("ftp://[x"), Err(UrlError::Ipv6));
}

#[test]
fn no_secret_is_in_a_redacted_url() {
    let secret = "hunter2";
    for text in [
        "https://user:hunter2@h/x",
        "https://hunter2@h/x",
        "https://h/x?token=hunter2",
        "https://h/x?a=1&token=hunter2&b",
        "https://h/x?hunter2",
        "https://h/x?a=1&hunter2",
        "data:,hunter2",
        "data:;base64,hunter2=",
        "https://h:port/hunter2",
    ] {
        assert!(!redact(text).contains(secret), "{text}");
        if let Ok(url) = Url::parse(text) {
            assert!(!url.redacted().contains(secret), "{text}");
            assert!(!alloc::format!("{url:?}").contains(secret), "{text}");
        }
    }
    assert_eq!(redact("data:,hunter2"), "data:... (13 bytes)");
}

#[test]
fn parts_are_escaped_and_paths_are_not() {
    assert_eq!(escape("a b/\u{e9}+~", true), "a%20b/%C3%A9%2B~");
    assert_eq!(escape("a/b//", false), "a%2Fb%2F%2F");
    assert_eq!(Url::parse("tftp://h/a%20b/%C3%A9").unwrap().decoded_path(), "/a b/\u{e9}");
}
