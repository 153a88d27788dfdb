// SPDX-License-Identifier: Apache-2.0
//! `./dev clean`: what was built and what was cached goes.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::sh;

/// Removes the target directories and the cache of images.
pub(crate) fn run(repo: &Path) -> Result<()> {
    // target/ holds this very program: it goes last.
    for path in [cache_dir()?, repo.join("core/guard/target"), repo.join("target")] {
        sh::step(&format!("removing {}", path.display()));
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn cache_dir() -> Result<std::path::PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| Path::new(&home).join(".cache"), Into::into);
    Ok(cache.join("fledge"))
}
