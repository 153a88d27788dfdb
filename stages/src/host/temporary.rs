// SPDX-License-Identifier: Apache-2.0
//! Files that have no name until they are right.
//!
//! They live in the file system that will hold them: unnamed (`O_TMPFILE`, open(2)), or under a random name where a file
//! system has no unnamed files, as vfat. Either way nothing is left of one that is dropped.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use data_encoding::HEXLOWER;
use rustix::fs::{AtFlags, Mode, OFlags, linkat, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::net::random;

/// A file without a lasting name, readable and writable by its owner alone.
#[derive(Debug)]
pub struct Temporary {
    directory: OwnedFd,
    file: File,
    /// The random name that it has for now, if it needs one.
    name: Option<String>,
}

impl Temporary {
    /// Makes one in a directory.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn new(directory: BorrowedFd<'_>) -> io::Result<Self> {
        let mode = Mode::RUSR | Mode::WUSR;
        match openat(directory, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
            Ok(file) => Ok(Self { directory: directory.try_clone_to_owned()?, file: file.into(), name: None }),
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
                    return Ok(Self {
                        directory: directory.try_clone_to_owned()?,
                        file: file.into(),
                        name: Some(name),
                    });
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

    /// Gives it its name in its directory, in place of a file that has that name, at once.
    ///
    /// # Errors
    /// Whatever the operating system says; the temporary file is gone then.
    pub fn publish(mut self, name: &str) -> io::Result<()> {
        if self.name.is_none() {
            match self.link(name) {
                Err(Errno::EXIST) => {
                    let other = random_name();
                    self.link(&other)?;
                    self.name = Some(other);
                }
                result => return Ok(result?),
            }
        }
        if let Some(own) = &self.name {
            renameat(&self.directory, own.as_str(), &self.directory, name)?;
        }
        self.name = None;
        Ok(())
    }

    fn link(&self, name: &str) -> Result<(), Errno> {
        linkat(self.file.as_fd(), "", &self.directory, name, AtFlags::EMPTY_PATH)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // There is nobody left to tell.
            let _ = unlinkat(&self.directory, name.as_str(), AtFlags::empty());
        }
    }
}

fn random_name() -> String {
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
                temporary.publish("motd").unwrap();
                assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
                assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
                assert_eq!(names(&directory), ["motd"]);
            }
            drop(make(handle.as_fd()).unwrap());
            assert!(make(handle.as_fd()).unwrap().publish("no/such/directory").is_err());
            assert_eq!(names(&directory), ["motd"]);
            std::fs::remove_file(&path).unwrap();
        }
    }
}
