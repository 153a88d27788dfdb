// SPDX-License-Identifier: Apache-2.0
//! The target root: everything is reached from its descriptor, so that what is written lands inside it, whatever symbolic links
//! and mounts say.
//!
//! Paths are resolved by the kernel with `RESOLVE_IN_ROOT` and `RESOLVE_NO_MAGICLINKS` (openat2(2)): absolute links and `..`
//! count from the target root, and the links of `/proc` that lead anywhere aren't followed. A name is then made or replaced
//! relative to the descriptor of its directory.

mod place;
mod remove;
mod walk;

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fledge_core::path;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, chownat, fchmod, fchown, fstat, mkdirat,
    openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

pub use place::{append, copy_extended_attributes, is_same};
pub use walk::{feed, measure};

/// How a path is resolved that may go anywhere inside the root.
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
/// How a path is resolved that may not leave its first directory, not even for the rest of the root.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// The mode of directories that nobody asked for by name.
pub const IMPLIED_MODE: u32 = 0o755;

/// Owner, group and mode to set; `None` leaves what is there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Attributes {
    /// User id.
    pub uid: Option<u32>,
    /// Group id.
    pub gid: Option<u32>,
    /// Permission bits, special ones included.
    pub mode: Option<u32>,
}

impl Attributes {
    /// The same, with these where nothing is said.
    #[must_use]
    pub fn or(self, uid: u32, gid: u32, mode: u32) -> Self {
        Self { uid: self.uid.or(Some(uid)), gid: self.gid.or(Some(gid)), mode: self.mode.or(Some(mode)) }
    }

    /// The same, with those of a file where nothing is said. What belongs to somebody else then isn't run in that one's name, as
    /// chown(2) has it.
    #[must_use]
    pub fn or_those_of(self, file: &Metadata) -> Self {
        let (uid, gid) = (self.uid.unwrap_or(file.uid()), self.gid.unwrap_or(file.gid()));
        let mut mode = file.mode() & 0o7777;
        if (uid, gid) != (file.uid(), file.gid()) {
            // Without the right to execute, the set-group-id bit once meant something else, and the kernel leaves it.
            mode &= if mode & 0o010 == 0 { !0o4000 } else { !0o6000 };
        }
        self.or(uid, gid, mode)
    }

    fn are_those_of(self, stat: &Stat) -> bool {
        self.uid.is_none_or(|uid| uid == stat.st_uid)
            && self.gid.is_none_or(|gid| gid == stat.st_gid)
            && self.mode.is_none_or(|mode| mode == stat.st_mode & 0o7777)
    }
}

/// The target root.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

/// A directory in the target root.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Root {
    /// Opens a target root.
    ///
    /// # Errors
    /// It isn't there, or is no directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let fd = openat(CWD, &path, DIRECTORY, Mode::empty())?;
        Ok(Self { fd, path })
    }

    /// A root that is open already; `path` is how this process reaches it.
    pub fn at(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path }
    }

    /// Opens a regular file for reading; links are followed, but not out of the root.
    ///
    /// # Errors
    /// It isn't there, or is no regular file.
    pub fn open_file(&self, path: &str) -> io::Result<File> {
        // Nothing to wait for, should it be a pipe.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(inside(self.fd.as_fd(), path, flags, INSIDE)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
    }

    /// Where it is, without symbolic links: for programs that take a root, and for the table of mounts.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// It isn't there, isn't a directory, or the way to it leads out of the root.
    pub fn directory(&self, path: &str) -> io::Result<Directory> {
        Ok(Directory(inside(self.fd.as_fd(), path, DIRECTORY, INSIDE)?))
    }

    /// Opens a directory that has no symbolic links on the way to it.
    ///
    /// # Errors
    /// As [`Self::directory`], and `ELOOP` for a link.
    pub fn directory_without_links(&self, path: &str) -> io::Result<Directory> {
        Ok(Directory(inside(self.fd.as_fd(), path, DIRECTORY, INSIDE | ResolveFlags::NO_SYMLINKS)?))
    }

    /// Opens a directory, after making it and those above it where they are missing. `made` is told the paths of these.
    ///
    /// # Errors
    /// Something that is no directory is in the way, or whatever the operating system says.
    pub fn make_directories(&self, path: &str, made: &mut dyn FnMut(&str)) -> io::Result<Directory> {
        let implied = Attributes::default().or(0, 0, IMPLIED_MODE);
        make_directories(self.fd.as_fd(), path, INSIDE, implied, made)
    }

    /// The directory of a path, made if it is missing, and the path's last name.
    ///
    /// # Errors
    /// As [`Self::make_directories`]; the root itself has no name.
    pub fn make_parent<'p>(&self, path: &'p str) -> io::Result<(Directory, &'p str)> {
        let (above, name) = path::split(path).ok_or(Errno::INVAL)?;
        Ok((self.make_directories(above, &mut |_| {})?, name))
    }

    /// The nearest directory above a path that is there.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn nearest_directory(&self, path: &str) -> io::Result<Directory> {
        for above in path::ancestors(path) {
            match self.directory(above) {
                // Nothing, or something that has to go first.
                Err(error)
                    if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => {}
                other => return other,
            }
        }
        self.directory("/")
    }

    /// Makes a directory, or sets mode and owner of one that is there. Says whether anything had to be done.
    ///
    /// # Errors
    /// Something else stands there, or whatever the operating system says.
    pub fn ensure_directory(&self, path: &str, attributes: Attributes) -> io::Result<bool> {
        if let Some((above, name)) = path::split(path) {
            let above = self.make_directories(above, &mut |_| {})?;
            match make_directory(above.as_fd(), name, attributes.or(0, 0, IMPLIED_MODE)) {
                Err(Errno::EXIST) => {}
                other => return Ok(other.map(|_| true)?),
            }
            // A link that took its place meanwhile isn't followed.
            let fd = openat(above.as_fd(), name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
            return set_attributes(fd.as_fd(), attributes);
        }
        set_attributes(self.fd.as_fd(), attributes)
    }

    /// Opens a regular file for reading; links on the way are followed inside the root. `None` if nothing is there.
    ///
    /// # Errors
    /// It is no regular file, or whatever the operating system says.
    pub fn file(&self, path: &str) -> io::Result<Option<File>> {
        match inside(self.fd.as_fd(), path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, INSIDE) {
            Ok(fd) => regular(fd).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a text of at most 16 MiB; bytes that aren't UTF-8 are replaced. A file that isn't there is empty.
    ///
    /// # Errors
    /// As [`Self::file`]; the file is larger.
    pub fn text(&self, path: &str) -> io::Result<String> {
        const LIMIT: u64 = 16 << 20;
        let mut bytes = Vec::new();
        if let Some(file) = self.file(path)? {
            file.take(LIMIT + 1).read_to_end(&mut bytes)?;
        }
        if bytes.len() as u64 > LIMIT {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{path} is over {} MiB long", LIMIT >> 20),
            ));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Makes a symbolic link, or sets the owner of one with that target. Says whether anything had to be done.
    ///
    /// # Errors
    /// Something else stands there and isn't to be replaced, or whatever the operating system says.
    pub fn ensure_symlink(&self, path: &str, target: &str, owner: Attributes, replace: bool) -> io::Result<bool> {
        let (above, name) = self.make_parent(path)?;
        let owner = Attributes { mode: None, ..owner };
        if readlinkat(&above, name, Vec::new())
            .is_ok_and(|old| path::clean_link(&old.to_string_lossy()) == path::clean_link(target))
        {
            let stat = statat(&above, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if owner.are_those_of(&stat) {
                return Ok(false);
            }
            own_link(&above, name, owner)?;
            return Ok(true);
        }
        place::symlink(&above, name, target, replace, &|name| own_link(&above, name, owner.or(0, 0, 0)))?;
        Ok(true)
    }

    /// Makes a hard link. Says whether anything had to be done.
    ///
    /// # Errors
    /// Something else stands there and isn't to be replaced, the target isn't there, or whatever the operating system says.
    pub fn ensure_hard_link(&self, path: &str, target: &str, replace: bool) -> io::Result<bool> {
        let (target_above, target_name) = path::split(target).ok_or(Errno::INVAL)?;
        let target_above = self.directory(target_above)?;
        let wanted = statat(&target_above, target_name, AtFlags::SYMLINK_NOFOLLOW)?;
        let (above, name) = self.make_parent(path)?;
        match statat(&above, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(old) if (old.st_dev, old.st_ino) == (wanted.st_dev, wanted.st_ino) => return Ok(false),
            _ => {}
        }
        place::hard_link(&target_above, target_name, &above, name, replace)?;
        Ok(true)
    }
}

impl Directory {
    /// Opens a directory below this one, after making what is missing of it with this mode and owner. Links may not lead out of
    /// this directory.
    ///
    /// # Errors
    /// Something else is in the way, or whatever the operating system says.
    pub fn make_beneath(&self, path: &str, attributes: Attributes) -> io::Result<Self> {
        make_directories(self.as_fd(), path, BENEATH, attributes, &mut |_| {})
    }

    /// Where it is on this machine, without symbolic links.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn path(&self) -> io::Result<PathBuf> {
        std::fs::read_link(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// What a symbolic link in this directory leads to. `None` if nothing or something else is there.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn link(&self, name: &str) -> io::Result<Option<String>> {
        match readlinkat(&self.0, name, Vec::new()) {
            Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
            // EINVAL: it is no link.
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a regular file in this directory for reading, not following a link. `None` if nothing is there.
    ///
    /// # Errors
    /// Something else stands there, or whatever the operating system says.
    pub fn file(&self, name: &str) -> io::Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match openat(&self.0, name, flags, Mode::empty()) {
            Ok(fd) => regular(fd).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP) => Err(io::Error::other("a symbolic link stands there")),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sets owner and mode of an open file or directory. Says whether anything had to be done.
///
/// # Errors
/// Whatever the operating system says.
pub fn set_attributes(fd: BorrowedFd<'_>, attributes: Attributes) -> io::Result<bool> {
    let stat = fstat(fd)?;
    if attributes.are_those_of(&stat) {
        return Ok(false);
    }
    // Owner first: changing it takes a file's set-id bits away, which are another's then and come back only by being asked for.
    let (uid, gid) = (attributes.uid.unwrap_or(stat.st_uid), attributes.gid.unwrap_or(stat.st_gid));
    if (uid, gid) != (stat.st_uid, stat.st_gid) {
        fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    if let Some(mode) = attributes.mode {
        fchmod(fd, Mode::from_raw_mode(mode))?;
    }
    Ok(true)
}

fn own_link(above: &Directory, name: &str, owner: Attributes) -> io::Result<()> {
    let (uid, gid) = (owner.uid.map(Uid::from_raw), owner.gid.map(Gid::from_raw));
    Ok(chownat(above, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn regular(fd: OwnedFd) -> io::Result<File> {
    if FileType::from_raw_mode(fstat(&fd)?.st_mode) == FileType::RegularFile {
        Ok(fd.into())
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

/// openat2(2), which asks to be called again when a rename somewhere made it doubt its way.
fn inside(directory: BorrowedFd<'_>, path: &str, flags: OFlags, how: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let path = match path.trim_start_matches('/') {
        "" => ".",
        path => path,
    };
    let mut tries = 64_u32;
    loop {
        match openat2(directory, path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) if tries > 0 => tries -= 1,
            other => return other,
        }
    }
}

fn make_directories(
    start: BorrowedFd<'_>,
    path: &str,
    how: ResolveFlags,
    attributes: Attributes,
    made: &mut dyn FnMut(&str),
) -> io::Result<Directory> {
    let mut so_far = String::new();
    let mut directory = inside(start, "/", DIRECTORY, how)?;
    for name in path::names(path) {
        so_far.push('/');
        so_far.push_str(name);
        directory = match inside(start, &so_far, DIRECTORY, how) {
            Err(Errno::NOENT) => match make_directory(directory.as_fd(), name, attributes) {
                Ok(new) => {
                    made(&so_far);
                    new
                }
                // Somebody else made it just now; or it is a link that leads nowhere.
                Err(Errno::EXIST) => inside(start, &so_far, DIRECTORY, how)?,
                Err(error) => return Err(error.into()),
            },
            other => other?,
        };
    }
    Ok(Directory(directory))
}

/// Makes one directory; it is never more open than asked for.
fn make_directory(above: BorrowedFd<'_>, name: &str, attributes: Attributes) -> rustix::io::Result<OwnedFd> {
    mkdirat(above, name, Mode::RWXU)?;
    let fd = openat(above, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    set_attributes(fd.as_fd(), attributes).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(fd)
}

#[cfg(test)]
mod tests;
