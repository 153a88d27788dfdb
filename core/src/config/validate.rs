// SPDX-License-Identifier: Apache-2.0
//! The rules of the specification, one file a section.
//!
//! Each section's rules are about that section alone; [`super::model::Value::check`] goes through the tree and finds entries that stand
//! in a list twice. What differs between versions stands in [`super::schema`].

mod common;
mod ignition;
mod luks;
mod partition;
mod passwd;
mod resource;
mod storage;
mod systemd;

use alloc::vec::Vec;

pub use resource::token;

use super::model::{Checking, Value as _};
use super::remark::Remarks;
use super::types::Config;
use super::version::Version;
use crate::diag::{Diagnostic, Place};
use crate::json::{Path, PathBuf, StepBuf};
use crate::origin::Sources;

/// What a remark is about when no configuration wrote it.
const MERGED: &str = "the merged config";

/// Checks what merging made, by the rules of the newest version. Each remark names the entry that has the fault as the
/// configuration that wrote it does.
pub fn validate(config: &Config, sources: &Sources) -> Vec<Diagnostic> {
    let mut remarks = Remarks::default();
    config.check(&Path::ROOT, &mut Checking { version: Version::LATEST, remarks: &mut remarks });
    remarks.into_diagnostics_at(MERGED, |path| place_of(config, path, sources))
}

/// The place of a node of a merged configuration, as the configuration that wrote its list entry names it.
pub(super) fn place_of(config: &Config, path: &PathBuf, sources: &Sources) -> Place {
    found_place(config, path, sources).unwrap_or_else(|| Place {
        source: MERGED.into(),
        path: alloc::format!("{path}"),
        position: None,
    })
}

fn found_place(config: &Config, path: &PathBuf, sources: &Sources) -> Option<Place> {
    let (depth, origin) = config.origin_on(&path.0, 0)?;
    let (item, below) = (path.0.get(..depth)?, path.0.get(depth..)?);
    let section = match item.split_last()? {
        (StepBuf::Index(_), section) => PathBuf(section.to_vec()),
        (StepBuf::Key(_), _) => return None,
    };
    let mut place = sources.place(origin, &alloc::format!("{section}"))?;
    // A path's text begins with `$`, which stands in the place already.
    place.path.extend(alloc::format!("{}", PathBuf(below.to_vec())).strip_prefix('$'));
    Some(place)
}

#[cfg(test)]
mod tests;
