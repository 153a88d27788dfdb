// SPDX-License-Identifier: Apache-2.0
//! The way to a server: directly, or through a proxy (RFC 9110, section 7.6.2 and RFC 9112, section 3.2.2).
//!
//! An http URL is asked for from the proxy in absolute form. For an https URL the proxy opens a tunnel (`CONNECT`), in which TLS is
//! spoken with the server itself. Either may begin with TLS to the proxy, if that has an https URL.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use fledge_core::proxy::Proxies;
use fledge_core::url::Url;
use rustls::ClientConfig;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use super::resolver::{NameError, resolve};
use super::tcp::{TcpTransport, deadline};
use super::tls::secure;
use super::{Cancel, NetFiles};

/// How an agent reaches servers: its resolver and its connector both.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) files: NetFiles,
    pub(crate) cancel: Cancel,
    pub(crate) proxies: Arc<Proxies>,
    /// `None` when the caller has made sure that no TLS is needed.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Way")
    }
}

impl Way {
    fn proxy(&self, uri: &Uri) -> Option<&Url> {
        self.proxies.choose(is_secure(uri), uri.host().unwrap_or_default(), port(uri))
    }
}

fn is_secure(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}

fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if is_secure(uri) { 443 } else { 80 })
}

impl Resolver for Way {
    /// The addresses of whom to connect to: of the proxy, if there is one.
    fn resolve(
        &self,
        uri: &Uri,
        _: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let other = |error: NameError| ureq::Error::Other(Box::new(error));
        let (host, port) = match self.proxy(uri) {
            Some(proxy) => (proxy.host().to_owned(), proxy.port_or_default().unwrap_or_default()),
            // The percent sign of a zone (RFC 6874).
            None => (uri.host().unwrap_or_default().replacen("%25", "%", 1), port(uri)),
        };
        let until = deadline(timeout).unwrap_or_else(|| Instant::now() + Duration::from_secs(30));
        let addresses = resolve(&self.files, &host, port, until, &self.cancel).map_err(other)?;
        let mut found = self.empty();
        for address in addresses.into_iter().take(16) {
            found.push(address);
        }
        if found.is_empty() { Err(other(NameError::NotFound(host))) } else { Ok(found) }
    }
}

impl Connector for Way {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Box<dyn Transport>>, ureq::Error> {
        let mut line: Box<dyn Transport> = Box::new(TcpTransport::connect(details, &self.cancel)?);
        if let Some(proxy) = self.proxy(details.uri) {
            if proxy.scheme() == "https" {
                line = secure(line, self.tls.as_ref(), proxy.host(), details)?;
            }
            if details.needs_tls() {
                tunnel(&mut *line, details, proxy)?;
            } else {
                let authority = details.uri.authority().map(ToString::to_string).unwrap_or_default();
                line = Box::new(Absolute { line, prefix: format!("http://{authority}"), at_start: true });
            }
        }
        if details.needs_tls() {
            line = secure(line, self.tls.as_ref(), details.uri.host().unwrap_or_default(), details)?;
        }
        Ok(Some(line))
    }
}

/// What a proxy's URL says about who asks, as a header has it.
pub(crate) fn credentials(url: &Url) -> Option<String> {
    let credentials = format!("{}:{}", url.user()?, url.password().unwrap_or_default());
    Some(format!("Basic {}", BASE64.encode(credentials.as_bytes())))
}

/// A proxy's answer to `CONNECT` that isn't one of success: its status.
#[derive(Debug)]
pub(crate) struct NoTunnel(pub(crate) u16);

impl fmt::Display for NoTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy answered {}", self.0)
    }
}

impl std::error::Error for NoTunnel {}

/// Has the proxy at the other end of a line connect it to the server.
fn tunnel(line: &mut dyn Transport, details: &ConnectionDetails<'_>, proxy: &Url) -> Result<(), ureq::Error> {
    let server = format!("{}:{}", details.uri.host().unwrap_or_default(), port(details.uri));
    let mut request = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n");
    if let Some(credentials) = credentials(proxy) {
        request.extend(["Proxy-Authorization: ", &credentials, "\r\n"]);
    }
    request.push_str("\r\n");
    let timeout = super::tls::rest(details.timeout, details.now);
    // Whatever runs out here, it runs out while connecting.
    let connecting = |error| match error {
        ureq::Error::Timeout(_) => ureq::Error::Timeout(ureq::Timeout::Connect),
        other => other,
    };
    send(line, request.as_bytes(), timeout).map_err(connecting)?;
    let length = loop {
        let input = line.buffers().input();
        if let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if line.buffers().input_append_buf().is_empty() || !line.await_input(timeout).map_err(connecting)? {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    };
    let head = String::from_utf8_lossy(line.buffers().input().get(..length).unwrap_or_default()).into_owned();
    line.buffers().input_consume(length);
    // RFC 9112, section 4.
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    match status {
        Some(200..300) => Ok(()),
        Some(status) => Err(ureq::Error::Other(Box::new(NoTunnel(status)))),
        None => Err(ureq::Error::Tls("the proxy's answer to CONNECT is not HTTP")),
    }
}

/// Sends all of it, in pieces that the line's buffer holds.
fn send(line: &mut dyn Transport, bytes: &[u8], timeout: NextTimeout) -> Result<(), ureq::Error> {
    let room = line.buffers().output().len().max(1);
    for piece in bytes.chunks(room) {
        if let Some(output) = line.buffers().output().get_mut(..piece.len()) {
            output.copy_from_slice(piece);
        }
        line.transmit_output(piece.len(), timeout)?;
    }
    Ok(())
}

/// A line to a proxy that is told whole URLs. What is sent are heads of requests without bodies, each in one piece.
struct Absolute {
    line: Box<dyn Transport>,
    /// What goes before the path.
    prefix: String,
    at_start: bool,
}

impl fmt::Debug for Absolute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Absolute")
    }
}

impl Transport for Absolute {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.line.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        if !std::mem::take(&mut self.at_start) {
            return self.line.transmit_output(amount, timeout);
        }
        let output = self.line.buffers().output().get(..amount).unwrap_or_default();
        let method = output.iter().position(|byte| *byte == b' ').map_or(0, |space| space + 1);
        let (method, rest) = output.split_at(method);
        let request = [method, self.prefix.as_bytes(), rest].concat();
        send(&mut *self.line, &request, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.at_start = true;
        self.line.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.line.is_open()
    }

    fn is_tls(&self) -> bool {
        self.line.is_tls()
    }
}
