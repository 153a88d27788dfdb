// SPDX-License-Identifier: Apache-2.0
//! Taking back what a pivot did that failed, so that another one can be done in its stead.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fledge_core::diag::Failure;
use fledge_core::pivot::{BOOTED, NEW, READONLY_STAMP, STATE, VOLATILE_ROOT};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::process::chdir;

use crate::host::mount::{self, Mount};

/// What a pivot leaves for others.
const FILES: [&str; 4] = [BOOTED, READONLY_STAMP, VOLATILE_ROOT, STATE];

/// What was there before a pivot.
#[derive(Debug)]
pub struct Before {
    root: PathBuf,
    mounts: Vec<Mount>,
    /// Which of [`FILES`] were.
    files: Vec<&'static str>,
}

impl Before {
    /// Looks. `root` is where the physical root is mounted.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn look(root: &Path) -> io::Result<Self> {
        let files = FILES.into_iter().filter(|path| is_there(path)).collect();
        Ok(Self { root: root.canonicalize()?, mounts: mount::table()?, files })
    }

    /// Makes it so again after a pivot failed, be it ours or OSTree's own program.
    ///
    /// # Errors
    /// It can't be: what the physical root was is moved away, or something can't be unmounted or removed.
    pub fn restore(&self) -> Result<(), Failure> {
        let failed = |why: String| Failure::new("taking back a pivot that failed", why);
        self.unmount_all().map_err(failed)?;
        for path in FILES.into_iter().filter(|path| !self.files.contains(path) && is_there(path)) {
            // OSTree's own program wants to make its folder itself. It is in memory, and nothing is mounted there any more.
            let removed = if path == STATE { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.map_err(|error| failed(format!("removing {path}: {error}")))?;
        }
        Ok(())
    }

    fn unmount_all(&self) -> Result<(), String> {
        let words = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        chdir("/").map_err(|error| words("leaving the deployment", &error))?;
        let now = mount::table().map_err(|error| error.to_string())?;
        // What was mounted meanwhile where a pivot mounts something.
        let is_new = |mount: &&Mount| self.concerns(mount) && !is_in(&self.mounts, mount);
        let mut new: Vec<&Mount> = now.iter().filter(is_new).collect();
        let is_gone = |old: &&Mount| self.concerns(old) && !is_in(&now, old);
        let gone: Vec<&Mount> = self.mounts.iter().filter(is_gone).collect();
        match gone.as_slice() {
            [] => {}
            // A pivot lets go of it once it has it in its new place, too.
            [root] if root.point == self.root => {
                let below = Path::new(NEW).join("sysroot");
                if !new.iter().any(|mount| mount.point == below) {
                    return Err(format!("{} isn't mounted any more", self.root.display()));
                }
                mount_bind(&below, &self.root).map_err(|error| words("mounting the physical root again", &error))?;
            }
            [other, ..] => return Err(format!("{} isn't mounted any more", other.point.display())),
        }
        new.reverse();
        for Mount { point, .. } in &new {
            // With one goes what is mounted below it.
            let _ = unmount(point, UnmountFlags::DETACH);
        }
        let left = mount::table().map_err(|error| error.to_string())?;
        match new.iter().find(|new| is_in(&left, new)) {
            Some(left) => Err(format!("{} can't be unmounted", left.point.display())),
            None => Ok(()),
        }
    }

    fn concerns(&self, mount: &Mount) -> bool {
        [Path::new(NEW), Path::new(STATE), &self.root].into_iter().any(|place| mount.point.starts_with(place))
    }
}

/// The kernel gives the number of a mount that is gone to the next one that is made.
fn is_in(table: &[Mount], mount: &Mount) -> bool {
    table.iter().any(|other| other.id == mount.id && other.point == mount.point)
}

fn is_there(path: &str) -> bool {
    fs::symlink_metadata(path).is_ok()
}
