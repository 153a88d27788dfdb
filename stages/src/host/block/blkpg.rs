// SPDX-License-Identifier: Apache-2.0
//! The kernel's call BLKPG, which changes one partition and leaves the others alone (`linux/blkpg.h`). The only unsafe code of Fledge:
//! neither rustix nor nix has a function for it.
#![allow(unsafe_code, reason = "an ioctl whose argument holds a pointer")]

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::num::TryFromIntError;
use std::os::fd::AsRawFd;

/// What to do with a partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(i32)]
pub(super) enum Operation {
    Add = 1,
    Delete = 2,
    Resize = 3,
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct Argument {
    operation: c_int,
    flags: c_int,
    size: c_int,
    partition: *const Partition,
}

/// `struct blkpg_partition`. The names are not looked at.
#[repr(C)]
struct Partition {
    start: i64,
    length: i64,
    number: c_int,
    device: [u8; 64],
    volume: [u8; 64],
}

nix::ioctl_write_ptr_bad!(call, nix::request_code_none!(0x12, 105), Argument);

/// Changes one partition of a disk; start and length in bytes.
pub(super) fn change(disk: &File, operation: Operation, number: u32, start: u64, length: u64) -> io::Result<()> {
    let invalid = |_: TryFromIntError| io::Error::from(io::ErrorKind::InvalidInput);
    let partition = Partition {
        start: start.try_into().map_err(invalid)?,
        length: length.try_into().map_err(invalid)?,
        number: number.try_into().map_err(invalid)?,
        device: [0; 64],
        volume: [0; 64],
    };
    let size = c_int::try_from(size_of::<Partition>()).map_err(invalid)?;
    let argument = Argument { operation: operation as c_int, flags: 0, size, partition: &raw const partition };
    // SAFETY: the descriptor is open for the whole call. The argument and the partition that it points to have the layout of the
    // kernel's structures, and both outlive the call, which only reads them.
    unsafe { call(disk.as_raw_fd(), &raw const argument) }?;
    Ok(())
}
