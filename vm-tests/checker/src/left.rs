// SPDX-License-Identifier: Apache-2.0
//! Facts about paths in the moment in which the initramfs is left, kept for the report in the real root.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

const NAME: &str = "left.json";

/// Looks at every `left` path and keeps what is there.
pub(crate) fn remember(folder: &Path, looks: &[Value]) -> Result<()> {
    let mut facts = Map::new();
    for path in looks.iter().filter_map(|look| look.get("left")).filter_map(Value::as_str) {
        facts.insert(path.to_owned(), crate::look::of_path(Path::new(path))?);
    }
    fs::create_dir_all(folder)?;
    fs::write(folder.join(NAME), serde_json::to_vec(&facts)?).context("remembering what was left")
}

/// What [`remember`] saw.
pub(crate) fn recall(folder: &Path, path: &str) -> Result<Value> {
    let bytes = fs::read(folder.join(NAME)).context("nothing was remembered when the initramfs was left")?;
    let facts: Value = serde_json::from_slice(&bytes)?;
    facts.get(path).cloned().with_context(|| format!("{path} was not looked at"))
}
