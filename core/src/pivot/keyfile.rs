// SPDX-License-Identifier: Apache-2.0
//! Key files, as `GLib` reads them (the Desktop Entry Specification's form): groups in brackets, `key=value` below them, comments
//! that begin with `#`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A parsed key file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyFile<'a> {
    /// Group, key, value.
    rows: Vec<(&'a str, &'a str, &'a str)>,
}

impl<'a> KeyFile<'a> {
    /// Parses the text of a file.
    ///
    /// # Errors
    /// A line that is no group, key or comment, or a key before the first group: which line, and why.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        let mut rows = Vec::new();
        let mut group = None;
        for (index, line) in text.lines().enumerate() {
            let wrong = |why: &str| Err(format!("line {}: {why}", index + 1));
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[') {
                match name.strip_suffix(']') {
                    Some(name) if !name.is_empty() && !name.contains(['[', ']']) => group = Some(name),
                    _ => return wrong("the group's name is not in brackets"),
                }
            } else if let Some((key, value)) = line.split_once('=').filter(|(key, _)| !key.trim_end().is_empty()) {
                let Some(group) = group else { return wrong("a key comes before the first group") };
                rows.push((group, key.trim_end(), value.trim_start()));
            } else {
                return wrong("it is no group, key or comment");
            }
        }
        Ok(Self { rows })
    }

    /// The last value of a key.
    pub fn value(&self, group: &str, key: &str) -> Option<&'a str> {
        self.rows.iter().rev().find(|row| row.0 == group && row.1 == key).map(|row| row.2)
    }

    /// A value that says yes or no, as `GLib` writes them: `true` or `1`, `false` or `0`.
    ///
    /// # Errors
    /// It is neither.
    pub fn boolean(&self, group: &str, key: &str) -> Result<Option<bool>, String> {
        match self.value(group, key) {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(format!("{group}.{key} is {other:?}, which is neither true nor false")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_groups_keys_and_comments() {
        let text = "# a comment\n\n[one]\nkey = a value \r\nother=1\n  [two]\nkey=\n[one]\nother=0\n";
        let file = KeyFile::parse(text).unwrap();
        assert_eq!(file.value("one", "key"), Some("a value"));
        assert_eq!(file.value("two", "key"), Some(""));
        assert_eq!(file.value("two", "other"), None);
        assert_eq!(file.boolean("one", "other"), Ok(Some(false)), "the last one counts");
        assert_eq!(file.boolean("one", "missing"), Ok(None));
        assert!(file.boolean("two", "key").unwrap_err().contains("two.key is \"\""));
        assert_eq!(KeyFile::parse("").unwrap(), KeyFile::default());
    }

    #[test]
    fn says_which_line_is_wrong() {
        for (text, why) in [
            ("[one]\nword\n", "line 2: it is no group, key or comment"),
            ("[one]\n =x\n", "line 2: it is no group"),
            ("key=value\n", "line 1: a key comes before"),
            ("[one\n", "line 1: the group's name"),
            ("[]\n", "line 1: the group's name"),
        ] {
            let error = KeyFile::parse(text).unwrap_err();
            assert!(error.starts_with(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn yes_is_no_boolean_of_glib() {
        let file = KeyFile::parse("[a]\nb=yes\n").unwrap();
        assert!(file.boolean("a", "b").is_err());
    }
}
