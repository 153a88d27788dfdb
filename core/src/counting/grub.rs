// SPDX-License-Identifier: Apache-2.0
//! GRUB: whether its `grub.cfg` lets a variable of `grubenv` choose the entry, and that file's form.
//!
//! `grubenv` is a block of [`BLOCK`] bytes: a signature, lines `name=value` in which a backslash escapes the next byte of the value, and
//! `#` to the end (GRUB's `lib/envblk.c`). Its text is in any encoding. GRUB reads its blocks where they were when the file system was last
//! written out and replays no journal, so it is overwritten in place.

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
    variables: Vec<(Vec<u8>, Vec<u8>)>,
    /// GRUB can read them and can't write any: it isn't `#` to the end. One that is written is another one than this.
    sealed: bool,
}

impl Environment {
    /// Reads a block as GRUB does. A line without `=` belongs to the name in the next one.
    ///
    /// # Errors
    /// It isn't one, or GRUB doesn't get to its end, in words.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() != BLOCK {
            return Err(format!("it has {} bytes, not {BLOCK}", bytes.len()));
        }
        let mut rest = bytes.strip_prefix(SIGNATURE.as_bytes()).ok_or("it has no signature of GRUB's")?;
        let mut variables = Vec::new();
        while let Some(first) = rest.first() {
            if *first == b'#' {
                rest = line(rest).map_or(&[], |(_, after)| after);
                continue;
            }
            let mut parts = rest.splitn(2, |byte| *byte == b'=');
            let (name, value) = (parts.next().unwrap_or_default(), parts.next().ok_or("a line in it sets nothing")?);
            let (value, after) = line(value).ok_or("a line in it doesn't end")?;
            variables.push((name.to_owned(), value));
            rest = after;
        }
        let sealed = bytes.iter().rfind(|byte| **byte != b'#') != Some(&b'\n');
        Ok(Self { variables, sealed })
    }

    /// Whether a block was one before a power cut tore it while it was written: it has its size, and the signature, which each block begins
    /// with, and GRUB finds it broken. What is of the old one and of the new one, and GRUB reads it all the same, is what GRUB goes by.
    pub fn is_torn(bytes: &[u8]) -> bool {
        bytes.len() == BLOCK && bytes.starts_with(SIGNATURE.as_bytes()) && Self::parse(bytes).is_err()
    }

    /// The value of a variable, if it is text.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.variables.iter().rfind(|(known, _)| known == name.as_bytes())?;
        core::str::from_utf8(value).ok()
    }

    /// The same with a variable set, or without it.
    #[must_use]
    pub fn with(&self, name: &str, value: Option<&str>) -> Self {
        let others = self.variables.iter().filter(|(known, _)| known != name.as_bytes()).cloned();
        let variables = others.chain(value.map(|value| (name.into(), value.into()))).collect();
        Self { variables, sealed: false }
    }

    /// The block.
    ///
    /// # Errors
    /// The variables don't fit, in words.
    pub fn render(&self) -> Result<Vec<u8>, String> {
        let mut bytes = SIGNATURE.as_bytes().to_owned();
        for (name, value) in &self.variables {
            bytes.extend(name);
            bytes.push(b'=');
            for byte in value {
                if matches!(byte, b'\\' | b'\n') {
                    bytes.push(b'\\');
                }
                bytes.push(*byte);
            }
            bytes.push(b'\n');
        }
        if bytes.len() > BLOCK {
            return Err(format!("its variables don't fit into {BLOCK} bytes"));
        }
        bytes.resize(BLOCK, b'#');
        Ok(bytes)
    }
}

/// The first line without its escapes, and what follows it.
fn line(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut line = Vec::new();
    while let [byte, after @ ..] = bytes {
        bytes = after;
        match (byte, after) {
            (b'\n', _) => return Some((line, after)),
            (b'\\', [escaped, after @ ..]) => {
                line.push(*escaped);
                bytes = after;
            }
            _ => line.push(*byte),
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
