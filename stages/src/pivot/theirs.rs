// SPDX-License-Identifier: Apache-2.0
//! OSTree's own program, for who wants that to pivot, into the deployment of this command line or of another one.

use std::fs;
use std::path::Path;

use fledge_core::diag::Failure;
use fledge_core::pivot;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};

use crate::host::atomic;
use crate::host::cmd::{self, Arg, Tool};
use crate::report;

/// What the program reads where it takes no command line as an argument.
const CMDLINE: &str = "/proc/cmdline";
const PROC: &str = "/proc";

/// Pivots with OSTree's own program, into the deployment of a command line other than the machine's, if one is given: as the
/// program's second argument where it takes one, else bound over `/proc/cmdline` until the program has ended. A signal that ends this
/// meanwhile leaves the bind mount there, until the machine reboots.
///
/// # Errors
/// The program isn't there or fails, or the bind mount can't be made or taken away.
pub fn with_ostree(root: &Path, cmdline: Option<&str>) -> Result<(), Failure> {
    start(cmd::OSTREE_PREPARE_ROOT, root, cmdline)
}

pub(super) fn start(tool: Tool, root: &Path, cmdline: Option<&str>) -> Result<(), Failure> {
    let run = |args: &[Arg<'_>]| {
        let output = cmd::run(tool, args)?;
        log::info!("{}{}", output.stdout, output.stderr);
        Ok(())
    };
    let root = Arg::from(root);
    let Some(cmdline) = cmdline else { return run(&[root]) };
    let program = cmd::find(tool).and_then(|path| fs::read(path).ok()).unwrap_or_default();
    if pivot::takes_command_line(&program) {
        log::info!("{} takes another command line as its second argument", tool.name);
        return run(&[root, cmdline.into()]);
    }
    log::info!("{} reads {CMDLINE}: another command line is bound over it meanwhile", tool.name);
    let failed = |error: std::io::Error| Failure::new(format!("changing {CMDLINE} for OSTree"), error.to_string());
    let path = report::runtime_dir().join("cmdline");
    atomic::write(&path, 0o444, format!("{cmdline}\n").as_bytes()).map_err(failed)?;
    // Namespaces of services get what is mounted below a shared mount, and would keep it; the program takes all of them out of
    // propagation in any case.
    mount_change(PROC, MountPropagationFlags::PRIVATE)
        .and_then(|()| mount_bind(path.as_path(), Path::new(CMDLINE)))
        .map_err(|error| failed(error.into()))?;
    let result = run(&[root]);
    let taken_away = unmount(Path::new(CMDLINE), UnmountFlags::DETACH).map_err(Into::into);
    let removed = taken_away.and_then(|()| fs::remove_file(&path)).map_err(failed);
    match (result, removed) {
        (Err(failure), Err(other)) => Err(Failure { why: format!("{}; and {other}", failure.why), ..failure }),
        (result, removed) => result.and(removed),
    }
}
