// SPDX-License-Identifier: Apache-2.0
//! The only code that touches the operating system.

pub mod atomic;
pub mod block;
pub mod bootfs;
pub mod clock;
pub mod cmd;
pub mod composefs;
pub mod device;
pub mod dmi;
pub mod environment;
mod freeze;
pub mod fs;
pub mod journal;
pub mod kexec;
pub mod label;
pub mod limit;
pub mod module;
pub mod mount;
pub mod net;
pub mod reboot;
pub mod temporary;
pub mod tree;
pub mod verity;
pub mod zram;
