// SPDX-License-Identifier: Apache-2.0
//! Values that must never reach a log, a plan or a report.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A value that prints as `(secret)`. It has no `Serialize`, so that no report can carry it by accident.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The bytes of a key. It prints as `(secret)`; only the state file, which is as secret, carries it.
#[derive(Clone, Eq, PartialEq)]
pub struct Key(Vec<u8>);

impl Key {
    /// Wraps the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes themselves, for the one call that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
