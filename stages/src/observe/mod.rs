// SPDX-License-Identifier: Apache-2.0
//! Gathers the facts that a configuration makes one want to know, and nothing else. Looking changes nothing, but for a journal that the
//! kernel replays where a key is looked for in the target root.

mod accounts;
pub(crate) mod begun;
mod disks;
mod luks;
mod partitions;
mod raid;

use std::path::Path;
use std::time::Duration;

use fledge_core::cmdline::Cmdline;
use fledge_core::config::Config;
use fledge_core::diag::Failure;
use fledge_core::facts::Facts;
use fledge_core::plan::Questions;
use fledge_core::state::{Held, State};

use crate::host::fs::Root;
use crate::host::{cmd, device, label, mount};

pub use accounts::accounts;
pub use disks::for_phase;
pub(crate) use luks::{open_as, volume};

/// All facts about a machine, without waiting for anything: for `fledge facts`.
///
/// # Errors
/// Each thing that can't be looked at.
pub fn facts(config: &Config, root: &Path) -> Result<Facts, Vec<Failure>> {
    let root = open(root).map_err(|failure| vec![failure])?;
    let mut observer = Observer::new(&root, &State::default());
    observer.accounts();
    observer.selinux();
    // `setfiles` has to be in the initramfs, not here.
    observer.facts.selinux.iter_mut().for_each(|selinux| selinux.tool = true);
    let questions = Questions::of(config, observer.facts.accounts.as_ref());
    observer.ask(&questions, Duration::ZERO);
    partitions::look(config, &mut observer.facts, &mut observer.failures);
    raid::arrays(config, &mut observer.facts);
    observer.encryption(config, &State::default(), |_| true);
    observer.skeleton(config);
    observer.finish()
}

/// The facts that the disks, mount and umount stages are planned from. Devices are waited for.
///
/// # Errors
/// Each thing that can't be looked at.
pub fn for_mounting(config: &Config, root: &Root, state: &State, patience: Duration) -> Result<Facts, Vec<Failure>> {
    let mut observer = Observer::new(root, state);
    observer.selinux();
    observer.ask(&Questions::of_mounting(config), patience);
    observer.finish()
}

/// Adds to facts what is known about encrypted volumes. Keys that an interrupted first boot left in the target root are added to the state.
///
/// # Errors
/// Each device that is there and can't be read.
pub fn encryption(
    facts: &mut Facts,
    config: &Config,
    state: &mut State,
    cmdline: &Cmdline,
) -> Result<(), Vec<Failure>> {
    luks::look(facts, config, state, |_| true)?;
    luks::recall(config, facts, state, cmdline);
    Ok(())
}

/// The facts that the files stage is planned from.
///
/// # Errors
/// Each thing that can't be looked at.
pub fn for_files(config: &Config, root: &Root, state: &State) -> Result<Facts, Vec<Failure>> {
    let mut observer = Observer::new(root, state);
    observer.accounts();
    observer.selinux();
    observer.facts.begun =
        observer.note("reading what an earlier run began", begun::look(root, state)).unwrap_or_default();
    let questions = Questions::of_files(config, observer.facts.accounts.as_ref());
    observer.ask(&questions, Duration::ZERO);
    observer.encryption(config, state, |held| held.key.is_some());
    observer.skeleton(config);
    observer.finish()
}

/// Opens the target root.
///
/// # Errors
/// It isn't there.
pub fn open(root: &Path) -> Result<Root, Failure> {
    Root::open(root).map_err(|error| {
        Failure::new(format!("opening the target root {}", root.display()), error.to_string())
            .remedy("give the directory where the system's root is mounted")
    })
}

struct Observer<'r> {
    root: &'r Root,
    facts: Facts,
    failures: Vec<Failure>,
}

impl<'r> Observer<'r> {
    fn new(root: &'r Root, state: &State) -> Self {
        let facts =
            Facts { mounted: state.mounted.clone(), made_directories: state.directories.clone(), ..Facts::default() };
        Self { root, facts, failures: Vec::new() }
    }

    fn note<T>(&mut self, what: impl Into<String>, result: Result<T, impl std::fmt::Display>) -> Option<T> {
        result.map_err(|error| self.failures.push(Failure::new(what, error.to_string()))).ok()
    }

    fn encryption(&mut self, config: &Config, state: &State, held: fn(&Held) -> bool) {
        if let Err(mut failures) = luks::look(&mut self.facts, config, state, held) {
            self.failures.append(&mut failures);
        }
    }

    fn accounts(&mut self) {
        self.facts.accounts = self.note("reading the target's users and groups", accounts(self.root));
    }

    fn selinux(&mut self) {
        self.facts.selinux = self.note("reading the target's /etc/selinux", label::observe(self.root)).flatten();
    }

    /// What new home directories will hold, if any will be made.
    fn skeleton(&mut self, config: &Config) {
        let users = self.facts.accounts.as_ref().map(|accounts| &accounts.users);
        let new = |name: &str| users.is_none_or(|users| !users.contains_key(name));
        if config.passwd.users.iter().any(|user| user.should_exist != Some(false) && new(&user.name)) {
            self.facts.skeleton =
                self.note("looking through the target's /etc/skel", self.root.tree("/etc/skel")).unwrap_or_default();
        }
    }

    fn ask(&mut self, questions: &Questions, patience: Duration) {
        device::wait(&questions.devices, patience);
        for name in &questions.devices {
            match device::examine(name) {
                Ok(found) => {
                    self.facts.devices.insert(name.clone(), found);
                }
                Err(failure) => self.failures.push(failure),
            }
        }
        if self.facts.devices.values().any(|device| !device.present) {
            self.facts.block_devices = device::list();
        }
        self.facts.mounts =
            self.note("reading the table of mounts", mount::below(self.root.path())).unwrap_or_default();
        for (path, digest) in &questions.paths {
            let node = self.root.node(path, *digest);
            if let Some(node) = self.note(format!("looking at {path} in the target"), node) {
                self.facts.nodes.insert(path.clone(), node);
            }
        }
        for unit in &questions.units {
            match is_enabled(self.root, unit) {
                Ok(true) => {
                    self.facts.enabled_units.insert(unit.clone());
                }
                Ok(false) => {}
                Err(failure) => self.failures.push(failure),
            }
        }
    }

    fn finish(self) -> Result<Facts, Vec<Failure>> {
        if self.failures.is_empty() { Ok(self.facts) } else { Err(self.failures) }
    }
}

/// Whether links in the target enable a unit; one that isn't there isn't enabled.
///
/// # Errors
/// `systemctl` can't be run.
pub fn is_enabled(root: &Root, unit: &str) -> Result<bool, Failure> {
    let args = ["--root".into(), root.path().into(), "is-enabled".into(), "--".into(), unit.into()];
    Ok(cmd::output(cmd::SYSTEMCTL, &args)?.code == Some(0))
}
