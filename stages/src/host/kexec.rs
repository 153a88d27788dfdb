// SPDX-License-Identifier: Apache-2.0
//! Starting another kernel without the firmware.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `KEXEC_FILE_NO_INITRAMFS` of the kernel's `include/uapi/linux/kexec.h`.
const NO_INITRAMFS: libc::c_ulong = 4;

/// Loads a kernel and its initramfs into memory, to be started by a reboot of the kind kexec (`kexec_file_load(2)`). Both files
/// may be gone by then.
///
/// # Errors
/// Whatever the operating system says: the kernel has no kexec, is locked down, or takes this file for no kernel.
#[allow(unsafe_code, reason = "rustix has no kexec_file_load(2)")]
pub fn load(kernel: &File, initramfs: Option<&File>, command_line: &str) -> io::Result<()> {
    let command_line = CString::new(command_line)?;
    let bytes = command_line.as_bytes_with_nul();
    let initramfs_fd = initramfs.map_or(-1, AsRawFd::as_raw_fd);
    let flags = if initramfs.is_some() { 0 } else { NO_INITRAMFS };
    // SAFETY: the kernel reads `bytes.len()` bytes from a buffer that outlives the call, and nothing else through pointers; the
    // descriptors are open for as long as the borrows last.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            libc::c_long::from(kernel.as_raw_fd()),
            libc::c_long::from(initramfs_fd),
            bytes.len(),
            bytes.as_ptr(),
            flags,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_kernel_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vmlinuz");
        std::fs::write(&path, "no kernel").unwrap();
        assert!(load(&File::open(path).unwrap(), None, "quiet").is_err());
        assert!(load(&File::open("/dev/null").unwrap(), None, "qui\0et").is_err());
    }
}
