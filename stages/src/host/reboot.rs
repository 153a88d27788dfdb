// SPDX-License-Identifier: Apache-2.0
//! Rebooting from the initramfs.

use std::time::Duration;

use fledge_core::diag::Failure;
use rustix::system::RebootCommand;

use super::cmd;

/// Reboots through the firmware. It returns only if that fails.
///
/// # Errors
/// The machine goes on running.
pub fn firmware(why: &str) -> Failure {
    log::info!("rebooting {why}");
    // By force: systemd would otherwise go on with the stages while it shuts down.
    if let Err(failure) = cmd::run(cmd::SYSTEMCTL, &["reboot".into(), "--force".into()]) {
        log::warn!("{failure}");
    } else {
        std::thread::sleep(Duration::from_secs(60));
    }
    rustix::fs::sync();
    let error =
        rustix::system::reboot(RebootCommand::Restart).err().map_or_else(String::new, |error| error.to_string());
    Failure::new(format!("rebooting {why}"), error).remedy("reboot this machine by hand")
}
