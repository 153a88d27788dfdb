// SPDX-License-Identifier: Apache-2.0
//! What later boots need to open the encrypted volumes: lines of `/etc/crypttab` (crypttab(5)), and the keys below `/etc/luks`.
//!
//! `x-initrd.attach` keeps systemd from closing a volume that the initramfs opened when the system is rebooted softly, `_netdev` has it
//! opened after the network. Discards and other options stand in the volume's own header. A volume that clevis opens has `none` for
//! a key.
//!
//! The last steps of the stage are those that have new volumes count as made: see [`super::luks`].

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::disks::luks::{self, KEYS, MARK, key_path};
use super::files::{Planner, standing_in_the_way};
use super::world::{Made, Standing, World};
use super::{Attributes, Contents, Step as AnyStep};
use crate::config::Config;
use crate::diag::Failure;

/// The table of encrypted volumes.
pub(super) const CRYPTTAB: &str = "/etc/crypttab";
const PRIVATE_DIRECTORY: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// One thing to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Write the lines of some volumes to the table, in place of those that these volumes have there; mode 0600.
    Table {
        /// The table's path.
        path: String,
        /// The names of the volumes and their lines.
        lines: Vec<(String, String)>,
    },
    /// Have a volume count as made, if it doesn't yet, and forget its key.
    Settle {
        /// Its name.
        name: String,
        /// Its device.
        device: String,
        /// Its label.
        label: String,
        /// The fingerprint for our token.
        made_from: String,
        /// The subsystem that the configuration's options ask for.
        subsystem: String,
        /// Whether it has the mark, which is taken away.
        marked: bool,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table { path, lines } => {
                write!(f, "write to {path}")?;
                for (index, (_, line)) in lines.iter().enumerate() {
                    write!(f, "{} {line}", if index == 0 { ":" } else { ";" })?;
                }
                Ok(())
            }
            Self::Settle { name, marked: true, .. } => write!(f, "count the encrypted volume {name:?} as made"),
            Self::Settle { name, .. } => write!(f, "forget the key of the encrypted volume {name:?}"),
        }
    }
}

/// The paths to be known about.
pub(super) fn paths(config: &Config) -> Vec<String> {
    let mut paths = Vec::new();
    if !config.storage.luks.is_empty() {
        paths.extend([CRYPTTAB.into(), KEYS.into()]);
        paths.extend(config.storage.luks.iter().map(|luks| key_path(&luks.name)));
    }
    paths
}

/// Plans keys and table.
pub(super) fn plan(config: &Config, world: &mut World<'_>, planner: &mut Planner<'_>) {
    let mut lines = Vec::new();
    for luks in &config.storage.luks {
        let place = planner.place(luks.origin, "$.storage.luks");
        let what = || format!("writing the key of the encrypted volume {:?}", luks.name);
        let Some(volume) = world.facts().volume(luks::device(luks)) else {
            let why = format!("{} is no LUKS volume", luks::device(luks));
            planner
                .refuse(place, Failure::new(what(), why).remedy("the disks stage makes it: see what became of that"));
            continue;
        };
        let uuid = &volume.uuid;
        let bound = luks.clevis.is_present();
        let key = if bound { "none".into() } else { key_path(&luks.name) };
        let network = if luks::needs_network(&luks.clevis) { ",_netdev" } else { "" };
        let line = format!("{} UUID={uuid} {key} luks{network},x-initrd.attach", luks.name);
        lines.push((luks.name.clone(), line));
        if bound {
            continue;
        }
        let directory = world.resolve(KEYS);
        if world.at(&directory) == Standing::Nothing {
            world.make(&directory, Made::Directory);
            let attributes = Attributes { mode: Some(PRIVATE_DIRECTORY), ..Attributes::default() };
            planner.step(AnyStep::EnsureDirectory { path: directory, attributes }, place.clone());
        }
        let path = world.resolve(&key);
        let held = volume.held;
        let replace = match world.at(&path) {
            Standing::Nothing if held => false,
            // The stage runs again, and the key has been forgotten.
            Standing::OldFile(..) if !held => continue,
            Standing::OldFile(..) => true,
            Standing::Nothing => {
                let failure = Failure::new(what(), "the disks stage has left none");
                planner.refuse(place, failure.remedy("boot again, so that all stages run again from the start"));
                continue;
            }
            standing => {
                let failure = Failure::new(what(), standing_in_the_way(&path, &standing));
                planner.refuse(place, failure.remedy(format!("leave {path} to the volume")));
                continue;
            }
        };
        world.make(&path, Made::File);
        world.label(&path);
        let attributes = Attributes { mode: Some(PRIVATE_FILE), ..Attributes::default() };
        let contents = Some(Contents::Key(luks.name.clone()));
        planner.step(AnyStep::WriteFile { path, contents, keep: None, append: Vec::new(), attributes, replace }, place);
    }
    if lines.is_empty() {
        return;
    }
    let path = world.resolve(CRYPTTAB);
    match world.at(&path) {
        Standing::Nothing | Standing::OldFile(..) | Standing::NewFile => {
            world.make(&path, Made::File);
            world.label(&path);
            planner.step(AnyStep::Crypttab(Step::Table { path, lines }), None);
        }
        standing => {
            let why = standing_in_the_way(&path, &standing);
            planner.refuse(None, Failure::new(format!("writing {path}"), why).remedy("remove it from the target"));
        }
    }
}

/// Plans what comes last, when everything else is on the disk.
pub(super) fn settle(config: &Config, world: &World<'_>, planner: &mut Planner<'_>) {
    for luks in &config.storage.luks {
        let device = luks::device(luks);
        let Some(volume) = world.facts().volume(device) else { continue };
        let step = Step::Settle {
            name: luks.name.clone(),
            device: if volume.node.is_empty() { device } else { &volume.node }.into(),
            label: volume.label.clone(),
            made_from: luks::fingerprint(luks),
            subsystem: luks::subsystem(&luks.options).into(),
            marked: volume.subsystem == MARK,
        };
        let place = planner.place(luks.origin, "$.storage.luks");
        planner.step(AnyStep::Crypttab(step), place);
    }
}
