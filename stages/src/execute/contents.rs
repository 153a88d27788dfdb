// SPDX-License-Identifier: Apache-2.0
//! Fetches what a plan's files are made of, before any of them is written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::AsFd;

use fledge_core::diag::Failure;
use fledge_core::facts::Appended;
use fledge_core::path;
use fledge_core::plan::{Contents as Planned, Plan, Step};
use fledge_core::verification::{Function, Hasher};

use crate::fetch::contents::{Job, PARALLEL, fetch_all};
use crate::fetch::{Error, Fetcher};
use crate::host::fs::{self, Root};
use crate::host::temporary::Temporary;

/// Where keys go: no disk is below it.
const MEMORY: &str = "/run";

/// Which contents: the number of the step, and 0 for what the file begins with or 1 and up for what is appended; of an encrypted
/// volume, as [`fledge_core::plan::luks::Step::resources`] has them.
pub(super) type Id = (usize, usize);

/// What was fetched and isn't used yet.
#[derive(Debug, Default)]
pub(super) struct Contents {
    fetched: BTreeMap<Id, Temporary>,
    /// What is appended to which file.
    appended: Vec<(String, Appended)>,
}

impl Contents {
    pub(super) fn take(&mut self, id: Id) -> Option<Temporary> {
        self.fetched.remove(&id)
    }

    /// What the plan appends to the file at a path.
    pub(super) fn appended(&self, path: &str) -> Option<&Appended> {
        self.appended.iter().find(|(appended, _)| appended == path).map(|(_, appended)| appended)
    }

    /// Looks at what is appended to files that are kept, if the plan has that noted.
    pub(super) fn measured(mut self, plan: &Plan) -> Result<Self, Failure> {
        for (number, planned) in plan.steps.iter().enumerate() {
            let Step::WriteFile { path, contents: None, append, .. } = &planned.step else { continue };
            if !append.is_empty() {
                let appended = self
                    .measure(number, append)
                    .map_err(|error| Failure::new(planned.step.to_string(), error.to_string()))?;
                self.appended.push((path.clone(), appended));
            }
        }
        Ok(self)
    }

    fn measure(&self, number: usize, append: &[Planned]) -> io::Result<Appended> {
        let mut hasher = Hasher::new(Function::Sha512);
        let mut size = 0;
        for (part, contents) in (1..).zip(append) {
            match (self.fetched.get(&(number, part)), contents) {
                (Some(fetched), _) => {
                    fetched.file().rewind()?;
                    size += fs::feed(&mut hasher, &mut fetched.file())?;
                }
                (None, Planned::Inline(bytes)) => {
                    hasher.update(bytes);
                    size += bytes.len() as u64;
                }
                (None, _) => {}
            }
        }
        Ok(Appended { size, digest: hasher.finish().to_string() })
    }
}

/// What has to be fetched for a plan. Each goes to the file system that will hold it.
pub(super) fn jobs<'p>(plan: &'p Plan, root: &Root) -> Result<Vec<Job<'p, Id>>, Failure> {
    let mut jobs = Vec::new();
    let removed: Vec<&str> = plan
        .steps
        .iter()
        .filter_map(|planned| match &planned.step {
            Step::Remove { path } => Some(path.as_str()),
            _ => None,
        })
        .collect();
    for (number, planned) in plan.steps.iter().enumerate() {
        if let Step::Luks(step) = &planned.step {
            for (part, resource) in step.resources().into_iter().enumerate() {
                let directory = File::open(MEMORY)
                    .map_err(|error| Failure::new(format!("opening {MEMORY}"), error.to_string()))?
                    .into();
                let place = planned.place.clone();
                jobs.push(Job { id: (number, part), resource, place, directory });
            }
            continue;
        }
        let Step::WriteFile { path, contents, append, .. } = &planned.step else { continue };
        let parts = contents.iter().map(|contents| (0, contents)).chain((1..).zip(append));
        for (part, contents) in parts {
            let Planned::Resource(resource) = contents else { continue };
            // Not into a directory that goes before the file comes.
            let path = removed.iter().find(|removed| path::is_within(path, removed)).copied().unwrap_or(path);
            let directory = root
                .nearest_directory(path)
                .and_then(|directory| directory.as_fd().try_clone_to_owned())
                .map_err(|error| Failure::new(planned.step.to_string(), error.to_string()))?;
            jobs.push(Job { id: (number, part), resource, place: planned.place.clone(), directory });
        }
    }
    Ok(jobs)
}

/// Fetches all, side by side.
pub(super) fn fetch(jobs: Vec<Job<'_, Id>>, fetcher: Option<&Fetcher>) -> Result<Contents, Failure> {
    let Some(fetcher) = fetcher else {
        return Err(Failure::new("fetching contents", "this stage has nothing to fetch with"));
    };
    let mut contents = BTreeMap::new();
    for fetched in fetch_all(fetcher, jobs, PARALLEL).map_err(failure)? {
        contents.insert(fetched.id, fetched.file);
    }
    Ok(Contents { fetched: contents, appended: Vec::new() })
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Failed(failure) => failure,
        Error::NeedNet(url) => Failure::new(format!("fetching {url}"), "there is no network in this stage")
            .remedy("give the contents as a data URL, or leave --offline out"),
    }
}
