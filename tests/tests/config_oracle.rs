// SPDX-License-Identifier: Apache-2.0
//! The config model against the crate `ignition-config`, which reads the same configs and knows nothing of Fledge.
//!
//! That crate knows names, types and versions, but neither rules nor Go's way with JSON. What follows from that is listed in
//! `oracle/ignition-config.toml`, each with its reason: a difference that isn't listed fails, as does a listed one that is gone.
//! Ignition's own verdicts on the same configs were recorded once, in `oracle/ignition-refuses.txt`; who adds a config that
//! Ignition refuses adds its line there.

mod corpus;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use fledge_core::config::{Refusal, Version, parse};
use serde_json::Value;

use corpus::Case;

/// What a reader made of a text.
struct Reading {
    /// The config without what is empty; none if it is refused.
    config: Option<Value>,
    /// The paths of the keys that it passed over.
    unknown: BTreeSet<String>,
}

/// The cases, with what Fledge makes of each.
fn cases() -> &'static [(Case, Reading)] {
    static CASES: OnceLock<Vec<(Case, Reading)>> = OnceLock::new();
    CASES.get_or_init(|| {
        corpus::all().into_iter().map(|case| (ours(&case), case)).map(|(ours, case)| (case, ours)).collect()
    })
}

fn ours(case: &Case) -> Reading {
    match parse(case.text.as_bytes(), "t", None) {
        Ok(parsed) => Reading {
            config: Some(essence(serde_json::to_value(&parsed.config).unwrap())),
            unknown: parsed
                .warnings
                .iter()
                .filter(|warning| warning.reason.contains("ignored") && warning.reason.contains("field"))
                .map(|warning| warning.place.path.clone())
                .collect(),
        },
        Err(Refusal::Invalid(_) | Refusal::Empty) => Reading { config: None, unknown: BTreeSet::new() },
    }
}

fn theirs(case: &Case) -> Reading {
    match ignition_config::Config::parse_str(&case.text) {
        Ok((config, warnings)) => Reading {
            config: Some(essence(serde_json::to_value(&config).unwrap())),
            unknown: warnings
                .iter()
                .filter_map(|warning| warning.to_string().strip_prefix("unused key: ").map(str::to_owned))
                .collect(),
        },
        Err(_) => Reading { config: None, unknown: BTreeSet::new() },
    }
}

/// A config without its version and without what means the same as nothing.
fn essence(mut config: Value) -> Value {
    config["ignition"]["version"] = Value::Null;
    prune(&mut config);
    config
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(prune);
            members.retain(|_, member| !is_nothing(member));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// How two readings differ, in the words of the list.
fn difference(ours: &Reading, theirs: &Reading) -> Option<&'static str> {
    match (&ours.config, &theirs.config) {
        (None, None) => None,
        (None, Some(_)) => Some("refused here"),
        (Some(_), None) => Some("refused there"),
        _ if ours.unknown != theirs.unknown => Some("keys passed over"),
        (Some(ours), Some(theirs)) => (ours != theirs).then_some("value"),
    }
}

/// A line of the list: the parts of a case's name, of which any may be `*`, and how the readings differ.
struct Row {
    subject: String,
    variant: String,
    /// All if none is named.
    versions: Vec<String>,
    how: String,
    reason: String,
    /// The group that it stands in.
    group: usize,
}

impl Row {
    fn matches(&self, case: &Case) -> bool {
        let part = |pattern: &str, name: &str| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => pattern == name,
        };
        let version = case.version.name();
        part(&self.subject, &case.subject)
            && part(&self.variant, case.variant)
            && (self.versions.is_empty() || self.versions.iter().any(|named| version.starts_with(named.as_str())))
    }
}

/// The rows, and for each group how many configs it explains, where it says so.
fn rows(list: &str) -> (Vec<Row>, Vec<Option<i64>>) {
    let list: toml::Table = toml::from_str(list).unwrap();
    let text = |table: &toml::Value, key: &str| table[key].as_str().unwrap().to_owned();
    let (mut rows, mut counts) = (Vec::new(), Vec::new());
    for (number, group) in list["difference"].as_array().unwrap().iter().enumerate() {
        counts.push(group.get("count").and_then(toml::Value::as_integer));
        for case in group["cases"].as_array().unwrap().iter().map(|case| case.as_str().unwrap()) {
            let parts: Vec<_> = case.split(" | ").collect();
            let versions = parts.get(2).map(|versions| versions.split(' ').map(str::to_owned).collect());
            rows.push(Row {
                subject: parts[0].into(),
                variant: parts[1].into(),
                versions: versions.unwrap_or_default(),
                how: text(group, "how"),
                reason: text(group, "reason"),
                group: number,
            });
            let row = &rows[rows.len() - 1];
            assert!(!case.contains('*') || counts[number].is_some(), "{}: how many configs?", row.subject);
        }
    }
    (rows, counts)
}

/// Holds a list against the cases, given how the readings of each differ.
fn hold<'c>(
    list: &str,
    cases: impl Iterator<Item = &'c (Case, Reading)>,
    how: impl Fn(&Case, &Reading) -> Option<&'static str>,
) {
    let (rows, counts) = rows(list);
    let mut used = vec![false; rows.len()];
    let mut explained = vec![0; counts.len()];
    let mut unlisted: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut gone = Vec::new();
    let mut compared = 0;
    for (case, ours) in cases {
        compared += 1;
        let how = how(case, ours);
        let listed: Vec<_> = rows.iter().enumerate().filter(|(_, row)| row.matches(case)).collect();
        let name = format!("{} | {}", case.subject, case.variant);
        match how {
            Some(how) if !listed.iter().any(|(_, row)| row.how == how) => {
                unlisted.entry(format!("{how}: {name}")).or_default().push(case.version.name());
            }
            _ => {}
        }
        if let Some((_, row)) = listed.iter().find(|(_, row)| how == Some(row.how.as_str())) {
            explained[row.group] += 1;
        }
        for (index, row) in listed {
            if how == Some(row.how.as_str()) {
                used[index] = true;
            } else if !row.subject.contains('*') && !row.variant.contains('*') {
                gone.push(format!("{name} | {}: {how:?} instead of {:?} ({})", case.version, row.how, row.reason));
            }
        }
    }
    for (group, (wanted, found)) in counts.iter().zip(explained).enumerate() {
        assert!(wanted.is_none_or(|wanted| wanted == found), "group {group} explains {found} configs, not {wanted:?}");
    }
    let unused = rows.iter().zip(used).filter(|(_, used)| !used);
    let unused: Vec<_> = unused.map(|(row, _)| format!("{} | {}", row.subject, row.variant)).collect();
    assert!(compared > 10_000, "{compared} configs were compared");
    assert!(unlisted.is_empty(), "{} differences that aren't listed:\n{unlisted:#?}", unlisted.len());
    assert!(gone.is_empty(), "listed, but no longer there:\n{}", gone.join("\n"));
    assert!(unused.is_empty(), "listed, but nowhere to be seen:\n{}", unused.join("\n"));
}

#[test]
fn every_difference_to_the_crate_is_listed_and_every_listed_one_is_there() {
    // The crate doesn't know the experimental version.
    let known = cases().iter().filter(|(case, _)| case.version <= Version::STABLE);
    hold(include_str!("../oracle/ignition-config.toml"), known, |case, ours| difference(ours, &theirs(case)));
}

#[test]
fn verdicts_are_ignitions_but_for_the_listed_ones() {
    let mut refused = BTreeSet::new();
    for line in include_str!("../oracle/ignition-refuses.txt").lines().filter(|line| !line.starts_with('#')) {
        let (name, minors) = line.rsplit_once(" | ").unwrap();
        refused.extend(minors.chars().map(|minor| format!("{name} | 3.{minor}")));
    }
    let name = |case: &Case| format!("{} | {} | {}", case.subject, case.variant, &case.version.name()[..3]);
    let names: BTreeSet<_> = cases().iter().map(|(case, _)| name(case)).collect();
    let left: Vec<_> = refused.difference(&names).collect();
    assert!(left.is_empty(), "not part of the corpus any more: {left:?}");
    hold(include_str!("../oracle/ignition.toml"), cases().iter(), |case, ours| {
        match (ours.config.is_some(), !refused.contains(&name(case))) {
            (true, false) => Some("refused there"),
            (false, true) => Some("refused here"),
            _ => None,
        }
    });
}

/// Both sides are there: the corpus is neither all right nor all wrong, for either reader.
#[test]
fn the_corpus_has_right_and_wrong_configs_of_every_version() {
    let mut counts: BTreeMap<Version, [usize; 2]> = BTreeMap::new();
    for (case, ours) in cases() {
        counts.entry(case.version).or_default()[usize::from(ours.config.is_some())] += 1;
    }
    assert_eq!(counts.len(), Version::ALL.len());
    for (version, [wrong, right]) in counts {
        assert!(right > 500 && wrong > 200, "{version}: {right} right, {wrong} wrong");
    }
    let names: BTreeSet<_> = cases().iter().map(|(case, _)| (&case.subject, case.variant, case.version)).collect();
    assert_eq!(names.len(), cases().len(), "each case has its own name");
}

/// For other readers: one JSON object a line, with the name of the case and its text, in the file `FLEDGE_CORPUS`.
#[test]
#[ignore = "writes the corpus to a file, for readers that aren't Rust"]
fn write_the_corpus() {
    use std::io::Write as _;
    let mut out = std::io::BufWriter::new(std::fs::File::create(std::env::var_os("FLEDGE_CORPUS").unwrap()).unwrap());
    for Case { subject, variant, version, text } in corpus::all() {
        let line = serde_json::json!({"name": format!("{subject} | {variant} | {version}"), "text": text});
        writeln!(out, "{line}").unwrap();
    }
}
