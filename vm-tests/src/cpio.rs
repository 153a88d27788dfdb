// SPDX-License-Identifier: Apache-2.0
//! Writes cpio archives as the kernel unpacks them: the `newc` form of cpio(5) and the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::collections::BTreeSet;

/// An archive in the making. Parent folders are added by themselves.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    count: u32,
}

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

impl Archive {
    /// Adds a regular file of root's with these permission bits. `path` has no leading slash.
    pub(crate) fn file(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.parents(path);
        self.entry(path, REGULAR | mode, contents);
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.entry(path, SYMLINK | 0o777, target.as_bytes());
    }

    /// The archive with its trailer.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, b"");
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        for (index, _) in path.match_indices('/') {
            let folder = path.get(..index).unwrap_or_default();
            if self.folders.insert(folder.to_owned()) {
                self.entry(folder, DIRECTORY | 0o755, b"");
            }
        }
    }

    fn entry(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.count += 1;
        let size = u32::try_from(contents.len()).unwrap_or(u32::MAX);
        let name = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name size, checksum.
        let fields = [self.count, mode, 0, 0, 1, 1, size, 0, 0, 0, 0, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        while self.bytes.len() % 4 != 0 {
            self.bytes.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_its_folders_once_and_is_aligned() {
        let mut archive = Archive::default();
        archive.file("usr/bin/one", 0o755, b"123");
        archive.link("usr/bin/two", "one");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let count = |needle: &str| text.matches(needle).count();
        assert_eq!((count("070701"), count("usr/bin\0"), count("TRAILER!!!\0")), (5, 1, 1));
        assert!(text.contains("000081ED"), "the mode of a program is missing");
    }
}
