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
