// SPDX-License-Identifier: Apache-2.0
//! Counts lines of this boot's journal, told apart by whether they were written in the initramfs.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// What systemd logs when it leaves the initramfs.
const LEAVING: &str = "systemd[1]: Switching root.";

pub(crate) fn search(pattern: &str) -> Result<Value> {
    let output = Command::new("journalctl")
        .args(["--boot", "--no-pager", "--quiet", "--output=short-monotonic"])
        .output()
        .context("can't run journalctl")?;
    ensure!(
        output.status.success(),
        "journalctl failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    of_text(&String::from_utf8_lossy(&output.stdout), pattern)
}

/// An absent journal holds nothing, which must not pass for the absence of one line.
fn of_text(text: &str, pattern: &str) -> Result<Value> {
    ensure!(!text.trim().is_empty(), "this boot's journal is empty");
    Ok(count(text, pattern))
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
        let fact = of_text(text, "Started x").unwrap();
        assert_eq!((fact["initramfs"].as_u64(), fact["real_root"].as_u64()), (Some(1), Some(1)));
    }

    #[test]
    fn an_empty_journal_is_an_error() {
        assert!(of_text("\n", "x").unwrap_err().to_string().contains("empty"));
    }
}
