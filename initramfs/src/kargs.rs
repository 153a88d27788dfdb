// SPDX-License-Identifier: Apache-2.0
//! The applets `ignition-kargs-helper`, which the kargs stage calls, and `kargs-reboot`.

use std::ffi::OsString;
use std::process::ExitCode;

use fledge_core::bls::Request;
use fledge_core::diag::Failure;
use fledge_stages::generator;
use fledge_stages::host::bootfs::Place;
use fledge_stages::kargs::{self, ALREADY_SO, Places};
use fledge_stages::logger::{self, Sink};
use fledge_stages::report;
use lexopt::{Arg, Parser, ValueExt};

use crate::out;

const USAGE: &str = "\
usage: ignition-kargs-helper [--should-exist ARGUMENT]... [--should-not-exist ARGUMENT]... [--boot-device DEVICE | --boot-mount DIR]
Puts kernel arguments into all boot entries, and asks for a reboot if the running kernel has others.
  --boot-device DEVICE  the boot file system's device (default /dev/disk/by-label/boot)
  --boot-mount DIR      where the boot file system is mounted; else it is mounted for as long as this takes";

/// What the command line asks for.
#[derive(Default)]
struct Asked {
    should_exist: Vec<String>,
    should_not_exist: Vec<String>,
    boot: Place,
}

/// `ignition-kargs-helper`, as Ignition calls it.
pub(crate) fn helper(args: &[OsString]) -> ExitCode {
    let asked = match parse(args) {
        Ok(Some(asked)) => asked,
        Ok(None) => return out::line(USAGE),
        Err(problem) => return out::usage(&format!("{problem}\n{USAGE}")),
    };
    match adjust(asked) {
        Ok(text) => out::line(&text),
        Err(failure) => out::failed(&[failure]),
    }
}

fn parse(args: &[OsString]) -> Result<Option<Asked>, lexopt::Error> {
    let mut asked = Asked::default();
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("should-exist") => asked.should_exist.push(parser.value()?.string()?),
            Arg::Long("should-not-exist") => asked.should_not_exist.push(parser.value()?.string()?),
            Arg::Long("boot-device") => asked.boot = Place::Device(parser.value()?.into()),
            Arg::Long("boot-mount") => asked.boot = Place::Mounted(parser.value()?.into()),
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(asked))
}

/// Does it, and says what was done.
fn adjust(asked: Asked) -> Result<String, Failure> {
    let request = Request::new(&asked.should_exist, &asked.should_not_exist)?;
    if request.is_empty() {
        return Ok("no kernel argument is asked for".into());
    }
    let outcome = kargs::adjust(&request, generator::is_live_image()?, &Places::of_this_boot(asked.boot)?)?;
    let edited = match outcome.edited.as_slice() {
        [] => "the boot entries have these arguments already".to_owned(),
        names => format!("edited {}", names.join(", ")),
    };
    Ok(match (outcome.reboot, outcome.edited.is_empty()) {
        (false, true) => ALREADY_SO.to_owned(),
        (false, false) => format!("{edited}; the running kernel has these arguments already"),
        (true, _) => format!("{edited}; a reboot is needed"),
    })
}

/// `kargs-reboot`: boots once more for all who asked. If that works, it doesn't return.
pub(crate) fn reboot(args: &[OsString]) -> ExitCode {
    if !args.is_empty() {
        return out::usage("usage: fledge kargs-reboot");
    }
    logger::init(Sink::Journal);
    let failure =
        Places::of_this_boot(Place::default()).map_or_else(|failure| failure, |places| kargs::reboot(&places));
    let failures = [failure];
    if let Err(error) = report::leave("This machine does not boot on.", &failures) {
        out::complain(format!("the reason could not be left for the console: {error}"));
    }
    out::failed(&failures)
}
