// SPDX-License-Identifier: Apache-2.0
//! What is known about a machine before something is done to it.
//!
//! Observers in `fledge-stages` gather facts, tests make them by hand, `fledge facts` writes them as JSON. A plan is made
//! from nothing else than a configuration and these. What isn't listed isn't known: a device that isn't named here may be
//! there, a path that isn't named here is taken for missing.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

mod disk;
mod raid;
mod volume;

pub use disk::{Disk, Use};
pub use raid::Superblock;
pub use volume::Volume;

/// A machine, as far as a configuration asks about it. The default is the explicit blank machine.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Facts {
    /// The devices that the configuration names, by that name.
    pub devices: BTreeMap<String, Device>,
    /// The disks that the configuration partitions.
    pub disks: Vec<Disk>,
    /// The LUKS headers of devices that the configuration names.
    pub volumes: Vec<Volume>,
    /// The machine's memory in KiB; 0 when it isn't known.
    pub memory: u64,
    /// How much of it can be had without swapping.
    pub available_memory: u64,
    /// What tells this machine from others: the UUID that its firmware has for it, or nothing.
    pub machine: String,
    /// The RAID levels of the configuration, as it writes them, that the kernel surely lacks.
    pub lacking_levels: Vec<String>,
    /// The block devices that are there, for the message when one that is asked for isn't: a line each.
    pub block_devices: Vec<String>,
    /// The paths that the configuration names in the target root, by that name made clean.
    pub nodes: BTreeMap<String, Node>,
    /// Users and groups of the target root; `None` when they are not known.
    pub accounts: Option<Accounts>,
    /// What `useradd` copies into a new home directory: paths below `/etc/skel`.
    pub skeleton: BTreeMap<String, NodeKind>,
    /// Units that the configuration disables and that are enabled in the target root.
    pub enabled_units: BTreeSet<String>,
    /// What is mounted below the target root, as paths seen from there, in the order of mounting.
    pub mounts: Vec<String>,
    /// Which of these the mount stage mounted, in that order.
    pub mounted: Vec<String>,
    /// The directories that the mount stage made to have something to mount on.
    pub made_directories: Vec<String>,
    /// What an earlier run with the same configuration set out to make, in this boot or in one that was interrupted.
    pub begun: Begun,
    /// How the target labels its files, if it has SELinux.
    pub selinux: Option<Selinux>,
}

/// What a run of the files stage sets out to make. It stands in the target from before the first change until the first boot
/// is complete, so that another run with the same configuration knows what is its own.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Begun {
    /// Files and hard links at whose path nothing stood.
    pub made: BTreeSet<String>,
    /// Files that are appended to, as they were before.
    pub originals: BTreeMap<String, Original>,
    /// What is to be labelled: files, and the uppermost of the directories that weren't there.
    pub labels: BTreeSet<String>,
}

impl Begun {
    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        self.made.is_empty() && self.originals.is_empty() && self.labels.is_empty()
    }
}

/// A file before something was appended to it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Original {
    /// Its length in bytes.
    pub size: u64,
    /// `sha512-` and the hash of its contents; empty for one that a step of the run makes, until it has been looked at.
    pub digest: String,
    /// What was to be appended to it, each run's: they differ if a server's answers did.
    #[serde(default)]
    pub appended: Vec<Appended>,
    /// What has become of it. It isn't noted: it is looked at anew each time.
    #[serde(skip)]
    pub now: Now,
}

/// What was to be appended to a file.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Appended {
    /// Its length in bytes.
    pub size: u64,
    /// `sha512-` and its hash.
    pub digest: String,
}

/// What has become of a file that was to be appended to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Now {
    /// It is as it was, or followed by what was appended and nothing else.
    Intact,
    /// What was appended follows it, and then something of somebody else's.
    Continued,
    /// Somebody else has changed it.
    #[default]
    Changed,
}

/// SELinux in the target: the policy that `/etc/selinux/config` names.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selinux {
    /// The policy's name (`SELINUXTYPE`).
    pub policy: String,
    /// Whether the policy has its `file_contexts`, which say what label a path gets.
    pub contexts: bool,
    /// Whether `setfiles` is there to set labels.
    pub tool: bool,
}

impl Facts {
    /// The LUKS header on a device.
    pub fn volume(&self, device: &str) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.device == device)
    }
}

/// A block device that the configuration names.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Device {
    /// Whether it is there; it was waited for.
    pub present: bool,
    /// The signature of the file system or other content, if there is one.
    pub signature: Option<Signature>,
    /// Further signatures: left-overs of what was there before.
    pub others: Vec<Signature>,
    /// The device node that the name leads to, such as `/dev/vda1`. Two names with the same node are one device.
    pub node: String,
    /// Who uses it or a partition of it, a clause each: `mounted at /boot`, `used as swap`, `part of /dev/dm-0`.
    pub users: Vec<String>,
    /// What tells this device from those of other machines: serial number or world-wide name of its disk, and the partition's
    /// number. Empty when the disk has neither.
    pub identity: String,
    /// What it says about the array that it was made part of.
    pub superblock: Option<Superblock>,
    /// The array that the kernel has it in now: `/dev/md127`.
    pub array: Option<String>,
}

/// What a device contains, told from its superblock.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Signature {
    /// The name that `blkid` has for it. Ignition's are among these: `ext4`, `xfs`, `btrfs`, `vfat`, `swap`.
    pub format: String,
    /// Label, empty when there is none.
    pub label: String,
    /// UUID as `blkid` prints it, empty when there is none.
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
    /// The uppermost part of [`Self::resolved`] that isn't there, where nothing stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
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
        /// Its length in bytes.
        #[serde(default)]
        size: u64,
        /// `sha512-` or `sha256-` and the hash of its contents, where the configuration gives contents to compare with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// A directory.
    Directory,
    /// A symbolic link and its target as written.
    Symlink(String),
    /// A device, socket or pipe.
    Other,
}

/// Users and groups of the target root.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accounts {
    /// By name.
    pub users: BTreeMap<String, User>,
    /// By name.
    pub groups: BTreeMap<String, Group>,
    /// The directory of new home directories (`HOME` in `/etc/default/useradd`).
    pub homes: String,
    /// Whether a new user gets a group of the same name (`USERGROUPS_ENAB` in `/etc/login.defs`).
    pub user_groups: bool,
}

impl Default for Accounts {
    fn default() -> Self {
        Self { users: BTreeMap::new(), groups: BTreeMap::new(), homes: "/home".into(), user_groups: true }
    }
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
    /// Whether it stands in `/usr/lib/passwd` only, which the tools don't write.
    #[serde(default)]
    pub fixed: bool,
}

/// A line of `group`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Group id.
    pub gid: u32,
    /// Whether it stands in `/usr/lib/group` only, which the tools don't write.
    #[serde(default)]
    pub fixed: bool,
}
