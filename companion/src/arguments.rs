// SPDX-License-Identifier: Apache-2.0
//! The command line of one command, as written.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    /// The flags, without their hyphens.
    flags: Vec<&'static str>,
    /// What is no flag.
    pub(crate) values: Vec<String>,
    /// The directory of `--sysroot`.
    pub(crate) sysroot: Option<PathBuf>,
    /// Whether help was asked for.
    pub(crate) help: bool,
}

impl Arguments {
    /// Reads them: these flags, at most so many values, and `--sysroot DIR` where there may be one.
    pub(crate) fn parse(
        args: Vec<OsString>,
        flags: &'static [&'static str],
        most: usize,
        sysroot: bool,
    ) -> Result<Self, lexopt::Error> {
        let mut parsed = Self::default();
        let mut parser = Parser::from_args(args);
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("help") | Arg::Short('h') => parsed.help = true,
                Arg::Long("sysroot") if sysroot => parsed.sysroot = Some(parser.value()?.into()),
                Arg::Value(value) if parsed.values.len() < most => parsed.values.push(value.string()?),
                Arg::Long(name) => match flags.iter().find(|flag| **flag == name) {
                    Some(flag) => parsed.flags.push(flag),
                    None => return Err(arg.unexpected()),
                },
                arg => return Err(arg.unexpected()),
            }
        }
        Ok(parsed)
    }

    /// Whether a flag was given.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// The first value.
    pub(crate) fn value(&self) -> Option<&str> {
        self.values.first().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Arguments, lexopt::Error> {
        Arguments::parse(args.iter().map(OsString::from).collect(), &["json"], 1, true)
    }

    #[test]
    fn flags_and_values_in_any_order_and_nothing_else() {
        let parsed = parse(&["--sysroot", "/s", "1", "--json"]).unwrap();
        assert!(parsed.has("json") && !parsed.help);
        assert_eq!((parsed.value(), parsed.sysroot.as_deref()), (Some("1"), Some("/s".as_ref())));
        assert!(parse(&["-h"]).unwrap().help);
        for wrong in [&["1", "2"][..], &["--jsn"], &["-j"], &["--sysroot"], &["--json=1"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
