// SPDX-License-Identifier: Apache-2.0
//! What units do in the course of a boot, each by `fledgectl unit NAME`.
//!
//! | name | when | what |
//! |---|---|---|
//! | `begin` | once `/boot` and `/var` are there | notes a counted boot, pins what would be fallen back to; after a fallback, collects what is known of the one that failed |
//! | `health` | before `boot-complete.target` | the checks; failing keeps that target from being reached |
//! | `bless` | after it | marks the deployment as good; after a fallback, puts the default right |
//! | `green` | after that | the green hooks |
//! | `red` | when that target can't be reached | the red hooks, the journal, and a reboot if this boot was counted |
//! | `deadline` | when the time of `fledge.boot.deadline=` is over | the same without hooks, if the boot isn't healthy |
//! | `give-back` | in a rescue shell that a person asked for | the boot was no try |
//! | `arm` | when the system goes off, after OSTree deployed what was staged | GRUB counts starts of a default that nobody has seen arrive |

mod arm;
mod begin;
mod bless;
mod unhealthy;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fledge_core::counting::{self, Id, Selection, State};
use fledge_core::diag::Failure;
use fledge_stages::host::{atomic, clock};
use fledge_stages::report;

use crate::admin::Admin;
use crate::attempt::{self, Attempt};
use crate::health::{self, Kind};
use crate::records;
use crate::status;
use crate::sysroot::{Live, Sysroot};

pub(crate) use arm::disarm;
pub use arm::{arm, never_arrived};
pub use begin::begin;
pub use bless::bless;
pub use unhealthy::{Next, after_unhealthy, deadline, red};

/// The message of the day, below `/run`: `pam_motd(8)` shows all files of that folder.
const MESSAGE: &str = "motd.d/80-fledge-boot";

/// The machine that units work on.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its deployments.
    pub sysroot: Sysroot,
    /// What changes them.
    pub admin: Admin,
    /// The system that runs.
    pub live: Live,
    /// The id of this boot.
    pub boot_id: String,
    /// How long what a boot that isn't healthy leaves may take: a disk may not answer, and the boot is to end all the same.
    pub patience: Duration,
    /// How long all red hooks together may take: one may hang, and the boot is to end all the same.
    pub hooks: Duration,
    /// Restarts the machine where systemd doesn't; returns only if that fails.
    pub restart: fn() -> Failure,
}

/// [`Machine::patience`] of this machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// [`Machine::hooks`] of this machine.
const HOOKS: Duration = Duration::from_secs(300);

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// The boot's id can't be read.
    pub fn this() -> Result<Self, Failure> {
        let sysroot = Sysroot::default();
        let live = Live { root: "/".into(), runtime: report::runtime_dir() };
        let boot_id =
            report::boot_id().map_err(|error| Failure::new("reading the id of this boot", error.to_string()))?;
        let (patience, hooks, restart) = (PATIENCE, HOOKS, unhealthy::restart);
        Ok(Self { sysroot, admin: Admin::default(), live, boot_id, patience, hooks, restart })
    }

    /// The `/var` of this system.
    fn var(&self) -> PathBuf {
        self.live.root.join("var")
    }

    /// Where attempts are kept.
    fn store(&self) -> PathBuf {
        self.var().join(attempt::FOLDER)
    }

    /// What is known of a deployment.
    fn state(&self, id: &Id) -> Result<Option<State>, Failure> {
        Ok(self.sysroot.records()?.state(id))
    }

    /// This boot as an attempt.
    fn attempt(&self, selection: &Selection, deployment: &Id, end: Option<String>) -> Attempt {
        Attempt {
            version: attempt::VERSION,
            boot_id: self.boot_id.clone(),
            deployment: deployment.clone(),
            tries: selection.tries,
            date: clock::date(),
            end,
        }
    }

    /// Tells whoever logs in what they have to know, or takes that back.
    ///
    /// # Errors
    /// The state can't be read, or the message not be written.
    pub fn tell(&self) -> Result<(), Failure> {
        let path = self.live.root.join("run").join(MESSAGE);
        let failure = |error: io::Error| Failure::new(format!("writing {}", path.display()), error.to_string());
        match status::of_the_day(&status::look(&self.sysroot)?) {
            Some(text) => {
                let folder = path.parent().unwrap_or(&path);
                // Read by programs without privileges.
                atomic::make_directory(folder, 0o755).and_then(|()| atomic::write(&path, 0o644, text.as_bytes()))
            }
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
        .map_err(failure)
    }
}

/// Runs the checks, leaves the result, and says whether the boot is healthy.
///
/// # Errors
/// The result can't be left.
pub fn check(machine: &Machine) -> Result<bool, Failure> {
    let health = health::check(&machine.live.root, &machine.boot_id);
    health::leave(&machine.live.runtime, &health)?;
    Ok(health.healthy)
}

/// Runs the green hooks. Whatever they do, the boot stays healthy.
pub fn green(machine: &Machine) {
    health::hooks(&machine.live.root, Kind::Green, None);
}

/// What a closure returns; `None` if that takes too long. It then goes on by itself as long as this program runs.
fn bounded<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more after the time is over.
    let thread = thread::Builder::new().spawn(move || drop(sender.send(work())));
    thread.ok().and_then(|_| receiver.recv_timeout(limit).ok())
}

/// Gives this boot's try back: it was none. It is not counted any more then, and nothing reboots it.
///
/// # Errors
/// The records can't be read or written.
pub fn give_back(machine: &Machine) -> Result<(), Failure> {
    let Some(selection) = machine.sysroot.selection()?.filter(|selection| selection.counted) else { return Ok(()) };
    let steps = counting::give_back(&machine.sysroot.records()?, &selection);
    records::carry_out(&steps, &machine.sysroot, &machine.admin)?;
    machine.sysroot.stop_counting("the try was given back")?;
    log::info!("this boot is no try any more");
    attempt::forget(&machine.store(), &machine.boot_id)
}

/// Several things to do, each of them tried.
#[derive(Debug, Default)]
struct Tried {
    failures: Vec<Failure>,
}

impl Tried {
    fn note<T>(&mut self, result: Result<T, Failure>) -> Option<T> {
        result.map_err(|failure| self.failures.push(failure)).ok()
    }

    fn all(self) -> Result<(), Vec<Failure>> {
        if self.failures.is_empty() { Ok(()) } else { Err(self.failures) }
    }
}
