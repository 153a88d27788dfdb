// SPDX-License-Identifier: Apache-2.0
//! Connections that can be given up at any moment: by a deadline, or because somebody else's failure made them moot.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect as start_connect, socket_with, sockopt};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, LazyBuffers, NextTimeout, Transport, time::Duration as UreqDuration,
};

use super::{Cancel, Cancelled, SLICE};

/// How long one address has for itself before the next is tried beside it (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// An open connection.
#[derive(Debug)]
pub(crate) struct TcpTransport {
    stream: TcpStream,
    buffers: LazyBuffers,
    cancel: Cancel,
}

impl TcpTransport {
    /// A connection to one of the addresses.
    pub(crate) fn connect(details: &ConnectionDetails<'_>, cancel: &Cancel) -> Result<Self, ureq::Error> {
        let stream = connect(details.addrs.to_vec(), deadline(details.timeout), cancel)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Self { stream, buffers, cancel: cancel.clone() })
    }

    /// Does `operation` as soon as the socket is ready for it.
    fn when_ready(
        &mut self,
        ready: PollFlags,
        timeout: NextTimeout,
        mut operation: impl FnMut(&mut TcpStream, &mut LazyBuffers) -> io::Result<usize>,
    ) -> Result<usize, ureq::Error> {
        let until = deadline(timeout);
        loop {
            match operation(&mut self.stream, &mut self.buffers) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if until.is_some_and(|until| Instant::now() >= until) {
                        return Err(ureq::Error::Timeout(timeout.reason));
                    }
                    wait(&mut [PollFd::new(&self.stream, ready)], until, &self.cancel)?;
                }
                result => return Ok(result?),
            }
        }
    }
}

impl Transport for TcpTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let mut sent = 0;
        while sent < amount {
            sent += self.when_ready(PollFlags::OUT, timeout.for_write(), |stream, buffers| {
                stream.write(buffers.output().get(sent..amount).unwrap_or_default())
            })?;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        if self.cancel.is_set() {
            return Err(io::Error::other(Cancelled).into());
        }
        let amount = self
            .when_ready(PollFlags::IN, timeout.for_read(), |stream, buffers| stream.read(buffers.input_append_buf()))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Bytes or an end that nobody asked for: this connection is of no more use.
        matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// When a time limit ends; `None` for never.
pub(crate) fn deadline(timeout: NextTimeout) -> Option<Instant> {
    match timeout.after {
        UreqDuration::Exact(after) => Instant::now().checked_add(after),
        UreqDuration::NotHappening => None,
    }
}

/// Waits for one of the sockets, but not past `until`, and never long without a look at `cancel`.
fn wait(sockets: &mut [PollFd<'_>], until: Option<Instant>, cancel: &Cancel) -> io::Result<()> {
    if cancel.is_set() {
        return Err(io::Error::other(Cancelled));
    }
    let left = until.map_or(SLICE, |until| until.saturating_duration_since(Instant::now()).min(SLICE));
    let timeout = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
    match poll(sockets, Some(&timeout)) {
        Err(rustix::io::Errno::INTR) | Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Connects to the first address that answers, trying the next one beside the others every [`STAGGER`].
fn connect(addresses: Vec<SocketAddr>, until: Option<Instant>, cancel: &Cancel) -> io::Result<TcpStream> {
    // Those without a route fail at once; they must not be what is told of.
    let (mut ordered, others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| has_route(*address));
    ordered.extend(others);
    let mut left = ordered.into_iter();
    let mut open: Vec<OwnedFd> = Vec::new();
    let mut first_error = None;
    let mut next_start = Instant::now();
    loop {
        if open.is_empty() || Instant::now() >= next_start {
            match left.next().map(start) {
                Some(Ok(socket)) => open.push(socket),
                Some(Err(error)) => {
                    first_error.get_or_insert(error);
                    continue;
                }
                None if open.is_empty() => break,
                None => {}
            }
            next_start = Instant::now() + STAGGER;
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let slice_end = Some(until.map_or(next_start, |until| until.min(next_start)));
        let mut waiting: Vec<_> = open.iter().map(|socket| PollFd::new(socket, PollFlags::OUT)).collect();
        wait(&mut waiting, slice_end.filter(|_| left.len() > 0).or(until), cancel)?;
        let ready: Vec<bool> = waiting.iter().map(|socket| !socket.revents().is_empty()).collect();
        for (index, _) in ready.into_iter().enumerate().filter(|(_, ready)| *ready).rev() {
            let socket = open.remove(index);
            match sockopt::socket_error(&socket)? {
                Ok(()) => return finish(socket),
                Err(error) => {
                    first_error.get_or_insert(error.into());
                }
            }
        }
    }
    Err(first_error.unwrap_or_else(|| io::Error::other("the name has no address")))
}

fn start(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    match start_connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS | rustix::io::Errno::INTR) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

fn finish(socket: OwnedFd) -> io::Result<TcpStream> {
    sockopt::set_tcp_nodelay(socket.as_fd(), true)?;
    sockopt::set_socket_keepalive(socket.as_fd(), true)?;
    Ok(socket.into())
}

/// Whether packets to that address would leave the machine. A datagram socket's "connect" sends nothing.
fn has_route(address: SocketAddr) -> bool {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    any.parse::<SocketAddr>().is_ok_and(|any| UdpSocket::bind(any).is_ok_and(|socket| socket.connect(address).is_ok()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn an_address_that_refuses_does_not_hide_one_that_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let stream = connect(vec![refusing, listener.local_addr().unwrap()], Some(soon()), &Cancel::default()).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    }

    #[test]
    fn the_error_is_the_first_one() {
        let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = connect(vec![refusing], Some(soon()), &Cancel::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect(vec![], Some(soon()), &Cancel::default()).is_err());
    }

    #[test]
    fn a_connection_that_hangs_ends_when_cancelled() {
        // A full backlog: the kernel drops further attempts without an answer.
        let listener = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&listener, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address: SocketAddr = rustix::net::getsockname(&listener).unwrap().try_into().unwrap();
        let _first = TcpStream::connect(address).unwrap();
        let cancel = Cancel::default();
        let other = cancel.clone();
        let start = Instant::now();
        let thread = std::thread::spawn(move || connect(vec![address], None, &other));
        std::thread::sleep(Duration::from_millis(50));
        cancel.set();
        let error = thread.join().unwrap().unwrap_err();
        assert!(error.get_ref().is_some_and(|inner| inner.downcast_ref::<Cancelled>().is_some()), "{error}");
        assert!(start.elapsed() < Duration::from_secs(3));
        let start = Instant::now();
        let until = Some(start + Duration::from_millis(300));
        assert_eq!(connect(vec![address], until, &Cancel::default()).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(3));
    }
}
