// SPDX-License-Identifier: Apache-2.0
//! `storage.disks`.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::common::{check_path, said};
use crate::config::model::{Checking, Rules};
use crate::config::types::{Disk, Partition};
use crate::json::Path;

/// Longest name of a partition, in bytes (upstream counts them, though GPT has room for 36 units of UTF-16).
const LABEL_MAX: usize = 36;

impl Rules for Disk {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        check_path(&self.device, &at.key("device"), cx);
        let list = at.key("partitions");
        self.check_overlaps(&list, cx);
        let mut labels: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, partition) in self.partitions.iter().enumerate() {
            let Some(label) = &partition.label else { continue };
            match labels.get(label.as_str()) {
                // Two without a number are found as entries of one key.
                Some(first) if partition.number == 0 && self.partitions.get(*first).is_some_and(|p| p.number == 0) => {}
                Some(first) => {
                    cx.remarks
                        .error(&list.index(index), format!("{list}.{first} has the label {label:?} already"))
                        .remedy("give each partition its own label");
                }
                None => {
                    labels.insert(label, index);
                }
            }
        }
    }
}

impl Disk {
    /// Only partitions whose start and size are given are looked at: the others are placed when the disk is known.
    fn check_overlaps(&self, list: &Path<'_>, cx: &mut Checking<'_>) {
        let mut placed: Vec<(i64, i64, usize)> = Vec::new();
        for (index, partition) in self.partitions.iter().enumerate() {
            if let (Some(start @ 1..), Some(size)) = (partition.start_mib, partition.size_mib) {
                let end = if size == 0 { start } else { start.saturating_add(size).saturating_sub(1) };
                placed.push((start, end, index));
            }
        }
        placed.sort_unstable();
        // The end that reaches farthest so far, and whose it is.
        let mut reached: Option<(i64, usize)> = None;
        for (start, end, index) in placed {
            match reached {
                Some((limit, other)) if start <= limit => {
                    cx.remarks
                        .error(
                            &list.index(index.max(other)),
                            format!("it overlaps {list}.{}: both have the MiB at {start}", index.min(other)),
                        )
                        .remedy("change startMiB or sizeMiB");
                    if end > limit {
                        reached = Some((end, index));
                    }
                }
                _ => reached = Some((end, index)),
            }
        }
    }
}

impl Rules for Partition {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        let others = self.label.is_some()
            || said(self.type_guid.as_ref()).is_some()
            || said(self.guid.as_ref()).is_some()
            || self.start_mib.is_some()
            || self.size_mib.is_some();
        if self.should_exist == Some(false) && others {
            cx.remarks
                .error(at, "the partition is to be deleted, yet more than its number is given")
                .remedy("give only number and shouldExist");
        }
        if self.number == 0 && self.label.is_none() {
            cx.remarks.error(at, "neither a number nor a label is given").remedy("give one of them");
        }
        if self.number < 0 {
            cx.remarks.error(&at.key("number"), format!("{} can't be the number of a partition", self.number));
        }
        for (name, value) in [("startMiB", self.start_mib), ("sizeMiB", self.size_mib)] {
            if value.is_some_and(|value| value < 0) {
                cx.remarks.error(&at.key(name), "the number of MiB is negative");
            }
        }
        if let Some(label) = &self.label {
            let at = at.key("label");
            if label.len() > LABEL_MAX {
                cx.remarks.error(&at, format!("the label has {} bytes; there is room for {LABEL_MAX}", label.len()));
            }
            if label.contains(':') {
                cx.remarks.error(&at, "the label contains a colon, where it would be cut off").remedy("leave it out");
            }
        }
        check_guid(self.guid.as_ref(), &at.key("guid"), cx);
        check_guid(self.type_guid.as_ref(), &at.key("typeGuid"), cx);
    }
}

fn check_guid(guid: Option<&String>, at: &Path<'_>, cx: &mut Checking<'_>) {
    let Some(guid) = said(guid) else { return };
    let groups: Vec<usize> = guid.split('-').map(str::len).collect();
    let digits = guid.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if groups != [8, 4, 4, 4, 12] || !digits {
        cx.remarks
            .error(at, format!("{guid:?} is no GUID"))
            .remedy("write it as in 01234567-89AB-CDEF-EDCB-A98765432101");
    }
}
