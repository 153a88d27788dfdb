// SPDX-License-Identifier: Apache-2.0
//! Running programs, with a line that says which.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

/// Says what is about to happen.
pub(crate) fn step(what: &str) {
    eprintln!("==> {what}");
}

/// A cargo call, by the cargo that runs this program.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs a program with its output shown, and tells whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    Ok(command.status().with_context(|| format!("starting {command:?}"))?.success())
}
