// SPDX-License-Identifier: Apache-2.0
//! Reads a tree of nodes into the types, as Go's `encoding/json` would, and says what it had to overlook.

use alloc::format;

use super::remark::Remarks;
use super::schema::{Field, Kind, ONCE_REQUIRED, STRINGS_BECAME_OPTIONAL};
use super::version::Version;
use crate::json::{Node, Path, same_key};

/// What reads one member of an object into its field.
type Member<'m> = &'m mut dyn FnMut(&'static str, Node<'_>, &Path<'_>, &mut Decoding<'_>);

/// The state of reading one configuration.
pub(crate) struct Decoding<'r> {
    version: Version,
    remarks: &'r mut Remarks,
    /// What came later in the object that is read now than it came elsewhere.
    later: &'static [(&'static str, Version)],
}

impl<'r> Decoding<'r> {
    pub(crate) fn new(version: Version, remarks: &'r mut Remarks) -> Self {
        Self { version, remarks, later: &[] }
    }

    /// Says that a value has the wrong type.
    pub(crate) fn mismatch(&mut self, at: &Path<'_>, expected: &str, found: &Node<'_>) {
        self.remarks.error(at, format!("expected {expected}, found {}", found.describe()));
    }

    /// Reads an object: finds the field of each key, and passes over what the version doesn't have.
    pub(crate) fn object(&mut self, kind: Kind, node: Node<'_>, at: &Path<'_>, member: Member<'_>) {
        let Kind::Object(fields) = kind else { return };
        let members = match node {
            Node::Null => return,
            Node::Object(members) => members,
            other => return self.mismatch(at, "an object", &other),
        };
        let later = self.later;
        let old = self.version < STRINGS_BECAME_OPTIONAL;
        let required = |field: &Field| old && matches!(field.kind, Kind::Text) && ONCE_REQUIRED.contains(&field.name);
        for field in fields.iter().filter(|field| required(field)) {
            member(field.name, Node::Text("".into()), at, self);
        }
        let mut seen = 0_u64;
        for (key, node) in members {
            let found = field(fields, &key).or_else(|| fields.iter().find(|field| same_key(field.name, &key)));
            let Some(field) = found.filter(|field| self.knows(field, later, &key, at)) else {
                if found.is_none() {
                    self.remarks
                        .warning(&at.key(&key), format!("the specification has no field {key:?} here; it is ignored"))
                        .at_key();
                }
                continue;
            };
            let index = fields.iter().position(|other| other.name == field.name).unwrap_or_default();
            let bit = 1_u64 << (index % 64);
            let here = at.key(field.name);
            if seen & bit != 0 {
                let what = if matches!(node, Node::Object(_)) {
                    "their members are taken together, the last of each name counts"
                } else {
                    "only the last counts"
                };
                self.remarks
                    .warning(&here, format!("the key {:?} stands here more than once; {what}", field.name))
                    .at_key()
                    .remedy("keep one of them");
            } else if field.name != key {
                self.remarks
                    .warning(&here, format!("the key is written {key:?}; it is read as {:?}", field.name))
                    .at_key()
                    .remedy(format!("write {:?}", field.name));
            }
            seen |= bit;
            self.later = field.later;
            if !(required(field) && matches!(node, Node::Null)) {
                member(field.name, node, &here, self);
            }
        }
        self.later = later;
    }

    /// Whether the configuration's version has the field; warns if not.
    fn knows(&mut self, field: &Field, later: &[(&str, Version)], key: &str, at: &Path<'_>) -> bool {
        let since = later.iter().find(|(name, _)| *name == field.name).map_or(field.since, |(_, since)| *since);
        if since <= self.version {
            return true;
        }
        let version = self.version;
        self.remarks
            .warning(
                &at.key(key),
                format!(
                    "the field {:?} came with {since}, but this configuration says {version}; it is ignored",
                    field.name
                ),
            )
            .at_key()
            .remedy(format!("set ignition.version to {since} or later, or remove the field"));
        false
    }
}

/// Finds a field by its exact name.
fn field(fields: &'static [Field], name: &str) -> Option<&'static Field> {
    fields.iter().find(|field| field.name == name)
}
