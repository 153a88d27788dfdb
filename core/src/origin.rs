// SPDX-License-Identifier: Apache-2.0
//! Where each item of a merged configuration was written.
//!
//! Merging moves items between lists, and the stages run as separate processes with nothing but the merged result. So every
//! item of a list (a file, a user, a unit, ...) carries an [`Origin`]: a few numbers that point into the table of
//! [`Sources`], which travels in the state file.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::diag::{Place, Position};

/// Where one list item was written. Two items are equal when they say the same, wherever they stand: see [`PartialEq`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Origin {
    /// Index into [`Sources`]; `None` for an item that no configuration wrote (made in a test, or by translation).
    pub source: Option<u16>,
    /// Index in that configuration's own list.
    pub index: u32,
    /// Line of the item in that text, from 1; 0 when unknown.
    pub line: u32,
    /// Column in characters, from 1; 0 when unknown.
    pub column: u32,
}

impl Origin {
    /// Whether a configuration wrote the item.
    pub fn is_known(&self) -> bool {
        self.source.is_some() || self.line > 0
    }
}

impl PartialEq for Origin {
    /// Always equal, so that comparing configurations compares what they ask for.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

/// What kind of configuration a source is, in the words of Ignition's result file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// From the distribution: `base.d`, `base.platform.d`.
    Base,
    /// From the operator: the platform, the command line, `user.ign`, and whatever those refer to.
    User,
}

/// One configuration that took part.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// How a person would name it, without secrets.
    pub name: String,
    /// Base or user.
    pub kind: SourceKind,
    /// Whether another configuration referred to it by `config.merge` or `config.replace`.
    pub referenced: bool,
    /// SHA-512 of its text after decompression, in hexadecimal.
    pub sha512: String,
}

/// All configurations that took part, in the order in which they were read.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sources(pub Vec<Source>);

impl Sources {
    /// Adds a source and returns the index by which origins name it.
    pub fn add(&mut self, source: Source) -> u16 {
        let index = u16::try_from(self.0.len()).unwrap_or(u16::MAX);
        self.0.push(source);
        index
    }

    /// The place of an item of the list at `section`, for instance `$.storage.files`.
    pub fn place(&self, origin: Origin, section: &str) -> Option<Place> {
        let source = self.0.get(usize::from(origin.source?))?;
        let position = (origin.line > 0).then_some(Position { line: origin.line, column: origin.column });
        Some(Place { source: source.name.clone(), path: format!("{section}.{}", origin.index), position })
    }
}
