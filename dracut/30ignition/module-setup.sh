#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The stages of the first boot, under the names that distributions hook into. Not for s390x: no CEX keys, no z/VM reader.

check() {
    # Only when asked for: by a distribution's module (fledge-ostree is ours) or by add_dracutmodules.
    return 255
}

depends() {
    echo qemu systemd url-lib network
}

# The first argument is the target that requires the unit.
add_unit() {
    inst_simple "$moddir/$2" "$systemdsystemunitdir/$2"
    # A unit that isn't there must end the build, not the first boot.
    $SYSTEMCTL -q --root="$initdir" add-requires "$1" "$2" || exit 1
}

install() {
    local target stage rules

    inst_multiple fledge || exit 1
    ln_r /usr/bin/fledge /usr/bin/ignition
    inst_dir "$systemdutildir/system-generators"
    ln_r /usr/bin/fledge "$systemdutildir/system-generators/ignition-generator"

    # What hooks of distributions expect to find.
    inst_multiple \
        basename \
        lsblk

    # What the stages call (stages/src/host/cmd.rs); a stage says so when it needs one that isn't there.
    inst_multiple -o \
        groupadd \
        groupdel \
        groupmod \
        mdadm \
        mkfs.btrfs \
        mkfs.ext4 \
        mkfs.fat \
        mkfs.xfs \
        mkswap \
        modprobe \
        setfiles \
        systemctl \
        udevadm \
        useradd \
        userdel \
        usermod \
        wipefs \
        ignition-kargs-helper

    # Encrypted volumes: made by cryptsetup, bound and opened by clevis, whose scripts call the rest.
    inst_multiple -o \
        bash cat cryptsetup curl cut grep mkdir mktemp rm sed sort tail tr \
        clevis clevis-decrypt clevis-encrypt-sss clevis-decrypt-sss \
        clevis-encrypt-tang clevis-decrypt-tang clevis-encrypt-tpm2 clevis-decrypt-tpm2 \
        clevis-luks-bind clevis-luks-common-functions clevis-luks-list clevis-luks-unlock \
        jose luksmeta pwmake \
        tpm2_create tpm2_createpolicy tpm2_createprimary tpm2_flushcontext tpm2_load tpm2_pcrlist tpm2_pcrread tpm2_unseal
    # Loaded by name at run time; not there, nothing is.
    inst_libdir_file 'libtss2-tcti-device.so*'

    for target in complete subsequent diskful diskful-subsequent; do
        inst_simple "$moddir/ignition-$target.target" "$systemdsystemunitdir/ignition-$target.target"
    done
    for stage in fetch-offline fetch kargs disks mount files; do
        add_unit ignition-complete.target "ignition-$stage.service"
    done
    add_unit ignition-diskful.target ignition-remount-sysroot.service
    add_unit initrd.target fledge-generator-check.service

    inst_simple "$moddir/pwquality.conf" /etc/security/pwquality.conf.d/ignition-luks.conf
    # Ours is for the initramfs alone, so it comes from here; OpenStack's config drive needs udev's.
    rules=99-xx-ignition-systemd-cryptsetup.rules
    inst_simple "$moddir/$rules" "$udevdir/rules.d/$rules" || exit 1
    inst_rules 60-cdrom_id.rules
}

installkernel() {
    # Encrypted volumes; their ciphers come with dracut's module crypt.
    hostonly='' instmods dm_crypt =drivers/char/tpm
    # Hyper-V: the config in key-value pairs of the host.
    instmods hv_utils
    # Apple's hypervisor: the config over vsock.
    instmods vsock vmw_vsock_virtio_transport_common vmw_vsock_virtio_transport
    # NVIDIA BlueField: the config in the boot FIFO.
    if [[ ${DRACUT_ARCH:-$(uname -m)} == aarch64 ]]; then
        instmods mlxbf_bootctl
    fi
}
