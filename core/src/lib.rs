// SPDX-License-Identifier: Apache-2.0
//! Fledge's decisions, free of any operating system.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
