// SPDX-License-Identifier: Apache-2.0
//! Text as people get it.

use fledge_core::counting::Id;

/// Text for a terminal: of what others wrote, nothing but lines is obeyed.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// Text for people: ids that others wrote into it in full are as short as elsewhere. Paths and names of records aren't changed.
pub fn shortened(text: &str) -> String {
    /// Hexadecimal digits of a whole commit.
    const WHOLE: usize = 64;
    let mut shortened = String::with_capacity(text.len());
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end_matches(|c: char| c.is_whitespace() || ",;:.)".contains(c));
        match Id::parse(bare).filter(|id| id.deployment().find('.') == Some(WHOLE)) {
            Some(id) => {
                shortened.push_str(&short(&id));
                shortened.push_str(word.get(bare.len()..).unwrap_or_default());
            }
            None => shortened.push_str(word),
        }
    }
    shortened
}

/// Stateroot, the beginning of the commit, and serial.
pub fn short(id: &Id) -> String {
    let (commit, serial) = id.deployment().split_once('.').unwrap_or((id.deployment(), "0"));
    format!("{} {}.{serial}", id.stateroot(), commit.get(..12).unwrap_or(commit))
}
