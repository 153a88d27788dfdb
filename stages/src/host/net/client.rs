// SPDX-License-Identifier: Apache-2.0
//! One GET, with all it takes to bring it to an end: attempts, redirects, time limits.

use std::io::Read;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use fledge_core::diag::Failure;
use fledge_core::url::Url;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Connector, NextTimeout};
use ureq::{Agent, Body, RequestExt, http};

use super::body::Watched;
use super::cause::{Cause, Retry};
use super::resolver::{NameError, resolve};
use super::tcp::{TcpConnector, deadline};
use super::tls::TlsConnector;
use super::waiting::{Backoff, Narrator, sleep_until};
use super::{Cancel, NetFiles, roots};

/// As many as Go's and most other clients follow.
pub(crate) const MAX_REDIRECTS: usize = 10;

/// For what comes and half of it for what goes, twice for TLS; times as many as are fetched at once. Headers have to fit in.
const BUFFER: usize = 32 << 10;

/// An attempt that has less time is hardly worth it.
const ENOUGH: Duration = Duration::from_secs(1);

/// Longer limits are this long: clocks don't count as far as configurations can.
const FOREVER: Duration = Duration::from_secs(365 * 86400);

/// The version of Ignition whose behaviour servers may count on: some choose by it which form of a config they send.
const USER_AGENT: &str = "Ignition/2.26.0";
const ACCEPT: &str = "application/vnd.coreos.ignition+json;version=3.6.0, */*;q=0.1";

/// What a configuration settles about fetching.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `timeouts.httpResponseHeaders`; `None` for no limit.
    pub headers: Option<Duration>,
    /// `timeouts.httpTotal`, all attempts of one request together; `None` for no limit.
    pub total: Option<Duration>,
    /// `security.tls.certificateAuthorities`, beside the distribution's.
    pub authorities: Vec<CertificateDer<'static>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { headers: Some(Duration::from_secs(10)), total: None, authorities: Vec::new() }
    }
}

/// How patient a client is, where no configuration says so.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The wait after a first failure; it doubles with each further one.
    pub first_wait: Duration,
    /// The longest wait between two attempts.
    pub longest_wait: Duration,
    /// For resolving a name, and again for connecting.
    pub connect: Duration,
    /// For the next byte of a body.
    pub stall: Duration,
    /// How many attempts are made where another one seldom helps.
    pub few: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(5),
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(60),
            few: 5,
        }
    }
}

/// Settings of requests, with what is made from them once.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    pace: Pace,
    files: NetFiles,
    end: Option<Instant>,
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Client {
    /// A client. `end` is when the operator's patience with everything ends.
    pub fn new(mut settings: Settings, pace: Pace, files: NetFiles, end: Option<Instant>) -> Self {
        for limit in [&mut settings.headers, &mut settings.total].into_iter().flatten() {
            *limit = FOREVER.min(*limit);
        }
        Self { settings, pace, files, end, tls: OnceLock::new() }
    }

    /// Requests that are told about, and can be cancelled, together.
    pub fn session(self: &Arc<Self>) -> Session {
        Session {
            client: Arc::clone(self),
            cancel: Cancel::default(),
            narrator: Narrator::default(),
            plain: OnceLock::new(),
            secure: OnceLock::new(),
        }
    }

    /// Whoever never asks for https needs no certificate authority.
    fn tls(&self) -> Result<Arc<ClientConfig>, Cause> {
        let made = self.tls.get_or_init(|| roots::client_config(&self.files.bundles, &self.settings.authorities));
        made.clone().map_err(Cause::NoRoots)
    }
}

/// One request. It has no `Debug`: its headers may be secrets.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// An http or https URL.
    pub url: &'a Url,
    /// Headers of the configuration. They replace ours, and are not sent to where a redirect leads.
    pub headers: &'a [(String, String)],
}

/// See [`Client::session`].
#[derive(Debug)]
pub struct Session {
    client: Arc<Client>,
    cancel: Cancel,
    narrator: Narrator,
    plain: OnceLock<Agent>,
    secure: OnceLock<Agent>,
}

/// How one attempt ended.
enum Attempt<T> {
    Done(T),
    Failed(Cause),
    /// What came could not be used; asking again would bring the same.
    Unusable(Failure),
}

impl Session {
    /// Ends all requests of this session.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Makes a request until it succeeds or there is no use in trying on. `consume` gets the body of each attempt that has one, from
    /// its start; when it fails for a reason of its own, that is the end.
    ///
    /// # Errors
    /// What failed and why, after how many attempts; the URL is shown without its secrets.
    pub fn get<T>(
        &self,
        request: &Request<'_>,
        consume: &mut dyn FnMut(&mut dyn Read) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let failed =
            |shown: &str, why: String, remedy: &str| Failure::new(format!("fetching {shown}"), why).remedy(remedy);
        let target = request.url;
        let shown = target.redacted();
        let headers = headers(request.headers, target)
            .map_err(|why| failed(&shown, why, "correct httpHeaders in the configuration"))?;
        let start = Instant::now();
        let end = [self.client.settings.total.map(|total| start + total), self.client.end].into_iter().flatten().min();
        let mut backoff = Backoff::new(self.client.pace.first_wait, self.client.pace.longest_wait);
        let mut attempts = 0;
        let mut previous = None;
        let result = loop {
            attempts += 1;
            log::debug!("GET {shown}: attempt {attempts}");
            let cause = match self.attempt(target, &headers, end, consume) {
                Attempt::Done(done) => break Ok(done),
                Attempt::Unusable(failure) => break Err(failure),
                Attempt::Failed(cause) => match previous.take() {
                    // This attempt was cut short; the one before says what is wrong.
                    Some(earlier) if cause.is_timeout() && end.is_some_and(|end| Instant::now() >= end) => earlier,
                    _ => cause,
                },
            };
            let next = next_attempt(backoff.step(u16::from_ne_bytes(super::random())), end);
            let use_in_it = match cause.retry() {
                Retry::Always => true,
                Retry::AFewTimes => attempts < self.client.pace.few,
                Retry::Never => false,
            };
            let in_time = end.is_none_or(|end| next < end);
            if !use_in_it || !in_time || self.cancel.is_set() {
                // Whoever set a limit expects it to be used up, and the last words to tell what it was spent on.
                break Err(failed(&shown, last_words(&cause, attempts, start, use_in_it), cause.remedy()));
            }
            self.narrator.failed(attempts == 1, &shown, start, attempts, &cause);
            previous = Some(cause);
            sleep_until(next, &self.cancel);
        };
        if attempts > 1 {
            self.narrator.ended();
            if result.is_ok() && start.elapsed() >= Duration::from_secs(1) {
                log::info!("{shown} answered after {:.1} s ({attempts} attempts)", start.elapsed().as_secs_f64());
            }
        }
        result
    }

    fn attempt<T>(
        &self,
        target: &Url,
        headers: &HeaderMap,
        end: Option<Instant>,
        consume: &mut dyn FnMut(&mut dyn Read) -> Result<T, Failure>,
    ) -> Attempt<T> {
        let response = match self.follow(target, headers, end) {
            Ok(response) => response,
            Err(cause) => return Attempt::Failed(cause),
        };
        match response.status().as_u16() {
            200 | 204 => {}
            status => return Attempt::Failed(Cause::Status(status)),
        }
        let body = response.into_body();
        let mut body = Watched::new(body, target.redacted());
        let result = consume(&mut body);
        match (result, body.error) {
            (Ok(done), None) => Attempt::Done(done),
            (Err(failure), None) => Attempt::Unusable(failure),
            (_, Some(error)) => {
                let read = self.read_limit().unwrap_or(self.client.pace.stall);
                Attempt::Failed(match Cause::of_io(&error, self.client.pace.connect, read, read) {
                    Cause::ConnectTimeout(_) | Cause::HeaderTimeout(_) => Cause::OutOfTime,
                    Cause::Closed => Cause::Truncated,
                    cause => cause,
                })
            }
        }
    }

    /// Sends the request, and follows redirects with our own headers only: those of the configuration may be secrets.
    fn follow(&self, target: &Url, headers: &HeaderMap, end: Option<Instant>) -> Result<Response<Body>, Cause> {
        let mut target = target.clone();
        let mut headers = headers.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(&target, headers, end)?;
            let location = response.headers().get(header::LOCATION);
            let (301 | 302 | 303 | 307 | 308, Some(location)) = (response.status().as_u16(), location) else {
                return Ok(response);
            };
            let location = String::from_utf8_lossy(location.as_bytes());
            let next = target
                .join(&location)
                .map_err(|why| why.to_string())
                .and_then(|next| uri(&next).map(|_| next))
                .map_err(|why| Cause::Redirect(format!("a redirect can't be followed: {why}")))?;
            if is_secure(&target) && !is_secure(&next) {
                log::warn!(
                    "{} redirects from https to {}: what comes from there is not protected",
                    target.redacted(),
                    next.redacted()
                );
            }
            headers = self::headers(&[], &next).map_err(Cause::Redirect)?;
            target = next;
        }
        Err(Cause::Redirects)
    }

    fn send(&self, target: &Url, headers: HeaderMap, end: Option<Instant>) -> Result<Response<Body>, Cause> {
        let start = Instant::now();
        let agent = self.agent(is_secure(target))?;
        let mut request = http::Request::get(uri(target).map_err(Cause::Request)?)
            .body(())
            .map_err(|error| Cause::Request(error.to_string()))?;
        *request.headers_mut() = headers;
        let left = end.map(|end| end.saturating_duration_since(start));
        let request = request.with_agent(agent).configure().timeout_global(left).build();
        request.run().map_err(|error| {
            let pace = &self.client.pace;
            let cause = if matches!(error, ureq::Error::Timeout(ureq::Timeout::Global | ureq::Timeout::PerCall)) {
                // The whole ran out; what it was waiting for by now are headers.
                Cause::HeaderTimeout(left.unwrap_or_default())
            } else {
                Cause::of(&error, pace.connect, self.client.settings.headers.unwrap_or(pace.stall), pace.stall)
            };
            match (cause, left) {
                (Cause::ConnectTimeout(_) | Cause::HeaderTimeout(_), Some(left)) if left < ENOUGH / 10 => Cause::NoTime,
                (Cause::ConnectTimeout(limit), Some(left)) => Cause::ConnectTimeout(limit.min(left)),
                (cause, _) => cause,
            }
        })
    }

    /// How long to wait for the next bytes. Response headers must not be cut off by the body's limit.
    fn read_limit(&self) -> Option<Duration> {
        self.client.settings.headers.map(|headers| headers.max(self.client.pace.stall))
    }

    fn agent(&self, secure: bool) -> Result<&Agent, Cause> {
        let config = if secure { Some(self.client.tls()?) } else { None };
        let cell = if secure { &self.secure } else { &self.plain };
        Ok(cell.get_or_init(|| {
            let pace = &self.client.pace;
            let settings = Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .proxy(None)
                .max_response_header_size(BUFFER)
                .input_buffer_size(BUFFER)
                .output_buffer_size(BUFFER / 2)
                .timeout_resolve(Some(pace.connect))
                .timeout_connect(Some(pace.connect))
                .timeout_send_request(Some(pace.connect))
                .timeout_recv_response(self.client.settings.headers)
                .timeout_per_read(self.read_limit())
                .build();
            let connector = TcpConnector { cancel: self.cancel.clone() }.chain(TlsConnector { config });
            let names = Names { files: self.client.files.clone(), cancel: self.cancel.clone() };
            Agent::with_parts(settings, connector, names)
        }))
    }
}

fn is_secure(url: &Url) -> bool {
    url.scheme() == "https"
}

/// What goes over the wire: no credentials, everything escaped that has to be.
fn uri(url: &Url) -> Result<http::Uri, String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("its scheme is {}, not http or https", url.scheme()));
    }
    http::Uri::builder()
        .scheme(url.scheme())
        .authority(url.host_header())
        .path_and_query(url.request_target())
        .build()
        .map_err(|error| error.to_string())
}

/// When to try again after that wait: not so late that there is no time left for it.
fn next_attempt(wait: Duration, end: Option<Instant>) -> Instant {
    let now = Instant::now();
    let next = now + wait;
    match end.and_then(|end| end.checked_sub(ENOUGH)) {
        Some(last_chance) if now < last_chance => next.min(last_chance),
        _ => next,
    }
}

fn last_words(cause: &Cause, attempts: u32, start: Instant, would_go_on: bool) -> String {
    let time = start.elapsed().as_secs_f64();
    match (attempts, would_go_on) {
        (1, false) => cause.to_string(),
        (_, false) => format!("{cause} ({attempts} attempts in {time:.1} s)"),
        (1, true) => format!("{cause}; there was no time for another attempt after {time:.1} s"),
        (_, true) => format!("{cause}; gave up after {attempts} attempts in {time:.1} s"),
    }
}

/// Our headers, replaced by the configuration's. Of two with one name the last counts, and those that describe the message itself
/// are not for a configuration to say: both as Ignition has it.
fn headers(configured: &[(String, String)], target: &Url) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    map.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    map.insert(header::ACCEPT, HeaderValue::from_static(ACCEPT));
    map.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    if let Some(user) = target.user() {
        let credentials = format!("{user}:{}", target.password().unwrap_or_default());
        let credentials = format!("Basic {}", BASE64.encode(credentials.as_bytes()));
        let mut value = HeaderValue::from_str(&credentials).map_err(|error| error.to_string())?;
        value.set_sensitive(true);
        map.insert(header::AUTHORIZATION, value);
    }
    for (name, value) in configured {
        let wrong = |what: &str| format!("the header {name:?} has a {what} that HTTP doesn't allow");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("name"))?;
        let mut value = HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|_| wrong("value"))?;
        value.set_sensitive(true);
        if ![header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TRAILER].contains(&name) {
            map.insert(name, value);
        }
    }
    Ok(map)
}

/// Gives ureq our resolver.
#[derive(Debug)]
struct Names {
    files: NetFiles,
    cancel: Cancel,
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &http::Uri,
        _: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let other = |error: NameError| ureq::Error::Other(Box::new(error));
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let until = deadline(timeout).unwrap_or_else(|| Instant::now() + Duration::from_secs(30));
        let addresses = resolve(&self.files, host, until, &self.cancel).map_err(other)?;
        let mut found = self.empty();
        for address in addresses.into_iter().take(16) {
            found.push((address, port).into());
        }
        if found.is_empty() { Err(other(NameError::NotFound(host.into()))) } else { Ok(found) }
    }
}
