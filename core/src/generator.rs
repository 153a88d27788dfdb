// SPDX-License-Identifier: Apache-2.0
//! What the systemd generator of the initramfs decides: which targets a boot runs, seen from its command line.
//!
//! A first boot requires `ignition-complete.target`, any other one `ignition-subsequent.target`; conditions in units would
//! be too late, because a unit's dependencies start even if its condition fails, and a later boot must not start the network
//! (Ignition: `dracut/30ignition/ignition-generator`). The templates are in `systemd-generators/`, with a golden tree a case.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::cmdline::Cmdline;
use crate::diag::Failure;
use crate::handover::on_the_network;

const INSTALLER_REFUSED: &str = include_str!("../../systemd-generators/fledge-installer-refused.service");
const BOOT_DEVICE: &str = include_str!("../../systemd-generators/boot-device.conf");
const SYSROOT_MOUNT: &str = include_str!("../../systemd-generators/sysroot.mount");

/// Keys of the arguments that ask for an installation: NestOS's own, and the spelling of its user guide (section 8.4).
const INSTALLER_KEYS: [&str; 2] = ["nestos.inst.", "nestosos.inst."];

/// What the decision needs to know besides the command line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Environment {
    /// `is-live-image` says that the system runs from memory, without a boot disk.
    pub live: bool,
    /// The dracut module `fledge-ostree` is in this initramfs.
    pub ostree_module: bool,
    /// A generator of the distribution sees to the mount of the root itself.
    pub root_is_mounted_by_other: bool,
    /// The label that a udev rule of the distribution gives the boot file system on multipath, if it has one.
    pub multipath_boot: Option<&'static str>,
}

/// One entry of the generator's output directory, by its path below that directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node {
    /// A symbolic link and what it points to.
    Link {
        /// Path of the link.
        path: String,
        /// Text of the link.
        target: String,
    },
    /// A file and its text.
    File {
        /// Path of the file.
        path: String,
        /// Whole text.
        text: String,
    },
}

/// What the generator writes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tree {
    /// The output directory (systemd.generator(7), `normal-dir`).
    pub units: Vec<Node>,
    /// The output directory that goes before the initramfs's own files (`early-dir`).
    pub early: Vec<Node>,
    /// Whether the first boot needs the network whatever its config says: `/run/ignition/neednet`.
    pub needs_network: bool,
    /// Text of `/run/ignition.env`.
    pub env: String,
    /// One line for the kernel's log: what was decided and why.
    pub message: String,
}

impl Tree {
    fn require(&mut self, target: &str, unit: &str) {
        self.units.push(Node::Link { path: format!("{target}.requires/{unit}"), target: format!("../{unit}") });
    }

    fn file(&mut self, path: &str, text: &str) {
        self.units.push(Node::File { path: path.to_owned(), text: text.to_owned() });
    }
}

/// Decides what the boot with this command line runs.
pub fn decide(cmdline: &Cmdline, environment: Environment) -> Tree {
    // The file has a line a variable.
    let platform: String =
        cmdline.value("ignition.platform.id").unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let mut tree = Tree { env: format!("PLATFORM_ID={platform}\n"), ..Tree::default() };

    if installer_arguments(cmdline).next().is_some() {
        tree.file("fledge-installer-refused.service", INSTALLER_REFUSED);
        tree.require("initrd.target", "fledge-installer-refused.service");
        tree.message = "the command line asks for an installation, which this build can't do: the boot stops".into();
        return tree;
    }

    mount_root(&mut tree, cmdline, environment);
    let (all, diskful) = if cmdline.flag("ignition.firstboot") {
        ("ignition-complete.target", "ignition-diskful.target")
    } else {
        ("ignition-subsequent.target", "ignition-diskful-subsequent.target")
    };
    tree.require("initrd.target", all);
    if !environment.live {
        tree.require(all, diskful);
    }
    if cmdline.flag("ignition.firstboot") {
        // Only an OSTree system has the installer's places, and only there is it right to wait for them.
        if environment.ostree_module && !environment.live && deployment(cmdline).is_some() {
            wait_for_boot_device(&mut tree, cmdline, environment);
        }
        let platform = if platform.is_empty() { "none given" } else { platform.as_str() };
        tree.message = format!("first boot, platform: {platform}, live image: {}", yes_no(environment.live));
    } else {
        tree.message = "not a first boot: nothing is provisioned".into();
    }
    tree
}

/// The units that read the boot file system wait for it. Where the network leads to it, nothing that the network waits for may wait for it: the
/// installed config is then there for the stage fetch alone, and the arguments must say what network it is.
fn wait_for_boot_device(tree: &mut Tree, cmdline: &Cmdline, environment: Environment) {
    let wait = match environment.multipath_boot {
        Some(label) if cmdline.flag("rd.multipath") => {
            BOOT_DEVICE.replace("label-boot", &format!("label-{}", label.replace('-', "\\x2d")))
        }
        _ => BOOT_DEVICE.to_owned(),
    };
    for unit in ["fledge-unique-boot", "fledge-user-config"] {
        tree.file(&format!("{unit}.service.d/boot-device.conf"), &wait);
    }
    if on_the_network(cmdline) {
        let path = "ignition-complete.target.requires/ignition-fetch-offline.service".to_owned();
        tree.early.push(Node::Link { path, target: "/dev/null".to_owned() });
        tree.needs_network = true;
    } else {
        tree.file(
            "fledge-copy-network.service.d/boot-device.conf",
            &format!("{wait}After=fledge-unique-boot.service\n"),
        );
    }
}

/// The image's boot entries name no root until the first boot has written its UUID there. systemd drops units that require a
/// `sysroot.mount` which isn't there when the boot's jobs are made, so the unit can't come later.
fn mount_root(tree: &mut Tree, cmdline: &Cmdline, environment: Environment) {
    let no_root = cmdline.value("root").unwrap_or_default().is_empty();
    // A crash kernel that sends its dump over the network may run without any disk.
    let dumps_elsewhere = cmdline.has("kdump_remote_ip");
    if environment.live
        || !environment.ostree_module
        || environment.root_is_mounted_by_other
        || deployment(cmdline).is_none()
        || !no_root
        || dumps_elsewhere
    {
        return;
    }
    let mode = if cmdline.has("rw") { "rw" } else { "ro" };
    let options = cmdline.values("rootflags").fold(mode.to_owned(), |all, flags| format!("{all},{flags}"));
    tree.file("sysroot.mount", &SYSROOT_MOUNT.replace("@options@", &options));
    tree.require("initrd-root-fs.target", "sysroot.mount");
}

fn deployment(cmdline: &Cmdline) -> Option<&str> {
    crate::pivot::target(cmdline)
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// The keys on a command line that ask for an installation. `nestos.inst=yes` alone asks for nothing: it is deprecated and has
/// no effect.
pub fn installer_arguments(cmdline: &Cmdline) -> impl Iterator<Item = &str> {
    cmdline.iter().map(|(key, _)| key).filter(|key| INSTALLER_KEYS.iter().any(|prefix| key.starts_with(prefix)))
}

/// The words for an operator whose command line asks for an installation.
pub fn installer_refusal(cmdline: &Cmdline) -> Failure {
    let mut keys: Vec<_> = installer_arguments(cmdline).collect();
    keys.dedup();
    let why = match keys.as_slice() {
        [] => "this build has no installer; no disk was touched".into(),
        keys => {
            format!("this build has no installer, and the command line has {}; no disk was touched", keys.join(", "))
        }
    };
    Failure::new("installing the system", why).remedy(
        "install with the distribution's own installer, or take these arguments off the command line to boot without installing",
    )
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    const OSTREE: Environment =
        Environment { live: false, ostree_module: true, root_is_mounted_by_other: false, multipath_boot: None };

    fn links(cmdline: &str, environment: Environment) -> Vec<String> {
        let tree = decide(&Cmdline::parse(cmdline), environment);
        tree.units
            .into_iter()
            .filter_map(|node| match node {
                Node::Link { path, .. } => Some(path),
                Node::File { .. } => None,
            })
            .collect()
    }

    #[test]
    fn a_first_boot_is_one_whatever_truth_is_spelled_like() {
        for (cmdline, first) in [
            ("ignition.firstboot", true),
            ("ignition.firstboot=1", true),
            ("ignition.firstboot=yes", true),
            ("ignition.firstboot=0 ignition.firstboot=1", true),
            ("ignition.firstboot=1 ignition.firstboot=0", false),
            ("ignition.firstboot=", false),
            ("ignition.firstboot=no", false),
            ("ignition.firstboot=off", false),
            ("quiet", false),
        ] {
            let found = links(cmdline, OSTREE);
            assert_eq!(found.contains(&"initrd.target.requires/ignition-complete.target".into()), first, "{cmdline}");
            assert_eq!(
                found.contains(&"initrd.target.requires/ignition-subsequent.target".into()),
                !first,
                "{cmdline}"
            );
        }
    }

    #[test]
    fn the_first_ostree_argument_counts() {
        for (cmdline, mounted) in [("ostree=/x ostree=", true), ("ostree= ostree=/x", false)] {
            let found = links(cmdline, OSTREE);
            assert_eq!(found.contains(&"initrd-root-fs.target.requires/sysroot.mount".into()), mounted, "{cmdline}");
        }
    }

    #[test]
    fn every_installer_argument_stops_the_boot_and_runs_nothing_else() {
        for argument in ["nestos.inst.install_dev=sda", "nestosos.inst.install_dev=/dev/sda", "nestos.inst.skip_reboot"]
        {
            let found = links(&format!("ignition.firstboot ostree=/x {argument}"), OSTREE);
            assert_eq!(found, ["initrd.target.requires/fledge-installer-refused.service"], "{argument}");
        }
    }

    #[test]
    fn the_deprecated_argument_is_not_refused() {
        for argument in ["nestos.inst=yes", "nestos.inst", "nestos.instant.x=1", "xnestos.inst.install_dev=sda"] {
            let cmdline = Cmdline::parse(argument);
            assert_eq!(installer_arguments(&cmdline).count(), 0, "{argument}");
        }
    }

    #[test]
    fn the_refusal_names_the_arguments_and_says_that_no_disk_was_touched() {
        let cmdline = Cmdline::parse("nestosos.inst.install_dev=/dev/sda quiet nestos.inst.stream=s");
        let text = installer_refusal(&cmdline).to_string();
        assert!(text.contains("nestosos.inst.install_dev, nestos.inst.stream"), "{text}");
        assert!(text.contains("no disk was touched"), "{text}");
        assert!(!text.contains("/dev/sda"), "{text}");
    }
}
