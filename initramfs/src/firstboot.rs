// SPDX-License-Identifier: Apache-2.0
//! The applet `firstboot-complete`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use fledge_stages::{firstboot, report};

use crate::out;

/// Runs it on `/boot`; it takes no argument.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    if !args.is_empty() {
        return out::usage("usage: fledge firstboot-complete");
    }
    match firstboot::complete(Path::new("/boot"), &report::path(), Path::new(report::KEPT)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failures) => {
            // fledge-firstboot-failed.service shows them to whoever logs in.
            let _ = report::leave("The first boot could not be marked as done.", &failures);
            out::failed(&failures)
        }
    }
}
