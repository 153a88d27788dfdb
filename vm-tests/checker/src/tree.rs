// SPDX-License-Identifier: Apache-2.0
//! A whole tree as hashes, and what changed in it since an earlier moment.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::look::hex;

type Tree = BTreeMap<String, String>;

/// Keeps the tree below `path` as it is now.
pub(crate) fn remember(folder: &Path, path: &Path, look: &Value) -> Result<()> {
    let tree = gather(path, look)?;
    fs::write(memory(folder, path), serde_json::to_vec(&json!(tree))?).context("remembering a tree")
}

/// The tree below `path` as it is now, and what changed since [`remember`].
pub(crate) fn compare(folder: &Path, path: &Path, look: &Value) -> Result<Value> {
    let now = gather(path, look)?;
    let mut whole = Sha256::new();
    for (name, entry) in &now {
        whole.update(format!("{name}\0{entry}\n"));
    }
    let mut fact = json!({ "count": now.len(), "sha256": hex(&whole.finalize()) });
    if let Ok(text) = fs::read(memory(folder, path)) {
        let before: Tree = serde_json::from_slice::<Value>(&text)?
            .as_object()
            .context("the remembered tree is no object")?
            .iter()
            .map(|(name, entry)| (name.clone(), entry.as_str().unwrap_or_default().to_owned()))
            .collect();
        let changed: Vec<&String> = now
            .keys()
            .chain(before.keys().filter(|name| !now.contains_key(*name)))
            .filter(|name| now.get(*name) != before.get(*name))
            .collect();
        if let Some(map) = fact.as_object_mut() {
            map.insert("changed".to_owned(), json!(changed));
        }
    }
    Ok(fact)
}

fn memory(folder: &Path, path: &Path) -> PathBuf {
    folder.join(format!("before{}", path.to_string_lossy().replace('/', "+")))
}

fn gather(path: &Path, look: &Value) -> Result<Tree> {
    let except: Vec<PathBuf> = look
        .get("except")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(PathBuf::from)
        .collect();
    let mut tree = Tree::new();
    let device = fs::metadata(path).with_context(|| format!("can't look at {}", path.display()))?.dev();
    walk(path, device, &except, &mut tree)?;
    Ok(tree)
}

/// One file system only: what is mounted below isn't part of the tree.
fn walk(folder: &Path, device: u64, except: &[PathBuf], tree: &mut Tree) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))? {
        let path = entry?.path();
        if except.contains(&path) {
            continue;
        }
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.dev() != device {
            continue;
        }
        let what = if meta.is_symlink() {
            format!("-> {}", fs::read_link(&path)?.display())
        } else if meta.is_dir() {
            walk(&path, device, except, tree)?;
            String::new()
        } else if meta.is_file() {
            hex(&Sha256::digest(fs::read(&path)?))
        } else {
            format!("device {}", meta.rdev())
        };
        let entry = format!("{:o} {}:{} {what}", meta.mode(), meta.uid(), meta.gid());
        tree.insert(path.to_string_lossy().into_owned(), entry);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_a_new_file_and_a_lost_one_are_seen() {
        let base = std::env::temp_dir().join(format!("fledge-checker-{}", std::process::id()));
        let (folder, root) = (base.join("memory"), base.join("root"));
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(&root).unwrap();
        for name in ["same", "lost", "other", "left-out"] {
            fs::write(root.join(name), name).unwrap();
        }
        let look = json!({ "except": [root.join("left-out")] });
        remember(&folder, &root, &look).unwrap();
        assert_eq!(compare(&folder, &root, &look).unwrap()["changed"], json!([]));
        fs::remove_file(root.join("lost")).unwrap();
        fs::write(root.join("new"), "").unwrap();
        fs::write(root.join("other"), "changed").unwrap();
        fs::write(root.join("left-out"), "changed").unwrap();
        let changed = compare(&folder, &root, &look).unwrap()["changed"].clone();
        let names: Vec<&str> =
            changed.as_array().unwrap().iter().map(|path| path.as_str().unwrap().rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["new", "other", "lost"]);
        fs::remove_dir_all(base).unwrap();
    }
}
