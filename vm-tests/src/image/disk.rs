// SPDX-License-Identifier: Apache-2.0
//! The disk: a GUID partition table with NestOS's partitions, GRUB for the BIOS, and what goes into each partition.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::io::pwrite;

use crate::host;
use crate::tools::Tools;

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;

/// Bytes of the disk: 10 GB, the least that NestOS's guide allows, in whole MiB.
pub const SIZE: u64 = 10_000_000_000 / MIB * MIB;
/// Where the BIOS boot partition begins, in bytes.
const BIOS_START: u64 = MIB;
/// Where the EFI system partition begins, and its size.
const ESP: (u64, u64) = (2 * MIB, 127 * MIB);
/// Where the boot partition begins, and its size.
pub(super) const BOOT: (u64, u64) = (129 * MIB, 384 * MIB);
/// Where the root partition begins, and its size; the last MiB belongs to the second partition table.
pub(super) const ROOT: (u64, u64) = (513 * MIB, SIZE - 514 * MIB);

/// What NestOS's assembler gives to every image, and a first boot changes: the disk's GUID, and the UUIDs of boot and root.
const GUID: &str = "00000000-0000-4000-A000-000000000001";
pub(super) const BOOT_UUID: &str = "96d15588-3596-4b3c-adca-a2ff7279ea63";
pub(super) const ROOT_UUID: &str = "910678ff-f77e-4a7d-8d53-86f2ac47a823";

/// Makes `disk` with its partition table, boot code, empty EFI system partition, and the given boot and root
/// partitions.
pub(super) fn assemble(disk: &Path, tools: &Tools, grub: &Path, boot: &Path, root: &Path, work: &Path) -> Result<()> {
    let file = File::create_new(disk).with_context(|| format!("can't make {}", disk.display()))?;
    file.set_len(SIZE)?;
    host::feed(tools.command("sfdisk")?.arg("--quiet").arg(disk), table().as_bytes())?;

    let esp = work.join("esp.img");
    File::create(&esp)?.set_len(ESP.1)?;
    host::run(tools.command("mkfs.vfat")?.args(["-F", "32", "-n", "EFI-SYSTEM"]).arg(&esp))?;

    install_grub(&file, grub)?;
    host::copy_sparse(&esp, &file, ESP.0)?;
    host::copy_sparse(boot, &file, BOOT.0)?;
    host::copy_sparse(root, &file, ROOT.0)
}

fn table() -> String {
    let linux = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
    let rows = [
        (BIOS_START, MIB, "21686148-6449-6E6F-744E-656564454649", "BIOS-BOOT"),
        (ESP.0, ESP.1, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "EFI-SYSTEM"),
        (BOOT.0, BOOT.1, linux, "boot"),
        (ROOT.0, ROOT.1, linux, "root"),
    ];
    let rows = rows.map(|(start, size, kind, name)| {
        format!("start={}, size={}, type={kind}, name=\"{name}\"\n", start / SECTOR, size / SECTOR)
    });
    format!("label: gpt\nlabel-id: {GUID}\n{}", rows.concat())
}

/// Puts GRUB where the BIOS finds it, as `grub-bios-setup` does: `boot.img` in the first sector, with the sector of
/// the core image in it, and `core.img` in the BIOS boot partition, with the sector of its own rest in it. The
/// offsets are those of GRUB's `include/grub/i386/pc/boot.h`.
fn install_grub(disk: &File, grub: &Path) -> Result<()> {
    let mut boot = fs::read(grub.join("boot.img")).context("reading GRUB's boot.img")?;
    let mut core = fs::read(grub.join("core.img")).context("reading GRUB's core.img")?;
    ensure!(core.len() as u64 <= MIB, "GRUB's core image is larger than the BIOS boot partition");
    let first = BIOS_START / SECTOR;
    patch(&mut boot, 0x5c, &first.to_le_bytes())?;
    // No check whether the boot drive is a floppy: two no-operations.
    patch(&mut boot, 0x66, &[0x90, 0x90])?;
    patch(&mut core, 0x1f4, &(first + 1).to_le_bytes())?;
    // What follows is the disk's signature and the protective partition table.
    let first_sector = boot.get(..440).context("GRUB's boot.img is too short")?;
    pwrite(disk, first_sector, 0)?;
    pwrite(disk, &core, BIOS_START)?;
    Ok(())
}

fn patch(image: &mut [u8], at: usize, bytes: &[u8]) -> Result<()> {
    image.get_mut(at..at + bytes.len()).context("GRUB's image is too short")?.copy_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_follow_each_other_without_a_gap() {
        assert_eq!(BIOS_START + MIB, ESP.0);
        assert_eq!(ESP.0 + ESP.1, BOOT.0);
        assert_eq!(BOOT.0 + BOOT.1, ROOT.0);
        assert_eq!(ROOT.0 + ROOT.1 + MIB, SIZE);
        assert!(table().contains("start=264192, size=786432"));
    }
}
