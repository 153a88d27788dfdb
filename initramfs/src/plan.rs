// SPDX-License-Identifier: Apache-2.0
//! The applets `plan` and `facts`: what a machine would do, told away from it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use fledge_core::config::{self, Config};
use fledge_core::diag::Failure;
use fledge_core::facts::Facts;
use fledge_core::plan::{self, Settings};
use fledge_stages::observe;
use fledge_stages::provider::Raw;
use fledge_stages::reading::Readings;
use fledge_stages::stage::fetch;
use lexopt::{Arg, Parser, ValueExt};

use crate::{input, out};

const PLAN: &str = "\
usage: fledge plan [--facts FILE] CONFIG
Prints what each stage of a first boot would do with CONFIG (- for standard input). What CONFIG refers to is fetched.
  --facts FILE  plan for the machine that `fledge facts` described in FILE; else for a blank one. No disk is read.";

const FACTS: &str = "\
usage: fledge facts [--root DIR] [CONFIG]
Prints, as JSON, what a plan for CONFIG needs to know about this machine.
  --root DIR  the target root (default /sysroot)";

/// Prints the plans of all stages.
pub(crate) fn plan(args: &[OsString]) -> ExitCode {
    let mut facts_file = None;
    let mut file = None;
    let mut parser = Parser::from_args(args);
    loop {
        match parser.next() {
            Ok(Some(Arg::Long("facts"))) => match parser.value().and_then(ValueExt::string) {
                Ok(value) => facts_file = Some(value),
                Err(problem) => return out::usage(&format!("{problem}\n{PLAN}")),
            },
            Ok(Some(Arg::Long("help") | Arg::Short('h'))) => return out::line(PLAN),
            Ok(Some(Arg::Value(value))) if file.is_none() => file = Some(value.to_string_lossy().into_owned()),
            Ok(Some(arg)) => return out::usage(&format!("{}\n{PLAN}", arg.unexpected())),
            Ok(None) => break,
            Err(problem) => return out::usage(&format!("{problem}\n{PLAN}")),
        }
    }
    let Some(file) = file else { return out::usage(PLAN) };
    match plans(&file, facts_file.as_deref()) {
        Ok(text) => out::line(text.trim_end()),
        Err(failures) => out::failed(&failures),
    }
}

fn plans(file: &str, facts_file: Option<&str>) -> Result<String, Vec<Failure>> {
    let facts = match facts_file {
        Some(file) => read_facts(file).map_err(|failure| vec![failure])?,
        None => Facts::default(),
    };
    let (config, readings) = read_config(file)?;
    let plans = plan::all(&config, &facts, &readings.sources, Settings::default())?;
    let machine = match facts_file {
        Some(file) => format!("for the machine that {} describes\n", input::name(file)),
        None => "for a blank machine: nothing is known of its devices, files and accounts\n".to_owned(),
    };
    Ok([machine].into_iter().chain(plans.iter().map(ToString::to_string)).collect())
}

fn read_facts(file: &str) -> Result<Facts, Failure> {
    let text = input::read(file)?;
    serde_json::from_slice(&text).map_err(|error| {
        Failure::new(format!("reading the facts in {}", input::name(file)), error.to_string())
            .remedy("have them written anew by `fledge facts` of the same version")
    })
}

/// Reads a config as a machine would, with its warnings on standard error.
fn read_config(file: &str) -> Result<(Config, Readings), Vec<Failure>> {
    let text = input::read(file).map_err(|failure| vec![failure])?;
    let mut readings = Readings::default();
    let config = fetch::preview(Raw { name: input::name(file), text }, &mut readings);
    readings.remarks.iter().for_each(out::complain);
    Ok((config?, readings))
}

/// Prints the facts that a config asks for.
pub(crate) fn facts(args: &[OsString]) -> ExitCode {
    let mut root = PathBuf::from("/sysroot");
    let mut file = None;
    let mut parser = Parser::from_args(args);
    loop {
        match parser.next() {
            Ok(Some(Arg::Long("root"))) => match parser.value() {
                Ok(value) => root = value.into(),
                Err(problem) => return out::usage(&format!("{problem}\n{FACTS}")),
            },
            Ok(Some(Arg::Long("help") | Arg::Short('h'))) => return out::line(FACTS),
            Ok(Some(Arg::Value(value))) if file.is_none() => file = Some(value.to_string_lossy().into_owned()),
            Ok(Some(arg)) => return out::usage(&format!("{}\n{FACTS}", arg.unexpected())),
            Ok(None) => break,
            Err(problem) => return out::usage(&format!("{problem}\n{FACTS}")),
        }
    }
    let config =
        file.as_deref().map_or_else(|| Ok(config::empty()), |file| read_config(file).map(|(config, _)| config));
    let facts = config.and_then(|config| observe::facts(&config, &root));
    match facts.map(|facts| serde_json::to_string_pretty(&facts)) {
        Ok(Ok(text)) => out::line(&text),
        Ok(Err(error)) => out::failed(&[Failure::new("writing the facts as JSON", error.to_string())]),
        Err(failures) => out::failed(&failures),
    }
}
