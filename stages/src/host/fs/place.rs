// SPDX-License-Identifier: Apache-2.0
//! Making names appear at once: a file is written without a name and linked when it is right, and what takes the place of
//! something else is made beside it under a name of its own and renamed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, XattrFlags, fgetxattr, flistxattr, fsetxattr, fstat, linkat, renameat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::{Attributes, Directory, set_attributes};
use crate::host::temporary::{Temporary, random_name};

impl Directory {
    /// A file that can be placed into this directory; nobody but root can read it until then.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn temporary(&self) -> io::Result<Temporary> {
        Temporary::new(self.as_fd())
    }

    /// Gives a file its owner, its mode and its name, in this order, so that it appears as it is to be.
    ///
    /// # Errors
    /// Something stands there and isn't to be replaced, or whatever the operating system says. Nothing is left behind then.
    pub fn place(&self, file: Temporary, name: &str, attributes: Attributes, replace: bool) -> io::Result<()> {
        file.place_with(self.as_fd(), name, replace, &|file| set_attributes(file.as_fd(), attributes).map(drop))
    }
}

/// Appends what is left to read of another file, in constant memory.
///
/// # Errors
/// Whatever the operating system says.
pub fn append(file: &Temporary, other: &mut impl Read) -> io::Result<u64> {
    file.file().seek(SeekFrom::End(0))?;
    io::copy(other, &mut file.file())
}

/// Takes over the extended attributes of another file: labels, access lists, capabilities. Those that this file system doesn't
/// take are left behind, with a warning.
///
/// # Errors
/// Whatever the operating system says about reading them.
pub fn copy_extended_attributes(file: &Temporary, other: &File) -> io::Result<()> {
    // The most that the kernel has in one list and in one value (xattr(7)).
    let mut names = vec![0_u8; 65536];
    let len = match flistxattr(other, &mut names) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        result => result?,
    };
    let mut value = vec![0_u8; 65536];
    for name in names.get(..len).unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let len = fgetxattr(other, name, &mut value)?;
        if let Err(error) = fsetxattr(file.file(), name, value.get(..len).unwrap_or_default(), XattrFlags::empty()) {
            log::warn!("the attribute {} could not be kept: {error}", String::from_utf8_lossy(name));
        }
    }
    Ok(())
}

/// Whether two files have the same contents, and the second has these attributes. Both are read from their beginning.
///
/// # Errors
/// Whatever the operating system says.
pub fn is_same(mut file: &File, mut other: &File, attributes: Attributes) -> io::Result<bool> {
    let (own, stat) = (fstat(file)?, fstat(other)?);
    if own.st_size != stat.st_size || !attributes.are_those_of(&stat) {
        return Ok(false);
    }
    file.rewind()?;
    other.rewind()?;
    let (mut left, mut right) = (vec![0; 65536], vec![0; 65536]);
    loop {
        let count = file.read(&mut left)?;
        if count == 0 {
            return Ok(true);
        }
        let (Some(left), Some(right)) = (left.get(..count), right.get_mut(..count)) else { return Ok(false) };
        if other.read_exact(right).is_err() || left != &*right {
            return Ok(false);
        }
    }
}

/// Makes a symbolic link; `own` gives it its owner, before it is seen where it replaces something.
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
    replacing(directory, name, &|temporary| {
        symlinkat(target, directory, temporary)?;
        own(temporary)
    })
}

/// Makes a hard link.
pub(super) fn hard_link(
    from: &Directory,
    from_name: &str,
    directory: &Directory,
    name: &str,
    replace: bool,
) -> io::Result<()> {
    let link = |name: &str| Ok(linkat(from, from_name, directory, name, AtFlags::empty())?);
    if replace { replacing(directory, name, &link) } else { link(name) }
}

/// Makes something under a new name and renames it over the old one.
fn replacing(directory: &Directory, name: &str, make: &dyn Fn(&str) -> io::Result<()>) -> io::Result<()> {
    let temporary = random_name();
    let result = make(&temporary).and_then(|()| Ok(renameat(directory, &temporary, directory, name)?));
    if result.is_err() {
        // The first error is the one to tell.
        let _ = unlinkat(directory, &temporary, AtFlags::empty());
    }
    result
}
