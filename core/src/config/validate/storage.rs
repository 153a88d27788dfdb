// SPDX-License-Identifier: Apache-2.0
//! `storage`: files, directories, links, file systems, arrays.

use alloc::format;
use alloc::string::String;

use super::common::{check_path, index_of, said};
use crate::accounts;
use crate::config::model::{Checking, Rules};
use crate::config::schema::{FORMATS, LINK_TARGET_REQUIRED, SPECIAL_MODE_BITS, VIRTIOFS, accepted, listed};
use crate::config::types::{Directory, File, Filesystem, Link, NodeGroup, NodeUser, Raid, Storage};
use crate::json::Path;
use crate::path;

/// Longest tag of a shared file system, in bytes (virtio 1.2, section 5.11.4).
const TAG_MAX: usize = 36;

impl Rules for Storage {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        self.check_ancestors(at, cx);
        self.check_hard_links(at, cx);
        self.check_whole_disks(at, cx);
    }
}

impl Storage {
    /// Nothing may be written below a link of the same config, as it would land elsewhere, nor below a file.
    fn check_ancestors(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        let files = index_of(&mut self.files.iter().map(|file| file.path.as_str()));
        let links = index_of(&mut self.links.iter().map(|link| link.path.as_str()));
        if files.is_empty() && links.is_empty() {
            return;
        }
        let mut check = |list: &str, index: usize, path: &str| {
            let ancestors = path.match_indices('/').skip(1).filter_map(|(end, _)| path.get(..end));
            for ancestor in ancestors {
                let (what, other, remedy) = match (links.get(ancestor), files.get(ancestor)) {
                    (Some(other), _) => ("link", other, "write it below the link's target"),
                    (None, Some(other)) => ("file", other, "keep one of them"),
                    (None, None) => continue,
                };
                let reason = format!("{path} is below {ancestor}, which {at}.{what}s.{other} makes a {what}");
                cx.remarks.error(&at.key(list).index(index), reason).remedy(remedy);
            }
        };
        for (index, directory) in self.directories.iter().enumerate() {
            check("directories", index, &directory.path);
        }
        for (index, file) in self.files.iter().enumerate() {
            check("files", index, &file.path);
        }
        for (index, link) in self.links.iter().enumerate() {
            check("links", index, &link.path);
        }
    }

    fn check_hard_links(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        let directories = index_of(&mut self.directories.iter().map(|directory| directory.path.as_str()));
        for (index, link) in self.links.iter().enumerate().filter(|(_, link)| link.hard == Some(true)) {
            let Some(target) = said(link.target.as_ref()) else { continue };
            let target = if target.starts_with('/') { path::clean(target) } else { path::below(&link.path, target) };
            if directories.contains_key(target.as_str()) {
                cx.remarks
                    .error(&at.key("links").index(index), format!("the hard link's target {target} is a directory"))
                    .remedy("make it a symbolic link");
            }
        }
    }

    fn check_whole_disks(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        let disks = index_of(&mut self.disks.iter().map(|disk| disk.device.as_str()));
        for (index, filesystem) in self.filesystems.iter().enumerate() {
            let disk = disks.get(filesystem.device.as_str()).and_then(|index| self.disks.get(*index));
            let Some(disk) = disk else { continue };
            let list = at.key("filesystems");
            let item = list.index(index);
            let device = item.key("device");
            if !disk.partitions.is_empty() {
                cx.remarks.warning(&device, "the file system takes the whole disk, whose partitions are lost");
            } else if filesystem.wipe_filesystem != Some(true) && disk.wipe_table == Some(true) {
                cx.remarks.warning(
                    &device,
                    "the disk's table is wiped, and with it the file system, whatever wipeFilesystem says",
                );
            }
        }
    }
}

impl Rules for Directory {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        check_path(&self.path, &at.key("path"), cx);
        check_mode(self.mode, &at.key("mode"), cx);
    }
}

impl Rules for File {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        check_path(&self.path, &at.key("path"), cx);
        check_mode(self.mode, &at.key("mode"), cx);
        if self.overwrite == Some(true) && self.contents.source.is_none() {
            cx.remarks
                .error(&at.key("overwrite"), "the file is to be overwritten, but no contents are given")
                .remedy("give contents.source (\"data:,\" for an empty file), or remove overwrite");
        }
    }
}

impl Rules for Link {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        check_path(&self.path, &at.key("path"), cx);
        if said(self.target.as_ref()).is_none() && cx.version >= LINK_TARGET_REQUIRED {
            cx.remarks.error(&at.key("target"), "the link's target is missing").remedy("say what it points to");
        }
        if said(self.target.as_ref()).is_some_and(|target| target.contains('\0')) {
            cx.remarks.error(&at.key("target"), "the link's target contains a NUL, which no path can");
        }
        if self.hard != Some(true) {
            return;
        }
        for (owner, id, name) in [
            ("user", self.user.id.is_some(), self.user.name.is_some()),
            ("group", self.group.id.is_some(), self.group.name.is_some()),
        ] {
            for (field, given) in [("id", id), ("name", name)] {
                if given {
                    cx.remarks
                        .warning(
                            &at.key(owner).key(field),
                            format!("a hard link has its target's {owner}; this is ignored"),
                        )
                        .remedy(format!("give the {owner} to the target, or make it a symbolic link"));
                }
            }
        }
    }
}

impl Rules for NodeUser {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        check_owner(self.id, self.name.as_ref(), at, cx);
    }
}

impl Rules for NodeGroup {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        check_owner(self.id, self.name.as_ref(), at, cx);
    }
}

fn check_owner(id: Option<i64>, name: Option<&String>, at: &Path<'_>, cx: &mut Checking<'_>) {
    if id.is_some() && said(name).is_some() {
        cx.remarks.error(at, "both an id and a name are given").remedy("keep one of them");
    }
    check_id(id, &at.key("id"), cx);
}

/// Numbers of users and groups.
pub(super) fn check_id(id: Option<i64>, at: &Path<'_>, cx: &mut Checking<'_>) {
    if let Some(id) = id.filter(|id| accounts::id(*id).is_none()) {
        cx.remarks.error(at, format!("{id} can't be the id of a user or group")).remedy(accounts::IDS);
    }
}

fn check_mode(mode: Option<i64>, at: &Path<'_>, cx: &mut Checking<'_>) {
    /// Permissions that people mean when they forget that JSON has no octal numbers.
    const WRITTEN_AS_OCTAL: [i64; 14] = [400, 440, 444, 500, 555, 600, 640, 644, 660, 664, 700, 750, 755, 777];
    let Some(mode) = mode else { return };
    if !(0..=0o7777).contains(&mode) {
        cx.remarks
            .error(at, format!("{mode} is no mode: a mode is a number from 0 to 4095, octal 7777"))
            .remedy("JSON has no octal numbers: 0644 is 420, 0755 is 493");
        return;
    }
    if WRITTEN_AS_OCTAL.contains(&mode) {
        if let Ok(meant) = i64::from_str_radix(&format!("{mode}"), 8) {
            cx.remarks
                .warning(at, format!("the mode {mode} is decimal: it means {mode:#o} in octal"))
                .remedy(format!("write {meant} if you mean 0{mode}"));
        }
    }
    if mode & !0o777 != 0 && cx.version < SPECIAL_MODE_BITS {
        let since = SPECIAL_MODE_BITS;
        cx.remarks
            .warning(at, format!("setuid, setgid and sticky bits came with version {since}; this config says {}, so they are left out", cx.version))
            .remedy(format!("set ignition.version to {since} or later, or remove the bits"));
    }
}

impl Rules for Filesystem {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        if let Some(path) = said(self.path.as_ref()) {
            check_path(path, &at.key("path"), cx);
        }
        let at_format = at.key("format");
        if self.format.as_deref() == Some(VIRTIOFS) && accepted(FORMATS, VIRTIOFS, cx.version).is_ok() {
            self.check_shared(at, cx);
            return;
        }
        check_path(&self.device, &at.key("device"), cx);
        match said(self.format.as_ref()) {
            None => {
                let needing = [
                    ("path", said(self.path.as_ref()).is_some()),
                    ("label", said(self.label.as_ref()).is_some()),
                    ("uuid", said(self.uuid.as_ref()).is_some()),
                    ("wipeFilesystem", self.wipe_filesystem == Some(true)),
                    ("mountOptions", !self.mount_options.is_empty()),
                    ("options", !self.options.is_empty()),
                ];
                if let Some((name, _)) = needing.iter().find(|(_, given)| *given) {
                    cx.remarks
                        .error(&at_format, format!("the format is missing, though {name} is given"))
                        .remedy(format!("give one of {}", listed(FORMATS, cx.version)));
                }
            }
            Some(format) => match accepted(FORMATS, format, cx.version) {
                Ok(()) => self.check_label(format, at, cx),
                Err(Some(since)) => {
                    cx.remarks
                        .error(
                            &at_format,
                            format!("the format {format:?} came with version {since}, this config says {}", cx.version),
                        )
                        .remedy(format!("set ignition.version to {since} or later"));
                }
                Err(None) => {
                    cx.remarks
                        .error(&at_format, format!("{format:?} is no format that is known here"))
                        .remedy(format!("give one of {}", listed(FORMATS, cx.version)));
                }
            },
        }
    }
}

impl Filesystem {
    /// What the hypervisor shares has a tag instead of a device, and is made and named there.
    fn check_shared(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        let device = at.key("device");
        if self.device.is_empty() {
            cx.remarks.error(&device, "the tag is missing").remedy("give the tag under which the hypervisor shares it");
        } else if self.device.len() > TAG_MAX {
            cx.remarks
                .error(&device, format!("the tag has {} bytes; virtio has room for {TAG_MAX}", self.device.len()));
        }
        for (name, given) in [
            ("label", said(self.label.as_ref()).is_some()),
            ("uuid", said(self.uuid.as_ref()).is_some()),
            ("wipeFilesystem", self.wipe_filesystem == Some(true)),
            ("options", !self.options.is_empty()),
        ] {
            if given {
                cx.remarks
                    .error(&at.key(name), format!("a file system of the format {VIRTIOFS} can't have {name}"))
                    .remedy("remove it; options of mount go into mountOptions");
            }
        }
    }

    /// The lengths are those of mkfs.ext4(8), mkfs.btrfs(8), mkfs.xfs(8) and mkfs.fat(8); mkswap cuts off what is longer.
    fn check_label(&self, format: &str, at: &Path<'_>, cx: &mut Checking<'_>) {
        let most = match format {
            "ext4" => 16,
            "btrfs" => 256,
            "xfs" => 12,
            "swap" => 15,
            "vfat" => 11,
            _ => return,
        };
        let len = self.label.as_ref().map_or(0, String::len);
        if len > most {
            cx.remarks.error(&at.key("label"), format!("the label has {len} bytes; {format} has room for {most}"));
        }
    }
}

impl Rules for Raid {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        const LEVELS: [&str; 15] = [
            "linear", "raid0", "0", "stripe", "raid1", "1", "mirror", "raid4", "4", "raid5", "5", "raid6", "6",
            "raid10", "10",
        ];
        if self.name.is_empty() {
            cx.remarks.error(&at.key("name"), "the array has no name").remedy("name it; it appears as /dev/md/NAME");
        }
        let level = at.key("level");
        match said(self.level.as_ref()) {
            None => {
                cx.remarks.error(&level, "the level is missing").remedy("give one such as \"raid1\"");
            }
            Some(name) if !LEVELS.contains(&name) => {
                cx.remarks
                    .error(&level, format!("{name:?} is no level that is known here"))
                    .remedy("give linear, raid0, raid1, raid4, raid5, raid6 or raid10");
            }
            Some(name @ ("linear" | "raid0" | "0" | "stripe")) if self.spares.unwrap_or_default() != 0 => {
                cx.remarks.error(&level, format!("an array of level {name} has no spares")).remedy("remove spares");
            }
            Some(_) => {}
        }
        let devices = at.key("devices");
        if self.devices.is_empty() {
            cx.remarks.error(&devices, "the array has no devices").remedy("give their paths");
        }
        for (index, device) in self.devices.iter().enumerate() {
            check_path(device, &devices.index(index), cx);
        }
    }
}
