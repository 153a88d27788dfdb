// SPDX-License-Identifier: Apache-2.0
//! A real HTTP and HTTPS server on the host's loopback address, with a certificate authority made for the run. It
//! remembers who asked for what, so that a case can say that nobody did. Asked as a proxy (RFC 9112, section 3.2.2; RFC
//! 9110, section 9.3.6), it answers for itself, whichever host is named.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::qemu::HOST_ADDRESS;

/// What is served at one path.
#[derive(Clone, Debug, Default)]
pub struct Resource {
    /// The body.
    pub body: Vec<u8>,
    /// Zeros that follow the body.
    pub zeros: u64,
    /// The status; 0 stands for 200.
    pub status: u16,
    /// More header lines: name, value.
    pub headers: Vec<(String, String)>,
    /// Takes the request and never answers.
    pub silent: bool,
}

#[derive(Default)]
struct Shared {
    resources: BTreeMap<String, Resource>,
    requests: Vec<String>,
    extra_headers: Vec<String>,
}

/// A running server; it stops when dropped.
pub struct Server {
    http: SocketAddr,
    https: SocketAddr,
    authority: String,
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    /// Starts a server with nothing to serve yet.
    ///
    /// # Errors
    /// If no port or no certificate can be had.
    pub fn start() -> Result<Self> {
        let (authority, config) = certificates()?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let http = listen("http", &shared, &stop, &config)?;
        let https = listen("https", &shared, &stop, &config)?;
        Ok(Self { http, https, authority, shared, stop })
    }

    /// The server's HTTP address as the guest sees it, without a trailing slash.
    pub fn http(&self) -> String {
        format!("http://{HOST_ADDRESS}:{}", self.http.port())
    }

    /// The server's HTTPS address as the guest sees it, without a trailing slash.
    pub fn https(&self) -> String {
        format!("https://{HOST_ADDRESS}:{}", self.https.port())
    }

    /// The certificate authority, as PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Serves a resource from now on. `path` begins with a slash.
    pub fn publish(&self, path: &str, resource: Resource) {
        lock(&self.shared).resources.insert(path.to_owned(), resource);
    }

    /// All requests since the last call, in order: `http GET /path`.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared).requests)
    }

    /// The headers of these requests whose names begin with `X-`, in lower case and in order: `x-one: value`.
    pub fn take_extra_headers(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared).extra_headers)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes both listeners.
        for address in [self.http, self.https] {
            drop(TcpStream::connect(address));
        }
    }
}

/// An authority, and a server certificate of its for the host's address.
fn certificates() -> Result<(String, Arc<ServerConfig>)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Fledge test authority");
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let server_key = KeyPair::generate()?;
    let names = vec![HOST_ADDRESS.to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&server_key, &issuer)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)?;
    Ok((authority, Arc::new(config)))
}

fn listen(
    scheme: &'static str,
    shared: &Arc<Mutex<Shared>>,
    stop: &Arc<AtomicBool>,
    tls: &Arc<ServerConfig>,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("can't listen on the loopback address")?;
    let address = listener.local_addr()?;
    let (shared, stop, tls) = (Arc::clone(shared), Arc::clone(stop), Arc::clone(tls));
    thread::spawn(move || {
        for stream in listener.incoming() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let Ok(stream) = stream else { continue };
            let (shared, tls, stop) = (Arc::clone(&shared), Arc::clone(&tls), Arc::clone(&stop));
            // A guest that goes away in the middle is no failure of the case.
            thread::spawn(move || drop(serve(scheme, stream, tls, &shared, &stop)));
        }
    });
    Ok(address)
}

fn serve(
    scheme: &str,
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    shared: &Mutex<Shared>,
    stop: &AtomicBool,
) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let inner = if scheme == "https" { Some(stream) } else { answer(scheme, stream, shared, stop)? };
    if let Some(stream) = inner {
        answer("https", StreamOwned::new(ServerConnection::new(tls)?, stream), shared, stop)?;
    }
    Ok(())
}

/// Answers requests of one connection until the peer closes it, or asks for a tunnel through it, whose stream is returned.
fn answer<S: Read + Write>(scheme: &str, stream: S, shared: &Mutex<Shared>, stop: &AtomicBool) -> Result<Option<S>> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if stream.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                let name = name.to_ascii_lowercase();
                if name == "content-length" {
                    length = value.trim().parse().unwrap_or(0);
                } else if name.starts_with("x-") {
                    lock(shared).extra_headers.push(format!("{name}: {}", value.trim()));
                }
            }
        }
        std::io::copy(&mut stream.by_ref().take(length), &mut std::io::sink())?;
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let resource = {
            let mut shared = lock(shared);
            shared.requests.push(format!("{scheme} {method} {path}"));
            let beyond = path.strip_prefix("http://").and_then(|rest| rest.find('/').and_then(|at| rest.get(at..)));
            shared.resources.get(beyond.unwrap_or(path)).cloned()
        };
        if method == "CONNECT" {
            stream.get_mut().write_all(b"HTTP/1.1 200 -\r\n\r\n")?;
            return Ok(Some(stream.into_inner()));
        }
        let resource =
            resource.unwrap_or_else(|| Resource { status: 404, body: b"not here\n".to_vec(), ..Resource::default() });
        while resource.silent && !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(200));
        }
        let status = if resource.status == 0 { 200 } else { resource.status };
        let extra: Vec<String> = resource.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = resource.body.len() as u64 + resource.zeros;
        let head = format!("HTTP/1.1 {status} -\r\nContent-Length: {length}\r\n{}", extra.concat());
        let output = stream.get_mut();
        output.write_all(format!("{head}\r\n").as_bytes())?;
        if method != "HEAD" {
            output.write_all(&resource.body)?;
            std::io::copy(&mut std::io::repeat(0).take(resource.zeros), output)?;
        }
        output.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(server: &Server, path: &str) -> String {
        let mut stream = TcpStream::connect(server.http).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn requests_are_answered_and_remembered() {
        let server = Server::start().unwrap();
        server.publish("/there", Resource { body: b"hello".to_vec(), ..Resource::default() });
        server.publish("/broken", Resource { status: 503, ..Resource::default() });
        assert!(ask(&server, "/there").ends_with("\r\n\r\nhello"));
        assert!(ask(&server, "/broken").starts_with("HTTP/1.1 503"));
        assert!(ask(&server, "/missing").starts_with("HTTP/1.1 404"));
        assert_eq!(server.take_requests(), ["http GET /there", "http GET /broken", "http GET /missing"]);
        assert!(server.take_requests().is_empty());
    }

    #[test]
    fn a_proxys_requests_are_answered_for_any_host() {
        let server = Server::start().unwrap();
        server.publish("/there", Resource { body: b"hello".to_vec(), ..Resource::default() });
        assert!(ask(&server, "http://elsewhere:80/there").ends_with("hello"));
        let mut stream = TcpStream::connect(server.http).unwrap();
        stream.write_all(b"CONNECT elsewhere:443 HTTP/1.1\r\nX-One: a\r\n\r\n").unwrap();
        let mut head = [0; 18];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 -\r\n\r\n");
        assert_eq!(server.take_requests(), ["http GET http://elsewhere:80/there", "http CONNECT elsewhere:443"]);
        assert_eq!(server.take_extra_headers(), ["x-one: a"]);
    }

    #[test]
    fn the_certificate_is_signed_by_the_authority() {
        let server = Server::start().unwrap();
        server.publish("/there", Resource { body: b"hello".to_vec(), ..Resource::default() });
        let mut roots = rustls::RootCertStore::empty();
        let base64: String = server.authority().lines().filter(|line| !line.starts_with('-')).collect();
        roots.add(data_encoding::BASE64.decode(base64.as_bytes()).unwrap().into()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(client, TcpStream::connect(server.https).unwrap());
        stream.write_all(b"GET /there HTTP/1.1\r\n\r\n").unwrap();
        let mut bytes = [0; 512];
        let mut text = String::new();
        while !text.ends_with("hello") {
            let count = stream.read(&mut bytes).unwrap();
            assert_ne!(count, 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        assert_eq!(server.take_requests(), ["https GET /there"]);
    }
}
