#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run by fledge-network.service. Shell, because dracut's own hooks, which are shell, must be run again.
command -v getargbool > /dev/null || . /lib/dracut-lib.sh

# systemd-networkd: what dracut's hook leaves when the command line says rd.neednet=1. The ip= arguments have already
# been turned into .network files by then; without any, our .network file asks for DHCP.
mkdir -p /run/networkd/initrd /etc/cmdline.d || exit 1
: > /run/networkd/initrd/neednet || exit 1

# NetworkManager: its hook makes connections and starts the daemon only when rd.neednet=1 is there.
getargbool 0 rd.neednet && exit 0
echo rd.neednet=1 > /etc/cmdline.d/40-fledge-neednet.conf || exit 1
for hook in "$hookdir"/cmdline/*-nm-config.sh; do
    if [ -f "$hook" ]; then
        . "$hook"
    fi
done
exit 0
