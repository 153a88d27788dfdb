// SPDX-License-Identifier: Apache-2.0
//! The second oracle: Debian's Ignition and ours work through the same configs, each in one boot, and what they leave is
//! compared.
//!
//! The configs stand in `tests/oracle/configs/*.toml`, see [`configs`]; what the guest does with each, in the package
//! `fledge-vm-checker`. What differs fails the case unless `tests/oracle/differences.toml` lists it with a reason, and what is
//! listed and doesn't differ any more fails it too, see [`compare`].
//!
//! Both machines are alike to the last byte of their initramfs; what they are asked differs in the program's name. They run
//! one after the other, so that both talk to the same server by the same addresses.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};

use crate::cache::Cache;
use crate::case::Case;
use crate::image;
use crate::peripherals::Tang;
use crate::progress::say;
use crate::run::one;
use crate::serve::Server;
use crate::session::Session;
use crate::template::Values;

pub mod compare;
pub mod configs;
mod machine;

/// What the guest told about each config, by its name: a flat object of facts.
pub(crate) type Results = BTreeMap<String, Map<String, Value>>;

/// The environment's variable that chooses configs: parts of `FILE/NAME`, with commas in between. What is listed needn't occur
/// then.
const ONLY: &str = "ORACLE_ONLY";
/// Of how many configs one is taken when the case is broken on purpose.
const SABOTAGE_STEP: usize = 10;

/// Runs the case; returns what differed.
pub(crate) fn run(session: &Session, case: &Case) -> Result<Vec<String>> {
    let debian = image::debian_ignition(&Cache::of_user()?, &session.options.elevate)?;
    let server = Server::start()?;
    let mut values = Values::new(&case.folder, session.image.tools(), &server)?;
    if case.tang {
        values.tang = Some(Tang::start(session.image.tools())?);
    }
    let listed = configs::load()?;
    let sabotaged = session.options.sabotage;
    let only = std::env::var(ONLY).unwrap_or_default();
    let mut configs = Vec::new();
    for (index, config) in listed.into_iter().enumerate() {
        if chosen(&config, &only) && (!sabotaged || index % SABOTAGE_STEP == 0) {
            configs.push(config.expanded(&values).with_context(|| format!("the config {}", config.name))?);
        }
    }
    ensure!(!configs.is_empty(), "{ONLY}: no config's name holds one of {only:?}");
    let text = fs::read_to_string(case.folder.join("case.toml"))?;
    let case = crate::case::parse(&case.name, &case.folder, &values.expand(&text)?)?;
    one::publish(&case, &values, &server, None)?;

    let work = session.folder(&case.name)?;
    let machine =
        machine::Machine { session, case: &case, values: &values, server: &server, configs: &configs, work: &work };
    let initramfs = machine.initramfs(&debian)?;
    let theirs = machine.run("Debian's Ignition", machine::DEBIAN, &initramfs)?;
    let ours = machine.run("Fledge", machine::FLEDGE, &initramfs)?;
    drop(fs::remove_dir_all(&work));

    let logs: PathBuf = session.options.logs.join(&case.name);
    fs::create_dir_all(&logs)?;
    fs::write(logs.join("debian.json"), serde_json::to_vec_pretty(&theirs)?)?;
    fs::write(logs.join("fledge.json"), serde_json::to_vec_pretty(&ours)?)?;
    let verdict = compare::compare(&configs, &theirs, &ours, &compare::listed()?, !sabotaged && only.is_empty());
    say(format_args!(
        "{}: {} configs, {} facts compared, {} listed differences; both results are in {}",
        case.name,
        configs.len(),
        verdict.facts,
        verdict.listed,
        logs.display()
    ));
    Ok(verdict.differences)
}

fn chosen(config: &configs::Config, only: &str) -> bool {
    let name = format!("{}/{}", config.file, config.name);
    only.split(',').any(|part| name.contains(part))
}
