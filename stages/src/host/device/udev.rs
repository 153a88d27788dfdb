// SPDX-License-Identifier: Apache-2.0
//! Making udev look at a device again, and waiting until it has.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use fledge_core::diag::Failure;
use fledge_core::facts::Signature;

use crate::host::cmd;

/// Makes udev look at a device whose contents are new, and waits until it has. A bare `settle` could come before udev has seen
/// the change at all. Without udev there is nothing to wait for.
///
/// # Errors
/// `udevadm` fails.
pub fn look_again(node: &Path) -> Result<(), Failure> {
    if !is_running() {
        return Ok(());
    }
    cmd::run(cmd::UDEVADM, &["trigger".into(), "--settle".into(), node.into()]).map(drop)
}

/// Waits for the links by UUID and by label. They are for others, and another device may have taken them: none is no failure.
pub fn wait_for_links(found: &Signature) {
    const PATIENCE: Duration = Duration::from_secs(5);
    if !is_running() {
        return;
    }
    let deadline = Instant::now() + PATIENCE;
    for (kind, name) in [("by-uuid", &found.uuid), ("by-label", &found.label)] {
        // udev writes other characters in its own way.
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte)) {
            continue;
        }
        let link = Path::new("/dev/disk").join(kind).join(name);
        while fs::symlink_metadata(&link).is_err() {
            if Instant::now() >= deadline {
                log::warn!("udev has made no link {}", link.display());
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn is_running() -> bool {
    Path::new("/run/udev/control").exists()
}
