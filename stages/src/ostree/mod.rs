// SPDX-License-Identifier: Apache-2.0
//! What surrounds the stages on an OSTree system: the installed config before them, `/var` between them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::pivot;

pub mod overlays;
pub mod user_config;
pub mod var;

const REMEDY: &str =
    "the boot entry's ostree= argument must name a deployment of this disk: boot another entry, or install again";

/// The deployment that the `ostree=` argument names: it names a link to `deploy/STATEROOT/deploy/CHECKSUM.N`, below the root.
///
/// # Errors
/// There is no such argument, link or deployment; `what` was being done.
pub fn deployment(what: &str, root: &Path, cmdline: &Cmdline) -> Result<PathBuf, Failure> {
    let refused = |why: String| Failure::new(what, why).remedy(REMEDY);
    let Some(argument) = pivot::target(cmdline) else {
        return Err(refused("the command line has no ostree= argument".into()));
    };
    let link = root.join(argument.trim_start_matches('/'));
    match fs::symlink_metadata(&link) {
        Ok(metadata) if metadata.is_symlink() => {}
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(refused(format!("{}: {error}", link.display())));
        }
        _ => return Err(refused(format!("{} is no symbolic link", link.display()))),
    }
    let canonical =
        |path: &Path| fs::canonicalize(path).map_err(|error| refused(format!("{}: {error}", path.display())));
    let deployment = canonical(&link)?;
    if deployment.starts_with(canonical(root)?) {
        return Ok(deployment);
    }
    Err(refused(format!("{} leads to {}", link.display(), deployment.display())))
}
