// SPDX-License-Identifier: Apache-2.0
//! A TFTP server for tests (RFC 1350, RFC 2347 to 2349) that can misbehave, and that holds its clients to the rules: whoever breaks
//! one is told so, and the test sees it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How a server behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// Options are passed over, as servers of the first RFC do.
    pub no_options: bool,
    /// Options are answered by this error.
    pub refuse_options: Option<u16>,
    /// The largest block that it agrees to, if it isn't what the client asks for.
    pub block: Option<usize>,
    /// Every so many packets that it would send get lost.
    pub lose_every: Option<usize>,
    /// Each block is sent twice.
    pub send_twice: bool,
    /// Another socket joins in.
    pub stranger: bool,
    /// After this many blocks it falls silent.
    pub die_after: Option<u64>,
    /// What it says the size is, if that isn't true.
    pub size: Option<u64>,
}

/// A running server with one file.
pub struct Server {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves this file, and refuses all others.
    ///
    /// # Panics
    /// There is no port to be had.
    pub fn start(path: &'static str, contents: Vec<u8>, manners: Manners) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("the port");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let for_thread = Arc::clone(&heard);
        let contents = Arc::new(contents);
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let request = buffer.get(..length).unwrap_or_default().to_vec();
                let (heard, contents) = (Arc::clone(&for_thread), Arc::clone(&contents));
                std::thread::spawn(move || {
                    let mut transfer = Transfer::new(from, manners, &heard);
                    transfer.serve(&request, path, &contents);
                });
            }
        });
        Self { address, heard }
    }

    /// The URL of a path on it.
    pub fn url(&self, path: &str) -> String {
        format!("tftp://{}{path}", self.address)
    }

    /// The requests that it got, with their options, and errors that clients sent.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Transfer<'h> {
    socket: UdpSocket,
    client: SocketAddr,
    manners: Manners,
    sent: usize,
    heard: &'h Mutex<Vec<String>>,
}

impl<'h> Transfer<'h> {
    fn new(client: SocketAddr, manners: Manners, heard: &'h Mutex<Vec<String>>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a time limit");
        Self { socket, client, manners, sent: 0, heard }
    }

    fn hear(&self, what: String) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn send(&mut self, packet: &[u8]) {
        self.sent += 1;
        if self.manners.lose_every.is_none_or(|every| self.sent % every != 0) {
            let _ = self.socket.send_to(packet, self.client);
        }
    }

    fn error(&mut self, code: u16, text: &str) {
        let packet = [&[0, 5], &code.to_be_bytes()[..], text.as_bytes(), &[0]].concat();
        self.send(&packet);
    }

    /// Sends a packet until it is acknowledged.
    fn until_acknowledged(&mut self, packet: &[u8], number: u16) -> bool {
        for _ in 0..20 {
            self.send(packet);
            if self.manners.send_twice {
                self.send(packet);
            }
            let mut buffer = [0; 600];
            while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
                let got = buffer.get(..length).unwrap_or_default();
                match got {
                    _ if from != self.client => self.hear(format!("something from {from}")),
                    [0, 4, high, low] if u16::from_be_bytes([*high, *low]) == number => return true,
                    [0, 4, ..] => {}
                    [0, 5, _, code, text @ ..] => {
                        self.hear(format!("error {code}: {}", String::from_utf8_lossy(text).trim_end_matches('\0')));
                        return false;
                    }
                    other => self.hear(format!("nonsense: {other:?}")),
                }
            }
        }
        self.hear(format!("{number} was never acknowledged"));
        false
    }

    fn serve(&mut self, request: &[u8], path: &str, contents: &[u8]) {
        let text = String::from_utf8_lossy(request.get(2..).unwrap_or_default()).into_owned();
        let words: Vec<&str> = text.split('\0').collect();
        self.hear(words.join(" ").trim_end().to_owned());
        let (Some([0, 1]), [name, "octet", options @ ..]) = (request.first_chunk::<2>(), &words[..]) else {
            return self.error(4, "only reading, and only octets");
        };
        if *name != path {
            return self.error(1, "File not found");
        }
        let mut block = 512;
        if options.len() > 1 && !self.manners.no_options {
            if let Some(code) = self.manners.refuse_options {
                return self.error(code, "no options here");
            }
            let mut packet = vec![0, 6];
            for pair in options.chunks_exact(2) {
                let [name, value] = pair else { continue };
                let value = match *name {
                    "blksize" => {
                        block = self.manners.block.unwrap_or_else(|| value.parse().expect("a number"));
                        block.to_string()
                    }
                    "tsize" => self.manners.size.unwrap_or(contents.len() as u64).to_string(),
                    _ => continue,
                };
                packet.extend(format!("{name}\0{value}\0").bytes());
            }
            if !self.until_acknowledged(&packet, 0) {
                return;
            }
        }
        // A file whose size is a multiple of the block's ends with an empty block.
        for number in 0..=contents.len() / block {
            if self.manners.die_after.is_some_and(|blocks| number as u64 >= blocks) {
                return;
            }
            let data = contents.get(number * block..).unwrap_or_default();
            let data = data.get(..block).unwrap_or(data);
            #[allow(clippy::cast_possible_truncation, reason = "that is how numbers start over")]
            let number = (number + 1) as u16;
            let packet = [&[0, 3], &number.to_be_bytes()[..], data].concat();
            if self.manners.stranger {
                let stranger = UdpSocket::bind("127.0.0.1:0").expect("a free port");
                let forged = [&[0, 3], &number.to_be_bytes()[..], &[b'x'; 512]].concat();
                // Before the first packet nobody can tell who is who.
                if number > 1 {
                    let _ = stranger.send_to(&forged, self.client);
                }
            }
            if !self.until_acknowledged(&packet, number) {
                return;
            }
        }
        self.hear("all was acknowledged".to_owned());
    }
}
