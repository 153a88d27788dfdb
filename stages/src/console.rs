// SPDX-License-Identifier: Apache-2.0
//! What a person at a console is told when the boot stopped: the reason that a stage left, or at least which units failed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::host::atomic;
use crate::host::cmd::{self, Arg};
use crate::report;

/// As wide as a text console is at least.
const RULE: &str = "==============================================================================";

/// The words for a boot that stopped, from the reason that was left, or else from the units that failed. `again`: the next
/// boot is a first boot again.
pub fn boot_stopped(reason: Option<&str>, failed_units: &[String], again: bool) -> String {
    let reason = match reason.map(str::trim) {
        Some(reason) if !reason.is_empty() => reason.to_owned(),
        _ if failed_units.is_empty() => {
            "The first boot stopped, but no unit failed: most often a device that was waited for did not appear.".into()
        }
        _ => format!("The first boot stopped because of: {}", failed_units.join(", ")),
    };
    let more = "More: journalctl -b shows every step, fledge report what was done so far.";
    let again = if again { "\nThe next boot provisions this machine from the start again." } else { "" };
    format!("\n{RULE}\n{reason}\n\n{more}{again}\n{RULE}\n")
}

/// The words for a first boot that could not be marked as done.
pub fn not_marked_as_done(reason: Option<&str>) -> String {
    let reason = reason.map_or(String::new(), |reason| format!("\n{}\n", reason.trim()));
    format!(
        "\n{RULE}\nThis machine was provisioned, but its first boot could not be marked as done:\n\
         the next boot may provision it again.\n{reason}\n\
         What happened: journalctl -b -u fledge-firstboot-complete.service\n\
         What to do: remove /boot/ignition and /boot/ignition.firstboot.\n{RULE}\n"
    )
}

/// The reason that a stage of this boot left.
pub fn reason() -> Option<String> {
    fs::read_to_string(report::runtime_dir().join("failure")).ok()
}

/// The units that systemd calls failed. None, if it can't be asked: this is called when everything else went wrong.
pub fn failed_units() -> Vec<String> {
    let args = ["--failed", "--no-legend", "--plain", "--no-pager"].map(Arg::from);
    let output = cmd::run(cmd::SYSTEMCTL, &args).map(|output| output.stdout).unwrap_or_default();
    output.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Writes to every console that the kernel writes to, and to standard error for the journal.
///
/// # Errors
/// The consoles can't be listed. One that can't be written is passed over: another may work.
pub fn show(text: &str, proc_consoles: &Path, dev: &Path) -> io::Result<()> {
    let _ = io::stderr().write_all(text.as_bytes());
    for console in names(&fs::read_to_string(proc_consoles)?) {
        if let Err(error) = write_to(&dev.join(console), text) {
            log::warn!("nothing could be written to the console {console}: {error}");
        }
    }
    Ok(())
}

/// First word of each line (Linux, `fs/proc/consoles.c`).
fn names(proc_consoles: &str) -> impl Iterator<Item = &str> {
    proc_consoles.lines().filter_map(|line| line.split_whitespace().next())
}

fn write_to(console: &Path, text: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    File::from(rustix::fs::open(console, flags, Mode::empty())?).write_all(text.as_bytes())
}

/// Leaves the words for whoever logs in or stands before the login prompt (`pam_motd(8)`, `agetty(8)`).
///
/// # Errors
/// Whatever the operating system says.
pub fn leave_for_logins(text: &str, run: &Path) -> io::Result<()> {
    for path in ["motd.d/90-fledge", "issue.d/90-fledge.issue"] {
        let path = run.join(path);
        if let Some(directory) = path.parent() {
            // Read by programs without privileges.
            fs::create_dir_all(directory)?;
        }
        atomic::write(&path, 0o644, text.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_that_was_left_is_shown_whole() {
        let text =
            boot_stopped(Some("Stage files failed.\n\nwriting /etc/x: why\n  what to do: this\n"), &["x".into()], true);
        assert!(text.contains("Stage files failed.\n\nwriting /etc/x: why\n  what to do: this\n\nMore:"), "{text}");
    }

    #[test]
    fn without_a_reason_the_failed_units_are_named() {
        let units = ["sysroot.mount".into(), "ignition-disks.service".into()];
        assert!(boot_stopped(Some(" \n"), &units, true).contains("sysroot.mount, ignition-disks.service"));
        assert!(boot_stopped(None, &[], false).contains("a device that was waited for"));
    }

    #[test]
    fn every_console_gets_the_words_and_a_broken_one_stops_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let list = directory.path().join("consoles");
        fs::write(&list, "gone0                -W- (EC    )    4:66\ntty0                 -WU (E  p  )    4:1\nttyS0                -W- (EC a  )    4:64\n")
            .unwrap();
        for name in ["tty0", "ttyS0"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        show("words\n", &list, directory.path()).unwrap();
        for name in ["tty0", "ttyS0"] {
            assert_eq!(fs::read_to_string(directory.path().join(name)).unwrap(), "words\n", "{name}");
        }
        assert!(!directory.path().join("gone0").exists());
    }

    #[test]
    fn logins_find_the_words() {
        let run = tempfile::tempdir().unwrap();
        leave_for_logins(&not_marked_as_done(Some("making /boot writable: no")), run.path()).unwrap();
        for path in ["motd.d/90-fledge", "issue.d/90-fledge.issue"] {
            let text = fs::read_to_string(run.path().join(path)).unwrap();
            assert!(text.contains("making /boot writable: no"), "{text}");
            assert!(text.contains("/boot/ignition.firstboot"), "{text}");
        }
    }
}
