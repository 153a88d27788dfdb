// SPDX-License-Identifier: Apache-2.0
//! What selection has to know.

use std::fs;
use std::io;
use std::iter;
use std::path::Path;
use std::time::Duration;

use fledge_core::cmdline::Cmdline;
use fledge_core::counting::{
    Deployment, Environment, FOLDER, Facts, Id, Listed, Menu, Records, Starts, State, other_counter, told,
};
use fledge_core::diag::Failure;
use fledge_core::pivot::{Composefs, IMAGE};
use fledge_core::root;

use super::{Grub, PATIENCE, Places};
use crate::host::bootfs::{self, BootFs, Place};
use crate::host::{composefs, device};
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
    pub(super) remarks: Vec<String>,
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
    let (entries, odd) = boot.readable_entries()?;
    let menu = Menu::new(entries.iter().map(|found| Listed::new(&found.name, &found.entry)).collect());
    let records = Records::parse(boot.names(FOLDER)?.iter().map(String::as_str));
    let grub = Grub::look(&boot, records.iter().any(|record| record.switched > 0));
    let folder = |id: &Id| places.root.join(id.path().trim_start_matches('/'));
    // A good deployment isn't left, whatever the others are like: most boots needn't look at them.
    let wanted = (records.state(&booted) != Some(State::Good)).then(|| Wanted::of(places, cmdline, &folder(&booted)));
    let ids: Vec<(&Listed, Option<Id>)> = menu.iter().map(|entry| (entry, id(entry, &places.root))).collect();
    let deployments = ids.iter().filter_map(|(entry, id)| {
        let deployment = entry.deployment(id.clone()?)?;
        let Some(wanted) = &wanted else { return Some(deployment) };
        let folder = folder(&deployment.id);
        Some(Deployment {
            unusable: unusable(&folder, wanted),
            unstartable: unstartable(&boot, entry),
            unblessed: unblessed(&folder),
            ..deployment
        })
    });
    let default = menu.choice(grub.told().and_then(told));
    let facts = Facts {
        deployments: deployments.collect(),
        booted,
        default: default.and_then(|default| ids.iter().find(|(entry, _)| *entry == default)?.1.clone()),
        records,
        tries,
        starts: grub.told().and_then(Starts::read),
        unwanted: None,
        unsteerable: grub.unsteerable.clone(),
        other: other_counter(&grub.variables, menu.iter().map(|entry| entry.name.as_str())),
    };
    let torn = "grubenv is damaged, as by a power cut while it was written: it is taken for an empty one";
    let odd = odd.iter().map(|failure| format!("{}: {}; it is passed over", failure.what, failure.why));
    let remarks = grub.torn.then(|| torn.into()).into_iter().chain(odd).collect();
    Ok(Seen { facts, boot: place, environment: grub.path.map(|path| (path, grub.variables)), remarks })
}

/// Mounts the boot file system, if its device is there, and reads what [`facts`] will read. Who holds on to it has that in memory.
pub(super) fn ahead(cmdline: &Cmdline) -> Option<BootFs> {
    let device = device(cmdline);
    let root = cmdline.value("root").and_then(root::linked);
    // It may have the root, too, which is checked, and mounted for writing.
    if !device::is_there(&device)
        || root.is_some_and(|root| fs::canonicalize(root).ok() == fs::canonicalize(&device).ok())
    {
        return None;
    }
    let boot = BootFs::open_within(Duration::ZERO, &Place::Device(device.into()), false).ok()?;
    // What is wrong with it is said once it counts.
    let _ = (boot.readable_entries(), boot.names(FOLDER), Grub::look(&boot, false));
    Some(boot)
}

fn device(cmdline: &Cmdline) -> String {
    cmdline.value("boot").and_then(root::linked).unwrap_or_else(|| bootfs::DEVICE.into())
}

/// Whether there is a boot file system that needn't be waited for.
pub(super) fn is_at_hand(root: &Path, cmdline: &Cmdline) -> bool {
    has_own(root) || device::is_there(&device(cmdline))
}

/// Whether the root has the boot file system's files itself.
fn has_own(root: &Path) -> bool {
    fs::symlink_metadata(root.join("boot/loader")).is_ok_and(|loader| loader.is_symlink())
}

/// Where the boot file system is, and how long it is waited for. One that nobody named may be none: a machine without it is not to wait
/// for it on each of its boots, so it is there once udev has looked at all devices, or it isn't.
pub(super) fn boot_place(root: &Path, cmdline: &Cmdline) -> (Place, Duration) {
    if has_own(root) {
        return (Place::Mounted(root.join("boot")), PATIENCE);
    }
    if let Some(named) = cmdline.value("boot").and_then(root::linked) {
        return (Place::Device(named.into()), PATIENCE);
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

/// What a pivot would want of a deployment.
struct Wanted {
    image: bool,
    etc: bool,
}

impl Wanted {
    /// What can't be understood here, such as signatures, which only OSTree's own program checks, is for the pivot to say: another deployment
    /// then has what the booted one has.
    fn of(places: &Places, cmdline: &Cmdline, booted: &Path) -> Self {
        let has = |name: &str| fs::symlink_metadata(booted.join(name)).is_ok();
        match pivot::settings(&places.initramfs, cmdline) {
            Ok(settings) => Self { image: settings.composefs == Composefs::Yes, etc: !settings.transient_etc },
            Err(_) => Self { image: has(IMAGE), etc: has("etc") },
        }
    }
}

/// Why a deployment can't be booted, as far as can be seen without doing it: what a pivot mounts or mounts something on, and what systemd
/// takes for the mark of a system.
fn unusable(deployment: &Path, wanted: &Wanted) -> Option<String> {
    let folder = |name: &str| {
        let is_there = fs::metadata(deployment.join(name)).is_ok_and(|found| found.is_dir());
        (!is_there).then(|| format!("it has no {name}"))
    };
    let var = || folder("../../var").map(|_| "its stateroot has no var".to_owned());
    let os_release = || {
        let is_there = ["usr/lib/os-release", "etc/os-release"].map(|name| deployment.join(name)).iter().any(|path| {
            // It may be a link that leads somewhere only in the system itself.
            fs::symlink_metadata(path).is_ok()
        });
        (!is_there).then(|| "it has no usr/lib/os-release".to_owned())
    };
    let image = || {
        let checked = composefs::check(&deployment.join(IMAGE)).err()?;
        Some(match checked.kind() {
            io::ErrorKind::NotFound => format!("it has no {IMAGE}"),
            _ => format!("its {IMAGE} can't be used: {checked}"),
        })
    };
    folder("usr")
        .or_else(|| folder("sysroot"))
        .or_else(|| folder(if wanted.etc { "etc" } else { "usr/etc" }))
        .or_else(os_release)
        .or_else(var)
        .or_else(|| if wanted.image { image() } else { None })
}

/// What marks a deployment as good whose boot was healthy.
const BLESSER: &str = "usr/bin/fledgectl";
/// The unit that has it do so.
const BLESS: &str = "fledge-bless.service";
/// None of these may be masked.
const NEEDED: [&str; 3] = [BLESS, "fledge-health.service", "boot-complete.target"];

/// Why nothing in a deployment would mark it as good, if so. Without that, a healthy one would be left after its tries.
pub fn unblessed(deployment: &Path) -> Option<String> {
    let has = |name: &str| fs::symlink_metadata(deployment.join(name)).is_ok();
    let nobody = |what: &str| Some(format!("{what}, so nothing would see that a boot of it is healthy"));
    if !has(BLESSER) {
        return nobody("it has no fledgectl");
    }
    let etc = if has("etc") { "etc" } else { "usr/etc" };
    if let Some(masked) =
        NEEDED.into_iter().find(|unit| is_masked(&deployment.join(etc).join("systemd/system").join(unit)))
    {
        return nobody(&format!("{masked} is masked in it"));
    }
    let wanted = |folder: &str| has(&format!("{folder}/systemd/system/multi-user.target.wants/{BLESS}"));
    if wanted(etc) || wanted("usr/lib") { None } else { nobody(&format!("{BLESS} isn't enabled in it")) }
}

/// Whether a file keeps systemd from a unit (systemd.unit(5)): a link to `/dev/null`, or an empty file.
fn is_masked(unit: &Path) -> bool {
    match fs::symlink_metadata(unit) {
        Ok(found) if found.is_symlink() => fs::read_link(unit).is_ok_and(|target| target == Path::new("/dev/null")),
        Ok(found) => found.is_file() && found.len() == 0,
        Err(_) => false,
    }
}

/// Why the bootloader can't start an entry: its kernel or its initramfs is gone.
pub fn unstartable(boot: &BootFs, entry: &Listed) -> Option<String> {
    let Some(kernel) = &entry.kernel else { return Some("its boot entry names no kernel".into()) };
    // Other words are variables of GRUB's.
    let mut paths = iter::once(kernel).chain(&entry.initrds).filter(|path| path.starts_with('/'));
    paths.find_map(|path| boot.image(path).err()).map(|error| error.to_string())
}
