// SPDX-License-Identifier: Apache-2.0
//! Resources: from what a configuration says about contents to the bytes themselves, decompressed and verified.
//!
//! [`Fetcher::to_buffer`] is for small things that are needed at once (configurations, certificate authorities),
//! [`contents::fetch_all`] for files: many side by side, each streamed to where it will stay.

mod cloud;
pub mod contents;
mod pipeline;
#[cfg(test)]
pub(crate) use pipeline::gzip as gzip_for_tests;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fledge_core::config::{self, Ignition};
use fledge_core::dataurl::DataUrl;
use fledge_core::diag::Failure;
use fledge_core::proxy::Proxies;
use fledge_core::url::{self, Url};
use fledge_core::verification::Expected;
use rustls::pki_types::CertificateDer;

use crate::host::net::client::{Answer, Pace};
use crate::host::net::{Client, NetFiles, Session, Settings};
use cloud::Cloud;
use pipeline::{Pipeline, Unusable};

/// Why a resource could not be had.
#[derive(Debug)]
pub enum Error {
    /// It needs a network, and there is to be none yet: the URL, fit to be shown.
    NeedNet(String),
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What the operator, not a configuration, settles about fetching.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// Whether there is to be no network yet.
    pub offline: bool,
    /// When the operator's patience with everything ends.
    pub end: Option<Instant>,
    /// How patient to be with each server.
    pub pace: Pace,
    /// Where name servers and certificate authorities are found.
    pub files: NetFiles,
    /// The platform's id, by which credentials are looked for; empty for none.
    pub platform: String,
    /// The host of Google's metadata service, if this is a machine of Google's.
    pub google: Option<String>,
}

impl Conditions {
    /// Those of the machine that this runs on, which is of that platform.
    pub fn of_machine(platform: &str) -> Self {
        Self { platform: platform.into(), google: cloud::google_metadata(platform), ..Self::default() }
    }
}

/// Fetches resources, one way for all.
#[derive(Debug)]
pub struct Fetcher {
    conditions: Conditions,
    client: Arc<Client>,
    cloud: Arc<Cloud>,
}

impl Fetcher {
    /// A fetcher with these settings.
    pub fn new(conditions: Conditions, settings: Settings) -> Self {
        let cloud = Arc::new(Cloud::new(&conditions));
        Self { client: Self::client(&conditions, settings), conditions, cloud }
    }

    /// Another one with the same conditions.
    #[must_use]
    pub fn with(&self, settings: Settings) -> Self {
        let conditions = self.conditions.clone();
        Self { client: Self::client(&conditions, settings), conditions, cloud: Arc::clone(&self.cloud) }
    }

    fn client(conditions: &Conditions, settings: Settings) -> Arc<Client> {
        Arc::new(Client::new(settings, conditions.pace, conditions.files.clone(), conditions.end))
    }

    /// Whether there is to be no network yet.
    pub fn is_offline(&self) -> bool {
        self.conditions.offline
    }

    /// The contents of a resource, at most `limit` bytes long. Without a source they are empty.
    ///
    /// # Errors
    /// See [`Error`]. Failures have no place yet.
    pub fn to_buffer(&self, resource: &config::Resource, limit: u64) -> Result<Vec<u8>, Error> {
        let Some(source) = Source::of(resource)? else { return Ok(Vec::new()) };
        source.allowed(self.conditions.offline)?;
        let (_, buffer) = source.fetch(self, &self.client.session(), &mut || Ok(Vec::new()), limit)?;
        Ok(buffer)
    }
}

/// Decompresses gzip data (RFC 1952), to at most `limit` bytes.
///
/// # Errors
/// Why it can't be done, as a clause.
pub fn gunzip(data: &[u8], limit: u64) -> Result<Vec<u8>, String> {
    let mut pipeline = Pipeline::new(Vec::new(), true, None, limit);
    let finished = pipeline.take(data).and_then(|()| pipeline.finish());
    finished.map(|(_, out)| out).map_err(|why| why.to_string())
}

/// The settings that a configuration asks for: its `timeouts` and its `proxy`.
pub fn settings(ignition: &Ignition, authorities: Vec<CertificateDer<'static>>) -> Settings {
    let timeouts = &ignition.timeouts;
    // As in Go: 0 is no limit.
    let seconds = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0).map(Duration::from_secs);
    Settings {
        headers: timeouts.http_response_headers.map_or(Settings::default().headers, seconds),
        total: timeouts.http_total.and_then(seconds),
        authorities,
        proxies: Arc::new(Proxies::of(&ignition.proxy)),
    }
}

/// A resource, read.
struct Source<'r> {
    what: What<'r>,
    headers: Vec<(String, String)>,
    gzip: bool,
    expected: Option<Expected>,
}

enum What<'r> {
    Data(&'r str),
    Remote(Url),
}

impl<'r> Source<'r> {
    /// `None` if there is no source.
    fn of(resource: &'r config::Resource) -> Result<Option<Self>, Failure> {
        let Some(source) = resource.source.as_deref().filter(|source| !source.is_empty()) else { return Ok(None) };
        let failed = |why: String| Failure::new(format!("fetching {}", url::redact(source)), why);
        let what = match url::scheme(source).as_deref() {
            Some("data") => What::Data(source),
            Some("http" | "https" | "tftp" | "s3" | "arn" | "gs") => {
                What::Remote(Url::parse(source).map_err(|why| failed(format!("the URL can't be used: {why}")))?)
            }
            Some(other) => {
                return Err(failed(format!("{other} URLs can't be fetched"))
                    .remedy("use an http, https, tftp, s3, arn, gs or data URL"));
            }
            None => return Err(failed("it is no URL".into()).remedy("write an http, https or data URL")),
        };
        let gzip = match resource.compression.as_deref() {
            None | Some("") => false,
            Some("gzip") => true,
            Some(other) => {
                return Err(failed(format!("the compression {other:?} is unknown")).remedy("use gzip or none"));
            }
        };
        let hash = resource.verification.hash.as_deref();
        let expected =
            hash.map(Expected::parse).transpose().map_err(|why| failed(format!("the hash can't be used: {why}")))?;
        let mut headers = Vec::new();
        for header in &resource.http_headers {
            let name = &header.name;
            let value = header.value.as_ref().filter(|value| !value.is_empty()).ok_or_else(|| {
                failed(format!("the header {:?} has no value", config::token(name))).remedy(
                    "give it one, or remove it: without a value, it does nothing but remove a parent config's header",
                )
            })?;
            headers.push((name.clone(), value.clone()));
        }
        Ok(Some(Self { what, headers, gzip, expected }))
    }

    fn shown(&self) -> String {
        match &self.what {
            What::Data(text) => url::redact(text),
            What::Remote(url) => url.redacted(),
        }
    }

    fn allowed(&self, offline: bool) -> Result<(), Error> {
        match self.what {
            What::Remote(_) if offline => Err(Error::NeedNet(self.shown())),
            _ => Ok(()),
        }
    }

    /// Brings the contents into what `open` makes anew for each attempt.
    fn fetch<W: Write>(
        &self,
        fetcher: &Fetcher,
        session: &Session,
        open: &mut dyn FnMut() -> std::io::Result<W>,
        limit: u64,
    ) -> Result<(u64, W), Failure> {
        let unusable =
            |why: &Unusable| Failure::new(format!("fetching {}", self.shown()), why.to_string()).remedy(why.remedy());
        let mut pipeline = || {
            let out = open().map_err(|error| unusable(&Unusable::Write(error)))?;
            Ok::<_, Failure>(Pipeline::new(out, self.gzip, self.expected.clone(), limit))
        };
        match &self.what {
            What::Data(text) => {
                let mut pipeline = pipeline()?;
                let mut result = Ok(());
                let decoded = DataUrl::parse(text).and_then(|data| {
                    data.decode_chunks(&mut |chunk| {
                        if result.is_ok() {
                            result = pipeline.take(chunk);
                        }
                    })
                });
                decoded.map_err(|why| {
                    Failure::new(format!("reading {}", self.shown()), why.to_string()).remedy("correct the data URL")
                })?;
                result.and_then(|()| pipeline.finish()).map_err(|why| unusable(&why))
            }
            What::Remote(url) => {
                let mut result = None;
                fetcher.cloud.fetch(session, url, &self.headers, &mut |answer: Answer<'_>| {
                    let mut pipeline = pipeline()?;
                    let mut buffer = vec![0; 32 << 10];
                    loop {
                        // Errors of the network are the session's to tell.
                        let amount = answer
                            .body
                            .read(&mut buffer)
                            .map_err(|error| Failure::new("reading", error.to_string()))?;
                        if amount == 0 {
                            break;
                        }
                        pipeline.take(buffer.get(..amount).unwrap_or_default()).map_err(|why| unusable(&why))?;
                    }
                    result = Some(pipeline.finish().map_err(|why| unusable(&why))?);
                    Ok(())
                })?;
                result.ok_or_else(|| Failure::new(format!("fetching {}", self.shown()), "there was no answer"))
            }
        }
    }
}
