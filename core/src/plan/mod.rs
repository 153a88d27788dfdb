// SPDX-License-Identifier: Apache-2.0
//! Plans: what a stage will do, with nothing left to decide.
//!
//! A plan is made by a pure function a stage ([`kargs`], [`disks`], [`mount`], [`files`], [`umount`]) from a configuration and
//! [`crate::facts::Facts`]. It prints as text, which is what golden tests and `fledge plan` show and what the report repeats.
//! [`check`] proves invariants over a finished plan; `fledge-stages` then carries out its steps one by one. Steps are
//! "ensure": doing one again is safe.
//!
//! Everything that can be refused is refused here, from facts and before anything is written: each reason with its place in
//! the configuration and a remedy.

mod accounts;
mod ask;
mod book;
mod check;
mod contents;
pub mod crypttab;
mod disks;
mod display;
mod files;
mod kargs;
mod mount;
mod nodes;
mod options;
#[cfg(test)]
mod tests;
mod umount;
mod units;
mod world;

use alloc::string::String;
use alloc::vec::Vec;

pub use ask::Questions;
pub use check::check;
pub use disks::{PHASES, Phase, Planner, disks, filesystems, luks, partitions, raid};
pub use files::{BEGUN, Settings, files};
pub use kargs::kargs;
pub use mount::mount;
pub use options::Options;
pub use umount::umount;

use crate::config::Config;
use crate::diag::{Failure, Place};
use crate::facts::{Begun, Facts, Node, NodeKind};
use crate::origin::Sources;
use crate::secret::Secret;
use crate::stage::Stage;

/// Plans all stages after the configuration is known, each from the facts that the ones before it would leave.
///
/// # Errors
/// What makes the first stage that can't be planned impossible.
pub fn all(config: &Config, facts: &Facts, sources: &Sources, settings: Settings) -> Result<Vec<Plan>, Vec<Failure>> {
    let mut facts = facts.clone();
    let mut plans = Vec::new();
    for plan in [kargs, disks, mount] {
        let plan = plan(config, &facts, sources)?;
        check(&plan)?;
        apply(&plan, &mut facts);
        plans.push(plan);
    }
    for plan in [files(config, &facts, sources, settings)?, umount(config, &facts, sources)?] {
        check(&plan)?;
        plans.push(plan);
    }
    Ok(plans)
}

/// What a plan changes in the facts that a later stage plans from.
fn apply(plan: &Plan, facts: &mut Facts) {
    for planned in &plan.steps {
        disks::apply(&planned.step, facts);
        if let Step::Mount { path, .. } = &planned.step {
            facts.mounts.push(path.clone());
            facts.mounted.push(path.clone());
            let mut missing: Vec<_> = crate::path::ancestors(path)
                .chain([path.as_str()])
                .filter(|path| facts.nodes.get(*path).is_some_and(|node| node.kind == NodeKind::Missing))
                .map(String::from)
                .collect();
            missing.sort();
            for made in [&missing[..], core::slice::from_ref(path)].concat() {
                let is_there = Node { resolved: made.clone(), kind: NodeKind::Directory, missing: None };
                facts.nodes.insert(made, is_there);
            }
            facts.made_directories.append(&mut missing);
            // What was seen below is hidden now, and what comes with the file system isn't known.
            facts.nodes.retain(|_, node| node.resolved == *path || !crate::path::is_within(&node.resolved, path));
        }
    }
}

/// What one stage will do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// Which stage.
    pub stage: Stage,
    /// Its steps, in order.
    pub steps: Vec<PlannedStep>,
}

/// A step and who asked for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlannedStep {
    /// What to do.
    pub step: Step,
    /// Which part of which configuration asked for it; `None` for what a stage does of itself.
    pub place: Option<Place>,
}

/// One thing to do. Paths are absolute and seen from the target root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Have the distribution's helper put kernel arguments into the boot entries, and boot once more if the kernel runs without.
    SetKernelArguments {
        /// Those that are to be there.
        should_exist: Vec<String>,
        /// Those that aren't.
        should_not_exist: Vec<String>,
    },
    /// Partition a disk.
    Partition(partitions::Step),
    /// Make an array, or keep one.
    Raid(raid::Step),
    /// Make an encrypted volume, or keep one.
    Luks(luks::Step),
    /// Make a file system, or keep one.
    Filesystem(filesystems::Step),
    /// Mount a device. Missing directories of the path are made, with mode 0755.
    Mount {
        /// The device as the configuration names it.
        device: String,
        /// The mount point.
        path: String,
        /// File system type.
        format: String,
        /// Mount options.
        options: Options,
        /// The SELinux policy by which directories that are made for it are labelled, and the file system's own if it is empty.
        policy: Option<String>,
    },
    /// Unmount what is mounted at a path.
    Unmount {
        /// The mount point.
        path: String,
    },
    /// Remember what is about to be made, for another run should this one be interrupted.
    Begin {
        /// The file that it is written to, mode 0600.
        path: String,
        /// What.
        begun: Begun,
    },
    /// Complete the note by a file that an earlier step makes and the next one appends to, as it is now.
    NoteOriginal {
        /// The file that the note stands in.
        note: String,
        /// The file.
        path: String,
    },
    /// Copy a group of `/usr/lib/group` to `/etc/group`, so that it can have members.
    AdoptGroup {
        /// Its name.
        name: String,
    },
    /// Create or modify a group.
    EnsureGroup(Group),
    /// Delete a group that exists.
    DeleteGroup {
        /// Its name.
        name: String,
    },
    /// Create or modify a user.
    EnsureUser(User),
    /// Delete a user that exists, with the home directory.
    DeleteUser {
        /// Its name.
        name: String,
    },
    /// Give the directories that the mount stage made at or below a home directory to the user, mode 0700.
    OwnHome {
        /// The user.
        user: String,
        /// The directories.
        directories: Vec<String>,
    },
    /// Write a user's SSH keys.
    AuthorizeKeys {
        /// The user.
        user: String,
        /// The file, below the user's home directory: `.ssh/authorized_keys.d/ignition` or `.ssh/authorized_keys`.
        file: String,
        /// The keys, one a line.
        keys: Vec<String>,
    },
    /// Remove what stands at a path, whole directories too, but never what is mounted there.
    Remove {
        /// The path.
        path: String,
    },
    /// Make a directory, or set mode and owner of one that exists. Missing ones above it are made with mode 0755.
    EnsureDirectory {
        /// The path.
        path: String,
        /// Mode and owner.
        attributes: Attributes,
    },
    /// Make a file whole: contents (or what is there), then what is appended, mode and owner; it appears at once or not at all.
    /// Missing directories above it are made with mode 0755.
    WriteFile {
        /// The path.
        path: String,
        /// New contents; `None` keeps those of the file that stands there.
        contents: Option<Contents>,
        /// How many bytes of that file are kept, if not all: what follows was appended by a run that was interrupted.
        keep: Option<u64>,
        /// What is appended, in order.
        append: Vec<Contents>,
        /// Mode and owner.
        attributes: Attributes,
        /// Whether it takes the place of what stands there (no directory). Else nothing may stand there, unless contents are kept.
        replace: bool,
    },
    /// Make a symbolic link.
    Symlink {
        /// The path.
        path: String,
        /// The target, as it will be written.
        target: String,
        /// Owner; links have no mode.
        attributes: Attributes,
        /// Whether it takes the place of what stands there (no directory).
        replace: bool,
    },
    /// Make a hard link.
    HardLink {
        /// The path.
        path: String,
        /// The file that it names, seen from the target root.
        target: String,
        /// Whether it takes the place of what stands there (no directory).
        replace: bool,
    },
    /// Add those of some lines to a file that it doesn't have yet; mode 0644 if it is new.
    AddLines {
        /// The path.
        path: String,
        /// The lines, without line breaks.
        lines: Vec<String>,
    },
    /// Write Ignition's result file, mode 0600: when this machine was provisioned, in which boot, and whether by an operator's
    /// configuration.
    WriteResult {
        /// The path.
        path: String,
        /// Whether an operator gave a configuration.
        user_config: bool,
    },
    /// Give files, and directories with all that is in them, the labels of the target's SELinux policy. What isn't there, and what
    /// lies on a file system without labels, is passed over.
    Label {
        /// The policy.
        policy: String,
        /// The paths.
        paths: Vec<String>,
    },
    /// Write what later boots need to open an encrypted volume, or have one count as made.
    Crypttab(crypttab::Step),
    /// Remove the links that enable a unit, so that a preset alone decides.
    DisableUnit {
        /// The unit.
        unit: String,
    },
}

/// Mode and owner of a file, directory or link.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attributes {
    /// Permission bits; `None` keeps those that are there, or the default of the kind (0644, 0755) for what is new.
    pub mode: Option<u32>,
    /// Owner.
    pub user: Owner,
    /// Group.
    pub group: Owner,
}

/// A user or a group.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Owner {
    /// The one that is there; root for what is new.
    #[default]
    Keep,
    /// By id.
    Id(u32),
    /// By name, looked up in the target root once its users and groups are in place.
    Name(String),
}

/// Where the bytes of a file come from.
#[derive(Clone, Eq, PartialEq)]
pub enum Contents {
    /// Bytes that are at hand.
    Inline(Vec<u8>),
    /// A resource to be fetched, decompressed and verified.
    Resource(crate::config::Resource),
    /// The key of the encrypted volume of that name, which the disks stage has left.
    Key(String),
}

/// A group as it will be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Whether it is there already.
    pub exists: bool,
    /// Id, if it is to be a certain one.
    pub gid: Option<u32>,
    /// A system group (new ones only).
    pub system: bool,
    /// Password hash.
    pub password: Option<Secret>,
}

/// A user as it will be. `None` and `false` leave the tools' defaults, or what is there.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "useradd has these switches")]
pub struct User {
    /// Its name.
    pub name: String,
    /// Whether it is there already.
    pub exists: bool,
    /// Id.
    pub uid: Option<u32>,
    /// Comment field.
    pub gecos: Option<String>,
    /// Home directory.
    pub home: Option<String>,
    /// Don't make the home directory.
    pub no_create_home: bool,
    /// Don't make a group of the same name.
    pub no_user_group: bool,
    /// Don't add it to the login databases.
    pub no_log_init: bool,
    /// A system user.
    pub system: bool,
    /// Primary group, by name or id.
    pub primary_group: Option<String>,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// Login shell.
    pub shell: Option<String>,
    /// Password hash; `*` for none that can be used.
    pub password: Option<Secret>,
}

impl Group {
    /// Whether it is new or anything about it is to change.
    pub fn changes(&self) -> bool {
        !self.exists || self.gid.is_some() || self.password.is_some()
    }
}

impl User {
    /// Whether it is new or anything about it is to change.
    pub fn changes(&self) -> bool {
        !self.exists
            || self.uid.is_some()
            || self.gecos.is_some()
            || self.home.is_some()
            || self.primary_group.is_some()
            || self.shell.is_some()
            || self.password.is_some()
            || !self.groups.is_empty()
    }
}
