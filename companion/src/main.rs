// SPDX-License-Identifier: Apache-2.0
//! `fledgectl`: the deployments of a machine, whether its boots are healthy, and what follows. Its commands are the table in [`commands`].

mod arguments;
mod commands;
mod out;
mod units;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::dispatch(std::env::args_os().skip(1).collect())
}
