// SPDX-License-Identifier: Apache-2.0
//! GUIDs, in the order of their text. On the disk the first three groups are little-endian.

use core::fmt;

use sha2::{Digest, Sha512};

/// A GUID.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Guid([u8; 16]);

impl Guid {
    /// All zeros: what an entry that isn't used has as its type.
    pub const NONE: Self = Self([0; 16]);
    /// The type "Linux file system data", which a partition has when nothing else is said.
    pub const LINUX_DATA: Self =
        Self([0x0f, 0xc6, 0x3d, 0xaf, 0x84, 0x83, 0x47, 0x72, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4]);

    /// Reads `01234567-89AB-CDEF-EDCB-A98765432101`, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let sound = text.len() == 36
            && text.bytes().enumerate().all(|(index, byte)| (byte == b'-') == matches!(index, 8 | 13 | 18 | 23));
        let digits = text.bytes().filter(|byte| *byte != b'-').map(|byte| char::from(byte).to_digit(16));
        let mut bytes = [0; 16];
        for (index, digit) in digits.enumerate() {
            let byte = bytes.get_mut(index / 2)?;
            *byte = (*byte << 4) | u8::try_from(digit?).ok()?;
        }
        sound.then_some(Self(bytes))
    }

    /// One that says nothing but where it comes from: the beginning of a SHA-512, in the form of version 8 of RFC 9562.
    pub fn derived(parts: &[&[u8]]) -> Self {
        let mut hash = Sha512::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut bytes = [0; 16];
        for (byte, hashed) in bytes.iter_mut().zip(hash.finalize()) {
            *byte = hashed;
        }
        let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
        *version = *version & 0x0f | 0x80;
        *variant = *variant & 0x3f | 0x80;
        Self(bytes)
    }

    pub(super) fn from_disk(bytes: &[u8]) -> Option<Self> {
        Some(Self(Self(bytes.try_into().ok()?).to_disk()))
    }

    /// The same change in both directions.
    pub(super) fn to_disk(self) -> [u8; 16] {
        let mut bytes = self.0;
        for group in [0..4, 4..6, 6..8] {
            bytes.get_mut(group).unwrap_or_default().reverse();
        }
        bytes
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02X}")?;
        }
        Ok(())
    }
}
