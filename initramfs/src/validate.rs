// SPDX-License-Identifier: Apache-2.0
//! The applets `validate` and `ignition-validate`: they differ in their usage line only.

use std::ffi::OsString;
use std::process::ExitCode;

use fledge_core::config::{self, Refusal};

use crate::applets::exit;
use crate::goflags::{self, Kind};
use crate::{input, out};

/// As upstream's program: 2 for a flag that it doesn't know, 1 unless there is just one file.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    const USAGE: &str = "usage: ignition-validate [-version] CONFIG\nReads CONFIG (- for standard input) and says what is wrong with it.";
    let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let parsed = match goflags::parse(&args, &[("version", Kind::Bool), ("help", Kind::Bool), ("h", Kind::Bool)]) {
        Ok(parsed) => parsed,
        Err(problem) => return out::usage(&format!("{problem}\n{USAGE}")),
    };
    let on =
        |wanted: &str| parsed.flags.iter().rfind(|(name, _)| *name == wanted).is_some_and(|(_, value)| value == "true");
    if on("help") || on("h") {
        return out::line(USAGE);
    }
    if on("version") {
        return out::line(fledge_stages::report::PROGRAM);
    }
    if let [file] = parsed.rest.as_slice() { validate(file) } else { out::refused(USAGE) }
}

fn validate(file: &str) -> ExitCode {
    let text = match input::read(file) {
        Ok(text) => text,
        Err(failure) => return out::failed(&[failure]),
    };
    match config::parse(&text, &input::name(file), None) {
        Ok(parsed) => {
            for warning in &parsed.warnings {
                out::line(&warning.to_string());
            }
            ExitCode::SUCCESS
        }
        Err(Refusal::Empty) => {
            out::refused("the configuration is empty; a machine accepts that and provisions nothing")
        }
        // The report, and not what goes wrong, is what was asked for.
        Err(refusal) => {
            out::line(&refusal.to_string());
            ExitCode::from(exit::FAILED)
        }
    }
}
