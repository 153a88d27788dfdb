// SPDX-License-Identifier: Apache-2.0
//! From text to [`Config`].

use alloc::vec::Vec;
use core::fmt;

use super::decode::Decoding;
use super::model::{Checking, Value as _};
use super::recognize::{read_json, version_of};
use super::remark::Remarks;
use super::types::Config;
use super::version::Version;
use crate::diag::{Diagnostic, Position};
use crate::json::{Path, Places, Step};
use crate::origin::Origin;

/// A configuration that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// In the shape of [`Version::LATEST`], which `config.ignition.version` says too.
    pub config: Config,
    /// The version that the text names.
    pub version: Version,
    /// What is surprising or has no effect.
    pub warnings: Vec<Diagnostic>,
}

/// Why a text is no configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// It has no bytes at all. Sources that may be without a configuration answer that way; Ignition goes on then.
    Empty,
    /// It is wrong. At least one of these is an error; warnings come after the errors.
    Invalid(Vec<Diagnostic>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the configuration is empty"),
            Self::Invalid(diagnostics) => {
                for (index, diagnostic) in diagnostics.iter().enumerate() {
                    if index > 0 {
                        f.write_str("\n")?;
                    }
                    write!(f, "{diagnostic}")?;
                }
                Ok(())
            }
        }
    }
}

impl core::error::Error for Refusal {}

/// Reads a configuration of any supported version. `name` is how a person would name the text, without secrets; `source`, its
/// index in [`crate::origin::Sources`], becomes part of every origin.
///
/// # Errors
/// [`Refusal::Empty`] for a text without bytes. Else everything that is wrong: no JSON, no version that Fledge reads, types
/// that don't fit, and what the rules of that version forbid.
pub fn parse(text: &[u8], name: &str, source: Option<u16>) -> Result<Parsed, Refusal> {
    if text.is_empty() {
        return Err(Refusal::Empty);
    }
    let (text, node) = read_json(text, name)?;
    let mut remarks = Remarks::default();
    let Some(version) = version_of(&node, &mut remarks) else {
        return Err(Refusal::Invalid(explain(remarks, text, name)));
    };
    let mut config = Config::default();
    config.decode(node, &Path::ROOT, &mut Decoding::new(version, &mut remarks));
    if !remarks.refused() {
        config.check(&Path::ROOT, &mut Checking { version, remarks: &mut remarks });
    }
    if remarks.refused() {
        return Err(Refusal::Invalid(explain(remarks, text, name)));
    }
    translate(&mut config, version);
    #[cfg(feature = "mutation")]
    let mut config = super::mutation::mutated(config);

    let places = set_origins(&mut config, text, source, &remarks);
    Ok(Parsed { config, version, warnings: remarks.into_diagnostics(name, &places) })
}

/// Reads the cache that an earlier stage wrote: JSON of the newest version, believed to be right. Origins aren't in it.
///
/// # Errors
/// What makes the text unreadable: it was written by another program, or is damaged.
pub fn read_cache(text: &[u8], name: &str) -> Result<Config, Refusal> {
    if text.is_empty() {
        return Err(Refusal::Empty);
    }
    let (text, node) = read_json(text, name)?;
    let mut remarks = Remarks::default();
    let mut config = Config::default();
    config.decode(node, &Path::ROOT, &mut Decoding::new(Version::LATEST, &mut remarks));
    if remarks.refused() {
        return Err(Refusal::Invalid(explain(remarks, text, name)));
    }
    #[cfg(feature = "mutation")]
    let config = super::mutation::mutated(config);
    Ok(config)
}

/// Sets the origins of everything that stands in the text, and finds on the way what the remarks are about.
fn set_origins(config: &mut Config, text: &str, source: Option<u16>, remarks: &Remarks) -> Places {
    let mut places = Places::default();
    config.each_origin(&Path::ROOT, &mut |path, _| places.add(path));
    for path in remarks.paths() {
        places.add_buf(path);
    }
    places.locate(text);
    config.each_origin(&Path::ROOT, &mut |path, origin| {
        // A section that isn't in the text was written nowhere.
        let Some(Position { line, column }) = places.exactly(path).map(|found| found.value) else { return };
        let index = match path.step() {
            Some(Step::Index(index)) => u32::try_from(index).unwrap_or(u32::MAX),
            _ => 0,
        };
        *origin = Origin { source, index, line, column };
    });
    places
}

/// Reads a configuration of the newest version without checking it, for tests of what must not rely on the checks.
#[cfg(test)]
pub(crate) fn parse_unchecked(text: &str, source: Option<u16>) -> Config {
    let mut config = read_cache(text.as_bytes(), "unchecked").unwrap_or_else(|refusal| panic!("{refusal}"));
    set_origins(&mut config, text, source, &Remarks::default());
    config
}

/// What a configuration of an older version means in the newest one.
///
/// Ignition loses the `advertisement` of a tang server on the way from 3.4 to 3.5; here it stays, as the specification has it.
fn translate(config: &mut Config, version: Version) {
    config.ignition.version = Version::LATEST.name().into();
    if version < super::schema::SPECIAL_MODE_BITS {
        let directories = config.storage.directories.iter_mut().map(|directory| &mut directory.mode);
        let files = config.storage.files.iter_mut().map(|file| &mut file.mode);
        for mode in directories.chain(files).flatten() {
            *mode &= 0o777;
        }
    }
}

/// Adds lines and columns.
fn explain(remarks: Remarks, text: &str, name: &str) -> Vec<Diagnostic> {
    let mut places = Places::default();
    for path in remarks.paths() {
        places.add_buf(path);
    }
    places.locate(text);
    remarks.into_diagnostics(name, &places)
}
