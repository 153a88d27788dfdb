// SPDX-License-Identifier: Apache-2.0
//! The systemd generator of the real root, which mounts `/boot`: gathers what [`fledge_core::boot_mount`] decides on.

use std::fs;
use std::io;
use std::path::Path;

use fledge_core::boot_mount::{LABELLED, LABELLED_MULTIPATH, Other, Surroundings, decide};
use fledge_core::cmdline::Cmdline;
use fledge_core::root::persist::TOLD;

use crate::generator::{link, log_to_kernel};

/// Writes `boot.mount` into `units`, the generator's output, if there is anything to mount. `root` is `/`.
///
/// # Errors
/// The command line can't be read, or the output can't be written.
pub fn generate(root: &Path, units: &Path) -> io::Result<()> {
    // An initramfs mounts the boot file system where nobody else sees it.
    if root.join("etc/initrd-release").exists() {
        return Ok(());
    }
    let cmdline = Cmdline::parse(&String::from_utf8_lossy(&fs::read(root.join("proc/cmdline"))?));
    match decide(&cmdline, &observe(root)) {
        Ok(text) => {
            fs::create_dir_all(units.join("local-fs.target.wants"))?;
            fs::write(units.join("boot.mount"), text)?;
            link("../boot.mount", &units.join("local-fs.target.wants/boot.mount"))
        }
        Err(reason) => {
            // The log is for people only.
            drop(log_to_kernel(&root.join("dev/kmsg"), &format!("nothing is mounted on /boot: {reason}")));
            Ok(())
        }
    }
}

fn observe(root: &Path) -> Surroundings {
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let generator =
        |name: &str| below(&format!("usr/lib/systemd/system-generators/{name}-boot-mount-generator")).exists();
    let other = if below("run/ostree-live").exists() {
        Some(Other::Live)
    } else if fs::read_to_string(below("etc/fstab")).is_ok_and(|text| has_boot(&text)) {
        Some(Other::Fstab)
    } else {
        (generator("coreos") || generator("nestos")).then_some(Other::Generator)
    };
    let told = TOLD.iter().find_map(|path| fs::read_to_string(below(path)).ok());
    Surroundings {
        other,
        told: told.map(|uuid| uuid.trim().to_owned()).filter(|uuid| !uuid.is_empty()),
        labelled: below(LABELLED).exists(),
        labelled_multipath: below(LABELLED_MULTIPATH).exists(),
    }
}

fn has_boot(fstab: &str) -> bool {
    let point = |line: &str| line.split_whitespace().nth(1).map(|point| point.trim_end_matches('/').to_owned());
    fstab.lines().filter(|line| !line.trim_start().starts_with('#')).any(|line| point(line).as_deref() == Some("/boot"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0a1b2c3d-0000-4000-8000-00000000abcd";

    fn generate_in(files: &[(&str, &str)]) -> Option<String> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let units = root.path().join("run/systemd/generator");
        generate(root.path(), &units).unwrap();
        let text = fs::read_to_string(units.join("boot.mount")).ok();
        assert_eq!(units.join("local-fs.target.wants/boot.mount").exists(), text.is_some());
        text
    }

    #[test]
    fn the_first_boot_mounts_what_the_initramfs_told_of() {
        let text = generate_in(&[("proc/cmdline", "ostree=/x"), ("run/nestos/bootfs_uuid", &format!("{UUID}\n"))]);
        assert!(text.unwrap().contains(&format!("What=/dev/disk/by-uuid/{UUID}\n")));
    }

    #[test]
    fn it_stays_out_of_what_others_mount() {
        let cmdline = ("proc/cmdline", "ostree=/x boot=UUID=1");
        assert!(generate_in(&[cmdline]).is_some());
        assert!(generate_in(&[cmdline, ("etc/fstab", "# /dev/vda3 /boot ext4\n\nLABEL=x /boot/efi vfat\n")]).is_some());
        for other in [
            ("etc/initrd-release", ""),
            ("etc/fstab", "LABEL=boot /boot/ ext4 ro 0 2\n"),
            ("run/ostree-live", ""),
            ("usr/lib/systemd/system-generators/nestos-boot-mount-generator", ""),
        ] {
            assert_eq!(generate_in(&[cmdline, other]), None, "{other:?}");
        }
    }
}
