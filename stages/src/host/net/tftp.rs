// SPDX-License-Identifier: Apache-2.0
//! Reading files by TFTP (RFC 1350), with the options `blksize` and `tsize` (RFC 2347 to 2349) where the server knows them.
//!
//! Blocks are acknowledged as they are read, so a slow disk slows the server down. Their numbers start over after 65535, as
//! servers have it for files above 32 MiB.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use fledge_core::url::Url;

use super::cause::Cause;
use super::client::Pace;
use super::resolver::{NameError, resolve};
use super::{Cancel, NetFiles, SLICE};

/// Blocks that fit an Ethernet frame with either IP version.
const BLOCK: usize = 1428;
/// Blocks where nothing else was agreed on.
const PLAIN_BLOCK: usize = 512;

const READ: u16 = 1;
const DATA: u16 = 3;
const ACKNOWLEDGE: u16 = 4;
const ERROR: u16 = 5;
const OPTIONS: u16 = 6;

/// After how long a packet is sent again; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What a transfer needs to know about who asks.
pub(crate) struct Asker<'a> {
    pub(crate) files: &'a NetFiles,
    pub(crate) cancel: &'a Cancel,
    pub(crate) pace: &'a Pace,
    pub(crate) end: Option<Instant>,
}

/// A file that is being read.
pub(crate) struct Transfer {
    socket: UdpSocket,
    peer: SocketAddr,
    /// Whether the peer's port is already the one of this transfer.
    settled: bool,
    cancel: Cancel,
    stall: Duration,
    end: Option<Instant>,
    /// What is sent again if nothing comes.
    last: Vec<u8>,
    block_size: usize,
    /// The number of the block in the buffer.
    block: u16,
    packet: Vec<u8>,
    /// The part of the packet that is still to be read.
    at: usize,
    filled: usize,
    received: u64,
    /// What the server said the file's size is.
    pub(crate) size: Option<u64>,
    over: bool,
}

impl Transfer {
    /// Asks for a file; returns when the first of it is there.
    pub(crate) fn open(url: &Url, asker: &Asker<'_>) -> Result<Self, Cause> {
        let until = Instant::now() + asker.pace.connect;
        let until = asker.end.map_or(until, |end| end.min(until));
        let port = url.port_or_default().unwrap_or(69);
        let peers = resolve(asker.files, url.host(), port, until, asker.cancel).map_err(|error| match error {
            NameError::Cancelled => Cause::Cancelled,
            NameError::Invalid(_) => Cause::Request(error.to_string()),
            error => Cause::Name { why: error.to_string(), unknown: matches!(error, NameError::NotFound(_)) },
        })?;
        let mut failed = Cause::Silent(asker.pace.connect);
        for peer in peers {
            match Self::ask(peer, url, asker) {
                Err(cause @ (Cause::Silent(_) | Cause::NoRoute)) => failed = cause,
                result => return result,
            }
        }
        Err(failed)
    }

    fn ask(peer: SocketAddr, url: &Url, asker: &Asker<'_>) -> Result<Self, Cause> {
        match Self::request(peer, url, asker, true) {
            // What servers say that stumble over options.
            Err(Cause::Tftp { code: 0 | 4 | 8, .. }) => Self::request(peer, url, asker, false),
            result => result,
        }
    }

    fn request(peer: SocketAddr, url: &Url, asker: &Asker<'_>, options: bool) -> Result<Self, Cause> {
        let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let mut last = READ.to_be_bytes().to_vec();
        let path = url.decoded_path();
        let block = BLOCK.to_string();
        let words = [path.as_str(), "octet", "blksize", block.as_str(), "tsize", "0"];
        if path.contains('\0') {
            return Err(Cause::Request("its path holds a zero byte".into()));
        }
        for word in words.iter().take(if options { words.len() } else { 2 }) {
            last.extend(word.as_bytes());
            last.push(0);
        }
        let mut transfer = Self {
            socket: UdpSocket::bind((any, 0)).map_err(|error| of_io(&error))?,
            peer,
            settled: false,
            cancel: asker.cancel.clone(),
            stall: asker.pace.stall,
            end: asker.end,
            last,
            block_size: PLAIN_BLOCK,
            block: 0,
            packet: vec![0; BLOCK + 5],
            at: 0,
            filled: 0,
            received: 0,
            size: None,
            over: false,
        };
        transfer.advance(asker.pace.connect, options).map(|()| transfer)
    }

    /// Brings the next block into the buffer.
    fn advance(&mut self, patience: Duration, mut options: bool) -> Result<(), Cause> {
        let wanted = self.block.wrapping_add(1);
        let mut since = Instant::now();
        let mut wait = FIRST_WAIT;
        loop {
            self.socket.send_to(&self.last, self.peer).map_err(|error| of_io(&error))?;
            let again = Instant::now() + wait.min(patience);
            while let Some((length, from)) = self.receive(again)? {
                if from.ip() != self.peer.ip() || length < 4 {
                    continue;
                }
                if self.settled && from.port() != self.peer.port() {
                    // RFC 1350, section 4: whoever that is belongs to another transfer.
                    self.send_error(5, "unknown transfer ID", from);
                    continue;
                }
                match (word(&self.packet, 0), word(&self.packet, 2)) {
                    (DATA, number) if number == wanted && length - 4 <= self.block_size => {
                        (self.peer, self.settled) = (from, true);
                        self.block = number;
                        (self.at, self.filled) = (4, length);
                        self.received += (length - 4) as u64;
                        self.last = [ACKNOWLEDGE.to_be_bytes(), number.to_be_bytes()].concat();
                        return self.end_of_block(length - 4);
                    }
                    (OPTIONS, _) if options => {
                        (self.peer, self.settled, options) = (from, true, false);
                        self.agree(length)?;
                        self.last = [ACKNOWLEDGE.to_be_bytes(), [0, 0]].concat();
                        self.socket.send_to(&self.last, self.peer).map_err(|error| of_io(&error))?;
                        (since, wait) = (Instant::now(), FIRST_WAIT);
                    }
                    (ERROR, code) => {
                        self.over = true;
                        let message = self.packet.get(4..length).unwrap_or_default();
                        let message = message.split(|byte| *byte == 0).next().unwrap_or_default();
                        let message = String::from_utf8_lossy(message).chars().filter(|c| !c.is_control()).collect();
                        return Err(Cause::Tftp { code, message });
                    }
                    // A block that came twice: to answer it would double all that follows.
                    _ => {}
                }
            }
            if since.elapsed() >= patience {
                return Err(if self.settled { Cause::Stalled(patience) } else { Cause::Silent(patience) });
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// The next packet; `None` if there is none in time.
    fn receive(&mut self, until: Instant) -> Result<Option<(usize, SocketAddr)>, Cause> {
        loop {
            if self.cancel.is_set() {
                return Err(Cause::Cancelled);
            }
            let now = Instant::now();
            if self.end.is_some_and(|end| now >= end) {
                return Err(if self.settled { Cause::OutOfTime } else { Cause::NoTime });
            }
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                return Ok(None);
            }
            let slice = left.min(SLICE).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(slice)).map_err(|error| of_io(&error))?;
            match self.socket.recv_from(&mut self.packet) {
                Ok(received) => return Ok(Some(received)),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(of_io(&error)),
            }
        }
    }

    /// Reads what the server agrees to.
    fn agree(&mut self, length: usize) -> Result<(), Cause> {
        let text = String::from_utf8_lossy(self.packet.get(2..length).unwrap_or_default()).into_owned();
        let mut words = text.split('\0');
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            match (name.to_ascii_lowercase().as_str(), value.parse::<u64>()) {
                ("blksize", Ok(size)) if (8..=BLOCK as u64).contains(&size) => {
                    self.block_size = usize::try_from(size).unwrap_or(BLOCK);
                }
                ("tsize", Ok(size)) => self.size = Some(size),
                ("", _) => {}
                _ => {
                    self.send_error(8, "option not asked for", self.peer);
                    return Err(Cause::Protocol(format!("it answers with the option {name}={value}")));
                }
            }
        }
        Ok(())
    }

    /// A block that isn't full is the last.
    fn end_of_block(&mut self, length: usize) -> Result<(), Cause> {
        if length == self.block_size {
            return Ok(());
        }
        self.over = true;
        // Should it get lost, the server sends the block again for a while, to nobody.
        let _ = self.socket.send_to(&self.last, self.peer);
        if self.size.is_some_and(|size| size != self.received) { Err(Cause::Truncated) } else { Ok(()) }
    }

    fn send_error(&self, code: u16, text: &str, to: SocketAddr) {
        let packet = [&ERROR.to_be_bytes(), &code.to_be_bytes(), text.as_bytes(), &[0]].concat();
        // It is a courtesy.
        let _ = self.socket.send_to(&packet, to);
    }
}

impl Read for Transfer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A file whose size is a multiple of the block's ends with an empty block.
        while self.at == self.filled {
            if self.over {
                return Ok(0);
            }
            self.advance(self.stall, false).map_err(io::Error::other)?;
        }
        let amount = self.packet.get(self.at..self.filled).unwrap_or_default().read(buffer)?;
        self.at += amount;
        Ok(amount)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if self.settled && !self.over {
            self.send_error(0, "not wanted any more", self.peer);
        }
    }
}

fn of_io(error: &io::Error) -> Cause {
    let none = Duration::ZERO;
    Cause::of_io(error, none, none, none)
}

fn word(packet: &[u8], at: usize) -> u16 {
    packet.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_be_bytes)
}
