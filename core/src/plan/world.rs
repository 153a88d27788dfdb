// SPDX-License-Identifier: Apache-2.0
//! The target's tree as it will be when the steps planned so far have been carried out: facts, and what changed since.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::facts::{Begun, Facts, Node, NodeKind, Now, Original};
use crate::path;

/// What a step left at a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Made {
    /// A directory.
    Directory,
    /// A file.
    File,
    /// A symbolic link with this target.
    Symlink(String),
}

/// The tree.
pub(super) struct World<'f> {
    facts: &'f Facts,
    /// Facts by resolved path.
    known: BTreeMap<&'f str, &'f Node>,
    made: BTreeMap<String, Made>,
    removed: BTreeSet<String>,
    /// Symbolic links that directories take the place of: from the path as written to the place where the directory stands.
    replaced: BTreeMap<String, String>,
    /// What another run has to know if this one is interrupted.
    begun: Begun,
    noting: bool,
}

/// What stands at a path, as far as planning cares.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Standing<'w> {
    /// Nothing, and it can be made.
    Nothing,
    /// Nothing, and it can't be made because of the thing at this path.
    Blocked(String),
    /// A file that was there before; device and inode, digest.
    OldFile(u64, u64, Option<&'w str>),
    /// A file that an earlier step makes.
    NewFile,
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(&'w str),
    /// A device, socket or pipe.
    Other,
}

impl Standing<'_> {
    /// For messages.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Nothing | Self::Blocked(_) => "nothing",
            Self::OldFile(..) => "a file",
            Self::NewFile => "a file that this configuration makes",
            Self::Directory => "a directory",
            Self::Symlink(_) => "a symbolic link",
            Self::Other => "a device, socket or pipe",
        }
    }
}

impl<'f> World<'f> {
    /// The tree before the first step. Without `noting`, no run knows of another.
    pub(super) fn new(facts: &'f Facts, noting: bool) -> Self {
        let mut known = BTreeMap::new();
        for node in facts.nodes.values() {
            known.insert(node.resolved.as_str(), node);
        }
        Self {
            facts,
            known,
            made: BTreeMap::new(),
            removed: BTreeSet::new(),
            replaced: BTreeMap::new(),
            begun: Begun::default(),
            noting,
        }
    }

    pub(super) fn facts(&self) -> &'f Facts {
        self.facts
    }

    /// Where a path of the configuration leads: links above its last name followed.
    pub(super) fn resolve(&self, written: &str) -> String {
        let written = path::clean(written);
        let above = path::ancestors(&written).find_map(|above| Some((above, self.replaced.get(above)?)));
        if let Some((above, place)) = above {
            return path::below(place, path::rest(&written, above).unwrap_or_default());
        }
        match self.facts.nodes.get(&written) {
            Some(node) => node.resolved.clone(),
            None => written,
        }
    }

    /// Says that a directory will stand where a symbolic link stands now, so that paths through it don't follow that link.
    pub(super) fn replace_link(&mut self, written: &str) {
        let written = path::clean(written);
        let place = self.resolve(&written);
        self.replaced.insert(written, place);
    }

    /// What stands at a resolved path.
    pub(super) fn at(&self, resolved: &str) -> Standing<'_> {
        if let Some(made) = self.made.get(resolved) {
            return match made {
                Made::Directory => Standing::Directory,
                Made::File => Standing::NewFile,
                Made::Symlink(target) => Standing::Symlink(target),
            };
        }
        for above in path::ancestors(resolved) {
            match self.made.get(above) {
                Some(Made::Directory) => break,
                Some(_) => return Standing::Blocked(above.into()),
                None => {}
            }
        }
        if self.removed.iter().any(|removed| path::is_within(resolved, removed)) {
            return Standing::Nothing;
        }
        match self.known.get(resolved).map(|node| &node.kind) {
            None if resolved == "/" => Standing::Directory,
            None | Some(NodeKind::Missing) => Standing::Nothing,
            Some(NodeKind::Blocked(thing)) => {
                let gone = self.removed.iter().any(|removed| path::is_within(thing, removed));
                if gone { Standing::Nothing } else { Standing::Blocked(thing.clone()) }
            }
            Some(NodeKind::File { device, inode, digest, .. }) => Standing::OldFile(*device, *inode, digest.as_deref()),
            Some(NodeKind::Directory) => Standing::Directory,
            Some(NodeKind::Symlink(target)) => Standing::Symlink(target),
            Some(NodeKind::Other) => Standing::Other,
        }
    }

    /// Says what a step makes at a resolved path; missing directories above it come with it.
    pub(super) fn make(&mut self, resolved: &str, made: Made) {
        // From the root, so that each finds the one above it made.
        let above: Vec<_> = path::ancestors(resolved).collect();
        for above in above.into_iter().rev() {
            if above != "/" && self.at(above) == Standing::Nothing {
                self.made.insert(above.into(), Made::Directory);
            }
        }
        self.made.insert(resolved.into(), made);
    }

    /// Whether an earlier run of this first boot set out to make the file at a resolved path, so that what stands there is ours.
    pub(super) fn is_ours(&self, resolved: &str) -> bool {
        self.noting && self.facts.begun.made.contains(resolved)
    }

    /// Says that the file at a resolved path is one that this first boot makes.
    pub(super) fn claim(&mut self, resolved: &str) {
        self.begun.made.insert(resolved.into());
    }

    /// A file that is appended to, as it was before this first boot, and whether an earlier run knew it. Its digest is empty where
    /// it isn't known yet; `None` if nothing is noted.
    pub(super) fn original(&mut self, resolved: &str, digest: Option<String>) -> Option<(Original, bool)> {
        if !self.noting {
            return None;
        }
        let known = self.facts.begun.originals.get(resolved).filter(|original| !original.digest.is_empty());
        let original = known.cloned().unwrap_or_else(|| {
            let size = match self.known.get(resolved).map(|node| &node.kind) {
                Some(NodeKind::File { size, .. }) => *size,
                _ => 0,
            };
            Original { size, digest: digest.unwrap_or_default(), now: Now::Intact, appended: Vec::new() }
        });
        self.begun.originals.insert(resolved.into(), original.clone());
        Some((original, known.is_some()))
    }

    /// Says that what a step makes at a resolved path gets a label, and with it the directories that are made above it.
    pub(super) fn label(&mut self, resolved: &str) {
        if self.facts.selinux.is_none() {
            return;
        }
        let node = self.known.get(resolved);
        let label = node.and_then(|node| node.missing.clone()).filter(|missing| path::is_within(resolved, missing));
        self.begun.labels.insert(label.unwrap_or_else(|| resolved.into()));
    }

    /// As [`Self::label`], but only for the directories above: what is made at the path has a label from elsewhere.
    pub(super) fn label_above(&mut self, resolved: &str) {
        let missing = self.known.get(resolved).and_then(|node| node.missing.as_deref());
        if missing.is_some_and(|missing| missing != resolved) {
            self.label(resolved);
        }
    }

    /// What another run has to know if this one is interrupted, with what it knows of earlier ones.
    pub(super) fn begun(&self) -> Begun {
        let mut begun = self.begun.clone();
        begun.made.extend(self.facts.begun.made.iter().cloned());
        begun.labels.extend(self.facts.begun.labels.iter().cloned());
        for (path, original) in &self.facts.begun.originals {
            begun.originals.entry(path.clone()).or_insert_with(|| original.clone());
        }
        // What lies in a directory that is labelled is labelled with it.
        let labels = core::mem::take(&mut begun.labels);
        for label in labels {
            if !path::ancestors(&label).any(|above| begun.labels.contains(above)) {
                begun.labels.insert(label);
            }
        }
        begun
    }

    /// Says that nothing is made at a resolved path and below it after all.
    pub(super) fn unmake(&mut self, resolved: &str) {
        self.made.retain(|made, _| !path::is_within(made, resolved));
    }

    /// Says that a step removes what stands at a resolved path and below it.
    pub(super) fn remove(&mut self, resolved: &str) {
        self.unmake(resolved);
        self.removed.insert(resolved.into());
    }

    /// The paths at or below a resolved one that earlier steps made.
    pub(super) fn made_within<'w>(&'w self, resolved: &'w str) -> impl Iterator<Item = &'w str> {
        self.made.keys().map(String::as_str).filter(move |made| path::is_within(made, resolved))
    }

    /// What is mounted at or below a resolved path.
    pub(super) fn mounted_within(&self, resolved: &str) -> Option<&str> {
        if resolved == "/" {
            return Some("/");
        }
        self.facts.mounts.iter().map(String::as_str).find(|mount| path::is_within(mount, resolved))
    }
}
