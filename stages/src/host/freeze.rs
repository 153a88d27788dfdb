// SPDX-License-Identifier: Apache-2.0
//! Writing a mounted file system out to where a reader finds all of it that replays no journal (`linux/fs.h`).
#![allow(unsafe_code, reason = "neither rustix nor nix has functions for these calls")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

nix::ioctl_readwrite!(freeze, b'X', 119, c_int);
nix::ioctl_readwrite!(thaw, b'X', 120, c_int);

/// Freezes a file system and thaws it again. The descriptor is of anything on it. One that can't be frozen has no journal, and is synced.
///
/// # Errors
/// Whatever the operating system says.
pub(super) fn and_thaw(file: impl AsFd) -> io::Result<()> {
    let fd = file.as_fd().as_raw_fd();
    let mut nothing: c_int = 0;
    // SAFETY: the descriptor is open for the whole call; the kernel doesn't look at the argument, which outlives the call.
    let frozen = unsafe { freeze(fd, &raw mut nothing) };
    match frozen {
        // Whoever froze it has written it out, and thaws it.
        Err(Errno::EBUSY) => return Ok(()),
        Err(Errno::EOPNOTSUPP) => return Ok(rustix::fs::syncfs(&file)?),
        frozen => frozen?,
    };
    // SAFETY: as above.
    let thawed = unsafe { thaw(fd, &raw mut nothing) };
    Ok(thawed.map(drop)?)
}
