// SPDX-License-Identifier: Apache-2.0
//! The platform `file`: for trying things out.

use std::fs::File;

use fledge_core::diag::Failure;

use super::{Raw, Surroundings, read_text};

/// Reads the file. It must be there, but may be empty.
pub(super) fn ask(surroundings: &Surroundings) -> Result<Raw, Failure> {
    let path = &surroundings.config_file;
    let name = path.display().to_string();
    let text = File::open(path).and_then(read_text).map_err(|error| {
        Failure::new(format!("reading the configuration {name}"), error.to_string())
            .remedy("put it there, or name another file by IGNITION_CONFIG_FILE")
    })?;
    Ok(Raw { name, text })
}
