#!/bin/bash
# upgrade NAME [FILE TEXT]...: commits the running deployment with these scripts, as NAME, in a repository of its own; pulls it from there and
# deploys it.
#
# KERNEL=1: with another initramfs, so that boot entries have another bootcsum.  STATEROOT=NAME: to this stateroot, which is made.
set -euo pipefail

name=$1
shift
work=/var/tmp/upgrade
repo=$work/repo
tree=$work/$name
link=$(sed 's/.*ostree=\([^ ]*\).*/\1/' /run/fledge/pivot-cmdline /proc/cmdline 2>/dev/null | head -n 1)
running=$(basename "$(realpath "$link")")
running=${running%.*}

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
if [ -n "${KERNEL:-}" ]; then
    modules=$tree/usr/lib/modules/$(uname -r)
    mkdir -p "$modules"
    # Zeros behind an initramfs mean nothing.
    { cat /boot/ostree/*/initramfs*; head -c 512 /dev/zero; } >"$modules/initramfs.img"
fi
ostree commit --repo="$repo" --branch="case/$name" --owner-uid=0 --owner-gid=0 \
    --tree=ref="$running" --tree=dir="$tree" >/dev/null
unshare --mount sh -c "mount -o remount,bind,rw /sysroot && ostree --repo=/sysroot/ostree/repo pull-local '$repo' 'case/$name'" >/dev/null
if [ -n "${STATEROOT:-}" ]; then
    ostree admin os-init "$STATEROOT"
fi
ostree admin deploy --os="${STATEROOT:-nestos}" "case/$name" >/dev/null
rm -r "$tree"
# What GRUB reads is where the file system says, and not in its journal: the checker powers the machine off with all unmounted.
sync
echo deployed "$name"
