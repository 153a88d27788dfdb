// SPDX-License-Identifier: Apache-2.0
//! What selection has to know.

use std::fs;
use std::io;
use std::path::Path;

use fledge_core::cmdline::Cmdline;
use fledge_core::counting::{
    Deployment, Environment, FOLDER, Facts, Id, Listed, Menu, OTHER_COUNTERS, Records, STEERING, steering,
};
use fledge_core::diag::Failure;
use fledge_core::pivot::{Composefs, IMAGE};
use fledge_core::root;
use fledge_core::root::persist::GRUB;

use super::{PATIENCE, Places};
use crate::host::bootfs::{self, BootFs, Place};
use crate::{ostree, pivot};

/// What was seen.
pub(super) struct Seen {
    /// The facts.
    pub(super) facts: Facts,
    /// Where the boot file system is.
    pub(super) boot: Place,
    /// GRUB's `grubenv`: where it is, and its variables.
    pub(super) environment: Option<(String, Environment)>,
}

/// The deployment that the command line names.
pub(super) fn booted(root: &Path, cmdline: &Cmdline) -> Result<Id, Failure> {
    let what = "finding the booted deployment";
    let path = ostree::deployment(what, root, cmdline)?;
    Id::of_path(&path.to_string_lossy())
        .ok_or_else(|| Failure::new(what, format!("{} is not named as a deployment is", path.display())))
}

pub(super) fn facts(booted: Id, tries: u32, cmdline: &Cmdline, places: &Places) -> Result<Seen, Failure> {
    let place = boot_place(&places.root, cmdline);
    let boot = BootFs::open_within(PATIENCE, &place, false)?;
    let menu = Menu::new(boot.entries()?.iter().map(|found| Listed::new(&found.name, &found.entry)).collect());
    let records = boot.names(FOLDER)?;
    let grub = Grub::look(&boot);
    // It is opened again for writing, which the kernel allows only then.
    drop(boot);

    let wants_image = wants_image(places, cmdline);
    let ids: Vec<(&Listed, Option<Id>)> = menu.iter().map(|entry| (entry, id(entry, &places.root))).collect();
    let deployments = ids.iter().filter_map(|(entry, id)| {
        let id = id.clone()?;
        let unusable = unusable(&places.root.join(id.path().trim_start_matches('/')), wants_image);
        entry.deployment(id, unusable)
    });
    let default = menu.choice(grub.variable(STEERING));
    let facts = Facts {
        deployments: deployments.collect::<Vec<Deployment>>(),
        booted,
        default: default.and_then(|default| ids.iter().find(|(entry, _)| *entry == default)?.1.clone()),
        records: Records::parse(records.iter().map(String::as_str)),
        tries,
        unsteerable: grub.unsteerable,
        other: other(&menu, grub.environment.as_ref()),
    };
    Ok(Seen { facts, boot: place, environment: grub.environment })
}

fn boot_place(root: &Path, cmdline: &Cmdline) -> Place {
    let own = root.join("boot");
    if fs::symlink_metadata(own.join("loader")).is_ok_and(|loader| loader.is_symlink()) {
        return Place::Mounted(own);
    }
    let named = cmdline.value("boot").filter(|boot| boot.contains('=') || boot.starts_with("/dev/"));
    Place::Device(named.map_or_else(|| bootfs::DEVICE.into(), |named| root::device(Some(named)).into()))
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

/// Whether a pivot would want a composefs image. What can't be understood is for the pivot to say.
fn wants_image(places: &Places, cmdline: &Cmdline) -> bool {
    pivot::settings(&places.initramfs, cmdline).is_ok_and(|settings| settings.composefs == Composefs::Yes)
}

/// Who else counts boots.
fn other(menu: &Menu, environment: Option<&(String, Environment)>) -> Option<String> {
    let set = |name: &&&str| environment.is_some_and(|(_, environment)| environment.get(name).is_some());
    if let Some(name) = OTHER_COUNTERS.iter().find(set) {
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

/// What is known of GRUB.
struct Grub {
    environment: Option<(String, Environment)>,
    unsteerable: Option<String>,
}

impl Grub {
    fn look(boot: &BootFs) -> Self {
        let why = |failure: Failure| failure.why;
        let not = |why: String| Self { environment: None, unsteerable: Some(why) };
        let config = |folder: &&&str| boot.root().file(&format!("{folder}/grub.cfg")).is_ok_and(|file| file.is_some());
        let Some(folder) = GRUB.iter().find(config) else {
            return not("the boot file system has no grub.cfg".into());
        };
        let text = match boot.root().text(&format!("{folder}/grub.cfg")) {
            Ok(text) => text,
            Err(error) => return not(format!("its grub.cfg can't be read: {error}")),
        };
        let unsteerable = steering(&text).err().map(why);
        let path = format!("{folder}/grubenv");
        match environment(boot, &path) {
            Ok(environment) => Self { environment: Some((path, environment)), unsteerable },
            Err(why) => not(format!("{path}: {why}")),
        }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let (_, environment) = self.environment.as_ref().filter(|_| self.unsteerable.is_none())?;
        environment.get(name)
    }
}

/// The variables of a `grubenv`; none if there is no such file.
fn environment(boot: &BootFs, path: &str) -> Result<Environment, String> {
    use std::io::Read as _;
    let read = || -> io::Result<Option<Vec<u8>>> {
        let Some(file) = boot.root().file(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        // One byte more than it may have.
        file.take(fledge_core::counting::BLOCK as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    };
    match read() {
        Ok(None) => Ok(Environment::default()),
        Ok(Some(bytes)) => Environment::parse(&bytes),
        Err(error) => Err(error.to_string()),
    }
}
