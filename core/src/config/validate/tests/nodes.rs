// SPDX-License-Identifier: Apache-2.0
//! Files, directories and links.

use super::*;

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
