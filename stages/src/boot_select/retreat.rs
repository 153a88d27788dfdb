// SPDX-License-Identifier: Apache-2.0
//! The pivot into the deployment that was selected, and the way back if that can't be done.

use std::fs;
use std::io;

use fledge_core::counting::{COMMAND_LINE, SELECTION, Selection, Verdict};
use fledge_core::diag::Failure;

use super::{Places, in_words, leave, leave_flag};
use crate::pivot::Before;

/// What a unit of ours begins with.
pub(super) const OURS: &str = "# Written by fledge boot-select: ";

/// Pivots. `attempt` pivots by another command line than the machine's own, if one is given. If that of a fallback leads nowhere, what it did
/// is taken back, the record is put right, and the machine's own counts: a boot isn't refused because of a fallback.
///
/// # Errors
/// The machine's own command line leads nowhere either, or what was done by the other one can't be taken back.
pub fn pivot(places: &Places, attempt: &dyn Fn(Option<&str>) -> Result<(), Failure>) -> Result<(), Failure> {
    let path = places.runtime.join(COMMAND_LINE);
    let chosen = match fs::read_to_string(&path) {
        Ok(chosen) => chosen,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return attempt(None),
        Err(error) => {
            give_up(places, &Failure::new(format!("reading {}", path.display()), error.to_string()));
            return attempt(None);
        }
    };
    let before = Before::look(&places.root);
    let Err(failure) = attempt(Some(chosen.trim())) else { return Ok(()) };
    let restored = before.map_err(|error| Failure::new("finding what was mounted before", error.to_string()));
    if let Err(other) = restored.and_then(|before| before.restore()) {
        return Err(Failure { why: format!("{}; and {}", failure.why, in_words(&other)), ..failure });
    }
    give_up(places, &failure);
    attempt(None)
}

/// The bootloader's deployment boots after all: nothing may say otherwise.
fn give_up(places: &Places, failure: &Failure) {
    log::warn!("{failure}");
    let record = places.runtime.join(SELECTION);
    let selection = fs::read(&record).map_err(|error| error.to_string());
    let selection = selection.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    let mut selection = selection.unwrap_or_else(|why| {
        log::warn!("reading {}: {why}", record.display());
        Selection::not_counted(Verdict::Exhausted, None, "")
    });
    selection.stay(&in_words(failure));
    let unit = places.units.join("var.mount");
    let is_ours = fs::read_to_string(&unit).is_ok_and(|text| text.starts_with(OURS));
    for path in [Some(places.runtime.join(COMMAND_LINE)), Some(unit).filter(|_| is_ours)].into_iter().flatten() {
        if let Err(error) = fs::remove_file(&path) {
            log::warn!("removing {}: {error}", path.display());
        }
    }
    if let Err(error) = leave_flag(&places.runtime, &selection.reason) {
        log::warn!("leaving the flag that all deployments are used up: {error}");
    }
    if let Err(failure) = leave(&selection, &places.runtime) {
        log::warn!("{failure}");
    }
}
