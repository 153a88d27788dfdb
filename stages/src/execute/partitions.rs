// SPDX-License-Identifier: Apache-2.0
//! Partitions: the bytes, the kernel, udev, in this order.

use std::io::ErrorKind;
use std::time::Duration;

use fledge_core::diag::Failure;
use fledge_core::plan::partitions::Step;

use super::{Done, judged};
use crate::host::block::{self, Entry, Wanted};
use crate::host::{cmd, device};

/// How long whoever has locked the disk is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Sees to one disk.
pub(super) fn partition(step: &Step) -> Done {
    let what = format!("partitioning {}", step.device);
    let failed = |error: std::io::Error| {
        let failure = Failure::new(&what, error.to_string());
        match error.kind() {
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                failure.remedy("use a disk that can be written to")
            }
            _ => failure.remedy(device::SEE_KERNEL),
        }
    };
    if step.assumed {
        let why = "its size is not known: the disk was not there when it was looked at";
        return Err(Failure::new(what, why).remedy("boot again; see what becomes of the disk"));
    }
    judged(&what, &step.device, &step.node)?;
    let entry = Entry::of(&step.node).map_err(failed)?;
    let wanted = Wanted::of(step.table.as_ref(), step.geometry);
    // Opening for writing makes udev look at the disk anew when it is closed.
    let disk = if step.write { block::open(&entry.node, LOCK_PATIENCE) } else { std::fs::File::open(&entry.node) };
    let disk = disk.map_err(failed)?;
    if block::geometry(&disk).map_err(failed)? != step.geometry {
        return Err(
            Failure::new(what, "the size of the disk is another than when it was looked at").remedy("boot again")
        );
    }
    let written = step.write && block::write(&disk, step.geometry, step.table.as_ref(), step.mbr).map_err(failed)?;
    let told = entry.tell(&disk, &wanted).map_err(|(partition, error)| {
        let failure = Failure::new(format!("telling the kernel of the partition {partition}"), error.to_string());
        match error.kind() {
            ErrorKind::ResourceBusy => failure.remedy("see to it that nothing uses the partition in the initramfs"),
            _ => failure.remedy(device::SEE_KERNEL),
        }
    })?;
    drop(disk);
    if written || told {
        let node = entry.node.as_os_str();
        if let Err(failure) = cmd::run(cmd::UDEVADM, &["trigger".into(), "--settle".into(), node.into()]) {
            log::warn!("{failure}");
        }
    }
    let amiss = block::wait(&entry, &wanted, device::PATIENCE).map_err(failed)?;
    if amiss.is_empty() {
        return Ok(written || told);
    }
    let seconds = device::PATIENCE.as_secs();
    let why = format!("after {seconds} s these partitions aren't as the table has them: {}", amiss.join(", "));
    Err(Failure::new(what, why).remedy("look for messages of the kernel and of udev about the disk in the journal"))
}

#[cfg(test)]
mod tests {
    use fledge_core::gpt::Geometry;
    use fledge_core::plan::partitions::Mbr;

    use super::*;

    #[test]
    fn a_disk_that_nobody_has_seen_is_not_written() {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(1 << 20).unwrap();
        let device = image.path().canonicalize().unwrap().display().to_string();
        let geometry = Geometry { sector: 512, sectors: 2048 };
        let step = Step {
            node: device.clone(),
            device,
            geometry,
            assumed: true,
            table: None,
            write: true,
            mbr: Mbr::Fresh,
            changes: Vec::new(),
            repairs: Vec::new(),
        };
        assert!(partition(&step).unwrap_err().why.starts_with("its size is not known"));
    }
}
