// SPDX-License-Identifier: Apache-2.0
//! Directories, files and links, from the shallowest path to the deepest; hard links last, so that their targets are there.

use alloc::borrow::ToOwned as _;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::book::Book;
use super::contents::known_digest;
use super::files::{BEGUN, Planner, owner, standing_in_the_way};
use super::world::{Made, Standing, World};
use super::{Attributes, Contents, Owner, Step};
use crate::config::{Config, Directory, File, Link, NodeGroup, NodeUser};
use crate::diag::{Failure, Place};
use crate::facts::Now;
use crate::path;

/// An entry of one of the three lists.
#[derive(Clone, Copy)]
enum Entry<'c> {
    Directory(&'c Directory),
    File(&'c File),
    Link(&'c Link),
}

impl<'c> Entry<'c> {
    fn path(self) -> &'c str {
        match self {
            Self::Directory(entry) => &entry.path,
            Self::File(entry) => &entry.path,
            Self::Link(entry) => &entry.path,
        }
    }

    fn overwrite(self) -> bool {
        let overwrite = match self {
            Self::Directory(entry) => entry.overwrite,
            Self::File(entry) => entry.overwrite,
            Self::Link(entry) => entry.overwrite,
        };
        overwrite == Some(true)
    }

    fn owners(self) -> (&'c NodeUser, &'c NodeGroup) {
        match self {
            Self::Directory(entry) => (&entry.user, &entry.group),
            Self::File(entry) => (&entry.user, &entry.group),
            Self::Link(entry) => (&entry.user, &entry.group),
        }
    }

    fn mode(self) -> Option<i64> {
        match self {
            Self::Directory(entry) => entry.mode,
            Self::File(entry) => entry.mode,
            Self::Link(_) => None,
        }
    }

    fn is_hard_link(self) -> bool {
        matches!(self, Self::Link(link) if link.hard == Some(true))
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Directory(_) => "the directory",
            Self::File(_) => "the file",
            Self::Link(_) => "the link",
        }
    }

    fn place(self, planner: &Planner<'_>) -> Option<Place> {
        match self {
            Self::Directory(entry) => planner.place(entry.origin, "$.storage.directories"),
            Self::File(entry) => planner.place(entry.origin, "$.storage.files"),
            Self::Link(entry) => planner.place(entry.origin, "$.storage.links"),
        }
    }
}

/// Plans directories, files and links.
pub(super) fn plan(config: &Config, world: &mut World<'_>, book: &Book, planner: &mut Planner<'_>) {
    let storage = &config.storage;
    for directory in storage.directories.iter().filter(|directory| directory.overwrite == Some(true)) {
        if matches!(world.at(&world.resolve(&directory.path)), Standing::Symlink(_)) {
            world.replace_link(&directory.path);
        }
    }
    let entries = (storage.directories.iter().map(Entry::Directory))
        .chain(storage.files.iter().map(Entry::File))
        .chain(storage.links.iter().map(Entry::Link));
    let mut list: Vec<(String, Entry<'_>)> = Vec::new();
    for entry in entries {
        let resolved = world.resolve(entry.path());
        path::insert_by(&mut list, (resolved, entry), |(resolved, entry)| {
            (entry.is_hard_link(), path::depth(resolved))
        });
    }

    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    for (resolved, entry) in list {
        let place = entry.place(planner);
        let mut steps = Vec::new();
        let result = match taken.insert(resolved.clone(), entry.path()) {
            Some(other) => Err(twice(entry, &resolved, other)),
            None => plan_entry(entry, &resolved, world, book, &mut steps),
        };
        match result {
            Ok(()) => steps.into_iter().for_each(|step| planner.step(step, place.clone())),
            Err(failure) => {
                let what = format!("writing {} {}", entry.noun(), entry.path());
                planner.refuse(place, Failure { what, ..failure });
            }
        }
    }
}

fn twice(entry: Entry<'_>, resolved: &str, other: &str) -> Failure {
    let path = entry.path();
    let why = if path::clean(path) == path::clean(other) {
        format!("another entry has the same path, {other}")
    } else {
        format!("it leads to {resolved}, and so does another entry, {other}")
    };
    Failure::new("", why).remedy("keep one of them")
}

fn plan_entry(
    entry: Entry<'_>,
    resolved: &str,
    world: &mut World<'_>,
    book: &Book,
    steps: &mut Vec<Step>,
) -> Result<(), Failure> {
    let (user, group) = entry.owners();
    let attributes = Attributes {
        mode: match entry.mode().map(|mode| u32::try_from(mode).ok().filter(|mode| *mode <= 0o7777)) {
            Some(None) => return Err(Failure::new("", "its mode is none").remedy("use a number from 0 to 4095")),
            Some(mode) => mode,
            None => None,
        },
        user: owner(user.id, user.name.as_deref(), "user", Book::has_user, book)?,
        group: owner(group.id, group.name.as_deref(), "group", Book::has_group, book)?,
    };
    if let Standing::Blocked(thing) = world.at(resolved) {
        return Err(Failure::new("", format!("{thing} is above it and is not a directory"))
            .remedy(format!("make {thing} a directory of the configuration with overwrite, or choose another path")));
    }
    let replace = entry.overwrite() && make_room(entry, resolved, world, steps)?;
    let is_there = matches!(world.at(resolved), Standing::Directory);
    let made = match entry {
        Entry::Directory(_) => Some(plan_directory(resolved, attributes, world, steps)?),
        Entry::File(file) => plan_file(file, resolved, attributes, replace, world, steps)?,
        Entry::Link(link) if entry.is_hard_link() => Some(plan_hard_link(link, resolved, replace, world, steps)?),
        Entry::Link(link) => Some(plan_link(link, resolved, attributes, replace, world, steps)?),
    };
    if let Some(made) = made {
        world.make(resolved, made);
    }
    if entry.is_hard_link() {
        world.label_above(resolved);
    } else if !is_there {
        // A directory that was there keeps its label, and so does what lies in it.
        world.label(resolved);
    }
    Ok(())
}

/// For `overwrite`: removes a directory that stands there, and anything where a directory is to stand. Says whether something
/// is left whose place is taken at once.
fn make_room(entry: Entry<'_>, resolved: &str, world: &mut World<'_>, steps: &mut Vec<Step>) -> Result<bool, Failure> {
    match world.at(resolved) {
        Standing::Nothing | Standing::Blocked(_) => return Ok(false),
        Standing::Directory => {}
        _ if matches!(entry, Entry::Directory(_)) => {}
        _ => return Ok(true),
    }
    if let Some(mount) = world.mounted_within(resolved) {
        return Err(Failure::new("", format!("overwrite would remove what is mounted at {mount}"))
            .remedy("leave overwrite out"));
    }
    if let Some(made) = world.made_within(resolved).next() {
        return Err(Failure::new(
            "",
            format!("overwrite would remove {made}, which this configuration makes before it"),
        )
        .remedy("leave overwrite out"));
    }
    world.remove(resolved);
    steps.push(Step::Remove { path: resolved.into() });
    Ok(false)
}

/// The refusal of something that stands in the way without `overwrite`.
fn in_the_way(resolved: &str, standing: &Standing<'_>) -> Failure {
    Failure::new("", format!("{} and overwrite is not set", standing_in_the_way(resolved, standing)))
        .remedy("set overwrite to true, or choose another path")
}

fn plan_directory(
    resolved: &str,
    attributes: Attributes,
    world: &World<'_>,
    steps: &mut Vec<Step>,
) -> Result<Made, Failure> {
    match world.at(resolved) {
        Standing::Nothing | Standing::Directory => {
            steps.push(Step::EnsureDirectory { path: resolved.into(), attributes });
            Ok(Made::Directory)
        }
        standing => Err(in_the_way(resolved, &standing)),
    }
}

fn plan_file(
    file: &File,
    resolved: &str,
    attributes: Attributes,
    replace: bool,
    world: &mut World<'_>,
    steps: &mut Vec<Step>,
) -> Result<Option<Made>, Failure> {
    let mut step = Step::WriteFile {
        path: resolved.to_owned(),
        contents: file.contents.source.is_some().then(|| Contents::Resource(file.contents.clone())),
        keep: None,
        append: file.append.iter().cloned().map(Contents::Resource).collect(),
        attributes,
        replace,
    };
    let Step::WriteFile { contents, keep, append, attributes, replace, .. } = &mut step else { return Ok(None) };
    match world.at(resolved) {
        _ if *replace => {}
        Standing::Nothing => {
            contents.get_or_insert_with(|| Contents::Inline(Vec::new()));
            world.claim(resolved);
        }
        // What an earlier run of this first boot made is made again: it may be half of it.
        Standing::OldFile(..) if world.is_ours(resolved) => {
            contents.get_or_insert_with(|| Contents::Inline(Vec::new()));
            *replace = true;
        }
        standing @ (Standing::OldFile(..) | Standing::NewFile) if contents.is_none() && !append.is_empty() => {
            let digest = match standing {
                Standing::OldFile(_, _, digest) => digest.map(String::from),
                _ => None,
            };
            match world.original(resolved, digest) {
                Some((original, false)) if original.digest.is_empty() => {
                    steps.push(Step::NoteOriginal { note: world.resolve(BEGUN), path: resolved.into() });
                }
                None | Some((_, false)) => {}
                Some((original, true)) => match original.now {
                    Now::Changed => return Err(changed()),
                    // The run that appended it has done its part, and what came after isn't ours.
                    Now::Continued => append.clear(),
                    Now::Intact => *keep = Some(original.size),
                },
            }
        }
        Standing::OldFile(..) | Standing::NewFile if contents.is_none() => {}
        Standing::OldFile(_, _, digest) if is_so(file, digest) => {
            *contents = None;
            append.clear();
            *attributes = explicit(core::mem::take(attributes));
        }
        standing => return Err(in_the_way(resolved, &standing)),
    }
    // A file that is kept stays the file that it was.
    let kept = matches!(&step, Step::WriteFile { contents: None, append, .. } if append.is_empty());
    steps.push(step);
    Ok((!kept).then_some(Made::File))
}

/// Whether a file has the contents that the configuration asks for.
fn is_so(file: &File, digest: Option<&str>) -> bool {
    digest.is_some() && known_digest(&file.contents, &file.append).as_deref() == digest
}

/// The refusal of a file that this first boot has appended to, or was about to, and that somebody has changed since.
fn changed() -> Failure {
    let why = "an earlier run of this first boot was to append to it, and it is neither what it held before nor that with what was appended";
    Failure::new("", why).remedy(format!(
        "put the file back as it was, or remove {BEGUN} from the target if it may be appended to as it is"
    ))
}

/// Mode and owner that a new file would have, for one that is kept because it is the same.
fn explicit(attributes: Attributes) -> Attributes {
    let root = |owner| if owner == Owner::Keep { Owner::Id(0) } else { owner };
    Attributes { mode: attributes.mode.or(Some(0o644)), user: root(attributes.user), group: root(attributes.group) }
}

fn plan_link(
    link: &Link,
    resolved: &str,
    attributes: Attributes,
    replace: bool,
    world: &World<'_>,
    steps: &mut Vec<Step>,
) -> Result<Made, Failure> {
    let target = target(link)?;
    match world.at(resolved) {
        _ if replace => {}
        Standing::Nothing => {}
        Standing::Symlink(old) if path::clean_link(old) == path::clean_link(target) => {}
        Standing::Symlink(old) => {
            return Err(Failure::new("", format!("a link to {old} stands there and overwrite is not set"))
                .remedy("set overwrite to true, or choose another path"));
        }
        standing => return Err(in_the_way(resolved, &standing)),
    }
    steps.push(Step::Symlink { path: resolved.into(), target: target.into(), attributes, replace });
    Ok(Made::Symlink(target.into()))
}

fn plan_hard_link(
    link: &Link,
    resolved: &str,
    mut replace: bool,
    world: &mut World<'_>,
    steps: &mut Vec<Step>,
) -> Result<Made, Failure> {
    let written = target(link)?;
    let target = world.resolve(written);
    let standing = world.at(&target);
    let known = world.facts().nodes.contains_key(&path::clean(written));
    match &standing {
        Standing::Nothing if known => {
            return Err(Failure::new("", format!("its target {written} isn't there"))
                .remedy("add the target to storage.files, or correct it"));
        }
        Standing::Blocked(thing) => {
            return Err(Failure::new("", format!("its target is below {thing}, which is not a directory"))
                .remedy("correct the target"));
        }
        Standing::Directory => {
            return Err(Failure::new("", format!("its target {written} is a directory"))
                .remedy("make it a symbolic link: leave hard out"));
        }
        _ => {}
    }
    if target == resolved {
        return Err(Failure::new("", "it is its own target").remedy("correct the target"));
    }
    match world.at(resolved) {
        _ if replace => {}
        Standing::Nothing => {}
        // The file that it named for an earlier run may have been made anew.
        Standing::OldFile(..) if world.is_ours(resolved) => replace = true,
        Standing::OldFile(device, inode, _) if matches!(standing, Standing::OldFile(d, i, _) if (d, i) == (device, inode)) =>
            {}
        standing => return Err(in_the_way(resolved, &standing)),
    }
    world.claim(resolved);
    steps.push(Step::HardLink { path: resolved.into(), target, replace });
    Ok(Made::File)
}

fn target(link: &Link) -> Result<&str, Failure> {
    link.target
        .as_deref()
        .filter(|target| !target.is_empty())
        .ok_or_else(|| Failure::new("", "it has no target").remedy("add a target"))
}
