// SPDX-License-Identifier: Apache-2.0
//! The root that later boots find again, and what a first boot does to the disk that it is on.
//!
//! An image is written to disks bit for bit: its file systems and its partition table have the same UUIDs everywhere, its root is as
//! small as it can be, and its boot entries name no root at all. Pieces of work put that right, each a plan made from facts:
//!
//! | module | when | what |
//! |---|---|---|
//! | [`identity`] | before the boot file system and the root are mounted | a new GUID and a second table at the end of the disk; new UUIDs |
//! | [`grow`] | before the root is mounted | the partition, what is made of it, and the file system reach to the end |
//! | [`transpose`] | around the disks stage | what the system consists of, if the configuration makes it anew |
//! | [`persist`] | when the files stage is over | the boot entries name the root and what it is made of, and the boot file system |
//!
//! Each plan is made from what is there, and what was carried out is planned no more: after a power cut the next first boot plans what
//! is left. Within a step, the tools that it runs are as safe as they are: a file system that is grown where it isn't mounted, or
//! checked, is none for that time. The plans print as text, a numbered line a step.

use alloc::format;
use alloc::string::{String, ToString as _};
use core::fmt;

use crate::config::{Config, Filesystem};

pub mod grow;
pub mod identity;
pub mod persist;
#[cfg(test)]
mod tests;
pub mod transpose;

/// A device of the stack that a file system is on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layer {
    /// Its node, without symbolic links.
    pub node: String,
    /// What it is.
    pub kind: Kind,
}

/// What a device is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A whole disk.
    Disk,
    /// A partition of a disk.
    Partition {
        /// The disk's node.
        disk: String,
        /// Its number.
        number: u32,
    },
    /// An array.
    Raid {
        /// Its UUID as mdadm writes it: four groups of eight digits with colons between.
        uuid: String,
    },
    /// An open encrypted volume.
    Luks {
        /// The name under which it is open.
        name: String,
        /// The UUID of its header.
        uuid: String,
        /// `/etc/crypttab` says that it needs the network.
        network: bool,
    },
    /// What checks the sectors below an encrypted volume, and is opened with it.
    Integrity,
    /// A disk that several paths lead to.
    Multipath {
        /// Its world-wide name.
        wwid: String,
    },
    /// Anything else, by what the kernel says of it.
    Other(String),
}

/// A file system and where it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FileSystem {
    /// The node of its device.
    pub node: String,
    /// Its format, by the name that `blkid` has for it.
    pub format: String,
    /// Its UUID, empty if it has none.
    pub uuid: String,
}

/// The device that a boot's `root=` names, as udev links it; the one that is labelled `root` where it names none or something else.
pub fn device(root: Option<&str>) -> String {
    root.and_then(linked).unwrap_or_else(|| "/dev/disk/by-label/root".into())
}

/// What `root=` says where it names something that isn't known to be a disk of this machine: `gpt-auto`, a share on the network.
pub fn elsewhere(root: Option<&str>) -> Option<&str> {
    root.filter(|root| !root.is_empty() && linked(root).is_none())
}

/// The file system that a configuration makes for the root. One that is to be kept if it fits is no such (Fedora CoreOS tells them by
/// the same).
pub fn made(config: &Config) -> Option<&Filesystem> {
    let of_root = |one: &&Filesystem| one.label.as_deref() == Some("root") && one.wipe_filesystem == Some(true);
    config.storage.filesystems.iter().find(of_root)
}

/// The device that a value of `root=` or `boot=` names: `UUID=`, `LABEL=`, `PARTUUID=`, `PARTLABEL=` by udev's link, or a path below
/// `/dev`; `None` for anything else.
pub fn linked(value: &str) -> Option<String> {
    if value.starts_with("/dev/") {
        return Some(value.into());
    }
    let (tag, name) = value.split_once('=').filter(|(_, name)| !name.is_empty())?;
    let (links, name) = match tag {
        "UUID" => ("by-uuid", uuid(name)),
        "PARTUUID" => ("by-partuuid", uuid(name)),
        "LABEL" => ("by-label", link_name(name)),
        "PARTLABEL" => ("by-partlabel", link_name(name)),
        _ => return None,
    };
    (!name.contains('/')).then(|| format!("/dev/disk/{links}/{name}"))
}

/// udev's links have what blkid says: UUIDs in lower case, numbers of vfat as they are.
fn uuid(text: &str) -> String {
    if text.len() == 36 { text.to_ascii_lowercase() } else { text.into() }
}

/// A label as udev names its link: what a file name should not hold stands as `\xNN`.
fn link_name(label: &str) -> String {
    let plain = |one: char| one.is_ascii_alphanumeric() || "#+-.:=@_".contains(one) || !one.is_ascii();
    let escaped = |one: char| if plain(one) { one.to_string() } else { format!("\\x{:02x}", u32::from(one)) };
    label.chars().map(escaped).collect()
}

/// Writes what is left alone, and steps as numbered lines.
fn noted<S: fmt::Display>(f: &mut fmt::Formatter<'_>, notes: &[String], steps: &[S]) -> fmt::Result {
    notes.iter().try_for_each(|note| writeln!(f, "   - {note}"))?;
    if notes.is_empty() || !steps.is_empty() { lines(f, steps) } else { Ok(()) }
}

/// Writes steps as numbered lines.
fn lines<S: fmt::Display>(f: &mut fmt::Formatter<'_>, steps: &[S]) -> fmt::Result {
    if steps.is_empty() {
        return f.write_str("   - nothing is left to do\n");
    }
    for (number, step) in steps.iter().enumerate() {
        writeln!(f, "{:4} {step}", number + 1)?;
    }
    Ok(())
}
