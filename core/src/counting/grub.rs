// SPDX-License-Identifier: Apache-2.0
//! GRUB: whether its `grub.cfg` lets a variable of `grubenv` choose the entry, and that file's form.
//!
//! `grubenv` is a block of [`BLOCK`] bytes: a signature, lines `name=value` in which a backslash escapes the next character, and `#` to
//! the end (GRUB's `lib/envblk.c`). GRUB reads its blocks where they were when the file system was last written out and replays no
//! journal, so it is overwritten in place.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::diag::Failure;

/// The size of the block, in bytes.
pub const BLOCK: usize = 1024;
/// The variable that chooses the entry.
pub const STEERING: &str = "default";
/// Variables by which others count boots (greenboot, and Fedora's GRUB).
const OTHER_COUNTERS: [&str; 1] = ["boot_counter"];

const SIGNATURE: &str = "# GRUB Environment Block\n";

/// The variables of a `grubenv`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Environment {
    /// Names and values, in their order.
    variables: Vec<(String, String)>,
}

impl Environment {
    /// Reads a block.
    ///
    /// # Errors
    /// It isn't one, in words.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = core::str::from_utf8(bytes).map_err(|_| "it is no text")?;
        if text.len() != BLOCK {
            return Err(format!("it has {} bytes, not {BLOCK}", text.len()));
        }
        let Some(mut rest) = text.strip_prefix(SIGNATURE) else { return Err("it has no signature of GRUB's".into()) };
        let mut variables = Vec::new();
        loop {
            if rest.bytes().all(|byte| byte == b'#') {
                return Ok(Self { variables });
            }
            let (line, after) = line(rest).ok_or("a line in it doesn't end")?;
            rest = after;
            if line.starts_with('#') {
                continue;
            }
            let Some((name, value)) = line.split_once('=') else { return Err(format!("{line:?} sets nothing")) };
            variables.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Whether a block that can't be read was one before a power cut tore it while it was written: it has its size, and the signature, which
    /// each block begins with. The rest of it may be of the old one, of the new one, or of neither.
    pub fn is_torn(bytes: &[u8]) -> bool {
        bytes.len() == BLOCK && bytes.starts_with(SIGNATURE.as_bytes()) && Self::parse(bytes).is_err()
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The same with a variable set, or without it.
    #[must_use]
    pub fn with(&self, name: &str, value: Option<&str>) -> Self {
        let mut variables: Vec<_> = self.variables.iter().filter(|(known, _)| known != name).cloned().collect();
        variables.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        Self { variables }
    }

    /// The block.
    ///
    /// # Errors
    /// The variables don't fit, in words.
    pub fn render(&self) -> Result<Vec<u8>, String> {
        let mut text = SIGNATURE.to_owned();
        for (name, value) in &self.variables {
            text.push_str(name);
            text.push('=');
            for c in value.chars() {
                if matches!(c, '\\' | '\n') {
                    text.push('\\');
                }
                text.push(c);
            }
            text.push('\n');
        }
        if text.len() > BLOCK {
            return Err(format!("its variables don't fit into {BLOCK} bytes"));
        }
        let mut bytes = text.into_bytes();
        bytes.resize(BLOCK, b'#');
        Ok(bytes)
    }
}

/// The first line without its escapes, and what follows it.
fn line(text: &str) -> Option<(String, &str)> {
    let mut line = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '\n' => return Some((line, text.get(at + 1..)?)),
            '\\' => line.extend(characters.next().map(|(_, c)| c)),
            c => line.push(c),
        }
    }
    None
}

/// Whether `default=` in the `grubenv` beside it chooses the entry that GRUB starts by itself.
///
/// That is so if `grub.cfg` takes over all variables of that file, and afterwards sets `default` no more. `sourced` are names and texts of
/// files beside it, [`SOURCED`]: what it sources under one of these names is looked into.
///
/// # Errors
/// It isn't so.
pub fn steering(config: &str, sourced: &[(&str, String)]) -> Result<(), Failure> {
    let refused = |why: &str| {
        Err(Failure::new("finding how GRUB chooses its entry", why)
            .remedy("let grub.cfg do load_env without names of variables, and set default only before that line"))
    };
    let mut seen = Seen::default();
    if let Some(file) = seen.read("grub.cfg", config, sourced) {
        return refused(&format!("its {file} sets default itself, after it has read grubenv"));
    }
    match (seen.loaded, seen.limited) {
        (true, _) => Ok(()),
        (false, true) => refused("its grub.cfg takes over only some variables of grubenv"),
        (false, false) => refused("its grub.cfg doesn't read grubenv"),
    }
}

/// Files beside `grub.cfg` that people write and that it sources.
pub const SOURCED: [&str; 2] = ["custom.cfg", "user.cfg"];

/// What was seen of `grub.cfg` so far.
#[derive(Default)]
struct Seen {
    /// It takes over all variables.
    loaded: bool,
    /// It takes over some.
    limited: bool,
}

impl Seen {
    /// The name of the file that sets `default` once all variables were taken over, if one does. What a sourced file sources itself isn't
    /// looked into.
    fn read(&mut self, name: &str, config: &str, sourced: &[(&str, String)]) -> Option<String> {
        for command in commands(&unquoted(config)) {
            match command.as_slice() {
                ["load_env", arguments @ ..] => match variables(arguments) {
                    0 => self.loaded = true,
                    _ => self.limited = true,
                },
                ["source" | ".", path, ..] => {
                    let found = sourced.iter().find(|(name, _)| path.rsplit('/').next() == Some(name));
                    let sets = found.and_then(|(name, text)| self.read(name, text, &[]));
                    if sets.is_some() {
                        return sets;
                    }
                }
                // The snippet that counts starts may be joined into it, and sets it only where nothing else does.
                ["set", assigned, ..] if assigned.contains("${fledge_fallback}") => {}
                ["set", assigned, ..] | [assigned, ..] if self.loaded && assigned.starts_with("default=") => {
                    return Some(name.into());
                }
                _ => {}
            }
        }
        None
    }
}

/// A `grub.cfg` without its quotes, for [`commands`].
pub(super) fn unquoted(config: &str) -> String {
    config.replace(['"', '\'', '\\'], "")
}

/// The commands of a `grub.cfg`, as words. What a condition stands before is one, too.
pub(super) fn commands(unquoted: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = unquoted.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let commands = lines.flat_map(|line| line.split([';', '&', '|']));
    let is_keyword = |word: &&str| ["if", "then", "else", "elif", "!"].contains(word);
    commands.map(move |command| command.split_whitespace().skip_while(is_keyword).collect())
}

/// Who else counts boots, in words, if somebody does: by a variable, or by names of boot entries, `NAME+LEFT` or `NAME+LEFT-DONE` (Boot
/// Loader Specification, "Boot counting").
pub fn other_counter<'n>(variables: &Environment, mut entries: impl Iterator<Item = &'n str>) -> Option<String> {
    if let Some(name) = OTHER_COUNTERS.iter().find(|name| variables.get(name).is_some()) {
        return Some(format!("the bootloader counts boots itself, by {name} in grubenv"));
    }
    let counted = |name: &&str| {
        let counter = name.rsplit_once('+').map(|(_, counter)| counter).unwrap_or_default();
        counter.starts_with(|c: char| c.is_ascii_digit()) && counter.chars().all(|c| c.is_ascii_digit() || c == '-')
    };
    let entry = entries.find(counted)?;
    Some(format!("the bootloader counts boots itself, by the name of the entry {entry}"))
}

/// How many variables the arguments of `load_env` name.
pub(super) fn variables(arguments: &[&str]) -> usize {
    let mut count = 0;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match *argument {
            // Its file.
            "-f" | "--file" => drop(arguments.next()),
            option if option.starts_with('-') => {}
            _ => count += 1,
        }
    }
    count
}
