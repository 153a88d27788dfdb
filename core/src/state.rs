// SPDX-License-Identifier: Apache-2.0
//! What one stage leaves for the next, beside the cached configuration: the file of `--state-file`.
//!
//! The cache has the form that other software reads, and so can't say where its items were written. This file can: it holds
//! the origin of every list item, in the order in which a walk through the configuration meets them.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha512};

use crate::config::{self, Config};
use crate::origin::{Origin, Sources};
use crate::secret::Key;

/// The version of the file's form that this build writes and reads. Both happen in one boot, by one build.
pub const VERSION: u32 = 1;

/// What stages leave for each other.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// [`VERSION`].
    version: u32,
    /// The user's configurations that took part; base configurations are read anew by every stage.
    pub sources: Sources,
    /// SHA-512 of the cached configuration that the origins belong to, in hexadecimal.
    cache: String,
    /// Origins of its list items.
    origins: Vec<Origin>,
    /// Directories that the mount stage made in the target root, as paths seen from there.
    pub directories: Vec<String>,
    /// Where the mount stage mounted something, in that order, as paths seen from the target root.
    pub mounted: Vec<String>,
    /// The encrypted volumes that the disks stage made or opened.
    pub luks: Vec<Held>,
}

/// An encrypted volume that is open.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Held {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: String,
    /// The key that goes to the target root; `None` for one that clevis opens, and once the files stage has written it.
    pub key: Option<Key>,
}

impl From<Held> for BTreeMap<String, String> {
    fn from(held: Held) -> Self {
        let mut map = Self::new();
        map.insert("name".into(), held.name);
        map.insert("uuid".into(), held.uuid);
        if let Some(key) = held.key {
            map.insert("key".into(), BASE64.encode(key.expose()));
        }
        map
    }
}

impl From<BTreeMap<String, String>> for Held {
    /// What is no base64 is no key: the file is ours.
    fn from(mut map: BTreeMap<String, String>) -> Self {
        let mut take = |name: &str| map.get_mut(name).map(core::mem::take);
        Self {
            name: take("name").unwrap_or_default(),
            uuid: take("uuid").unwrap_or_default(),
            key: take("key").and_then(|key| BASE64.decode(key.as_bytes()).ok()).map(Key::new),
        }
    }
}

/// Why the text of a state file can't be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StateError {
    /// It isn't what this program writes.
    #[error("it is damaged ({0})")]
    Damaged(String),
    /// Another build wrote it.
    #[error("its form is version {0}, and this build reads version {VERSION}")]
    Version(u32),
}

impl State {
    /// The volume of that name, if the disks stage made or opened it.
    pub fn volume(&self, name: &str) -> Option<&Held> {
        self.luks.iter().find(|held| held.name == name)
    }

    /// Remembers a volume, in place of one of the same name.
    pub fn hold(&mut self, volume: Held) {
        self.luks.retain(|held| held.name != volume.name);
        self.luks.push(volume);
    }

    /// Reads the text of a state file.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn parse(text: &[u8]) -> Result<Self, StateError> {
        let state: Self = serde_json::from_slice(text).map_err(|error| StateError::Damaged(error.to_string()))?;
        if state.version == VERSION { Ok(state) } else { Err(StateError::Version(state.version)) }
    }

    /// The text of a state file.
    ///
    /// # Errors
    /// There is no memory left.
    pub fn to_text(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = serde_json::to_vec(&Self { version: VERSION, ..self.clone() })?;
        text.push(b'\n');
        Ok(text)
    }

    /// What tells one operator's configuration from another: SHA-512 of its cached text, in hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.cache
    }

    /// Remembers the origins of a configuration whose cached text is `cache`.
    pub fn remember(&mut self, config: &Config, cache: &[u8]) {
        self.cache = fingerprint(cache);
        self.origins = config::origins(config);
    }

    /// Gives the items of a configuration that was read from `cache` their origins back. `false` if the cache isn't the one that they
    /// were remembered for: somebody has changed it since.
    pub fn recall(&self, config: &mut Config, cache: &[u8]) -> bool {
        self.cache == fingerprint(cache) && config::restore_origins(config, &self.origins)
    }
}

fn fingerprint(text: &[u8]) -> String {
    HEXLOWER.encode(Sha512::digest(text).as_slice())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;
    use alloc::vec;

    use super::*;
    use crate::origin::{Source, SourceKind};

    const TEXT: &[u8] = br#"{"ignition": {"version": "3.4.0", "config": {"merge": [{"source": "data:,"}]}},
 "storage": {"files": [{"path": "/a"}, {"path": "/b", "append": [{"source": "data:,x"}]}]}}"#;

    #[test]
    fn origins_outlive_the_cache() {
        let config = config::parse(TEXT, "config.ign", Some(0)).unwrap().config;
        let mut state = State::default();
        let source =
            Source { name: "config.ign".into(), kind: SourceKind::User, referenced: false, sha512: "00".into() };
        state.sources.add(source);
        let cache = serde_json::to_vec(&config).unwrap();
        state.remember(&config, &cache);

        let state = State::parse(&state.to_text().unwrap()).unwrap();
        assert_eq!(state.sources.0.len(), 1);
        let mut again = config::read_cache(&cache, "cache").unwrap();
        assert!(state.recall(&mut again, &cache));
        let [_, b] = &again.storage.files[..] else { panic!("{again:?}") };
        assert_eq!(
            state.sources.place(b.origin, "$.storage.files").unwrap().to_string(),
            "config.ign:2:40 at $.storage.files.1"
        );
        let append = state.sources.place(b.append[0].origin, "$.storage.files.1.append").unwrap();
        assert_eq!(append.to_string(), "config.ign:2:66 at $.storage.files.1.append.0");

        let other = [cache.as_slice(), b" "].concat();
        let mut changed = config::read_cache(&other, "cache").unwrap();
        assert!(!state.recall(&mut changed, &other));
        assert_eq!(changed.storage.files[1].origin.source, None);
    }

    #[test]
    fn another_form_is_refused() {
        assert_eq!(State::parse(br#"{"version": 2}"#), Err(StateError::Version(2)));
        assert_eq!(State::parse(b"{}"), Err(StateError::Version(0)));
        assert!(matches!(State::parse(b"{\"version\": 1"), Err(StateError::Damaged(_))));
        let state = State { directories: vec!["/var/lib".to_string()], ..State::default() };
        assert_eq!(State::parse(&state.to_text().unwrap()).unwrap().directories, state.directories);
        let mut state = State::default();
        for key in [Some(Key::new(b"sesame\0".to_vec())), None] {
            state.hold(Held { name: "data".into(), uuid: "5ab3".into(), key });
            assert_eq!(State::parse(&state.to_text().unwrap()).unwrap().luks, state.luks);
            assert_eq!(state.luks.len(), 1);
        }
    }
}
