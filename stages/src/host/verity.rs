// SPDX-License-Identifier: Apache-2.0
//! fs-verity of single files (`linux/fsverity.h`; kernel `Documentation/filesystems/fsverity.rst`).
#![allow(unsafe_code, reason = "two ioctls, which neither rustix nor nix has a function for")]

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// `struct fsverity_enable_arg`.
#[repr(C)]
struct Enable {
    version: u32,
    algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved: u32,
    signature: u64,
    reserved_too: [u64; 11],
}

/// `struct fsverity_digest`, with room for the longest that there is.
#[repr(C)]
struct Digest {
    algorithm: u16,
    size: u16,
    bytes: [u8; 64],
}

/// `FS_VERITY_HASH_ALG_SHA256`, which OSTree and composefs take, in blocks of 4096 bytes.
const SHA256: u32 = 1;

nix::ioctl_write_ptr!(
    #[doc = "`FS_IOC_ENABLE_VERITY`."]
    call_enable,
    b'f',
    133,
    Enable
);
// The size in the number is that of the structure without the digest.
nix::ioctl_readwrite_bad!(
    #[doc = "`FS_IOC_MEASURE_VERITY`."]
    call_measure,
    nix::request_code_readwrite!(b'f', 134, 4),
    Digest
);

/// Turns it on, as OSTree does. Nobody may have the file open for writing.
///
/// # Errors
/// `EOPNOTSUPP` or `ENOTTY` if the file system hasn't got it; whatever else the operating system says.
pub fn enable(file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let argument = Enable {
        version: 1,
        algorithm: SHA256,
        block_size: 4096,
        salt_size: 0,
        salt: 0,
        signature_size: 0,
        reserved: 0,
        signature: 0,
        reserved_too: [0; 11],
    };
    // SAFETY: the descriptor is open for the whole call. The argument has the layout of the kernel's structure and outlives the call, which only
    // reads it; it points nowhere, as both sizes are 0.
    unsafe { call_enable(file.as_raw_fd(), &raw const argument) }.map(drop).map_err(errno)
}

/// What it measures: the number of the algorithm in two bytes, and the digest.
///
/// # Errors
/// It is off; or whatever the operating system says.
pub fn measure(file: BorrowedFd<'_>) -> rustix::io::Result<Vec<u8>> {
    let mut found = Digest { algorithm: 0, size: 64, bytes: [0; 64] };
    // SAFETY: the descriptor is open for the whole call. The kernel writes into the structure, which has its layout, and no more than `size`
    // bytes of digest.
    unsafe { call_measure(file.as_raw_fd(), &raw mut found) }.map_err(errno)?;
    let digest = found.bytes.get(..usize::from(found.size)).unwrap_or_default();
    Ok([found.algorithm.to_le_bytes().as_slice(), digest].concat())
}

fn errno(error: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(error as i32)
}
