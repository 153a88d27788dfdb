// SPDX-License-Identifier: Apache-2.0
//! JSON as configurations are written in it: a tree that keeps what serde's derived types would lose, and where nodes stand.
//!
//! `serde_json` does the parsing. What this module adds is small: the order and the repetitions of an object's keys (a
//! [`Node`] borrows from the text and is consumed while it is read), paths in Ignition's notation ([`Path`]), and the line
//! and column of any set of paths, found by one pass over the text ([`Places`]).

mod locate;
mod node;
mod path;

pub use locate::{Found, Places};
pub use node::Node;
pub use path::{Path, PathBuf, Step, StepBuf};

/// Whether two keys are one to Go's `encoding/json`: without regard to case, with the two letters that Unicode folds
/// into ASCII (the long s and the Kelvin sign).
pub fn same_key(a: &str, b: &str) -> bool {
    fn fold(c: char) -> char {
        match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        }
    }
    a.chars().map(fold).eq(b.chars().map(fold))
}
