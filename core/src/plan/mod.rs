// SPDX-License-Identifier: Apache-2.0
//! Plans: what a stage will do, with nothing left to decide.
//!
//! A plan is made by a pure function a stage from a configuration and [`crate::facts::Facts`]. It prints as text, which is
//! what golden tests and `fledge plan` show and what the report repeats. [`check`] proves invariants over a finished plan;
//! `fledge-stages` then carries out its steps one by one. Steps are "ensure": doing one again is safe.

mod display;
pub mod check;

use alloc::string::String;
use alloc::vec::Vec;

use crate::diag::Place;
use crate::secret::Secret;
use crate::stage::Stage;

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
    /// Mount a device. Missing directories of the path are made, with mode 0755.
    Mount {
        /// The device as the configuration names it.
        device: String,
        /// The mount point.
        path: String,
        /// File system type.
        format: String,
        /// Mount options as the configuration gives them.
        options: Vec<String>,
    },
    /// Unmount what is mounted at a path.
    Unmount {
        /// The mount point.
        path: String,
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
    WriteFile {
        /// The path.
        path: String,
        /// New contents; `None` keeps those of the file that stands there.
        contents: Option<Contents>,
        /// What is appended, in order.
        append: Vec<Contents>,
        /// Mode and owner.
        attributes: Attributes,
    },
    /// Make a symbolic link.
    Symlink {
        /// The path.
        path: String,
        /// The target, as it will be written.
        target: String,
        /// Owner; links have no mode.
        attributes: Attributes,
    },
    /// Make a hard link.
    HardLink {
        /// The path.
        path: String,
        /// The file that it names, seen from the target root.
        target: String,
    },
    /// Remove the links that enable a unit, so that a preset alone decides.
    DisableUnit {
        /// The unit.
        unit: String,
    },
}

/// Mode and owner of a file, directory or link.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attributes {
    /// Permission bits; `None` keeps those that are there, or the default of the kind (0644, 0755).
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
