// SPDX-License-Identifier: Apache-2.0
//! Carries out the plan of a pivot.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use fledge_core::diag::Failure;
use fledge_core::pivot::{Plan, Step};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_move, mount_remount,
    unmount,
};
use rustix::process::chdir;

use crate::host::{atomic, composefs, module};

/// Does one step after the other.
///
/// # Errors
/// The first step that fails; none is taken back, because systemd doesn't go on.
pub(super) fn execute(plan: &Plan) -> Result<(), Failure> {
    for step in &plan.steps {
        perform(step).map_err(|Stopped(failure)| Failure { what: format!("pivoting: to {step}"), ..failure })?;
    }
    Ok(())
}

/// Why a step failed and what to do about it, of whatever step it was.
struct Stopped(Failure);

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        let remedy = "boot another boot entry, or build the initramfs with fledge_pivot=ostree (dracut.conf)";
        Self(Failure::new("", error.to_string()).remedy(remedy))
    }
}

fn perform(step: &Step) -> Result<(), Stopped> {
    // One type of argument for all calls keeps them small.
    let text = |text: &str| CString::new(text).map_err(io::Error::from);
    match step {
        Step::Directory { path, mode } => return Ok(directory(path, *mode)?),
        Step::Private => mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC),
        Step::Enter { path } => chdir(&*text(path)?),
        Step::Bind { from, to } => mount_bind(&*text(from)?, &*text(to)?),
        Step::Remount { at, readonly } => mount_remount(&*text(at)?, MountFlags::BIND | access(*readonly), c""),
        Step::Writable { at } => mount_remount(&*text(at)?, MountFlags::empty(), c""),
        Step::Verify { image } => return composefs::verify(Path::new(image)).map_err(Stopped),
        Step::Composefs { image, lower, objects, at, upper, readonly, verity } => {
            let upper = upper.as_deref();
            let options = composefs::Options { lower, objects, at, upper, readonly: *readonly, verity: *verity };
            return composefs::mount(Path::new(image), &options).map_err(Stopped);
        }
        Step::Overlay { at, lower, upper, work } => {
            let data = text(&format!("lowerdir={lower},upperdir={upper},workdir={work}"))?;
            overlay(&text(at)?, &data)
        }
        Step::Detach { at } => unmount(&*text(at)?, UnmountFlags::DETACH),
        Step::Receive { at } => {
            let at = text(at)?;
            mount_change(&*at, MountPropagationFlags::DOWNSTREAM)
                .and_then(|()| mount_change(&*at, MountPropagationFlags::SHARED))
        }
        Step::Link { path, target } => match symlink(target, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            linked => return Ok(linked?),
        },
        Step::File { path, mode, bytes } => return Ok(atomic::write(Path::new(path), *mode, bytes)?),
        Step::Move { from, to } => mount_move(&*text(from)?, &*text(to)?),
        Step::Remove { path } => return Ok(fs::remove_dir(path)?),
    }
    .map_err(|error| io::Error::from(error).into())
}

fn overlay(at: &CStr, data: &CStr) -> rustix::io::Result<()> {
    let attempt = || mount(c"overlay", at, c"overlay", MountFlags::empty(), Some(data));
    let mounted = attempt();
    if mounted != Err(Errno::NODEV) {
        return mounted;
    }
    // The kernel knows no overlay yet.
    if let Err(failure) = module::load("overlay") {
        log::warn!("{failure}");
    }
    attempt()
}

fn access(readonly: bool) -> MountFlags {
    if readonly { MountFlags::RDONLY } else { MountFlags::empty() }
}

fn directory(path: &str, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}
