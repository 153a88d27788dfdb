// SPDX-License-Identifier: Apache-2.0
//! Making names appear at once: a file is written without a name and linked when it is right, and what takes the place of
//! something else is made beside it under a name of its own and renamed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, fgetxattr, flistxattr, fsetxattr, fstat, linkat, openat, renameat, symlinkat, unlinkat, XattrFlags,
};
use rustix::io::Errno;

use super::{Attributes, Directory, set_attributes};
use crate::host::clock;

/// A file that is being written and has no name yet.
#[derive(Debug)]
pub struct Staged {
    file: File,
    /// The name it has after all, in the directory it was made for: file systems such as vfat know no files without a name.
    name: Option<(OwnedFd, String)>,
}

impl Staged {
    /// An empty file that can be placed into a directory; nobody but root can read it until it is placed.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn new(directory: &Directory) -> io::Result<Self> {
        let mode = Mode::RUSR | Mode::WUSR;
        match openat(directory, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
            Ok(fd) => Ok(Self { file: fd.into(), name: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => Self::named(directory),
            Err(error) => Err(error.into()),
        }
    }

    /// A file without a name that somebody else has written.
    pub fn from_unnamed(fd: OwnedFd) -> Self {
        Self { file: fd.into(), name: None }
    }

    fn named(directory: &Directory) -> io::Result<Self> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut file = None;
        let name = with_new_name(&mut |name| {
            file = Some(openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?);
            Ok(())
        })?;
        let fd = file.ok_or(Errno::IO)?;
        let keeper = directory.as_fd().try_clone_to_owned()?;
        Ok(Self { file: fd.into(), name: Some((keeper, name)) })
    }

    /// The file, to read and write.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Appends what is left to read of another file, in constant memory.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn append(&mut self, other: &mut File) -> io::Result<u64> {
        self.file.seek(SeekFrom::End(0))?;
        io::copy(other, &mut self.file)
    }

    /// Takes over the extended attributes of another file: labels, access lists, capabilities. Those that this file system
    /// doesn't take are left behind.
    ///
    /// # Errors
    /// Whatever the operating system says about reading them.
    pub fn copy_extended_attributes(&self, other: &File) -> io::Result<()> {
        let mut names = vec![0_u8; 65536];
        let len = match flistxattr(other, &mut names) {
            Ok(len) => len,
            Err(Errno::OPNOTSUPP) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut value = vec![0_u8; 65536];
        for name in names.get(..len).unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let len = fgetxattr(other, name, &mut value)?;
            let value = value.get(..len).unwrap_or_default();
            if let Err(error) = fsetxattr(&self.file, name, value, XattrFlags::empty()) {
                log::warn!("the attribute {} could not be kept: {error}", String::from_utf8_lossy(name));
            }
        }
        Ok(())
    }

    /// Gives the file its owner, its mode and its name, in this order, so that it appears as it is to be.
    ///
    /// # Errors
    /// Something stands there and isn't to be replaced, or whatever the operating system says. Nothing is left behind then.
    pub fn place(mut self, directory: &Directory, name: &str, attributes: Attributes, replace: bool) -> io::Result<()> {
        set_attributes(self.file.as_fd(), attributes)?;
        if let Some((keeper, temporary)) = self.name.take() {
            let placed = if replace {
                renameat(&keeper, &temporary, directory, name)
            } else {
                rustix::fs::renameat_with(&keeper, &temporary, directory, name, rustix::fs::RenameFlags::NOREPLACE)
            };
            if placed.is_err() {
                self.name = Some((keeper, temporary));
            }
            return Ok(placed?);
        }
        let linked = if replace {
            replacing(directory, name, &mut |temporary| link_unnamed(self.file.as_fd(), directory, temporary))
        } else {
            link_unnamed(self.file.as_fd(), directory, name).map_err(io::Error::from)
        };
        match linked {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::XDEV) => {
                self.copied(directory)?.place(directory, name, attributes, replace)
            }
            other => other,
        }
    }

    /// The same contents on the file system of another directory.
    fn copied(&mut self, directory: &Directory) -> io::Result<Self> {
        let mut copy = Self::new(directory)?;
        self.file.seek(SeekFrom::Start(0))?;
        copy.append(&mut self.file)?;
        Ok(copy)
    }

    /// Whether another file has the same contents, owner and mode.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn is_same_as(&mut self, other: &mut File, attributes: Attributes) -> io::Result<bool> {
        let (own, stat) = (fstat(&self.file)?, fstat(&*other)?);
        if own.st_size != stat.st_size || !attributes.are_those_of(&stat) {
            return Ok(false);
        }
        self.file.seek(SeekFrom::Start(0))?;
        let (mut left, mut right) = (vec![0; 65536], vec![0; 65536]);
        loop {
            let count = self.file.read(&mut left)?;
            if count == 0 {
                return Ok(true);
            }
            let (Some(left), Some(right)) = (left.get(..count), right.get_mut(..count)) else { return Ok(false) };
            if other.read_exact(right).is_err() || left != &*right {
                return Ok(false);
            }
        }
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some((directory, name)) = &self.name {
            // What failed before is what is told.
            let _ = unlinkat(directory, name.as_str(), AtFlags::empty());
        }
    }
}

/// Makes a symbolic link; `own` gives it its owner before it is seen where it replaces something.
pub(super) fn symlink(
    directory: &Directory,
    name: &str,
    target: &str,
    replace: bool,
    own: &dyn Fn(&str) -> io::Result<()>,
) -> io::Result<()> {
    if !replace {
        symlinkat(target, directory, name)?;
        return own(name);
    }
    let mut owned = Ok(());
    replacing(directory, name, &mut |temporary| {
        symlinkat(target, directory, temporary)?;
        owned = own(temporary);
        Ok(())
    })?;
    owned
}

/// Makes a hard link.
pub(super) fn hard_link(
    from: &Directory,
    from_name: &str,
    directory: &Directory,
    name: &str,
    replace: bool,
) -> io::Result<()> {
    let mut link = |name: &str| linkat(from, from_name, directory, name, AtFlags::empty());
    if replace { replacing(directory, name, &mut link) } else { Ok(link(name)?) }
}

/// Makes something under a new name and renames it over the old one.
fn replacing(
    directory: &Directory,
    name: &str,
    make: &mut dyn FnMut(&str) -> rustix::io::Result<()>,
) -> io::Result<()> {
    let temporary = with_new_name(make)?;
    let renamed = renameat(directory, &temporary, directory, name);
    // Renaming one link of a file over another of the same file does nothing at all, and leaves both.
    let _ = unlinkat(directory, &temporary, AtFlags::empty());
    Ok(renamed?)
}

/// Calls with names that nothing else has, until one is free.
fn with_new_name(make: &mut dyn FnMut(&str) -> rustix::io::Result<()>) -> io::Result<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..1024 {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let moment = clock::since_boot().subsec_nanos();
        let name = format!(".fledge-{:x}-{count:x}-{moment:x}", std::process::id());
        match make(&name) {
            Ok(()) => return Ok(name),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::EXIST.into())
}

/// Gives a file without a name its name. Where the descriptor itself may not be linked, its entry in `/proc` may.
fn link_unnamed(file: BorrowedFd<'_>, directory: &Directory, name: &str) -> rustix::io::Result<()> {
    match linkat(file, "", directory, name, AtFlags::EMPTY_PATH) {
        Err(Errno::NOENT | Errno::PERM) => {
            let entry = format!("/proc/self/fd/{}", file.as_raw_fd());
            linkat(CWD, entry, directory, name, AtFlags::SYMLINK_FOLLOW)
        }
        other => other,
    }
}
