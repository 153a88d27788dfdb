// SPDX-License-Identifier: Apache-2.0
//! Says where a path leads inside the target root, and what stands there.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use fledge_core::facts::{Appended, Node, NodeKind};
use fledge_core::path;
use fledge_core::verification::{Function, Hasher};
use rustix::fs::{FileType, OFlags, ResolveFlags, fstat, readlinkat};
use rustix::io::Errno;

use super::{INSIDE, Root, inside};

/// As many links as the kernel follows.
const LINKS: u32 = 40;

impl Root {
    /// What stands at a path; links above its last name are followed as the kernel would, missing names are taken as written.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn node(&self, path: &str, digest: Option<Function>) -> io::Result<Node> {
        let mut todo: VecDeque<String> = path::names(path).map(Into::into).collect();
        let mut resolved: Vec<String> = Vec::new();
        let mut links = 0;
        let mut missing: Option<String> = None;
        while let Some(name) = todo.pop_front() {
            match name.as_str() {
                "." | "" => continue,
                ".." => {
                    resolved.pop();
                    continue;
                }
                _ => resolved.push(name),
            }
            let here = here(&resolved);
            let fd = if missing.is_some() { None } else { self.peek(&here)? };
            let Some(fd) = fd else {
                missing.get_or_insert(here);
                continue;
            };
            let stat = fstat(&fd)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            if todo.is_empty() {
                let kind = self.kind(&here, &fd, kind, &stat, digest)?;
                return Ok(Node { resolved: here, kind, missing: None });
            }
            match kind {
                FileType::Directory => {}
                FileType::Symlink if links < LINKS => {
                    links += 1;
                    let target = readlinkat(&fd, "", Vec::new())?;
                    let target = target.to_str().map_err(|_| Errno::ILSEQ)?;
                    resolved.pop();
                    if target.starts_with('/') {
                        resolved.clear();
                    }
                    target.split('/').rev().for_each(|name| todo.push_front(name.into()));
                }
                _ => {
                    resolved.extend(todo);
                    let resolved = path::clean(&self::here(&resolved));
                    return Ok(Node { resolved, kind: NodeKind::Blocked(here), missing: None });
                }
            }
        }
        let kind = if missing.is_some() { NodeKind::Missing } else { NodeKind::Directory };
        Ok(Node { resolved: here(&resolved), kind, missing })
    }

    /// Opens what stands at a path without links in it, only to look at it. `None` if nothing does.
    fn peek(&self, path: &str) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match inside(self.as_fd(), path, flags, INSIDE | ResolveFlags::NO_SYMLINKS) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn kind(
        &self,
        path: &str,
        fd: &OwnedFd,
        kind: FileType,
        stat: &rustix::fs::Stat,
        digest: Option<Function>,
    ) -> io::Result<NodeKind> {
        Ok(match kind {
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                let digest = match digest {
                    Some(function) => self.file(path)?.map(|file| hash(file, function)).transpose()?,
                    None => None,
                };
                NodeKind::File { device: stat.st_dev, inode: stat.st_ino, size, digest }
            }
            FileType::Directory => NodeKind::Directory,
            FileType::Symlink => NodeKind::Symlink(readlinkat(fd, "", Vec::new())?.to_string_lossy().into_owned()),
            _ => NodeKind::Other,
        })
    }
}

fn here(names: &[String]) -> String {
    format!("/{}", names.join("/"))
}

/// The hash of a file, as facts have it.
///
/// # Errors
/// Whatever the operating system says.
pub(super) fn hash(mut file: impl Read, function: Function) -> io::Result<String> {
    let mut hasher = Hasher::new(function);
    feed(&mut hasher, &mut file)?;
    Ok(hasher.finish().to_string())
}

/// Hashes what is left to read, and says how much it was.
///
/// # Errors
/// Whatever the operating system says.
pub fn feed(hasher: &mut Hasher, reader: &mut dyn Read) -> io::Result<u64> {
    let mut buffer = vec![0; 65536];
    let mut size = 0;
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok(size);
        }
        size += count as u64;
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}

/// How many bytes are left to read, and their SHA-512 as facts have it.
///
/// # Errors
/// Whatever the operating system says.
pub fn measure(reader: &mut dyn Read) -> io::Result<Appended> {
    let mut hasher = Hasher::new(Function::Sha512);
    let size = feed(&mut hasher, reader)?;
    Ok(Appended { size, digest: hasher.finish().to_string() })
}

/// How many entries of a tree are looked at: those of `/etc/skel` are a handful.
const ENTRIES: usize = 4096;

impl Root {
    /// Everything below a directory, as paths relative to it; nothing if it isn't there.
    ///
    /// # Errors
    /// There is too much, or whatever the operating system says.
    pub fn tree(&self, path: &str) -> io::Result<BTreeMap<String, NodeKind>> {
        let mut found = BTreeMap::new();
        let mut todo = vec![String::new()];
        while let Some(below) = todo.pop() {
            let directory = match self.directory_without_links(&format!("{path}/{below}")) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            for entry in rustix::fs::Dir::read_from(&directory)? {
                let entry = entry?;
                let Ok(name) = entry.file_name().to_str() else { continue };
                if matches!(name, "." | "..") {
                    continue;
                }
                let below = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
                let kind = self.node(&format!("{path}/{below}"), None)?.kind;
                if kind == NodeKind::Directory {
                    todo.push(below.clone());
                }
                found.insert(below, kind);
                if found.len() > ENTRIES {
                    return Err(io::Error::other(format!("there are more than {ENTRIES} files below {path}")));
                }
            }
        }
        Ok(found)
    }
}
