// SPDX-License-Identifier: Apache-2.0
//! What one stage leaves for the next: the cached configuration and the state file, both secret.

use std::fs;
use std::io;

use fledge_core::config::{self, Config, Ignition};
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

/// What [`load`] finds.
#[derive(Debug)]
pub struct Loaded {
    /// The operator's configuration over the distribution's.
    pub config: Config,
    /// How the operator's wants things fetched: as in Ignition, the distribution's has no say in that.
    pub rules: Ignition,
    /// Where all of it was written.
    pub sources: Sources,
    /// What earlier stages left.
    pub state: State,
}

/// What a configuration says about fetching, without what it refers to, which may be long.
pub fn rules(ignition: &Ignition) -> Ignition {
    let Ignition { proxy, security, timeouts, .. } = ignition;
    Ignition { proxy: proxy.clone(), security: security.clone(), timeouts: timeouts.clone(), ..Ignition::default() }
}

/// What the stages after `fetch` start from: the operator's configuration merged anew over the distribution's (which other
/// programs may have added to since), where all of it was written, and what earlier stages left.
///
/// # Errors
/// There is no cache, or one of the files can't be read or understood.
pub fn load(args: &StageArgs) -> Result<Loaded, Vec<Failure>> {
    load_from(args, &Surroundings::from_environment())
}

/// [`load`], for other surroundings than the machine's.
///
/// # Errors
/// As [`load`].
pub fn load_from(args: &StageArgs, surroundings: &Surroundings) -> Result<Loaded, Vec<Failure>> {
    let state = read(args).map_err(|failure| vec![failure])?;
    let user = read_cache(args, &state).map_err(|failure| vec![failure])?;
    let mut readings = Readings { sources: state.sources.clone(), told: true, ..Readings::default() };
    let base = readings.read_base(surroundings, &args.platform)?;
    let rules = rules(&user.ignition);
    Ok(Loaded { config: config::merge(base, user), rules, sources: readings.sources, state })
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

/// The operator's configuration as it will be cached.
#[derive(Debug)]
pub struct Cache {
    text: Vec<u8>,
    state: State,
}

impl Cache {
    /// Has it in the form of the cache, and remembers where its items come from.
    ///
    /// # Errors
    /// There is no memory left.
    pub fn of(config: &Config, mut state: State) -> Result<Self, Failure> {
        let text = serde_json::to_vec(config)
            .map_err(|error| Failure::new("preparing the configuration for the cache", error.to_string()))?;
        state.remember(config, &text);
        Ok(Self { text, state })
    }

    /// Writes it, after the state file, which must be there first: who finds the cache goes on.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn write(self, args: &StageArgs) -> Result<(), Failure> {
        write(args, &self.state)?;
        atomic::write(&args.config_cache, CACHE_MODE, &self.text).map_err(|error| {
            Failure::new(format!("writing the cached configuration {}", args.config_cache.display()), error.to_string())
        })
    }
}
