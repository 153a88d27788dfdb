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
