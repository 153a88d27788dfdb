// SPDX-License-Identifier: Apache-2.0
//! A proxy for tests. It takes every host for this machine, so that names need not be known anywhere.

use std::io;
use std::net::TcpStream;

use crate::http::Exchange;

/// What a proxy asks of its clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// The value that the header `Proxy-Authorization` has to have.
    pub credentials: Option<&'static str>,
    /// The status that all are sent away with.
    pub refuse: Option<u16>,
}

/// Answers as a proxy does: to `CONNECT` by a tunnel, to whole URLs by asking for them. Whatever else is a mistake.
///
/// # Errors
/// One of the connections ended.
pub fn serve(rules: Rules, exchange: &mut Exchange<'_>) -> io::Result<()> {
    let seen = exchange.seen.clone();
    if let Some(status) = rules.refuse {
        return exchange.reply(status, &[], b"not through here");
    }
    if rules.credentials != seen.headers.get("proxy-authorization").map(String::as_str) {
        return exchange.reply(407, &[("Proxy-Authenticate", "Basic realm=\"tests\"")], b"");
    }
    if seen.method == "CONNECT" {
        if seen.headers.get("host") != Some(&seen.path) {
            return exchange.reply(400, &[], b"");
        }
        let server = connect(&seen.path)?;
        exchange.raw(b"HTTP/1.1 200 Connection established\r\nX-Proxy: tests\r\n\r\n")?;
        return exchange.pass(server);
    }
    let Some((authority, path)) = seen.path.strip_prefix("http://").and_then(|rest| rest.split_once('/')) else {
        return exchange.reply(400, &[], b"not in absolute form");
    };
    if seen.headers.get("host").map(String::as_str) != Some(authority) {
        return exchange.reply(400, &[], b"");
    }
    let mut server = connect(authority)?;
    let headers = seen.head.lines().skip(1).filter(|line| !line.to_ascii_lowercase().starts_with("proxy-"));
    let mut head = format!("{} /{path} HTTP/1.1\r\nConnection: close\r\n", seen.method);
    head.extend(headers.flat_map(|line| [line, "\r\n"]));
    io::Write::write_all(&mut server, head.as_bytes())?;
    exchange.pass(server)
}

fn connect(authority: &str) -> io::Result<TcpStream> {
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(80);
    TcpStream::connect(("127.0.0.1", port))
}
