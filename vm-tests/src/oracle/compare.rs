// SPDX-License-Identifier: Apache-2.0
//! What differs between the two programs, and the list of what may.
//!
//! A difference has the name of a config and a path: the name of the fact and, inside a fact that is an object or a list, the
//! members' names, as in `tree:/etc/file mode` or `cache storage/files/0/mode`. `tests/oracle/differences.toml` lists
//!
//! ```toml
//! [[difference]]
//! configs = ["file-mode"]       # all in which it occurs; ["*"]: any
//! path = "tree:/etc/file mode"  # `*`, once, stands for any text
//! reason = "Why ours is as it is."
//! ```
//!
//! UUIDs that neither the config nor its preparation names were made up by one of the programs; they count as equal.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Results;
use super::configs::{self, Config};

/// A difference that is known.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// The configs in which it occurs.
    pub configs: Vec<String>,
    /// Its path.
    pub path: String,
    /// Why it is there.
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    difference: Vec<Listed>,
}

/// What came out.
#[derive(Debug)]
pub struct Verdict {
    /// What differs and isn't listed, and what is listed and doesn't differ; nothing if all is well.
    pub differences: Vec<String>,
    /// How many facts were compared.
    pub facts: usize,
    /// How many of the differences are listed.
    pub listed: usize,
}

/// The list of differences.
///
/// # Errors
/// If it isn't valid.
pub fn listed() -> Result<Vec<Listed>> {
    let path = configs::folder().join("differences.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    let list: List = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
    for row in &list.difference {
        ensure!(!row.configs.is_empty(), "{}: {} is listed for no config", path.display(), row.path);
        ensure!(row.reason.trim().ends_with('.'), "{}: {} has no reason", path.display(), row.path);
    }
    Ok(list.difference)
}

/// Compares both programs' results. `whole` says that all configs were run, so that what is listed has to occur.
pub fn compare(configs: &[Config], theirs: &Results, ours: &Results, listed: &[Listed], whole: bool) -> Verdict {
    let mut verdict = Verdict { differences: Vec::new(), facts: 0, listed: 0 };
    let mut occurred = vec![Vec::new(); listed.len()];
    for config in configs {
        let (found, facts) = of_config(config, theirs.get(&config.name), ours.get(&config.name));
        verdict.facts += facts;
        for (path, words) in found {
            let mut known = false;
            for (row, seen) in listed.iter().zip(&mut occurred) {
                if row.configs.iter().any(|name| *name == config.name || name == "*") && matches(&row.path, &path) {
                    seen.push(config.name.clone());
                    known = true;
                }
            }
            if known {
                verdict.listed += 1;
            } else {
                verdict.differences.push(format!("{}: {path}: {words}", config.name));
            }
        }
    }
    if whole {
        for (row, seen) in listed.iter().zip(&occurred) {
            for name in &row.configs {
                if !(seen.contains(name) || name == "*" && !seen.is_empty()) {
                    let path = &row.path;
                    verdict.differences.push(format!("{name}: {path}: is listed as a difference and doesn't differ"));
                }
            }
        }
    }
    verdict
}

fn matches(pattern: &str, path: &str) -> bool {
    pattern
        .split_once('*')
        .map_or(pattern == path, |(start, end)| path.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)))
}

type Found = Vec<(String, String)>;

fn of_config(
    config: &Config,
    theirs: Option<&Map<String, Value>>,
    ours: Option<&Map<String, Value>>,
) -> (Found, usize) {
    let (Some(theirs), Some(ours)) = (theirs, ours) else {
        let who = if theirs.is_none() { "Debian's" } else { "Fledge's" };
        return (vec![("machine".to_owned(), format!("{who} machine didn't come to it"))], 0);
    };
    for (who, facts) in [("Debian's", theirs), ("Fledge's", ours)] {
        if let Some(error) = facts.get("error") {
            return (vec![("machine".to_owned(), format!("{who} machine: {}", shown(error)))], 0);
        }
    }
    let failed = |facts: &Map<String, Value>| facts.get("failed").and_then(Value::as_str).map(str::to_owned);
    let said = |facts: &Map<String, Value>| facts.get("said").and_then(Value::as_str).map(tail).unwrap_or_default();
    let (their_stage, our_stage) = (failed(theirs), failed(ours));
    let mut found = Vec::new();
    if their_stage != config.fails {
        let words = format!(
            "Debian's fails in {}, expected {}: {}",
            stage(their_stage.as_ref()),
            stage(config.fails.as_ref()),
            said(theirs)
        );
        found.push(("expected".to_owned(), words));
    }
    if their_stage != our_stage {
        let words = format!(
            "Debian's fails in {}, ours in {}: {}",
            stage(their_stage.as_ref()),
            stage(our_stage.as_ref()),
            if our_stage.is_some() { said(ours) } else { said(theirs) }
        );
        found.push(("failed".to_owned(), words));
        return (found, 1);
    }
    let made = Made::of(config);
    let theirs = made.normal(theirs);
    let ours = made.normal(ours);
    let mut count = 0;
    let names: Vec<&String> = theirs.keys().chain(ours.keys().filter(|name| !theirs.contains_key(*name))).collect();
    for name in names {
        if name == "said" {
            continue;
        }
        count += 1;
        differ(name, theirs.get(name), ours.get(name), &mut found);
    }
    (found, count)
}

fn stage(name: Option<&String>) -> &str {
    name.map_or("no stage", String::as_str)
}

fn differ(path: &str, theirs: Option<&Value>, ours: Option<&Value>, found: &mut Found) {
    let below = |name: &str| if path.contains(' ') { format!("{path}/{name}") } else { format!("{path} {name}") };
    match (theirs, ours) {
        (Some(Value::Object(theirs)), Some(Value::Object(ours))) => {
            let names: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
            for name in names {
                differ(&below(name), theirs.get(name), ours.get(name), found);
            }
        }
        (Some(Value::Array(theirs)), Some(Value::Array(ours))) if theirs.len() == ours.len() => {
            for (index, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
                differ(&below(&index.to_string()), Some(theirs), Some(ours), found);
            }
        }
        (theirs, ours) if theirs == ours => {}
        (theirs, ours) => {
            let word = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), shown);
            found.push((path.to_owned(), format!("Debian's {}, ours {}", word(theirs), word(ours))));
        }
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 300 { format!("{}...", text.chars().take(300).collect::<String>()) } else { text }
}

/// The last words of a stage; after Debian's a dump of the whole config stands before them.
fn tail(text: &str) -> String {
    let critical = text.rfind("CRITICAL").and_then(|start| text.get(start..));
    let text = critical.map_or_else(|| crate::host::tail(text.trim(), 4), |text| text.trim().to_owned());
    let skipped = text.char_indices().rev().nth(700).map_or(0, |(index, _)| index);
    text.get(skipped..).unwrap_or_default().to_owned()
}

/// Tells what the config names from what a program made up.
struct Made {
    named: String,
}

impl Made {
    fn of(config: &Config) -> Self {
        let all = format!("{} {}", config.text, config.prepare.join(" "));
        Self { named: all.replace(['-', ':'], "").to_lowercase() }
    }

    fn normal(&self, facts: &Map<String, Value>) -> Map<String, Value> {
        let of_device =
            |name: &str| ["sfdisk:", "blkid:", "mdadm:", "mount:"].iter().any(|kind| name.starts_with(kind));
        let one = |(name, value): (&String, &Value)| {
            let value = if of_device(name) || value.get("text").is_some() { self.value(value) } else { value.clone() };
            (name.clone(), value)
        };
        facts.iter().map(one).collect()
    }

    fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => json!(self.text(text)),
            Value::Object(members) => {
                members.iter().map(|(name, value)| (name.clone(), self.value(value))).collect::<Map<_, _>>().into()
            }
            other => other.clone(),
        }
    }

    fn text(&self, text: &str) -> String {
        let is_part = |character: char| character.is_ascii_hexdigit() || matches!(character, '-' | ':');
        let mut out = String::new();
        let mut rest = text;
        while !rest.is_empty() {
            let length = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(length);
            out.push_str(if self.is_made(word) { "made" } else { word });
            let next = after.chars().next().map_or(0, char::len_utf8);
            let (between, after) = after.split_at(next);
            out.push_str(between);
            rest = after;
        }
        out
    }

    /// A UUID as RFC 9562 writes it, as mdadm does, or as FAT and NTFS have it, that nobody named.
    fn is_made(&self, word: &str) -> bool {
        let lengths: Vec<usize> = word.split(['-', ':']).map(str::len).collect();
        let form = matches!(lengths.as_slice(), [8, 4, 4, 4, 12] | [8, 8, 8, 8] | [4, 4]);
        form && !self.named.contains(&word.replace(['-', ':'], "").to_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn config(name: &str, fails: Option<&str>) -> Config {
        let text = format!("[x]\nname = \"{name}\"\ntext = 'uuid 2E24EC82-0000-4000-8000-000000000001'");
        let mut config: BTreeMap<String, Config> = toml::from_str(&text).unwrap();
        Config { fails: fails.map(str::to_owned), ..config.remove("x").unwrap() }
    }

    fn facts(value: Value) -> Results {
        let Value::Object(facts) = value else { panic!("an object") };
        Results::from([("one".to_owned(), facts)])
    }

    fn said(theirs: Value, ours: Value, listed: &[Listed]) -> Vec<String> {
        compare(&[config("one", None)], &facts(theirs), &facts(ours), listed, true).differences
    }

    fn row(path: &str) -> Listed {
        Listed { configs: vec!["one".to_owned()], path: path.to_owned(), reason: "So.".to_owned() }
    }

    #[test]
    fn what_differs_is_told_unless_it_is_listed() {
        let theirs = json!({ "failed": null, "tree:/a": { "mode": "0644", "uid": 0 }, "tree:/b": {}, "said": "x" });
        let ours = json!({ "failed": null, "tree:/a": { "mode": "0600", "uid": 0 }, "said": "y" });
        let found = said(theirs.clone(), ours.clone(), &[]);
        assert_eq!(
            found,
            ["one: tree:/a mode: Debian's \"0644\", ours \"0600\"", "one: tree:/b: Debian's {}, ours nothing"]
        );
        assert_eq!(said(theirs.clone(), ours.clone(), &[row("tree:/a mode"), row("tree:/b")]), [""; 0]);
        assert_eq!(said(theirs.clone(), ours.clone(), &[row("tree:*")]), [""; 0]);
        assert_eq!(said(theirs.clone(), ours, &[row("tree:/b"), row("tree:*mode")]), [""; 0]);
        let found = said(theirs.clone(), theirs, &[row("tree:/a mode")]);
        assert_eq!(found, ["one: tree:/a mode: is listed as a difference and doesn't differ"]);
    }

    #[test]
    fn only_uuids_that_nobody_named_are_equal() {
        let with = |uuid: &str| json!({ "failed": null, "blkid:loop0 UUID": uuid });
        let (named, other) = ("2e24ec82-0000-4000-8000-000000000001", "2e24ec82-0000-4000-8000-000000000002");
        assert_eq!(said(with(named), with(other), &[]).len(), 1);
        assert_eq!(said(with(other), with("aaaaaaaa-0000-4000-8000-000000000003"), &[]), [""; 0]);
        assert_eq!(said(with("1234-ABCD"), with("ABCD-1234"), &[]), [""; 0]);
        assert_eq!(said(with("8:0"), with("8:1"), &[]).len(), 1);
    }

    #[test]
    fn failing_elsewhere_or_unexpectedly_is_a_difference() {
        let fails = |stage: &str| json!({ "failed": stage, "said": "why", "exit disks": 1 });
        let good = json!({ "failed": null });
        assert!(said(good.clone(), fails("disks"), &[]).concat().contains("ours in disks: why"));
        assert!(said(fails("disks"), fails("disks"), &[]).concat().contains("expected no stage"));
        let expected = [config("one", Some("disks"))];
        let run = |theirs: Value, ours: Value| compare(&expected, &facts(theirs), &facts(ours), &[], true).differences;
        assert_eq!(run(fails("disks"), fails("disks")), [""; 0]);
        assert_eq!(run(fails("disks"), fails("files")).len(), 1);
        assert_eq!(run(good.clone(), good.clone()).len(), 1);
        assert_eq!(compare(&expected, &Results::new(), &facts(good), &[], true).differences.len(), 1);
    }

    #[test]
    fn the_list_names_configs_that_exist() {
        let configs = configs::load().unwrap();
        for row in listed().unwrap() {
            for name in row.configs.iter().filter(|name| *name != "*") {
                assert!(configs.iter().any(|config| config.name == *name), "{name}");
            }
        }
    }
}
