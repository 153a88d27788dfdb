// SPDX-License-Identifier: Apache-2.0
//! The applet `ignition`: upstream's flags, exit codes and environment.

use std::ffi::OsString;
use std::process::ExitCode;

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::go;
use fledge_core::stage::Stage;
use fledge_stages::logger::{self, Sink};
use fledge_stages::report::{self, PROGRAM};
use fledge_stages::run::{self, StageArgs};
use fledge_stages::{provider, state};

use crate::applets::exit;
use crate::goflags::{self, Kind};
use crate::{input, out};

const FLAGS: &[(&str, Kind)] = &[
    ("config-cache", Kind::Value),
    ("fetch-timeout", Kind::Value),
    ("log-to-stdout", Kind::Bool),
    ("neednet", Kind::Value),
    ("platform", Kind::Value),
    ("root", Kind::Value),
    ("stage", Kind::Value),
    ("state-file", Kind::Value),
    ("version", Kind::Bool),
    ("help", Kind::Bool),
    ("h", Kind::Bool),
];

const USAGE: &str = "\
usage of ignition:
  -config-cache FILE       where to cache the config (default /run/ignition.json)
  -fetch-timeout DURATION  how long to wait for a config (default 2m)
  -log-to-stdout           log to standard output instead of the journal
  -neednet FILE            flag file that fetch-offline writes when a network is needed (default /run/ignition/neednet)
  -platform NAME           the platform
  -root DIR                root of the file system (default /)
  -stage NAME              fetch-offline, fetch, kargs, disks, mount, files or umount
  -state-file FILE         what one stage leaves for the next (default /run/ignition/state)
  -version                 print the version and exit";

/// A command line as it is written, with upstream's defaults.
struct Settings {
    args: StageArgs,
    stage: Option<String>,
    log_to_stdout: bool,
    version: bool,
    help: bool,
}

/// Runs one stage.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let settings = match settings(args) {
        Ok(settings) => settings,
        Err(problem) => return out::usage(&format!("{problem}\n{USAGE}")),
    };
    if settings.help {
        return out::line(USAGE);
    }
    if settings.version {
        return out::line(PROGRAM);
    }
    if settings.args.platform.is_empty() {
        // The unit hands on what the kernel command line says.
        let failure = Failure::new("finding the platform", "'--platform' must be provided")
            .remedy("set ignition.platform.id= on the kernel command line, for instance to metal");
        return stopped(exit::USAGE, failure);
    }
    let Some(name) = settings.stage else {
        return out::usage("'--stage' must be provided");
    };
    let Some(stage) = Stage::from_name(&name) else {
        return out::usage(&format!("{name:?} is not a valid stage\n{USAGE}"));
    };
    logger::init(if settings.log_to_stdout { Sink::Stdout } else { Sink::Journal });
    let cmdline = match input::cmdline() {
        Ok(cmdline) => cmdline,
        Err(failure) => return stopped(exit::SETUP, failure),
    };
    let args = StageArgs { cmdline, ..settings.args };
    if let Err(failure) = provider::platform(&args.platform) {
        return stopped(exit::USAGE, failure);
    }
    if let Err(failure) = state::read(&args) {
        return stopped(exit::SETUP, failure);
    }
    match run::run(stage, &args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(exit::FAILED),
    }
}

/// Says why no stage ran, to the console too.
fn stopped(code: u8, failure: Failure) -> ExitCode {
    let failures = [failure];
    // Somebody who tries it by hand may have no right to.
    let _ = report::leave("This machine does not boot on.", &failures);
    out::failed(&failures);
    ExitCode::from(code)
}

fn defaults() -> StageArgs {
    StageArgs {
        root: "/".into(),
        platform: String::new(),
        config_cache: "/run/ignition.json".into(),
        neednet: "/run/ignition/neednet".into(),
        state_file: "/run/ignition/state".into(),
        fetch_timeout: std::time::Duration::from_secs(120),
        cmdline: Cmdline::default(),
    }
}

/// What the units of the stages say, for those who look at the same configuration.
pub(crate) fn of_this_boot(cmdline: Cmdline) -> StageArgs {
    let platform = cmdline.value("ignition.platform.id").unwrap_or_default().to_owned();
    StageArgs { platform, cmdline, ..defaults() }
}

fn settings(args: &[OsString]) -> Result<Settings, String> {
    let args = args
        .iter()
        .map(|arg| arg.to_str().map(str::to_owned).ok_or_else(|| format!("the argument {arg:?} is not UTF-8")))
        .collect::<Result<Vec<_>, _>>()?;
    let parsed = goflags::parse(&args, FLAGS)?;
    let mut settings = Settings { args: defaults(), stage: None, log_to_stdout: false, version: false, help: false };
    for (name, value) in parsed.flags {
        match name {
            "config-cache" => settings.args.config_cache = value.into(),
            "fetch-timeout" => {
                settings.args.fetch_timeout = go::duration(&value).ok_or_else(|| {
                    format!("invalid value {value:?} for -fetch-timeout: write a duration such as 30s or 2m")
                })?;
            }
            "log-to-stdout" => settings.log_to_stdout = value == "true",
            "neednet" => settings.args.neednet = value.into(),
            "platform" => settings.args.platform = value,
            "root" => settings.args.root = value.into(),
            "stage" => settings.stage = Some(value),
            "state-file" => settings.args.state_file = value.into(),
            "version" => settings.version = value == "true",
            _ => settings.help = value == "true",
        }
    }
    Ok(settings)
}
