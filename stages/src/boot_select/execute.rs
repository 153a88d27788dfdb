// SPDX-License-Identifier: Apache-2.0
//! Carries out what was decided. The boot file system is mounted with the first effect that needs it, and unmounted at the end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fledge_core::counting::{COMMAND_LINE, Effect, Environment, FOLDER, Id, STEERING, Starts, disarmed, replaced};
use fledge_core::diag::Failure;

use super::observe::Seen;
use super::retreat::OURS;
use super::{PATIENCE, Places, leave_flag};
use crate::host::atomic;
use crate::host::bootfs::{BootFs, Place};

/// Performs effects.
pub(super) struct Hands<'a> {
    place: Place,
    environment: Option<(String, Environment)>,
    cmdline: &'a str,
    places: &'a Places,
    boot: Option<BootFs>,
}

impl<'a> Hands<'a> {
    pub(super) fn new(seen: Seen, cmdline: &'a str, places: &'a Places) -> Self {
        Self { place: seen.boot, environment: seen.environment, cmdline, places, boot: None }
    }

    pub(super) fn perform(&mut self, effect: &Effect) -> Result<(), Failure> {
        match effect {
            Effect::Create { name } => self.boot()?.create_name(FOLDER, name),
            Effect::Rename { from, to } => self.boot()?.rename_name(FOLDER, from, to),
            Effect::Sync => self.boot()?.sync_names(FOLDER),
            Effect::SetDefault { entry } => self.set_default(entry),
            Effect::Disarm => self.count(None),
            Effect::Arm { starts } => self.count(Some(starts)),
            Effect::Flush => self.boot()?.flush(),
            Effect::Reboot => {
                self.boot = None;
                Err((self.places.reboot)())
            }
            Effect::Pivot { id, link, var } => self.pivot(id, link, *var),
            Effect::Exhausted { why } => leave_flag(&self.places.runtime, why)
                .map_err(|error| Failure::new("leaving the flag that all deployments are used up", error.to_string())),
        }
    }

    fn boot(&mut self) -> Result<&BootFs, Failure> {
        let boot = match self.boot.take() {
            Some(boot) => boot,
            None => BootFs::open_within(PATIENCE, &self.place, true)?,
        };
        if !boot.is_writable() {
            return Err(Failure::new("writing to the boot file system", "it is mounted read-only"));
        }
        Ok(self.boot.insert(boot))
    }

    fn set_default(&mut self, entry: &str) -> Result<(), Failure> {
        let what = "telling GRUB which entry to start";
        let Some((path, environment)) = self.environment.clone() else {
            return Err(Failure::new(what, "it has no grubenv"));
        };
        let environment = disarmed(&environment).with(STEERING, Some(entry));
        let block = environment.render().map_err(|why| Failure::new(what, why))?;
        self.boot()?.overwrite(&path, &block)
    }

    fn count(&mut self, starts: Option<&Starts>) -> Result<(), Failure> {
        let Some((path, environment)) = self.environment.clone() else { return Ok(()) };
        let environment = starts.map_or_else(|| disarmed(&environment), |starts| starts.written(&environment));
        let block = environment.render().map_err(|why| Failure::new("telling GRUB that this start arrived", why))?;
        self.boot()?.overwrite(&path, &block)?;
        self.boot()?.flush()
    }

    /// The unit goes first: without it the wrong `/var` would be mounted, writable.
    fn pivot(&self, id: &Id, link: &str, var: bool) -> Result<(), Failure> {
        let failed =
            |path: &Path, error: io::Error| Failure::new(format!("writing {}", path.display()), error.to_string());
        let unit = self.var_unit(id).filter(|_| var);
        if let Some((path, text)) = &unit {
            write(path, text).map_err(|error| failed(path, error))?;
        }
        let path = self.places.runtime.join(COMMAND_LINE);
        let text = replaced(self.cmdline, link) + "\n";
        atomic::write(&path, 0o644, text.as_bytes()).map_err(|error| {
            if let Some((unit, _)) = &unit {
                // The deployment of the command line boots, and has another /var.
                let _ = fs::remove_file(unit);
            }
            failed(&path, error)
        })
    }

    /// OSTree's generator would mount the `/var` of the stateroot that the kernel's command line names. A unit here goes before it, and
    /// would also go before a line of the deployment's fstab, which the generator leaves alone.
    fn var_unit(&self, id: &Id) -> Option<(PathBuf, String)> {
        let fstab = self.places.root.join(id.path().trim_start_matches('/')).join("etc/fstab");
        let fstab = fs::read_to_string(fstab).unwrap_or_default();
        let own = fstab
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .any(|line| line.split_whitespace().nth(1).is_some_and(|point| point.trim_end_matches('/') == "/var"));
        (!own).then(|| (self.places.units.join("var.mount"), var_mount(id.stateroot())))
    }
}

fn var_mount(stateroot: &str) -> String {
    // systemd expands % in units.
    let stateroot = stateroot.replace('%', "%%");
    format!(
        "{OURS}the deployment that boots is of another stateroot than the command line names.\n\
        [Unit]\n\
        Description=/var of the Stateroot {stateroot}\n\
        DefaultDependencies=no\n\
        ConditionKernelCommandLine=!systemd.volatile\n\
        After=local-fs-pre.target sysroot.mount\n\
        Before=local-fs.target\n\
        \n\
        [Mount]\n\
        Where=/var\n\
        What=/sysroot/ostree/deploy/{stateroot}/var\n\
        Options=bind,slave,shared\n"
    )
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(above) = path.parent() {
        atomic::make_directory(above, 0o755)?;
    }
    atomic::write(path, 0o644, text.as_bytes())
}
