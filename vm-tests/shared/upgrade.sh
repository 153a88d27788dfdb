#!/bin/bash
# upgrade NAME [FILE TEXT]...: commits the running deployment with these scripts, as NAME, in a repository of its own; pulls it from there and
# deploys it.
#
# KERNEL=1: with another initramfs, so that boot entries have another bootcsum; KERNEL=panics: with one that makes the kernel panic.
# STATEROOT=NAME: to this stateroot, which is made.  REBOOT=1: goes there at once, as a person does it.
# STAGE=1: staged, as rpm-ostree and Zincati deploy: it becomes the default, and gets its boot entry, when the system goes off. Not to a
# stateroot that is made.
# UNMANAGED=1: as if this machine got fledgectl and boot selection by the update: the running deployment loses the one, with its units, its
# initramfs the other, and /boot all that they remember. The update has another initramfs then, as with KERNEL=1.
set -euo pipefail

# A second archive lies over an initramfs; it begins at a multiple of four.
append() {
    truncate --size=%4 "$2"
    (cd "$1" && find . | cpio --quiet --create --format=newc) >>"$2"
}

name=$1
shift
work=/var/tmp/upgrade
repo=$work/repo
tree=$work/$name
# After a fallback without a reboot, /proc/cmdline names another one, and links may lead elsewhere since then.
running=$(ostree admin status | sed -n 's/^[*] [^ ]* \([0-9a-f]*\)[.].*/\1/p')

mkdir -p "$work"
if [ ! -d "$repo" ]; then
    ostree init --repo="$repo" --mode=bare
    ostree config --repo="$repo" set core.parent /sysroot/ostree/repo
fi
while [ $# -gt 0 ]; do
    mkdir -p "$tree/$(dirname "$1")"
    printf '#!/bin/bash\n%s\n' "$2" >"$tree/$1"
    chmod 0755 "$tree/$1"
    shift 2
done
mkdir -p "$tree/usr"
printf '%s\n' "$name" >"$tree/usr/case"
if [ -n "${KERNEL:-}${UNMANAGED:-}" ]; then
    modules=$tree/usr/lib/modules/$(uname -r)
    mkdir -p "$modules"
    # Zeros behind an initramfs mean nothing.
    { cat /boot/ostree/*/initramfs*; head -c 512 /dev/zero; } >"$modules/initramfs.img"
    if [ "${KERNEL:-}" = panics ]; then
        units=$work/initramfs/etc/systemd/system
        mkdir -p "$units/systemd-journald.service.d"
        printf '[Service]\nExecStartPre=/bin/sh -c "echo c >/proc/sysrq-trigger"\n' >"$units/systemd-journald.service.d/10-case.conf"
        append "$work/initramfs" "$modules/initramfs.img"
    fi
fi
if [ -n "${UNMANAGED:-}" ]; then
    # Before the deployment of the update takes over what /etc has beside /usr/etc. Another fledgectl is mounted over its own.
    deployment=/sysroot/ostree/deploy/nestos/deploy/$(ostree admin status | sed -n 's/^[*] nestos \([^ ]*\).*/\1/p')
    umount /usr/bin/fledgectl
    unshare --mount sh -c "mount -o remount,bind,rw /sysroot && find '$deployment/usr' '$deployment/etc' \
        \( -name fledgectl -o -name 'fledge-*.service' -o -name '*fledge-companion*' -o -path '*/etc/fledge' -o -name '10-fledge.conf' \
        -o -name 'redboot.target*' -o -name greenboot-healthcheck.service \) -prune -exec rm -r {} +"
    units=$work/unmanaged/etc/systemd/system
    mkdir -p "$units"
    ln -s /dev/null "$units/fledge-boot-select.service"
    mount -o remount,rw /boot
    append "$work/unmanaged" /boot/ostree/*/initramfs*
    rm -r /boot/fledge
    mount -o remount,ro /boot
fi
# Any option that changes files, be it for their owner alone, would have OSTree read all that the running deployment has.
ostree commit --repo="$repo" --branch="case/$name" --tree=ref="$running" --tree=dir="$tree" >/dev/null
unshare --mount sh -c "mount -o remount,bind,rw /sysroot && ostree --repo=/sysroot/ostree/repo pull-local '$repo' 'case/$name'" >/dev/null
os=${STATEROOT:-nestos}
arguments=()
[ -z "${STAGE:-}" ] || arguments+=(--stage)
if [ "$os" != nestos ]; then
    ostree admin os-init "$os" >/dev/null
    # There is no deployment of it yet whose arguments OSTree could take over.
    for word in $(sed -n 's/^options //p' /boot/loader/entries/*.conf); do
        [[ $word = ostree=* ]] || arguments+=("--karg=$word")
    done
fi
ostree admin deploy --os="$os" "${arguments[@]}" "case/$name" >/dev/null
if [ "$os" != nestos ]; then
    # OSTree took the initramfs of the commit; what is tested is in the one that stands on /boot.
    mount -o remount,rw /boot
    cat /boot/ostree/nestos-*/initramfs* >/var/tmp/initramfs
    cat /var/tmp/initramfs >"$(echo "/boot/ostree/$os"-*/initramfs*)"
    mount -o remount,ro /boot
fi
rm -r "$tree"
sync
# What goes by its name is there, and nothing of it is seen yet.
[ -z "${STAGE:-}" ] || [ -e /run/ostree/staged-deployment ]
if [ -n "${REBOOT:-}" ]; then
    systemctl reboot
    # Whoever waits for this ends with the system.
    sleep infinity
fi
echo deployed "$name"
