// SPDX-License-Identifier: Apache-2.0
//! The applet `report`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fledge_stages::report;

use crate::out;

const USAGE: &str = "\
usage: fledge report [FILE]
Prints the report of the first boot as a table: FILE, else /run/fledge/report.json, else /var/lib/fledge/first-boot.json.";

/// Prints a report.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let path = match args {
        [] => default_path(),
        [arg] if arg == "--help" || arg == "-h" => return out::line(USAGE),
        [file] if !file.to_string_lossy().starts_with('-') => file.into(),
        _ => return out::usage(USAGE),
    };
    match report::read(&path) {
        Ok(report) => out::line(report.to_string().trim_end()),
        Err(failure) => out::failed(&[failure]),
    }
}

fn default_path() -> PathBuf {
    let running = report::path();
    if running.exists() { running } else { Path::new(report::KEPT).into() }
}
