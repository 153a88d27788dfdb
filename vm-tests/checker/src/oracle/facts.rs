// SPDX-License-Identifier: Apache-2.0
//! What a config left: a flat object from the name of a fact to its value, so that two of them can be compared.
//!
//! | fact | value |
//! |---|---|
//! | `failed` | the stage that failed, or null; `said`: what it said last; `exit STAGE`: its exit code |
//! | `tree:PATH` | `kind`, `mode`, `uid`, `gid`, `target`, `xattrs`, `size` and `sha256` or, for presets and the crypttab, `text` with its lines sorted; `same`: the first path of the same inode |
//! | `passwd:NAME`, `group:NAME`, `shadow:NAME`, `gshadow:NAME`, `subuid:NAME`, `subgid:NAME` | the line without the name; of shadow also without the day of the last change; `order:FILE`: their names in order |
//! | `result MEMBER` | a member of the result file, but for its date and the boot's id |
//! | `mount:PATH` | what was mounted before umount: `kind`, `source`, `options` |
//! | `left mounted` | what still is after it |
//! | `kargs` | what the kernel arguments' helper was called with |
//! | `cache MEMBER` | a top-level member of the cached config, without its version |
//! | `sfdisk:DISK KEY`, `blkid:DEVICE KEY`, `luks:DEVICE KEY`, `mdadm:ARRAY KEY`, `size:DEVICE` | a line of that program's output; 512-byte sectors |

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::look::hex;

/// Their lines are compared one by one, and a day stands in one of them.
const ACCOUNTS: &[&str] = &["passwd", "group", "shadow", "gshadow", "subuid", "subgid"];
const RESULT: &str = "etc/.ignition-result.json";
/// Small files that are told as they are.
const TEXTS: &[&str] = &["/etc/crypttab", "/etc/systemd/system-preset/"];

/// What is seen while the config's file systems are mounted.
pub(super) fn mounted(root: &Path, facts: &mut Map<String, Value>) -> Result<()> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    for line in text.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (left, right): (Vec<&str>, Vec<&str>) = (left.split(' ').collect(), right.split(' ').collect());
        let Some(point) = left.get(4).and_then(|point| Path::new(point).strip_prefix(root).ok()) else { continue };
        if point.as_os_str().is_empty() {
            continue;
        }
        let sorted = |list: Option<&&str>| {
            let mut words: Vec<&str> = list.map_or_else(Vec::new, |list| list.split(',').collect());
            words.sort_unstable();
            words.join(",")
        };
        let options = format!("{};{}", sorted(left.get(5)), sorted(right.get(2)));
        let fact = json!({ "kind": right.first(), "source": right.get(1), "options": options });
        facts.insert(format!("mount:/{}", point.display()), fact);
    }
    tree(root, facts)
}

/// What is seen when all is done. Nothing but the failure counts where there is one.
pub(super) fn collect(place: &Path, root: &Path, failed: Option<&str>, facts: &mut Map<String, Value>) -> Result<()> {
    facts.insert("failed".to_owned(), json!(failed));
    let left: Vec<String> = points(root)?.iter().skip(1).map(|point| point.display().to_string()).collect();
    facts.insert("left mounted".to_owned(), json!(left));
    if failed.is_some() {
        return Ok(());
    }
    for name in ACCOUNTS {
        accounts(name, &root.join("etc").join(name), facts)?;
    }
    if let Ok(bytes) = fs::read(root.join(RESULT)) {
        let result: Map<String, Value> = serde_json::from_slice(&bytes).context("the result file is not JSON")?;
        for (key, value) in result {
            let value = if matches!(key.as_str(), "provisioningBootID" | "provisioningDate") {
                json!(value.as_str().map_or(0, str::len) > 0)
            } else {
                value
            };
            facts.insert(format!("result {key}"), value);
        }
    }
    facts.insert("kargs".to_owned(), json!(fs::read_to_string(place.join("kargs")).ok()));
    let cache = fs::read(place.join("ignition.json")).context("no stage left a cached config")?;
    let cache: Map<String, Value> = serde_json::from_slice(&cache).context("the cached config is not JSON")?;
    for (key, mut value) in cache {
        if let Some(members) = value.as_object_mut() {
            members.remove("version");
        }
        facts.insert(format!("cache {key}"), value);
    }
    super::devices::facts(facts)
}

/// Mount points at and below a folder, in the order in which they were mounted.
pub(super) fn points(root: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    Ok(points.filter(|point| point.starts_with(root)).collect())
}

fn tree(root: &Path, facts: &mut Map<String, Value>) -> Result<()> {
    let mut inodes = BTreeMap::new();
    walk(root, Path::new(""), &mut inodes, facts)
}

fn walk(
    root: &Path,
    below: &Path,
    inodes: &mut BTreeMap<(u64, u64), String>,
    facts: &mut Map<String, Value>,
) -> Result<()> {
    let mut names: Vec<_> = fs::read_dir(root.join(below))?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    for name in names {
        let path = below.join(name);
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full)?;
        let shown = format!("/{}", path.display());
        let mut fact = json!({
            "mode": format!("{:04o}", meta.mode() & 0o7777),
            "uid": meta.uid(),
            "gid": meta.gid(),
            "xattrs": xattrs(&full)?,
        });
        let map = fact.as_object_mut().context("an object")?;
        let kind = meta.file_type();
        if kind.is_dir() {
            map.insert("kind".to_owned(), json!("dir"));
        } else if kind.is_symlink() {
            map.insert("kind".to_owned(), json!("link"));
            map.insert("target".to_owned(), json!(fs::read_link(&full)?.to_string_lossy()));
        } else if kind.is_file() {
            map.insert("kind".to_owned(), json!("file"));
            let bytes = fs::read(&full)?;
            if TEXTS.iter().any(|start| shown.starts_with(start)) {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                // The order of a preset's lines is left to chance by 2.14.
                let mut lines: Vec<&str> = text.lines().collect();
                lines.sort_unstable();
                map.insert("text".to_owned(), json!(lines.join("\n")));
            } else if path != Path::new(RESULT) && ACCOUNTS.iter().all(|name| shown != format!("/etc/{name}")) {
                map.insert("size".to_owned(), json!(bytes.len()));
                map.insert("sha256".to_owned(), json!(hex(&Sha256::digest(&bytes))));
            }
        } else {
            map.insert("kind".to_owned(), json!("other"));
        }
        if !kind.is_dir() && meta.nlink() > 1 {
            let first = inodes.entry((meta.dev(), meta.ino())).or_insert_with(|| shown.clone());
            map.insert("same".to_owned(), json!(first));
        }
        facts.insert(format!("tree:{shown}"), fact);
        if kind.is_dir() {
            walk(root, &path, inodes, facts)?;
        }
    }
    Ok(())
}

fn xattrs(path: &Path) -> Result<Value> {
    let mut names = vec![0; 4096];
    let count =
        rustix::fs::llistxattr(path, &mut names[..]).with_context(|| format!("listxattr {}", path.display()))?;
    let mut found = Map::new();
    for name in names.get(..count).unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = std::ffi::OsStr::from_bytes(name);
        let mut value = vec![0; 4096];
        let count = rustix::fs::lgetxattr(path, name, &mut value[..])?;
        let value = value.get(..count).unwrap_or_default();
        let text =
            std::str::from_utf8(value).map_or_else(|_| hex(value), |text| text.trim_end_matches('\0').to_owned());
        found.insert(name.to_string_lossy().into_owned(), json!(text));
    }
    Ok(Value::Object(found))
}

fn accounts(name: &str, path: &Path, facts: &mut Map<String, Value>) -> Result<()> {
    let Ok(text) = fs::read_to_string(path) else { return Ok(()) };
    for line in text.lines() {
        let (user, rest) = line.split_once(':').with_context(|| format!("{}: {line:?}", path.display()))?;
        let mut fields: Vec<&str> = rest.split(':').collect();
        if name == "shadow" {
            // The day of the last change.
            if let Some(day) = fields.get_mut(1) {
                *day = if day.is_empty() { "" } else { "day" };
            }
        }
        facts.insert(format!("{name}:{user}"), json!(fields.join(":")));
    }
    let order: Vec<&str> = text.lines().filter_map(|line| line.split(':').next()).collect();
    facts.insert(format!("order:{name}"), json!(order));
    Ok(())
}
