// SPDX-License-Identifier: Apache-2.0
//! Boot entries: files `loader/entries/*.conf` of the boot file system, a key and a value a line (Boot Loader Specification,
//! "Type #1 Boot Loader Specification Entries").
//!
//! An entry is kept as the text that it was read from. Editing changes what it has to and no other byte: GRUB's variables in the
//! options, comments, line breaks of either kind, unknown keys and a missing last line break stay.

mod edit;
mod request;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

pub use edit::{Unclosed, edit_command_line};
pub use request::{Marker, Next, Request};

/// Whether a file of `loader/entries` is a boot entry, by its name: `ostree-1.conf` and, before OSTree 2024.5,
/// `ostree-1-nestos.conf`.
pub fn is_entry(name: &str) -> bool {
    name.strip_suffix(".conf").is_some_and(|stem| !stem.is_empty() && !stem.starts_with('.'))
}

/// A boot entry. Any text is one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    text: String,
}

impl Entry {
    /// The entry of a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// Its whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The values of all lines with a key, in order. `initrd` and `options` may stand more than once.
    pub fn values<'e>(&'e self, key: &'e str) -> impl Iterator<Item = &'e str> {
        spans(&self.text, key).into_iter().filter_map(|span| Some(self.text.get(span)?.trim()))
    }

    /// The kernel arguments of all `options` lines, as they stand there.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        self.values("options").flat_map(crate::cmdline::words)
    }

    /// The entry with the arguments that a request asks for; `None` if it has them already.
    ///
    /// # Errors
    /// A quote in its options isn't closed, so that nobody knows where an argument ends.
    pub fn edit(&self, request: &Request) -> Result<Option<Self>, Unclosed> {
        let mut text = self.text.clone();
        let changed = edit::edit(&mut text, &|text| spans(text, "options"), request)?;
        Ok(changed.then_some(Self { text }))
    }
}

/// Where the values of a key stand in an entry's text: from behind the key to the end of the line, without the line break.
fn spans(text: &str, key: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end_matches('\n').trim_end_matches('\r');
        let indented = content.trim_start();
        let value = indented.strip_prefix(key).filter(|value| value.is_empty() || value.starts_with([' ', '\t']));
        if let Some(value) = value {
            let end = start + content.len();
            spans.push(end - value.len()..end);
        }
        start += line.len();
    }
    spans
}
