// SPDX-License-Identifier: Apache-2.0
//! `ignition.config.replace` and `ignition.config.merge`: from the first configuration to the one that counts.
//!
//! As in Ignition, what a configuration says about fetching (timeouts, proxies, certificate authorities) holds from the moment it has been
//! read, for all that is fetched after it; authorities are kept until another configuration names some.

use fledge_core::config::{self, Config, Ignition, IgnitionConfig, Resource};
use fledge_core::diag::{Failure, Place};
use fledge_core::network;
use fledge_core::origin::SourceKind;
use fledge_core::url::{self, Url};
use fledge_core::verification::{Function, Hasher};
use rustls::pki_types::CertificateDer;

use super::Stop;
use super::authorities::Authorities;
use crate::fetch::{Error, Fetcher, settings};
use crate::provider::{LIMIT, Raw};
use crate::reading::Readings;
use crate::state::rules;

/// Configurations that refer to each other deeper than that go in a circle, by all experience.
const DEPTH: usize = 32;
/// All references of one machine together.
const REFERENCES: usize = 256;

/// Resolves references.
pub(super) struct Renderer<'r> {
    fetcher: Fetcher,
    readings: &'r mut Readings,
    authorities: Authorities,
    trusted: Vec<CertificateDer<'static>>,
    /// The references that lead to where we are: the hash of each, and how it is shown.
    chain: Vec<(String, String)>,
    references: usize,
}

const MERGE: &str = "$.ignition.config.merge";
const REPLACE: &str = "$.ignition.config.replace";
const AUTHORITIES: &str = "$.ignition.security.tls.certificateAuthorities";

impl<'r> Renderer<'r> {
    pub(super) fn new(fetcher: Fetcher, readings: &'r mut Readings) -> Self {
        Self {
            fetcher,
            readings,
            authorities: Authorities::default(),
            trusted: Vec::new(),
            chain: Vec::new(),
            references: 0,
        }
    }

    /// The configuration with all that it refers to, and its certificate authorities in it.
    pub(super) fn render(mut self, config: Config) -> Result<Config, Stop> {
        self.follow(&config.ignition)?;
        let mut rendered = self.resolve(config)?;
        // What merging brought together is fetched now, if it wasn't before.
        self.follow(&rendered.ignition)?;
        self.authorities.embed(&mut rendered.ignition.security.tls.certificate_authorities);
        Ok(rendered)
    }

    /// What is referred to may be as long as all the rest, in the reference itself: each is there once.
    fn resolve(&mut self, mut config: Config) -> Result<Config, Stop> {
        if config.ignition.config.replace.source.is_some() {
            let reference = std::mem::take(&mut config.ignition.config.replace);
            drop(config);
            let place = self.place(&reference, REPLACE);
            let new = self.fetch(&reference, place.as_ref())?;
            drop(reference);
            self.follow(&new.ignition)?;
            let rendered = self.resolve(new);
            self.chain.pop();
            return rendered;
        }
        let children = std::mem::take(&mut config.ignition.config.merge);
        let mut merged = config;
        for reference in &children {
            let place = self.place(reference, MERGE);
            let new = self.fetch(reference, place.as_ref())?;
            let (ours, theirs) = (only(rules(&merged.ignition)), only(rules(&new.ignition)));
            self.follow(&config::merge(ours, theirs).ignition)?;
            let rendered = self.resolve(new)?;
            self.chain.pop();
            merged = config::merge(merged, rendered);
        }
        // As Ignition has it, the references stay: first ours, then those of the others.
        let merge = only(Ignition {
            config: IgnitionConfig { merge: children, ..IgnitionConfig::default() },
            ..Ignition::default()
        });
        Ok(config::merge(merge, merged))
    }

    /// What fetches by the rules that hold now.
    pub(super) fn into_fetcher(self) -> Fetcher {
        self.fetcher
    }

    /// Fetches by a configuration's own rules from now on.
    pub(super) fn follow(&mut self, ignition: &Ignition) -> Result<(), Stop> {
        let named = &ignition.security.tls.certificate_authorities;
        if !named.is_empty() {
            let fetcher = self.fetcher.with(settings(ignition, self.trusted.clone()));
            let sources = &self.readings.sources;
            let place = |resource: &Resource| sources.place(resource.origin, AUTHORITIES);
            self.trusted = self.authorities.certificates(&fetcher, named, &place)?;
        }
        self.fetcher = self.fetcher.with(settings(ignition, self.trusted.clone()));
        Ok(())
    }

    /// Where a reference was written.
    fn place(&self, reference: &Resource, section: &str) -> Option<Place> {
        let mut place = self.readings.sources.place(reference.origin, section)?;
        if section == REPLACE {
            // It is no list.
            place.path = REPLACE.into();
        }
        Some(place)
    }

    /// Fetches a configuration that another one refers to. The caller pops the chain when it has gone through all below it.
    fn fetch(&mut self, reference: &Resource, place: Option<&Place>) -> Result<Config, Stop> {
        let located = |failure: Failure| match place {
            Some(place) => failure.at(place.clone()),
            None => failure,
        };
        let source = reference.source.as_deref().unwrap_or_default();
        self.enter(source).map_err(|failure| Stop::from(located(failure)))?;
        let text = self.fetcher.to_buffer(reference, LIMIT).map_err(|error| match error {
            Error::NeedNet(what) => Stop::NeedNet(format!("the configuration {what}"), place.cloned()),
            Error::Failed(failure) => located(failure).into(),
        })?;
        let name = match (place, network::is_remote(source)) {
            // Its length says little; where it stands says it all.
            (Some(place), false) => format!("the data URL of {place}"),
            _ => url::redact(source),
        };
        log::info!("read the referenced configuration {name}");
        let raw = Raw { name, text };
        let read = self.readings.read(&raw, SourceKind::User, true)?;
        let Raw { name, text } = raw;
        drop(text);
        match read {
            Some(config) => {
                self.readings.referenced.push(url_path(source));
                Ok(config)
            }
            None => Err(located(
                Failure::new(format!("reading the configuration {name}"), "it is empty")
                    .remedy("put a configuration there, or remove the reference"),
            )
            .into()),
        }
    }

    fn enter(&mut self, source: &str) -> Result<(), Failure> {
        self.references += 1;
        let mut hasher = Hasher::new(Function::Sha512);
        hasher.update(source.as_bytes());
        let link = (hasher.finish().to_string(), url::redact(source));
        let circle = self.chain.iter().position(|earlier| *earlier == link);
        self.chain.push(link);
        let what = "following references between configurations";
        if self.chain.len() > DEPTH {
            let shown =
                |chain: &[(String, String)]| chain.iter().map(|link| link.1.as_str()).collect::<Vec<_>>().join(" -> ");
            let why = match circle {
                // The last two say it all: the rest of the chain repeats them.
                Some(circle) => {
                    let length =
                        self.chain.iter().skip(circle + 1).position(|later| Some(later) == self.chain.get(circle));
                    let end = circle + length.unwrap_or(0) + 2;
                    format!("they go in a circle: {}", shown(self.chain.get(circle..end).unwrap_or_default()))
                }
                None => format!("they are more than {DEPTH} levels deep"),
            };
            return Err(Failure::new(what, why).remedy("break the circle, or make the chain shorter"));
        }
        if self.references > REFERENCES {
            return Err(
                Failure::new(what, format!("there are more than {REFERENCES}")).remedy("merge some of them beforehand")
            );
        }
        Ok(())
    }
}

/// A configuration of nothing but this section.
fn only(ignition: Ignition) -> Config {
    Config { ignition, ..Config::default() }
}

/// The path as Go's `url.URL` has it: with its escapes resolved, and empty for `arn` and `data` URLs.
fn url_path(source: &str) -> String {
    let url = Url::parse(source).ok().filter(|url| !matches!(url.scheme(), "arn" | "data"));
    url.map(|url| url.decoded_path()).unwrap_or_default()
}
