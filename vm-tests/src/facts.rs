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
