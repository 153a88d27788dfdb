// SPDX-License-Identifier: Apache-2.0
//! The body of a response on its way to whoever wants it.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// A body that remembers whether it was the network that failed, and tells how a long one comes along.
pub(crate) struct Watched {
    inner: Box<dyn Read>,
    length: Option<u64>,
    shown: String,
    received: u64,
    start: Instant,
    next_line: Instant,
    /// The error of the network that ended it, if one did.
    pub(crate) error: Option<io::Error>,
}

impl Watched {
    pub(crate) fn new(inner: Box<dyn Read>, length: Option<u64>, shown: String) -> Self {
        let start = Instant::now();
        Self { length, inner, shown, received: 0, start, next_line: start + Duration::from_secs(10), error: None }
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(amount) => {
                self.received += amount as u64;
                if Instant::now() >= self.next_line {
                    self.next_line = Instant::now() + Duration::from_secs(30);
                    let of = self.length.map_or(String::new(), |length| format!(" of {:.1}", mebibytes(length)));
                    let seconds = self.start.elapsed().as_secs();
                    log::info!("{}: {:.1}{of} MiB after {seconds} s", self.shown, mebibytes(self.received));
                }
                Ok(amount)
            }
            Err(error) => {
                let kind = error.kind();
                self.error = Some(error);
                Err(kind.into())
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "it is for reading")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
