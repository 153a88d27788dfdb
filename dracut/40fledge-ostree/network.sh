#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run by fledge-network.service. Shell, because dracut's own hooks, which are shell, must be run again.
command -v getargbool > /dev/null || . /lib/dracut-lib.sh

start() {
    # systemd-networkd: what dracut's hook leaves when the command line says rd.neednet=1. The ip= arguments have already
    # been turned into .network files by then; without any, our .network file asks for DHCP.
    mkdir -p /run/networkd/initrd /etc/cmdline.d || return 1
    : > /run/networkd/initrd/neednet || return 1

    # NetworkManager: its hook makes connections and starts the daemon only when rd.neednet=1 is there.
    getargbool 0 rd.neednet && return 0
    echo rd.neednet=1 > /etc/cmdline.d/40-fledge-neednet.conf || return 1
    for hook in "$hookdir"/cmdline/*-nm-config.sh; do
        if [ -f "$hook" ]; then
            . "$hook"
        fi
    done
    return 0
}

# The real root configures its network for itself, from its own files: a link that is up with an address would be left as it
# is, and the connections made for the initramfs would be taken for the machine's.
stop() {
    # A root on the network needs it.
    if getargbool 0 rd.iscsi.firmware || getarg netroot > /dev/null; then
        return 0
    fi
    rm -rf /run/NetworkManager
    for device in /sys/class/net/*/device; do
        [ -e "$device" ] || continue
        link=${device%/device}
        ip link set dev "${link##*/}" down
        ip addr flush dev "${link##*/}"
    done
    return 0
}

case $1 in
    start | stop) "$1" ;;
    *) echo "usage: network start|stop" >&2 && exit 2 ;;
esac
