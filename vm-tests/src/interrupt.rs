// SPDX-License-Identifier: Apache-2.0
//! Ctrl-C and SIGTERM as an error on the usual way out, so that everything that cleans up on drop does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on SIGINT, SIGTERM and SIGHUP no longer end the process at once; [`check`] reports them instead.
///
/// # Errors
/// If a handler can't be installed.
pub fn watch() -> Result<()> {
    let flag = ASKED.get_or_init(|| Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("can't install a signal handler")?;
    }
    Ok(())
}

/// Fails if the user asked to stop since [`watch`]. Every loop that waits calls it.
///
/// # Errors
/// With `interrupted`, once a signal came.
pub fn check() -> Result<()> {
    if ASKED.get().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
        bail!("interrupted");
    }
    Ok(())
}
