// SPDX-License-Identifier: Apache-2.0
//! The stages `fetch-offline` and `fetch`: from wherever the operator's configuration stands to the cache.
//!
//! acquire, parse, render (`config.replace`, `config.merge`), certificate authorities into data URLs, validate, refuse what
//! this build can't do, cache. Offline, all of it is tried without a network. If that can't be done, the flag file asks for one and
//! `fetch` starts over; if only files need it, it is asked for, but the cache is written already.

mod authorities;
mod render;

use std::time::{Duration, Instant};

use fledge_core::config::{self, Config, Ignition};
use fledge_core::diag::{Diagnostic, Failure, Place};
use fledge_core::go;
use fledge_core::network;
use fledge_core::origin::{SourceKind, Sources};
use fledge_core::report::StageOutcome;
use fledge_core::state::State;

use crate::fetch::{Conditions, Error, Fetcher};
use crate::host::net::Settings;
use crate::host::{atomic, journal};
use crate::provider::cmdline::Named;
use crate::provider::{self, LIMIT, Platform, Raw, Surroundings, cmdline, decompress, disk, system};
use crate::reading::Readings;
use crate::run::{Journal, StageArgs};
use crate::state;
use render::Renderer;

/// Why the configuration could not be had.
#[derive(Debug)]
enum Stop {
    /// It, or something that it refers to, needs a network: what.
    NeedNet(String, Option<Place>),
    /// It can't be had, or is refused.
    Failed(Vec<Failure>),
}

impl Stop {
    /// For those who can't ask for a network.
    fn into_failures(self, what: &str) -> Vec<Failure> {
        match self {
            Self::NeedNet(need, place) => {
                let failure = Failure::new(what, format!("there is no network for {need}"))
                    .remedy("give it as a data URL, or leave --offline out");
                vec![match place {
                    Some(place) => failure.at(place),
                    None => failure,
                }]
            }
            Self::Failed(failures) => failures,
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(vec![failure])
    }
}

impl From<Vec<Failure>> for Stop {
    fn from(failures: Vec<Failure>) -> Self {
        Self::Failed(failures)
    }
}

/// Runs `fetch-offline` or `fetch`.
///
/// # Errors
/// Why there is no configuration, or what is wrong with it.
pub fn run(offline: bool, args: &StageArgs, journal: &mut Journal) -> Result<StageOutcome, Vec<Failure>> {
    let end = end(args).map_err(|failure| vec![failure])?;
    let conditions = Conditions { offline, end, ..Conditions::of_machine(&args.platform) };
    run_in(conditions, args, &Surroundings::from_environment(), journal)
}

/// What later stages fetch with: by the rules of the cached configuration (time limits, certificate authorities), within the
/// operator's patience.
///
/// # Errors
/// A certificate authority or the operator's time limit can't be understood.
pub fn fetcher(args: &StageArgs, rules: &Ignition, sources: &Sources) -> Result<Fetcher, Vec<Failure>> {
    let end = end(args).map_err(|failure| vec![failure])?;
    fetcher_in(Conditions { end, ..Conditions::of_machine(&args.platform) }, rules, sources)
}

/// [`fetcher`], for other conditions than the machine's.
///
/// # Errors
/// As [`fetcher`].
pub fn fetcher_in(conditions: Conditions, rules: &Ignition, sources: &Sources) -> Result<Fetcher, Vec<Failure>> {
    let mut readings = Readings { sources: sources.clone(), ..Readings::default() };
    let mut renderer = Renderer::new(Fetcher::new(conditions, Settings::default()), &mut readings);
    match renderer.follow(rules) {
        Ok(()) => Ok(renderer.into_fetcher()),
        Err(stop) => Err(stop.into_failures("preparing to fetch")),
    }
}

/// [`run`], for other conditions and surroundings than the machine's.
///
/// # Errors
/// As [`run`].
pub fn run_in(
    conditions: Conditions,
    args: &StageArgs,
    surroundings: &Surroundings,
    journal: &mut Journal,
) -> Result<StageOutcome, Vec<Failure>> {
    let offline = conditions.offline;
    let mut readings = Readings::default();
    let result = provider::platform(&args.platform)
        .map_err(Stop::from)
        .and_then(|platform| fetch(conditions, args, surroundings, platform, &mut readings));
    journal.remarks.append(&mut readings.remarks);
    journal.sources = Some(readings.sources);
    let (needs, outcome) = match result {
        Ok(needs) if !offline || needs.is_empty() => return Ok(StageOutcome::Done),
        Ok(needs) => (needs.join(", "), StageOutcome::Done),
        Err(Stop::NeedNet(what, _)) => (what, StageOutcome::NeedsNetwork),
        Err(Stop::Failed(failures)) => return Err(failures),
    };
    log::info!("a network is needed for {needs}");
    ask_for_network(args).map_err(|failure| vec![failure])?;
    Ok(outcome)
}

/// Fetches and caches; returns what needs a network later.
fn fetch(
    conditions: Conditions,
    args: &StageArgs,
    surroundings: &Surroundings,
    platform: &Platform,
    readings: &mut Readings,
) -> Result<Vec<String>, Stop> {
    // As Ignition has it: until a configuration says otherwise, the flag bounds each request.
    let total = Some(args.fetch_timeout).filter(|timeout| !timeout.is_zero());
    let fetcher = Fetcher::new(conditions, Settings { total, ..Settings::default() });
    let (provider, raw) = acquire(&fetcher, args, surroundings, platform)?;
    log::info!("the configuration comes from {}", raw.name);
    let given = !raw.text.is_empty();
    let user = rendered(raw, fetcher, readings)?;
    let mut state = State::default();
    state.sources = readings.sources.clone();
    let base = readings.read_base(surroundings, platform.id)?;
    // It becomes a part of the whole, without a copy.
    let cache = state::Cache::of(&user, state)?;
    let full: Config = config::merge(base, user);
    // Before anything is written: half of what was asked for is worse than nothing.
    refuse_gaps(&full, readings)?;
    cache.write(args)?;
    tell_journal(provider, given, readings);
    Ok(network::needs(&full))
}

/// The configuration of a text with all that it refers to, checked.
fn rendered(raw: Raw, fetcher: Fetcher, readings: &mut Readings) -> Result<Config, Stop> {
    let read = readings.read(&raw, SourceKind::User, false)?;
    let Raw { name, text } = raw;
    drop(text);
    let config = if let Some(config) = read {
        Renderer::new(fetcher, readings).render(config)?
    } else {
        log::info!("{name} has no configuration for this machine");
        config::empty()
    };
    refuse(config::validate(&config, &readings.sources), readings)?;
    Ok(config)
}

/// What a machine would make of a configuration that is at hand: read, rendered (what it refers to is fetched) and checked, but
/// without the distribution's own. For `fledge plan`, away from the machine.
///
/// # Errors
/// Why a machine would refuse it.
pub fn preview(raw: Raw, readings: &mut Readings) -> Result<Config, Vec<Failure>> {
    let raw = decompress(raw).map_err(|failure| vec![failure])?;
    let config = at_hand(raw, Conditions::default(), readings)?;
    refuse_gaps(&config, readings)?;
    Ok(config)
}

/// A configuration that is at hand: read, rendered and checked. For `ignition-apply`, which takes no empty one.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_at_hand(raw: Raw, conditions: Conditions, readings: &mut Readings) -> Result<Config, Vec<Failure>> {
    if raw.text.is_empty() {
        let failure = Failure::new(format!("reading the configuration {}", raw.name), "it is empty");
        return Err(vec![failure.remedy("give a configuration, the smallest has nothing but ignition.version")]);
    }
    at_hand(raw, conditions, readings)
}

fn at_hand(raw: Raw, conditions: Conditions, readings: &mut Readings) -> Result<Config, Vec<Failure>> {
    let fetcher = Fetcher::new(conditions, Settings::default());
    rendered(raw, fetcher, readings).map_err(|stop| stop.into_failures("reading the configuration"))
}

/// Refuses what this build can't do.
///
/// # Errors
/// All of that which the configuration asks for.
pub(super) fn refuse_gaps(config: &Config, readings: &mut Readings) -> Result<(), Vec<Failure>> {
    let found = config::unsupported(config, &readings.sources);
    refuse(found, readings).map_err(|stop| stop.into_failures("reading the configuration"))
}

fn refuse(found: Vec<Diagnostic>, readings: &mut Readings) -> Result<(), Stop> {
    let refused = readings.sort_out(found, "checking the configuration");
    if refused.is_empty() { Ok(()) } else { Err(refused.into()) }
}

/// As upstream: the distribution's configurations are one, whether there are any or not.
fn tell_journal(provider: &str, given: bool, readings: &Readings) {
    journal::fetched("base", "system", false);
    if given {
        journal::fetched("user", provider, false);
    }
    for path in &readings.referenced {
        journal::fetched("user", path, true);
    }
}

/// The operator's configuration: from the command line, `user.ign`, or the platform, and which of them in upstream's words.
fn acquire(
    fetcher: &Fetcher,
    args: &StageArgs,
    surroundings: &Surroundings,
    platform: &Platform,
) -> Result<(&'static str, Raw), Stop> {
    let (provider, raw) = match cmdline::named(&args.cmdline)? {
        Some(Named::Url(resource)) => {
            let name = fledge_core::url::redact(resource.source.as_deref().unwrap_or_default());
            let text = fetcher.to_buffer(&resource, LIMIT).map_err(|error| match error {
                Error::NeedNet(what) => Stop::NeedNet(format!("the configuration {what}"), None),
                Error::Failed(failure) => Stop::from(failure.at(cmdline::place("ignition.config.url"))),
            })?;
            ("cmdline", Raw { name, text })
        }
        Some(Named::Disk(on_disk)) => {
            let read = disk::read(&on_disk, surroundings);
            ("cmdline", read.map_err(|failure| failure.at(cmdline::place("ignition.config.device")))?)
        }
        None => hosted(fetcher, surroundings, platform)?,
    };
    Ok((provider, decompress(raw)?))
}

/// What the initramfs or the platform holds.
fn hosted(fetcher: &Fetcher, surroundings: &Surroundings, platform: &Platform) -> Result<(&'static str, Raw), Stop> {
    if let Some(raw) = system::user(surroundings)? {
        return Ok(("system", raw));
    }
    if platform.needs_network && fetcher.is_offline() {
        return Err(Stop::NeedNet(format!("asking the platform {}", platform.id), None));
    }
    Ok((platform.id, (platform.ask)(surroundings)?))
}

/// When the operator's patience ends, if the command line says so.
fn end(args: &StageArgs) -> Result<Option<Instant>, Failure> {
    const KEY: &str = "fledge.fetch.timeout";
    let Some(text) = args.cmdline.value(KEY) else { return Ok(None) };
    let seconds = text.parse().ok().map(Duration::from_secs);
    let limit = seconds.or_else(|| go::duration(text)).ok_or_else(|| {
        Failure::new("reading the time limit for fetching", format!("{text:?} is no duration"))
            .at(cmdline::place(KEY))
            .remedy("write seconds, or numbers with units: 90, 90s, 5m, 1h30m, 1.5s")
    })?;
    Ok(Instant::now().checked_add(limit))
}

fn ask_for_network(args: &StageArgs) -> Result<(), Failure> {
    atomic::write(&args.neednet, 0o644, b"").map_err(|error| {
        Failure::new(format!("asking for a network by the file {}", args.neednet.display()), error.to_string())
    })
}
