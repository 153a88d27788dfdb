// SPDX-License-Identifier: Apache-2.0
//! The applets `ignition-apply` and `ignition-rmcfg`: upstream's flags (GNU's long ones) and exit codes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use fledge_stages::logger::{self, Sink};
use fledge_stages::provider::{self, Raw};
use fledge_stages::report::PROGRAM;
use fledge_stages::stage::apply::{self, ApplyArgs};
use lexopt::{Arg, Parser, ValueExt};

use crate::applets::exit;
use crate::{input, out};

const APPLY: &str = "\
usage: ignition-apply [OPTION...] CONFIG
Applies what can be applied of CONFIG (- for standard input) while an image is built in a container.
  --ignore-unsupported  pass over sections that can't be applied
  --offline             fail if the config refers to something on a network
  --root DIR            root of the file system (default /)
  --version             print the version and exit";

const RMCFG: &str = "\
usage: ignition-rmcfg [OPTION...]
Removes the config from the platform, where guests could read it later.
  --log-to-stdout  log to standard output instead of the journal
  --platform NAME  the platform
  --version        print the version and exit";

/// A command line as it is written.
#[derive(Default)]
struct Flags {
    platform: String,
    root: Option<OsString>,
    /// The switches that are on.
    switches: Vec<&'static str>,
    rest: Vec<String>,
}

impl Flags {
    fn on(&self, switch: &str) -> bool {
        self.switches.contains(&switch)
    }
}

/// Reads a command line: `value` is the flag that has one, and beside `version` and `help` there are these switches.
fn flags(args: &[OsString], value: &str, switches: &[&'static str]) -> Result<Flags, lexopt::Error> {
    let mut flags = Flags::default();
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        let known = |name: &str| switches.iter().chain(&["version", "help"]).find(|known| **known == name).copied();
        match arg {
            Arg::Long("platform") if value == "platform" => flags.platform = parser.value()?.string()?,
            Arg::Long("root") if value == "root" => flags.root = Some(parser.value()?),
            Arg::Short('h') => flags.switches.push("help"),
            Arg::Value(value) => flags.rest.push(value.to_string_lossy().into_owned()),
            Arg::Long(name) => match known(name) {
                None => return Err(arg.unexpected()),
                Some(name) if switch(&mut parser)? => flags.switches.push(name),
                Some(name) => flags.switches.retain(|on| *on != name),
            },
            arg @ Arg::Short(_) => return Err(arg.unexpected()),
        }
    }
    Ok(flags)
}

/// A flag that takes a value only behind an equals sign.
fn switch(parser: &mut Parser) -> Result<bool, lexopt::Error> {
    let Some(value) = parser.optional_value() else { return Ok(true) };
    let value = value.string()?;
    fledge_core::go::parse_bool(&value).ok_or_else(|| format!("{value:?} is neither true nor false").into())
}

/// Applies a config in a container.
pub(crate) fn apply(args: &[OsString]) -> ExitCode {
    let flags = match flags(args, "root", &["ignore-unsupported", "offline"]) {
        Ok(flags) => flags,
        Err(problem) => return out::usage(&format!("{problem}\n{APPLY}")),
    };
    if flags.on("help") {
        return out::line(APPLY);
    }
    if flags.on("version") {
        return out::line(PROGRAM);
    }
    let [file] = flags.rest.as_slice() else { return out::refused(APPLY) };
    logger::init(Sink::Stdout);
    let text = match input::read(file) {
        Ok(text) => text,
        Err(failure) => return out::failed(&[failure]),
    };
    let (ignore_unsupported, offline) = (flags.on("ignore-unsupported"), flags.on("offline"));
    let args = ApplyArgs { root: flags.root.map_or_else(|| "/".into(), PathBuf::from), ignore_unsupported, offline };
    match apply::run(Raw { name: input::name(file), text }, &args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failures) => out::failed(&failures),
    }
}

/// Removes the config from the platform.
pub(crate) fn rmcfg(args: &[OsString]) -> ExitCode {
    let flags = match flags(args, "platform", &["log-to-stdout"]) {
        Ok(flags) => flags,
        Err(problem) => return out::usage(&format!("{problem}\n{RMCFG}")),
    };
    if flags.on("help") {
        return out::line(RMCFG);
    }
    if flags.on("version") {
        return out::line(PROGRAM);
    }
    if !flags.rest.is_empty() {
        return out::usage(RMCFG);
    }
    if flags.platform.is_empty() {
        return out::usage("'--platform' must be provided");
    }
    logger::init(if flags.on("log-to-stdout") { Sink::Stdout } else { Sink::Journal });
    match provider::remove_config(&flags.platform) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            out::complain(failure);
            ExitCode::from(if provider::is_platform(&flags.platform) { exit::FAILED } else { exit::USAGE })
        }
    }
}
