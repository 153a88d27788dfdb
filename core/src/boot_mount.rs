// SPDX-License-Identifier: Apache-2.0
//! What the systemd generator of the real root decides: which file system is mounted on `/boot`.
//!
//! It is the one that `boot=` names, as the first boot wrote it into the boot entries. The first boot itself has it in a file, and a
//! machine that neither tells has one labelled `boot` (Fedora CoreOS: `coreos-boot-mount-generator`).

use alloc::format;
use alloc::string::String;

use crate::cmdline::Cmdline;
use crate::pivot;
use crate::root::linked;
use crate::unit::escape_path;

/// The label that an image's boot file system has.
pub const LABELLED: &str = "/dev/disk/by-label/boot";
/// The same, by the link that udev rules of distributions make once multipath has the disk.
pub const LABELLED_MULTIPATH: &str = "/dev/disk/by-label/dm-mpath-boot";

const TEMPLATE: &str = include_str!("../../systemd-generators/boot.mount");

/// What the decision needs to know besides the command line.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Surroundings {
    /// Who else sees to `/boot`.
    pub other: Option<Other>,
    /// The UUID that the initramfs of a first boot left.
    pub told: Option<String>,
    /// [`LABELLED`] is there.
    pub labelled: bool,
    /// [`LABELLED_MULTIPATH`] is there.
    pub labelled_multipath: bool,
}

/// Who else may see to `/boot`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Other {
    /// Nobody needs to: the system runs from memory.
    Live,
    /// `/etc/fstab` has a line for it.
    Fstab,
    /// A generator of the distribution.
    Generator,
}

/// Text of `boot.mount`, or why there is none.
///
/// # Errors
/// Nothing is to be mounted: the reason, in words.
pub fn decide(cmdline: &Cmdline, of: &Surroundings) -> Result<String, String> {
    if pivot::target(cmdline).is_none() {
        return Err("the command line names no deployment".into());
    }
    match of.other {
        Some(Other::Live) => return Err("the system runs from memory".into()),
        Some(Other::Fstab) => return Err("/etc/fstab sees to /boot".into()),
        Some(Other::Generator) => return Err("a generator of the distribution sees to /boot".into()),
        None => {}
    }
    let device = device(cmdline, of)?;
    let escaped = escape_path(&device);
    // A percent sign begins a specifier (systemd.unit(5)).
    Ok(TEMPLATE.replace("@device@", &device.replace('%', "%%")).replace("@escaped@", &escaped))
}

fn device(cmdline: &Cmdline, of: &Surroundings) -> Result<String, String> {
    let multipath = cmdline.value("rd.multipath").is_some_and(|value| value != "0");
    if multipath && of.labelled_multipath {
        return Ok(LABELLED_MULTIPATH.into());
    }
    match cmdline.value("boot").filter(|boot| !boot.is_empty()) {
        Some(boot) => linked(boot).ok_or_else(|| {
            format!("the argument boot={boot} names no device: UUID=, LABEL=, PARTUUID=, PARTLABEL= or a path below /dev would")
        }),
        None => match &of.told {
            Some(uuid) => Ok(format!("/dev/disk/by-uuid/{uuid}")),
            None if of.labelled => Ok(LABELLED.into()),
            None => Err("there is no boot= argument and no file system labelled boot".into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "boot=UUID=0A1B2C3D-0000-4000-8000-00000000ABCD";

    fn what(cmdline: &str, of: &Surroundings) -> Result<String, String> {
        let text = decide(&Cmdline::parse(cmdline), of)?;
        Ok(text.lines().find_map(|line| line.strip_prefix("What=")).unwrap().into())
    }

    #[test]
    fn it_is_the_one_that_the_command_line_names() {
        let labelled = Surroundings { labelled: true, told: Some("told".into()), ..Surroundings::default() };
        for (boot, expected) in [
            (UUID, "/dev/disk/by-uuid/0a1b2c3d-0000-4000-8000-00000000abcd"),
            ("boot=UUID=ABCD-1234", "/dev/disk/by-uuid/ABCD-1234"),
            ("boot=LABEL=boot", "/dev/disk/by-label/boot"),
            ("\"boot=LABEL=my boot/2\"", "/dev/disk/by-label/my\\x20boot\\x2f2"),
            ("boot=PARTUUID=AB-03", "/dev/disk/by-partuuid/AB-03"),
            ("boot=PARTLABEL=boot", "/dev/disk/by-partlabel/boot"),
            ("boot=/dev/vda3", "/dev/vda3"),
            ("", "/dev/disk/by-uuid/told"),
            ("boot=", "/dev/disk/by-uuid/told"),
        ] {
            assert_eq!(what(&format!("ostree=/x {boot}"), &labelled).as_deref(), Ok(expected), "{boot}");
        }
    }

    #[test]
    fn without_an_argument_it_is_the_labelled_one() {
        let labelled = Surroundings { labelled: true, ..Surroundings::default() };
        assert_eq!(what("ostree=/x", &labelled).as_deref(), Ok(LABELLED));
        let reason = what("ostree=/x", &Surroundings::default()).unwrap_err();
        assert!(reason.contains("no file system labelled boot"), "{reason}");
    }

    #[test]
    fn with_multipath_it_is_the_disk_and_no_path_to_it() {
        let multipath = Surroundings { labelled: true, labelled_multipath: true, ..Surroundings::default() };
        for (argument, expected) in
            [("rd.multipath=default", LABELLED_MULTIPATH), ("rd.multipath=0", LABELLED), ("quiet", LABELLED)]
        {
            assert_eq!(what(&format!("ostree=/x {argument}"), &multipath).as_deref(), Ok(expected), "{argument}");
        }
        assert_eq!(
            what(&format!("ostree=/x rd.multipath=default {UUID}"), &Surroundings::default()).as_deref(),
            Ok("/dev/disk/by-uuid/0a1b2c3d-0000-4000-8000-00000000abcd")
        );
    }

    #[test]
    fn others_go_first_and_the_reason_is_given() {
        let plain = Surroundings { labelled: true, ..Surroundings::default() };
        for (cmdline, of, reason) in [
            ("quiet boot=/dev/vda3", plain.clone(), "names no deployment"),
            ("ostree= ostree=/x", plain.clone(), "names no deployment"),
            ("ostree=/x", Surroundings { other: Some(Other::Live), ..plain.clone() }, "runs from memory"),
            ("ostree=/x", Surroundings { other: Some(Other::Fstab), ..plain.clone() }, "/etc/fstab"),
            ("ostree=/x", Surroundings { other: Some(Other::Generator), ..plain.clone() }, "of the distribution"),
            ("ostree=/x boot=sda", plain.clone(), "boot=sda names no device"),
        ] {
            let said = what(cmdline, &of).unwrap_err();
            assert!(said.contains(reason), "{said}");
        }
    }

    #[test]
    fn it_is_checked_under_the_name_that_systemd_has_for_its_device() {
        let text = decide(&Cmdline::parse(&format!("ostree=/x {UUID}")), &Surroundings::default()).unwrap();
        let unit = "systemd-fsck@dev-disk-by\\x2duuid-0a1b2c3d\\x2d0000\\x2d4000\\x2d8000\\x2d00000000abcd.service";
        assert!(text.contains(&format!("Requires={unit}\nAfter={unit}\n")), "{text}");
    }
}
