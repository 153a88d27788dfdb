// SPDX-License-Identifier: Apache-2.0
//! The pivot: the deployment of the command line becomes the root that systemd switches to, with what `ostree-prepare-root` would have
//! mounted. What is to be done is decided in [`fledge_core::pivot`].

use std::path::Path;

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::pivot::{self, Composefs, IMAGE, Settings};

use crate::host::journal;

mod execute;
mod observe;
#[cfg(test)]
mod tests;
mod theirs;
mod undo;

pub use theirs::with_ostree;
pub use undo::Before;

/// What the initramfs and this command line say of the pivot.
///
/// # Errors
/// They can't be read or understood.
pub fn settings(initramfs: &Path, cmdline: &Cmdline) -> Result<Settings, Failure> {
    let file = observe::settings(initramfs)?;
    Settings::read(file.as_ref().map(|(name, text)| (*name, text.as_str())), cmdline)
}

/// Pivots. `root` is where the physical root is mounted, and where the deployment is afterwards.
///
/// # Errors
/// The settings can't be understood, the deployment isn't there or hasn't what they ask for, or a mount fails.
pub fn run(root: &Path, cmdline: &Cmdline) -> Result<(), Failure> {
    let settings = settings(Path::new("/"), cmdline)?;
    let facts = observe::facts(root, cmdline, settings)?;
    if settings.composefs == Composefs::Maybe && !facts.image {
        log::warn!(
            "the deployment {} has no {IMAGE}: the root comes without composefs and its checks",
            facts.deployment
        );
    }
    journal::deployment(&format!("{}{}", facts.root, facts.deployment), &facts.deployment, facts.identity);
    let plan = pivot::plan(settings, &facts)?;
    log::info!("{plan}");
    execute::execute(&plan)
}
