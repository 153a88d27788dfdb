// SPDX-License-Identifier: Apache-2.0
//! `/run/ostree-booted`: how the initramfs tells OSTree in the real root what it did.
//!
//! Until 2023.5 it is an empty file, with a stamp beside it for a read-only physical root; then a dictionary whose keys came one after
//! the other. What the OSTree of a deployment writes, its own `ostree-prepare-root` tells by the names that it holds.
//!
//! The dictionary is a serialized `GVariant` of type `a{sv}` (the `GVariant` Specification 1.0). Its numbers are in the machine's own
//! byte order; its offsets are little-endian on every machine.

use alloc::vec::Vec;

/// How the OSTree of a deployment wants to be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is one thing that one release began with")]
pub struct Form {
    /// A dictionary; otherwise an empty file.
    pub dictionary: bool,
    /// With the deployment's device and inode.
    pub identity: bool,
    /// With `root.transient`.
    pub transient: bool,
    /// With `root.transient-ro`, and the transient root's keys before composefs's.
    pub transient_ro: bool,
    /// Directories of a transient `/etc` have a name of their own each.
    pub unique_etc: bool,
    /// The device of a composefs root is told to systemd, and `/boot` on the root's partition is left to the generator.
    pub volatile_root: bool,
    /// A physical root that is still read-only is made writable for a hotfix, until 2023.8.
    pub remount: bool,
}

impl Form {
    /// The newest form that is known here.
    pub const NEWEST: Self = Self {
        dictionary: true,
        identity: true,
        transient: true,
        transient_ro: true,
        unique_etc: true,
        volatile_root: true,
        remount: false,
    };

    /// The form that a deployment's `ostree-prepare-root` writes.
    pub fn of(program: &[u8]) -> Self {
        let texts = texts(program);
        let holds = |wanted| holds(&texts, wanted);
        Self {
            dictionary: holds("sysroot-ro"),
            identity: holds("backing-root-device-inode"),
            transient: holds("root.transient"),
            transient_ro: holds("root.transient-ro"),
            unique_etc: holds("transient-etc.XXXXXX"),
            volatile_root: holds("/run/systemd/volatile-root"),
            remount: holds("failed to remount rootfs writable (for overlayfs)"),
        }
    }
}

/// Whether an `ostree-prepare-root` takes a kernel command line as its second argument, which its usage tells. 2025.2 doesn't.
pub fn takes_command_line(program: &[u8]) -> bool {
    holds(&texts(program), "SYSROOT [KERNEL_CMDLINE]")
}

/// What of a program could be its texts.
fn texts(program: &[u8]) -> Vec<&[u8]> {
    program.split(|byte| *byte == 0).filter(|text| text.len() > 9).collect()
}

/// Whether a text is one of them, or the end of one: a linker keeps the latter only once.
fn holds(texts: &[&[u8]], wanted: &str) -> bool {
    texts.iter().any(|text| text.ends_with(wanted.as_bytes()))
}

/// A value of the dictionary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Value<'a> {
    /// `b`.
    Boolean(bool),
    /// `s`.
    Text(&'a str),
    /// `(tt)`.
    Pair(u64, u64),
}

/// Elements and variants begin at multiples of this.
const ALIGNMENT: usize = 8;

/// Serializes a dictionary: each entry aligned, and behind them all where each ends.
pub fn serialize(entries: &[(&str, Value<'_>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for (key, value) in entries {
        pad(&mut bytes);
        bytes.extend_from_slice(&entry(key, *value));
        ends.push(bytes.len());
    }
    frame(&mut bytes, &ends);
    bytes
}

/// Device and inode of the deployment that the initramfs made the root, as the dictionary tells them; `None` if it doesn't.
pub fn identity(bytes: &[u8]) -> Option<(u64, u64)> {
    const KEY: &[u8] = b"backing-root-device-inode\0";
    let keys = bytes.windows(KEY.len()).enumerate().step_by(ALIGNMENT).filter(|(_, window)| *window == KEY);
    keys.map(|(at, _)| at + KEY.len()).find_map(|end| {
        let value = bytes.get(end.next_multiple_of(ALIGNMENT)..)?;
        let number = |at: usize| value.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let is_pair = value.get(16..)?.starts_with(b"\0(tt)");
        if is_pair { Some((number(0)?, number(8)?)) } else { None }
    })
}

/// Key, variant (value, zero, type), and where the key ends.
fn entry(key: &str, value: Value<'_>) -> Vec<u8> {
    let mut bytes = Vec::from(key.as_bytes());
    bytes.push(0);
    let end = bytes.len();
    pad(&mut bytes);
    let kind: &[u8] = match value {
        Value::Boolean(value) => {
            bytes.push(value.into());
            b"\0b"
        }
        Value::Text(text) => {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
            b"\0s"
        }
        Value::Pair(one, other) => {
            bytes.extend([one, other].into_iter().flat_map(u64::to_ne_bytes));
            b"\0(tt)"
        }
    };
    bytes.extend_from_slice(kind);
    frame(&mut bytes, &[end]);
    bytes
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
}

/// Adds offsets, each as wide as the whole with them needs: here one, two or four bytes.
fn frame(bytes: &mut Vec<u8>, ends: &[usize]) {
    let fits = |width: &usize| bytes.len() + ends.len() * width < 1 << (8 * width);
    let width = [1, 2].into_iter().find(fits).unwrap_or(4);
    for end in ends {
        bytes.extend(end.to_le_bytes().into_iter().take(width));
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    fn bytes(hexadecimal: &str) -> Vec<u8> {
        hexadecimal.split_whitespace().map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
    }

    #[cfg(target_endian = "little")]
    /// What the ostree-prepare-root of OSTree 2026.4 wrote on a machine with composefs.
    const WRITTEN: &str = "62 61 63 6b 69 6e 67 2d 72 6f 6f 74 2d 64 65 76 69 63 65 2d 69 6e 6f 64 65 00 00 00 00 00 00 00 \
        04 fd 00 00 00 00 00 00 63 c8 00 00 00 00 00 00 00 28 74 74 29 1a 00 00 72 6f 6f 74 2e 74 72 61 \
        6e 73 69 65 6e 74 00 00 00 00 62 0f 00 00 00 00 72 6f 6f 74 2e 74 72 61 6e 73 69 65 6e 74 2d 72 \
        6f 00 00 00 00 00 00 00 00 00 62 12 00 00 00 00 63 6f 6d 70 6f 73 65 66 73 00 00 00 00 00 00 00 \
        01 00 62 0a 00 00 00 00 63 6f 6d 70 6f 73 65 66 73 2e 76 65 72 69 74 79 00 00 00 00 00 00 00 00 \
        00 00 62 11 00 00 00 00 73 79 73 72 6f 6f 74 2d 72 6f 00 00 00 00 00 00 01 00 62 0b 36 4c 6c 84 a4 bc";

    #[test]
    #[cfg(target_endian = "little")]
    fn is_what_ostree_writes_byte_for_byte() {
        let entries = [
            ("backing-root-device-inode", Value::Pair(0xfd04, 0xc863)),
            ("root.transient", Value::Boolean(false)),
            ("root.transient-ro", Value::Boolean(false)),
            ("composefs", Value::Boolean(true)),
            ("composefs.verity", Value::Boolean(false)),
            ("sysroot-ro", Value::Boolean(true)),
        ];
        assert_eq!(serialize(&entries), bytes(WRITTEN));
    }

    #[test]
    fn tells_which_deployment_it_was() {
        assert_eq!(identity(&bytes(WRITTEN)), Some((0xfd04, 0xc863)));
        let later = [("a", Value::Text("backing-root-device-inode")), ("backing-root-device-inode", Value::Pair(1, 2))];
        assert_eq!(identity(&serialize(&later)), Some((1, 2)));
        assert_eq!(identity(&serialize(&[("backing-root-device-inode", Value::Boolean(true))])), None);
        assert_eq!(identity(b""), None);
        assert_eq!(identity(b"backing-root-device-inode\0"), None);
    }

    #[test]
    fn offsets_grow_with_what_they_tell() {
        assert_eq!(serialize(&[]), b"");
        let long: String = core::iter::repeat_n('x', 300).collect();
        let wide = serialize(&[("k", Value::Text(&long))]);
        // Key and zero, padding to 8, text and zero, zero and type, the entry's offset, the dictionary's.
        assert_eq!(wide.len(), 8 + 301 + 2 + 2 + 2);
        assert_eq!(wide[wide.len() - 4..], [2, 0, 0x39, 0x01]);
        let edge: String = core::iter::repeat_n('x', 243).collect();
        let narrow = serialize(&[("k", Value::Text(&edge))]);
        assert_eq!(narrow.len(), 8 + 244 + 2 + 1 + 2, "255 bytes with a narrow offset, 257 with the one behind them");
    }

    #[test]
    fn the_form_is_what_the_program_holds() {
        let program = |texts: &[&str]| {
            texts.iter().flat_map(|text| [b"\0", text.as_bytes(), b"\0"].concat()).collect::<Vec<u8>>()
        };
        let old = Form::of(&program(&[
            "/run/ostree-booted",
            "/run/ostree-sysroot-ro.stamp",
            "%s/boot/loader",
            "failed to remount rootfs writable (for overlayfs)",
        ]));
        assert!(!old.dictionary && !old.identity && !old.volatile_root && old.remount);
        let debian13 =
            Form::of(&program(&["backing-root-device-inode", "root.transient", "sysroot-ro", "transient-etc"]));
        assert!(debian13.dictionary && debian13.identity && debian13.transient);
        assert!(!debian13.remount && !debian13.transient_ro && !debian13.unique_etc && !debian13.volatile_root);
        let newest = Form::of(&program(&[
            "backing-root-device-inode",
            "root.transient",
            "root.transient-ro",
            "sysroot-ro",
            "/run/ostree/transient-etc.XXXXXX",
            "/run/systemd/volatile-root",
        ]));
        assert_eq!(newest, Form::NEWEST);
        assert!(!takes_command_line(&program(&["usage: ostree-prepare-root SYSROOT"])));
        assert!(takes_command_line(&program(&["usage: ostree-prepare-root SYSROOT [KERNEL_CMDLINE]"])));
    }
}
