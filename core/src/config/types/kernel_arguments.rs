// SPDX-License-Identifier: Apache-2.0
//! `kernelArguments`.

use alloc::string::String;
use alloc::vec::Vec;

use crate::config::section::section;

section! {
    /// What the kernel is to be started with, and without.
    pub part KernelArguments {
        /// Arguments that are added where they are missing.
        should_exist: Vec<String> = "shouldExist", V3_3, exclusive;
        /// Arguments that are removed where they are.
        should_not_exist: Vec<String> = "shouldNotExist", V3_3, exclusive;
    }
}
