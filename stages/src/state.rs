// SPDX-License-Identifier: Apache-2.0
//! What one stage leaves for the next: the cached configuration and the state file, both secret.

use std::fs;
use std::io;

use fledge_core::config::{self, Config};
use fledge_core::diag::Failure;
use fledge_core::origin::Sources;
use fledge_core::state::State;

use crate::host::atomic;
use crate::provider::Surroundings;
use crate::reading::Readings;
use crate::run::StageArgs;

/// The mode of the cache: upstream's.
const CACHE_MODE: u32 = 0o640;
const STATE_MODE: u32 = 0o600;

/// What the stages after `fetch` start from: the operator's configuration merged anew over the distribution's (which other
/// programs may have added to since), where all of it was written, and what earlier stages left.
///
/// # Errors
/// There is no cache, or one of the files can't be read or understood.
pub fn load(args: &StageArgs) -> Result<(Config, Sources, State), Vec<Failure>> {
    load_from(args, &Surroundings::from_environment())
}

/// [`load`], for other surroundings than the machine's.
///
/// # Errors
/// As [`load`].
pub fn load_from(args: &StageArgs, surroundings: &Surroundings) -> Result<(Config, Sources, State), Vec<Failure>> {
    let state = read(args).map_err(|failure| vec![failure])?;
    let user = read_cache(args, &state).map_err(|failure| vec![failure])?;
    let mut readings = Readings { sources: state.sources.clone(), ..Readings::default() };
    let base = readings.read_base(surroundings, &args.platform)?;
    Ok((config::merge(base, user), readings.sources, state))
}

fn read_cache(args: &StageArgs, state: &State) -> Result<Config, Failure> {
    let path = args.config_cache.display();
    let failed = |why: String| {
        Failure::new(format!("reading the cached configuration {path}"), why)
            .remedy("the stages fetch-offline or fetch write it: see why they did not")
    };
    let text = fs::read(&args.config_cache).map_err(|error| failed(error.to_string()))?;
    let name = format!("{path}");
    let mut config = config::read_cache(&text, &name).map_err(|refusal| failed(refusal.to_string()))?;
    if !state.recall(&mut config, &text) {
        log::warn!("{path} is not what the fetch stage wrote: messages can't say where its items come from");
    }
    Ok(config)
}

/// Reads the state file; without one, nothing has been left yet.
///
/// # Errors
/// It can't be read or understood.
pub fn read(args: &StageArgs) -> Result<State, Failure> {
    let failed = |why: String| {
        Failure::new(format!("reading the state file {}", args.state_file.display()), why)
            .remedy("boot again, so that all stages run again from the start")
    };
    match fs::read(&args.state_file) {
        Ok(text) => State::parse(&text).map_err(|error| failed(error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Writes the state file, for root alone.
///
/// # Errors
/// Whatever the operating system says.
pub fn write(args: &StageArgs, state: &State) -> Result<(), Failure> {
    let text = state.to_text().map_err(io::Error::from);
    text.and_then(|text| atomic::write(&args.state_file, STATE_MODE, &text)).map_err(|error| {
        Failure::new(format!("writing the state file {}", args.state_file.display()), error.to_string())
    })
}

/// Writes the operator's configuration to the cache, and where its items come from to the state file, which must be there first: who
/// finds the cache goes on.
///
/// # Errors
/// Whatever the operating system says.
pub fn write_cache(args: &StageArgs, config: &Config, mut state: State) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new(format!("writing the cached configuration {}", args.config_cache.display()), error.to_string())
    };
    let text = serde_json::to_vec(config).map_err(|error| failed(error.into()))?;
    state.remember(config, &text);
    write(args, &state)?;
    atomic::write(&args.config_cache, CACHE_MODE, &text).map_err(failed)
}
