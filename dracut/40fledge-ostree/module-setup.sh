#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What surrounds the stages on an OSTree system. It does what Fedora CoreOS's ignition-ostree does, under the same unit
# names, so the two can't stand in one initramfs.

check() {
    local theirs
    if [[ " $dracutmodules $add_dracutmodules $force_add_dracutmodules " == *" fledge-ostree "* ]]; then
        for theirs in "$dracutbasedir"/modules.d/[0-9][0-9]ignition-ostree; do
            # That module has no check(): where it is installed and not omitted, dracut includes it.
            if [[ -d $theirs && " $omit_dracutmodules " != *" ignition-ostree "* ]]; then
                dfatal "fledge-ostree replaces ignition-ostree: remove $theirs or set omit_dracutmodules+=\" ignition-ostree \""
                return 1
            fi
        done
    fi
    # Only when asked for: an initramfs that provisions is a distribution's decision.
    return 255
}

depends() {
    echo ignition
    # systemd-networkd leaves name servers to systemd-resolved; NetworkManager, which dracut prefers, needs no help.
    if [[ -x $dracutsysrootdir$systemdutildir/systemd-resolved && ! -x $dracutsysrootdir/usr/libexec/nm-initrd-generator ]]; then
        echo systemd-resolved
    fi
}

add_unit() {
    inst_simple "$moddir/$1" "$systemdsystemunitdir/$1"
    $SYSTEMCTL -q --root="$initdir" add-requires ignition-complete.target "$1" || exit 1
}

# Lets units of a distribution go on being ordered by the name that they know.
also_known_as() {
    [[ -e $initdir$systemdsystemunitdir/$2 ]] || ln_r "$systemdsystemunitdir/$1" "$systemdsystemunitdir/$2"
}

# A distribution's own unit goes before ours: nothing orders two that write to one disk.
unless_theirs() {
    local name

    for name in coreos nestos; do
        [[ ! -e $initdir$systemdsystemunitdir/$name-$2.service ]] || return 0
    done
    add_unit "$1.service"
    for name in coreos nestos; do
        also_known_as "$1.service" "$name-$2.service"
    done
}

install() {
    local name unit

    inst_multiple \
        systemd-tmpfiles
    # What new UUIDs and a larger root need, by file system; xfs_admin is a script that calls xfs_db. Passphrases of clevis.
    inst_multiple -o \
        btrfs btrfstune \
        e2fsck resize2fs tune2fs \
        xfs_admin xfs_db xfs_growfs \
        clevis-luks-pass

    # The links that a root on multipath is named by, where the distribution makes them.
    inst_rules 90-coreos-device-mapper.rules 90-nestos-device-mapper.rules

    for unit in fledge-user-config fledge-kargs-reboot ignition-ostree-growfs \
        ignition-ostree-mount-state-overlays ignition-ostree-mount-var ignition-ostree-populate-var \
        ignition-ostree-transposefs-autosave-xfs ignition-ostree-transposefs-detect \
        ignition-ostree-transposefs-restore ignition-ostree-transposefs-save \
        ignition-ostree-uuid-boot ignition-ostree-uuid-root; do
        add_unit "$unit.service"
    done
    # What it would destroy must be in safety first.
    $SYSTEMCTL -q --root="$initdir" add-requires ignition-disks.service ignition-ostree-transposefs-save.service || exit 1
    inst_simple "$moddir/fledge-failure.service" "$systemdsystemunitdir/fledge-failure.service"
    $SYSTEMCTL -q --root="$initdir" add-wants emergency.target fledge-failure.service || exit 1

    for name in coreos nestos; do
        also_known_as fledge-user-config.service "$name-ignition-setup-user.service"
        also_known_as fledge-kargs-reboot.service "$name-kargs-reboot.service"
    done
    unless_theirs fledge-gpt-setup gpt-setup
    unless_theirs fledge-persist-root boot-edit

    install_boot_disk
    install_handover

    install_boot_selection
    install_pivot

    # A distribution's own helper goes before ours: one that an earlier module brought, or that 30ignition found.
    if [[ ! -e $initdir/usr/sbin/ignition-kargs-helper && ! -e $initdir/usr/bin/ignition-kargs-helper ]]; then
        inst_script "$moddir/ignition-kargs-helper.sh" /usr/sbin/ignition-kargs-helper
    fi

    # A distribution's own way to start the network goes before ours.
    if ! dracut_module_included coreos-network && ! dracut_module_included nestos-network; then
        install_network
    fi
}

# A distribution's own check of the boot disk may run beside ours, and sees less.
install_boot_disk() {
    local name unit

    for unit in fledge-unique-boot fledge-unique-boot-again; do
        inst_simple "$moddir/$unit.service" "$systemdsystemunitdir/$unit.service"
        $SYSTEMCTL -q --root="$initdir" add-requires ignition-diskful.target "$unit.service" || exit 1
    done
    for name in coreos nestos; do
        also_known_as fledge-unique-boot.service "$name-unique-boot.service"
        also_known_as fledge-unique-boot-again.service "$name-ignition-unique-boot.service"
    done
    # For the initramfs alone: the real root has neither the applet nor the link.
    inst_simple "$moddir/80-fledge-boot-disk.rules" "$udevdir/rules.d/80-fledge-boot-disk.rules" || exit 1
}

# A distribution's own hand-over goes before ours: whichever of two came first would leave nothing for the other. So does its own
# copy of an installer's files: it may take some away that ours would put there.
install_handover() {
    if ! is_theirs teardown-initramfs; then
        inst_multiple ip
        install_instead_of teardown-initramfs fledge-network-handover.service
    fi
    if ! is_theirs copy-firstboot-network; then
        install_instead_of copy-firstboot-network fledge-copy-network.service
    fi
}

is_theirs() {
    [[ -e $initdir$systemdsystemunitdir/coreos-$1.service || -e $initdir$systemdsystemunitdir/nestos-$1.service ]]
}

install_instead_of() {
    add_unit "$2"
    also_known_as "$2" "coreos-$1.service"
    also_known_as "$2" "nestos-$1.service"
}

# Boots other than the first are counted, of deployments that have fledgectl: without it nobody would see that they are healthy. Nothing
# may fail because of that, so nothing requires it.
install_boot_selection() {
    inst_simple "$moddir/fledge-boot-select.service" "$systemdsystemunitdir/fledge-boot-select.service"
    $SYSTEMCTL -q --root="$initdir" add-wants ignition-diskful-subsequent.target fledge-boot-select.service || exit 1
}

# fledge_pivot in dracut.conf decides who pivots into the deployment: "ostree" (OSTree's own program, which its dracut module brings;
# the default) or "native".
install_pivot() {
    local file unit

    case ${fledge_pivot:-ostree} in
        ostree)
            # Its program goes by the machine's command line; ours tells it of the deployment that was selected.
            inst_simple "$moddir/ostree-prepare-root.conf" \
                "$systemdsystemunitdir/ostree-prepare-root.service.d/50-fledge.conf"
            return 0
            ;;
        native) ;;
        *)
            dfatal "fledge_pivot is '$fledge_pivot', but must be 'ostree' or 'native'"
            exit 1
            ;;
    esac
    inst_simple "$moddir/fledge-pivot.service" "$systemdsystemunitdir/fledge-pivot.service"
    # Under the name of OSTree's unit, and before that, if it is there: it is what dracut's module and units of distributions go by.
    inst_dir "$systemdsystemconfdir/initrd-root-fs.target.requires"
    unit=$systemdsystemconfdir/ostree-prepare-root.service
    ln_r "$systemdsystemunitdir/fledge-pivot.service" "$unit"
    ln_r "$unit" "$systemdsystemconfdir/initrd-root-fs.target.requires/ostree-prepare-root.service"
    for file in /usr/lib/ostree/prepare-root.conf /etc/ostree/prepare-root.conf; do
        if [[ -e $dracutsysrootdir$file ]]; then
            inst_simple "$file"
        fi
    done
}

installkernel() {
    # State overlays.
    hostonly='' instmods overlay
    # Memory that holds a root which is made anew, and what older kernels compress it with.
    hostonly='' instmods zram lzo lzo-rle
    if [[ ${fledge_pivot:-ostree} == native ]]; then
        hostonly='' instmods erofs
    fi
}

install_network() {
    local name unit

    inst_script "$moddir/network.sh" /usr/libexec/fledge/network
    add_unit fledge-network.service
    for name in coreos nestos; do
        also_known_as fledge-network.service "$name-enable-network.service"
    done

    if dracut_module_included systemd-networkd; then
        for unit in systemd-networkd.service systemd-networkd.socket; do
            inst_simple "$moddir/networkd.conf" "$systemdsystemunitdir/$unit.d/50-fledge.conf"
        done
        inst_simple "$moddir/networkd-wait-online.conf" \
            "$systemdsystemunitdir/systemd-networkd-wait-online.service.d/zz-fledge.conf"
        inst_simple "$moddir/zzzz-fledge-default.network" /etc/systemd/network/zzzz-fledge-default.network
        # dracut wants both in other targets, which differ between its versions.
        $SYSTEMCTL -q --root="$initdir" add-wants ignition-complete.target \
            systemd-networkd.service systemd-networkd-wait-online.service || exit 1
    fi
}
