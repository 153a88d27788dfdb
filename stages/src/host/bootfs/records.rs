// SPDX-License-Identifier: Apache-2.0
//! Empty files whose names are what counts, and files that a bootloader reads where they were.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use fledge_core::diag::Failure;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, StatVfsMountFlags, XattrFlags, fgetxattr, fsetxattr, fstat, fstatvfs, fsync,
    openat, renameat, unlinkat,
};
use rustix::io::Errno;

use super::BootFs;
use crate::host::freeze;
use crate::host::fs::{Attributes, Directory};

/// Where the kernel keeps a label (xattr(7)). In the initramfs no policy is loaded that would give one.
const LABEL: &str = "security.selinux";

impl BootFs {
    /// The names in a folder; none if it isn't there.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn names(&self, folder: &str) -> Result<Vec<String>, Failure> {
        let list = || -> io::Result<Vec<String>> {
            let directory = match self.root().directory(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                directory => directory?,
            };
            let mut names = Vec::new();
            for found in Dir::read_from(&directory)? {
                let name = found?.file_name().to_string_lossy().into_owned();
                if name != "." && name != ".." {
                    names.push(name);
                }
            }
            Ok(names)
        };
        list().map_err(|error| failure("reading", folder, &error))
    }

    /// Whether it can be written to.
    pub fn is_writable(&self) -> bool {
        fstatvfs(self.root()).is_ok_and(|stat| !stat.f_flag.contains(StatVfsMountFlags::RDONLY))
    }

    /// Makes an empty file, and the folders above it, with the label of the file system's root. One that is there is right.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn create_name(&self, folder: &str, name: &str) -> Result<(), Failure> {
        let create = || {
            let attributes = Attributes::default().or(0, 0, 0o755);
            let mut above = String::new();
            for part in fledge_core::path::names(folder) {
                let directory = self.root().directory(if above.is_empty() { "/" } else { &above })?;
                above.extend(["/", part]);
                if self.root().directory_without_links(&above).is_err() {
                    self.label(&directory.make_beneath(part, attributes)?);
                }
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
            match openat(&self.folder(folder)?, name, flags, mode) {
                Err(Errno::EXIST) => Ok(()),
                file => {
                    self.label(file?);
                    Ok(())
                }
            }
        };
        create().map_err(|error: io::Error| failure("making", &format!("{folder}/{name}"), &error))
    }

    /// Renames a file within a folder; one of the new name gives way.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn rename_name(&self, folder: &str, from: &str, to: &str) -> Result<(), Failure> {
        let renamed = self.folder(folder).and_then(|folder| Ok(renameat(&folder, from, &folder, to)?));
        renamed.map_err(|error| failure(&format!("renaming {from} to {to} in"), folder, &error))
    }

    /// Removes a file from a folder. One that isn't there is right.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn remove_name(&self, folder: &str, name: &str) -> Result<(), Failure> {
        let remove = || match unlinkat(&self.folder(folder)?, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            removed => Ok(removed?),
        };
        remove().map_err(|error: io::Error| failure("removing", &format!("{folder}/{name}"), &error))
    }

    /// Brings the names of a folder to the disk. A folder that isn't there has none.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn sync_names(&self, folder: &str) -> Result<(), Failure> {
        let sync = || match self.folder(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            folder => Ok(fsync(folder?)?),
        };
        sync().map_err(|error: io::Error| failure("writing", folder, &error))
    }

    /// Overwrites a file of the same size in its place, and brings that to the disk: who replays no journal sees it. A file that isn't
    /// there is made.
    ///
    /// # Errors
    /// It is a link or of another size, or whatever the operating system says.
    pub fn overwrite(&self, path: &str, bytes: &[u8]) -> Result<(), Failure> {
        let write = || -> io::Result<bool> {
            let (above, name) = fledge_core::path::split(path).ok_or(Errno::INVAL)?;
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file = match openat(&self.root().directory(above)?, name, flags, Mode::empty()) {
                Err(Errno::NOENT) => return Ok(false),
                Err(Errno::LOOP) => return Err(io::Error::other("it is a symbolic link")),
                opened => File::from(opened?),
            };
            let stat = fstat(&file)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(io::Error::other("it is no regular file"));
            }
            if u64::try_from(stat.st_size) != Ok(bytes.len() as u64) {
                return Err(io::Error::other(format!("it has {} bytes, not {}", stat.st_size, bytes.len())));
            }
            file.write_all_at(bytes, 0)?;
            file.sync_all()?;
            Ok(true)
        };
        if write().map_err(|error| failure("overwriting", path, &error))? {
            return Ok(());
        }
        self.write_readable(path, bytes)
    }

    /// Brings all that was written to where a bootloader finds it that replays no journal.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn flush(&self) -> Result<(), Failure> {
        let flush = || {
            // The root of a detached mount is open only as a place.
            let root = self.root().directory("/")?;
            freeze::and_thaw(&root)
        };
        flush().map_err(|error: io::Error| failure("freezing and thawing", "/", &error))
    }

    fn folder(&self, folder: &str) -> io::Result<Directory> {
        self.root().directory_without_links(folder)
    }

    /// Labels are a help: without one, the file is still found.
    fn label(&self, file: impl AsFd) {
        let mut label = [0_u8; 1024];
        let Ok(root) = self.root().directory("/") else { return };
        let Ok(length) = fgetxattr(&root, LABEL, &mut label) else { return };
        if let Err(error) = fsetxattr(file, LABEL, label.get(..length).unwrap_or_default(), XattrFlags::empty()) {
            log::warn!("a file on the boot file system could not be labelled: {error}");
        }
    }
}

fn failure(what: &str, path: &str, error: &io::Error) -> Failure {
    Failure::new(format!("{what} {path} on the boot file system"), error.to_string())
        .remedy("check that the boot file system has room and can be written")
}
