// SPDX-License-Identifier: Apache-2.0
//! Files that have no name until they are right.
//!
//! They live in the file system that will hold them: unnamed (`O_TMPFILE`, open(2)), or under a random name where a file
//! system has no unnamed files, as vfat. Either way nothing is left of one that is dropped.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use data_encoding::HEXLOWER;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, openat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::net::random;

/// A file without a lasting name, readable and writable by its owner alone.
#[derive(Debug)]
pub struct Temporary {
    file: File,
    /// The random name that it has for now, if it needs one, and the directory of that. Else it costs one descriptor: there may
    /// be thousands.
    name: Option<(OwnedFd, String)>,
}

impl Temporary {
    /// Makes one in a directory.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn new(directory: BorrowedFd<'_>) -> io::Result<Self> {
        let mode = Mode::RUSR | Mode::WUSR;
        match openat(directory, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
            Ok(file) => Ok(Self { file: file.into(), name: None }),
            // What file systems and old kernels say that don't know the flag (open(2)).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => Self::named(directory),
            Err(error) => Err(error.into()),
        }
    }

    fn named(directory: BorrowedFd<'_>) -> io::Result<Self> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        loop {
            let name = random_name();
            match openat(directory, name.as_str(), flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => {
                    return Ok(Self { file: file.into(), name: Some((directory.try_clone_to_owned()?, name)) });
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name in a directory, in place of a file that has that name, at once.
    ///
    /// # Errors
    /// Whatever the operating system says; the temporary file is gone then.
    pub fn publish(self, directory: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        self.place_with(directory, name, true, &|_| Ok(()))
    }

    /// Gives it its name in any directory, at once. If that is on another file system, the contents are copied there first;
    /// owner and mode then are to be set by `finish`, which is called with every file that gets the name.
    ///
    /// # Errors
    /// Something has that name already and isn't to be replaced, or whatever the operating system says; the temporary file is
    /// gone then.
    pub(crate) fn place_with(
        mut self,
        directory: BorrowedFd<'_>,
        name: &str,
        replace: bool,
        finish: &dyn Fn(&File) -> io::Result<()>,
    ) -> io::Result<()> {
        finish(&self.file)?;
        match self.name_in(directory, name, replace) {
            Err(Errno::XDEV) => {
                let copy = Self::new(directory)?;
                (&self.file).rewind()?;
                io::copy(&mut &self.file, &mut &copy.file)?;
                copy.place_with(directory, name, replace, finish)
            }
            result => Ok(result?),
        }
    }

    fn name_in(&mut self, directory: BorrowedFd<'_>, name: &str, replace: bool) -> Result<(), Errno> {
        if self.name.is_none() {
            match self.link(directory, name) {
                Err(Errno::EXIST) if replace => {
                    let above = directory.try_clone_to_owned().map_err(|_| Errno::MFILE)?;
                    let other = random_name();
                    self.link(directory, &other)?;
                    self.name = Some((above, other));
                }
                result => return result,
            }
        }
        if let Some((above, own)) = &self.name {
            let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
            renameat_with(above, own.as_str(), directory, name, flags)?;
            self.name = None;
        }
        Ok(())
    }

    /// Where the descriptor itself may not be linked (linkat(2)), its entry in `/proc` may.
    fn link(&self, directory: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
        match linkat(self.file.as_fd(), "", directory, name, AtFlags::EMPTY_PATH) {
            Err(Errno::NOENT | Errno::PERM) => {
                let entry = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                linkat(CWD, entry, directory, name, AtFlags::SYMLINK_FOLLOW)
            }
            result => result,
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some((above, name)) = &self.name {
            // There is nobody left to tell.
            let _ = unlinkat(above, name.as_str(), AtFlags::empty());
        }
    }
}

/// A name that nothing else has.
pub(crate) fn random_name() -> String {
    format!(".fledge-{}", HEXLOWER.encode(&random::<8>()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(directory: &tempfile::TempDir) -> Vec<String> {
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn appears_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let handle = File::open(&directory).unwrap();
        for make in [Temporary::new, Temporary::named] {
            let path = directory.path().join("motd");
            for text in ["one", "two"] {
                let temporary = make(handle.as_fd()).unwrap();
                temporary.file().write_all(text.as_bytes()).unwrap();
                temporary.publish(handle.as_fd(), "motd").unwrap();
                assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
                assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
                assert_eq!(names(&directory), ["motd"]);
            }
            drop(make(handle.as_fd()).unwrap());
            assert!(make(handle.as_fd()).unwrap().publish(handle.as_fd(), "no/such/directory").is_err());
            assert_eq!(names(&directory), ["motd"]);
            std::fs::remove_file(&path).unwrap();
        }
    }
}
