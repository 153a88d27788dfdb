// SPDX-License-Identifier: Apache-2.0
//! What commands print, and the exit codes that go with it. A closed pipe is no error of ours.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use fledge_core::diag::Failure;

/// What was asked for failed; of `health`: the boot isn't healthy.
const FAILED: u8 = 1;
/// The command line can't be understood.
const USAGE: u8 = 2;

/// Prints to standard output; exit code 0.
pub(crate) fn line(text: impl Display) -> ExitCode {
    let _ = writeln!(io::stdout(), "{text}");
    ExitCode::SUCCESS
}

/// Says what is wrong with the command line; exit code 2.
pub(crate) fn usage(text: impl Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::from(USAGE)
}

/// Says what failed, to the journal as an error; exit code 1.
pub(crate) fn failed(failures: &[Failure]) -> ExitCode {
    for failure in failures {
        log::error!("{failure}");
    }
    ExitCode::from(FAILED)
}

/// Exit code 0, or what failed.
pub(crate) fn ended(result: Result<(), Failure>) -> ExitCode {
    result.map_or_else(|failure| failed(&[failure]), |()| ExitCode::SUCCESS)
}

/// As [`ended`], for several things.
pub(crate) fn all_ended(result: Result<(), Vec<Failure>>) -> ExitCode {
    result.map_or_else(|failures| failed(&failures), |()| ExitCode::SUCCESS)
}

/// Exit code 1, which says it all.
pub(crate) fn no() -> ExitCode {
    ExitCode::from(FAILED)
}
