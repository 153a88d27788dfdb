// SPDX-License-Identifier: Apache-2.0
//! HTTP, HTTPS and TFTP for a machine whose network, name servers and clock are only just coming up.
//!
//! ureq speaks HTTP/1.1, rustls with ring TLS. What is ours, because nobody else does it this way:
//!
//! | module | what it holds |
//! |---|---|
//! | [`client`] | attempts, redirects, time limits, headers |
//! | [`cause`] | what can go wrong, in words, and whether trying again can help |
//! | `waiting` | backoff, and the few lines that the console gets while it waits |
//! | `head` | what a request says |
//! | `body` | what a response brings, watched |
//! | `resolver`, `dns` | names to addresses without the C library |
//! | `tcp`, `tls`, `way` | connections that can be given up at any moment, also through proxies |
//! | `tftp` | TFTP |
//! | [`roots`] | certificate authorities |

mod body;
pub mod cause;
pub mod client;
mod dns;
mod head;
mod resolver;
pub mod roots;
mod tcp;
mod tftp;
mod tls;
mod waiting;
mod way;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use client::{Answer, Client, Method, Request, Session, Settings};

/// Whatever waits looks up from time to time, so that it can be cancelled.
const SLICE: Duration = Duration::from_millis(200);

/// The files that tell where and whom to ask. They are read when they are needed, since they may appear only later.
#[derive(Clone, Debug)]
pub struct NetFiles {
    /// resolv.conf(5).
    pub resolv_conf: PathBuf,
    /// hosts(5).
    pub hosts: PathBuf,
    /// The port of the name servers.
    pub dns_port: u16,
    /// Bundles of certificate authorities; the first that exists counts.
    pub bundles: Vec<PathBuf>,
}

impl Default for NetFiles {
    fn default() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            dns_port: 53,
            bundles: roots::default_bundles(),
        }
    }
}

/// Tells everyone who waits that the result is of no use any more.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Cancels.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has cancelled.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The error of an operation that was cancelled.
#[derive(Debug)]
struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// Random bytes for query ids, jitter and names; never waits for the kernel's entropy.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    use rustix::rand::{GetRandomFlags, getrandom};
    let mut bytes = [0; N];
    if getrandom(&mut bytes, GetRandomFlags::INSECURE).is_err() {
        // Before Linux 5.6; weaker, but these bytes protect nothing.
        let now = crate::host::clock::since_boot().as_nanos().to_ne_bytes();
        for (byte, noise) in bytes.iter_mut().zip(now.iter().chain(now.iter().rev()).cycle()) {
            *byte ^= noise;
        }
    }
    bytes
}
