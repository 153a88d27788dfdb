// SPDX-License-Identifier: Apache-2.0
//! The demo: a machine boots through GRUB, is provisioned, shows its report, and boots once more without being
//! provisioned again.
//!
//! It is the case `small-machine` with more memory, a second boot and words about what happens; so what it claims is
//! checked from inside the guest like any case.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::{Map, Value, json};

use crate::case::{self, Boot, Case, Outcome, Texts};
use crate::host;
use crate::progress::say;
use crate::qemu::Vm;
use crate::run::one::{self, Observer};
use crate::session::Session;
use crate::template::Values;

/// What the user asked for.
#[derive(Clone, Debug, Default)]
pub struct DemoOptions {
    /// The user's own config, taken as it is, in place of the demo's.
    pub config: Option<PathBuf>,
    /// Leaves the console to the user after the first boot.
    pub interactive: bool,
}

/// Accounts of the demo's config that have a password made for the run.
const LOGIN: &str = "ops";

/// Parts of a console line (systemd shortens long names in their middle), and what the line means for the user.
const MILESTONES: &[(&[&str], &str)] = &[
    (&["Linux version"], "GRUB has loaded the kernel and the initramfs"),
    (&["Finished", "Stage fetch-offline."], "fetch-offline has looked for a config without the network"),
    (&["Finished", "Network for the First Boot."], "the config needs the network: it is started"),
    (&["Finished", "Stage fetch."], "fetch has got the config over the network"),
    (&["Finished", "Stages mount and umount."], "the deployment's file systems are mounted"),
    (&["Finished", "Stage files."], "users, files, links and units are written"),
    (&["initrd-switch-root.service"], "the initramfs hands over to the real root"),
    (&["Reached target", "multi-user.target"], "the system is up"),
    (&["login:"], "the login prompt is there"),
];

/// Runs the demo, and returns whether all was as expected. The closing line is the caller's.
///
/// # Errors
/// If a machine can't be run, or the user interrupts.
pub fn run(session: &Session, options: &DemoOptions) -> Result<bool> {
    if let Some(path) = &options.config {
        ensure!(path.is_file(), "there is no file {}", path.display());
    }
    let case = case::load("small-machine")?;
    let terminal = options.interactive.then(Terminal::save);
    let mut guide = Guide { options, passed: 0, login: None, report: None };
    let outcome = one::run(session, &case, &mut guide);
    drop(terminal);
    let differences = outcome?;
    for difference in &differences {
        say(format_args!("not as expected: {difference}"));
    }
    Ok(differences.is_empty())
}

/// Tells the user what happens.
struct Guide<'a> {
    options: &'a DemoOptions,
    /// Milestones of the current boot that were told.
    passed: usize,
    login: Option<String>,
    /// Which fact of the first boot is the report.
    report: Option<usize>,
}

impl Observer for Guide<'_> {
    fn prepared(&mut self, case: &mut Case, values: &Values<'_>) -> Result<()> {
        case.memory = 1024;
        if let Some(first) = case.boots.first_mut() {
            "first boot".clone_into(&mut first.name);
            if let Some(config) = &self.options.config {
                first.verbatim = Some(config.clone());
                first.requests = None;
                first.facts = vec![fact(json!({ "path": "/boot/ignition.firstboot", "is": { "kind": "absent" } }))];
            } else {
                // So that the password is known before the config is written.
                values.expand(&format!("@YESCRYPT:{LOGIN}@"))?;
                self.login = values.passwords().get(LOGIN).cloned();
            }
            self.report = Some(first.facts.len());
            first.facts.push(fact(json!({ "run": ["fledge", "report"], "is": { "status": 0 } })));
            if !self.options.interactive {
                let second = second_boot(first);
                case.boots.push(second);
            }
        }
        Ok(())
    }

    fn boot_begins(&mut self, name: &str) {
        self.passed = 0;
        say(format_args!("{name}: the machine starts"));
        if self.options.interactive {
            let login = self.login.as_ref().map_or_else(
                || "log in as your config says".to_owned(),
                |password| format!("log in as {LOGIN} with the password {password}"),
            );
            say(format_args!("the console is yours: {login}; quit with Ctrl-A, then X"));
        }
    }

    fn running(&mut self, vm: &Vm) {
        if self.options.interactive {
            return;
        }
        let console = vm.console();
        // In order; one that this boot doesn't pass is left out when a later one is there.
        while let Some(rest) = MILESTONES.get(self.passed..) {
            let there = |parts: &[&str]| console.lines().any(|line| parts.iter().all(|part| line.contains(part)));
            let Some(next) = rest.iter().position(|(parts, _)| there(parts)) else { break };
            if let Some((_, meaning)) = rest.get(next) {
                say(format_args!("  {meaning}"));
            }
            self.passed += next + 1;
        }
    }

    fn is_interactive(&self) -> bool {
        self.options.interactive
    }

    fn answered(&mut self, facts: &[Value]) {
        let report = self.report.take().and_then(|index| facts.get(index)?.get("stdout")?.as_str().map(str::to_owned));
        if let Some(report) = report.filter(|_| !self.options.interactive) {
            say("what the machine reports of its first boot:");
            eprintln!("{}", host::tail(&report, 200));
        }
    }
}

/// The same machine once more, with the same config on offer.
fn second_boot(first: &Boot) -> Boot {
    let absent = json!({ "kind": "absent" });
    let facts = [
        json!({ "cmdline": true, "is": { "words": { "lacks": "ignition.firstboot" } } }),
        json!({ "journal": "Reached target initrd.target", "is": { "initramfs": { "at_least": 1 } } }),
        json!({ "journal": "First Boot Stage", "is": { "initramfs": 0 } }),
        json!({ "path": "/run/ignition.json", "is": absent }),
        json!({ "path": "/run/fledge/report.json", "is": absent }),
        json!({ "path": "/var/lib/fledge/first-boot.json", "is": { "kind": "file" } }),
    ];
    Boot {
        name: "second boot".to_owned(),
        config: first.config.clone(),
        verbatim: first.verbatim.clone(),
        fresh: false,
        like: None,
        pivot: None,
        arguments: Vec::new(),
        prepare: Vec::new(),
        outcome: Outcome::Login,
        starts: None,
        console: Texts::default(),
        requests: Some(Vec::new()),
        facts: facts.into_iter().map(fact).collect(),
    }
}

fn fact(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The terminal's settings, put back when dropped: QEMU changes them, and may be killed.
struct Terminal(Option<Termios>);

impl Terminal {
    fn save() -> Self {
        Self(tcgetattr(std::io::stdin()).ok())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            if tcsetattr(std::io::stdin(), OptionalActions::Now, settings).is_err() {
                say("the terminal may need a reset: type reset and press Enter");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_boot_is_offered_the_config_again_and_expects_nothing_to_happen() {
        let case = case::load("small-machine").unwrap();
        let boot = second_boot(&case.boots[0]);
        assert_eq!(boot.config, case.boots[0].config);
        assert!(!boot.fresh);
        assert!(boot.facts.iter().all(|fact| fact.contains_key("is")));
    }
}
