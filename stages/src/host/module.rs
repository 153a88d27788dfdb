// SPDX-License-Identifier: Apache-2.0
//! Kernel modules.

use std::process::{Command, Stdio};

use fledge_core::diag::Failure;

/// Loads a kernel module and those that it needs; one that is built in or loaded already is fine.
///
/// # Errors
/// `modprobe` isn't there, or its last words.
pub fn load(name: &str) -> Result<(), Failure> {
    let failed = |why: String| {
        Failure::new(format!("loading the kernel module {name}"), why)
            .remedy("see that the initramfs holds that module (dracut: add_drivers)")
    };
    let output = Command::new("modprobe")
        .arg(name)
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| failed(format!("modprobe can't be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("modprobe failed: {}", words.lines().last().unwrap_or("it said nothing"))))
}
