// SPDX-License-Identifier: Apache-2.0
//! Counts lines of this boot's journal, told apart by whether they were written in the initramfs.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// What systemd logs when it leaves the initramfs.
const LEAVING: &str = "systemd[1]: Switching root.";

pub(crate) fn search(pattern: &str) -> Result<Value> {
    let output = Command::new("journalctl")
        .args(["--boot", "--no-pager", "--quiet", "--output=short-monotonic"])
        .output()
        .context("can't run journalctl")?;
    Ok(count(&String::from_utf8_lossy(&output.stdout), pattern))
}

fn count(text: &str, pattern: &str) -> Value {
    let (mut initramfs, mut real_root, mut left) = (0, 0, false);
    let mut lines = Vec::new();
    for line in text.lines() {
        left = left || line.contains(LEAVING);
        // The checker's own words about what it looks for don't count.
        if line.contains(pattern) && !line.contains("fledge-test") && !line.contains(" checker[") {
            *(if left { &mut real_root } else { &mut initramfs }) += 1;
            if lines.len() < 5 {
                lines.push(line);
            }
        }
    }
    json!({ "initramfs": initramfs, "real_root": real_root, "lines": lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart_by_the_switch() {
        let text = "[1] systemd[1]: Started x.\n[2] systemd[1]: Switching root.\n[3] systemd[1]: Started x.\n";
        let fact = count(text, "Started x");
        assert_eq!((fact["initramfs"].as_u64(), fact["real_root"].as_u64()), (Some(1), Some(1)));
    }
}
