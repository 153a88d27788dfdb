// SPDX-License-Identifier: Apache-2.0
//! What an earlier run of the files stage set out to make: the file [`BEGUN`] of the target.

use std::io::{self, Read, Seek, SeekFrom};

use fledge_core::facts::{Begun, Now, Original};
use fledge_core::plan::BEGUN;
use fledge_core::state::State;
use serde::{Deserialize, Serialize};

use crate::host::fs::{Root, measure};

/// The file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Note {
    /// The configuration that asked for it ([`State::fingerprint`]).
    pub(crate) config: String,
    pub(crate) begun: Begun,
}

/// Reads it, and looks at what has become of the files that were to be appended to. What another configuration began is none of
/// this one's business.
pub(crate) fn look(root: &Root, state: &State) -> io::Result<Begun> {
    let mut begun = read(root, state)?;
    for (path, original) in &mut begun.originals {
        original.now = now(root, path, original)?;
    }
    Ok(begun)
}

/// Reads it as it was written.
pub(crate) fn read(root: &Root, state: &State) -> io::Result<Begun> {
    const LIMIT: u64 = 64 << 20;
    let Some(file) = root.file(BEGUN)? else { return Ok(Begun::default()) };
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text)?;
    let Note { config, begun } = match serde_json::from_str(&text) {
        Ok(note) => note,
        Err(error) => {
            log::warn!("{BEGUN} of the target is none of this build: {error}");
            return Ok(Begun::default());
        }
    };
    // Without a fingerprint, there is no telling whose it is.
    if config.is_empty() || config != state.fingerprint() {
        log::info!("{BEGUN} of the target tells of another configuration");
        return Ok(Begun::default());
    }
    Ok(begun)
}

fn now(root: &Root, path: &str, original: &Original) -> io::Result<Now> {
    let Some(mut file) = root.file(path)? else { return Ok(Now::Changed) };
    let size = file.metadata()?.len();
    if size < original.size || measure(&mut (&mut file).take(original.size))?.digest != original.digest {
        return Ok(Now::Changed);
    }
    let more = size - original.size;
    if more == 0 {
        return Ok(Now::Intact);
    }
    for appended in original.appended.iter().filter(|appended| appended.size <= more) {
        file.seek(SeekFrom::Start(original.size))?;
        if measure(&mut (&mut file).take(appended.size))?.digest == appended.digest {
            return Ok(if appended.size == more { Now::Intact } else { Now::Continued });
        }
    }
    Ok(Now::Changed)
}
