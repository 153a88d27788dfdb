// SPDX-License-Identifier: Apache-2.0
//! What the integration tests share: a machine's root in a temporary folder, and first boots of it by the real program.
#![allow(clippy::expect_used, clippy::panic, reason = "a panic is how a test's preparation fails")]

pub mod clouds;
pub mod http;
mod machine;
pub mod namespace;
mod program;
pub mod proxy;
pub mod tftp;
pub mod tree;

pub use machine::{Boot, Machine, Stopped};
pub use program::fledge;
