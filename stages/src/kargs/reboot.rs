// SPDX-License-Identifier: Apache-2.0
//! The reboot for all who asked: through the firmware, or straight into the kernel of the boot entry.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::path::Path;

use fledge_core::bls::{Entry, Marker, Request, edit_command_line};
use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::system::RebootCommand;

use super::{MARKER, Places, booted};
use crate::host::bootfs::BootFs;
use crate::host::{kexec, reboot};

/// Flags of others that ask for the same reboot: Fedora CoreOS's helper and what goes with it leave the first, NestOS's the second.
pub const FOREIGN_FLAGS: [&str; 2] = ["/run/coreos-kargs-reboot", "/run/nestos-kargs-reboot"];

/// `fledge.kargs.via=`: how the machine boots once more.
const VIA: &str = "fledge.kargs.via";

/// Boots once more. It returns only if it fails.
///
/// # Errors
/// The note could not be left on the boot file system (without it, nothing would keep a machine whose bootloader ignores its
/// entries from rebooting for ever), or the machine doesn't reboot.
pub fn reboot(places: &Places) -> Failure {
    let own = match fs::read_to_string(&places.flag) {
        Ok(text) => Some(Request::from_text(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Failure::new(format!("reading {}", places.flag.display()), error.to_string()),
    };
    let foreign = FOREIGN_FLAGS.iter().any(|flag| Path::new(flag).exists());
    if let Some(request) = &own {
        let marker = Marker { boot_id: places.boot_id.clone(), request: request.clone() };
        let left = BootFs::open(&places.boot, true).and_then(|boot| boot.write(MARKER, marker.to_text().as_bytes()));
        if let Err(failure) = left {
            return failure;
        }
    }
    if let Err(failure) = try_kexec(own.as_ref().filter(|_| !foreign), places) {
        log::warn!("{failure}");
        log::warn!("the machine reboots through its firmware instead");
    }
    reboot::firmware("for new kernel arguments")
}

/// Starts the kernel of the boot entry, if that is wanted. It returns only if it isn't, or fails.
fn try_kexec(request: Option<&Request>, places: &Places) -> Result<(), Failure> {
    let command_line = places.command_line()?;
    let refused = |why: &str| Err(Failure::new("booting into the new kernel arguments by kexec", why));
    match Cmdline::parse(&command_line).value(VIA) {
        None | Some("firmware") => return Ok(()),
        Some("kexec") => {}
        Some(other) => return refused(&format!("{VIA}={other}: it is neither firmware nor kexec")),
    }
    let Some(request) = request else {
        return refused("another program asked for this reboot, and which arguments it set can't be known");
    };
    load(request, &command_line, places)?;
    log::info!("booting once more by kexec");
    // Nothing is mounted yet but memory. systemd's own way would need the program kexec, and else go through the firmware.
    rustix::fs::sync();
    match rustix::system::reboot(RebootCommand::Kexec) {
        Ok(()) => Ok(()),
        Err(error) => refused(&error.to_string()),
    }
}

/// What GRUB made of the boot entry's variables, and what was typed at its prompt, stands on the running kernel's command line: the
/// new one is that, edited as the entry was.
fn load(request: &Request, command_line: &str, places: &Places) -> Result<(), Failure> {
    let failure = |why: String| Failure::new("loading the kernel of the boot entry", why);
    let new = edit_command_line(command_line, request).map_err(|unclosed| failure(unclosed.to_string()))?;
    let boot = BootFs::open(&places.boot, false)?;
    let entries = boot.entries()?;
    let entry = booted(&entries, command_line).ok_or_else(|| failure("no entry is the booted one's".into()))?;
    let (kernel, initramfs) = files(&boot, entry).map_err(|error| failure(error.to_string()))?;
    kexec::load(&kernel, initramfs.as_ref(), &new).map_err(|error| failure(error.to_string()))
}

/// The kernel and the initramfs of an entry. Several of these are one behind the other.
fn files(boot: &BootFs, entry: &Entry) -> io::Result<(File, Option<File>)> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "the entry names no kernel");
    let kernel = boot.image(entry.values("linux").next().ok_or_else(missing)?)?;
    let paths: Vec<&str> = entry.values("initrd").flat_map(str::split_whitespace).collect();
    let initramfs = match paths.as_slice() {
        [] => None,
        [path] => Some(boot.image(path)?),
        paths => {
            let mut all = File::from(memfd_create("initramfs", MemfdFlags::CLOEXEC)?);
            for path in paths {
                io::copy(&mut boot.image(path)?, &mut all)?;
            }
            all.rewind()?;
            Some(all)
        }
    };
    Ok((kernel, initramfs))
}
