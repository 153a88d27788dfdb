// SPDX-License-Identifier: Apache-2.0
//! Versions of the configuration specification.

use core::fmt;

/// A version that Fledge reads. They are ordered by age.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Version {
    V3_0,
    V3_1,
    V3_2,
    V3_3,
    V3_4,
    V3_5,
    V3_6,
    V3_7,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Self; 8] =
        [Self::V3_0, Self::V3_1, Self::V3_2, Self::V3_3, Self::V3_4, Self::V3_5, Self::V3_6, Self::V3_7];
    /// The version that [`super::Config`] has the shape of. Experimental ones may still change.
    pub const LATEST: Self = Self::V3_7;
    /// The newest version that doesn't change any more.
    pub const STABLE: Self = Self::V3_6;

    /// As `ignition.version` says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V3_0 => "3.0.0",
            Self::V3_1 => "3.1.0",
            Self::V3_2 => "3.2.0",
            Self::V3_3 => "3.3.0",
            Self::V3_4 => "3.4.0",
            Self::V3_5 => "3.5.0",
            Self::V3_6 => "3.6.0",
            Self::V3_7 => "3.7.0-experimental",
        }
    }

    /// The version that a parsed text names, if Fledge reads it.
    pub(crate) fn from_semver(semver: &Semver<'_>) -> Option<Self> {
        Self::ALL.into_iter().find(|version| Semver::parse(version.name()).as_ref() == Some(semver))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A semantic version as Ignition takes it apart (coreos/go-semver): numbers may have leading zeros.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Semver<'a> {
    pub(crate) major: i64,
    pub(crate) minor: i64,
    pub(crate) patch: i64,
    pub(crate) pre_release: Option<&'a str>,
    pub(crate) metadata: Option<&'a str>,
}

impl<'a> Semver<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (text, metadata) = split_off(text, '+');
        let (text, pre_release) = split_off(text, '-');
        let identifiers = pre_release.into_iter().chain(metadata);
        for identifier in identifiers {
            let valid = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            if !identifier.split('.').all(valid) {
                return None;
            }
        }
        let mut numbers = text.splitn(3, '.').map(|number| number.parse().ok());
        let (major, minor, patch) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some(Self { major, minor, patch, pre_release, metadata })
    }
}

fn split_off(text: &str, delimiter: char) -> (&str, Option<&str>) {
    match text.split_once(delimiter) {
        Some((text, rest)) => (text, Some(rest).filter(|rest| !rest.is_empty())),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_known_versions_are_known() {
        for version in Version::ALL {
            assert_eq!(Version::from_semver(&Semver::parse(version.name()).unwrap()), Some(version));
        }
        assert_eq!(Version::ALL.last(), Some(&Version::LATEST));
        assert_eq!(Version::ALL.iter().rfind(|version| !version.name().contains('-')), Some(&Version::STABLE));
        for text in [
            "3.7.0",
            "3.7.0-experiment",
            "3.7.0-experimental+1",
            "3.8.0-experimental",
            "3.6.0-experimental",
            "3.6.1",
            "3.6.0-rc1",
            "3.6.0+build",
            "2.4.0",
            "4.0.0",
        ] {
            assert_eq!(Version::from_semver(&Semver::parse(text).unwrap()), None, "{text}");
        }
        for text in ["", "3", "3.6", "3.6.0.0", "v3.6.0", "3.6.x", "latest", "3.6.0-a..b", "3..0"] {
            assert_eq!(Semver::parse(text), None, "{text}");
        }
    }
}
