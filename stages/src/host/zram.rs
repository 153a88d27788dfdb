// SPDX-License-Identifier: Apache-2.0
//! Compressed memory as a block device (kernel `Documentation/admin-guide/blockdev/zram.rst`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cmd;

const CONTROL: &str = "/sys/class/zram-control";

/// Makes a device of a size that takes no more than `limit` bytes of memory, and tells its number.
///
/// # Errors
/// The kernel hasn't got it; or whatever the operating system says.
pub fn add(size: u64, limit: u64) -> io::Result<u32> {
    if !Path::new(CONTROL).exists() {
        let loaded = cmd::run(cmd::MODPROBE, &["zram".into(), "num_devices=0".into()]);
        loaded.map_err(|failure| io::Error::other(failure.to_string()))?;
    }
    let number = fs::read_to_string(Path::new(CONTROL).join("hot_add"))?.trim().parse().map_err(io::Error::other)?;
    let set = |name: &str, value: u64| fs::write(folder(number).join(name), value.to_string());
    if let Err(error) = set("disksize", size).and_then(|()| set("mem_limit", limit)) {
        remove(number)?;
        return Err(error);
    }
    Ok(number)
}

/// The device's node.
pub fn node(number: u32) -> PathBuf {
    format!("/dev/zram{number}").into()
}

/// Bytes of memory that it takes, for people.
pub fn used(number: u32) -> Option<u64> {
    let text = fs::read_to_string(folder(number).join("mm_stat")).ok()?;
    text.split_whitespace().nth(2)?.parse().ok()
}

/// Removes it, and gives its memory back. udev may still be looking at it.
///
/// # Errors
/// It stays in use, or whatever else the operating system says.
pub fn remove(number: u32) -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let start = Instant::now();
    loop {
        let removed = fs::write(Path::new(CONTROL).join("hot_remove"), number.to_string());
        match removed {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            other => return other,
        }
    }
}

fn folder(number: u32) -> PathBuf {
    format!("/sys/block/zram{number}").into()
}
