// SPDX-License-Identifier: Apache-2.0
//! systemd's unit files and unit names.

use alloc::string::String;

/// The longest line that systemd reads, in bytes.
const LINE_MAX: usize = 2048;

/// Why a text is no unit file. Lines are counted from 1.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnitError {
    /// A section's name isn't closed.
    #[error("line {0}: the section's name has no closing bracket")]
    Section(usize),
    /// Something stands behind a section's name.
    #[error("line {0}: {1:?} stands behind the section's name")]
    AfterSection(usize, String),
    /// A line in a section that is neither an assignment, a section nor a comment.
    #[error("line {0}: neither a section in brackets nor name=value")]
    NoAssignment(usize),
    /// A line that systemd would cut off.
    #[error("line {0} is longer than {LINE_MAX} bytes, of which systemd reads no more")]
    TooLong(usize),
}

/// One assignment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Assignment {
    /// The section that it stands in.
    pub section: String,
    /// Its name.
    pub name: String,
    /// Its value; continued lines keep their backslash and newline.
    pub value: String,
}

/// The suffixes of unit names.
pub const SUFFIXES: &[&str] = &[
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "snapshot",
    "slice",
    "scope",
];

/// The longest name of a unit, in bytes.
const NAME_MAX: usize = 255;

/// Why a name can't be a unit's.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// There is nothing.
    #[error("the name is empty")]
    Empty,
    /// It has no suffix that systemd knows.
    #[error("it ends in none of systemd's suffixes, such as .service")]
    Suffix,
    /// There is nothing before the suffix.
    #[error("there is nothing before its suffix")]
    Prefix,
    /// It holds a character that no unit name has.
    #[error("unit names consist of letters, digits and :-_.\\@")]
    Character,
    /// It is longer than 255 bytes.
    #[error("it is longer than 255 bytes")]
    TooLong,
}
