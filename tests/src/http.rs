// SPDX-License-Identifier: Apache-2.0
//! An HTTP server for tests, with or without TLS, that can misbehave in every way that a handler can think of.
//!
//! One thread a connection; connections are kept open for further requests as HTTP/1.1 has it. Keys and certificates are made
//! when a test asks for them.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request that the server has seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `GET` and so on.
    pub method: String,
    /// Path and query, as sent.
    pub path: String,
    /// The request line and the headers, as sent.
    pub head: String,
    /// Headers, with names in small letters.
    pub headers: BTreeMap<String, String>,
    /// How many requests for this path came before this one.
    pub earlier: usize,
}

/// A request and the way back to who made it.
pub struct Exchange<'a> {
    /// The request.
    pub seen: Seen,
    stream: &'a mut dyn Connection,
    socket: &'a TcpStream,
    close: bool,
}

impl Exchange<'_> {
    /// A whole response.
    ///
    /// # Errors
    /// The client went away.
    pub fn reply(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {status} Whatever\r\n");
        for (name, value) in headers {
            head.extend([*name, ": ", *value, "\r\n"]);
        }
        head.extend(["Content-Length: ", &body.len().to_string(), "\r\n\r\n"]);
        self.raw(head.as_bytes())?;
        self.raw(body)
    }

    /// Any bytes, as they are.
    ///
    /// # Errors
    /// The client went away.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Ends the connection when the handler returns.
    pub fn close(&mut self) {
        self.close = true;
    }

    /// Passes bytes between the client and another server, in both directions, until one of them has enough.
    ///
    /// # Errors
    /// One of them went away.
    pub fn pass(&mut self, mut other: TcpStream) -> io::Result<()> {
        self.close = true;
        let soon = Some(Duration::from_millis(2));
        self.socket.set_read_timeout(soon)?;
        other.set_read_timeout(soon)?;
        let mut buffer = vec![0; 64 << 10];
        let mut piece = |from: &mut dyn Read, to: &mut dyn Write| match from.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(amount) => {
                to.write_all(buffer.get(..amount).unwrap_or_default()).and_then(|()| to.flush()).map(|()| true)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(true),
            Err(error) => Err(error),
        };
        while piece(&mut self.stream, &mut other)? && piece(&mut other, &mut self.stream)? {}
        Ok(())
    }
}

type Handler = dyn Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync;

/// A prepared answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A status line, headers and a body.
    Response {
        /// Status code.
        status: u16,
        /// Whole header lines.
        headers: Vec<String>,
        /// The body.
        body: Vec<u8>,
    },
    /// The request is read and never answered.
    Never,
}

impl Answer {
    /// A status without a body.
    pub fn status(status: u16) -> Self {
        Self::Response { status, headers: Vec::new(), body: Vec::new() }
    }

    /// A body with status 200.
    pub fn body(body: impl Into<Vec<u8>>) -> Self {
        Self::Response { status: 200, headers: Vec::new(), body: body.into() }
    }

    /// Silence.
    pub fn never() -> Self {
        Self::Never
    }

    fn give(&self, exchange: &mut Exchange<'_>) -> io::Result<()> {
        match self {
            Self::Never => {
                std::thread::sleep(Duration::from_secs(60));
                Ok(())
            }
            Self::Response { status, headers, body } => {
                let headers: Vec<_> = headers.iter().filter_map(|line| line.split_once(": ")).collect();
                exchange.reply(*status, &headers, body)
            }
        }
    }
}

/// A running server. It stops accepting connections when it is dropped.
pub struct Server {
    address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Serves plain HTTP with these answers to these paths, and 404 to all others.
    ///
    /// # Panics
    /// There is no port to be had.
    pub fn start<const N: usize>(answers: [(&str, Answer); N]) -> Self {
        let answers = answers.map(|(path, answer)| (path.to_owned(), answer));
        Self::http(move |exchange| {
            let found = answers.iter().find(|(path, _)| *path == exchange.seen.path);
            found.map_or(Answer::status(404), |(_, answer)| answer.clone()).give(exchange)
        })
    }

    /// Serves plain HTTP on a port of its own.
    ///
    /// # Panics
    /// There is no port to be had.
    pub fn http(handler: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::listen(None, "127.0.0.1:0", Arc::new(handler))
    }

    /// Serves HTTPS on a port of its own.
    ///
    /// # Panics
    /// There is no port to be had.
    pub fn https(
        identity: &Identity,
        handler: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(identity.server_config()), "127.0.0.1:0", Arc::new(handler))
    }

    /// Serves plain HTTP at an address and port.
    ///
    /// # Panics
    /// It isn't to be had.
    pub fn http_at(
        address: &str,
        handler: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(None, address, Arc::new(handler))
    }

    /// Serves HTTPS at an address and port.
    ///
    /// # Panics
    /// It isn't to be had.
    pub fn https_at(
        identity: &Identity,
        address: &str,
        handler: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(identity.server_config()), address, Arc::new(handler))
    }

    fn listen(tls: Option<Arc<ServerConfig>>, address: &str, handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("the port");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicUsize::new(0));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (for_seen, for_stop, count) = (Arc::clone(&seen), Arc::clone(&stop), Arc::clone(&connections));
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                if for_stop.load(Ordering::Relaxed) {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                let (tls, handler, seen) = (tls.clone(), Arc::clone(&handler), Arc::clone(&for_seen));
                // What goes wrong on a connection is what the test is about.
                std::thread::spawn(move || drop(serve(stream, tls, &*handler, &seen)));
            }
        });
        Self { address, scheme, seen, connections, stop, accepting: Some(accepting) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path on it; the host is an address.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The heads of all requests so far, one text each.
    pub fn requests(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.head).collect()
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        // From here on its port is free for the next one.
        drop(self.accepting.take().map(std::thread::JoinHandle::join));
    }
}

trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

fn serve(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    handler: &Handler,
    seen: &Mutex<Vec<Seen>>,
) -> io::Result<()> {
    let socket = stream.try_clone()?;
    let stream: Box<dyn Connection> = match tls {
        None => Box::new(stream),
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(io::Error::other)?;
            Box::new(StreamOwned::new(connection, stream))
        }
    };
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream, seen)? {
        let mut exchange = Exchange { seen: request, stream: stream.get_mut(), socket: &socket, close: false };
        handler(&mut exchange)?;
        if exchange.close {
            break;
        }
    }
    Ok(())
}

fn read_request(stream: &mut impl BufRead, seen: &Mutex<Vec<Seen>>) -> io::Result<Option<Seen>> {
    let mut first = String::new();
    if stream.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut words = first.split_ascii_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    let mut head = first;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        head.push_str(&line);
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let earlier = seen.iter().filter(|other| other.path == path).count();
    let request = Seen { method, path, head, headers, earlier };
    seen.push(request.clone());
    Ok(Some(request))
}

/// What a server's certificate is to be like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Issued by an authority of its own, and good.
    Good,
    /// As good, but its time is over.
    Expired,
    /// As good, but its time is to come.
    NotYetValid,
    /// Its own issuer, calling itself an authority, as `openssl req -x509` makes them.
    SelfSigned,
}

/// A server's key and certificate, and the certificate of who issued it.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    authority: String,
}

impl Identity {
    /// Makes one for the host names or addresses.
    ///
    /// # Errors
    /// A name can't stand in a certificate.
    pub fn new(kind: Kind, names: &[&str]) -> Result<Self, rcgen::Error> {
        use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        match kind {
            Kind::Good => {}
            Kind::Expired => params.not_after = date_time_ymd(2001, 1, 1),
            Kind::NotYetValid => params.not_before = date_time_ymd(3000, 1, 1),
            Kind::SelfSigned => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        }
        let key = KeyPair::generate()?;
        if kind == Kind::SelfSigned {
            let own = params.self_signed(&key)?;
            return Ok(Self { chain: vec![own.der().clone()], key: key.serialize_der(), authority: own.pem() });
        }
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.distinguished_name.push(DnType::CommonName, "an authority for tests");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate()?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let own = params.signed_by(&key, &Issuer::new(authority, authority_key))?;
        Ok(Self { chain: vec![own.der().clone()], key: key.serialize_der(), authority: authority_pem })
    }

    /// The certificate to trust, as PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    fn server_config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring's versions")
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), key)
            .expect("a key and its certificate");
        Arc::new(config)
    }
}
