// SPDX-License-Identifier: Apache-2.0
//! An xfs that was grown from an image to a large disk has very many small allocation groups, and is slow for it: it is made anew, in
//! the size that it has by now, and its files are kept in memory meanwhile (Fedora CoreOS: `autosave-xfs`).

use std::fs::File;
use std::path::Path;

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::root::transpose::{self, Plan};

use super::{Kept, Places, execute, observe};
use crate::host::device::udev;
use crate::host::{cmd, device};
use crate::root::{SEE_DISK, carry_out};

/// Makes it anew if need be. What doesn't fit into memory stays as it is: it works, if slowly.
///
/// # Errors
/// It can't be read; or, once it is being made anew, whatever the operating system says.
pub fn run(places: &Places, cmdline: &Cmdline) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| device::unreadable(&places.root.to_string_lossy(), &error);
    if !device::is_there(&places.root.to_string_lossy()) {
        return Ok(());
    }
    let found = device::signatures(&places.root).map_err(unreadable)?;
    if found.first().is_none_or(|found| found.format != "xfs") {
        return Ok(());
    }
    let file = File::open(&places.root).map_err(unreadable)?;
    let groups = device::reading(&file, transpose::allocation_groups).map_err(unreadable)?;
    drop(file);
    if groups < transpose::MANY_GROUPS {
        log::info!("the root has {groups} allocation groups, fewer than {}", transpose::MANY_GROUPS);
        return Ok(());
    }
    let facts = observe::of_root(places, cmdline)?;
    let plan = match transpose::regrow(&facts) {
        Ok(plan) => plan,
        Err(failure) => {
            log::warn!("the root has {groups} allocation groups and stays as it is: {failure}");
            return Ok(());
        }
    };
    log::info!("the root has {groups} allocation groups\n{plan}");
    let Some(old) = plan.root.clone() else { return Ok(()) };
    let mut kept = Kept { plan: Plan::default(), ..Kept::default() };
    let mut work = execute::Work { kept: &mut kept, places, store: None };
    if let Err(failure) = carry_out(&plan.before, |step| work.carry_out(step)) {
        log::warn!("the root has {groups} allocation groups and stays as it is: {failure}");
        return work.give_up();
    }
    let uuid = format!("uuid={}", old.uuid);
    let args = ["-q", "-f", "-L", "root", "-m", &uuid, &old.node];
    cmd::run(cmd::MKFS_XFS, &args.map(Into::into)).map_err(|failure| failure.remedy(SEE_DISK))?;
    udev::look_again(Path::new(&old.node))?;
    carry_out(&plan.after, |step| work.carry_out(step)).map_err(|failure| {
        failure.remedy("what was to be written back is lost when the machine is turned off: install the system again")
    })
}
