// SPDX-License-Identifier: Apache-2.0
//! What Fledge says when something is wrong: what failed, where, why, and what to do about it.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

/// A place in a text, counted from 1. Columns count characters, not bytes, as editors do.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A node of a configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Which configuration, as a person would name it: a URL without its secrets, `fw_cfg opt/com.coreos/config`, a file.
    pub source: String,
    /// JSON path in Ignition's own notation: `$.storage.files.0.path`. Empty when the whole text is meant.
    pub path: String,
    /// Where that node stands in the text, if the text was at hand.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub position: Option<Position>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.path.is_empty() {
            write!(f, " at {}", self.path)?;
        }
        Ok(())
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is usable, but says something that has no effect or is surprising.
    Warning,
    /// The configuration is refused.
    Error,
}

/// One remark about a configuration.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Warning or error.
    pub severity: Severity,
    /// Which node it is about.
    pub place: Place,
    /// What is wrong with it, as a full clause.
    pub reason: String,
    /// What to write instead, if that can be said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}: {}", self.place, self.reason)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// Why a stage, a step or a command could not do what was asked of it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What was being done: `creating the user "core"`.
    pub what: String,
    /// The part of a configuration that asked for it, if one did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub place: Option<Box<Place>>,
    /// Why it failed, with the system's own words at the end where there are any.
    pub why: String,
    /// What a person can do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
}

impl Failure {
    /// A failure with neither place nor remedy yet.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), place: None, why: why.into(), remedy: None }
    }

    /// Adds the part of a configuration that asked for it. A place that is already there is nearer to the cause and stays.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place.get_or_insert_with(|| Box::new(place));
        self
    }

    /// Adds what a person can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy.get_or_insert(remedy.into());
        self
    }
}

impl fmt::Display for Failure {
    /// Up to four lines: what and why, the place, the remedy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)?;
        if let Some(place) = &self.place {
            write!(f, "\n  where: {place}")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "\n  what to do: {remedy}")?;
        }
        Ok(())
    }
}

impl core::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_failure_says_what_why_where_and_what_to_do() {
        let place = Place {
            source: "user.ign".into(),
            path: "$.storage.files.0".into(),
            position: Some(Position { line: 3, column: 7 }),
        };
        let failure =
            Failure::new("writing /etc/motd", "No space left on device").at(place).remedy("make the disk larger");
        assert_eq!(
            failure.to_string(),
            "writing /etc/motd: No space left on device\n  where: user.ign:3:7 at $.storage.files.0\n  what to do: make the disk larger"
        );
    }

    #[test]
    fn the_nearer_place_stays() {
        let near = Place { source: "near".into(), ..Place::default() };
        let far = Place { source: "far".into(), ..Place::default() };
        assert_eq!(Failure::new("x", "y").at(near.clone()).at(far).place, Some(Box::new(near)));
    }
}
