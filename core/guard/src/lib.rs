// SPDX-License-Identifier: Apache-2.0
//! A program without std around `fledge-core`. As soon as the core, or anything that it depends on, pulls std in, the
//! panic handler below collides with std's and `cargo check` stops with E0152.
#![no_std]

use core::alloc::{GlobalAlloc, Layout};

// Names the crate, so that it is linked and not merely listed.
use fledge_core as _;

struct NoMemory;

// SAFETY: never hands out memory; a null pointer is how an allocator says so.
unsafe impl GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: NoMemory = NoMemory;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
