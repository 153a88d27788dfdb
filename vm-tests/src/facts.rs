// SPDX-License-Identifier: Apache-2.0
//! Compares what the checker saw with what a case expects.
//!
//! An expectation is an object; each of its members is compared with the fact's member of the same name. A value is
//! to be equal, or it is an object of these conditions, which must all hold:
//!
//! | condition | holds if the fact |
//! |---|---|
//! | `contains` | is a text with this part, or a list with this member; a list here: with each |
//! | `lacks` | is a text without this part, or a list without this member; a list here: without any |
//! | `starts_with` | is a text that begins so |
//! | `at_least`, `at_most` | is such a number |
//! | `not` | is something else |

use serde_json::{Map, Value};

/// What differs, in words; nothing if all is as expected. `what` names the thing that was looked at.
pub fn differences(what: &str, expected: &Map<String, Value>, fact: &Value) -> Vec<String> {
    if let Some(error) = fact.get("error") {
        return vec![format!("{what}: the checker failed: {error}")];
    }
    let mut found = Vec::new();
    for (name, wanted) in expected {
        let seen = fact.get(name).unwrap_or(&Value::Null);
        for reason in member(wanted, seen) {
            found.push(format!("{what}: {name} {reason}"));
        }
    }
    found
}

/// What is not the same in two boots, in words: of lists, and of texts of several lines, only what one of them has and the other has
/// not.
pub fn unlike(what: &str, first: &Value, this: &Value) -> Vec<String> {
    if let Some(error) = first.get("error").or_else(|| this.get("error")) {
        return vec![format!("{what}: the checker failed: {error}")];
    }
    if first == this {
        return Vec::new();
    }
    let (one, other) = (parts(first), parts(this));
    let only = |these: &[String], those: &[String]| {
        these.iter().filter(|part| !those.contains(part)).cloned().collect::<Vec<_>>()
    };
    let (lacks, has) = (only(&one, &other), only(&other, &one));
    if lacks.is_empty() && has.is_empty() {
        return vec![format!("{what}: is in another order: {}", shown(this))];
    }
    let tell = |word: &str, parts: Vec<String>| {
        parts.into_iter().map(move |part| format!("{what}: unlike that boot, {word} {part}")).collect::<Vec<_>>()
    };
    [tell("it lacks", lacks), tell("it has", has)].concat()
}

fn parts(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                parts(value).into_iter().map(|part| format!("{name} {part}")).collect::<Vec<_>>()
            };
            members.iter().flat_map(member).collect()
        }
        Value::Array(list) => list.iter().flat_map(parts).collect(),
        Value::String(text) => text.lines().map(str::to_owned).collect(),
        other => vec![other.to_string()],
    }
}

fn member(wanted: &Value, seen: &Value) -> Vec<String> {
    let Some(conditions) = wanted.as_object() else {
        return if wanted == seen { Vec::new() } else { vec![format!("is {}, expected {wanted}", shown(seen))] };
    };
    let mut found = Vec::new();
    for (condition, value) in conditions {
        let each: Vec<&Value> = value.as_array().map_or_else(|| vec![value], |list| list.iter().collect());
        let holds = match condition.as_str() {
            "contains" => each.iter().all(|part| holds_part(seen, part)),
            "lacks" => !seen.is_null() && !each.iter().any(|part| holds_part(seen, part)),
            "starts_with" => seen.as_str().zip(value.as_str()).is_some_and(|(text, start)| text.starts_with(start)),
            "at_least" => seen.as_i64().zip(value.as_i64()).is_some_and(|(number, least)| number >= least),
            "at_most" => seen.as_i64().zip(value.as_i64()).is_some_and(|(number, most)| number <= most),
            "not" => !seen.is_null() && seen != value,
            _ => {
                found.push(format!("is compared by {condition:?}, which is no condition"));
                continue;
            }
        };
        if !holds {
            found.push(format!("is {}, expected: {condition} {value}", shown(seen)));
        }
    }
    found
}

fn holds_part(seen: &Value, part: &Value) -> bool {
    match (seen, part) {
        (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
        (Value::Array(list), part) => list.contains(part),
        _ => false,
    }
}

fn shown(value: &Value) -> String {
    if value.is_null() {
        return "missing".to_owned();
    }
    let text = value.to_string();
    if text.chars().count() > 600 { format!("{}...", text.chars().take(600).collect::<String>()) } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn count(expected: &Value, fact: &Value) -> usize {
        differences("x", expected.as_object().unwrap(), fact).len()
    }

    #[test]
    fn equal_values_and_conditions_hold() {
        let fact = json!({ "mode": "0644", "list": ["a", "b"], "text": "abc", "number": 3 });
        let expected = json!({
            "mode": "0644",
            "list": { "contains": ["a", "b"], "lacks": "c" },
            "text": { "contains": "b", "starts_with": "a", "lacks": ["x", "y"] },
            "number": { "at_least": 3, "at_most": 3, "not": 4 },
        });
        assert_eq!(count(&expected, &fact), 0);
    }

    #[test]
    fn boots_that_are_not_alike_tell_what_differs() {
        let first = json!({ "status": 0, "stdout": "a\nb\n", "lines": ["x", "y"] });
        assert!(unlike("look", &first, &first).is_empty());
        let this = json!({ "status": 0, "stdout": "a\nc\n", "lines": ["x", "y"] });
        let told = unlike("look", &first, &this);
        assert_eq!(told, ["look: unlike that boot, it lacks stdout b", "look: unlike that boot, it has stdout c"]);
        let this = json!({ "status": 0, "stdout": "a\nb\n", "lines": ["y", "x"] });
        assert!(unlike("look", &first, &this).concat().contains("another order"));
        assert!(unlike("look", &first, &json!({ "error": "no" })).concat().contains("failed"));
    }

    #[test]
    fn every_difference_is_told() {
        let fact = json!({ "mode": "0600", "list": ["a"], "number": 3 });
        for expected in [
            json!({ "mode": "0644" }),
            json!({ "list": { "contains": "b" } }),
            json!({ "list": { "lacks": ["b", "a"] } }),
            json!({ "number": { "at_least": 4 } }),
            json!({ "missing": { "lacks": "x" } }),
            json!({ "missing": { "not": 1 } }),
            json!({ "number": { "unknown": 1 } }),
        ] {
            assert_eq!(count(&expected, &fact), 1, "{expected}");
        }
        assert_eq!(count(&json!({ "mode": "0644", "number": 3 }), &json!({ "error": "no" })), 1);
    }
}
