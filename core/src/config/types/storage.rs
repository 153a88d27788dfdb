// SPDX-License-Identifier: Apache-2.0
//! `storage`, without LUKS.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Luks, Resource};
use crate::config::model::Entry;
use crate::config::section::section;

section! {
    /// Disks, file systems, and what is on them.
    pub part Storage {
        /// Directories to make.
        directories: Vec<Directory> = "directories", V3_0, exclusive;
        /// Disks to partition.
        disks: Vec<Disk> = "disks", V3_0;
        /// Files to write.
        files: Vec<File> = "files", V3_0, exclusive;
        /// File systems to make, to reuse, to mount.
        filesystems: Vec<Filesystem> = "filesystems", V3_0;
        /// Links to make.
        links: Vec<Link> = "links", V3_0, exclusive;
        /// Encrypted volumes to make.
        luks: Vec<Luks> = "luks", V3_2;
        /// Arrays to make.
        raid: Vec<Raid> = "raid", V3_0;
    }
}

section! {
    /// A directory to make.
    pub item Directory {
        /// Its group; 0 if absent.
        group: NodeGroup = "group", V3_0;
        /// Whether something else at the path is removed first. An existing directory is kept if this isn't set.
        overwrite: Option<bool> = "overwrite", V3_0;
        /// Absolute path in the target.
        path: String = "path", V3_0;
        /// Its owner; 0 if absent.
        user: NodeUser = "user", V3_0;
        /// Permissions; 0755 if absent.
        mode: Option<i64> = "mode", V3_0;
    }
}

section! {
    /// A file to write.
    pub item File {
        /// Its group; 0 if absent.
        group: NodeGroup = "group", V3_0;
        /// Whether what is at the path is removed first.
        overwrite: Option<bool> = "overwrite", V3_0;
        /// Absolute path in the target.
        path: String = "path", V3_0;
        /// Its owner; 0 if absent.
        user: NodeUser = "user", V3_0;
        /// Contents that are appended, in order.
        append: Vec<Resource> = "append", V3_0, appending;
        /// Its contents.
        contents: Resource = "contents", V3_0;
        /// Permissions; 0644 if absent.
        mode: Option<i64> = "mode", V3_0;
    }
}

section! {
    /// A link to make.
    pub item Link {
        /// Its group; 0 if absent.
        group: NodeGroup = "group", V3_0;
        /// Whether what is at the path is removed first.
        overwrite: Option<bool> = "overwrite", V3_0;
        /// Absolute path in the target.
        path: String = "path", V3_0;
        /// Its owner; 0 if absent.
        user: NodeUser = "user", V3_0;
        /// Whether it is a hard link.
        hard: Option<bool> = "hard", V3_0;
        /// What it points to. A hard link's target is a path in the target root.
        target: Option<String> = "target", V3_0;
    }
}

section! {
    /// An owner, by number or by name.
    pub part NodeUser {
        /// User id.
        id: Option<i64> = "id", V3_0;
        /// User name.
        name: Option<String> = "name", V3_0;
    }
}

section! {
    /// A group, by number or by name.
    pub part NodeGroup {
        /// Group id.
        id: Option<i64> = "id", V3_0;
        /// Group name.
        name: Option<String> = "name", V3_0;
    }
}

section! {
    /// A disk to partition.
    pub item Disk {
        /// Absolute path of its device.
        device: String = "device", V3_0;
        /// Its partitions.
        partitions: Vec<Partition> = "partitions", V3_0;
        /// Whether the partition table is replaced by an empty one first.
        wipe_table: Option<bool> = "wipeTable", V3_0;
    }
}

section! {
    /// A partition.
    pub item Partition {
        /// Its unique GUID; a random one if absent or empty.
        guid: Option<String> = "guid", V3_0;
        /// Its name.
        label: Option<String> = "label", V3_0;
        /// Its number; 0 means the next free one.
        number: i64 = "number", V3_0;
        /// Whether an existing partition may be resized to fit.
        resize: Option<bool> = "resize", V3_2;
        /// Whether it is to be there; `false` deletes it.
        should_exist: Option<bool> = "shouldExist", V3_0;
        /// Its size in MiB; 0 means all there is.
        size_mib: Option<i64> = "sizeMiB", V3_0;
        /// Its start in MiB; 0 means the largest free block.
        start_mib: Option<i64> = "startMiB", V3_0;
        /// GUID of its type; Linux data if absent or empty.
        type_guid: Option<String> = "typeGuid", V3_0;
        /// Whether an existing partition of that number that doesn't match is replaced.
        wipe_partition_entry: Option<bool> = "wipePartitionEntry", V3_0;
    }
}

section! {
    /// A file system to make, to reuse, to mount.
    pub item Filesystem {
        /// Absolute path of its device.
        device: String = "device", V3_0;
        /// What it is formatted as.
        format: Option<String> = "format", V3_0;
        /// Its label.
        label: Option<String> = "label", V3_0;
        /// Options of mount.
        mount_options: Vec<String> = "mountOptions", V3_1, appending;
        /// Options of mkfs.
        options: Vec<String> = "options", V3_0, appending;
        /// Where it is mounted in the target while files are written.
        path: Option<String> = "path", V3_0;
        /// Its UUID.
        uuid: Option<String> = "uuid", V3_0;
        /// Whether it is made even where there is one already.
        wipe_filesystem: Option<bool> = "wipeFilesystem", V3_0;
    }
}

section! {
    /// An array of disks to make.
    pub item Raid {
        /// Absolute paths of its devices.
        devices: Vec<String> = "devices", V3_0;
        /// Its level, such as `raid1`.
        level: Option<String> = "level", V3_0;
        /// Its name.
        name: String = "name", V3_0;
        /// Options of mdadm.
        options: Vec<String> = "options", V3_0, appending;
        /// How many of the devices are spares.
        spares: Option<i64> = "spares", V3_0;
    }
}

impl Entry for Directory {
    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.path)
    }
}

impl Entry for File {
    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.path)
    }
}

impl Entry for Link {
    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.path)
    }
}

impl Entry for Disk {
    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.device)
    }
}

impl Entry for Partition {
    fn key(&self) -> Cow<'_, str> {
        match (&self.number, &self.label) {
            (0, None) => Cow::Borrowed(""),
            (0, Some(label)) => Cow::Owned(format!("label:{label}")),
            (number, _) => Cow::Owned(format!("number:{number}")),
        }
    }
}

impl Entry for Filesystem {
    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.device)
    }
}

impl Entry for Raid {
    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }
}
