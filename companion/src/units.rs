// SPDX-License-Identifier: Apache-2.0
//! The command `unit`: what units do in the course of a boot.

use std::fs;
use std::process::ExitCode;

use fledge_companion::duty::{self, Machine};
use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_stages::host::environment;
use rustix::mm::{MlockAllFlags, mlockall};

use crate::arguments::Arguments;
use crate::out;

pub(crate) const HELP: &str = "\
usage: fledgectl unit NAME
For units: does what belongs to a moment of a boot.
  begin      note a counted boot; after a fallback, collect what is known of the deployment that failed
  health     run the health checks; exit code 1 if the boot isn't healthy
  bless      mark the deployment of a healthy boot as good; after a fallback, put the bootloader's default right
  green      run the green hooks
  red        run the red hooks, keep the journal, and reboot if this boot was counted
  deadline   wait for the time of fledge.boot.deadline=, and do the same, without hooks, if the boot isn't healthy by then
  give-back  this boot was no try
  arm        have GRUB count starts of a default that nobody has seen arrive";

/// Runs one.
pub(crate) fn run(args: &Arguments) -> ExitCode {
    let machine = match Machine::this() {
        Ok(machine) => machine,
        Err(failure) => return out::failed(&[failure]),
    };
    match args.value() {
        Some("begin") => out::all_ended(duty::begin(&machine)),
        Some("health") => match duty::check(&machine) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => out::no(),
            Err(failure) => out::failed(&[failure]),
        },
        Some("bless") => out::all_ended(duty::bless(&machine)),
        Some("green") => {
            duty::green(&machine);
            ExitCode::SUCCESS
        }
        Some("red") => out::all_ended(duty::red(&machine)),
        Some("deadline") => match cmdline() {
            Ok(cmdline) => {
                stay_in_memory();
                out::all_ended(duty::deadline(&machine, &cmdline))
            }
            Err(failure) => out::failed(&[failure]),
        },
        Some("give-back") => out::ended(duty::give_back(&machine).and_then(|()| machine.tell())),
        Some("arm") => out::ended(duty::arm(&machine)),
        _ => out::usage(HELP),
    }
}

/// What ends a boot when the disk doesn't answer can't be read from that disk then.
fn stay_in_memory() {
    if let Err(error) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE) {
        log::warn!("this program can't be kept in memory, which it needs if the disk doesn't answer: {error}");
    }
}

fn cmdline() -> Result<Cmdline, Failure> {
    let path = environment::cmdline();
    let text =
        fs::read(&path).map_err(|error| Failure::new(format!("reading {}", path.display()), error.to_string()))?;
    Ok(Cmdline::parse(&String::from_utf8_lossy(&text)))
}
