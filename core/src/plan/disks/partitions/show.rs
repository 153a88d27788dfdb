// SPDX-License-Identifier: Apache-2.0
//! A partition table in words.

use core::fmt;

use super::{Deed, Step};
use crate::gpt::{Geometry, Partition};

impl fmt::Display for Step {
    /// A line for the disk, and an indented one for each partition that the configuration names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Geometry { sector, .. } = self.geometry;
        let size = Sectors { count: self.geometry.sectors, geometry: self.geometry };
        match &self.table {
            None => write!(f, "remove the partition table of {}", self.device)?,
            Some(table) => {
                let verb = if self.write { "write" } else { "keep" };
                write!(f, "{verb} the partition table {} of {}", table.guid, self.device)?;
            }
        }
        let assumed = if self.assumed { ", assumed to be blank" } else { "" };
        write!(f, " ({size}, sectors of {sector} bytes{assumed})")?;
        for repair in &self.repairs {
            write!(f, "; {repair}: repair it")?;
        }
        for change in &self.changes {
            let number = change.number;
            let partition = self.table.as_ref().and_then(|table| table.partition(number));
            write!(f, "\n       ")?;
            match &change.deed {
                Deed::Keep => write!(f, "keep {number}")?,
                Deed::Make => write!(f, "make {number}")?,
                Deed::Resize { from } => {
                    let from = Sectors { count: *from, geometry: self.geometry };
                    write!(f, "resize from {from}: {number}")?;
                }
                Deed::Replace { label } => write!(f, "replace {label:?} by {number}")?,
                Deed::Delete { label } => write!(f, "delete {number} {label:?}")?,
            }
            if let Some(partition) = partition {
                self.partition(partition, f)?;
            }
        }
        Ok(())
    }
}

impl Step {
    fn partition(&self, partition: &Partition, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Partition { start, end, kind, guid, label, .. } = partition;
        let size = Sectors { count: partition.size(), geometry: self.geometry };
        write!(f, " {label:?}, sectors {start} to {end} ({size}), type {kind}, GUID {guid}")
    }
}

/// A size in MiB, where that is a whole number.
struct Sectors {
    count: u64,
    geometry: Geometry,
}

impl fmt::Display for Sectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibyte = self.geometry.mebibytes(1).max(1);
        match self.count % mebibyte {
            0 => write!(f, "{} MiB", self.count / mebibyte),
            _ => write!(f, "{} sectors", self.count),
        }
    }
}
