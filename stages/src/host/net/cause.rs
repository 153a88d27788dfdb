// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with a request: in words, with a remedy, and whether trying again can help.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::Duration;

use rustls::CertificateError;
use ureq::Timeout;

use super::Cancelled;
use super::resolver::NameError;
use super::way::NoTunnel;

/// Why one attempt failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The name could not be resolved: why, and whether name servers say that it doesn't exist.
    Name {
        /// Why.
        why: String,
        /// Whether the name servers were reached and know no such name.
        unknown: bool,
    },
    /// Nothing listens there.
    Refused,
    /// There is no route to it.
    NoRoute,
    /// No connection within that time.
    ConnectTimeout(Duration),
    /// No response headers within that time.
    HeaderTimeout(Duration),
    /// The body stopped coming for that time.
    Stalled(Duration),
    /// The time for the whole ran out while the body came.
    OutOfTime,
    /// There was next to no time left for this attempt.
    NoTime,
    /// The connection ended before there was a response.
    Closed,
    /// The connection ended before the body did.
    Truncated,
    /// A response that isn't one of success.
    Status(u16),
    /// The server's certificate isn't trusted.
    Certificate(Certificate),
    /// No TLS connection could be made for another reason.
    Tls(String),
    /// No certificate authority is known at all.
    NoRoots(String),
    /// More than ten redirects.
    Redirects,
    /// A redirect to something that can't be followed.
    Redirect(String),
    /// Not HTTP, or otherwise not understood.
    Protocol(String),
    /// The request can't be sent as it is.
    Request(String),
    /// The operating system's words.
    System(String),
    /// A TFTP server's refusal (RFC 1350, appendix I; RFC 2347).
    Tftp {
        /// Its code.
        code: u16,
        /// Its words.
        message: String,
    },
    /// No TFTP server said anything for that time.
    Silent(Duration),
    /// The proxy didn't connect to the server: its status.
    Tunnel(u16),
    /// It was asked through a proxy, which may be to blame.
    Proxy {
        /// The proxy's URL, fit to be shown.
        proxy: String,
        /// What happened.
        cause: Box<Cause>,
    },
    /// Somebody else's failure made this moot.
    Cancelled,
}

/// Why a certificate isn't trusted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Certificate {
    /// No known authority vouches for it: which ones are known.
    UnknownIssuer(String),
    /// Its time is over.
    Expired,
    /// Its time hasn't come: more often than not the machine's clock is wrong.
    NotYetValid,
    /// It is for other names.
    OtherName(Vec<String>),
    /// Anything else.
    Other(String),
}

/// Whether another attempt can help.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retry {
    /// As long as there is time.
    Always,
    /// A few times: one of several servers behind one name may be the culprit.
    AFewTimes,
    /// No.
    Never,
}

impl Cause {
    /// Whether another attempt can help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Name { .. }
            | Self::Refused
            | Self::NoRoute
            | Self::ConnectTimeout(_)
            | Self::HeaderTimeout(_)
            | Self::OutOfTime
            | Self::NoTime
            | Self::Closed
            | Self::Status(429 | 500..)
            | Self::Tunnel(429 | 500..)
            | Self::Certificate(Certificate::NotYetValid)
            | Self::System(_) => Retry::Always,
            Self::Proxy { cause, .. } => cause.retry(),
            Self::Stalled(_)
            | Self::Truncated
            | Self::Certificate(_)
            | Self::Tls(_)
            | Self::Protocol(_)
            | Self::Tftp { code: 0 | 3.., .. }
            | Self::Silent(_) => Retry::AFewTimes,
            // The first one is a file that isn't there, or isn't for everybody.
            Self::Tftp { code: 1 | 2, .. }
            | Self::Status(_)
            | Self::Tunnel(_)
            | Self::NoRoots(_)
            | Self::Redirects
            | Self::Redirect(_)
            | Self::Request(_)
            | Self::Cancelled => Retry::Never,
        }
    }

    /// Whether time ran out before there was any answer.
    pub(crate) fn is_timeout(&self) -> bool {
        match self {
            Self::Proxy { cause, .. } => cause.is_timeout(),
            cause => matches!(
                cause,
                Self::ConnectTimeout(_) | Self::HeaderTimeout(_) | Self::NoTime | Self::Name { .. } | Self::Silent(_)
            ),
        }
    }

    /// What a person can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Proxy { cause, .. } => match **cause {
                Self::Tunnel(_) | Self::Status(401 | 403 | 405 | 407 | 502..=504) => {
                    "check the proxy's rules and the credentials in ignition.proxy, or list the host in ignition.proxy.noProxy"
                }
                Self::Name { .. } | Self::Refused | Self::NoRoute | Self::ConnectTimeout(_) => {
                    "check ignition.proxy, and that the proxy runs and can be reached"
                }
                _ => cause.remedy(),
            },
            Self::Tftp { code: 1, .. } => "check the path, and the folder that the server serves",
            Self::Tftp { .. } => "check the server's log and the file's permissions",
            Self::Silent(_) => {
                "check that a TFTP server runs there, and that firewalls let UDP pass in both directions"
            }
            Self::Tunnel(_) => "check the proxy's log",
            Self::Name { unknown: true, .. } => "check the host name in the URL, and the name server's zone",
            Self::Name { .. } => {
                "check that the network comes up with a name server (ip=dhcp, or ip= with its dns fields), or write an address"
            }
            Self::Refused => "check that the server runs and listens on that port",
            Self::NoRoute | Self::ConnectTimeout(_) => {
                "check the machine's address and gateway (ip= on the kernel command line), and firewalls in between"
            }
            Self::HeaderTimeout(_) => {
                "check that the server answers; more time is given by ignition.timeouts.httpResponseHeaders, to a first config by --fetch-timeout"
            }
            Self::OutOfTime | Self::NoTime => {
                "allow more time (ignition.timeouts.httpTotal, --fetch-timeout, fledge.fetch.timeout=)"
            }
            Self::Stalled(_) | Self::Closed | Self::Truncated => "check the server's log and the network in between",
            Self::Status(404 | 410) => "check the URL, and that the file is there",
            Self::Status(401 | 403) => "check the permissions on the server, or the credentials in httpHeaders",
            Self::Status(_) => "check the server's log",
            Self::Certificate(Certificate::UnknownIssuer(_)) => {
                "name the certificate authority of that server in ignition.security.tls.certificateAuthorities"
            }
            Self::Certificate(Certificate::NotYetValid) => {
                "check the machine's clock (in the firmware's settings) against the certificate's dates"
            }
            Self::Certificate(Certificate::Expired) => {
                "renew the server's certificate; if its dates are good, the machine's clock is wrong"
            }
            Self::Certificate(Certificate::OtherName(_)) => "use a name that the certificate carries",
            Self::Certificate(Certificate::Other(_)) | Self::Tls(_) => "check the server's TLS settings",
            Self::NoRoots(_) => {
                "put the distribution's bundle into the initramfs, or name authorities in ignition.security.tls.certificateAuthorities"
            }
            Self::Redirects | Self::Redirect(_) => "give the final URL",
            Self::Protocol(_) => "check that the port speaks HTTP (and https:// where it speaks TLS)",
            Self::Request(_) => "correct the URL or the headers",
            Self::System(_) | Self::Cancelled => "see the journal",
        }
    }

    /// Reads ureq's error. `connect` and `headers` are the time limits that were set, `stall` that of the body.
    pub(crate) fn of(error: &ureq::Error, connect: Duration, headers: Duration, stall: Duration) -> Self {
        match error {
            ureq::Error::Timeout(Timeout::RecvResponse) => Self::HeaderTimeout(headers),
            ureq::Error::Timeout(Timeout::PerRead | Timeout::PerWrite | Timeout::RecvBody) => Self::Stalled(stall),
            ureq::Error::Timeout(_) => Self::ConnectTimeout(connect),
            ureq::Error::Io(error) => Self::of_io(error, connect, headers, stall),
            ureq::Error::Rustls(error) => Self::of_tls(error),
            ureq::Error::Tls(text) => Self::Tls((*text).into()),
            ureq::Error::Protocol(error) => Self::Protocol(error.to_string()),
            ureq::Error::LargeResponseHeader(..) => Self::Protocol("its headers are over 32 KiB long".into()),
            ureq::Error::Http(error) => Self::Request(error.to_string()),
            ureq::Error::BadUri(text) => Self::Request(text.clone()),
            ureq::Error::Other(error) => match error.downcast_ref::<NameError>() {
                Some(NameError::Cancelled) => Self::Cancelled,
                Some(NameError::Invalid(_)) => Self::Request(error.to_string()),
                Some(name) => Self::Name { why: name.to_string(), unknown: matches!(name, NameError::NotFound(_)) },
                None => match error.downcast_ref::<NoTunnel>() {
                    Some(NoTunnel(status)) => Self::Tunnel(*status),
                    None => Self::System(error.to_string()),
                },
            },
            other => Self::System(other.to_string()),
        }
    }

    /// An error on the way of a body: ureq's and rustls' own travel inside.
    pub(crate) fn of_io(error: &io::Error, connect: Duration, headers: Duration, stall: Duration) -> Self {
        if let Some(inner) = error.get_ref() {
            if inner.is::<Cancelled>() {
                return Self::Cancelled;
            }
            if let Some(inner) = inner.downcast_ref::<Self>() {
                return inner.clone();
            }
            if let Some(inner) = inner.downcast_ref::<ureq::Error>() {
                return Self::of(inner, connect, headers, stall);
            }
            if let Some(inner) = inner.downcast_ref::<rustls::Error>() {
                return Self::of_tls(inner);
            }
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::NetworkDown => Self::NoRoute,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::TimedOut => Self::ConnectTimeout(connect),
            _ => Self::System(match error.source() {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        let rustls::Error::InvalidCertificate(error) = error else { return Self::Tls(error.to_string()) };
        Self::Certificate(match error {
            // A bad signature: an authority of that name is trusted, but it is another one.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Certificate::UnknownIssuer(String::new())
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Certificate::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Certificate::NotYetValid,
            CertificateError::NotValidForName => Certificate::OtherName(Vec::new()),
            CertificateError::NotValidForNameContext { presented, .. } => {
                Certificate::OtherName(presented.iter().map(|name| plain_name(name)).collect())
            }
            other => Certificate::Other(other.to_string()),
        })
    }
}

impl std::error::Error for Cause {}

/// A status with the words that belong to it.
pub(crate) struct Shown(pub(crate) u16);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ureq::http::StatusCode::from_u16(self.0).ok().and_then(|status| status.canonical_reason()) {
            Some(reason) => write!(f, "{} {reason}", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for Cause {
    /// A clause without the URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { why, .. } => write!(f, "name not found: {why}"),
            Self::Refused => f.write_str("connection refused"),
            Self::NoRoute => f.write_str("no route to the host"),
            Self::ConnectTimeout(time) => write!(f, "timed out: no connection within {} s", seconds(time)),
            Self::HeaderTimeout(time) => {
                write!(f, "timed out: the server sent no response headers within {} s", seconds(time))
            }
            Self::Stalled(time) => write!(f, "timed out: the server sent nothing for {} s", seconds(time)),
            Self::NoTime => f.write_str("timed out: there was no time left to ask"),
            Self::OutOfTime => f.write_str("timed out: the response was still coming"),
            Self::Closed => f.write_str("the server closed the connection without a response"),
            Self::Truncated => f.write_str("truncated: the connection ended before the response was complete"),
            Self::Status(status) => write!(f, "the server answered {}", Shown(*status)),
            Self::Tftp { code: 1, .. } => f.write_str("the server has no such file"),
            Self::Tftp { code: 2, .. } => f.write_str("the server denies access to the file"),
            Self::Tftp { code, message } => write!(f, "the server answered with error {code} ({message:?})"),
            Self::Silent(time) => write!(f, "timed out: no TFTP server answered within {} s", seconds(time)),
            Self::Tunnel(status) => write!(f, "it answered {} to CONNECT", Shown(*status)),
            Self::Proxy { proxy, cause } => match &**cause {
                Self::Name { .. } | Self::Refused | Self::NoRoute | Self::ConnectTimeout(_) => {
                    write!(f, "the proxy {proxy} can't be reached: {cause}")
                }
                Self::Tunnel(_) => write!(f, "the proxy {proxy} refused: {cause}"),
                Self::Status(status @ 407) => write!(f, "the proxy {proxy} refused: it answered {}", Shown(*status)),
                cause => write!(f, "{cause} (asked through the proxy {proxy})"),
            },
            Self::Certificate(certificate) => certificate.fmt(f),
            Self::Tls(why) => write!(f, "no TLS connection: {why}"),
            Self::Redirects => write!(f, "more than {} redirects", super::client::MAX_REDIRECTS),
            Self::NoRoots(why) | Self::Redirect(why) | Self::Request(why) | Self::System(why) => f.write_str(why),
            Self::Protocol(why) => write!(f, "the server's response is not understood ({why})"),
            Self::Cancelled => f.write_str("given up because another fetch failed"),
        }
    }
}

/// rustls hands over names in the form of `Debug`: `DnsName("example.org")`.
fn plain_name(name: &str) -> String {
    name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name).trim_matches('"').to_owned()
}

/// Seconds with at most one decimal.
fn seconds(time: &Duration) -> String {
    let text = format!("{:.1}", time.as_secs_f64());
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownIssuer(known) => {
                f.write_str("certificate unknown: no certificate authority that this machine trusts has issued it")?;
                if known.is_empty() { Ok(()) } else { write!(f, " (it trusts {known})") }
            }
            Self::Expired => f.write_str("certificate expired, by this machine's clock"),
            Self::NotYetValid => f.write_str("certificate not yet valid, by this machine's clock"),
            Self::OtherName(names) if names.is_empty() => f.write_str("the certificate is for another host name"),
            Self::OtherName(names) => write!(f, "the certificate is for another host name ({})", names.join(", ")),
            Self::Other(why) => write!(f, "the certificate is not accepted: {why}"),
        }
    }
}
