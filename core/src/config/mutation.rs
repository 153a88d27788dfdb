// SPDX-License-Identifier: Apache-2.0
//! Forgets one field of every configuration between parsing and planning, to see that a test notices.
//!
//! `./dev mutate-fields` builds the tests with the feature `mutation` and names the field in the environment, as
//! [`super::schema::fields`] does. No product is built with it.

use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value as Json;

use super::decode::Decoding;
use super::model::Value as _;
use super::recognize::read_json;
use super::remark::Remarks;
use super::types::Config;
use super::version::Version;
use crate::json::Path;

extern crate std;

#[cfg(not(debug_assertions))]
compile_error!("a program that forgets fields is for tests alone");

/// The environment variable that names the field. A name that leads nowhere changes nothing, but goes all the way.
const VARIABLE: &str = "FLEDGE_DROP_FIELD";

/// The configuration without the field that the environment names, and without origins.
pub(super) fn mutated(config: Config) -> Config {
    match std::env::var(VARIABLE) {
        Ok(field) => without(&config, &field).unwrap_or(config),
        Err(_) => config,
    }
}

fn without(config: &Config, field: &str) -> Option<Config> {
    let mut json = serde_json::to_value(config).ok()?;
    let steps: Vec<&str> = field.split('.').collect();
    remove(&mut json, &steps);
    let text = serde_json::to_vec(&json).ok()?;
    let (_, node) = read_json(&text, "a mutated configuration").ok()?;
    let mut remarks = Remarks::default();
    let mut mutated = Config::default();
    mutated.decode(node, &Path::ROOT, &mut Decoding::new(Version::LATEST, &mut remarks));
    Some(mutated)
}

/// Removes what the steps lead to; `name[]` leads to every item of a list. Items stay where they are, so that their origins
/// are found by their paths.
fn remove(json: &mut Json, steps: &[&str]) {
    let Some((step, rest)) = steps.split_first() else { return };
    let Some(object) = json.as_object_mut() else { return };
    let name: String = step.trim_end_matches("[]").into();
    if rest.is_empty() {
        object.remove(&name);
        return;
    }
    match object.get_mut(&name) {
        Some(Json::Array(items)) => items.iter_mut().for_each(|item| remove(item, rest)),
        Some(below) => remove(below, rest),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::without;

    #[test]
    fn one_field_is_gone_and_the_rest_stays() {
        let text = br#"{"ignition": {"version": "3.4.0"},
            "storage": {"files": [{"path": "/a", "mode": 420}, {"path": "/b", "mode": 384}]}}"#;
        let config = parse(text, "t", None).unwrap_or_else(|refusal| panic!("{refusal}")).config;
        let left = without(&config, "storage.files[].mode").unwrap_or_default();
        assert!(left.storage.files.iter().all(|file| file.mode.is_none()));
        assert!(left.storage.files.iter().map(|file| file.path.as_str()).eq(["/a", "/b"]));
        let left = without(&config, "storage.files").unwrap_or_default();
        assert!(left.storage.files.is_empty());
        assert_eq!(without(&config, "storage.none[].such"), Some(config));
    }
}
