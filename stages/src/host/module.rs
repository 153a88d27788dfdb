// SPDX-License-Identifier: Apache-2.0
//! Kernel modules.

use fledge_core::diag::Failure;

use super::cmd;

/// Loads a kernel module and those that it needs; one that is built in or loaded already is fine.
///
/// # Errors
/// `modprobe` isn't there, or its last words.
pub fn load(name: &str) -> Result<(), Failure> {
    cmd::run(cmd::MODPROBE, &[name.into()]).map(drop).map_err(|failure| {
        let failure = Failure { what: format!("loading the kernel module {name}"), ..failure };
        failure.remedy("see that the initramfs holds that module (dracut: add_drivers)")
    })
}

/// Whether there is a module of that name or alias, built in or to be loaded. `None` when nobody can tell.
pub fn is_there(name: &str) -> Option<bool> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    if !std::path::Path::new("/lib/modules").join(release.trim()).join("modules.dep").exists() {
        return None;
    }
    let output = cmd::output(cmd::MODPROBE, &["--dry-run".into(), "--quiet".into(), name.into()]).ok()?;
    output.code.map(|code| code == 0)
}
