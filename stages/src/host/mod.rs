// SPDX-License-Identifier: Apache-2.0
//! The only code that touches the operating system.

pub mod atomic;
pub mod block;
pub mod clock;
pub mod cmd;
pub mod device;
pub mod fs;
pub mod limit;
pub mod module;
pub mod mount;
pub mod net;
pub mod temporary;
