// SPDX-License-Identifier: Apache-2.0
//! A real HTTP server on the loopback that gives prepared answers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the server says to one path.
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
}

/// A running server. It ends with the test program.
pub struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts a server that answers these paths, and 404 to all others.
    ///
    /// # Panics
    /// No port of the loopback can be had.
    pub fn start<const N: usize>(answers: [(&str, Answer); N]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of the loopback");
        let port = listener.local_addr().expect("a bound port").port();
        let answers: Arc<BTreeMap<String, Answer>> =
            Arc::new(answers.into_iter().map(|(path, answer)| (path.to_owned(), answer)).collect());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, seen) = (Arc::clone(&answers), Arc::clone(&seen));
                // A client that goes away is no concern of the server's.
                thread::spawn(move || serve(stream, &answers, &seen));
            }
        });
        Self { port, requests }
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The heads of all requests so far, one text each.
    ///
    /// # Panics
    /// A serving thread died.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no serving thread died").clone()
    }
}

fn serve(mut stream: TcpStream, answers: &BTreeMap<String, Answer>, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let path = head.split(' ').nth(1)?.to_owned();
        seen.lock().ok()?.push(head);
        match answers.get(&path).cloned().unwrap_or(Answer::status(404)) {
            Answer::Never => thread::sleep(Duration::from_secs(60)),
            Answer::Response { status, headers, body } => {
                let mut head = format!("HTTP/1.1 {status} Prepared\r\nContent-Length: {}\r\n", body.len());
                for line in headers {
                    head.push_str(&line);
                    head.push_str("\r\n");
                }
                head.push_str("\r\n");
                stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).ok()?;
            }
        }
    }
}
