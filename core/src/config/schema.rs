// SPDX-License-Identifier: Apache-2.0
//! What the specification says about every field, as data.
//!
//! The tree is made by the same macro that makes the types (`section!`), so that a field is written down once.
//! Which values a version accepts beyond that stands in the tables below.

use alloc::string::String;

use super::model::Value as _;
use super::types::Config;
use super::version::Version;

/// The type of a field.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number of 64 bits.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// An object with these fields.
    Object(&'static [Field]),
    /// A list of one kind.
    List(&'static Kind),
}

/// A field of an object.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The first version of the specification that has it.
    pub since: Version,
    /// Fields of the object (or of the objects in the list) that came later here than they came elsewhere.
    pub later: &'static [(&'static str, Version)],
    /// For a list: what merging does with it.
    pub rule: Rule,
}

/// How two lists become one, and whether an entry may stand in a list twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// Entries with one key are one entry; the child's fields win. A key may stand in the list once.
    Keyed,
    /// As [`Rule::Keyed`], and the key may stand in only one of the exclusive lists of the object.
    Exclusive,
    /// The child's entries follow the parent's.
    Appending,
}

/// The whole specification.
pub const CONFIG: Kind = Config::KIND;

/// Names every field of the specification, depth first, with the version that introduced it: `storage.files[].mode`, where
/// `[]` stands for each item of a list.
pub fn fields(visit: &mut dyn FnMut(&str, Version)) {
    below(CONFIG, &mut String::new(), Version::V3_0, &[], visit);
}

fn below(kind: Kind, at: &mut String, since: Version, later: &[(&str, Version)], visit: &mut dyn FnMut(&str, Version)) {
    let Kind::Object(fields) = kind else { return };
    for field in fields {
        let length = at.len();
        if length > 0 {
            at.push('.');
        }
        at.push_str(field.name);
        let exception = later.iter().find(|(name, _)| *name == field.name).map(|(_, version)| *version);
        let first = exception.unwrap_or(field.since).max(since);
        visit(at, first);
        let kind = match field.kind {
            Kind::List(items) => {
                at.push_str("[]");
                *items
            }
            kind => kind,
        };
        below(kind, at, first, field.later, visit);
        at.truncate(length);
    }
}

/// A value, and the first version that accepts it.
pub(super) type Since = (&'static str, Version);

/// Schemes of `source` URLs.
pub const SCHEMES: &[Since] = &[
    ("http", Version::V3_0),
    ("https", Version::V3_0),
    ("tftp", Version::V3_0),
    ("s3", Version::V3_0),
    ("data", Version::V3_0),
    ("gs", Version::V3_2),
    ("arn", Version::V3_4),
];

/// Formats of file systems. `none` leaves the device unformatted.
pub const FORMATS: &[Since] = &[
    ("ext4", Version::V3_0),
    ("btrfs", Version::V3_0),
    ("xfs", Version::V3_0),
    ("vfat", Version::V3_0),
    ("swap", Version::V3_0),
    ("none", Version::V3_3),
    (VIRTIOFS, Version::V3_7),
];
/// A file system that the hypervisor shares: its `device` is a tag, and there is nothing to format.
pub const VIRTIOFS: &str = "virtiofs";

/// Hash functions of `verification.hash`.
pub const HASHES: &[Since] = &[("sha512", Version::V3_0), ("sha256", Version::V3_1)];

/// Before this version, the setuid, setgid and sticky bits of a mode are ignored.
pub const SPECIAL_MODE_BITS: Version = Version::V3_6;
/// Before this version, only the pins of [`CLEVIS_PINS`] are accepted.
pub const ANY_CLEVIS_PIN: Version = Version::V3_6;
/// The pins that every version with LUKS accepts.
pub const CLEVIS_PINS: &[&str] = &["tpm2", "tang", "sss"];
/// Since this version, `links[].target` must be there when the config is read; before, only when it is applied.
pub const LINK_TARGET_REQUIRED: Version = Version::V3_3;
/// Before this version, anything in `clevis.custom` excludes `tang`, `tpm2` and `threshold`; since then only a pin does.
/// Before it, `needsNetwork` may stand there alone.
pub const CLEVIS_CUSTOM_BY_PIN: Version = Version::V3_3;
/// Before this version, [`ONCE_REQUIRED`] were required strings: an object that is there has them, empty where they are missing.
pub const STRINGS_BECAME_OPTIONAL: Version = Version::V3_3;
/// A link's `target`, and the `pin` and `config` of `clevis.custom`.
pub(super) const ONCE_REQUIRED: &[&str] = &["target", "pin", "config"];
/// Since this version, an entry of `config.merge` needs a source when it is read, and a `verification` of a config or a
/// certificate authority needs one too.
pub const REFERENCES_ARE_RESOURCES: Version = Version::V3_1;

/// Looks a value up in a table: `Ok` if the version accepts it, else the version that introduced it, if one did.
pub(super) fn accepted(table: &[Since], value: &str, version: Version) -> Result<(), Option<Version>> {
    match table.iter().find(|(name, _)| *name == value) {
        Some((_, since)) if *since <= version => Ok(()),
        Some((_, since)) => Err(Some(*since)),
        None => Err(None),
    }
}

/// The values of a table that a version accepts, as a sentence lists them.
pub(super) fn listed(table: &[Since], version: Version) -> String {
    let names: alloc::vec::Vec<_> =
        table.iter().filter(|(_, since)| *since <= version).map(|(name, _)| *name).collect();
    names.join(", ")
}
