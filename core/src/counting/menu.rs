// SPDX-License-Identifier: Apache-2.0
//! The boot entries as the bootloader lists them, and the deployments that they start.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::records::Id;
use crate::bls::Entry;
use crate::cmdline::{Cmdline, unquoted, words};
use crate::pivot;

/// A deployment that a boot entry starts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Deployment {
    /// Which.
    pub id: Id,
    /// Its entry, without `.conf`: what GRUB's `default` names it by.
    pub entry: String,
    /// The value of `ostree=`: a link to it, below the physical root.
    pub link: String,
    /// What its kernel and its initramfs are known by.
    pub bootcsum: String,
    /// All other kernel arguments of the entry.
    pub options: Vec<String>,
    /// Further images that its initramfs is laid over with (`/ostree/initramfs-overlays/`), in their order.
    pub overlays: Vec<String>,
    /// Why it can't be booted, if it can't.
    pub unusable: Option<String>,
    /// Why the bootloader can't start it, if it can't. It may be booted all the same when another one's kernel is the same.
    pub unstartable: Option<String>,
    /// Why nothing in it would say that a boot was healthy, if so.
    pub unblessed: Option<String>,
}

impl Deployment {
    /// Whether a kernel that was started for the other one may boot this one: same kernel and initramfs, same arguments.
    pub fn boots_like(&self, other: &Self) -> bool {
        self.bootcsum == other.bootcsum && self.has_arguments_of(other)
    }

    /// Whether a person left it as the other one is: same kernel arguments, same overlays of the initramfs.
    pub fn has_arguments_of(&self, other: &Self) -> bool {
        self.options == other.options && self.overlays == other.overlays
    }
}

/// A boot entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    /// Its name, without `.conf`.
    pub name: String,
    /// Its title.
    pub title: String,
    /// The value of its `ostree=`, if it has one.
    pub link: Option<String>,
    /// Its other arguments.
    options: Vec<String>,
    /// Its kernel, if it names one: a path on the boot file system, as the entry has it.
    pub kernel: Option<String>,
    /// The images of its initramfs, in the same way.
    pub initrds: Vec<String>,
}

impl Listed {
    /// The entry in a file of this name.
    pub fn new(name: &str, entry: &Entry) -> Self {
        let link = pivot::target(&Cmdline::parse(&entry.arguments().collect::<Vec<_>>().join(" "))).map(str::to_owned);
        Self {
            name: name.strip_suffix(".conf").unwrap_or(name).to_owned(),
            title: entry.values("title").next().unwrap_or_default().to_owned(),
            link,
            kernel: entry.values("linux").next().map(str::to_owned),
            initrds: entry.values("initrd").flat_map(str::split_whitespace).map(str::to_owned).collect(),
            options: entry.arguments().map(unquoted).filter(|word| !word.starts_with("ostree=")).collect(),
        }
    }

    /// The deployment that it starts: `id` is what its link leads to. It is taken for a sound one; who looks at it says otherwise.
    pub fn deployment(&self, id: Id) -> Option<Deployment> {
        let link = self.link.clone()?;
        // /ostree/boot.V/STATEROOT/BOOTCSUM/SERIAL
        let bootcsum = link.trim_matches('/').split('/').nth(3)?.to_owned();
        // /ostree/STATEROOT-BOOTCSUM/initramfs-VERSION.img: the checksum is over kernel, initramfs and device tree.
        let folder = format!("-{bootcsum}/");
        let overlays = self.initrds.iter().filter(|path| !path.contains(&folder)).cloned().collect();
        let (entry, options) = (self.name.clone(), self.options.clone());
        let (unusable, unstartable, unblessed) = (None, None, None);
        Some(Deployment { id, entry, link, bootcsum, options, overlays, unusable, unstartable, unblessed })
    }
}

/// All boot entries.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Menu {
    entries: Vec<Listed>,
}

impl Menu {
    /// Puts entries into the order in which the bootloader lists them: the highest version of the name is first.
    pub fn new(mut entries: Vec<Listed>) -> Self {
        entries.sort_by(|one, other| compare(&other.name, &one.name));
        Self { entries }
    }

    /// In that order.
    pub fn iter(&self) -> impl Iterator<Item = &Listed> {
        self.entries.iter()
    }

    /// The entry that the bootloader starts by itself. `default` is what it was told: a number from 0, a name or a title; what it doesn't
    /// know means the first.
    pub fn choice(&self, default: Option<&str>) -> Option<&Listed> {
        let told = default.unwrap_or_default().trim();
        let by_number = told.parse().ok().and_then(|number: usize| self.entries.get(number));
        let by_name = || self.iter().find(|entry| !told.is_empty() && (entry.name == told || entry.title == told));
        by_number.or_else(by_name).or(self.entries.first())
    }
}

/// Compares names of entries as GRUB does (`blscfg.c`, `split_package_string` and `vercmp`): by what stands before the last two hyphens,
/// between them and after them, each as a version.
fn compare(one: &str, other: &str) -> Ordering {
    let order = parts(one).into_iter().zip(parts(other)).map(|(one, other)| version(one, other));
    order.fold(Ordering::Equal, Ordering::then)
}

/// Name, version and release. What has no hyphen is a name, what has one has no release.
fn parts(name: &str) -> [&str; 3] {
    let Some((rest, release)) = name.rsplit_once('-') else { return [name, "", ""] };
    match rest.rsplit_once('-') {
        Some((name, version)) => [name, version, release],
        None => [rest, release, ""],
    }
}

/// Compares versions run by run of digits or letters. What else there is only separates them, but for `~`, before which nothing is older,
/// and `+`, which is newer than the end and older than anything else.
fn version(one: &str, other: &str) -> Ordering {
    let separates = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '~' | '+');
    let (mut one, mut other) = (one, other);
    'runs: loop {
        (one, other) = (one.trim_start_matches(separates), other.trim_start_matches(separates));
        for (mark, at_the_end) in [('~', Ordering::Greater), ('+', Ordering::Less)] {
            return match (one.strip_prefix(mark), other.strip_prefix(mark)) {
                (None, None) => continue,
                (Some(left), Some(right)) => {
                    (one, other) = (left, right);
                    continue 'runs;
                }
                (None, Some(_)) if one.is_empty() => at_the_end,
                (Some(_), None) if other.is_empty() => at_the_end.reverse(),
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
            };
        }
        if one.is_empty() || other.is_empty() {
            return one.len().cmp(&other.len());
        }
        let digits = one.starts_with(|c: char| c.is_ascii_digit());
        let (left, right) = (run(&mut one, digits), run(&mut other, digits));
        let order = if right.is_empty() {
            // Numbers are newer than letters.
            if digits { Ordering::Greater } else { Ordering::Less }
        } else if digits {
            let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
            left.len().cmp(&right.len()).then(left.cmp(right))
        } else {
            left.cmp(right)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Takes what there is of digits or of letters at the beginning.
fn run<'t>(text: &mut &'t str, digits: bool) -> &'t str {
    let belongs = |c: char| if digits { c.is_ascii_digit() } else { c.is_ascii_alphabetic() };
    let end = text.find(|c: char| !belongs(c)).unwrap_or(text.len());
    let (run, rest) = text.split_at(end);
    *text = rest;
    run
}

/// A kernel command line with another deployment's link in it.
pub fn replaced(cmdline: &str, link: &str) -> String {
    let mut text = String::new();
    for word in words(cmdline).filter(|word| !unquoted(word).starts_with("ostree=")) {
        text.push_str(word);
        text.push(' ');
    }
    text + &format!("ostree={link}")
}
