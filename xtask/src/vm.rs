// SPDX-License-Identifier: Apache-2.0
//! `./dev vm` and `./dev demo`: what runs in virtual machines.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fledge_vm_tests::case;
use fledge_vm_tests::demo::{self, DemoOptions};
use fledge_vm_tests::image::Elevate;
use fledge_vm_tests::run::{self, Choice, Summary};
use fledge_vm_tests::session::{self, Options, Session};

use crate::dist;
use crate::test::Case;

/// The hidden command that a run starts as root when a layer of the image is missing.
pub(crate) const AS_ROOT: &str = "image-as-root";

/// Two machines of one processor each fill the two cores that everything here is measured on.
const JOBS: usize = 2;

const USAGE: &str = "usage: ./dev vm CASE... | ./dev vm --all | ./dev vm --sabotage [CASE...] | ./dev vm --list";

/// What `./dev vm` is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    List,
    /// These cases, or all if none is named.
    Run {
        names: Vec<String>,
        sabotage: bool,
    },
}

/// Runs the named cases.
pub(crate) fn run(repo: &Path, args: &[String]) -> Result<bool> {
    let Request::Run { names, sabotage } = parse(args)? else { return list() };
    let choice = if names.is_empty() { Choice::All } else { Choice::Named(&names) };
    let summary = run::run(&open(repo, sabotage)?, choice)?;
    println!("{summary}");
    Ok(summary.failed() == 0)
}

fn parse(args: &[String]) -> Result<Request> {
    let (mut names, mut all, mut sabotage) = (Vec::new(), false, false);
    for arg in args {
        match arg.as_str() {
            "--list" => return Ok(Request::List),
            "--all" => all = true,
            "--sabotage" => sabotage = true,
            name if !name.starts_with('-') => names.push(name.to_owned()),
            other => bail!("there is no option {other}\n{USAGE}"),
        }
    }
    let fits = if names.is_empty() { all || sabotage } else { !all };
    if !fits {
        bail!("{USAGE}");
    }
    Ok(Request::Run { names, sabotage })
}

fn list() -> Result<bool> {
    for case in case::list()? {
        println!("{:<28} {:>4} s  {}", case.name, case.seconds, case.summary);
    }
    Ok(true)
}

/// The VM cases of `./dev test`, as they are or broken on purpose; `all` adds those that take too long for every change.
pub(crate) fn test_cases(repo: &Path, sabotage: bool, all: bool) -> Result<Vec<Case>> {
    let choice = if all { Choice::All } else { Choice::Every };
    let Summary { results, .. } = run::run(&open(repo, sabotage)?, choice)?;
    let prefix = if sabotage { "vm, broken on purpose" } else { "vm" };
    let case = |result: run::CaseResult| {
        for line in result.broken.iter().chain(&result.differences) {
            println!("vm {}: {line}", result.name);
        }
        Case {
            passed: result.is_good(sabotage),
            took: Duration::try_from_secs_f64(result.seconds).unwrap_or_default(),
            name: format!("{prefix}: {}", result.name),
        }
    };
    Ok(results.into_iter().map(case).collect())
}

/// Runs the demo.
pub(crate) fn demo(repo: &Path, args: &[String]) -> Result<bool> {
    let mut options = DemoOptions::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--interactive" => options.interactive = true,
            "--config" => options.config = Some(args.next().context("--config takes a file")?.into()),
            other => bail!("there is no option {other}\nusage: ./dev demo [--config FILE] [--interactive]"),
        }
    }
    let good = demo::run(&open(repo, false)?, &options)?;
    let closing = if good {
        "DEMO PASSED: the machine was provisioned once, as its config says."
    } else {
        "DEMO FAILED: see above, and the console under target/vm-logs."
    };
    println!("\n{closing}");
    Ok(good)
}

fn open(repo: &Path, sabotage: bool) -> Result<Session> {
    Session::open(Options {
        dist: Some(dist::dist(repo)?),
        companion: Some(dist::companion(repo)?),
        checker: session::build_checker(repo)?,
        elevate: Elevate { command: vec![std::env::current_exe()?.into(), AS_ROOT.into()] },
        logs: repo.join("target/vm-logs"),
        jobs: JOBS,
        sabotage,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Request> {
        parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn sabotage_alone_means_every_case() {
        let all = |sabotage| Request::Run { names: Vec::new(), sabotage };
        assert_eq!(parsed(&["--sabotage"]).unwrap(), all(true));
        assert_eq!(parsed(&["--sabotage", "--all"]).unwrap(), all(true));
        assert_eq!(parsed(&["--all"]).unwrap(), all(false));
        let one = Request::Run { names: vec!["one".to_owned()], sabotage: true };
        assert_eq!(parsed(&["--sabotage", "one"]).unwrap(), one);
        assert!(parsed(&[]).is_err());
        assert!(parsed(&["--all", "one"]).is_err());
        assert!(parsed(&["--al"]).is_err());
    }
}
