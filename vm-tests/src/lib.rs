// SPDX-License-Identifier: Apache-2.0
//! Fledge in virtual machines.

pub mod cache;
mod cpio;
pub mod host;
pub mod image;
pub mod interrupt;
pub mod progress;
pub mod qemu;
pub mod tools;
