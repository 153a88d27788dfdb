// SPDX-License-Identifier: Apache-2.0
//! Merging, by the rules that stand at the head of upstream's `config/merge/merge.go`.

use alloc::format;
use alloc::string::String;

use super::{Config, merge, parse};

/// Reads a config of the newest version from its other sections.
fn config(sections: &str) -> Config {
    let comma = if sections.is_empty() { "" } else { "," };
    let text = format!("{{\"ignition\": {{\"version\": \"3.6.0\"}}{comma} {sections}}}");
    match parse(text.as_bytes(), "t", None) {
        Ok(parsed) => parsed.config,
        Err(refusal) => panic!("{text}\n{refusal}"),
    }
}

#[track_caller]
fn merges(parent: &str, child: &str, expected: &str) {
    let json = |config: &Config| -> String { serde_json::to_string_pretty(config).unwrap() };
    assert_eq!(json(&merge(config(parent), config(child))), json(&config(expected)));
}

#[test]
fn the_empty_config_changes_nothing() {
    let full = "\"storage\": {\"files\": [{\"path\": \"/a\", \"mode\": 420, \"contents\": {\"source\": \"data:,\"}}]},
        \"passwd\": {\"users\": [{\"name\": \"a\"}]}, \"systemd\": {\"units\": [{\"name\": \"a.service\"}]}";
    merges(full, "", full);
    merges("", full, full);
    merges(full, full, full);
}

#[test]
fn what_the_child_says_wins_and_what_it_does_not_say_stays() {
    let file = |rest: &str| format!("\"storage\": {{\"files\": [{{\"path\": \"/a\", {rest}}}]}}");
    merges(
        &file(
            "\"mode\": 420, \"overwrite\": false, \"user\": {\"id\": 1}, \"contents\": {\"source\": \"data:,a\", \"compression\": \"gzip\"}",
        ),
        &file("\"mode\": 384, \"group\": {\"name\": \"g\"}, \"contents\": {\"source\": \"data:,b\"}"),
        &file(
            "\"mode\": 384, \"overwrite\": false, \"user\": {\"id\": 1}, \"group\": {\"name\": \"g\"},
             \"contents\": {\"source\": \"data:,b\", \"compression\": \"gzip\"}",
        ),
    );
    merges(&file("\"mode\": 420"), &file("\"mode\": null"), &file("\"mode\": 420"));
    merges(&file("\"mode\": 420"), &file("\"mode\": 0"), &file("\"mode\": 0"));
    let user = |rest: &str| format!("\"passwd\": {{\"users\": [{{\"name\": \"a\", {rest}}}]}}");
    merges(
        &user("\"shouldExist\": true, \"shell\": \"/x\""),
        &user("\"shouldExist\": false, \"shell\": \"\""),
        &user("\"shouldExist\": false, \"shell\": \"\""),
    );
}

#[test]
fn lists_are_merged_by_key_in_the_parents_order() {
    let units = |units: &str| format!("\"systemd\": {{\"units\": [{units}]}}");
    merges(
        &units("{\"name\": \"a.service\", \"mask\": true}, {\"name\": \"b.service\", \"dropins\": [{\"name\": \"1.conf\"}, {\"name\": \"2.conf\"}]}"),
        &units(
            "{\"name\": \"c.service\"}, {\"name\": \"b.service\", \"enabled\": true,
              \"dropins\": [{\"name\": \"3.conf\"}, {\"name\": \"1.conf\", \"contents\": \"[A]\\n\"}]}",
        ),
        &units(
            "{\"name\": \"a.service\", \"mask\": true}, {\"name\": \"b.service\", \"enabled\": true,
              \"dropins\": [{\"name\": \"1.conf\", \"contents\": \"[A]\\n\"}, {\"name\": \"2.conf\"}, {\"name\": \"3.conf\"}]}, {\"name\": \"c.service\"}",
        ),
    );
    let user = |keys: &str, groups: &str| {
        format!(
            "\"passwd\": {{\"users\": [{{\"name\": \"a\", \"sshAuthorizedKeys\": [{keys}], \"groups\": [{groups}]}}]}}"
        )
    };
    merges(
        &user("\"k 1\", \"k 2\"", "\"x\""),
        &user("\"k 3\", \"k 1\"", "\"y\""),
        &user("\"k 1\", \"k 2\", \"k 3\"", "\"x\", \"y\""),
    );
    let disk = |partitions: &str| {
        format!("\"storage\": {{\"disks\": [{{\"device\": \"/d\", \"partitions\": [{partitions}]}}]}}")
    };
    merges(
        &disk("{\"number\": 1, \"label\": \"a\"}, {\"label\": \"b\"}"),
        &disk("{\"label\": \"b\", \"sizeMiB\": 5}, {\"number\": 1, \"sizeMiB\": 6}"),
        &disk("{\"number\": 1, \"label\": \"a\", \"sizeMiB\": 6}, {\"label\": \"b\", \"sizeMiB\": 5}"),
    );
}

#[test]
fn options_and_appended_contents_follow_the_parents() {
    let filesystem =
        |rest: &str| format!("\"storage\": {{\"filesystems\": [{{\"device\": \"/d\", \"format\": \"xfs\", {rest}}}]}}");
    merges(
        &filesystem("\"options\": [\"a\", \"b\"], \"mountOptions\": [\"m\"]"),
        &filesystem("\"options\": [\"b\"], \"mountOptions\": [\"m\"]"),
        &filesystem("\"options\": [\"a\", \"b\", \"b\"], \"mountOptions\": [\"m\", \"m\"]"),
    );
    let file = |append: &str| format!("\"storage\": {{\"files\": [{{\"path\": \"/a\", \"append\": [{append}]}}]}}");
    let source = "{\"source\": \"data:,x\"}";
    merges(&file(source), &file(source), &file(&format!("{source}, {source}")));
    let luks = |rest: &str| format!("\"storage\": {{\"luks\": [{{\"name\": \"a\", \"device\": \"/d\", {rest}}}]}}");
    merges(
        &luks("\"options\": [\"a\"], \"openOptions\": [\"a\", \"b\"]"),
        &luks("\"options\": [\"a\"], \"openOptions\": [\"b\", \"c\"]"),
        &luks("\"options\": [\"a\", \"a\"], \"openOptions\": [\"a\", \"b\", \"c\"]"),
    );
    let raid = |rest: &str| format!("\"storage\": {{\"raid\": [{{\"name\": \"a\", \"level\": \"1\", {rest}}}]}}");
    merges(
        &raid("\"devices\": [\"/a\", \"/b\"], \"options\": [\"x\"]"),
        &raid("\"devices\": [\"/b\", \"/c\"], \"options\": [\"x\"]"),
        &raid("\"devices\": [\"/a\", \"/b\", \"/c\"], \"options\": [\"x\", \"x\"]"),
    );
}

#[test]
fn a_path_is_what_the_child_says_it_is() {
    merges(
        "\"storage\": {\"files\": [{\"path\": \"/a\", \"mode\": 1}, {\"path\": \"/b\"}], \"directories\": [{\"path\": \"/c\"}], \"links\": [{\"path\": \"/l\", \"target\": \"x\"}]}",
        "\"storage\": {\"directories\": [{\"path\": \"/a\"}, {\"path\": \"/l\"}], \"files\": [{\"path\": \"/c\"}], \"links\": [{\"path\": \"/b\", \"target\": \"y\"}]}",
        "\"storage\": {\"files\": [{\"path\": \"/c\"}], \"directories\": [{\"path\": \"/a\"}, {\"path\": \"/l\"}], \"links\": [{\"path\": \"/b\", \"target\": \"y\"}]}",
    );
    merges(
        "\"kernelArguments\": {\"shouldExist\": [\"a\", \"b\"], \"shouldNotExist\": [\"c\"]}",
        "\"kernelArguments\": {\"shouldExist\": [\"c\", \"d\"], \"shouldNotExist\": [\"a\"]}",
        "\"kernelArguments\": {\"shouldExist\": [\"b\", \"c\", \"d\"], \"shouldNotExist\": [\"a\"]}",
    );
}

#[test]
fn a_header_without_a_value_removes_the_parents() {
    let file = |headers: &str| {
        format!(
            "\"storage\": {{\"files\": [{{\"path\": \"/a\", \"contents\": {{\"source\": \"http://h\", \"httpHeaders\": [{headers}]}}}}]}}"
        )
    };
    merges(
        &file(
            "{\"name\": \"A\", \"value\": \"1\"}, {\"name\": \"B\", \"value\": \"1\"}, {\"name\": \"C\", \"value\": \"1\"}",
        ),
        &file(
            "{\"name\": \"B\", \"value\": \"2\"}, {\"name\": \"A\"}, {\"name\": \"D\", \"value\": \"2\"}, {\"name\": \"E\"}",
        ),
        &file(
            "{\"name\": \"B\", \"value\": \"2\"}, {\"name\": \"C\", \"value\": \"1\"}, {\"name\": \"D\", \"value\": \"2\"}, {\"name\": \"E\"}",
        ),
    );
}

#[test]
fn the_config_about_itself_is_merged_too() {
    let ignition = |rest: &str| -> Config {
        parse(format!("{{\"ignition\": {{\"version\": \"3.6.0\", {rest}}}}}").as_bytes(), "t", None).unwrap().config
    };
    let merged = merge(
        ignition(
            "\"timeouts\": {\"httpTotal\": 1, \"httpResponseHeaders\": 1}, \"proxy\": {\"noProxy\": [\"a\"]},
             \"config\": {\"merge\": [{\"source\": \"http://a\"}], \"replace\": {\"source\": \"http://r\"}},
             \"security\": {\"tls\": {\"certificateAuthorities\": [{\"source\": \"http://c\"}]}}",
        ),
        ignition(
            "\"timeouts\": {\"httpTotal\": 2}, \"proxy\": {\"noProxy\": [\"b\", \"a\"], \"httpProxy\": \"http://p\"},
             \"config\": {\"merge\": [{\"source\": \"http://b\"}, {\"source\": \"http://a\"}]},
             \"security\": {\"tls\": {\"certificateAuthorities\": [{\"source\": \"http://d\"}]}}",
        ),
    );
    assert_eq!(
        merged,
        ignition(
            "\"timeouts\": {\"httpTotal\": 2, \"httpResponseHeaders\": 1}, \"proxy\": {\"noProxy\": [\"a\", \"b\"], \"httpProxy\": \"http://p\"},
             \"config\": {\"merge\": [{\"source\": \"http://a\"}, {\"source\": \"http://b\"}], \"replace\": {\"source\": \"http://r\"}},
             \"security\": {\"tls\": {\"certificateAuthorities\": [{\"source\": \"http://c\"}, {\"source\": \"http://d\"}]}}",
        )
    );
}

#[test]
fn a_string_that_was_required_then_overrides_the_parents() {
    let links = |version: &str| {
        format!("{{\"ignition\": {{\"version\": \"{version}\"}}, \"storage\": {{\"links\": [{{\"path\": \"/l\"}}]}}}}")
    };
    let parent = config("\"storage\": {\"links\": [{\"path\": \"/l\", \"target\": \"x\"}]}");
    let child = parse(links("3.2.0").as_bytes(), "t", None).unwrap().config;
    assert_eq!(merge(parent, child).storage.links[0].target.as_deref(), Some(""));
}
