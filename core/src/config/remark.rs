// SPDX-License-Identifier: Apache-2.0
//! Collects what there is to say about a configuration, before anybody looks up the lines.

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::diag::{Diagnostic, Place, Severity};
use crate::json::{Path, PathBuf, Places};

/// More than this of one severity isn't read by anybody; what follows is counted.
const LIMIT: usize = 100;

/// Which end of a member a remark points at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Aim {
    Key,
    Value,
}

/// One remark, still without line and column.
#[derive(Debug)]
pub(crate) struct Remark {
    severity: Severity,
    path: PathBuf,
    aim: Aim,
    reason: String,
    remedy: Option<String>,
}

impl Remark {
    /// Adds what to write instead.
    pub(crate) fn remedy(&mut self, remedy: impl Into<String>) -> &mut Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Points at the key instead of the value.
    pub(crate) fn at_key(&mut self) -> &mut Self {
        self.aim = Aim::Key;
        self
    }
}

/// All remarks about one configuration.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    list: Vec<Remark>,
    errors: usize,
    warnings: usize,
    /// Takes what is beyond the limit.
    spill: Option<Remark>,
}

impl Remarks {
    /// The configuration is refused because of this.
    pub(crate) fn error(&mut self, at: &Path<'_>, reason: impl Into<String>) -> &mut Remark {
        self.errors += 1;
        let keep = self.errors <= LIMIT;
        self.push(Severity::Error, at, reason.into(), keep)
    }

    /// The configuration is usable nevertheless.
    pub(crate) fn warning(&mut self, at: &Path<'_>, reason: impl Into<String>) -> &mut Remark {
        self.warnings += 1;
        let keep = self.warnings <= LIMIT;
        self.push(Severity::Warning, at, reason.into(), keep)
    }

    fn push(&mut self, severity: Severity, at: &Path<'_>, reason: String, keep: bool) -> &mut Remark {
        let path = if keep { at.to_buf() } else { PathBuf::default() };
        let remark = Remark { severity, path, aim: Aim::Value, reason, remedy: None };
        if !keep {
            return self.spill.insert(remark);
        }
        self.list.push(remark);
        let last = self.list.len() - 1;
        #[allow(clippy::indexing_slicing, reason = "pushed above")]
        &mut self.list[last]
    }

    /// Whether the configuration is refused.
    pub(crate) fn refused(&self) -> bool {
        self.errors > 0
    }

    /// The paths that remarks are about.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.list.iter().map(|remark| &remark.path)
    }

    /// With lines and columns from `places`, in the order of the text, errors first.
    pub(crate) fn into_diagnostics(self, source: &str, places: &Places) -> Vec<Diagnostic> {
        let place = |path: &PathBuf, aim: Aim| {
            let position = places.get(path).map(|(found, exact)| match aim {
                Aim::Key if exact => found.key,
                _ => found.value,
            });
            Place { source: source.into(), path: alloc::format!("{path}"), position }
        };
        self.finish(source, place)
    }

    /// With places that somebody else finds.
    pub(crate) fn into_diagnostics_at(self, source: &str, mut place: impl FnMut(&PathBuf) -> Place) -> Vec<Diagnostic> {
        self.finish(source, |path, _| place(path))
    }

    fn finish(self, source: &str, mut place: impl FnMut(&PathBuf, Aim) -> Place) -> Vec<Diagnostic> {
        let key = |d: &Diagnostic| (Reverse(d.severity), d.place.position.map(|at| (at.line, at.column)));
        let mut diagnostics: Vec<Diagnostic> = Vec::with_capacity(self.list.len());
        for Remark { severity, path, aim, reason, remedy } in self.list {
            let new = Diagnostic { severity, place: place(&path, aim), reason, remedy };
            let after = diagnostics.partition_point(|known| key(known) <= key(&new));
            diagnostics.insert(after, new);
        }
        for (severity, count, what) in
            [(Severity::Error, self.errors, "errors"), (Severity::Warning, self.warnings, "warnings")]
        {
            if count > LIMIT {
                let place = Place { source: source.into(), ..Place::default() };
                let reason = alloc::format!("{} more {what} aren't shown", count - LIMIT);
                diagnostics.push(Diagnostic { severity, place, reason, remedy: None });
            }
        }
        diagnostics
    }
}
