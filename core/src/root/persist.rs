// SPDX-License-Identifier: Apache-2.0
//! What later boots are told: kernel arguments in the boot entries, and notes on the boot file system.
//!
//! The arguments are those that Fedora CoreOS writes (coreos-installer: `rdcore rootmap`, `rdcore bind-boot`), from the lowest device
//! to the highest: `mpath.wwid=`, `rd.md.uuid=`, `rd.luks.name=`, then `root=UUID=`, `rw`, `rootflags=`, and `boot=UUID=`.
//! `.root_uuid` on the boot file system binds it to this root; `bootuuid.cfg` tells GRUB which file system it is.
//!
//! Each entry is replaced at once and whole. The default one comes last: a boot whose command line has a `root=` of ours knows that
//! all others have it, too. The binding comes after that, so that only a root that later boots name is bound.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::{FileSystem, Kind, Layer, lines};
use crate::bls::{Entry, Request};
use crate::diag::Failure;

/// The note on the boot file system that names its root.
pub const BOUND: &str = "/.root_uuid";
/// Folders of the boot file system in which GRUB has its files, by distribution.
pub const GRUB: [&str; 2] = ["/grub2", "/grub"];
/// The file that tells GRUB the UUID of the boot file system.
pub const BOOT_UUID: &str = "bootuuid.cfg";
/// Where a first boot's real root reads the UUID of its boot file system: its command line doesn't have it yet.
pub const TOLD: [&str; 2] = ["/run/coreos/bootfs_uuid", "/run/nestos/bootfs_uuid"];

const WHAT: &str = "telling later boots which root they have";

/// What is known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// The physical root.
    pub root: FileSystem,
    /// What it is made of, the lowest device first. Its own device is the last one.
    pub stack: Vec<Layer>,
    /// The mount options that the configuration gives to a root that it makes; `None` if it makes none.
    pub options: Option<String>,
    /// udev links the root by the name that only what several paths lead to has, see [`multipath`].
    pub multipath_is_linked: bool,
    /// The command line names a root.
    pub root_is_named: bool,
    /// The command line names a boot file system.
    pub boot_is_named: bool,
    /// The boot file system.
    pub boot: FileSystem,
    /// What the note on it says, if it is there.
    pub bound: Option<String>,
    /// Its entries with their names, in the order of these: the last one is the default.
    pub entries: Vec<(String, Entry)>,
    /// The files that tell GRUB which boot file system it has.
    pub loaders: Vec<Loader>,
}

/// A file for GRUB.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Loader {
    /// The EFI system partition that it is on; `None` stands for the boot file system.
    pub device: Option<String>,
    /// Its path there.
    pub path: String,
    /// What it says, if it is there.
    pub text: Option<String>,
}

/// One thing to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Replace a boot entry.
    Entry {
        /// The file's name.
        name: String,
        /// As it is to be.
        entry: Entry,
        /// What it has that the old one hasn't.
        added: Vec<String>,
    },
    /// Write a small file, readable by all.
    File {
        /// The EFI system partition that it is on; `None` stands for the boot file system.
        device: Option<String>,
        /// Its path there.
        path: String,
        /// What it says.
        text: String,
    },
    /// The same below `/run`, for this boot.
    Tell {
        /// Where.
        path: &'static str,
        /// What it says.
        text: String,
    },
}

/// Steps in their order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

/// Decides what later boots are told.
///
/// # Errors
/// The boot file system is bound to another root; a file system has no UUID; the root is on a device that no kernel argument names; a
/// boot entry can't be read.
pub fn plan(facts: &Facts) -> Result<Plan, Failure> {
    for (which, file_system) in [("root", &facts.root), ("boot", &facts.boot)] {
        if file_system.uuid.is_empty() {
            let FileSystem { node, format, .. } = file_system;
            return Err(Failure::new(WHAT, format!("the {which} file system on {node} ({format}) has no UUID"))
                .remedy("make it with a format that has one: ext4, xfs or btrfs"));
        }
    }
    bound(facts.bound.as_deref(), &facts.root, &facts.boot)?;
    let root = &facts.root.uuid;
    // Who named the root knows how it is found, whatever it is on.
    let of_root = if facts.root_is_named { Vec::new() } else { arguments(facts)? };
    let boot = format!("boot=UUID={}", facts.boot.uuid);
    let mut steps = Vec::new();
    for (name, entry) in &facts.entries {
        let names = |key: &str| entry.arguments().any(|argument| argument.starts_with(key));
        let mut wanted = Vec::new();
        if !names("root=") {
            wanted.extend_from_slice(&of_root);
        }
        if !names("boot=") {
            wanted.push(boot.clone());
        }
        let missing = |argument: &&String| !entry.arguments().any(|there| there == argument.as_str());
        let added = wanted.iter().filter(missing).cloned().collect();
        let refused = |why: String| {
            Failure::new(format!("editing the boot entry {name}"), why).remedy("put that entry right by hand")
        };
        let request = Request::new(&wanted, &[])?;
        let edited = entry.edit(&request).map_err(|unclosed| refused(unclosed.to_string()))?;
        steps.extend(edited.map(|entry| Step::Entry { name: name.clone(), entry, added }));
    }
    let text = format!("set BOOT_UUID=\"{}\"\n", facts.boot.uuid);
    let outdated = facts.loaders.iter().filter(|loader| loader.text.as_ref() != Some(&text));
    steps.extend(outdated.map(|Loader { device, path, .. }| Step::File {
        device: device.clone(),
        path: path.clone(),
        text: text.clone(),
    }));
    if facts.bound.is_none() {
        steps.push(Step::File { device: None, path: BOUND.into(), text: format!("{root}\n") });
    }
    if !facts.boot_is_named {
        let text = format!("{}\n", facts.boot.uuid);
        steps.extend(TOLD.iter().map(|path| Step::Tell { path, text: text.clone() }));
    }
    Ok(Plan { steps })
}

/// Refuses a boot file system that is bound to another root. `note` is what [`BOUND`] on it says, if it is there.
///
/// # Errors
/// It is so.
pub fn bound(note: Option<&str>, root: &FileSystem, boot: &FileSystem) -> Result<(), Failure> {
    match note.map(str::trim).filter(|other| *other != root.uuid) {
        None => Ok(()),
        Some(other) => Err(Failure::new(
            "comparing the root with what the boot file system is bound to",
            format!(
                "the boot file system on {} is bound to another root file system: its {BOUND} names the UUID {other:?}, the root on {} has {}",
                boot.node, root.node, root.uuid
            ),
        )
        .remedy("if this machine has disks of two installations, take one out; if the root was made anew on purpose, remove .root_uuid from the boot file system")),
    }
}

/// udev's link to a file system on what several paths lead to, while each path has the same UUID. A rule of Fedora CoreOS makes it
/// (`90-coreos-device-mapper.rules`).
pub fn multipath(uuid: &str) -> String {
    format!("/dev/disk/by-uuid/dm-mpath-{uuid}")
}

/// The arguments that find the root.
///
/// # Errors
/// It is on a device that no kernel argument names.
pub fn arguments(facts: &Facts) -> Result<Vec<String>, Failure> {
    let mut arguments = Vec::new();
    let mut add = |argument: String| {
        if !arguments.contains(&argument) {
            arguments.push(argument);
        }
    };
    for layer in &facts.stack {
        match &layer.kind {
            Kind::Disk | Kind::Partition { .. } | Kind::Integrity => {}
            Kind::Multipath { wwid } => add(format!("mpath.wwid={wwid}")),
            Kind::Raid { uuid } => add(format!("rd.md.uuid={uuid}")),
            Kind::Luks { name, uuid, network } => {
                add(format!("rd.luks.name={uuid}={name}"));
                if *network {
                    add("rd.neednet=1".into());
                    add("rd.luks.options=_netdev".into());
                }
            }
            Kind::Other(what) => {
                return Err(Failure::new(WHAT, format!("the root is on {}, which is {what}", layer.node)).remedy(
                    "put the root on partitions, RAID arrays, LUKS volumes or multipath devices: only these can be named to later boots",
                ));
            }
        }
    }
    let multipath_root = facts.stack.first().is_some_and(|layer| matches!(layer.kind, Kind::Multipath { .. }));
    let direct = facts.stack.iter().all(|layer| matches!(layer.kind, Kind::Multipath { .. } | Kind::Partition { .. }));
    let uuid = &facts.root.uuid;
    // A path's own device has the same file system: only this link is made once multipathd has taken over.
    add(if multipath_root && direct && facts.multipath_is_linked {
        format!("root={}", multipath(uuid))
    } else {
        format!("root=UUID={uuid}")
    });
    // systemd mounts a root that is named read-only unless it is told otherwise.
    add("rw".into());
    let flags = match &facts.options {
        Some(options) => options.as_str(),
        // Container engines limit what containers store by project quotas, which xfs takes only when it is mounted.
        None if facts.root.format == "xfs" => "prjquota",
        None => "",
    };
    if !flags.is_empty() {
        add(format!("rootflags={flags}"));
    }
    Ok(arguments)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lines(f, &self.steps)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry { name, added, .. } => write!(f, "add to the boot entry {name}: {}", added.join(" ")),
            Self::File { device, path, text } => {
                let on = device.as_deref().unwrap_or("the boot file system");
                write!(f, "write {path} on {on}: {}", text.trim_end())
            }
            Self::Tell { path, text } => write!(f, "write {path}: {}", text.trim_end()),
        }
    }
}

/// Whether `/etc/crypttab` says that a volume needs the network; `None` if it says nothing about it (crypttab(5)).
pub fn needs_network(crypttab: &str, name: &str) -> Option<bool> {
    let fields = |line: &'_ str| -> Vec<String> { line.split_whitespace().map(String::from).collect() };
    let mut lines = crypttab.lines().map(fields).filter(|fields| fields.first().is_some_and(|first| first == name));
    let line = lines.next()?;
    Some(line.get(3).is_some_and(|options| options.split(',').any(|option| option == "_netdev")))
}

/// The files for GRUB in folders that it has files in.
pub fn loader(device: Option<String>, folder: &str, text: Option<String>) -> Loader {
    Loader { device, path: [folder, BOOT_UUID].join("/"), text }
}
