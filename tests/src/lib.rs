// SPDX-License-Identifier: Apache-2.0
//! Integration tests that need no virtual machine, and what they share.

pub mod server;
