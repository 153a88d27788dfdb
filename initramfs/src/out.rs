// SPDX-License-Identifier: Apache-2.0
//! What applets print, and the exit codes that go with it. A closed pipe is no error of ours.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use fledge_core::diag::Failure;

use crate::applets::exit;

/// Prints to standard output; exit code 0.
pub(crate) fn line(text: &str) -> ExitCode {
    let _ = writeln!(io::stdout(), "{text}");
    ExitCode::SUCCESS
}

/// Prints to standard error.
pub(crate) fn complain(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Says what is wrong with the command line; exit code 2.
pub(crate) fn usage(text: &str) -> ExitCode {
    complain(text);
    ExitCode::from(exit::USAGE)
}

/// Says what failed; exit code 1.
pub(crate) fn failed(failures: &[Failure]) -> ExitCode {
    failures.iter().for_each(complain);
    ExitCode::from(exit::FAILED)
}

/// Says why something is refused; exit code 1.
pub(crate) fn refused(text: impl Display) -> ExitCode {
    complain(text);
    ExitCode::from(exit::FAILED)
}
