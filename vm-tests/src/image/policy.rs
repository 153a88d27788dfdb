// SPDX-License-Identifier: Apache-2.0
//! Debian's reference policy for SELinux, for the targets of cases that want one. Its packages compile it when they are
//! installed, so it takes root and most of a minute; it is made when the first such case is run.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::root::mmdebstrap;
use super::{Item, recipe};
use crate::host;
use crate::progress::step;

/// What is to be made, and for whom.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) user: u32,
    pub(super) group: u32,
    /// A mirror of Debian's packages; mmdebstrap's own choice without one.
    pub(super) mirror: Option<String>,
    /// The folder for the policy.
    pub(super) policy: PathBuf,
}

/// Leaves in the folder what a system with the policy has below `/etc/selinux`, without the policy's binary.
pub(super) fn make(order: &Order) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "making the policy needs root");
    step("downloading and compiling Debian's SELinux policy", || {
        let root = order.policy.join("root");
        let mut command = mmdebstrap(recipe::SUITE, "apt", recipe::POLICY_PACKAGES, &order.policy);
        host::run(command.arg("--format=directory").arg(&root).args(&order.mirror))?;
        for (from, to) in [("config", "config"), ("default/contexts/files", "default/contexts/files")] {
            copy(&root.join("etc/selinux").join(from), &order.policy.join("selinux").join(to), order)?;
        }
        fs::remove_dir_all(&root)?;
        chown(&order.policy, Some(order.user), Some(order.group))?;
        Ok(())
    })
}

fn copy(from: &Path, to: &Path, order: &Order) -> Result<()> {
    let folder = if from.is_dir() { to } else { to.parent().context("a folder")? };
    fs::create_dir_all(folder)?;
    if from.is_dir() {
        for entry in fs::read_dir(from)?.flatten() {
            copy(&entry.path(), &to.join(entry.file_name()), order)?;
        }
        return Ok(());
    }
    fs::copy(from, to).with_context(|| format!("the policy has no {}", from.display()))?;
    Ok(chown(to, Some(order.user), Some(order.group))?)
}

/// What of the policy goes into a target, below `prefix`.
pub(super) fn items(folder: &Path, prefix: &str, items: &mut Vec<Item>) -> Result<()> {
    items.push(Item::Folder(prefix.to_owned(), 0o755));
    let mut entries: Vec<_> = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let name = format!("{prefix}/{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            self::items(&path, &name, items)?;
        } else {
            items.push(Item::File(name, 0o644, fs::read(&path)?));
        }
    }
    Ok(())
}
