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
    /// Why it can't be booted, if it can't.
    pub unusable: Option<String>,
}

impl Deployment {
    /// Whether a kernel that was started for the other one may boot this one: same kernel and initramfs, same arguments.
    pub fn boots_like(&self, other: &Self) -> bool {
        self.bootcsum == other.bootcsum && self.options == other.options
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
}

impl Listed {
    /// The entry in a file of this name.
    pub fn new(name: &str, entry: &Entry) -> Self {
        let link = pivot::target(&Cmdline::parse(&entry.arguments().collect::<Vec<_>>().join(" "))).map(str::to_owned);
        Self {
            name: name.strip_suffix(".conf").unwrap_or(name).to_owned(),
            title: entry.values("title").next().unwrap_or_default().to_owned(),
            link,
            options: entry.arguments().map(unquoted).filter(|word| !word.starts_with("ostree=")).collect(),
        }
    }

    /// The deployment that it starts: `id` is what its link leads to.
    pub fn deployment(&self, id: Id, unusable: Option<String>) -> Option<Deployment> {
        let link = self.link.clone()?;
        // /ostree/boot.V/STATEROOT/BOOTCSUM/SERIAL
        let bootcsum = link.trim_matches('/').split('/').nth(3)?.to_owned();
        Some(Deployment { id, entry: self.name.clone(), link, bootcsum, options: self.options.clone(), unusable })
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

/// Compares names by version: digits as numbers, the rest by its characters (as rpmvercmp does, by which GRUB sorts).
fn compare(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one, other);
    loop {
        let (left, right) = (part(&mut one), part(&mut other));
        let order = match (left.trim_start_matches('0'), right.trim_start_matches('0')) {
            _ if left.is_empty() || right.is_empty() => return left.cmp(right),
            (left, right) if is_number(left) && is_number(right) => left.len().cmp(&right.len()).then(left.cmp(right)),
            _ => left.cmp(right),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

fn is_number(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_digit())
}

/// Takes the first run of digits or of other characters.
fn part<'t>(text: &mut &'t str) -> &'t str {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    let (part, rest) = text.split_at(end);
    *text = rest;
    part
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
