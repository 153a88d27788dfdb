// SPDX-License-Identifier: Apache-2.0
//! What the test image is made of. A change here changes the keys of the layers that it concerns.

/// The release that the system, QEMU and the tools come from.
pub(super) const SUITE: &str = "trixie";
/// The release that GRUB comes from: the first with `blscfg` (in the module `blsuki`).
pub(super) const GRUB_SUITE: &str = "forky";
/// The release that the variant with composefs has its OSTree from: Debian 13's is built without.
pub(super) const OSTREE_SUITE: &str = "sid";
/// Raised when the way a layer is made changes without a change of its ingredients.
pub(super) const REVISION: &str = "1";

/// QEMU and what makes disk images.
pub(super) const TOOLS_PACKAGES: &[&str] = &[
    "dosfstools",
    "e2fsprogs",
    "fdisk",
    "ipxe-qemu",
    "jose",
    "libarchive13t64",
    "mtools",
    "ostree",
    "perl-base",
    "qemu-system-x86",
    "qemu-utils",
    "seabios",
    "swtpm",
    "tang-common",
    "xfsprogs",
];

/// Debian's policy for SELinux.
pub(super) const POLICY_PACKAGES: &[&str] = &["policycoreutils", "selinux-policy-default"];

/// What GRUB's image is put together from.
pub(super) const GRUB_PACKAGES: &[&str] = &["grub-common", "grub-pc-bin"];

/// What our stages are compared with.
pub(super) const ORACLE_PACKAGES: &[&str] = &["ignition"];
/// Where that package has the program: in its dracut module.
pub(super) const ORACLE_PROGRAM: &str = "usr/lib/dracut/modules.d/30ignition/ignition";

/// The system.
pub(super) const ROOTFS_PACKAGES: &[&str] = &[
    "btrfs-progs",
    "ca-certificates",
    "clevis",
    "clevis-dracut",
    "clevis-luks",
    "clevis-systemd",
    "clevis-tpm2",
    "coreutils",
    "cryptsetup-bin",
    "curl",
    "dbus",
    "dnsmasq-base",
    "dosfstools",
    "dracut",
    "dracut-network",
    "e2fsprogs",
    "fdisk",
    "gdisk",
    "iproute2",
    "jose",
    "kmod",
    "less",
    "libtss2-esys-3.0.2-0t64",
    "libtss2-rc0t64",
    "libtss2-tcti-device0t64",
    "linux-image-cloud-amd64",
    "login",
    "mdadm",
    "openssh-server",
    "ostree",
    "ostree-boot",
    "passwd",
    "policycoreutils",
    "procps",
    "sudo",
    "systemd",
    "systemd-container",
    "systemd-cryptsetup",
    "systemd-resolved",
    "systemd-sysv",
    "tpm2-tools",
    "udev",
    "util-linux",
    "xfsprogs",
    "zstd",
];

/// What the variant with composefs has from the other release; what they depend on comes along.
pub(super) const OSTREE_PACKAGES: &[&str] = &["libostree-1-1", "ostree", "ostree-boot"];

/// What a variant does without.
#[derive(Debug)]
pub(super) struct Less {
    /// Of [`ROOTFS_PACKAGES`]; what only they need goes with them.
    pub(super) packages: &'static [&'static str],
    /// Of [`DRACUT_MODULES`].
    pub(super) modules: &'static [&'static str],
    /// Of [`DRIVERS`].
    pub(super) drivers: &'static [&'static str],
    /// What the deployment has below `usr/lib/systemd` and masks.
    pub(super) units: &'static [&'static str],
}

/// The cases with the companion boot more than fifty times, and look at none of this. With two thirds of the initramfs and a system that
/// starts less, a boot takes a quarter less.
pub(super) const COMPANION_LESS: Less = Less {
    packages: &[
        "btrfs-progs",
        "clevis",
        "clevis-dracut",
        "clevis-luks",
        "clevis-systemd",
        "clevis-tpm2",
        "cryptsetup-bin",
        "dnsmasq-base",
        "jose",
        "libtss2-esys-3.0.2-0t64",
        "libtss2-rc0t64",
        "libtss2-tcti-device0t64",
        "mdadm",
        "openssh-server",
        "policycoreutils",
        "systemd-container",
        "systemd-cryptsetup",
        "systemd-resolved",
        "tpm2-tools",
    ],
    modules: &[
        "clevis",
        "clevis-pin-sss",
        "clevis-pin-tpm2",
        "crypt",
        "dm",
        "kernel-modules",
        "mdraid",
        "systemd-cryptsetup",
    ],
    drivers: &[
        "ahci",
        "btrfs",
        "dm-crypt",
        "dm-mod",
        "raid0",
        "raid1",
        "raid10",
        "raid456",
        "sd_mod",
        "sr_mod",
        "virtio_scsi",
    ],
    units: &[
        "system-generators/systemd-hibernate-resume-generator",
        "system-generators/systemd-rc-local-generator",
        "system-generators/systemd-ssh-generator",
        "system-generators/systemd-sysv-generator",
        "system-generators/systemd-tpm2-generator",
        "system/dev-hugepages.mount",
        "system/dev-mqueue.mount",
        "system/getty@tty1.service",
        "system/modprobe@configfs.service",
        "system/modprobe@drm.service",
        "system/modprobe@efi_pstore.service",
        "system/modprobe@fuse.service",
        "system/proc-sys-fs-binfmt_misc.automount",
        "system/sys-fs-fuse-connections.mount",
        "system/sys-kernel-config.mount",
        "system/sys-kernel-debug.mount",
        "system/sys-kernel-tracing.mount",
        "system/systemd-binfmt.service",
        "system/systemd-network-generator.service",
        "system/systemd-networkd-persistent-storage.service",
        "system/systemd-networkd-wait-online.service",
        "system/systemd-networkd.service",
        "system/systemd-networkd.socket",
        "system/systemd-udev-load-credentials.service",
    ],
};

/// Left out of every root.
pub(super) const EXCLUDED: &[&str] =
    &["/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*"];

/// dracut modules beside ours.
pub(super) const DRACUT_MODULES: &[&str] = &[
    "base",
    "clevis",
    "clevis-pin-sss",
    "clevis-pin-tpm2",
    "crypt",
    "dm",
    "dracut-systemd",
    "fs-lib",
    "kernel-modules",
    "mdraid",
    "ostree",
    "rootfs-block",
    "shutdown",
    "systemd",
    "systemd-cryptsetup",
    "systemd-initrd",
    "systemd-journald",
    "systemd-modules-load",
    "systemd-networkd",
    "systemd-sysctl",
    "systemd-tmpfiles",
    "systemd-udevd",
    "udev-rules",
    "url-lib",
];

/// Kernel modules of the initramfs beside what dracut finds by itself.
pub(super) const DRIVERS: &[&str] = &[
    "ahci",
    "btrfs",
    "dm-crypt",
    "dm-mod",
    "loop",
    "nls_ascii",
    "nls_cp437",
    "overlay",
    "qemu_fw_cfg",
    "raid0",
    "raid1",
    "raid10",
    "raid456",
    "sd_mod",
    "sr_mod",
    "vfat",
    "virtio-rng",
    "virtio_blk",
    "virtio_console",
    "virtio_net",
    "virtio_scsi",
    "xfs",
];

/// What the cases look at disks with, in the initramfs.
pub(super) const INSPECTORS: &[&str] = &[
    "awk",
    "blkid",
    "chmod",
    "cmp",
    "cut",
    "dd",
    "debugfs",
    "head",
    "losetup",
    "lsblk",
    "mv",
    "od",
    "sfdisk",
    "sgdisk",
    "sha256sum",
    "sleep",
    "sort",
    "swapoff",
    "swapon",
    "sync",
    "tail",
    "timeout",
    "tr",
    "truncate",
    "umount",
    "wc",
];

/// GRUB's modules in its core image.
pub(super) const GRUB_MODULES: &[&str] = &[
    "biosdisk",
    "blsuki",
    "configfile",
    "echo",
    "ext2",
    "fat",
    "gzio",
    "halt",
    "linux",
    "loadenv",
    "minicmd",
    "normal",
    "part_gpt",
    "probe",
    "reboot",
    "regexp",
    "search",
    "search_fs_uuid",
    "search_label",
    "serial",
    "sleep",
    "terminal",
    "test",
    "xfs",
];

/// Groups that NestOS has and Debian lacks.
pub(super) const GROUPS: &[(&str, u32)] = &[("dnsmasq", 984), ("docker", 983), ("wheel", 982)];

/// The stateroot's name.
pub(super) const STATEROOT: &str = "nestos";
/// The branch that the system is committed to.
pub(super) const BRANCH: &str = "fledge/x86_64/nestos/test";

/// Kernel arguments of the boot entry. `$ignition_firstboot` is GRUB's to expand. The two after it keep QEMU without
/// KVM from hanging under load, and a crash from waiting; audit messages are left out because each is slow to print.
pub(super) const KERNEL_ARGUMENTS: &[&str] = &[
    "root=LABEL=root",
    "rw",
    "console=ttyS0",
    "ignition.platform.id=qemu",
    "$ignition_firstboot",
    "no_timer_check",
    "panic=-1",
    "audit=0",
];

/// Those of the variant with the companion alone: one serial port is looked for, ciphers aren't tested, memory isn't cleared before it is
/// handed out, what the kernel only informs about isn't printed, and of the security modules only one starts that has no policy.
pub(super) const COMPANION_ARGUMENTS: &[&str] = &[
    "8250.nr_uarts=1",
    "cryptomgr.notests",
    "init_on_alloc=0",
    "loglevel=6",
    "lsm=landlock",
    "module_blacklist=ahci,kvm,kvm_amd,vmw_vmci,vmw_vsock_vmci_transport,vsock,vsock_loopback",
];

/// Files of the system that are written as they are: path, contents.
pub(super) const FILES: &[(&str, &str)] = &[
    ("usr/lib/os-release", include_str!("../../image/os-release")),
    ("usr/lib/ignition/base.d/00-nest.ign", include_str!("../../image/00-nest.ign")),
    ("usr/lib/tmpfiles.d/nestos-var.conf", include_str!("../../image/nestos-var.conf")),
    ("usr/lib/systemd/system-preset/99-default-disable.preset", "disable *\n"),
    ("etc/systemd/network/20-wired.network", include_str!("../../image/20-wired.network")),
    ("etc/ssh/sshd_config.d/40-disable-passwords.conf", "PasswordAuthentication no\n"),
];

/// Files of the plain variant alone.
pub(super) const PLAIN_FILES: &[(&str, &str)] =
    &[("usr/lib/ostree/prepare-root.conf", include_str!("../../image/prepare-root.conf"))];

/// Files of the variant with composefs alone. Its initramfs pivots natively.
pub(super) const COMPOSEFS_FILES: &[(&str, &str)] = &[
    ("usr/lib/ostree/prepare-root.conf", include_str!("../../image/prepare-root-composefs.conf")),
    ("etc/dracut.conf.d/50-fledge.conf", "fledge_pivot=native\n"),
];

/// What of them the deployment has instead: by it OSTree puts the digests of all files into the image, which an initramfs may
/// then ask for or not.
pub(super) const COMPOSEFS_DEPLOYED: &[(&str, &str)] =
    &[("usr/lib/ostree/prepare-root.conf", "[composefs]\nenabled=verity\n")];

/// Files of the variant with the companion alone: of boots that hung, only what is on the disk tells anything.
pub(super) const COMPANION_FILES: &[(&str, &str)] = &[
    ("usr/lib/ostree/prepare-root.conf", include_str!("../../image/prepare-root.conf")),
    ("usr/lib/systemd/journald.conf.d/10-persistent.conf", "[Journal]\nStorage=persistent\nSyncIntervalSec=5s\n"),
];

/// Links of the system: path, target.
pub(super) const LINKS: &[(&str, &str)] = &[
    ("etc/localtime", "/usr/share/zoneinfo/UTC"),
    // It would mount the EFI system partition on /boot.
    ("etc/systemd/system-generators/systemd-gpt-auto-generator", "/dev/null"),
    ("etc/systemd/system/ldconfig.service", "/dev/null"),
    // It would ask for a time zone and a password on the console.
    ("etc/systemd/system/systemd-firstboot.service", "/dev/null"),
    ("etc/systemd/system/systemd-hwdb-update.service", "/dev/null"),
    ("etc/systemd/system/systemd-journal-catalog-update.service", "/dev/null"),
    (
        "etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
        "/usr/lib/systemd/system/systemd-networkd.service",
    ),
    (
        "etc/systemd/system/sockets.target.wants/systemd-networkd.socket",
        "/usr/lib/systemd/system/systemd-networkd.socket",
    ),
    (
        "etc/systemd/system/network-online.target.wants/systemd-networkd-wait-online.service",
        "/usr/lib/systemd/system/systemd-networkd-wait-online.service",
    ),
];

/// What Debian enables and a container host doesn't need: links below `etc/systemd/system`.
pub(super) const DISABLED: &[&str] = &[
    "multi-user.target.wants/e2scrub_reap.service",
    "multi-user.target.wants/grub-common.service",
    "sysinit.target.wants/blk-availability.service",
    "sysinit.target.wants/lvm2-lvmpolld.socket",
    "sysinit.target.wants/lvm2-monitor.service",
    "timers.target.wants",
    "mdmonitor.service.wants",
];

/// Top-level folders that live in `/var` or `/run`: path, target.
pub(super) const TOP_LINKS: &[(&str, &str)] = &[
    ("home", "var/home"),
    ("media", "run/media"),
    ("mnt", "var/mnt"),
    ("opt", "var/opt"),
    ("ostree", "sysroot/ostree"),
    ("root", "var/roothome"),
    ("srv", "var/srv"),
    ("usr/local", "../var/usrlocal"),
];

/// GRUB's configuration on the boot partition; `@SNIPPET@` is the distribution's `05_ignition.cfg`, `@STARTS@` what counts starts.
pub(super) const GRUB_CFG: &str = include_str!("../../image/grub.cfg");
/// GRUB's configuration in its core image.
pub(super) const GRUB_EARLY_CFG: &str = include_str!("../../image/grub-early.cfg");
/// The part of `grub.cfg` that tells a first boot, where the tree under test brings none of its own.
pub(super) const GRUB_SNIPPET: &str = include_str!("../../image/05_ignition.cfg");
