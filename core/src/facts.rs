// SPDX-License-Identifier: Apache-2.0
//! What is known about a machine before something is done to it.
//!
//! Observers in `fledge-stages` gather facts, tests make them by hand, `fledge facts` writes them as JSON. A plan is made
//! from nothing else than a configuration and these.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// A machine, as far as a configuration asks about it. The default is the explicit blank machine.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Facts {
    /// The devices that the configuration names, by that name.
    pub devices: BTreeMap<String, Device>,
    /// The paths that the configuration names in the target root, by that name.
    pub nodes: BTreeMap<String, Node>,
    /// Users and groups of the target root; `None` when they are not known.
    pub accounts: Option<Accounts>,
    /// Units of the configuration that are enabled in the target root.
    pub enabled_units: BTreeSet<String>,
    /// What is mounted below the target root, as paths seen from there, in the order of mounting.
    pub mounts: Vec<String>,
}

/// A block device.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Device {
    /// The signature of the file system or other content, if there is one.
    pub signature: Option<Signature>,
}

/// What a device contains, told from its superblock.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Signature {
    /// Ignition's name of it: `ext4`, `xfs`, `btrfs`, `vfat`, `swap`, or another word for what can't be mounted by it.
    pub format: String,
    /// Label, empty when there is none.
    pub label: String,
    /// UUID as the tools of that file system print it, empty when there is none.
    pub uuid: String,
}

/// A path in the target root.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The path with all symbolic links but a last one followed, inside the target root.
    pub resolved: String,
    /// What stands there.
    pub kind: NodeKind,
}

/// What stands at a path.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    /// Nothing, but all that is above it are directories or missing too.
    Missing,
    /// Something above it is neither a directory nor missing: the path of that thing.
    Blocked(String),
    /// A regular file; device and inode tell hard links apart.
    File {
        /// `st_dev`.
        device: u64,
        /// `st_ino`.
        inode: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link and its target as written.
    Symlink(String),
    /// A device, socket or pipe.
    Other,
}

/// Users and groups of the target root.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accounts {
    /// By name.
    pub users: BTreeMap<String, User>,
    /// Ids by name.
    pub groups: BTreeMap<String, u32>,
}

/// A line of `passwd`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group's id.
    pub gid: u32,
    /// Home directory.
    pub home: String,
}
