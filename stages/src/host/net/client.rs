// SPDX-License-Identifier: Apache-2.0
//! One request, with all it takes to bring it to an end: attempts, redirects, time limits.

use std::io::Read;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fledge_core::diag::Failure;
use fledge_core::proxy::Proxies;
use fledge_core::url::Url;
use rustls::pki_types::CertificateDer;
use ureq::http::{HeaderMap, Response, header};
use ureq::{Agent, Body, RequestExt, http};

use super::body::Watched;
use super::cause::{Cause, Certificate, Retry};
use super::head;
use super::roots::{self, Trust};
use super::tftp::{Asker, Transfer};
use super::waiting::{Backoff, Narrator, sleep_until};
use super::way::Way;
use super::{Cancel, NetFiles};

/// As many as Go's and most other clients follow.
pub(crate) const MAX_REDIRECTS: usize = 10;

/// For what comes and half of it for what goes, twice for TLS; times as many as are fetched at once. Headers have to fit in.
const BUFFER: usize = 32 << 10;

/// An attempt that has less time is hardly worth it.
const ENOUGH: Duration = Duration::from_secs(1);

/// Longer limits are this long: clocks don't count as far as configurations can.
const FOREVER: Duration = Duration::from_secs(365 * 86400);

/// What a configuration settles about fetching.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `timeouts.httpResponseHeaders`; `None` for no limit.
    pub headers: Option<Duration>,
    /// `timeouts.httpTotal`, all attempts of one request together; `None` for no limit.
    pub total: Option<Duration>,
    /// `security.tls.certificateAuthorities`, beside the distribution's.
    pub authorities: Vec<CertificateDer<'static>>,
    /// `proxy`.
    pub proxies: Arc<Proxies>,
}

impl Default for Settings {
    fn default() -> Self {
        let headers = Some(Duration::from_secs(10));
        Self { headers, total: None, authorities: Vec::new(), proxies: Arc::default() }
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
    tls: OnceLock<Result<Trust, String>>,
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
            agents: [const { OnceLock::new() }; 3],
        }
    }

    /// Whoever never asks for https needs no certificate authority.
    fn tls(&self) -> Result<&Trust, Cause> {
        let made = self.tls.get_or_init(|| roots::client_config(&self.files.bundles, &self.settings.authorities));
        made.as_ref().map_err(|why| Cause::NoRoots(why.clone()))
    }

    /// There are no proxies for TFTP.
    fn proxy(&self, url: &Url) -> Option<&Url> {
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        self.settings.proxies.choose(is_secure(url), url.host(), url.port_or_default().unwrap_or_default())
    }
}

/// What is done with a URL.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Method {
    /// It is read.
    #[default]
    Get,
    /// Only the headers are asked for.
    Head,
    /// It is set, to nothing.
    Put,
}

/// One request. It has no `Debug`: its headers may be secrets.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// An http, https or tftp URL.
    pub url: &'a Url,
    /// Headers of the configuration. They replace ours, and are not sent to where a redirect leads. TFTP has none.
    pub headers: &'a [(String, String)],
    /// What is done with it. TFTP can only read.
    pub method: Method,
    /// What messages call it, before its URL.
    pub name: Option<&'a str>,
    /// Whether every status that isn't a reason to ask again is an answer. Else only those of success are.
    pub any_status: bool,
    /// Whether the machine's own metadata service is asked: never through a proxy, and not for longer than this.
    pub metadata: Option<Duration>,
}

impl<'a> Request<'a> {
    /// Reads a URL.
    pub fn get(url: &'a Url, headers: &'a [(String, String)]) -> Self {
        Self { url, headers, method: Method::Get, name: None, any_status: false, metadata: None }
    }

    fn shown(&self) -> String {
        let url = self.url.redacted();
        self.name.map_or(url.clone(), |name| format!("{name} ({url})"))
    }
}

/// What a server answered.
pub struct Answer<'b> {
    /// The status; 200 for TFTP.
    pub status: u16,
    headers: &'b HeaderMap,
    /// What follows the headers.
    pub body: &'b mut dyn Read,
}

impl Answer<'_> {
    /// A header's value, if it has it and it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Is given the answer of each attempt that has one, from its start; when it fails for a reason of its own, that is the end.
pub type Consume<'c> = &'c mut dyn FnMut(Answer<'_>) -> Result<(), Failure>;

/// See [`Client::session`].
#[derive(Debug)]
pub struct Session {
    client: Arc<Client>,
    cancel: Cancel,
    narrator: Narrator,
    /// For http, for https, and for metadata services.
    agents: [OnceLock<Agent>; 3],
}

/// How one attempt ended.
enum Attempt {
    Done,
    Failed(Cause),
    /// What came could not be used; asking again would bring the same.
    Unusable(Failure),
}

impl Session {
    /// Ends all requests of this session.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Makes a request until it succeeds or there is no use in trying on.
    ///
    /// # Errors
    /// What failed and why, after how many attempts; the URL is shown without its secrets.
    pub fn ask(&self, request: &Request<'_>, consume: Consume<'_>) -> Result<(), Failure> {
        let failed =
            |shown: &str, why: String, remedy: &str| Failure::new(format!("fetching {shown}"), why).remedy(remedy);
        let shown = request.shown();
        let headers = head::headers(request.headers, request.url)
            .map_err(|why| failed(&shown, why, "correct httpHeaders in the configuration"))?;
        let start = Instant::now();
        let limits = [self.client.settings.total, request.metadata].into_iter().flatten().map(|limit| start + limit);
        let end = limits.chain(self.client.end).min();
        let mut backoff = Backoff::new(self.client.pace.first_wait, self.client.pace.longest_wait);
        let mut attempts = 0;
        let mut previous = None;
        let result = loop {
            attempts += 1;
            log::debug!("{shown}: attempt {attempts}");
            let cause = match self.attempt(request, &headers, end, consume) {
                Attempt::Done => break Ok(()),
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

    fn attempt(
        &self,
        request: &Request<'_>,
        headers: &HeaderMap,
        end: Option<Instant>,
        consume: Consume<'_>,
    ) -> Attempt {
        let (status, headers, length, body, from): (_, _, _, Box<dyn Read>, _) = if request.url.scheme() == "tftp" {
            let (files, cancel, pace) = (&self.client.files, &self.cancel, &self.client.pace);
            match Transfer::open(request.url, &Asker { files, cancel, pace, end }) {
                Ok(transfer) => (200, HeaderMap::new(), transfer.size, Box::new(transfer), request.url.clone()),
                Err(cause) => return Attempt::Failed(cause),
            }
        } else {
            match self.follow(request, headers, end) {
                Ok((response, from)) => {
                    let (head, body) = response.into_parts();
                    let length = body.content_length();
                    (head.status.as_u16(), head.headers, length, Box::new(body.into_reader()), from)
                }
                Err(cause) => return Attempt::Failed(cause),
            }
        };
        let cause = Cause::Status(status);
        if !matches!(status, 200 | 204) && (!request.any_status || cause.retry() != Retry::Never) {
            return Attempt::Failed(self.blame(request, &from, cause));
        }
        let mut body = Watched::new(body, length, request.shown());
        let result = consume(Answer { status, headers: &headers, body: &mut body });
        match (result, body.error) {
            (Ok(()), None) => Attempt::Done,
            (Err(failure), None) => Attempt::Unusable(failure),
            (_, Some(error)) => {
                let read = self.read_limit().unwrap_or(self.client.pace.stall);
                let cause = match Cause::of_io(&error, self.client.pace.connect, read, read) {
                    Cause::ConnectTimeout(_) | Cause::HeaderTimeout(_) => Cause::OutOfTime,
                    Cause::Closed => Cause::Truncated,
                    cause => cause,
                };
                Attempt::Failed(self.blame(request, &from, cause))
            }
        }
    }

    /// Sends the request, and follows redirects with our own headers only: those of the configuration may be secrets. Returns the
    /// response and whose it is.
    fn follow(
        &self,
        request: &Request<'_>,
        headers: &HeaderMap,
        end: Option<Instant>,
    ) -> Result<(Response<Body>, Url), Cause> {
        let mut target = request.url.clone();
        let mut headers = headers.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response =
                self.send(request, &target, headers, end).map_err(|cause| self.blame(request, &target, cause))?;
            let location = response.headers().get(header::LOCATION);
            let (301 | 302 | 303 | 307 | 308, Some(location)) = (response.status().as_u16(), location) else {
                return Ok((response, target));
            };
            let location = String::from_utf8_lossy(location.as_bytes());
            let next = target
                .join(&location)
                .map_err(|why| why.to_string())
                .and_then(|next| head::uri(&next).map(|_| next))
                .map_err(|why| Cause::Redirect(format!("a redirect can't be followed: {why}")))?;
            if is_secure(&target) && !is_secure(&next) {
                log::warn!(
                    "{} redirects from https to {}: what comes from there is not protected",
                    target.redacted(),
                    next.redacted()
                );
            }
            headers = head::headers(&[], &next).map_err(Cause::Redirect)?;
            target = next;
        }
        Err(Cause::Redirects)
    }

    fn send(
        &self,
        request: &Request<'_>,
        target: &Url,
        mut headers: HeaderMap,
        end: Option<Instant>,
    ) -> Result<Response<Body>, Cause> {
        let start = Instant::now();
        let direct = request.metadata.is_some();
        let proxy = self.client.proxy(target).filter(|_| !direct);
        if let Some(proxy) = proxy.filter(|_| !is_secure(target)) {
            head::authorize_proxy(&mut headers, proxy).map_err(Cause::Request)?;
        }
        let agent = self.agent(is_secure(target) || proxy.is_some_and(is_secure), direct)?;
        let method = match request.method {
            Method::Get => http::Method::GET,
            Method::Head => http::Method::HEAD,
            Method::Put => http::Method::PUT,
        };
        let mut sent = http::Request::builder()
            .method(method)
            .uri(head::uri(target).map_err(Cause::Request)?)
            .body(())
            .map_err(|error| Cause::Request(error.to_string()))?;
        if request.method == Method::Put {
            headers.insert(header::CONTENT_LENGTH, http::HeaderValue::from_static("0"));
        }
        *sent.headers_mut() = headers;
        let left = end.map(|end| end.saturating_duration_since(start));
        sent.with_agent(agent).configure().timeout_global(left).build().run().map_err(|error| {
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

    /// Adds what else has to do with a failure: the proxy in between, the authorities that are trusted.
    fn blame(&self, request: &Request<'_>, target: &Url, cause: Cause) -> Cause {
        let cause = match (cause, self.client.tls.get()) {
            (Cause::Certificate(Certificate::UnknownIssuer(_)), Some(Ok(trust))) => {
                Cause::Certificate(Certificate::UnknownIssuer(trust.shown.clone()))
            }
            (cause, _) => cause,
        };
        let proxy = self.client.proxy(target).filter(|_| request.metadata.is_none());
        match (proxy, cause) {
            (Some(proxy), cause) if !matches!(cause, Cause::Cancelled | Cause::Proxy { .. }) => {
                Cause::Proxy { proxy: proxy.redacted(), cause: Box::new(cause) }
            }
            (_, cause) => cause,
        }
    }

    /// How long to wait for the next bytes. Response headers must not be cut off by the body's limit.
    fn read_limit(&self) -> Option<Duration> {
        self.client.settings.headers.map(|headers| headers.max(self.client.pace.stall))
    }

    fn agent(&self, secure: bool, direct: bool) -> Result<&Agent, Cause> {
        let tls = if secure { Some(Arc::clone(&self.client.tls()?.config)) } else { None };
        let [plain, with_tls, metadata] = &self.agents;
        let cell = if direct {
            metadata
        } else if secure {
            with_tls
        } else {
            plain
        };
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
            let proxies = if direct { Arc::default() } else { Arc::clone(&self.client.settings.proxies) };
            let way = Way { files: self.client.files.clone(), cancel: self.cancel.clone(), proxies, tls };
            Agent::with_parts(settings, way.clone(), way)
        }))
    }
}

fn is_secure(url: &Url) -> bool {
    url.scheme() == "https"
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
