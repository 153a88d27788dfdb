// SPDX-License-Identifier: Apache-2.0
//! Copies whole trees from one file system to another, with all that makes up an installed system: owners, modes, times, extended
//! attributes (labels, capabilities, access lists, OSTree's own), hard links, symbolic links, devices, holes, and what is immutable. What can't be
//! kept ends the copy: a system that lost something on the way isn't the one that was installed.
//!
//! fs-verity can't be copied, it has to be turned on anew, and not every file system has it. On the way out it is noted in an attribute, on
//! the way back it is turned on, and the digest must be the one that it was.
//!
//! Memory doesn't grow with the tree: hard links are told by a folder that has one name for each file with several, and is gone at the end.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, IFlags, Mode, OFlags, SeekFrom, Statx, StatxAttributes, StatxFlags, StatxTimestamp,
    Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, ftruncate, ioctl_getflags, ioctl_setflags, lgetxattr,
    linkat, llistxattr, lsetxattr, makedev, mkdirat, mknodat, openat, readlinkat, seek, statx, symlinkat, syncfs,
    unlinkat, utimensat,
};
use rustix::io::{Errno, pread, pwrite};
use serde::{Deserialize, Serialize};

use super::temporary::random_name;
use super::verity;

/// Which way it goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// To where it is kept.
    Out,
    /// From there to where it belongs.
    Back,
    /// Names and contents alone, in place of what is there: vfat has nothing else.
    Plain,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Names, directories included.
    pub entries: u64,
    /// Bytes of files, each counted once.
    pub bytes: u64,
    /// Files whose fs-verity the file system can't have.
    #[serde(default, skip)]
    pub without_verity: u64,
}

/// Why a copy ended.
#[derive(Debug)]
pub struct Stopped {
    /// At what, as a path below the root of the tree.
    pub path: String,
    /// The operating system's words.
    pub error: Errno,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, io::Error::from(self.error))
    }
}

/// In which a file that is kept has the digest that fs-verity measured.
const VERITY: &str = "trusted.fledge.verity";
/// btrfs's own settings, which no other file system takes.
const BTRFS: &[u8] = b"btrfs.";
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);
/// What a list or a value of extended attributes has at most (xattr(7)).
const ATTRIBUTES: usize = 65536;

/// Copies what a directory holds, and what it is itself, to another. All of it is on the device when this returns.
///
/// # Errors
/// Whatever the operating system says, and where.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, way: Way) -> Result<Totals, Stopped> {
    let mut copier = Copier {
        way,
        totals: Totals::default(),
        path: Vec::new(),
        links: None,
        fixed: Vec::new(),
        buffer: vec![0; 1 << 18],
        names: vec![0; ATTRIBUTES],
    };
    copier.all(from, to).map_err(|error| Stopped {
        path: format!("/{}", String::from_utf8_lossy(&copier.path).trim_start_matches('/')),
        error,
    })?;
    Ok(copier.totals)
}

struct Copier {
    way: Way,
    totals: Totals,
    /// Where it is at.
    path: Vec<u8>,
    /// The folder with one name for each file that has several.
    links: Option<(OwnedFd, String)>,
    /// What takes no change once it has its flags: set last, those that are deepest first.
    fixed: Vec<(Vec<u8>, IFlags)>,
    buffer: Vec<u8>,
    names: Vec<u8>,
}

type Done<T> = rustix::io::Result<T>;

impl Copier {
    fn all(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Done<()> {
        if self.way != Way::Plain {
            let name = random_name();
            mkdirat(to, name.as_str(), Mode::RWXU)?;
            self.links = Some((openat(to, name.as_str(), DIRECTORY, Mode::empty())?, name));
        }
        self.directory(from, to)?;
        self.path.clear();
        if let Some((links, name)) = self.links.take() {
            for one in list(links.as_fd())? {
                unlinkat(&links, &one, AtFlags::empty())?;
            }
            unlinkat(to, name.as_str(), AtFlags::REMOVEDIR)?;
            let stat = look(from, c".")?;
            self.dress(from, to, c".", &stat)?;
            self.remember(&stat);
        }
        for (path, flags) in std::mem::take(&mut self.fixed).into_iter().rev() {
            self.path = path;
            let name = self.path.strip_prefix(b"/").unwrap_or(b".");
            let file = openat(to, name, OFlags::RDONLY | OFlags::NONBLOCK | FILE, Mode::empty())?;
            ioctl_setflags(&file, ioctl_getflags(&file)? | flags)?;
        }
        self.path.clear();
        sync(to)
    }

    fn directory(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Done<()> {
        for name in list(from)? {
            let len = self.path.len();
            self.path.push(b'/');
            self.path.extend_from_slice(name.as_bytes());
            self.one(from, to, &name)?;
            self.path.truncate(len);
        }
        Ok(())
    }

    fn one(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Done<()> {
        let stat = look(from, name)?;
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        self.totals.entries += 1;
        if kind == FileType::Directory {
            match mkdirat(to, name, Mode::RWXU) {
                // lost+found, and what is replaced.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            let (below, made) =
                (openat(from, name, DIRECTORY, Mode::empty())?, openat(to, name, DIRECTORY, Mode::empty())?);
            self.directory(below.as_fd(), made.as_fd())?;
            self.dress(from, to, name, &stat)?;
            self.remember(&stat);
            return Ok(());
        }
        let key = format!("{:x}.{:x}.{:x}", stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
        let links = self.links.as_ref().map(|(links, _)| links).filter(|_| stat.stx_nlink > 1);
        if let Some(links) = links {
            match linkat(links, key.as_str(), to, name, AtFlags::empty()) {
                Err(Errno::NOENT) => {}
                other => return other,
            }
        }
        match kind {
            FileType::RegularFile => self.contents(from, to, name, &stat)?,
            FileType::Symlink => symlinkat(readlinkat(from, name, Vec::new())?, to, name)?,
            other => {
                let device = makedev(stat.stx_rdev_major, stat.stx_rdev_minor);
                mknodat(to, name, other, Mode::RUSR | Mode::WUSR, device)?;
            }
        }
        self.dress(from, to, name, &stat)?;
        self.remember(&stat);
        match self.links.as_ref().filter(|_| stat.stx_nlink > 1) {
            Some((links, _)) => linkat(to, name, links, key.as_str(), AtFlags::empty()),
            None => Ok(()),
        }
    }

    fn contents(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &Statx) -> Done<()> {
        let source = openat(from, name, OFlags::RDONLY | OFlags::NONBLOCK | FILE, Mode::empty())?;
        if self.way == Way::Plain {
            match unlinkat(to, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | FILE;
        let target = openat(to, name, new, Mode::RUSR | Mode::WUSR)?;
        let (size, mut at) = (stat.stx_size, 0);
        while at < size {
            // Behind the last byte that isn't a hole there is none.
            at = match seek(&source, SeekFrom::Data(at)) {
                Err(Errno::NXIO) => break,
                other => other?,
            };
            let end = seek(&source, SeekFrom::Hole(at))?.min(size);
            while at < end {
                let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(self.buffer.len());
                let read = pread(&source, self.buffer.get_mut(..len).unwrap_or_default(), at)?;
                let mut rest = self.buffer.get(..read).unwrap_or_default();
                if rest.is_empty() {
                    return Err(Errno::IO);
                }
                while !rest.is_empty() {
                    let written = pwrite(&target, rest, at)?;
                    at += written as u64;
                    rest = rest.get(written..).unwrap_or_default();
                }
            }
        }
        ftruncate(&target, size)?;
        self.totals.bytes += size;
        Ok(())
    }

    /// Owner first: changing it takes capabilities and set-id bits away.
    fn dress(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &Statx) -> Done<()> {
        let verity = stat.stx_attributes.contains(StatxAttributes::VERITY);
        if self.way != Way::Plain {
            let owner = (Some(Uid::from_raw(stat.stx_uid)), Some(Gid::from_raw(stat.stx_gid)));
            chownat(to, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::Symlink {
                chmodat(to, name, Mode::from_raw_mode(stat.stx_mode.into()), AtFlags::empty())?;
            }
            let digest = self.attributes(&at(from, name), &at(to, name))?;
            if verity && self.way == Way::Out {
                let file = openat(from, name, OFlags::RDONLY | FILE, Mode::empty())?;
                lsetxattr(at(to, name), VERITY, &verity::measure(file.as_fd())?, XattrFlags::empty())?;
            }
            if let Some(digest) = digest {
                self.protect(to, name, &digest)?;
            }
        }
        let times = Timestamps { last_access: time(stat.stx_atime), last_modification: time(stat.stx_mtime) };
        utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Copies the extended attributes. What stands in the note of fs-verity comes back instead.
    fn attributes(&mut self, from: &[u8], to: &[u8]) -> Done<Option<Vec<u8>>> {
        let len = match llistxattr(from, &mut self.names) {
            Err(Errno::OPNOTSUPP) => return Ok(None),
            len => len?,
        };
        let mut digest = None;
        let names = self.names.get(..len).unwrap_or_default();
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty() && !name.starts_with(BTRFS)) {
            let value = self.buffer.get_mut(..ATTRIBUTES).unwrap_or_default();
            let len = lgetxattr(from, name, &mut *value)?;
            let value = value.get(..len).unwrap_or_default();
            if name == VERITY.as_bytes() && self.way == Way::Back {
                digest = Some(value.to_vec());
            } else {
                lsetxattr(to, name, value, XattrFlags::empty())?;
            }
        }
        Ok(digest)
    }

    fn protect(&mut self, to: BorrowedFd<'_>, name: &CStr, digest: &[u8]) -> Done<()> {
        let file = openat(to, name, OFlags::RDONLY | FILE, Mode::empty())?;
        match verity::enable(file.as_fd()) {
            Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS) => {
                self.totals.without_verity += 1;
                Ok(())
            }
            Ok(()) if verity::measure(file.as_fd())? == digest => Ok(()),
            // The bytes aren't those that were measured.
            Ok(()) => Err(Errno::IO),
            Err(error) => Err(error),
        }
    }

    fn remember(&mut self, stat: &Statx) {
        let has = [(StatxAttributes::IMMUTABLE, IFlags::IMMUTABLE), (StatxAttributes::APPEND, IFlags::APPEND)];
        let mut flags = IFlags::empty();
        for (attribute, flag) in has {
            if stat.stx_attributes.contains(attribute) {
                flags |= flag;
            }
        }
        if !flags.is_empty() && self.way != Way::Plain {
            self.fixed.push((self.path.clone(), flags));
        }
    }
}

fn look(at: BorrowedFd<'_>, name: &CStr) -> Done<Statx> {
    statx(at, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
}

/// The names in a directory.
///
/// # Errors
/// Whatever the operating system says.
pub fn list(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    // A root that is mounted nowhere can't be read by the descriptor that it came with.
    for entry in Dir::new(openat(directory, ".", DIRECTORY, Mode::empty())?)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Waits until all that was written to a file system is on its device.
///
/// # Errors
/// Whatever the operating system says.
pub fn sync(directory: BorrowedFd<'_>) -> rustix::io::Result<()> {
    syncfs(openat(directory, ".", DIRECTORY, Mode::empty())?)
}

/// A path for calls that know no descriptors.
fn at(directory: BorrowedFd<'_>, name: &CStr) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    path
}

fn time(time: StatxTimestamp) -> Timespec {
    Timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_nsec.into() }
}

#[cfg(test)]
mod tests;
