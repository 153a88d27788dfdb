// SPDX-License-Identifier: Apache-2.0
//! The configs that both programs work through: `tests/oracle/configs/*.toml`, any number of
//!
//! ```toml
//! [[config]]
//! name = "file-mode"                  # unique among all files
//! disks = [256]                       # sizes in MiB of /dev/loop0, /dev/loop1, ...; none if absent
//! sector = 4096                       # bytes of a sector of these; 512 if absent
//! prepare = ["touch $ROOT/etc/there"] # shell lines that are run first; $ROOT is the target, $SYSTEM holds base.d
//! fails = "disks"                     # the stage in which it has to fail; without it, it has to succeed
//! limit = 60                          # seconds for all stages; 120 if absent
//! text = '''
//! {"ignition": {"version": "3.0.0"}}
//! '''
//! ```
//!
//! Text and lines may hold the placeholders of [`crate::template`].

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::template::Values;

/// One config and what it is applied to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// The name of the file that it stands in, without its ending.
    #[serde(skip)]
    pub file: String,
    /// Sizes of its disks in MiB.
    #[serde(default)]
    pub disks: Vec<u64>,
    /// Bytes of a sector of these.
    #[serde(default = "default_sector")]
    pub sector: u32,
    /// Shell lines that are run before the stages.
    #[serde(default)]
    pub prepare: Vec<String>,
    /// The stage in which it has to fail.
    pub fails: Option<String>,
    /// Seconds for all stages.
    #[serde(default = "default_limit")]
    pub limit: u64,
    /// The config.
    pub text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    config: Vec<Config>,
}

fn default_sector() -> u32 {
    512
}

fn default_limit() -> u64 {
    120
}

/// Where the configs and the list of differences are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle")
}

/// All configs, in the order of the files' names and of their places there.
///
/// # Errors
/// If a file isn't valid, or a name stands twice.
pub fn load() -> Result<Vec<Config>> {
    let folder = folder().join("configs");
    let entries = fs::read_dir(&folder).with_context(|| format!("can't read {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut configs: Vec<Config> = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        let list: List = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
        for mut config in list.config {
            config.file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let twice = configs.iter().any(|known| known.name == config.name);
            ensure!(!twice, "{}: there are two configs {:?}", path.display(), config.name);
            configs.push(config);
        }
    }
    Ok(configs)
}

impl Config {
    /// The config with its placeholders replaced.
    ///
    /// # Errors
    /// If one of them is not known.
    pub fn expanded(&self, values: &Values<'_>) -> Result<Self> {
        let prepare = self.prepare.iter().map(|line| values.expand(line)).collect::<Result<_>>()?;
        Ok(Self { text: values.expand(self.text.trim_start())?, prepare, ..self.clone() })
    }

    /// As the guest reads it.
    pub(super) fn order(&self) -> Value {
        let disk = |mib: &u64| json!({ "size": mib << 20, "sector": self.sector });
        json!({
            "name": self.name,
            "text": self.text,
            "prepare": self.prepare,
            "disks": self.disks.iter().map(disk).collect::<Vec<_>>(),
            "limit": self.limit,
        })
    }
}

#[cfg(test)]
mod tests {
    use fledge_core::config::Version;
    use fledge_core::config::schema::{CONFIG, Field, Kind};

    use super::*;

    /// The last version that Debian's Ignition 2.14 reads.
    const LAST: Version = Version::V3_3;

    #[test]
    fn there_are_as_many_configs_as_were_asked_for() {
        let configs = load().unwrap();
        let invalid = configs.iter().filter(|config| config.fails.is_some()).count();
        assert!(configs.len() - invalid >= 60, "{} valid configs", configs.len() - invalid);
        assert!(invalid >= 15, "{invalid} invalid configs");
        for stage in configs.iter().filter_map(|config| config.fails.as_deref()) {
            assert!(["fetch-offline", "fetch", "kargs", "disks", "mount", "files"].contains(&stage), "{stage}");
        }
    }

    #[test]
    fn every_field_that_debians_ignition_knows_stands_in_a_valid_config() {
        let texts: Vec<(String, Value)> = load()
            .unwrap()
            .into_iter()
            .filter(|config| config.fails.is_none() && !config.text.trim().is_empty())
            .map(|config| {
                let parsed = serde_json::from_str(&config.text);
                (config.name.clone(), parsed.unwrap_or_else(|error| panic!("{}: {error}", config.name)))
            })
            .collect();
        let Kind::Object(fields) = CONFIG else { panic!("a config is an object") };
        let mut count = 0;
        let mut missing = Vec::new();
        each_field(fields, &[], &mut Vec::new(), &mut |path| {
            count += 1;
            if !texts.iter().any(|(_, text)| stands(text, path)) {
                missing.push(path.join("."));
            }
        });
        assert!(count > 130, "{count} fields were looked for");
        assert!(missing.is_empty(), "these fields stand in no config: {missing:#?}");
        for (name, text) in &texts {
            let version = text.pointer("/ignition/version").and_then(Value::as_str).unwrap_or_default();
            let known = Version::ALL.into_iter().find(|known| known.name() == version);
            assert!(known.is_some_and(|known| known <= LAST), "{name}: version {version:?}");
        }
        for version in Version::ALL.into_iter().filter(|version| *version <= LAST) {
            let count = texts.iter().filter(|(_, text)| text["ignition"]["version"] == version.name()).count();
            assert!(count >= 3, "{count} configs of version {version}");
        }
    }

    fn each_field(
        fields: &'static [Field],
        later: &[(&'static str, Version)],
        path: &mut Vec<&'static str>,
        visit: &mut dyn FnMut(&[&'static str]),
    ) {
        for field in fields {
            let here = later.iter().find(|(name, _)| *name == field.name).map_or(field.since, |(_, since)| *since);
            if here > LAST {
                continue;
            }
            path.push(field.name);
            visit(path);
            let mut kind = &field.kind;
            while let Kind::List(of) = kind {
                kind = of;
            }
            if let Kind::Object(inner) = kind {
                each_field(inner, field.later, path, visit);
            }
            path.pop();
        }
    }

    /// Whether a field stands in a config, in any item of the lists on the way.
    fn stands(value: &Value, path: &[&str]) -> bool {
        match (value, path.split_first()) {
            (_, None) => true,
            (Value::Array(items), _) => items.iter().any(|item| stands(item, path)),
            (Value::Object(members), Some((name, rest))) => members.get(*name).is_some_and(|value| stands(value, rest)),
            _ => false,
        }
    }
}
