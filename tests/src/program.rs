// SPDX-License-Identifier: Apache-2.0
//! The program under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of `fledge`: `FLEDGE_BIN`, else built once by cargo.
///
/// # Panics
/// It doesn't build.
pub fn fledge() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("FLEDGE_BIN") {
        Some(path) => path.into(),
        None => build(),
    })
}

fn build() -> PathBuf {
    let repo = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let status = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "fledge"]).current_dir(&repo).status();
    assert!(status.is_ok_and(|status| status.success()), "cargo build -p fledge failed");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repo.join("target"), PathBuf::from);
    target.join("debug/fledge")
}
