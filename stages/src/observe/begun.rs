// SPDX-License-Identifier: Apache-2.0
//! What an earlier run of the files stage set out to make: the file [`BEGUN`] of the target.

use std::io::{self, Read};

use fledge_core::facts::Begun;
use fledge_core::plan::BEGUN;
use fledge_core::state::State;
use serde::{Deserialize, Serialize};

use crate::host::fs::Root;

/// The file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Note {
    /// The configuration that asked for it ([`State::fingerprint`]).
    pub(crate) config: String,
    #[serde(flatten)]
    pub(crate) begun: Begun,
}

/// Reads it. What another configuration began is none of this one's business.
pub(crate) fn read(root: &Root, state: &State) -> io::Result<Begun> {
    const LIMIT: u64 = 64 << 20;
    let Some(file) = root.file(BEGUN)? else { return Ok(Begun::default()) };
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text)?;
    let Note { config, mut begun } = match serde_json::from_str(&text) {
        Ok(note) => note,
        Err(error) => {
            log::warn!("{BEGUN} of the target is none of this build: {error}");
            return Ok(Begun::default());
        }
    };
    if config != state.fingerprint() {
        log::info!("{BEGUN} of the target tells of another configuration");
        return Ok(Begun::default());
    }
    for (path, original) in &mut begun.originals {
        original.intact = root.digest_of_start(path, original.size)?.is_some_and(|digest| digest == original.digest);
    }
    Ok(begun)
}
