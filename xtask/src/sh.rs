// SPDX-License-Identifier: Apache-2.0
//! Running programs, with a line that says which.

use std::path::Path;
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

/// A program that runs as root: through sudo for a user who isn't. sudo may drop the environment, so what the program needs
/// of it is given.
pub(crate) fn as_root(program: &Path, environment: &[(&str, &Path)]) -> Command {
    let mut command;
    if rustix::process::geteuid().is_root() {
        command = Command::new(program);
        command.envs(environment.iter().copied());
    } else {
        command = Command::new("sudo");
        command.arg("env");
        for (name, value) in environment {
            command.arg(format!("{name}={}", value.display()));
        }
        command.arg(program);
    }
    command
}
