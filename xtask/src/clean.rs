// SPDX-License-Identifier: Apache-2.0
//! `./dev clean`: what was built and what was cached goes.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};

use fledge_vm_tests::cache::Cache;

use crate::sh;

/// Removes the target directories and the cache of images.
pub(crate) fn run(repo: &Path) -> Result<()> {
    let cache = Cache::of_user()?;
    sh::step(&format!("removing {}", cache.root().display()));
    cache.clean()?;
    // target/ holds this very program: it goes last.
    for path in [repo.join("core/guard/target"), repo.join("target")] {
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
