// SPDX-License-Identifier: Apache-2.0
//! The applet `firstboot-complete`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use fledge_core::plan::BEGUN;
use fledge_stages::{firstboot, report};

use crate::{input, out};

/// Runs it on `/boot`, if this was a first boot; it takes no argument.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    if !args.is_empty() {
        return out::usage("usage: fledge firstboot-complete");
    }
    // The unit's condition can't see that ignition.firstboot=0 turned it off: then nothing was provisioned.
    match input::cmdline() {
        Ok(cmdline) if cmdline.flag("ignition.firstboot") => {}
        Ok(_) => return out::line("the kernel command line asks for no first boot: there is nothing to finish"),
        Err(failure) => return out::failed(&[failure]),
    }
    match firstboot::complete(Path::new("/boot"), Path::new(BEGUN), &report::path(), Path::new(report::KEPT)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failures) => {
            // fledge-firstboot-failed.service shows them to whoever logs in.
            let _ = report::leave("The first boot could not be marked as done.", &failures);
            out::failed(&failures)
        }
    }
}
