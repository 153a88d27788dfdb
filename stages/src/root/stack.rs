// SPDX-License-Identifier: Apache-2.0
//! What a device is made of, down to its disks: sysfs (kernel `Documentation/ABI/stable/sysfs-block`, `testing/sysfs-block-dm`).

use std::io;
use std::path::Path;

use fledge_core::root::{FileSystem, Kind, Layer};

use crate::host::device::{self, usage};
use crate::host::mount;

/// The device and all below it, the lowest first. Which volumes need the network, this doesn't know.
///
/// # Errors
/// One of them can't be looked at.
pub(super) fn of(node: &Path) -> io::Result<Vec<Layer>> {
    let mut layers = Vec::new();
    descend(&usage::directory(node)?, &mut layers)?;
    Ok(layers)
}

fn descend(sys: &Path, layers: &mut Vec<Layer>) -> io::Result<()> {
    let node = usage::node(sys);
    if layers.iter().any(|layer| layer.node == node) {
        return Ok(());
    }
    let below = usage::linked(sys, "slaves");
    let mapped = usage::text(&sys.join("dm/uuid"));
    let kind = if let Some(wwid) = mapped.strip_prefix("mpath-") {
        // The paths are one disk.
        Kind::Multipath { wwid: wwid.to_owned() }
    } else {
        for slave in &below {
            descend(&usage::directory(Path::new(slave))?, layers)?;
        }
        let name = usage::text(&sys.join("dm/name"));
        if sys.join("dm").exists() {
            mapped_kind(&mapped, name, below.first())
        } else if sys.join("md").exists() {
            raid(below.first().map(Path::new))?
        } else if let Ok(number) = usage::text(&sys.join("partition")).parse() {
            let disk = sys.parent().unwrap_or(sys);
            descend(disk, layers)?;
            Kind::Partition { disk: usage::node(disk), number }
        } else {
            Kind::Disk
        }
    };
    layers.push(Layer { node, kind });
    Ok(())
}

/// By the prefix that each program gives to the UUIDs of its devices.
fn mapped_kind(uuid: &str, name: String, below: Option<&String>) -> Kind {
    let other = || Kind::Other(format!("the device-mapper device {name:?} with the UUID {uuid:?}"));
    if let Some(rest) = uuid.strip_prefix("CRYPT-LUKS1-").or_else(|| uuid.strip_prefix("CRYPT-LUKS2-")) {
        return match rest.get(..32).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            Some(digits) => Kind::Luks { uuid: grouped(digits, &[8, 4, 4, 4, 12], "-"), name, network: false },
            None => other(),
        };
    }
    if ["INTEGRITY-", "CRYPT-INTEGRITY-", "CRYPT-SUBDEV-"].iter().any(|prefix| uuid.starts_with(prefix)) {
        return Kind::Integrity;
    }
    let part = uuid.strip_prefix("part").and_then(|rest| rest.split_once("-mpath-"));
    match (part.and_then(|(number, _)| number.parse().ok()), below) {
        (Some(number), Some(disk)) => Kind::Partition { disk: disk.clone(), number },
        _ => other(),
    }
}

/// The UUID stands on each member; any will do.
fn raid(member: Option<&Path>) -> io::Result<Kind> {
    let superblock = member.map(device::superblock).transpose()?.flatten();
    let uuid = superblock.map(|found| found.uuid.replace(['-', ':'], "")).unwrap_or_default();
    Ok(match uuid.len() {
        32 => Kind::Raid { uuid: grouped(&uuid, &[8, 8, 8, 8], ":") },
        _ => Kind::Other("an array whose superblock can't be read".into()),
    })
}

/// How many bytes each device of an array has beyond what the array takes, if it can grow: not at levels whose size is the sum of
/// their devices, and not with metadata at the end of each, which are lost if power is when only the device has grown (kernel
/// `Documentation/admin-guide/md.rst`).
pub(super) fn room(sys: &Path) -> Option<u64> {
    let value = |path: std::path::PathBuf| usage::text(&path).parse::<u64>().ok();
    let md = sys.join("md");
    let level = usage::text(&md.join("level"));
    if !["raid1", "raid4", "raid5", "raid6", "raid10"].contains(&level.as_str())
        || !["1.1", "1.2"].contains(&usage::text(&md.join("metadata_version")).as_str())
    {
        return None;
    }
    // In KiB; the rest in sectors of 512 bytes.
    let taken = value(md.join("component_size"))? << 10;
    let mut room = None;
    for entry in std::fs::read_dir(&md).ok()?.flatten() {
        let member = entry.path();
        if !entry.file_name().to_string_lossy().starts_with("dev-") {
            continue;
        }
        let usable = value(member.join("block/size"))?.saturating_sub(value(member.join("offset"))?) << 9;
        let left = usable.saturating_sub(taken);
        room = Some(room.map_or(left, |room: u64| room.min(left)));
    }
    // Of levels with chunks only whole ones are taken.
    let chunk = value(md.join("chunk_size")).unwrap_or_default();
    room.map(|room| room.checked_div(chunk).map_or(room, |chunks| chunks * chunk))
}

fn grouped(digits: &str, groups: &[usize], between: &str) -> String {
    let mut start = 0;
    let parts = groups.iter().map(|len| {
        start += len;
        digits.get(start - len..start).unwrap_or_default()
    });
    parts.collect::<Vec<_>>().join(between)
}

/// The file system on a device.
///
/// # Errors
/// It can't be read.
pub(super) fn file_system(node: &Path) -> io::Result<FileSystem> {
    let node = node.canonicalize()?;
    let found = device::signatures(&node)?.into_iter().next().unwrap_or_default();
    Ok(FileSystem { node: node.to_string_lossy().into_owned(), format: found.format, uuid: found.uuid })
}

/// The device that is mounted at the first of these places where one is.
///
/// # Errors
/// The table of mounts can't be read, or no device is mounted there.
pub(super) fn mounted(places: &[&Path]) -> io::Result<String> {
    let table = mount::table()?;
    let source = |place: &&Path| {
        let on_top = table.iter().rfind(|mount| mount.point == **place)?;
        device::is_there(&on_top.source).then(|| on_top.source.clone())
    };
    places.iter().find_map(source).ok_or_else(|| {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        io::Error::other(format!("no device is mounted at {}", places.join(" or ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_that_can_grow_tell_what_is_left_of_their_smallest_device() {
        let room_of = |level: &str, format: &str, chunk: &str| {
            let sys = tempfile::tempdir().unwrap();
            let write = |path: &str, text: &str| {
                let path = sys.path().join("md").join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, format!("{text}\n")).unwrap();
            };
            for (path, text) in [
                ("level", level),
                ("metadata_version", format),
                ("component_size", "1024"),
                ("chunk_size", chunk),
                ("dev-vda4/block/size", "16384"),
                ("dev-vda4/offset", "2048"),
                ("dev-vdb4/block/size", "8292"),
                ("dev-vdb4/offset", "2048"),
            ] {
                write(path, text);
            }
            room(sys.path())
        };
        // 8292 - 2048 sectors are 3122 KiB.
        assert_eq!(room_of("raid1", "1.2", "0"), Some((3122 - 1024) << 10));
        assert_eq!(room_of("raid5", "1.2", "524288"), Some(2048 << 10));
        for (level, format) in [("raid0", "1.2"), ("linear", "1.2"), ("raid1", "1.0"), ("raid1", "0.90")] {
            assert_eq!(room_of(level, format, "0"), None, "{level} {format}");
        }
    }

    #[test]
    fn device_mapper_tells_who_made_a_device() {
        let of = |uuid: &str| mapped_kind(uuid, "root".into(), Some(&"/dev/dm-7".into()));
        let uuid = "0123456789abcdef0123456789abcdef";
        let luks =
            Kind::Luks { name: "root".into(), uuid: "01234567-89ab-cdef-0123-456789abcdef".into(), network: false };
        assert_eq!(of(&format!("CRYPT-LUKS2-{uuid}-root")), luks);
        assert_eq!(of(&format!("CRYPT-LUKS1-{uuid}-root")), luks);
        assert_eq!(of("CRYPT-SUBDEV-x-root_dif"), Kind::Integrity);
        assert_eq!(of("part4-mpath-3600"), Kind::Partition { disk: "/dev/dm-7".into(), number: 4 });
        for other in ["LVM-abc", "CRYPT-LUKS2-short", "CRYPT-PLAIN-root", ""] {
            assert!(matches!(of(other), Kind::Other(what) if what.contains(other)), "{other}");
        }
    }
}
