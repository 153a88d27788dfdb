// SPDX-License-Identifier: Apache-2.0
//! What applets read: the kernel command line, and files that the user names (`-` is standard input).

use std::fs;
use std::io::{self, Read};

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_stages::host::environment;

/// Reads the whole file.
pub(crate) fn read(file: &str) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let read = if file == "-" { io::stdin().read_to_end(&mut text).map(|_| text) } else { fs::read(file) };
    read.map_err(|error| Failure::new(format!("reading {}", name(file)), error.to_string()))
}

/// How messages name the file.
pub(crate) fn name(file: &str) -> String {
    if file == "-" { "standard input".to_owned() } else { file.to_owned() }
}

/// The kernel command line, parsed.
pub(crate) fn cmdline() -> Result<Cmdline, Failure> {
    Ok(Cmdline::parse(&cmdline_text()?))
}

/// The kernel command line, from `IGNITION_KERNEL_CMDLINE_PATH` or `/proc/cmdline`.
pub(crate) fn cmdline_text() -> Result<String, Failure> {
    let path = environment::cmdline();
    match fs::read(&path) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).trim_end_matches(['\n', '\0']).to_owned()),
        Err(error) => {
            Err(Failure::new(format!("reading the kernel command line from {}", path.display()), error.to_string()))
        }
    }
}
