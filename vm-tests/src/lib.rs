// SPDX-License-Identifier: Apache-2.0
//! Fledge in virtual machines.

pub mod cache;
pub mod case;
mod cpio;
pub mod demo;
pub mod facts;
pub mod host;
pub mod image;
pub mod interrupt;
pub mod progress;
pub mod qemu;
pub mod run;
pub mod serve;
pub mod session;
pub mod template;
pub mod tools;
