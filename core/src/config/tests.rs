// SPDX-License-Identifier: Apache-2.0
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::schema::{CONFIG, Field, Kind};
use super::*;
use crate::diag::{Diagnostic, Severity};

/// Accepts, and returns the config and its warnings.
fn accept(text: &str) -> (Config, Vec<Diagnostic>) {
    match parse(text.as_bytes(), "t", None) {
        Ok(parsed) => (parsed.config, parsed.warnings),
        Err(refusal) => panic!("{text}\n{refusal}"),
    }
}

/// Refuses, and returns what is said.
fn refuse(text: &[u8]) -> Vec<Diagnostic> {
    match parse(text, "t", None) {
        Err(Refusal::Invalid(diagnostics)) => {
            assert!(diagnostics.iter().any(|d| d.severity == Severity::Error));
            diagnostics
        }
        other => panic!("{}: {other:?}", String::from_utf8_lossy(text)),
    }
}

fn at(diagnostic: &Diagnostic) -> (&str, Option<(u32, u32)>) {
    (&diagnostic.place.path, diagnostic.place.position.map(|position| (position.line, position.column)))
}

#[test]
fn every_item_knows_where_it_was_written() {
    let text = br#"{"ignition": {"version": "3.4.0"},
  "storage": {"files": [{"path": "/etc/a", "mode": 420, "contents": {"source": "data:,x"}},
                        {"path": "/etc/b"}]}}"#;
    let parsed = parse(text, "test", Some(3)).unwrap();
    assert_eq!(parsed.version, Version::V3_4);
    assert_eq!(parsed.warnings, []);
    assert_eq!(parsed.config.ignition.version, "3.7.0-experimental");
    let files = &parsed.config.storage.files;
    let origin = |origin: Origin| (origin.source, origin.index, origin.line, origin.column);
    assert_eq!(origin(files[0].origin), (Some(3), 0, 2, 25));
    assert_eq!(origin(files[1].origin), (Some(3), 1, 3, 25));
    assert_eq!(origin(files[0].contents.origin), (Some(3), 0, 2, 69));
    assert!(!files[1].contents.origin.is_known());
}

#[test]
fn origins_survive_the_cache() {
    let text = br#"{"ignition": {"version": "3.6.0"},
        "systemd": {"units": [{"name": "a.service", "dropins": [{"name": "b.conf"}]}, {"name": "c.service"}]}}"#;
    let config = parse(text, "test", Some(1)).unwrap().config;
    let cache = serde_json::to_string(&config).unwrap();
    let mut restored = read_cache(cache.as_bytes(), "cache").unwrap();
    assert_eq!(restored, config);
    assert!(restore_origins(&mut restored, &origins(&config)));
    let places =
        |config: &Config| -> Vec<_> { origins(config).iter().map(|o| (o.source, o.index, o.line, o.column)).collect() };
    assert_eq!(places(&restored), places(&config));
    assert_eq!(restored.systemd.units[1].origin.index, 1);
    assert!(!restore_origins(&mut restored, &[]));
}

#[test]
fn the_cache_has_the_form_that_ignition_gives_it() {
    assert_eq!(
        serde_json::to_string(&empty()).unwrap(),
        r#"{"ignition":{"config":{"replace":{"verification":{}}},"proxy":{},"security":{"tls":{}},"timeouts":{},"version":"3.7.0-experimental"},"kernelArguments":{},"passwd":{},"storage":{},"systemd":{}}"#
    );
    let (config, _) = accept(
        r#"{"ignition": {"version": "3.6.0"}, "storage": {"files": [{"path": "/a", "mode": 420, "user": {"id": 0}}],
            "disks": [{"device": "/d", "partitions": [{"label": "x", "number": 0}]}]}}"#,
    );
    assert_eq!(
        serde_json::to_string(&config.storage).unwrap(),
        r#"{"disks":[{"device":"/d","partitions":[{"label":"x"}]}],"files":[{"group":{},"path":"/a","user":{"id":0},"contents":{"verification":{}},"mode":420}]}"#
    );
}

#[test]
fn says_what_a_text_is_that_is_no_config() {
    let version = |version: &str| format!("{{\"ignition\": {{\"version\": {version}}}}}");
    for (text, place, words) in [
        (" \n", ("", None), "nothing but white space"),
        ("#cloud-config\nusers: []\n", ("", None), "a cloud-config for cloud-init"),
        ("#!/bin/sh\n", ("", None), "a script"),
        ("Content-Type: multipart/mixed\n", ("", None), "user data for cloud-init"),
        ("<!DOCTYPE html>", ("", None), "HTML or XML"),
        ("variant: fcos\nversion: 1.5.0\n", ("", None), "a Butane config"),
        ("# my machine\nvariant: nestos\n", ("", None), "a Butane config"),
        ("\u{feff}{}", ("", Some((1, 1))), "byte order mark"),
        ("{\"a\":\n 1", ("", Some((2, 2))), "the JSON ends too early"),
        ("{\"a\":\n \"\u{e9}\" x}", ("", Some((2, 6))), "this is not JSON: expected `,` or `}`"),
        ("{\"ignition\": {\"version\": \"3.0.0\"}} x", ("", Some((1, 36))), "trailing characters"),
        ("[]", ("$", Some((1, 1))), "expected an object, found a list"),
        ("{}", ("$.ignition.version", Some((1, 1))), "which version of the specification"),
        ("{\"ignition\": []}", ("$.ignition", Some((1, 14))), "expected an object, found a list"),
        (&version("3"), ("$.ignition.version", Some((1, 26))), "expected a string, found a number"),
        (&version("\"\""), ("$.ignition.version", Some((1, 26))), "which version of the specification"),
        (&version("\"latest\""), ("$.ignition.version", Some((1, 26))), "\"latest\" is not a version"),
        (
            &version("\"2.3.0\""),
            ("$.ignition.version", Some((1, 26))),
            "version 2.3.0 of the specification, which has another",
        ),
        (
            &version("\"1.0.0\""),
            ("$.ignition.version", Some((1, 26))),
            "version 1 of the specification, which has another",
        ),
        (
            &version("\"3.9.0\""),
            ("$.ignition.version", Some((1, 26))),
            "version 3.9.0 of the specification is not known here",
        ),
        (
            &version("\"4.0.0\""),
            ("$.ignition.version", Some((1, 26))),
            "version 4.0.0 of the specification is not known here",
        ),
        (&version("\"3.8.0-experimental\""), ("$.ignition.version", Some((1, 26))), "not a stable version"),
        ("{\"ignitionVersion\": 1}", ("$.ignitionVersion", Some((1, 21))), "version 1 of the specification"),
    ] {
        let said = refuse(text.as_bytes());
        assert_eq!(said.len(), 1, "{text}");
        assert_eq!(at(&said[0]), place, "{text}: {}", said[0]);
        assert!(said[0].reason.contains(words), "{text}: {}", said[0]);
    }
    let remedy = |text: &str| refuse(text.as_bytes())[0].remedy.clone().unwrap();
    assert!(remedy(&version("\"2.3.0\"")).contains("ign-converter"));
    assert!(remedy("variant: fcos\n").contains("butane"));
    for text in [&version("\"2.3.0\""), &version("\"3.7.0\""), &version("\"3.8.0-experimental\"")] {
        assert!(
            refuse(text.as_bytes())[0].reason.contains("Fledge reads 3.0.0 to 3.6.0 and 3.7.0-experimental"),
            "{text}"
        );
    }
}

#[test]
fn says_what_bytes_are_that_are_no_text() {
    let said = refuse(b"\x1f\x8b\x08\0");
    assert!(said[0].reason.contains("gzip"), "{}", said[0]);
    let said = refuse(b"{\n\"\xc3\xa9\xff\": 1}");
    assert_eq!((at(&said[0]), &*said[0].reason), (("", Some((2, 3))), "this is not UTF-8"));
    assert_eq!(parse(b"", "t", None), Err(Refusal::Empty));
}

#[test]
fn every_version_is_read() {
    for version in Version::ALL {
        let parsed = parse(format!("{{\"IGNITION\": {{\"Version\": \"{version}\"}}}}").as_bytes(), "t", None).unwrap();
        assert_eq!(parsed.version, version);
    }
}

#[test]
fn keys_match_as_in_go_and_the_last_counts() {
    let text = r#"{"ignition": {"version": "3.6.0"},
"Storage": {
  "files": [{"PATH": "/no", "path": "/a", "mode": 1, "mode": null, "foo": 1, "\u0046oo": 2}]
},
"systemd": {"units": [{"name": "a.service", "mask": true}]},
"systemd": {"units": [{"name": "b.service"}]},
"passwd": {"users": [{"name": "u"}]},
"passwd": {"groups": [{"name": "g"}]}}"#;
    let (config, warnings) = accept(text);
    assert_eq!((&*config.storage.files[0].path, config.storage.files[0].mode), ("/a", None));
    assert_eq!(config.systemd.units.len(), 1);
    assert_eq!((&*config.systemd.units[0].name, config.systemd.units[0].mask), ("b.service", None));
    assert_eq!((config.passwd.users.len(), config.passwd.groups.len()), (1, 1), "objects are taken together");
    let said: Vec<_> = warnings.iter().map(at).collect();
    assert_eq!(
        said,
        [
            ("$.storage", Some((2, 1))),
            ("$.storage.files.0.path", Some((3, 29))),
            ("$.storage.files.0.path", Some((3, 29))),
            ("$.storage.files.0.mode", Some((3, 54))),
            ("$.storage.files.0.foo", Some((3, 68))),
            ("$.storage.files.0.Foo", Some((3, 78))),
            ("$.systemd", Some((6, 1))),
            ("$.passwd", Some((8, 1))),
        ]
    );
    assert!(warnings[0].reason.contains("\"Storage\""), "{}", warnings[0]);
    assert_eq!((config.systemd.units[0].origin.line, config.passwd.users[0].origin.line), (6, 7));
}

#[test]
fn null_is_absent_and_types_must_fit() {
    let (config, warnings) = accept(
        r#"{"ignition": {"version": "3.6.0", "proxy": null}, "storage": {"files": null, "directories": [{"path": "/a",
            "mode": null, "user": null, "overwrite": null}]}}"#,
    );
    assert_eq!(warnings, []);
    assert_eq!(config.storage.directories, [Directory { path: "/a".into(), ..Directory::default() }]);
    assert!(config.storage.files.is_empty());

    let said = refuse(
        br#"{"ignition": {"version": "3.6.0"},
"storage": {"files": [
  {"path": 1, "mode": "0644"},
  {"path": "/b", "mode": 1.5},
  {"path": "/c", "mode": 9223372036854775808},
  {"path": ["x"], "overwrite": "true"},
  7],
 "directories": {}, "links": [null]}}"#,
    );
    let said: Vec<_> = said.iter().map(|d| (at(d), &*d.reason)).collect();
    let integer = "expected a whole number, found";
    assert_eq!(
        said,
        [
            (("$.storage.files.0.path", Some((3, 12))), "expected a string, found a number"),
            (("$.storage.files.0.mode", Some((3, 23))), &*format!("{integer} a string")),
            (
                ("$.storage.files.1.mode", Some((4, 26))),
                &*format!("{integer} a number with a fraction or exponent, or out of all bounds")
            ),
            (("$.storage.files.2.mode", Some((5, 26))), &*format!("{integer} a number that is too large")),
            (("$.storage.files.3.path", Some((6, 12))), "expected a string, found a list"),
            (("$.storage.files.3.overwrite", Some((6, 32))), "expected true or false, found a string"),
            (("$.storage.files.4", Some((7, 3))), "expected an object, found a number"),
            (("$.storage.directories", Some((8, 17))), "expected a list, found an object"),
        ]
    );
}

/// Calls back for each field, with its path and a text that has nothing but that field.
fn each_field(
    kind: Kind,
    path: &str,
    wrap: &dyn Fn(&str) -> String,
    visit: &mut dyn FnMut(&str, &Field, Version, &str),
) {
    each_field_since(kind, path, &[], Version::V3_0, wrap, visit);
}

fn each_field_since(
    kind: Kind,
    path: &str,
    later: &[(&str, Version)],
    above: Version,
    wrap: &dyn Fn(&str) -> String,
    visit: &mut dyn FnMut(&str, &Field, Version, &str),
) {
    match kind {
        Kind::List(kind) => {
            each_field_since(*kind, &format!("{path}.0"), later, above, &|inner| wrap(&format!("[{inner}]")), visit);
        }
        Kind::Object(fields) => {
            for field in fields {
                let wrap = |inner: &str| wrap(&format!("{{\"{}\": {inner}}}", field.name));
                let path = format!("{path}.{}", field.name);
                let moved = later.iter().find(|(name, _)| *name == field.name).map(|(_, since)| *since);
                let since = moved.unwrap_or(field.since).max(above);
                let value = match field.kind {
                    Kind::Text => "\"x\"",
                    Kind::Integer => "1",
                    Kind::Boolean => "true",
                    Kind::Object(_) => "{}",
                    Kind::List(_) => "[]",
                };
                visit(&path, field, since, &wrap(value));
                each_field_since(field.kind, &path, field.later, since, &wrap, visit);
            }
        }
        _ => {}
    }
}

#[test]
fn a_field_that_is_too_new_is_ignored_with_a_warning() {
    let mut newer = 0;
    each_field(CONFIG, "$", &|inner| inner.into(), &mut |path, field, since, text| {
        if path.starts_with("$.ignition.version") {
            return;
        }
        for version in Version::ALL {
            // Beside the field, the version; in one object, or as a repeated key, of which the members are taken together.
            let text = format!("{{\"ignition\": {{\"version\": \"{version}\"}}, {}", &text[1..]);
            let said = match parse(text.as_bytes(), "t", None) {
                Ok(parsed) => parsed.warnings,
                Err(Refusal::Invalid(said)) => said,
                Err(Refusal::Empty) => panic!("{text}"),
            };
            let warned: Vec<_> =
                said.iter().filter(|d| d.reason.contains("came with") && d.reason.contains("ignored")).collect();
            if since <= version {
                assert_eq!(warned, Vec::<&Diagnostic>::new(), "{text}");
            } else {
                newer += 1;
                assert_eq!(warned.len(), 1, "{text}");
                assert!(path.starts_with(&warned[0].place.path), "{text}: {}", warned[0]);
                assert!(field.since <= since);
            }
        }
    });
    assert!(newer > 100, "{newer}");
}

#[test]
fn what_is_ignored_is_not_looked_into() {
    let (_, warnings) = accept(
        r#"{"ignition": {"version": "3.2.0"}, "kernelArguments": 7, "storage": {"luks": [{"name": "a", "device": "/d",
            "discard": "x", "cex": {"foo": 1}}]}, "foo": {"ignition": 1}}"#,
    );
    let paths: Vec<_> = warnings.iter().map(|d| &*d.place.path).collect();
    assert_eq!(paths, ["$.kernelArguments", "$.storage.luks.0.discard", "$.storage.luks.0.cex", "$.foo"]);
}

#[test]
fn each_version_has_as_many_fields_as_upstreams_schema() {
    for (version, expected) in Version::ALL.into_iter().zip([117, 140, 168, 171, 174, 176, 176]) {
        let mut count = 0;
        each_field(CONFIG, "$", &|inner| inner.into(), &mut |_, _, since, _| count += usize::from(since <= version));
        assert_eq!(count, expected, "{version}");
    }
}

#[test]
fn special_bits_of_modes_came_with_3_6() {
    let text = |version: Version| {
        format!(
            "{{\"ignition\": {{\"version\": \"{version}\"}}, \"storage\": {{\"files\": [{{\"path\": \"/a\", \"mode\": 2541}}],
             \"directories\": [{{\"path\": \"/b\", \"mode\": 1023}}]}}}}"
        )
    };
    for version in Version::ALL {
        let (config, warnings) = accept(&text(version));
        let modes = (config.storage.files[0].mode, config.storage.directories[0].mode);
        if version < Version::V3_6 {
            assert_eq!(modes, (Some(0o755), Some(0o777)), "{version}");
            assert_eq!(warnings.len(), 2, "{version}");
            assert_eq!(warnings[0].place.path, "$.storage.files.0.mode");
        } else {
            assert_eq!(modes, (Some(0o4755), Some(0o1777)), "{version}");
            assert_eq!(warnings, [], "{version}");
        }
    }
}

#[test]
fn a_flood_of_remarks_is_cut_short() {
    let keys: Vec<_> = (0..5_000).map(|i| format!(", \"unknown{i}\": 1")).collect();
    let keys = keys.concat();
    let (_, warnings) = accept(&format!("{{\"ignition\": {{\"version\": \"3.6.0\"}}{keys}}}"));
    assert_eq!(warnings.len(), 101);
    assert_eq!(warnings[100].reason, "4900 more warnings aren't shown");
    assert_eq!(warnings[99].place.path, "$.unknown99");
}

#[test]
fn a_message_is_a_sentence_with_a_place_and_a_remedy() {
    let said =
        refuse(b"{\"ignition\": {\"version\": \"3.3.0\"},\n \"storage\": {\"files\": [{\"path\": \"etc/motd\"}]}}");
    assert_eq!(
        said[0].to_string(),
        "error: t:2:33 at $.storage.files.0.path: the path \"etc/motd\" is relative; begin it with a slash"
    );
}

#[test]
fn merging_keeps_the_origin_of_what_was_written_last() {
    let read = |text: &str, source| parse(text.as_bytes(), "t", Some(source)).unwrap().config;
    let parent = read(
        r#"{"ignition": {"version": "3.6.0"}, "storage": {"files": [{"path": "/a", "contents": {"source": "data:,a"}}, {"path": "/b"}]}}"#,
        0,
    );
    let child = read(
        r#"{"ignition": {"version": "3.6.0"}, "storage": {"files": [{"path": "/c"}, {"path": "/a", "mode": 9999}]}}"#
            .replace("9999", "384")
            .as_str(),
        1,
    );
    let merged = merge(parent, child);
    let origins: Vec<_> = merged.storage.files.iter().map(|f| (&*f.path, f.origin.source, f.origin.index)).collect();
    assert_eq!(origins, [("/a", Some(1), 1), ("/b", Some(0), 1), ("/c", Some(1), 0)]);
    assert_eq!(merged.storage.files[0].contents.origin.source, Some(0), "the child says nothing of its contents");
}

mod properties {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    /// Any value where a field wants one, mostly of the right kind.
    fn value(kind: Kind, depth: u32) -> BoxedStrategy<String> {
        let wrong =
            prop_oneof![Just("null"), Just("1.5"), Just("-1"), Just("[]"), Just("{}"), Just("\"\""), Just("[[null]]")];
        let right: BoxedStrategy<String> = match kind {
            _ if depth == 0 => Just("null".into()).boxed(),
            Kind::Text => prop_oneof![
                Just("\"3.2.0\""),
                Just("\"/a\""),
                Just("\"/a/b\""),
                Just("\"data:,x\""),
                Just("\"http://h/x\""),
                Just("\"a@b.service\""),
                Just("\"[A]\\nb=c\""),
                Just("\"ext4\""),
                Just("\"arn:aws:s3:::b/k\""),
                Just("\"sha256-00\""),
                Just("\"\\u00e9%\\n\\\\\""),
            ]
            .prop_map(Into::into)
            .boxed(),
            Kind::Integer => prop_oneof![any::<i64>(), 0_i64..5000].prop_map(|number| number.to_string()).boxed(),
            Kind::Boolean => any::<bool>().prop_map(|value| value.to_string()).boxed(),
            Kind::List(kind) => prop::collection::vec(value(*kind, depth - 1), 0..4)
                .prop_map(|items| format!("[{}]", items.join(", ")))
                .boxed(),
            Kind::Object(fields) => {
                let member = prop::sample::select(fields).prop_flat_map(move |field| {
                    let name = field.name.to_string();
                    let key = prop_oneof![4 => Just(name.clone()), 1 => Just(name.to_uppercase()), 1 => "[a-z]{1,3}"];
                    (key, value(field.kind, depth - 1)).prop_map(|(key, value)| format!("\"{key}\": {value}"))
                });
                prop::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(", "))).boxed()
            }
        };
        prop_oneof![12 => right, 1 => wrong.prop_map(Into::into)].boxed()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn whatever_is_said_has_a_place_and_what_is_accepted_survives_the_cache(
            body in value(CONFIG, 7),
            version in prop::sample::select(&Version::ALL[..]),
        ) {
            let text = if body.starts_with('{') && body.len() > 2 {
                format!("{{{}, \"ignition\": {{\"version\": \"{version}\"}}}}", &body[1..body.len() - 1])
            } else {
                body
            };
            match parse(text.as_bytes(), "t", Some(0)) {
                Ok(parsed) => {
                    prop_assert!(parsed.warnings.iter().all(|d| d.severity == Severity::Warning && d.place.position.is_some()));
                    let cache = serde_json::to_string(&parsed.config).unwrap();
                    prop_assert!(!cache.contains("null"), "{}", cache);
                    let restored = read_cache(cache.as_bytes(), "cache").unwrap();
                    prop_assert_eq!(&restored, &parsed.config);
                    prop_assert_eq!(merge(parsed.config.clone(), empty()), parsed.config.clone());
                    prop_assert_eq!(merge(empty(), parsed.config.clone()), parsed.config.clone());
                }
                Err(Refusal::Invalid(said)) => {
                    prop_assert!(said.iter().any(|d| d.severity == Severity::Error));
                    prop_assert!(said.iter().all(|d| d.place.path.is_empty() || d.place.position.is_some()));
                }
                Err(Refusal::Empty) => prop_assert!(false),
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&bytes, "t", None);
        }

        #[test]
        fn no_text_like_a_config_makes_it_panic(text in "[\\[\\]{}:,\"\\\\a1 \n\u{e9}]{0,50}") {
            let _ = parse(text.as_bytes(), "t", None);
            let _ = read_cache(text.as_bytes(), "t");
        }
    }
}
