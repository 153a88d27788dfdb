// SPDX-License-Identifier: Apache-2.0
//! What selection has to know.

use std::fs;
use std::iter;
use std::path::Path;
use std::time::Duration;

use fledge_core::cmdline::Cmdline;
use fledge_core::counting::{Deployment, Environment, FOLDER, Facts, Id, Listed, Menu, OTHER_COUNTERS, Records};
use fledge_core::diag::Failure;
use fledge_core::pivot::{Composefs, IMAGE};
use fledge_core::root;

use super::{BLESSER, Grub, PATIENCE, Places};
use crate::host::bootfs::{self, BootFs, Place};
use crate::host::device;
use crate::{ostree, pivot};

/// What was seen.
pub(super) struct Seen {
    /// The facts.
    pub(super) facts: Facts,
    /// Where the boot file system is.
    pub(super) boot: Place,
    /// GRUB's `grubenv`: where it is, and its variables.
    pub(super) environment: Option<(String, Environment)>,
    /// What is odd, in words.
    pub(super) remark: Option<String>,
}

/// The deployment that the command line names.
pub(super) fn booted(root: &Path, cmdline: &Cmdline) -> Result<Id, Failure> {
    let what = "finding the booted deployment";
    let path = ostree::deployment(what, root, cmdline)?;
    Id::of_path(&path.to_string_lossy())
        .ok_or_else(|| Failure::new(what, format!("{} is not named as a deployment is", path.display())))
}

pub(super) fn facts(booted: Id, tries: u32, cmdline: &Cmdline, places: &Places) -> Result<Seen, Failure> {
    let (place, patience) = boot_place(&places.root, cmdline);
    let boot = BootFs::open_within(patience, &place, false)?;
    let menu = Menu::new(boot.entries()?.iter().map(|found| Listed::new(&found.name, &found.entry)).collect());
    let records = Records::parse(boot.names(FOLDER)?.iter().map(String::as_str));
    let grub = Grub::look(&boot, records.iter().any(|record| record.switched > 0));
    let folder = |id: &Id| places.root.join(id.path().trim_start_matches('/'));
    let wants_image = wants_image(places, cmdline, &folder(&booted));
    let ids: Vec<(&Listed, Option<Id>)> = menu.iter().map(|entry| (entry, id(entry, &places.root))).collect();
    let deployments = ids.iter().filter_map(|(entry, id)| {
        let deployment = entry.deployment(id.clone()?)?;
        let folder = folder(&deployment.id);
        Some(Deployment {
            unusable: unusable(&folder, wants_image),
            unstartable: unstartable(&boot, entry),
            blesses: fs::symlink_metadata(folder.join(BLESSER)).is_ok(),
            ..deployment
        })
    });
    let default = menu.choice(grub.told());
    let facts = Facts {
        deployments: deployments.collect(),
        booted,
        default: default.and_then(|default| ids.iter().find(|(entry, _)| *entry == default)?.1.clone()),
        records,
        tries,
        unsteerable: grub.unsteerable.clone(),
        other: other(&menu, &grub.variables),
    };
    let remark = grub
        .torn
        .then(|| "grubenv is damaged, as by a power cut while it was written: it is taken for an empty one".into());
    // The boot file system is opened again for writing, which the kernel allows only when this one is closed.
    Ok(Seen { facts, boot: place, environment: grub.path.map(|path| (path, grub.variables)), remark })
}

/// Where the boot file system is, and how long it is waited for. One that nobody named may be none: a machine without it is not to wait
/// for it on each of its boots, so it is there once udev has looked at all devices, or it isn't.
fn boot_place(root: &Path, cmdline: &Cmdline) -> (Place, Duration) {
    let own = root.join("boot");
    if fs::symlink_metadata(own.join("loader")).is_ok_and(|loader| loader.is_symlink()) {
        return (Place::Mounted(own), PATIENCE);
    }
    let named = cmdline.value("boot").filter(|boot| boot.contains('=') || boot.starts_with("/dev/"));
    if let Some(named) = named {
        return (Place::Device(root::device(Some(named)).into()), PATIENCE);
    }
    if !device::is_there(bootfs::DEVICE) {
        device::settle(PATIENCE);
    }
    (Place::Device(bootfs::DEVICE.into()), Duration::ZERO)
}

/// The deployment that an entry's link leads to; one that leads nowhere names none.
fn id(entry: &Listed, root: &Path) -> Option<Id> {
    let link = root.join(entry.link.as_ref()?.trim_start_matches('/'));
    if !fs::symlink_metadata(&link).ok()?.is_symlink() {
        return None;
    }
    let folder = fs::canonicalize(link).ok()?;
    folder.starts_with(fs::canonicalize(root).ok()?).then(|| Id::of_path(&folder.to_string_lossy()))?
}

fn unusable(deployment: &Path, wants_image: bool) -> Option<String> {
    let missing = |name: &str| fs::metadata(deployment.join(name)).is_err().then(|| format!("it has no {name}"));
    missing("usr").or_else(|| if wants_image { missing(IMAGE) } else { None })
}

/// Why the bootloader can't start an entry: its kernel or its initramfs is gone.
fn unstartable(boot: &BootFs, entry: &Listed) -> Option<String> {
    let Some(kernel) = &entry.kernel else { return Some("its boot entry names no kernel".into()) };
    // Other words are variables of GRUB's.
    let mut paths = iter::once(kernel).chain(&entry.initrds).filter(|path| path.starts_with('/'));
    paths.find_map(|path| boot.image(path).err()).map(|error| error.to_string())
}

/// Whether a pivot would want a composefs image. What can't be understood here, such as signatures, which only OSTree's own program checks,
/// is for the pivot to say: another deployment then has what the booted one has.
fn wants_image(places: &Places, cmdline: &Cmdline, booted: &Path) -> bool {
    match pivot::settings(&places.initramfs, cmdline) {
        Ok(settings) => settings.composefs == Composefs::Yes,
        Err(_) => fs::symlink_metadata(booted.join(IMAGE)).is_ok(),
    }
}

/// Who else counts boots.
fn other(menu: &Menu, variables: &Environment) -> Option<String> {
    if let Some(name) = OTHER_COUNTERS.iter().find(|name| variables.get(name).is_some()) {
        return Some(format!("the bootloader counts boots itself, by {name} in grubenv"));
    }
    // Boot Loader Specification, "Boot counting": NAME+LEFT.conf, NAME+LEFT-DONE.conf.
    let counted = |name: &str| {
        let counter = name.rsplit_once('+').map(|(_, counter)| counter).unwrap_or_default();
        counter.starts_with(|c: char| c.is_ascii_digit()) && counter.chars().all(|c| c.is_ascii_digit() || c == '-')
    };
    let entry = menu.iter().find(|entry| counted(&entry.name))?;
    Some(format!("the bootloader counts boots itself, by the name of the entry {}", entry.name))
}
