// SPDX-License-Identifier: Apache-2.0
//! Command lines in the syntax of Go's `flag` package, which upstream's `ignition` has: one dash or two, the value behind
//! `=` or in the next argument (<https://pkg.go.dev/flag>, "Command line flag syntax").

use fledge_core::go::parse_bool;

/// What a flag takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A value, in the same argument or in the next.
    Value,
    /// Nothing, or `=true` or `=false`.
    Bool,
}

/// The flags of a command line, in order, and what stands behind them.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Flags {
    /// Name and value; `true` or `false` for a switch.
    pub(crate) flags: Vec<(&'static str, String)>,
    /// The arguments from the first that is no flag.
    pub(crate) rest: Vec<String>,
}

/// Splits a command line by the flags it may have. `Err` holds what to tell the user.
pub(crate) fn parse(args: &[String], known: &[(&'static str, Kind)]) -> Result<Flags, String> {
    let mut parsed = Flags::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let flag = match arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) {
            Some("") if arg == "--" => {
                parsed.rest.extend(args.cloned());
                break;
            }
            Some("") | None => {
                parsed.rest.push(arg.clone());
                parsed.rest.extend(args.cloned());
                break;
            }
            Some(flag) => flag,
        };
        if flag.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {arg}"));
        }
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let Some(&(name, kind)) = known.iter().find(|(known, _)| *known == name) else {
            return Err(format!("flag provided but not defined: -{name}"));
        };
        let value = match (kind, value) {
            (Kind::Value, Some(value)) => value,
            (Kind::Value, None) => args.next().cloned().ok_or_else(|| format!("flag needs an argument: -{name}"))?,
            (Kind::Bool, None) => "true".to_owned(),
            (Kind::Bool, Some(value)) => parse_bool(&value)
                .ok_or_else(|| format!("invalid boolean value {value:?} for -{name}: write true or false"))?
                .to_string(),
        };
        parsed.flags.push((name, value));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[(&str, Kind)] = &[("stage", Kind::Value), ("root", Kind::Value), ("version", Kind::Bool)];

    fn parsed(args: &[&str]) -> Result<Flags, String> {
        parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>(), KNOWN)
    }

    #[test]
    fn takes_one_dash_or_two_and_both_places_of_a_value() {
        for args in [&["-stage", "fetch"][..], &["--stage", "fetch"], &["-stage=fetch"], &["--stage=fetch"]] {
            assert_eq!(parsed(args).unwrap().flags, [("stage", "fetch".to_owned())]);
        }
        assert_eq!(parsed(&["-root", ""]).unwrap().flags, [("root", String::new())]);
        assert_eq!(parsed(&["-root="]).unwrap().flags, [("root", String::new())]);
    }

    #[test]
    fn a_switch_takes_no_next_argument() {
        let flags = parsed(&["-version", "-stage", "x", "rest", "-version"]).unwrap();
        assert_eq!(flags.flags, [("version", "true".to_owned()), ("stage", "x".to_owned())]);
        assert_eq!(flags.rest, ["rest", "-version"]);
        assert_eq!(parsed(&["-version=0"]).unwrap().flags, [("version", "false".to_owned())]);
        assert_eq!(parsed(&["--", "-version"]).unwrap().rest, ["-version"]);
        assert_eq!(parsed(&["-"]).unwrap().rest, ["-"]);
    }

    #[test]
    fn what_it_does_not_know_is_named() {
        assert!(parsed(&["--colour"]).unwrap_err().contains("-colour"));
        assert!(parsed(&["--stage"]).unwrap_err().contains("needs an argument"));
        assert!(parsed(&["---stage"]).unwrap_err().contains("bad flag syntax"));
        assert!(parsed(&["-version=maybe"]).unwrap_err().contains("maybe"));
    }
}
