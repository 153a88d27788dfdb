// SPDX-License-Identifier: Apache-2.0
//! What a text is, if it isn't a configuration that Fledge reads: the mistakes that people make, by name.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;

use super::parse::Refusal;
use super::remark::Remarks;
use super::version::{Semver, Version};
use crate::diag::{Diagnostic, Place, Position, Severity};
use crate::json::{Node, Path, same_key};

const TRANSPILE: &str = "write it as a Butane config and let butane make the Ignition config from it";

/// Parses the text as JSON, or says what it is instead.
pub(super) fn read_json<'t>(text: &'t [u8], name: &str) -> Result<(&'t str, Node<'t>), Refusal> {
    let refuse = |position: Option<Position>, reason: String, remedy: Option<&str>| {
        let place = Place { source: name.into(), path: String::new(), position };
        let remedy = remedy.map(Into::into);
        Err(Refusal::Invalid(vec![Diagnostic { severity: Severity::Error, place, reason, remedy }]))
    };
    if text.starts_with(&[0x1f, 0x8b]) {
        let remedy = "decompress it, or say \"compression\": \"gzip\" where another config refers to it";
        return refuse(None, "this is compressed with gzip, not JSON".into(), Some(remedy));
    }
    let text = match core::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            let position = position_of(text, error.valid_up_to());
            return refuse(Some(position), "this is not UTF-8".into(), Some("save the text as UTF-8"));
        }
    };
    if let Some(rest) = text.strip_prefix('\u{feff}') {
        let remedy = if rest.is_empty() { "send nothing at all" } else { "save it as UTF-8 without a byte order mark" };
        return refuse(
            Some(Position { line: 1, column: 1 }),
            "a byte order mark stands before the JSON".into(),
            Some(remedy),
        );
    }
    let error = match Node::parse(text) {
        Ok(node) => return Ok((text, node)),
        Err(error) => error,
    };
    let trimmed = text.trim_start();
    if trimmed.is_empty() {
        let remedy = "give a config, or no byte at all for an empty one";
        return refuse(None, "there is nothing but white space in it".into(), Some(remedy));
    }
    if let Some((what, remedy)) = foreign(trimmed) {
        return refuse(None, format!("this is {what}, not an Ignition config"), Some(remedy));
    }
    let offset = offset_of(text, error.line(), error.column());
    let position = position_of(text.as_bytes(), offset);
    let mut why = error.to_string();
    if let Some(end) = why.rfind(" at line ") {
        why.truncate(end);
    }
    if error.is_eof() {
        let remedy = "look whether the whole of it was copied or sent";
        return refuse(Some(position), format!("the JSON ends too early: {why}"), Some(remedy));
    }
    refuse(Some(position), format!("this is not JSON: {why}"), None)
}

/// What the beginning of a text that isn't JSON says it is, and what to do about it.
fn foreign(text: &str) -> Option<(&'static str, &'static str)> {
    let first = text.lines().next().unwrap_or_default();
    if first.starts_with("#cloud-config") {
        return Some(("a cloud-config for cloud-init", TRANSPILE));
    }
    if first.starts_with("#!") {
        return Some(("a script", "put it into a file or a unit of an Ignition config"));
    }
    if first.starts_with("Content-Type:") || first.starts_with("MIME-Version:") || first.starts_with("#include") {
        return Some(("user data for cloud-init", TRANSPILE));
    }
    if first.starts_with('<') {
        return Some(("HTML or XML", "look at what the URL answers; it may be an error page"));
    }
    if text.lines().take(100).any(|line| line.starts_with("variant:")) {
        return Some(("a Butane config", "let butane make the Ignition config from it"));
    }
    None
}

/// The byte offset of `serde_json`'s position: line from 1, column in bytes from 1.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column.saturating_sub(1)).min(text.len())
}

/// Line and column in characters of a byte offset.
fn position_of(text: &[u8], offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mut lines = 0;
    let mut last: &[u8] = &[];
    for line in before.split(|byte| *byte == b'\n') {
        lines += 1;
        last = line;
    }
    let characters = last.iter().filter(|byte| !matches!(byte, 0x80..=0xbf)).count();
    Position { line: number(lines), column: number(characters).saturating_add(1) }
}

/// The version that the text names, if Fledge reads it; else an error says what to do.
pub(super) fn version_of(node: &Node<'_>, remarks: &mut Remarks) -> Option<Version> {
    let (first, last) = (Version::V3_0, Version::STABLE);
    let ignition = Path::ROOT.key("ignition");
    let at = ignition.key("version");
    let Node::Object(members) = node else {
        remarks
            .error(&Path::ROOT, format!("expected an object, found {}", node.describe()))
            .remedy(format!("the smallest config is {{\"ignition\": {{\"version\": \"{last}\"}}}}"));
        return None;
    };
    let mut named: Option<&str> = None;
    let mut legacy = false;
    for (key, node) in members {
        if same_key(key, "ignitionVersion") {
            legacy = true;
        }
        let members = match node {
            Node::Object(members) if same_key(key, "ignition") => members,
            Node::Null => continue,
            other if same_key(key, "ignition") => {
                remarks.error(&ignition, format!("expected an object, found {}", other.describe()));
                return None;
            }
            _ => continue,
        };
        for (_, node) in members.iter().filter(|(key, _)| same_key(key, "version")) {
            match node {
                Node::Null => {}
                Node::Text(text) => named = Some(text),
                other => {
                    remarks
                        .error(&at, format!("expected a string, found {}", other.describe()))
                        .remedy(format!("write the version as \"{last}\""));
                    return None;
                }
            }
        }
    }
    let range = format!("Fledge reads {first} to {last} and {}", Version::LATEST);
    let Some(text) = named.filter(|text| !text.is_empty()) else {
        if legacy {
            old(remarks, &Path::ROOT.key("ignitionVersion"), "1", &range);
        } else {
            remarks
                .error(&at, format!("it doesn't say which version of the specification it is written for; {range}"))
                .remedy(format!("set ignition.version, for instance to \"{last}\""));
        }
        return None;
    };
    let Some(semver) = Semver::parse(text) else {
        remarks
            .error(&at, format!("{text:?} is not a version"))
            .remedy(format!("write it with three numbers, such as \"{last}\""));
        return None;
    };
    if let Some(version) = Version::from_semver(&semver) {
        return Some(version);
    }
    if semver.major < 3 {
        old(remarks, &at, text, &range);
    } else if semver.pre_release.is_some() || semver.metadata.is_some() {
        remarks
            .error(&at, format!("{text} is not a stable version of the specification; {range}"))
            .remedy("use the stable version with the features you need, or a newer Fledge once it is stable");
    } else {
        remarks
            .error(&at, format!("version {text} of the specification is not known here; {range}"))
            .remedy(format!("write the config for {last} if it needs nothing newer, or use a newer Fledge"));
    }
    None
}

fn old(remarks: &mut Remarks, at: &Path<'_>, version: &str, range: &str) {
    let (what, remedy) = if version.starts_with('2') {
        (
            format!("this is a config for version {version} of the specification"),
            "translate it with ign-converter, or write it as a Butane config and let butane make a new one",
        )
    } else {
        ("this is a config for version 1 of the specification".into(), TRANSPILE)
    };
    remarks.error(at, format!("{what}, which has another form; {range}")).remedy(remedy);
}
