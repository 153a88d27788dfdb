// SPDX-License-Identifier: Apache-2.0
//! From the texts that were found to configurations, with a record of which texts those were.

use data_encoding::HEXLOWER;
use fledge_core::config::{self, Config, Refusal};
use fledge_core::diag::{Diagnostic, Failure, Place, Severity};
use fledge_core::origin::{Source, SourceKind, Sources};
use sha2::{Digest as _, Sha512};

use crate::provider::{Raw, Surroundings, system};

/// The configurations that were read so far, and what was remarked about them.
#[derive(Debug, Default)]
pub struct Readings {
    /// Which ones.
    pub sources: Sources,
    /// What is surprising about them.
    pub remarks: Vec<Diagnostic>,
    /// Whether an earlier stage has logged that already.
    pub told: bool,
    /// The paths of the URLs by which configurations referred to others, in the order of fetching.
    pub referenced: Vec<String>,
}

impl Readings {
    /// Reads a text. `None` if it has no bytes: that is no configuration, and the source isn't counted.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(&mut self, raw: &Raw, kind: SourceKind, referenced: bool) -> Result<Option<Config>, Vec<Failure>> {
        let mut sources = self.sources.clone();
        let index = sources.add(Source {
            name: raw.name.clone(),
            kind,
            referenced,
            sha512: HEXLOWER.encode(Sha512::digest(&raw.text).as_slice()),
        });
        match config::parse(&raw.text, &raw.name, Some(index)) {
            Ok(parsed) => {
                self.sources = sources;
                self.remark(parsed.warnings);
                Ok(Some(parsed.config))
            }
            Err(Refusal::Empty) => Ok(None),
            Err(Refusal::Invalid(diagnostics)) => Err(self.sort_out(diagnostics, "reading the configuration")),
        }
    }

    /// Reads the distribution's configurations and merges them; without any, the result asks for nothing.
    ///
    /// # Errors
    /// Everything that is wrong with one of them.
    pub fn read_base(&mut self, surroundings: &Surroundings, platform: &str) -> Result<Config, Vec<Failure>> {
        let mut merged = config::empty();
        for raw in system::base(surroundings, platform).map_err(|failure| vec![failure])? {
            match self.read(&raw, SourceKind::Base, false)? {
                Some(config) => merged = config::merge(merged, config),
                None => log::info!("{} is empty", raw.name),
            }
        }
        Ok(merged)
    }

    /// Keeps the warnings and returns the errors as failures.
    pub fn sort_out(&mut self, diagnostics: Vec<Diagnostic>, what: &str) -> Vec<Failure> {
        let (errors, warnings) = diagnostics.into_iter().partition(|found| found.severity == Severity::Error);
        self.remark(warnings);
        let errors: Vec<Diagnostic> = errors;
        errors.into_iter().map(|error| failure(error, what)).collect()
    }

    fn remark(&mut self, warnings: Vec<Diagnostic>) {
        for warning in warnings.iter().filter(|_| !self.told) {
            log::warn!("{warning}");
        }
        self.remarks.extend(warnings);
    }
}

fn failure(error: Diagnostic, what: &str) -> Failure {
    let Diagnostic { place, reason, remedy, .. } = error;
    let Place { source, .. } = &place;
    let failure = Failure::new(format!("{what} {source}").trim_end().to_owned(), reason);
    let failure = match remedy {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    };
    failure.at(place)
}
