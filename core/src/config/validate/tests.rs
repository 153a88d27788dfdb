// SPDX-License-Identifier: Apache-2.0
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use crate::config::{Refusal, Version, parse};
use crate::diag::Severity;

use Severity::{Error, Warning};

/// What is said about a config of that version whose other sections are `sections`.
fn said(version: Version, sections: &str) -> Vec<(Severity, String)> {
    let text = format!("{{\"ignition\": {{\"version\": \"{version}\"}}, {sections}}}");
    let diagnostics = match parse(text.as_bytes(), "t", None) {
        Ok(parsed) => parsed.warnings,
        Err(Refusal::Invalid(diagnostics)) => diagnostics,
        Err(Refusal::Empty) => panic!("{text}"),
    };
    for diagnostic in &diagnostics {
        assert!(diagnostic.place.position.is_some(), "{text}: {diagnostic}");
    }
    diagnostics.into_iter().map(|d| (d.severity, d.place.path)).collect()
}

/// Holds a list of cases against the newest version.
fn table(wrap: impl Fn(&str) -> String, base: &str, cases: &[(&str, &[(Severity, &str)])]) {
    for (inner, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|(severity, path)| (*severity, format!("{base}{path}"))).collect();
        assert_eq!(said(Version::LATEST, &wrap(inner)), expected, "{inner}");
    }
}

/// Holds a config against every version: it is right from `since` on (or before, if `until` is given), and else has an error
/// at that path.
fn since(sections: &str, path: &str, right: impl Fn(Version) -> bool) {
    for version in Version::ALL {
        let errors: Vec<_> = said(version, sections).into_iter().filter(|(severity, _)| *severity == Error).collect();
        let expected = if right(version) { Vec::new() } else { Vec::from([(Error, path.into())]) };
        assert_eq!(errors, expected, "{version}: {sections}");
    }
}

#[test]
fn paths_are_absolute_and_simple() {
    table(
        |inner| format!("\"storage\": {{\"files\": [{{{inner}}}]}}"),
        "$.storage.files.0",
        &[
            ("\"path\": \"/a\"", &[]),
            ("\"path\": \"/\"", &[]),
            ("\"path\": \"/a/b.c/..d\"", &[]),
            ("", &[(Error, ".path")]),
            ("\"path\": null", &[(Error, ".path")]),
            ("\"path\": \"\"", &[(Error, ".path")]),
            ("\"path\": \"a\"", &[(Error, ".path")]),
            ("\"path\": \"./a\"", &[(Error, ".path")]),
            ("\"path\": \"/a/\"", &[(Error, ".path")]),
            ("\"path\": \"//a\"", &[(Error, ".path")]),
            ("\"path\": \"/a/./b\"", &[(Error, ".path")]),
            ("\"path\": \"/a/../b\"", &[(Error, ".path")]),
            ("\"path\": \"/a\\u0000b\"", &[(Error, ".path")]),
        ],
    );
}

#[test]
fn paths_that_linux_has_no_room_for() {
    for (path, fits) in [
        (format!("/{}", "n".repeat(255)), true),
        (format!("/{}", "n".repeat(256)), false),
        ("/nn".repeat(1365), true),
        ("/nn".repeat(1366), false),
    ] {
        let expected = if fits { Vec::new() } else { Vec::from([(Error, "$.storage.files.0.path".into())]) };
        assert_eq!(said(Version::LATEST, &format!(r#""storage": {{"files": [{{"path": "{path}"}}]}}"#)), expected);
    }
}

#[test]
fn owners_and_modes() {
    table(
        |inner| format!("\"storage\": {{\"directories\": [{{\"path\": \"/a\", {inner}}}]}}"),
        "$.storage.directories.0",
        &[
            ("\"user\": {\"id\": 0}, \"group\": {\"name\": \"wheel\"}", &[]),
            ("\"user\": {\"id\": 0, \"name\": \"\"}", &[]),
            ("\"user\": {\"id\": 0, \"name\": \"root\"}", &[(Error, ".user")]),
            ("\"group\": {\"id\": 1, \"name\": \"x\"}", &[(Error, ".group")]),
            ("\"group\": {\"id\": -1}", &[(Error, ".group.id")]),
            ("\"user\": {\"id\": 4294967295}", &[(Error, ".user.id")]),
            ("\"user\": {\"id\": 4294967294}", &[]),
            ("\"mode\": 0", &[]),
            ("\"mode\": 4095", &[]),
            ("\"mode\": 4096", &[(Error, ".mode")]),
            ("\"mode\": -1", &[(Error, ".mode")]),
            ("\"mode\": 493", &[]),
            ("\"mode\": 755", &[(Warning, ".mode")]),
        ],
    );
}

#[test]
fn files() {
    table(
        |inner| format!("\"storage\": {{\"files\": [{{\"path\": \"/a\", {inner}}}]}}"),
        "$.storage.files.0",
        &[
            ("\"overwrite\": true, \"contents\": {\"source\": \"data:,\"}", &[]),
            ("\"overwrite\": true, \"contents\": {\"source\": \"\"}", &[]),
            ("\"overwrite\": false", &[]),
            ("\"overwrite\": true", &[(Error, ".overwrite")]),
            ("\"append\": [{\"source\": \"data:,a\"}, {\"source\": \"data:,a\"}]", &[]),
            ("\"append\": [{\"source\": \"data:,a\"}, {\"source\": \"x\"}]", &[(Error, ".append.1.source")]),
        ],
    );
}

#[test]
fn one_path_is_written_once() {
    let both = |lists: &str| said(Version::LATEST, &format!("\"storage\": {{{lists}}}"));
    let link = "{\"path\": \"/a\", \"target\": \"b\"}";
    assert_eq!(both("\"files\": [{\"path\": \"/a\"}, {\"path\": \"/b\"}]"), []);
    assert_eq!(both("\"files\": [{\"path\": \"/a\"}, {\"path\": \"/a\"}]"), [(Error, "$.storage.files.1".into())]);
    assert_eq!(
        both("\"files\": [{\"path\": \"/a\"}], \"directories\": [{\"path\": \"/a\"}]"),
        [(Error, "$.storage.files.0".into())]
    );
    assert_eq!(
        both(&format!("\"links\": [{link}], \"directories\": [{{\"path\": \"/a\"}}]")),
        [(Error, "$.storage.links.0".into())]
    );
    // Both places are named.
    let text = br#"{"ignition": {"version": "3.6.0"}, "storage": {"files": [{"path": "/a"}], "directories": [{"path": "/a"}]}}"#;
    let Err(Refusal::Invalid(twice)) = parse(text, "t", None) else { panic!() };
    assert!(twice[0].reason.contains("$.storage.directories.0"), "{}", twice[0]);

    let unit = |storage: &str, unit: &str| {
        said(Version::LATEST, &format!("\"storage\": {{{storage}}}, \"systemd\": {{\"units\": [{unit}]}}"))
    };
    let service = "{\"name\": \"x.service\", \"contents\": \"[A]\\n\"}";
    let dropin = "{\"name\": \"x.service\", \"dropins\": [{\"name\": \"d.conf\", \"contents\": \"[A]\\n\"}]}";
    let files = |path: &str| format!("\"files\": [{{\"path\": \"/etc/systemd/system/x.service{path}\"}}]");
    let error = |list: &str| Vec::from([(Error, format!("$.storage.{list}.0.path"))]);
    assert_eq!(unit(&files(""), service), error("files"));
    assert_eq!(unit(&files(""), dropin), []);
    assert_eq!(unit(&files(".d/d.conf"), dropin), error("files"));
    assert_eq!(unit(&files(""), "{\"name\": \"x.service\", \"contents\": \"\"}"), []);
    assert_eq!(unit(&files("").replace("files", "directories"), service), error("directories"));
    assert_eq!(
        unit(&files("").replace("files", "links").replace("\"}", "\", \"target\": \"x\"}"), service),
        error("links")
    );
}

#[test]
fn nothing_is_written_below_a_link_or_a_file() {
    table(
        |inner| {
            format!(
                "\"storage\": {{\"links\": [{{\"path\": \"/a/l\", \"target\": \"/t\"}}], \"files\": [{{\"path\": \"/f\"}}], {inner}}}"
            )
        },
        "$.storage",
        &[
            ("\"directories\": [{\"path\": \"/a\"}, {\"path\": \"/a/ll/x\"}]", &[]),
            ("\"directories\": [{\"path\": \"/a/l/x\"}]", &[(Error, ".directories.0")]),
            ("\"directories\": [{\"path\": \"/a/l/x/y\"}]", &[(Error, ".directories.0")]),
            ("\"directories\": [{\"path\": \"/f/x\"}]", &[(Error, ".directories.0")]),
        ],
    );
    table(
        |inner| {
            format!(
                "\"storage\": {{\"links\": [{{\"path\": \"/a\", \"target\": \"/t\"}}, {{\"path\": \"{inner}\", \"target\": \"x\"}}]}}"
            )
        },
        "$.storage",
        &[("/ab", &[]), ("/a/b", &[(Error, ".links.1")])],
    );
}

#[test]
fn links() {
    table(
        |inner| {
            format!(
                "\"storage\": {{\"directories\": [{{\"path\": \"/d\"}}, {{\"path\": \"/l/e\"}}], \"links\": [{inner}]}}"
            )
        },
        "$.storage",
        &[
            ("{\"path\": \"/k\", \"target\": \"anything at all/../\"}", &[]),
            ("{\"path\": \"/k\", \"target\": \"/d\"}", &[]),
            ("{\"path\": \"/k\"}", &[(Error, ".links.0.target")]),
            ("{\"path\": \"/k\", \"target\": \"\"}", &[(Error, ".links.0.target")]),
            ("{\"path\": \"/k\", \"target\": \"/x\", \"hard\": true}", &[]),
            ("{\"path\": \"/k\", \"target\": \"/x/../d\", \"hard\": true}", &[(Error, ".links.0")]),
            ("{\"path\": \"/k\", \"target\": \"../d\", \"hard\": true}", &[(Error, ".links.0")]),
            ("{\"path\": \"/k\", \"target\": \"/x\", \"user\": {\"id\": 1}}", &[]),
            (
                "{\"path\": \"/k\", \"target\": \"/x\", \"hard\": true, \"user\": {\"id\": 1}, \"group\": {\"name\": \"g\"}}",
                &[(Warning, ".links.0.user.id"), (Warning, ".links.0.group.name")],
            ),
        ],
    );
    since("\"storage\": {\"links\": [{\"path\": \"/k\"}]}", "$.storage.links.0.target", |version| {
        version < Version::V3_3
    });
}

#[test]
fn resources() {
    let hash = |function: &str, digits: usize| format!("{function}-{}", "a".repeat(digits));
    let (sha512, sha256) = (hash("sha512", 128), hash("sha256", 64));
    let contents =
        |inner: &str| format!("\"storage\": {{\"files\": [{{\"path\": \"/a\", \"contents\": {{{inner}}}}}]}}");
    table(
        contents,
        "$.storage.files.0.contents",
        &[
            ("\"source\": \"data:,x\", \"compression\": \"gzip\"", &[]),
            ("\"source\": \"data:,x\", \"compression\": \"\"", &[]),
            ("\"source\": \"data:,x\", \"compression\": \"xz\"", &[(Error, ".compression")]),
            ("\"compression\": \"gzip\"", &[]),
            ("\"source\": \"\"", &[]),
            (&format!("\"source\": \"data:,x\", \"verification\": {{\"hash\": \"{sha512}\"}}"), &[]),
            (&format!("\"source\": \"data:,x\", \"verification\": {{\"hash\": \"{sha256}\"}}"), &[]),
            (&format!("\"verification\": {{\"hash\": \"{sha256}\"}}"), &[(Error, ".verification.hash")]),
            ("\"source\": \"data:,x\", \"verification\": {\"hash\": \"\"}", &[(Error, ".verification.hash")]),
            ("\"source\": \"data:,x\", \"verification\": {\"hash\": \"md5-aa\"}", &[(Error, ".verification.hash")]),
            ("\"source\": \"data:,x\", \"verification\": {\"hash\": \"sha512-aa\"}", &[(Error, ".verification.hash")]),
            (
                "\"source\": \"http://h\", \"httpHeaders\": [{\"name\": \"A\", \"value\": \"b\"}, {\"name\": \"B\"}]",
                &[],
            ),
            (
                "\"source\": \"data:,\", \"httpHeaders\": [{\"name\": \"A\", \"value\": \"b\"}]",
                &[(Error, ".httpHeaders")],
            ),
            ("\"httpHeaders\": [{\"name\": \"A\", \"value\": \"b\"}]", &[(Error, ".httpHeaders")]),
            ("\"httpHeaders\": []", &[]),
            ("\"source\": \"http://h\", \"httpHeaders\": [{\"value\": \"b\"}]", &[(Error, ".httpHeaders.0.name")]),
            (
                "\"source\": \"http://h\", \"httpHeaders\": [{\"name\": \"A B\", \"value\": \"b\"}]",
                &[(Error, ".httpHeaders.0.name")],
            ),
            (
                "\"source\": \"http://h\", \"httpHeaders\": [{\"name\": \"A\", \"value\": \"\"}]",
                &[(Error, ".httpHeaders.0.value")],
            ),
            (
                "\"source\": \"http://h\", \"httpHeaders\": [{\"name\": \"A\", \"value\": \"b\\r\\nC: d\"}]",
                &[(Error, ".httpHeaders.0.value")],
            ),
            (
                "\"source\": \"http://h\", \"httpHeaders\": [{\"name\": \"A\", \"value\": \"b\"}, {\"name\": \"A\", \"value\": \"c\"}]",
                &[(Error, ".httpHeaders.1")],
            ),
        ],
    );
    let sha256 = contents(&format!("\"source\": \"data:,x\", \"verification\": {{\"hash\": \"{sha256}\"}}"));
    since(&sha256, "$.storage.files.0.contents.verification.hash", |version| version >= Version::V3_1);
    let sha512 = contents(&format!("\"source\": \"data:,x\", \"verification\": {{\"hash\": \"{sha512}\"}}"));
    since(&sha512, "", |_| true);
}

#[test]
fn urls() {
    let source = |url: &str| {
        format!("\"storage\": {{\"files\": [{{\"path\": \"/a\", \"contents\": {{\"source\": \"{url}\"}}}}]}}")
    };
    let path = "$.storage.files.0.contents.source";
    for url in [
        "http://h/x",
        "HTTPS://u:p@h:1/x?y",
        "tftp://h/x",
        "s3://b/k",
        "s3://b/k?versionId=1",
        "data:,",
        "data:text/plain;base64,eA==",
    ] {
        since(&source(url), path, |_| true);
    }
    since(&source("gs://b/o"), path, |version| version >= Version::V3_2);
    for url in ["arn:aws:s3:::b/k", "arn:aws:s3:::b/k?versionId=1", "arn:aws:s3:us-east-1:1:accesspoint/n/object/k"] {
        since(&source(url), path, |version| version >= Version::V3_4);
    }
    for url in [
        "x",
        "/x",
        "ftp://h/x",
        "oem:///x",
        "http://",
        "http://h/%zz",
        "s3://b/k?versionId=",
        "s3://b/k?versionId",
        "arn:aws:s3:::b",
        "arn:aws:s3:b/k",
        "arn:aws:ec2:::b/k",
        "arn:aws:s3:us-east-1:1:accesspoint/n",
        "arn:aws:s3:::b/k?versionId=",
        "data:x",
        "data:,a b",
        "data:;base64,x",
    ] {
        since(&source(url), path, |_| false);
    }
}

#[test]
fn no_url_is_repeated_in_a_message() {
    for url in ["https://user:hunter2@h/%zz", "https://h:port/?hunter2", "hunter2", "data:hunter2", "ftp://hunter2@h/"]
    {
        let text = format!(
            "{{\"ignition\": {{\"version\": \"3.6.0\", \"config\": {{\"replace\": {{\"source\": \"{url}\"}}}}, \"proxy\": {{\"httpProxy\": \"{url}\"}}}}}}"
        );
        let refusal = parse(text.as_bytes(), "t", None).unwrap_err();
        assert!(!format!("{refusal}").contains("hunter2"), "{refusal}");
    }
}

#[test]
fn references_proxies_and_time_limits() {
    let ignition = |version: Version, inner: &str| {
        let text = format!("{{\"ignition\": {{\"version\": \"{version}\", {inner}}}}}");
        match parse(text.as_bytes(), "t", None) {
            Ok(parsed) => parsed.warnings,
            Err(Refusal::Invalid(said)) => said,
            Err(Refusal::Empty) => panic!(),
        }
    };
    let cases: &[(&str, &[(Severity, &str)])] = &[
        ("\"config\": {\"merge\": [{\"source\": \"http://a\"}, {\"source\": \"http://b\"}]}", &[]),
        (
            "\"config\": {\"merge\": [{\"source\": \"http://a\"}, {\"source\": \"http://a\"}]}",
            &[(Error, ".config.merge.1")],
        ),
        ("\"config\": {\"merge\": [{}]}", &[(Error, ".config.merge.0")]),
        ("\"config\": {\"merge\": [{\"source\": \"\"}]}", &[(Error, ".config.merge.0")]),
        ("\"config\": {\"replace\": {}}", &[]),
        ("\"security\": {\"tls\": {\"certificateAuthorities\": [{\"source\": \"data:,x\"}]}}", &[]),
        (
            "\"security\": {\"tls\": {\"certificateAuthorities\": [{}]}}",
            &[(Error, ".security.tls.certificateAuthorities.0")],
        ),
        ("\"proxy\": {\"httpProxy\": \"http://p:1\", \"httpsProxy\": \"https://p\", \"noProxy\": [\"a\"]}", &[]),
        ("\"proxy\": {\"httpsProxy\": \"http://p\"}", &[(Warning, ".proxy.httpsProxy")]),
        ("\"proxy\": {\"httpProxy\": \"ftp://p\"}", &[(Error, ".proxy.httpProxy")]),
        ("\"proxy\": {\"httpProxy\": \"p:1\"}", &[(Error, ".proxy.httpProxy")]),
        ("\"proxy\": {\"httpProxy\": \"\"}", &[(Error, ".proxy.httpProxy")]),
        ("\"proxy\": {\"noProxy\": [\"a\", \"a\"]}", &[(Error, ".proxy.noProxy.1")]),
        ("\"timeouts\": {\"httpTotal\": 0, \"httpResponseHeaders\": 0}", &[]),
        ("\"timeouts\": {\"httpTotal\": -1}", &[(Error, ".timeouts.httpTotal")]),
        ("\"timeouts\": {\"httpResponseHeaders\": -1}", &[(Warning, ".timeouts.httpResponseHeaders")]),
    ];
    for (inner, expected) in cases {
        let got: Vec<_> = ignition(Version::LATEST, inner).into_iter().map(|d| (d.severity, d.place.path)).collect();
        let expected: Vec<_> =
            expected.iter().map(|(severity, path)| (*severity, format!("$.ignition{path}"))).collect();
        assert_eq!(got, expected, "{inner}");
    }
    for version in Version::ALL {
        let missing = ignition(version, "\"config\": {\"merge\": [{}]}");
        assert_eq!(missing.is_empty(), version < Version::V3_1, "{version}");
        let unfounded = ignition(
            version,
            &format!("\"config\": {{\"replace\": {{\"verification\": {{\"hash\": \"sha512-{}\"}}}}}}", "a".repeat(128)),
        );
        assert_eq!(unfounded.is_empty(), version < Version::V3_1, "{version}");
    }
}

#[test]
fn kernel_arguments_are_wanted_or_not() {
    table(
        |inner| format!("\"kernelArguments\": {{{inner}}}"),
        "$.kernelArguments",
        &[
            ("\"shouldExist\": [\"a\", \"b\"], \"shouldNotExist\": [\"c\"]", &[]),
            ("\"shouldExist\": [\"a\", \"a\"]", &[(Error, ".shouldExist.1")]),
            ("\"shouldExist\": [\"a\"], \"shouldNotExist\": [\"a\"]", &[(Error, ".shouldNotExist.0")]),
            ("\"shouldExist\": [\"\"]", &[(Warning, ".shouldExist.0")]),
        ],
    );
}

#[test]
fn users_and_groups() {
    table(
        |inner| format!("\"passwd\": {{{inner}}}"),
        "$.passwd",
        &[
            (
                "\"users\": [{\"name\": \"core\", \"passwordHash\": \"$y$j9T$x\", \"sshAuthorizedKeys\": [\"ssh-ed25519 AAAA x\", \"\"]}]",
                &[],
            ),
            (
                "\"users\": [{\"name\": \"a\"}, {\"name\": \"a\"}], \"groups\": [{\"name\": \"a\"}]",
                &[(Error, ".users.1")],
            ),
            ("\"groups\": [{\"name\": \"a\"}, {\"name\": \"a\"}]", &[(Error, ".groups.1")]),
            ("\"users\": [{}]", &[(Error, ".users.0.name")]),
            ("\"users\": [{\"name\": \"a:b\"}]", &[(Error, ".users.0.name")]),
            ("\"users\": [{\"name\": \"-a\"}]", &[(Error, ".users.0.name")]),
            ("\"users\": [{\"name\": \"+a\"}]", &[(Error, ".users.0.name")]),
            ("\"groups\": [{\"name\": \"..\"}]", &[(Error, ".groups.0.name")]),
            ("\"users\": [{\"name\": \"a\", \"gecos\": \"x:y\"}]", &[(Error, ".users.0.gecos")]),
            ("\"users\": [{\"name\": \"a\", \"homeDir\": \"/a\\u0000\"}]", &[(Error, ".users.0.homeDir")]),
            ("\"users\": [{\"name\": \"a\", \"homeDir\": \"a\"}]", &[(Error, ".users.0.homeDir")]),
            ("\"users\": [{\"name\": \"a\", \"shell\": \"bash\"}]", &[(Error, ".users.0.shell")]),
            ("\"users\": [{\"name\": \"a\", \"shell\": \"\", \"homeDir\": \"\"}]", &[]),
            ("\"groups\": [{\"name\": \"a b\"}]", &[(Error, ".groups.0.name")]),
            ("\"users\": [{\"name\": \"a\", \"uid\": -1}]", &[(Error, ".users.0.uid")]),
            ("\"groups\": [{\"name\": \"a\", \"gid\": 4294967295}]", &[(Error, ".groups.0.gid")]),
            ("\"users\": [{\"name\": \"a\", \"passwordHash\": \"x:y\"}]", &[(Error, ".users.0.passwordHash")]),
            ("\"users\": [{\"name\": \"a\", \"groups\": [\"g\", \"g\"]}]", &[(Error, ".users.0.groups.1")]),
            (
                "\"users\": [{\"name\": \"a\", \"sshAuthorizedKeys\": [\"k 1\", \"k 1\"]}]",
                &[(Error, ".users.0.sshAuthorizedKeys.1")],
            ),
            (
                "\"users\": [{\"name\": \"a\", \"sshAuthorizedKeys\": [\"AAAAB3\"]}]",
                &[(Warning, ".users.0.sshAuthorizedKeys.0")],
            ),
            (
                "\"users\": [{\"name\": \"a\", \"sshAuthorizedKeys\": [\"-----BEGIN OPENSSH PRIVATE KEY-----\\nx\"]}]",
                &[(Warning, ".users.0.sshAuthorizedKeys.0")],
            ),
        ],
    );
}

#[test]
fn units() {
    let install = "[Install]\\nWantedBy=x\\n";
    table(
        |inner| format!("\"systemd\": {{\"units\": [{inner}]}}"),
        "$.systemd.units",
        &[
            ("{\"name\": \"a.service\"}, {\"name\": \"b.timer\"}", &[]),
            ("{\"name\": \"a.service\"}, {\"name\": \"a.service\"}", &[(Error, ".1")]),
            ("{\"name\": \"a\"}", &[(Error, ".0.name")]),
            ("{\"contents\": \"\"}", &[(Error, ".0.name")]),
            ("{\"name\": \"../a.service\"}", &[(Error, ".0.name")]),
            ("{\"name\": \"a b.service\"}", &[(Warning, ".0.name")]),
            ("{\"name\": \"a.service\", \"contents\": \"[Unit\"}", &[(Error, ".0.contents")]),
            ("{\"name\": \"a.service\", \"enabled\": true}", &[]),
            ("{\"name\": \"a.service\", \"enabled\": true, \"contents\": \"\"}", &[]),
            ("{\"name\": \"a.service\", \"contents\": \"[Unit]\\n\"}", &[]),
            ("{\"name\": \"a.service\", \"enabled\": false, \"contents\": \"[Unit]\\n\"}", &[]),
            ("{\"name\": \"a.service\", \"enabled\": true, \"contents\": \"[Unit]\\n\"}", &[(Warning, ".0.contents")]),
            (&format!("{{\"name\": \"a.service\", \"enabled\": true, \"contents\": \"{install}\"}}"), &[]),
            (
                "{\"name\": \"a@.service\", \"contents\": \"[Unit]\\n\"}, {\"name\": \"a@b.service\", \"enabled\": true}",
                &[(Warning, ".1.contents")],
            ),
            (
                &format!(
                    "{{\"name\": \"a@.service\", \"contents\": \"{install}\"}}, {{\"name\": \"a@b.service\", \"enabled\": true}}"
                ),
                &[],
            ),
            ("{\"name\": \"a.service\", \"dropins\": [{\"name\": \"a.conf\", \"contents\": \"[A]\\nx=1\"}]}", &[]),
            (
                "{\"name\": \"a.service\", \"dropins\": [{\"name\": \"a.conf\"}, {\"name\": \"a.conf\"}]}",
                &[(Error, ".0.dropins.1")],
            ),
            ("{\"name\": \"a.service\", \"dropins\": [{\"name\": \"a.config\"}]}", &[(Error, ".0.dropins.0.name")]),
            ("{\"name\": \"a.service\", \"dropins\": [{\"name\": \"../a.conf\"}]}", &[(Error, ".0.dropins.0.name")]),
            (
                "{\"name\": \"a.service\", \"dropins\": [{\"name\": \"a.conf\", \"contents\": \"[A]\\nx\"}]}",
                &[(Error, ".0.dropins.0.contents")],
            ),
        ],
    );
}

#[test]
fn shared_file_systems() {
    let shared = |inner: &str| format!("\"storage\": {{\"filesystems\": [{{\"format\": \"virtiofs\", {inner}}}]}}");
    let (fits, long) = (format!("\"device\": \"{}\"", "t".repeat(36)), format!("\"device\": \"{}\"", "t".repeat(37)));
    table(
        shared,
        "$.storage.filesystems.0",
        &[
            ("\"device\": \"my tag\", \"path\": \"/var/shared\", \"mountOptions\": [\"ro\"]", &[]),
            ("\"device\": \"t\", \"label\": \"\", \"uuid\": \"\", \"wipeFilesystem\": false, \"options\": []", &[]),
            (&fits, &[]),
            (&long, &[(Error, ".device")]),
            ("\"device\": \"\"", &[(Error, ".device")]),
            ("\"path\": \"/a\"", &[(Error, ".device")]),
            ("\"device\": \"t\", \"path\": \"a\"", &[(Error, ".path")]),
            ("\"device\": \"t\", \"label\": \"x\"", &[(Error, ".label")]),
            ("\"device\": \"t\", \"uuid\": \"x\"", &[(Error, ".uuid")]),
            ("\"device\": \"t\", \"wipeFilesystem\": true", &[(Error, ".wipeFilesystem")]),
            ("\"device\": \"t\", \"options\": [\"x\"]", &[(Error, ".options")]),
        ],
    );
}

#[test]
fn filesystems() {
    let filesystem = |inner: &str| format!("\"storage\": {{\"filesystems\": [{{\"device\": \"/dev/a\", {inner}}}]}}");
    let label = |format: &str, len: usize| format!("\"format\": \"{format}\", \"label\": \"{}\"", "x".repeat(len));
    table(
        filesystem,
        "$.storage.filesystems.0",
        &[
            (
                "\"format\": \"ext4\", \"path\": \"/var\", \"mountOptions\": [\"a\", \"a\"], \"options\": [\"b\", \"b\"]",
                &[],
            ),
            ("\"format\": \"ext4\", \"path\": \"\"", &[]),
            ("\"format\": \"ext4\", \"path\": \"var\"", &[(Error, ".path")]),
            ("\"format\": \"ntfs\"", &[(Error, ".format")]),
            ("\"format\": \"9p\"", &[(Error, ".format")]),
            ("\"wipeFilesystem\": false", &[]),
            ("\"wipeFilesystem\": true", &[(Error, ".format")]),
            ("\"path\": \"/var\"", &[(Error, ".format")]),
            ("\"label\": \"x\"", &[(Error, ".format")]),
            ("\"uuid\": \"x\"", &[(Error, ".format")]),
            ("\"options\": [\"x\"]", &[(Error, ".format")]),
            ("\"format\": \"\", \"mountOptions\": [\"x\"]", &[(Error, ".format")]),
            ("\"device\": \"\"", &[(Error, ".device"), (Warning, ".device")]),
            (&label("ext4", 16), &[]),
            (&label("ext4", 17), &[(Error, ".label")]),
            (&label("btrfs", 256), &[]),
            (&label("btrfs", 257), &[(Error, ".label")]),
            (&label("xfs", 12), &[]),
            (&label("xfs", 13), &[(Error, ".label")]),
            (&label("swap", 15), &[]),
            (&label("swap", 16), &[(Error, ".label")]),
            (&label("vfat", 11), &[]),
            (&label("vfat", 12), &[(Error, ".label")]),
            (&label("none", 99), &[]),
        ],
    );
    since(&filesystem("\"format\": \"none\""), "$.storage.filesystems.0.format", |version| version >= Version::V3_3);
    since(&filesystem("\"format\": \"virtiofs\""), "$.storage.filesystems.0.format", |version| {
        version >= Version::V3_7
    });
    let disk = |disk: &str, filesystem: &str| {
        said(
            Version::LATEST,
            &format!(
                "\"storage\": {{\"disks\": [{{\"device\": \"/dev/a\"{disk}}}], \"filesystems\": [{{\"device\": \"/dev/a\", \"format\": \"xfs\"{filesystem}}}]}}"
            ),
        )
    };
    let warning = Vec::from([(Warning, "$.storage.filesystems.0.device".into())]);
    assert_eq!(disk("", ""), []);
    assert_eq!(disk(", \"partitions\": [{\"number\": 1}]", ""), warning);
    assert_eq!(disk(", \"wipeTable\": true", ""), warning);
    assert_eq!(disk(", \"wipeTable\": true", ", \"wipeFilesystem\": true"), []);
}

#[test]
fn disks_and_partitions() {
    let guid = "01234567-89ab-CDEF-EDCB-A98765432101";
    table(
        |inner| format!("\"storage\": {{\"disks\": [{{\"device\": \"/dev/a\", \"partitions\": [{inner}]}}]}}"),
        "$.storage.disks.0.partitions",
        &[
            ("{\"number\": 1}, {\"label\": \"a\"}, {\"label\": \"b\"}", &[]),
            (&format!("{{\"number\": 1, \"guid\": \"{guid}\", \"typeGuid\": \"\"}}"), &[]),
            ("{}", &[(Error, ".0")]),
            ("{\"number\": 0, \"label\": \"\"}", &[]),
            ("{\"number\": -1}", &[(Error, ".0.number")]),
            ("{\"number\": 1}, {\"number\": 1}", &[(Error, ".1")]),
            ("{\"label\": \"a\"}, {\"label\": \"a\"}", &[(Error, ".1")]),
            ("{\"number\": 1, \"label\": \"a\"}, {\"label\": \"a\"}", &[(Error, ".1")]),
            ("{\"number\": 1, \"guid\": \"x\"}", &[(Error, ".0.guid")]),
            (&format!("{{\"number\": 1, \"typeGuid\": \"{guid}0\"}}"), &[(Error, ".0.typeGuid")]),
            (&format!("{{\"number\": 1, \"typeGuid\": \"{}\"}}", guid.replace('0', "g")), &[(Error, ".0.typeGuid")]),
            (&format!("{{\"label\": \"{}\"}}", "x".repeat(36)), &[]),
            (&format!("{{\"label\": \"{}\"}}", "x".repeat(37)), &[(Error, ".0.label")]),
            ("{\"label\": \"a:b\"}", &[(Error, ".0.label")]),
            ("{\"number\": 1, \"shouldExist\": false}", &[]),
            ("{\"number\": 1, \"shouldExist\": false, \"sizeMiB\": 0}", &[(Error, ".0")]),
            ("{\"number\": 1, \"sizeMiB\": -1, \"startMiB\": -1}", &[(Error, ".0.sizeMiB"), (Error, ".0.startMiB")]),
            (
                "{\"number\": 1, \"startMiB\": 1, \"sizeMiB\": 9}, {\"number\": 2, \"startMiB\": 10, \"sizeMiB\": 0}",
                &[],
            ),
            (
                "{\"number\": 1, \"startMiB\": 1, \"sizeMiB\": 10}, {\"number\": 2, \"startMiB\": 10, \"sizeMiB\": 0}",
                &[(Error, ".1")],
            ),
            (
                "{\"number\": 1, \"startMiB\": 10, \"sizeMiB\": 5}, {\"number\": 2, \"startMiB\": 1, \"sizeMiB\": 100}",
                &[(Error, ".1")],
            ),
            ("{\"number\": 1, \"startMiB\": 10}, {\"number\": 2, \"startMiB\": 10, \"sizeMiB\": 0}", &[]),
            ("{\"number\": 1, \"startMiB\": 0, \"sizeMiB\": 5}, {\"number\": 2, \"startMiB\": 0, \"sizeMiB\": 5}", &[]),
        ],
    );
    let disks = |disks: &str| said(Version::LATEST, &format!("\"storage\": {{\"disks\": [{disks}]}}"));
    assert_eq!(disks("{\"device\": \"dev/a\"}"), [(Error, "$.storage.disks.0.device".into())]);
    assert_eq!(disks("{}"), [(Error, "$.storage.disks.0.device".into())]);
    assert_eq!(disks("{\"device\": \"/a\"}, {\"device\": \"/a\"}"), [(Error, "$.storage.disks.1".into())]);
}

#[test]
fn arrays() {
    let raid = |inner: &str| format!("\"storage\": {{\"raid\": [{{\"name\": \"a\", {inner}}}]}}");
    let devices = "\"devices\": [\"/dev/a\", \"/dev/b\"]";
    table(
        raid,
        "$.storage.raid.0",
        &[
            (&format!("\"level\": \"raid1\", \"spares\": 1, \"options\": [\"x\", \"x\"], {devices}"), &[]),
            (&format!("\"level\": \"stripe\", \"spares\": 0, {devices}"), &[]),
            (&format!("\"level\": \"stripe\", \"spares\": 1, {devices}"), &[(Error, ".level")]),
            (&format!("\"level\": \"raid7\", {devices}"), &[(Error, ".level")]),
            (devices, &[(Error, ".level")]),
            ("\"level\": \"raid1\"", &[(Error, ".devices")]),
            ("\"level\": \"raid1\", \"devices\": [\"/a\", \"/a\"]", &[(Error, ".devices.1")]),
            ("\"level\": \"raid1\", \"devices\": [\"/a\", \"b\"]", &[(Error, ".devices.1")]),
        ],
    );
    assert_eq!(
        said(
            Version::LATEST,
            &raid(&format!("\"level\": \"1\", {devices}")).replace("\"name\": \"a\"", "\"name\": \"\"")
        ),
        [(Error, "$.storage.raid.0.name".into())]
    );
}

#[test]
fn luks_volumes() {
    let luks = |inner: &str| format!("\"storage\": {{\"luks\": [{{\"name\": \"a\", \"device\": \"/d\", {inner}}}]}}");
    let tang = "{\"url\": \"http://t\", \"thumbprint\": \"x\"}";
    table(
        luks,
        "$.storage.luks.0",
        &[
            ("\"options\": [\"x\", \"x\"], \"openOptions\": [\"y\"], \"discard\": true", &[]),
            ("\"openOptions\": [\"y\", \"y\"]", &[(Error, ".openOptions.1")]),
            (&format!("\"label\": \"{}\"", "x".repeat(47)), &[]),
            (&format!("\"label\": \"{}\"", "x".repeat(48)), &[(Error, ".label")]),
            ("\"keyFile\": {\"source\": \"data:,x\"}", &[]),
            ("\"keyFile\": {\"source\": \"x\"}", &[(Error, ".keyFile.source")]),
            (&format!("\"clevis\": {{\"tang\": [{tang}], \"tpm2\": true, \"threshold\": 2}}"), &[]),
            (&format!("\"clevis\": {{\"tang\": [{tang}, {tang}]}}"), &[(Error, ".clevis.tang.1")]),
            (
                "\"clevis\": {\"tang\": [{\"url\": \"ftp://t\", \"thumbprint\": \"x\"}]}",
                &[(Error, ".clevis.tang.0.url")],
            ),
            ("\"clevis\": {\"tang\": [{\"thumbprint\": \"x\"}]}", &[(Error, ".clevis.tang.0.url")]),
            ("\"clevis\": {\"tang\": [{\"url\": \"https://t\"}]}", &[(Error, ".clevis.tang.0.thumbprint")]),
            (&format!("\"clevis\": {{\"tang\": [{}]}}", tang.replace('}', ", \"advertisement\": \"{}\"}")), &[]),
            (
                &format!("\"clevis\": {{\"tang\": [{}]}}", tang.replace('}', ", \"advertisement\": \"{\"}")),
                &[(Error, ".clevis.tang.0.advertisement")],
            ),
            ("\"clevis\": {\"custom\": {\"pin\": \"own\", \"config\": \"x\", \"needsNetwork\": true}}", &[]),
            ("\"clevis\": {\"custom\": {\"config\": \"x\"}}", &[(Error, ".clevis.custom.pin")]),
            ("\"clevis\": {\"custom\": {\"pin\": \"tpm2\"}}", &[(Error, ".clevis.custom.config")]),
            ("\"clevis\": {\"custom\": {\"pin\": \"tpm2\", \"config\": \"x\"}, \"tpm2\": true}", &[(Error, ".clevis")]),
            ("\"cex\": {\"enabled\": true}", &[]),
            ("\"cex\": {\"enabled\": false}, \"clevis\": {\"tpm2\": true}", &[]),
            ("\"cex\": {\"enabled\": true}, \"clevis\": {\"tpm2\": true}", &[(Error, ".cex")]),
            ("\"cex\": {\"enabled\": true}, \"keyFile\": {\"source\": \"data:,x\"}", &[(Error, ".cex")]),
        ],
    );
    let volumes = |inner: &str| said(Version::LATEST, &format!("\"storage\": {{\"luks\": [{inner}]}}"));
    assert_eq!(volumes("{\"name\": \"a\"}"), [(Error, "$.storage.luks.0.device".into())]);
    assert_eq!(volumes("{\"name\": \"a/b\", \"device\": \"/d\"}"), [(Error, "$.storage.luks.0.name".into())]);
    assert_eq!(volumes("{\"device\": \"/d\"}"), [(Error, "$.storage.luks.0.name".into())]);

    let ignored = |version: Version| version < Version::V3_2;
    let own = luks("\"clevis\": {\"custom\": {\"pin\": \"own\", \"config\": \"x\"}}");
    since(&own, "$.storage.luks.0.clevis.custom.pin", |version| ignored(version) || version >= Version::V3_6);
    let beside = luks("\"clevis\": {\"custom\": {\"needsNetwork\": false}, \"tpm2\": true}");
    since(&beside, "$.storage.luks.0.clevis", |version| version != Version::V3_2);
    let empty = luks("\"clevis\": {\"custom\": {}, \"tpm2\": true}");
    since(&empty, "$.storage.luks.0.clevis", |version| version != Version::V3_2);
    let alone = luks("\"clevis\": {\"custom\": {\"needsNetwork\": true}}");
    for version in Version::ALL {
        let said = said(version, &alone);
        let errors = said.iter().filter(|(severity, _)| *severity == Error).count();
        assert_eq!(errors, if version >= Version::V3_3 { 2 } else { 0 }, "{version}");
    }
    let card = luks("\"cex\": {\"enabled\": true}, \"clevis\": {\"tpm2\": true}");
    since(&card, "$.storage.luks.0.cex", |version| version < Version::V3_5);
}

#[test]
fn every_rule_has_a_place_in_the_source_that_broke_it() {
    use crate::config::{merge, validate};
    use crate::origin::{Source, SourceKind, Sources};

    fn read(sources: &mut Sources, name: &str, storage: &str) -> crate::config::Config {
        let source = Source { name: name.into(), kind: SourceKind::User, referenced: false, sha512: String::new() };
        let index = sources.add(source);
        let text = format!("{{\"ignition\": {{\"version\": \"3.6.0\"}},\n\"storage\": {{{storage}}}}}");
        parse(text.as_bytes(), name, Some(index)).unwrap().config
    }
    let mut sources = Sources::default();
    let parent = read(&mut sources, "parent", "\"links\": [{\"path\": \"/x\", \"target\": \"/t\"}]");
    let child = read(&mut sources, "child", "\"files\": [{\"path\": \"/y\"},\n{\"path\": \"/x/y\"}]");
    let said = validate(&merge(parent, child), &sources);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!((&*said[0].place.source, &*said[0].place.path), ("child", "$.storage.files.1"));
    assert_eq!(said[0].place.position.map(|position| (position.line, position.column)), Some((3, 1)));

    let mut broken =
        read(&mut sources, "broken", "\"files\": [{\"path\": \"/a\", \"contents\": {\"source\": \"data:,\"}}]");
    broken.storage.files[0].contents.source = Some("x".into());
    broken.ignition.proxy.http_proxy = Some("x".into());
    let places: Vec<_> = validate(&broken, &sources).into_iter().map(|d| (d.place.source, d.place.path)).collect();
    assert_eq!(
        places,
        [
            ("the merged config".into(), "$.ignition.proxy.httpProxy".into()),
            ("broken".into(), "$.storage.files.0.contents.source".into())
        ]
    );
}

#[test]
fn no_secret_is_in_what_is_said() {
    for config in [
        r#""config": {"merge": [{"source": "https://u:hunter2@h/a?hunter2"}, {"source": "https://u:hunter2@h/a?hunter2"}]}"#,
        r#""security": {"tls": {"certificateAuthorities": [{"source": "data:,hunter2"}, {"source": "data:,hunter2"}]}}"#,
        r#""timeouts": {}}, "passwd": {"users": [{"name": "u", "passwordHash": 42424242}]"#,
        r#""timeouts": {}}, "passwd": {"users": [{"name": "u", "passwordHash": "hunter2:"}]"#,
        r#""timeouts": {}}, "passwd": {"users": [{"name": "u", "sshAuthorizedKeys": ["-----BEGIN\nhunter2", "-----BEGIN\nhunter2"]}]"#,
    ] {
        let text = format!("{{\"ignition\": {{\"version\": \"3.6.0\", {config}}}}}");
        let Err(refusal) = parse(text.as_bytes(), "t", None) else { panic!("{text} is not refused") };
        let said = format!("{refusal} {refusal:?}");
        assert!(!said.contains("hunter2") && !said.contains("42424242"), "{said}");
    }
}

#[test]
fn no_secret_is_in_the_debug_form_of_a_config() {
    let text = r#"{"ignition": {"version": "3.6.0", "config": {"merge": [{"source": "https://u:hunter2@h/a",
            "httpHeaders": [{"name": "Authorization", "value": "hunter2"}]}]}},
        "passwd": {"users": [{"name": "u", "passwordHash": "hunter2"}], "groups": [{"name": "g", "passwordHash": "hunter2"}]},
        "storage": {"files": [{"path": "/a", "contents": {"source": "data:,hunter2"}}]},
        "systemd": {"units": [{"name": "a.service", "contents": "[Service]\nEnvironment=hunter2\n"}]}}"#;
    let parsed = parse(text.as_bytes(), "t", None).unwrap();
    assert!(!format!("{parsed:?}").contains("hunter2"));
}

#[test]
fn a_header_line_in_place_of_a_name_is_not_repeated() {
    let text =
        br#"{"ignition": {"version": "3.4.0"}, "storage": {"files": [{"path": "/a", "contents": {"source": "http://h",
        "httpHeaders": [{"name": "Authorization: Bearer s3cr3t", "value": "x"}]}}]}}"#;
    let text = parse(text, "test", None).unwrap_err().to_string();
    assert!(text.contains("\"Authorization\"") && !text.contains("s3cr3t"), "{text}");
}
