// SPDX-License-Identifier: Apache-2.0
//! Removing what stands at a path, whole directories too, but never what is mounted there.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use fledge_core::path;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags, openat, statat, statx, unlinkat};
use rustix::io::Errno;

use super::{DIRECTORY, Root};

impl Root {
    /// Removes what stands at a path. Says whether anything did.
    ///
    /// # Errors
    /// Something is mounted at the path or below it, or whatever the operating system says. What was removed before that stays
    /// removed.
    pub fn remove(&self, path: &str) -> io::Result<bool> {
        let (above, name) = path::split(path).ok_or(Errno::INVAL)?;
        let above = match self.directory(above) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        let stat = match statat(&above, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            other => other?,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let mount = mount_id(above.as_fd())?;
            let name = CString::new(name).map_err(|_| Errno::INVAL)?;
            remove_directory(above.as_fd(), &name, mount)?;
        } else {
            unlinkat(&above, name, AtFlags::empty())?;
        }
        Ok(true)
    }
}

fn remove_directory(above: BorrowedFd<'_>, name: &CString, mount: u64) -> io::Result<()> {
    let fd = openat(above, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    if mount_id(fd.as_fd())? != mount {
        let why = format!("something is mounted at {}", name.to_string_lossy());
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
    }
    let mut entries = Vec::new();
    for entry in Dir::read_from(&fd)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            entries.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    for (name, kind) in entries {
        let is_directory = match kind {
            FileType::Unknown => {
                let stat = statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            kind => kind == FileType::Directory,
        };
        if is_directory {
            remove_directory(fd.as_fd(), &name, mount)?;
        } else {
            unlinkat(&fd, &name, AtFlags::empty())?;
        }
    }
    drop(fd);
    Ok(unlinkat(above, name, AtFlags::REMOVEDIR)?)
}

fn mount_id(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}
