// SPDX-License-Identifier: Apache-2.0
//! Functions of the C library that a static program is better off without. The linker takes these instead.
//!
//! Its error messages go through gettext, to find out that nothing is translated in an initramfs. Without it, and without looking
//! functions up by name, the binary is 34 kB smaller.

#![allow(unsafe_code, reason = "the names of C functions are claimed; the functions themselves are safe")]

use std::ffi::{c_char, c_int};

/// gettext(3): the message as it is.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __dcgettext(
    _domain: *const c_char,
    message: *const c_char,
    _category: c_int,
) -> *const c_char {
    message
}

/// The same by its public name.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn dcgettext(_domain: *const c_char, message: *const c_char, _category: c_int) -> *const c_char {
    message
}

/// dlsym(3): nothing can be loaded, so nothing is found.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn dlsym(_handle: *const c_char, _name: *const c_char) -> *const c_char {
    std::ptr::null()
}
