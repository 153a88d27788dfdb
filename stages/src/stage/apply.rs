// SPDX-License-Identifier: Apache-2.0
//! `ignition-apply`: what of a configuration can be carried out while an image is built in a container, that is, files,
//! directories, links and units.
//!
//! As in Ignition: no configuration of the distribution, no users and groups, no result file, no labels, and nothing of what a
//! machine has and a container hasn't.

use std::path::{Path, PathBuf};

use fledge_core::config::{Config, KernelArguments, Passwd};
use fledge_core::diag::{Failure, Place};
use fledge_core::network;
use fledge_core::origin::Origin;
use fledge_core::plan::{self, Settings};
use fledge_core::state::State;

use super::fetch;
use crate::execute::{self, Machine};
use crate::fetch::Conditions;
use crate::host::environment;
use crate::provider::Raw;
use crate::reading::Readings;
use crate::run::Journal;
use crate::{observe, report};

/// What the command line of `ignition-apply` settles.
#[derive(Clone, Debug)]
pub struct ApplyArgs {
    /// The target root.
    pub root: PathBuf,
    /// Whether sections that can't be applied are passed over; else they are refused.
    pub ignore_unsupported: bool,
    /// Whether nothing may be fetched from a network.
    pub offline: bool,
}

/// Applies a configuration.
///
/// # Errors
/// This is no container; what is wrong with the configuration; what of it can't be applied; or why the first step that failed did.
pub fn run(raw: Raw, args: &ApplyArgs) -> Result<(), Vec<Failure>> {
    if !in_container() {
        return Err(vec![
            Failure::new(
                "applying the configuration",
                "this is no container, and a system that runs is not for configurations to change",
            )
            .remedy("provision the machine anew, or run this while an image is built (set the variable container where no tool does)"),
        ]);
    }
    log::info!("{}", report::PROGRAM);
    let conditions = Conditions { offline: args.offline, ..Conditions::default() };
    let mut readings = Readings::default();
    let mut config = fetch::read_at_hand(raw, conditions.clone(), &mut readings)?;
    if args.offline {
        let needs = network::needs(&config);
        if !needs.is_empty() {
            let why = format!("it needs a network for {}", needs.join(", "));
            return Err(vec![
                Failure::new("applying the configuration offline", why)
                    .remedy("leave --offline out, or put the contents into data URLs"),
            ]);
        }
    }
    if args.ignore_unsupported {
        leave_out(&mut config);
    } else {
        refuse(&config, &readings)?;
    }
    fetch::refuse_gaps(&config, &mut readings)?;

    let root = observe::open(&args.root).map_err(|failure| vec![failure])?;
    let mut state = State::default();
    let facts = observe::for_files(&config, &root, &state)?;
    let settings = Settings { in_container: true, ..Settings::default() };
    let plan = plan::files(&config, &facts, &readings.sources, settings)?;
    plan::check(&plan)?;
    let fetcher = fetch::fetcher_in(conditions, &config.ignition, &readings.sources)?;
    let mut machine = Machine { root: &root, fetcher: Some(&fetcher), state: &mut state, save: &|_| Ok(()) };
    execute::run(&plan, &mut machine, &mut Journal::default())
}

/// By what container tools set and leave.
fn in_container() -> bool {
    environment::variable("container").is_some()
        || ["/run/.containerenv", "/.dockerenv"].iter().any(|mark| Path::new(mark).exists())
}

fn leave_out(config: &mut Config) {
    let storage = &mut config.storage;
    storage.disks.clear();
    storage.raid.clear();
    storage.luks.clear();
    storage.filesystems.clear();
    config.kernel_arguments = KernelArguments::default();
    config.passwd = Passwd::default();
}

/// Names the sections that can't be applied, each with its first entry.
fn refuse(config: &Config, readings: &Readings) -> Result<(), Vec<Failure>> {
    let storage = &config.storage;
    let arguments = &config.kernel_arguments;
    let asks: [(&str, &str, Option<Origin>); 8] = [
        ("$.storage.disks", "partitions", storage.disks.first().map(|disk| disk.origin)),
        ("$.storage.raid", "RAID arrays", storage.raid.first().map(|raid| raid.origin)),
        ("$.storage.luks", "LUKS volumes", storage.luks.first().map(|luks| luks.origin)),
        ("$.storage.filesystems", "file systems", storage.filesystems.first().map(|filesystem| filesystem.origin)),
        (
            "$.kernelArguments.shouldExist",
            "kernel arguments",
            arguments.should_exist.first().map(|_| Origin::default()),
        ),
        (
            "$.kernelArguments.shouldNotExist",
            "kernel arguments",
            arguments.should_not_exist.first().map(|_| Origin::default()),
        ),
        ("$.passwd.users", "users", config.passwd.users.first().map(|user| user.origin)),
        ("$.passwd.groups", "groups", config.passwd.groups.first().map(|group| group.origin)),
    ];
    let mut failures = Vec::new();
    for (section, what, origin) in asks {
        let Some(origin) = origin else { continue };
        let place = readings.sources.place(origin, section).unwrap_or_else(|| Place {
            source: "the configuration".into(),
            path: section.into(),
            position: None,
        });
        failures.push(
            Failure::new("applying the configuration", format!("{what} can't be made in a container"))
                .at(place)
                .remedy("remove them, or pass over them with --ignore-unsupported"),
        );
    }
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}
