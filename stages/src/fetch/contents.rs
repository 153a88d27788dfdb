// SPDX-License-Identifier: Apache-2.0
//! The contents of many files, side by side, each straight into the file system that will hold it.

use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fledge_core::config;
use fledge_core::diag::{Failure, Place};

use super::{Error, Fetcher, Source};
use crate::host::net::Session;
use crate::host::temporary::Temporary;

/// How many are fetched at once, unless told otherwise.
pub const PARALLEL: usize = 16;

/// Contents to be fetched.
#[derive(Debug)]
pub struct Job<'r, I> {
    /// By which the caller knows it again.
    pub id: I,
    /// What to fetch.
    pub resource: &'r config::Resource,
    /// Which part of which configuration asked for it.
    pub place: Option<Place>,
    /// A directory of the file system that will hold the contents; best the one that the file will stand in.
    pub directory: OwnedFd,
}

/// Contents that were fetched, decompressed and verified. The file's offset is 0.
#[derive(Debug)]
pub struct Fetched<I> {
    /// That of the job.
    pub id: I,
    /// The contents, still without a name.
    pub file: Temporary,
    /// How many bytes they are.
    pub size: u64,
}

/// Fetches all, in the order of the jobs. When one fails, the others are given up; nothing is left of them.
///
/// # Errors
/// The first failure, with the place of its job.
pub fn fetch_all<I: Send>(fetcher: &Fetcher, jobs: Vec<Job<'_, I>>, parallel: usize) -> Result<Vec<Fetched<I>>, Error> {
    let session = fetcher.client.session();
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let threads = parallel.clamp(1, jobs.len().max(1));
    let slots: Vec<Mutex<Slot<'_, I>>> = jobs.into_iter().map(|job| Mutex::new(Slot::Waiting(job))).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(slot) = slots.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(job) = take(slot) else { return };
            match fetch(fetcher, &session, job) {
                Ok(done) => put(slot, done),
                Err(error) => {
                    if let Ok(mut failed) = failed.lock() {
                        // Those that are given up because of the first fail after it.
                        failed.get_or_insert(error);
                    }
                    session.cancel().set();
                }
            }
            if session.cancel().is_set() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        // The caller's thread works too. Fewer threads than wanted are slower, nothing else.
        let more: Vec<_> =
            (1..threads).map_while(|_| std::thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        work();
        drop(more);
    });
    if let Some(error) = failed.into_inner().unwrap_or_default() {
        return Err(error);
    }
    let done = slots
        .into_iter()
        .filter_map(|slot| match slot.into_inner() {
            Ok(Slot::Done(done)) => Some(done),
            _ => None,
        })
        .collect();
    Ok(done)
}

enum Slot<'r, I> {
    Waiting(Job<'r, I>),
    Taken,
    Done(Fetched<I>),
}

fn take<'r, I>(slot: &Mutex<Slot<'r, I>>) -> Option<Job<'r, I>> {
    let mut slot = slot.lock().ok()?;
    match std::mem::replace(&mut *slot, Slot::Taken) {
        Slot::Waiting(job) => Some(job),
        _ => None,
    }
}

fn put<I>(slot: &Mutex<Slot<'_, I>>, fetched: Fetched<I>) {
    if let Ok(mut slot) = slot.lock() {
        *slot = Slot::Done(fetched);
    }
}

fn fetch<I>(fetcher: &Fetcher, session: &Session, job: Job<'_, I>) -> Result<Fetched<I>, Error> {
    let at = |failure: Failure| {
        Error::Failed(match &job.place {
            Some(place) => failure.at(place.clone()),
            None => failure,
        })
    };
    let mut open = || Temporary::new(job.directory.as_fd()).map(Destination);
    let (size, Destination(file)) = match Source::of(job.resource).map_err(at)? {
        Some(source) => {
            source.allowed(fetcher.conditions.offline)?;
            source.fetch(fetcher, session, &mut open, u64::MAX).map_err(at)?
        }
        None => (0, open().map_err(|error| at(Failure::new("making a file", error.to_string())))?),
    };
    file.file().rewind().map_err(|error| at(Failure::new("reading a file again", error.to_string())))?;
    Ok(Fetched { id: job.id, file, size })
}

/// A temporary file as a place to write to.
struct Destination(Temporary);

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
