// SPDX-License-Identifier: Apache-2.0
//! Mount options as mount(8) has them: some are flags of mount(2), some are for tools, the rest is for the file system.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// What mount(2) is given.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// Flags by the kernel's numbers (`MS_RDONLY` and so on, `include/uapi/linux/mount.h`).
    pub flags: u32,
    /// Options of the file system, with commas between them.
    pub data: String,
    /// The options as the configuration gives them.
    pub text: String,
}

const READ_ONLY: u32 = 1;
const NO_SUID: u32 = 1 << 1;
const NO_DEVICES: u32 = 1 << 2;
const NO_EXECUTION: u32 = 1 << 3;
const SYNCHRONOUS: u32 = 1 << 4;
const MANDATORY_LOCKS: u32 = 1 << 6;
const DIRECTORY_SYNC: u32 = 1 << 7;
const NO_SYMLINKS: u32 = 1 << 8;
const NO_ATIME: u32 = 1 << 10;
const NO_DIRECTORY_ATIME: u32 = 1 << 11;
const SILENT: u32 = 1 << 15;
const RELATIVE_ATIME: u32 = 1 << 21;
const INODE_VERSION: u32 = 1 << 23;
const STRICT_ATIME: u32 = 1 << 24;
const LAZY_TIME: u32 = 1 << 25;

/// Flags to set and to clear, by name.
const FLAGS: &[(&str, u32, u32)] = &[
    ("ro", READ_ONLY, 0),
    ("rw", 0, READ_ONLY),
    ("nosuid", NO_SUID, 0),
    ("suid", 0, NO_SUID),
    ("nodev", NO_DEVICES, 0),
    ("dev", 0, NO_DEVICES),
    ("noexec", NO_EXECUTION, 0),
    ("exec", 0, NO_EXECUTION),
    ("sync", SYNCHRONOUS, 0),
    ("async", 0, SYNCHRONOUS),
    ("dirsync", DIRECTORY_SYNC, 0),
    ("mand", MANDATORY_LOCKS, 0),
    ("nomand", 0, MANDATORY_LOCKS),
    ("nosymfollow", NO_SYMLINKS, 0),
    ("symfollow", 0, NO_SYMLINKS),
    ("noatime", NO_ATIME, 0),
    ("atime", 0, NO_ATIME),
    ("nodiratime", NO_DIRECTORY_ATIME, 0),
    ("diratime", 0, NO_DIRECTORY_ATIME),
    ("relatime", RELATIVE_ATIME, 0),
    ("norelatime", 0, RELATIVE_ATIME),
    ("strictatime", STRICT_ATIME, 0),
    ("nostrictatime", 0, STRICT_ATIME),
    ("iversion", INODE_VERSION, 0),
    ("noiversion", 0, INODE_VERSION),
    // Who else may mount it is for /etc/fstab; what that implies is for this mount too.
    ("user", NO_SUID | NO_DEVICES | NO_EXECUTION, 0),
    ("users", NO_SUID | NO_DEVICES | NO_EXECUTION, 0),
    ("owner", NO_SUID | NO_DEVICES, 0),
    ("group", NO_SUID | NO_DEVICES, 0),
    ("lazytime", LAZY_TIME, 0),
    ("nolazytime", 0, LAZY_TIME),
    ("silent", SILENT, 0),
    ("loud", 0, SILENT),
    ("defaults", 0, READ_ONLY | NO_SUID | NO_DEVICES | NO_EXECUTION | SYNCHRONOUS),
];

/// What is for `/etc/fstab` and the tools that read it, and says nothing about this mount.
const FOR_TOOLS: &[&str] = &[
    "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "comment", "uhelper", "helper",
];

/// What mount(8) does itself before it mounts a device, or instead of it.
const NOT_THIS: &[&str] = &[
    "bind",
    "rbind",
    "move",
    "remount",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "private",
    "rprivate",
    "unbindable",
    "runbindable",
    "loop",
    "offset",
    "sizelimit",
    "encryption",
    "verity.hashdevice",
    "verity.roothash",
];

/// Sorts options, each of which may hold several with commas between them.
///
/// # Errors
/// The option that can't be had, and why.
pub(super) fn sort(options: &[String]) -> Result<Options, String> {
    let mut sorted = Options { text: options.join(","), ..Options::default() };
    let mut data: Vec<&str> = Vec::new();
    for option in split(&sorted.text) {
        let key = option.split_once('=').map_or(option, |(key, _)| key);
        if let Some((_, set, clear)) = FLAGS.iter().find(|(name, ..)| *name == option) {
            sorted.flags = (sorted.flags & !clear) | set;
        } else if NOT_THIS.contains(&key) || (key.starts_with("X-mount.") && key != "X-mount.mkdir") {
            return Err(format!("the mount option {option:?} is not one that a file system on a device can have here"));
        } else if !(FOR_TOOLS.contains(&key) || key.starts_with("x-") || key.starts_with("X-")) {
            data.push(option);
        }
    }
    sorted.data = data.join(",").replace('"', "");
    Ok(sorted)
}

/// Splits at commas that don't stand between double quotes.
fn split(text: &str) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .map(str::trim)
    .filter(|option| !option.is_empty())
    .collect()
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn sorted(options: &[&str]) -> Result<Options, String> {
        sort(&options.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_set_and_cleared_in_order() {
        assert_eq!(sorted(&["ro", "nosuid", "rw"]).unwrap().flags, NO_SUID);
        assert_eq!(sorted(&["ro,noatime", "nodev"]).unwrap().flags, READ_ONLY | NO_ATIME | NO_DEVICES);
        assert_eq!(sorted(&["noexec", "defaults"]).unwrap().flags, 0);
        assert_eq!(sorted(&["iversion"]).unwrap().flags, INODE_VERSION);
        assert_eq!(sorted(&["iversion,noiversion"]).unwrap().flags, 0);
        assert_eq!(sorted(&["user", "exec"]).unwrap().flags, NO_SUID | NO_DEVICES);
        assert_eq!(
            sorted(&["owner"]).unwrap(),
            Options { flags: NO_SUID | NO_DEVICES, text: "owner".into(), ..Options::default() }
        );
    }

    #[test]
    fn the_rest_goes_to_the_file_system() {
        let options = sorted(&[
            "subvol=/var",
            "x-systemd.growfs",
            "nofail",
            "_netdev",
            "noauto",
            "compress=zstd:1",
            "X-mount.mkdir",
            "context=\"system_u:object_r:var_t:s0:c1,c2\"",
        ])
        .unwrap();
        assert_eq!(options.data, "subvol=/var,compress=zstd:1,context=system_u:object_r:var_t:s0:c1,c2");
        assert_eq!(options.flags, 0);
    }

    #[test]
    fn what_mount_8_does_itself_is_refused() {
        for option in ["bind", "loop", "offset=512", "X-mount.subdir=x", "remount"] {
            assert!(sorted(&[option]).is_err(), "{option}");
        }
    }
}
