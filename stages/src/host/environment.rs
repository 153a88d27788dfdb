// SPDX-License-Identifier: Apache-2.0
//! What distributions and tests override by environment variables.

use std::ffi::OsString;
use std::path::PathBuf;

/// A variable's value. As in Ignition, an empty one counts for none.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The path that a variable gives, or the usual one.
pub fn path(name: &str, usual: &str) -> PathBuf {
    variable(name).map_or_else(|| usual.into(), PathBuf::from)
}

/// The file that holds the kernel command line.
pub fn cmdline() -> PathBuf {
    path("IGNITION_KERNEL_CMDLINE_PATH", "/proc/cmdline")
}
