// SPDX-License-Identifier: Apache-2.0
//! What is done, and how it reads.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::super::lines;
use super::{MIB, NOTE, Old, Part};

/// One thing to do.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Make a file system in compressed memory.
    Memory {
        /// Bytes that are to be kept.
        bytes: u64,
        /// Bytes of memory that it may take.
        limit: u64,
    },
    /// Copy files, or the bytes of a device, into it.
    Save {
        /// Of which part.
        part: Part,
        /// Where it is.
        from: Old,
    },
    /// Leave the note on the boot file system.
    Note {
        /// The root's UUID.
        uuid: String,
    },
    /// Give a new file system the UUID that the kernel command line names.
    Uuid {
        /// Its device.
        device: String,
        /// The UUID.
        uuid: String,
    },
    /// Write files, or bytes, back.
    Restore {
        /// Of which part.
        part: Part,
        /// The device.
        device: String,
        /// Sector that the partition must begin at.
        start: Option<u64>,
    },
    /// Remove the note.
    Unnote,
    /// Give the memory back.
    Free,
}

/// Steps in their order.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Before the disks stage.
    pub before: Vec<Step>,
    /// After it, before the root is mounted.
    pub after: Vec<Step>,
    /// The root as it was.
    pub root: Option<Old>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.before.is_empty() && self.after.is_empty() {
            return lines::<Step>(f, &[]);
        }
        lines(f, &self.before)?;
        f.write_str("   - the disks stage\n")?;
        lines(f, &self.after)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { bytes, limit } => {
                write!(f, "take up to {} MiB of memory for {} MiB of files", limit / MIB, bytes / MIB)
            }
            Self::Save { part, from: Old { node, format, bytes, disk, .. } } => match (part, disk) {
                (Part::Bios, Some(disk)) => write!(f, "keep the {part} {node} and the boot code of {disk}"),
                _ if !part.has_files() => write!(f, "keep the {part} {node}"),
                _ => write!(f, "keep the files of the {part} on {node} ({format}, {} MiB)", bytes / MIB),
            },
            Self::Note { uuid } => write!(f, "write {NOTE} on the boot file system: {uuid}"),
            Self::Uuid { device, uuid } => write!(f, "give the file system on {device} the UUID {uuid}"),
            Self::Restore { part: part @ Part::Bios, device, .. } => {
                write!(f, "write the {part} to {device}, and the boot code to its disk")
            }
            Self::Restore { part, device, .. } if part.has_files() => {
                write!(f, "write the files of the {part} to {device}")
            }
            Self::Restore { part, device, .. } => write!(f, "write the {part} to {device}"),
            Self::Unnote => write!(f, "remove {NOTE} from the boot file system"),
            Self::Free => f.write_str("give the memory back"),
        }
    }
}
