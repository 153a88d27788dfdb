// SPDX-License-Identifier: Apache-2.0
//! The layers that images are made from, kept under the user's cache folder.
//!
//! A layer is a folder `<name>-<key>`, where the key is a hash of everything it is made from. It appears by a rename
//! once it is whole; builders of the same layer wait for each other. A layer that a run holds is not removed.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use data_encoding::HEXLOWER;
use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

/// The folder `fledge` in the user's cache (`$XDG_CACHE_HOME`, else `~/.cache`).
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// A hash of what a layer is made from; every ingredient is hashed with its name and length.
#[derive(Default)]
pub struct Key(Sha256);

impl Key {
    /// Adds one ingredient.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.0.update(format!("{name}\0{}\0", value.len()));
        self.0.update(value);
        self
    }

    /// The key: 16 hexadecimal digits.
    pub fn finish(self) -> String {
        let mut text = HEXLOWER.encode(&self.0.finalize());
        text.truncate(16);
        text
    }
}

impl Cache {
    /// The cache of the user who runs this.
    ///
    /// # Errors
    /// If neither `XDG_CACHE_HOME` nor `HOME` is set, or the folder can't be made.
    pub fn of_user() -> Result<Self> {
        let base = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .context("neither XDG_CACHE_HOME nor HOME is set")?;
        Self::at(base.join("fledge"))
    }

    /// A cache in a given folder, which is made if missing.
    ///
    /// # Errors
    /// If the folder can't be made.
    pub fn at(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root).with_context(|| format!("can't make the cache folder {}", root.display()))?;
        Ok(Self { root })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the layer stands, or would.
    pub fn path(&self, name: &str, key: &str) -> PathBuf {
        self.root.join(format!("{name}-{key}"))
    }

    /// Whether the layer is there.
    pub fn has(&self, name: &str, key: &str) -> bool {
        self.path(name, key).is_dir()
    }

    /// Keeps the layer from being removed until the returned file is dropped; nothing if it isn't there.
    pub fn hold(&self, name: &str, key: &str) -> Option<File> {
        let file = File::open(self.path(name, key)).ok()?;
        rustix::fs::flock(&file, FlockOperation::LockShared).ok()?;
        // Whoever removed it meanwhile had it locked.
        self.has(name, key).then_some(file)
    }

    /// Waits until no other process builds, and keeps them waiting until the returned file is dropped.
    ///
    /// # Errors
    /// If the lock file can't be made.
    pub fn lock(&self) -> Result<File> {
        let path = self.root.join(".lock");
        let file = File::create(&path).with_context(|| format!("can't make {}", path.display()))?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            crate::progress::say("waiting for another run that builds the image");
            loop {
                crate::interrupt::check()?;
                if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
        }
        // Under the lock, anything half made is nobody's.
        for entry in fs::read_dir(&self.root)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(".new-") {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
        Ok(file)
    }

    /// An empty folder in which a layer is made before [`Cache::publish`].
    ///
    /// # Errors
    /// If it can't be made.
    pub fn begin(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(format!(".new-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir(&path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(path)
    }

    /// Gives a finished layer its name, and removes older layers of the same name.
    ///
    /// # Errors
    /// If it can't be renamed.
    pub fn publish(&self, name: &str, key: &str, made: &Path) -> Result<PathBuf> {
        let path = self.path(name, key);
        fs::rename(made, &path).with_context(|| format!("can't rename {} to {}", made.display(), path.display()))?;
        self.prune(name, &path);
        Ok(path)
    }

    /// Keeps the two newest layers of a name, since going back and forth between two versions shouldn't rebuild, and those that
    /// somebody holds.
    fn prune(&self, name: &str, newest: &Path) {
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        let mut others: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                path != newest && file.strip_prefix(name).is_some_and(|rest| rest.len() == 17 && rest.starts_with('-'))
            })
            .map(|path| (fs::metadata(&path).map_or(0, |meta| meta.mtime()), path))
            .collect();
        others.sort();
        others.pop();
        for (_, path) in others {
            let Ok(file) = File::open(&path) else { continue };
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                drop(fs::remove_dir_all(path));
            }
        }
    }

    /// Bytes on disk of everything in the cache.
    pub fn bytes(&self) -> u64 {
        fn count(path: &Path) -> u64 {
            let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
            let below = if meta.is_dir() {
                fs::read_dir(path).map_or(0, |entries| entries.flatten().map(|entry| count(&entry.path())).sum())
            } else {
                0
            };
            meta.blocks() * 512 + below
        }
        count(&self.root)
    }

    /// Removes everything.
    ///
    /// # Errors
    /// If something can't be removed.
    pub fn clean(&self) -> Result<()> {
        let _lock = self.lock()?;
        fs::remove_dir_all(&self.root).with_context(|| format!("can't remove {}", self.root.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_ingredients_apart() {
        let one = Key::default().with("a", "bc").with("d", "").finish();
        let two = Key::default().with("a", "b").with("d", "c").finish();
        assert_ne!(one, two);
        assert_eq!(one.len(), 16);
        assert_eq!(one, Key::default().with("a", "bc").with("d", "").finish());
    }

    fn publish(cache: &Cache, key: &str) {
        let made = cache.begin("layer").unwrap();
        fs::write(made.join("file"), key).unwrap();
        assert!(!cache.has("layer", key));
        cache.publish("layer", key, &made).unwrap();
        assert!(cache.has("layer", key));
    }

    #[test]
    fn a_layer_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache")).unwrap();
        assert!(cache.hold("layer", "0000000000000001").is_none());
        publish(&cache, "0000000000000001");
        let held = cache.hold("layer", "0000000000000001").unwrap();
        for key in ["0000000000000002", "0000000000000003", "0000000000000004"] {
            publish(&cache, key);
        }
        assert!(cache.has("layer", "0000000000000001"));
        assert!(!cache.has("layer", "0000000000000002"));
        drop(held);
        publish(&cache, "0000000000000005");
        assert!(!cache.has("layer", "0000000000000001"));
    }

    #[test]
    fn a_layer_appears_whole_and_only_two_of_a_name_stay() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache")).unwrap();
        for key in ["0000000000000001", "0000000000000002", "0000000000000003"] {
            publish(&cache, key);
        }
        let left = fs::read_dir(cache.root()).unwrap().count();
        assert_eq!(left, 2);
        assert!(cache.has("layer", "0000000000000003"));
        assert!(cache.bytes() > 0);
        cache.clean().unwrap();
        assert!(!cache.root().exists());
    }
}
