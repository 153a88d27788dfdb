// SPDX-License-Identifier: Apache-2.0
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use crate::config::{Refusal, Version, parse};
use crate::diag::Severity;

use Severity::{Error, Warning};

mod devices;
mod nodes;
mod resources;

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
