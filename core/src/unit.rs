// SPDX-License-Identifier: Apache-2.0
//! systemd's unit files and unit names.
//!
//! Files are read as go-systemd reads them, since it decides what Ignition refuses: whatever stands before the first section is
//! passed over, a section's name ends at the next bracket, a backslash at a line's end continues values and comments. systemd
//! itself is more lenient in places and never refuses a file.

use alloc::string::String;

/// The longest line that go-systemd accepts, in bytes.
const LINE_MAX: usize = 2048;
/// The buffer through which it reads; long lines are only noticed within it.
const BUFFER: usize = 4096;

/// Why a text is no unit file. Lines are counted from 1.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnitError {
    /// A section's name isn't closed.
    #[error("line {0}: the section's name has no closing bracket")]
    Section(usize),
    /// Something stands behind a section's name.
    #[error("line {0}: there is text behind the section's name")]
    AfterSection(usize),
    /// A line in a section that is neither an assignment, a section nor a comment.
    #[error("line {0}: neither name=value nor a section in brackets")]
    NoAssignment(usize),
    /// A line that systemd may cut off.
    #[error("line {0} is longer than {LINE_MAX} bytes")]
    TooLong(usize),
}

/// Whether a unit file assigns anything in its `[Install]` section: only then can it be enabled.
///
/// # Errors
/// Every variant of [`UnitError`] names one.
pub fn has_install(text: &str) -> Result<bool, UnitError> {
    let mut found = false;
    each_assignment(text, &mut |section, _, _| found |= section == "Install")?;
    Ok(found)
}

/// Reads a unit file, one assignment at a time: section, name and value. Continued lines keep their backslash and newline.
fn each_assignment<'t>(text: &'t str, visit: &mut dyn FnMut(&'t str, &'t str, String)) -> Result<(), UnitError> {
    let mut reader = Reader { text, at: 0, buffered: 0 };
    let mut section: Option<&str> = None;
    loop {
        reader.check_line()?;
        let start = reader.at;
        let Some(c) = reader.next() else { return Ok(()) };
        match (c, section) {
            ('[', _) => section = Some(reader.section()?),
            ('#' | ';', _) => reader.comment()?,
            (_, None) => {}
            (c, Some(_)) if c.is_whitespace() => {}
            (_, Some(section)) => {
                reader.at = start;
                let (name, value) = reader.assignment()?;
                visit(section, name, value);
            }
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    /// Offset of the next character.
    at: usize,
    /// Offset up to which go-systemd's buffer would be filled.
    buffered: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }

    fn fill(&mut self) {
        self.buffered = (self.at + BUFFER).min(self.text.len());
    }

    /// Between two steps, a line that fills half of the buffer is too long.
    fn check_line(&self) -> Result<(), UnitError> {
        if self.buffered.saturating_sub(self.at) < LINE_MAX {
            return Ok(());
        }
        let line = self.text.as_bytes().get(self.at..self.at + LINE_MAX).unwrap_or_default();
        if line.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            return Ok(());
        }
        Err(UnitError::TooLong(self.line(self.at)))
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        if self.at + c.len_utf8() > self.buffered {
            self.fill();
        }
        self.at += c.len_utf8();
        Some(c)
    }

    /// Everything up to a delimiter, which is passed over; `None` if it doesn't come, then everything is passed over.
    fn until(&mut self, delimiter: u8) -> (&'t str, bool) {
        let start = self.at;
        let found = self.rest().bytes().position(|byte| byte == delimiter).map(|at| start + at);
        let end = found.map_or(self.text.len(), |at| at + 1);
        // As a buffer is filled that is emptied only when it is full.
        while self.buffered < end {
            if self.buffered - self.at.min(self.buffered) >= BUFFER {
                self.at = self.buffered;
            }
            self.fill();
        }
        self.at = end;
        (self.text.get(start..found.unwrap_or(end)).unwrap_or_default(), found.is_some())
    }

    fn section(&mut self) -> Result<&'t str, UnitError> {
        self.check_line()?;
        let start = self.at;
        let (name, closed) = self.until(b']');
        if !closed {
            return Err(UnitError::Section(self.line(start)));
        }
        self.check_line()?;
        let start = self.at;
        let (garbage, _) = self.until(b'\n');
        if garbage.trim().is_empty() { Ok(name) } else { Err(UnitError::AfterSection(self.line(start))) }
    }

    fn comment(&mut self) -> Result<(), UnitError> {
        self.check_line()?;
        loop {
            let (line, more) = self.until(b'\n');
            if !line.strip_suffix(' ').unwrap_or(line).ends_with('\\') || !more {
                return Ok(());
            }
        }
    }

    fn assignment(&mut self) -> Result<(&'t str, String), UnitError> {
        self.check_line()?;
        let start = self.at;
        let name = loop {
            match self.next() {
                Some('=') => break self.text.get(start..self.at - 1).unwrap_or_default(),
                None | Some('\n' | '\r') => return Err(UnitError::NoAssignment(self.line(start))),
                Some(_) => {}
            }
        };
        let mut value = String::new();
        loop {
            self.check_line()?;
            let (line, more) = self.until(b'\n');
            if line.trim().is_empty() {
                break;
            }
            value.push_str(line);
            if !line.ends_with('\\') || !more {
                break;
            }
            value.push('\n');
        }
        Ok((name.trim(), value.trim().into()))
    }
}

/// The suffixes of unit names that Ignition accepts.
pub const SUFFIXES: &[&str] = &[
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "snapshot",
    "slice",
    "scope",
];

/// The longest name of a unit, in bytes.
const NAME_MAX: usize = 255;

/// Why a name can't be a unit's.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// There is nothing.
    #[error("the name is empty")]
    Empty,
    /// It has no suffix that systemd knows.
    #[error("it ends in none of systemd's suffixes, such as .service")]
    Suffix,
    /// There is nothing before the suffix, or before the `@`.
    #[error("there is nothing before its suffix")]
    Prefix,
    /// It holds a slash, which no file name has.
    #[error("it contains a slash")]
    Slash,
    /// It holds a control character: written into a preset, a line break would begin a line of its own.
    #[error("it contains a control character")]
    Control,
    /// It holds a character that no unit name has.
    #[error("it contains a character other than letters, digits and :-_.\\@")]
    Character,
    /// It is longer than 255 bytes.
    #[error("it is longer than {NAME_MAX} bytes")]
    TooLong,
}

/// A unit's name in parts (systemd.unit(5)).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Name<'t> {
    /// What stands before the `@`, or before the suffix.
    pub prefix: &'t str,
    /// What stands behind the `@`: empty for a template, `None` without an `@`.
    pub instance: Option<&'t str>,
    /// What stands behind the last dot.
    pub suffix: &'t str,
}

impl<'t> Name<'t> {
    /// Takes a name apart.
    ///
    /// # Errors
    /// Every variant of [`NameError`] names one; of several faults the gravest, [`NameError::Character`] last.
    pub fn parse(name: &'t str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        let (stem, suffix) = name.rsplit_once('.').ok_or(NameError::Suffix)?;
        if !SUFFIXES.contains(&suffix) {
            return Err(NameError::Suffix);
        }
        if name.contains('/') {
            return Err(NameError::Slash);
        }
        if name.chars().any(char::is_control) {
            return Err(NameError::Control);
        }
        let (prefix, instance) = match stem.split_once('@') {
            Some((prefix, instance)) => (prefix, Some(instance)),
            None => (stem, None),
        };
        if prefix.is_empty() {
            return Err(NameError::Prefix);
        }
        if name.len() > NAME_MAX {
            return Err(NameError::TooLong);
        }
        if !stem.chars().all(|c| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c)) {
            return Err(NameError::Character);
        }
        Ok(Self { prefix, instance, suffix })
    }

    /// The template that an instance is made from.
    pub fn template(&self) -> Option<String> {
        self.instance.filter(|instance| !instance.is_empty())?;
        Some(alloc::format!("{}@.{}", self.prefix, self.suffix))
    }
}

/// A path below `/` as it stands in names of units (systemd.unit(5), "String Escaping for Inclusion in Unit Names").
pub fn escape_path(path: &str) -> String {
    use core::fmt::Write as _;

    let mut name = String::new();
    for (at, byte) in path.trim_matches('/').bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at > 0 => name.push('.'),
            b':' | b'_' => name.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => name.push(byte.into()),
            // A string takes whatever is written to it.
            byte => drop(write!(name, "\\x{byte:02x}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    // Expected values are what `systemd-escape --path` says.
    #[test]
    fn escapes_paths() {
        for (path, expected) in [
            ("/dev/disk/by-label/boot", "dev-disk-by\\x2dlabel-boot"),
            ("/dev/disk/by-label/my\\x20boot", "dev-disk-by\\x2dlabel-my\\x5cx20boot"),
            ("/.hidden/a.b:c_d/", "\\x2ehidden-a.b:c_d"),
            ("/grün", "gr\\xc3\\xbcn"),
        ] {
            assert_eq!(escape_path(path), expected, "{path}");
        }
    }

    fn parse(text: &str) -> Result<Vec<(&str, &str, String)>, UnitError> {
        let mut found = Vec::new();
        each_assignment(text, &mut |section, name, value| found.push((section, name, value)))?;
        Ok(found)
    }

    fn values(text: &str) -> Vec<(&str, &str, String)> {
        parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    #[test]
    fn reads_unit_files() {
        let text = "# a comment \\\n[no section]\n; another\nnoise before the first section\n[Unit]\nDescription = a b \n\n\
                    [Service]\nExecStart=/bin/a \\\n  b\\\n\nType=oneshot\r\n Restart=no\n[Install]\n#x\nWantedBy=";
        assert_eq!(
            values(text),
            [
                ("Unit", "Description", "a b".into()),
                ("Service", "ExecStart", "/bin/a \\\n  b\\".into()),
                ("Service", "Type", "oneshot".into()),
                ("Service", "Restart", "no".into()),
                ("Install", "WantedBy", String::new()),
            ]
        );
        assert_eq!(has_install(text), Ok(true));
        assert_eq!(has_install("[Install]\n"), Ok(false), "an empty section installs nothing");
        assert_eq!(has_install("[Install]\nx=1\n["), Err(UnitError::Section(3)));
        assert_eq!(values(""), []);
        assert_eq!(values("no unit at all"), []);
        assert_eq!(values("[A]\nx=1\\"), [("A", "x", "1\\".into())]);
    }

    #[test]
    fn says_which_line_is_wrong() {
        for (text, error) in [
            ("[Unit", UnitError::Section(1)),
            ("\n\n[Unit", UnitError::Section(3)),
            ("[Unit] x\n", UnitError::AfterSection(1)),
            ("[Unit]\n[Service] x", UnitError::AfterSection(2)),
            ("[Unit]\nfoo\n", UnitError::NoAssignment(2)),
            ("[Unit]\n\nx=1\nfoo", UnitError::NoAssignment(4)),
            ("[Unit]\nfoo\r\n=x", UnitError::NoAssignment(2)),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_line_of_2048_bytes_is_too_long() {
        let line = |len: usize| alloc::format!("[A]\nx={}\ny=1\n", "v".repeat(len - "x=".len()));
        assert_eq!(parse(&line(2047)).map(|a| a.len()), Ok(2));
        assert_eq!(parse(&line(2048)), Err(UnitError::TooLong(2)));
        let text = alloc::format!("[A]\n# {}\nx=1\n", "v".repeat(3000));
        assert_eq!(parse(&text), Err(UnitError::TooLong(2)));
        // The rest of a text that is shorter than a line may be is never too long.
        assert_eq!(parse(&alloc::format!("[A]\nx={}", "v".repeat(2045))).map(|a| a.len()), Ok(1));
    }

    #[test]
    fn many_lines_are_read_whole() {
        let text: String = core::iter::once("[A]\n".into())
            .chain((0..2000).map(|i| alloc::format!("name{i} = value \u{e9} {i}\n")))
            .collect();
        let assignments = parse(&text).unwrap();
        assert_eq!(assignments.len(), 2000);
        assert_eq!((assignments[1999].1, &*assignments[1999].2), ("name1999", "value \u{e9} 1999"));
    }

    #[test]
    fn takes_names_apart() {
        let name = Name::parse("getty@tty1.service").unwrap();
        assert_eq!((name.prefix, name.instance, name.suffix), ("getty", Some("tty1"), "service"));
        assert_eq!(name.template().as_deref(), Some("getty@.service"));
        let template = Name::parse("getty@.service").unwrap();
        assert_eq!(template.instance, Some(""));
        assert_eq!(template.template(), None);
        let plain = Name::parse("var-lib-my\\x2dapp.mount").unwrap();
        assert_eq!((plain.prefix, plain.instance, plain.template()), ("var-lib-my\\x2dapp", None, None));
        for suffix in SUFFIXES {
            assert!(Name::parse(&alloc::format!("a.{suffix}")).is_ok());
        }
    }

    #[test]
    fn says_why_a_name_is_none() {
        for (name, error) in [
            ("", NameError::Empty),
            ("foo", NameError::Suffix),
            ("foo.", NameError::Suffix),
            ("foo.conf", NameError::Suffix),
            ("foo.Service", NameError::Suffix),
            ("foo.service/bar", NameError::Suffix),
            (".service", NameError::Prefix),
            ("@x.service", NameError::Prefix),
            ("a/b.service", NameError::Slash),
            ("../b.service", NameError::Slash),
            ("a b.service", NameError::Character),
            ("a\nenable b.service", NameError::Control),
            ("a\0.service", NameError::Control),
            ("\u{e9}.service", NameError::Character),
        ] {
            assert_eq!(Name::parse(name), Err(error), "{name:?}");
        }
        assert_eq!(Name::parse(&alloc::format!("{}.service", "a".repeat(248))), Err(NameError::TooLong));
        assert!(Name::parse(&alloc::format!("{}.service", "a".repeat(247))).is_ok());
    }
}
