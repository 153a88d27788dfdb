// SPDX-License-Identifier: Apache-2.0
//! TLS around a connection. Unlike ureq's own connector it makes its settings (a few hundred certificate authorities) once.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, LazyBuffers, NextTimeout, Transport, TransportAdapter};

/// Speaks TLS over a line, with the host of that name.
pub(crate) fn secure(
    line: Box<dyn Transport>,
    config: Option<&Arc<ClientConfig>>,
    host: &str,
    details: &ConnectionDetails<'_>,
) -> Result<Box<dyn Transport>, ureq::Error> {
    let config = Arc::clone(config.ok_or(ureq::Error::TlsRequired)?);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.split_once('%').map_or(host, |(address, _)| address))
        .map_err(|_| ureq::Error::Tls("the host name can't stand in a certificate"))?
        .to_owned();
    let mut conn = ClientConnection::new(config, name)?;
    let mut sock = TransportAdapter::new(line, Arc::clone(&details.current_time));
    sock.set_timeout(rest(details.timeout, details.now));
    conn.complete_io(&mut sock).map_err(|error| match ureq::Error::from(error) {
        // Whatever ran out, it ran out while connecting.
        ureq::Error::Timeout(_) => ureq::Error::Timeout(ureq::Timeout::Connect),
        other => other,
    })?;
    let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
    Ok(Box::new(TlsTransport { buffers, stream: StreamOwned { conn, sock } }))
}

/// What is left of the time for connecting once the plain connection stands.
pub(crate) fn rest(mut timeout: NextTimeout, since: Instant) -> NextTimeout {
    if let (Duration::Exact(after), Instant::Exact(since)) = (timeout.after, since) {
        timeout.after = Duration::Exact(after.saturating_sub(since.elapsed()));
    }
    timeout
}

/// An open TLS connection.
pub(crate) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output)?;
        self.stream.flush()?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        // A close without a word (RFC 8446, section 6.1) is an error here. It matters only to a body that says no length: nobody
        // can tell whether that one is whole.
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
