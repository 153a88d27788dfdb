set -eu
records=/boot/fledge/boot
old=$(basename /ostree/deploy/*/deploy/*.0)
new=${old%.0}.1
other=${old%.0}.2
writable() { mount -o remount,rw /boot; }
records_of() { (cd $records && ls | sed -n "s/^nestos-$1//p" | tr '\n' ' '); }
case $1 in
    deploy)
        ostree admin deploy --os=nestos "${old%.0}" >/dev/null
        writable
        mkdir -p $records
        touch "$records/nestos-$new+1-2"
        # A deployment that nobody could bless isn't counted.
        mount -o remount,rw /sysroot
        cd "/sysroot/ostree/deploy/nestos/deploy/$new"
        touch usr/bin/fledgectl
        mkdir -p etc/systemd/system/multi-user.target.wants
        ln -s ../fledge-bless.service etc/systemd/system/multi-user.target.wants/fledge-bless.service
        ;;
    deploy-other)
        ostree admin deploy --os=nestos --karg-append=fledge-case.other "${old%.0}" >/dev/null
        writable
        touch "$records/nestos-$other+0-3"
        ;;
    look)
        [ -z "$(records_of "$old")" ] || echo "old: $(records_of "$old")"
        echo "new: $(records_of "$new")"
        case $(ostree admin status | sed -n 's/^\* //p') in
            *"$old"*) echo "booted: old" ;;
            *"$new"*) echo "booted: new" ;;
        esac
        if [ ! -e "$records/nestos-$old.good" ]; then
            writable
            touch "$records/nestos-$old.good"
        fi
        ;;
    instead)
        grep -q "\"instead_of\": \"nestos-$other\"" /run/fledge/boot-select.json
        echo "other: $(records_of "$other")"
        ;;
    # Sectors since the kernel started (Documentation/block/stat.rst).
    written) awk '{ print $7 }' "/sys/class/block/$(basename "$(readlink -f /dev/disk/by-label/boot)")/stat" ;;
    # Milliseconds from "Starting" to "Finished" in the journal.
    took)
        # What it does before the root is mounted, nobody waits for.
        ms=$(journalctl -b -o short-monotonic _PID=1 | tr -d '[]' | awk '/ Mounted sysroot[.]mount/ { root = $1 }
            / Starting fledge-boot-select/ { start = $1 } / Finished fledge-boot-select/ { end = $1 }
            END { if (start < root) start = root; print (root && end > start) ? int((end - start) * 1000) : "no" }')
        if [ "$ms" != no ] && [ "$ms" -le "$2" ]; then echo "in time"; else echo "$ms ms"; fi
        ;;
esac
