// SPDX-License-Identifier: Apache-2.0
//! Files that the user names on the command line; `-` is standard input.

use std::fs;
use std::io::{self, Read};

use fledge_core::diag::Failure;

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
