// SPDX-License-Identifier: Apache-2.0
//! `./dev vm`: cases in virtual machines.

use std::path::Path;

use anyhow::{Result, bail};

/// Runs the named cases.
pub(crate) fn run(_repo: &Path, _args: &[String]) -> Result<bool> {
    bail!("there are no VM cases yet")
}
