// SPDX-License-Identifier: Apache-2.0
//! Files, lines of files, and the links that enable units.

use std::io::{self, Read, Seek, Write};

use fledge_core::facts::{Accounts, Appended, Begun};
use fledge_core::plan::{Attributes as Planned, Contents as Source, Owner};
use fledge_core::secret::Key;

use super::contents::Contents;
use super::{Done, Machine};
use crate::host::cmd;
use crate::host::fs::{self, Attributes};
use crate::host::temporary::Temporary;
use crate::observe::{self, begun::Note};

const FILE_MODE: u32 = 0o644;
const PRIVATE_MODE: u32 = 0o600;

/// A file to write.
pub(super) struct File<'p> {
    pub(super) path: &'p str,
    pub(super) contents: Option<&'p Source>,
    pub(super) keep: Option<u64>,
    pub(super) append: &'p [Source],
    pub(super) attributes: &'p Planned,
    pub(super) replace: bool,
}

impl Machine<'_> {
    /// Attributes with the ids that names have in the target by now.
    pub(super) fn attributes(&self, planned: &Planned) -> io::Result<Attributes> {
        let mut accounts: Option<Accounts> = None;
        let mut id = |owner: &Owner, find: fn(&Accounts, &str) -> Option<u32>| match owner {
            Owner::Keep => Ok(None),
            Owner::Id(id) => Ok(Some(*id)),
            Owner::Name(name) => {
                if accounts.is_none() {
                    accounts = Some(observe::accounts(self.root)?);
                }
                let found = accounts.as_ref().and_then(|accounts| find(accounts, name));
                let missing = || io::Error::other(format!("the target has no user or group {name:?}"));
                found.map(Some).ok_or_else(missing)
            }
        };
        let uid = id(&planned.user, |accounts, name| accounts.users.get(name).map(|user| user.uid))?;
        let gid = id(&planned.group, |accounts, name| accounts.groups.get(name).map(|group| group.gid))?;
        Ok(Attributes { uid, gid, mode: planned.mode })
    }

    pub(super) fn write_file(&self, file: &File<'_>, number: usize, contents: &mut Contents) -> io::Result<bool> {
        let attributes = self.attributes(file.attributes)?;
        let (above, name) = self.root.make_parent(file.path)?;
        let Some(source) = file.contents else {
            return keep_file(file, (&above, name), attributes, number, contents);
        };
        let attributes = attributes.or(0, 0, FILE_MODE);
        let new = match (source, contents.take((number, 0))) {
            (_, Some(fetched)) => fetched,
            (Source::Inline(bytes), None) => {
                let new = above.temporary()?;
                new.file().write_all(bytes)?;
                new
            }
            (Source::Key(volume), None) => {
                let new = above.temporary()?;
                new.file().write_all(self.key_of(volume)?)?;
                new
            }
            (Source::Resource(_), None) => return Err(not_fetched()),
        };
        append_all(&new, file.append, number, contents)?;
        if file.replace {
            if let Ok(Some(old)) = above.file(name) {
                if fs::is_same(new.file(), &old, attributes)? {
                    return Ok(false);
                }
            }
        }
        above.place(new, name, attributes, file.replace)?;
        Ok(true)
    }

    /// Writes down what is about to be made, with what will be appended to which file.
    pub(super) fn begin(&self, path: &str, begun: &Begun, contents: &Contents) -> io::Result<bool> {
        let mut begun = begun.clone();
        for (path, original) in &mut begun.originals {
            if let Some(appended) = contents.appended(path).filter(|appended| !original.appended.contains(appended)) {
                original.appended.push(appended.clone());
            }
        }
        self.note(path, begun)
    }

    /// Writes down what a file holds that an earlier step has made.
    pub(super) fn note_original(&self, note: &str, path: &str) -> io::Result<bool> {
        let mut begun = observe::begun::read(self.root, self.state)?;
        let mut file = self.root.file(path)?.ok_or(io::ErrorKind::NotFound)?;
        let Appended { size, digest } = fs::measure(&mut file)?;
        let original = begun.originals.entry(path.into()).or_default();
        (original.size, original.digest) = (size, digest);
        self.note(note, begun)
    }

    /// Writes the note, where it outlives a loss of power.
    fn note(&self, path: &str, begun: Begun) -> io::Result<bool> {
        let (above, name) = self.root.make_parent(path)?;
        let config = self.state.fingerprint().to_owned();
        let new = above.temporary()?;
        new.file().write_all(&serde_json::to_vec(&Note { config, begun })?)?;
        let attributes = Attributes::default().or(0, 0, PRIVATE_MODE);
        if let Ok(Some(old)) = above.file(name) {
            if fs::is_same(new.file(), &old, attributes)? {
                return Ok(false);
            }
        }
        new.file().sync_all()?;
        above.place(new, name, attributes, true)?;
        rustix::fs::fsync(&above)?;
        Ok(true)
    }

    /// The key of an encrypted volume, as the disks stage left it.
    fn key_of(&self, volume: &str) -> io::Result<&[u8]> {
        let key = self.state.volume(volume).and_then(|held| held.key.as_ref());
        key.map(Key::expose).ok_or_else(|| io::Error::other("the disks stage left no key for it"))
    }

    /// Adds the lines that a file doesn't have yet.
    pub(super) fn add_lines(&self, path: &str, lines: &[String]) -> io::Result<bool> {
        let (above, name) = self.root.make_parent(path)?;
        let old = above.file(name)?;
        let text = self.root.text(path)?;
        let missing: Vec<_> = lines.iter().filter(|line| !text.lines().any(|old| old == line.as_str())).collect();
        if missing.is_empty() {
            return Ok(false);
        }
        let new = above.temporary()?;
        let mut attributes = Attributes::default().or(0, 0, FILE_MODE);
        if let Some(mut old) = old {
            let metadata = old.metadata()?;
            attributes = Attributes::default().or_those_of(&metadata);
            fs::append(&new, &mut old)?;
            fs::copy_extended_attributes(&new, &old)?;
        }
        let mut added = String::new();
        if !text.is_empty() && !text.ends_with('\n') {
            added.push('\n');
        }
        for line in missing {
            added.push_str(line);
            added.push('\n');
        }
        new.file().write_all(added.as_bytes())?;
        above.place(new, name, attributes, true)?;
        Ok(true)
    }

    /// Writes the lines of volumes to the table of encrypted volumes, for root alone, in place of lines for the same volumes.
    pub(super) fn write_table(&self, path: &str, lines: &[(String, String)]) -> io::Result<bool> {
        let (above, name) = self.root.make_parent(path)?;
        let mut text = String::new();
        for line in self.root.text(path)?.lines() {
            let first = line.split_whitespace().next();
            if !lines.iter().any(|(volume, _)| first == Some(volume)) {
                text.extend([line, "\n"]);
            }
        }
        for (_, line) in lines {
            text.extend([line, "\n"]);
        }
        let new = above.temporary()?;
        new.file().write_all(text.as_bytes())?;
        let attributes = Attributes::default().or(0, 0, PRIVATE_MODE);
        if let Some(old) = above.file(name)? {
            if fs::is_same(new.file(), &old, attributes)? {
                return Ok(false);
            }
            fs::copy_extended_attributes(&new, &old)?;
        }
        above.place(new, name, attributes, true)?;
        Ok(true)
    }

    pub(super) fn disable_unit(&self, unit: &str) -> Done {
        if !observe::is_enabled(self.root, unit)? {
            return Ok(false);
        }
        let args = ["--root".into(), self.root.path().into(), "disable".into(), "--".into(), unit.into()];
        cmd::run(cmd::SYSTEMCTL, &args).map(|_| true)
    }
}

/// Keeps the contents of a file, sets its owner and mode, and appends to it. What is appended to is replaced as a whole, so
/// that a file with half of it is never seen.
fn keep_file(
    file: &File<'_>,
    (above, name): (&fs::Directory, &str),
    attributes: Attributes,
    number: usize,
    contents: &mut Contents,
) -> io::Result<bool> {
    use std::os::fd::AsFd;
    let mut old = above.file(name)?.ok_or_else(|| io::Error::other("the file isn't there any more"))?;
    if file.append.is_empty() {
        return fs::set_attributes(old.as_fd(), attributes);
    }
    let metadata = old.metadata()?;
    let new = above.temporary()?;
    fs::append(&new, &mut (&mut old).take(file.keep.unwrap_or(u64::MAX)))?;
    fs::copy_extended_attributes(&new, &old)?;
    append_all(&new, file.append, number, contents)?;
    let attributes = attributes.or_those_of(&metadata);
    if fs::is_same(new.file(), &old, attributes)? {
        return Ok(false);
    }
    // What is there already must not be lost: all of the new file is on the disk before it takes the place of the old.
    new.file().sync_all()?;
    above.place(new, name, attributes, true)?;
    Ok(true)
}

/// Appends what a step appends, in order.
fn append_all(new: &Temporary, sources: &[Source], number: usize, contents: &mut Contents) -> io::Result<()> {
    for (part, source) in (1..).zip(sources) {
        match (source, contents.take((number, part))) {
            (_, Some(fetched)) => {
                let mut fetched_file = fetched.file().try_clone()?;
                fetched_file.rewind()?;
                fs::append(new, &mut fetched_file)?;
            }
            (Source::Inline(bytes), None) => {
                new.file().seek(io::SeekFrom::End(0))?;
                new.file().write_all(bytes)?;
            }
            (Source::Resource(_) | Source::Key(_), None) => return Err(not_fetched()),
        }
    }
    Ok(())
}

fn not_fetched() -> io::Error {
    io::Error::other("its contents were not fetched")
}
