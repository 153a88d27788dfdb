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
        perform(step)
            .map_err(|error| Failure::new(format!("pivoting: to {step}"), error.to_string()).remedy(remedy(step)))?;
    }
    Ok(())
}

fn remedy(step: &Step) -> &'static str {
    match step {
        Step::Verify { .. } | Step::Composefs { .. } => {
            "the deployment is damaged or was not made for this: boot another boot entry, or install again"
        }
        _ => "boot another boot entry, or build the initramfs with fledge_pivot=ostree (dracut.conf)",
    }
}

fn perform(step: &Step) -> io::Result<()> {
    match step {
        Step::Directory { path, mode } => directory(path, *mode),
        Step::Private => Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?),
        Step::Enter { path } => Ok(chdir(path.as_str())?),
        Step::Bind { from, to } => Ok(mount_bind(from.as_str(), to.as_str())?),
        Step::Remount { at, readonly } => Ok(mount_remount(at.as_str(), MountFlags::BIND | access(*readonly), "")?),
        Step::Verify { image } => composefs::verify(Path::new(image)),
        Step::Composefs { image, lower, objects, at, upper, readonly, verity } => {
            let upper = upper.as_deref();
            let options = composefs::Options { lower, objects, at, upper, readonly: *readonly, verity: *verity };
            composefs::mount(Path::new(image), &options)
        }
        Step::Overlay { at, lower, upper, work, readonly } => {
            let data = CString::new(format!("lowerdir={lower},upperdir={upper},workdir={work}"))?;
            overlay(at, &data, access(*readonly))
        }
        Step::Detach { at } => Ok(unmount(at.as_str(), UnmountFlags::DETACH)?),
        Step::Receive { at } => {
            mount_change(at.as_str(), MountPropagationFlags::DOWNSTREAM)?;
            Ok(mount_change(at.as_str(), MountPropagationFlags::SHARED)?)
        }
        Step::Link { path, target } => match symlink(target, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        },
        Step::File { path, mode, bytes } => atomic::write(Path::new(path), *mode, bytes),
        Step::Move { from, to } => Ok(mount_move(from.as_str(), to.as_str())?),
        Step::Remove { path } => fs::remove_dir(path),
    }
}

fn overlay(at: &str, data: &CStr, flags: MountFlags) -> io::Result<()> {
    let attempt = || mount("overlay", at, "overlay", flags, Some(data));
    let mut mounted = attempt();
    if mounted == Err(Errno::NODEV) {
        // The kernel knows no overlay yet.
        if let Err(failure) = module::load("overlay") {
            log::warn!("{failure}");
        }
        mounted = attempt();
    }
    Ok(mounted?)
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
