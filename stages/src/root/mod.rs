// SPDX-License-Identifier: Apache-2.0
//! The disk that the root is on, and what later boots know of it. [`fledge_core::root`] decides; here it is looked at and done.
//!
//! Every step stands in the report, with its time.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::Path;

use fledge_core::cmdline::Cmdline;
use fledge_core::config::{self, Config};
use fledge_core::diag::Failure;
use fledge_core::report::{StepOutcome, StepReport};
use fledge_core::root::elsewhere;

use crate::host::{clock, cmd, device};
use crate::report;

pub mod grow;
pub mod identity;
pub mod persist;
mod stack;
mod table;
#[cfg(test)]
mod tests;
pub mod transpose;

/// The configuration that the stages work through.
pub const CONFIG: &str = "/run/ignition.json";

const SEE_DISK: &str = "see what the kernel says about the disk in the journal, and check its file systems; install again if they are damaged";

/// Whether the command line names a root that is no disk that could be looked at before it is mounted.
pub fn is_elsewhere(cmdline: &Cmdline) -> bool {
    let named = elsewhere(cmdline.value("root"));
    if let Some(named) = named {
        log::info!("root={named} names no disk that is known before it is mounted: the root stays as it is");
    }
    named.is_some()
}

/// Waits for a device of this boot.
///
/// # Errors
/// It doesn't appear.
pub fn wait(device: &str, cmdline: &Cmdline) -> Result<(), Failure> {
    let patience = device::patience(cmdline);
    device::wait(&[device.to_owned()].into(), patience);
    if device::is_there(device) {
        return Ok(());
    }
    let why = format!("it did not appear within {} s; these did: {}", patience.as_secs(), device::list().join("; "));
    Err(Failure::new(format!("looking for {device}"), why)
        .remedy("check that the disk is there, and has the file systems of an installed system"))
}

/// Carries out steps and reports them. The first that fails ends it. Each says whether there was anything to do.
fn carry_out<S: Display>(steps: &[S], mut execute: impl FnMut(&S) -> Result<bool, Failure>) -> Result<(), Failure> {
    for step in steps {
        let start = clock::millis();
        let result = execute(step);
        let outcome = match result {
            Ok(true) => StepOutcome::Done,
            Ok(false) => StepOutcome::AlreadySo,
            Err(_) => StepOutcome::Failed,
        };
        let took_ms = clock::millis().saturating_sub(start);
        let told = StepReport { what: step.to_string(), place: None, outcome, took_ms };
        // What was done counts, not what is told of it.
        if let Err(error) = report::add(|report| report.root.push(told)) {
            log::warn!("the report could not be written: {error}");
        }
        result?;
    }
    Ok(())
}

/// Checks an ext4 that nobody has mounted, as the programs that change it offline want it.
fn check(node: &str) -> Result<(), Failure> {
    let said = cmd::output(cmd::E2FSCK, &["-f".into(), "-p".into(), node.into()])?;
    // 1: what was wrong has been put right (e2fsck(8)).
    if matches!(said.code, Some(0 | 1)) {
        return Ok(());
    }
    let said: Vec<_> = [said.stderr.trim(), said.stdout.trim()].into_iter().filter(|said| !said.is_empty()).collect();
    Err(Failure::new(format!("checking the ext4 on {node}"), said.join("; ")).remedy(SEE_DISK))
}

/// The cached configuration; without one, nothing is asked for.
fn config(path: &Path) -> Result<Config, Failure> {
    let failure = |why: String| {
        Failure::new(format!("reading {}", path.display()), why).remedy(
            "reboot: the stages before write that file anew; if it fails again, see in the journal what they say",
        )
    };
    match fs::read(path) {
        Ok(text) => config::read_cache(&text, &path.to_string_lossy()).map_err(|refusal| failure(refusal.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Config::default()),
        Err(error) => Err(failure(error.to_string())),
    }
}

/// The device on which the cached configuration makes the root. Until the root is written to, its link may still lead to the old one.
///
/// # Errors
/// The cache can't be read.
pub fn made_on(config: &Path) -> Result<Option<String>, Failure> {
    Ok(fledge_core::root::made(&self::config(config)?).map(|made| made.device.clone()))
}
