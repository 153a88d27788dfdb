// SPDX-License-Identifier: Apache-2.0
//! The kernel command line: the only parser of it in Fledge.
//!
//! Words are split at white space; double quotes keep white space together, wherever in a word they stand, and are dropped
//! (kernel: `lib/cmdline.c`, `next_arg`). A `-` and a `_` in a key are different, as Ignition and dracut have it.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A parsed kernel command line.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Cmdline {
    args: Vec<(String, Option<String>)>,
}

impl fmt::Debug for Cmdline {
    /// Keys only: values may be URLs with secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(key, _)| key)).finish()
    }
}

impl Cmdline {
    /// Parses the text of `/proc/cmdline`. Any text is a command line.
    pub fn parse(text: &str) -> Self {
        let text = text.trim_end_matches(['\n', '\0']);
        let words = words(text).map(unquoted).filter(|word| !word.is_empty());
        let args = words
            .map(|word| match word.split_once('=') {
                Some((key, value)) => (key.into(), Some(value.into())),
                None => (word, None),
            })
            .collect();
        Self { args }
    }

    /// All arguments in order: key, and value where there was a `=`.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.args.iter().map(|(key, value)| (key.as_str(), value.as_deref()))
    }

    /// Whether the key is there, with or without a value.
    pub fn has(&self, key: &str) -> bool {
        self.args.iter().any(|(k, _)| k == key)
    }

    /// The value of the last `key=value`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.iter().filter(|(k, _)| *k == key).filter_map(|(_, value)| value).last()
    }

    /// The values of all `key=value`, in order.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.iter().filter_map(move |(k, v)| if k == key { v } else { None })
    }

    /// Whether a flag such as `ignition.firstboot` is on: the last occurrence counts, a bare key is on, and an empty value,
    /// `0`, `no` and `off` are off (as Ignition's generator reads it).
    pub fn flag(&self, key: &str) -> bool {
        self.iter()
            .filter(|(k, _)| *k == key)
            .last()
            .is_some_and(|(_, value)| !matches!(value, Some("" | "0" | "no" | "off")))
    }
}

/// The words of a command line as they stand in it, with their quotes. A quote that isn't closed reaches to the end.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    core::iter::from_fn(move || {
        rest = rest.trim_start();
        let mut quoted = false;
        let ends = |c: char| {
            quoted ^= c == '"';
            c.is_whitespace() && !quoted
        };
        let (word, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}

/// What a word means: itself without its quotes.
pub fn unquoted(word: &str) -> String {
    word.chars().filter(|c| *c != '"').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_words_and_keeps_quotes_together() {
        let cmdline = Cmdline::parse("quiet root=UUID=1 dyndbg=\"file a +p\" \"x=y z\" empty=\n");
        let args: Vec<_> = cmdline.iter().collect();
        assert_eq!(
            args,
            [
                ("quiet", None),
                ("root", Some("UUID=1")),
                ("dyndbg", Some("file a +p")),
                ("x", Some("y z")),
                ("empty", Some(""))
            ]
        );
    }

    #[test]
    fn the_last_value_counts_and_a_bare_key_has_none() {
        let cmdline = Cmdline::parse("a=1 a=2 a");
        assert_eq!(cmdline.value("a"), Some("2"));
        assert!(cmdline.has("a"));
        assert_eq!(cmdline.value("b"), None);
        assert_eq!(alloc::format!("{cmdline:?}"), r#"["a", "a", "a"]"#);
    }

    #[test]
    fn a_flag_is_off_when_its_last_occurrence_says_so() {
        for (text, on) in [
            ("", false),
            ("ignition.firstboot", true),
            ("ignition.firstboot=1", true),
            ("ignition.firstboot=", false),
            ("ignition.firstboot=0", false),
            ("ignition.firstboot=no", false),
            ("ignition.firstboot=off", false),
            ("ignition.firstboot=1 ignition.firstboot=0", false),
            ("ignition.firstboot=0 ignition.firstboot", true),
            ("xignition.firstboot=1", false),
        ] {
            assert_eq!(Cmdline::parse(text).flag("ignition.firstboot"), on, "{text}");
        }
    }
}
