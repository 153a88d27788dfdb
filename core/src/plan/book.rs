// SPDX-License-Identifier: Apache-2.0
//! The users and groups of the target, as they will be when the steps planned so far have been carried out.

use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::facts::Accounts;

/// A user as known so far; ids that a tool will choose are `None`.
pub(super) struct Person {
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) home: String,
    pub(super) fixed: bool,
}

/// A group as known so far.
pub(super) struct Circle {
    pub(super) gid: Option<u32>,
    pub(super) fixed: bool,
}

/// Users and groups as they will be when the steps planned so far have been carried out.
pub(super) struct Book {
    /// Whether those of the target are known; else nobody can be said to be missing.
    complete: bool,
    pub(super) users: BTreeMap<String, Person>,
    pub(super) groups: BTreeMap<String, Circle>,
}

impl Book {
    pub(super) fn new(accounts: Option<&Accounts>) -> Self {
        let mut book = Self { complete: accounts.is_some(), users: BTreeMap::new(), groups: BTreeMap::new() };
        for (name, user) in accounts.into_iter().flat_map(|accounts| &accounts.users) {
            let person =
                Person { uid: Some(user.uid), gid: Some(user.gid), home: user.home.clone(), fixed: user.fixed };
            book.users.insert(name.clone(), person);
        }
        for (name, group) in accounts.into_iter().flat_map(|accounts| &accounts.groups) {
            book.groups.insert(name.clone(), Circle { gid: Some(group.gid), fixed: group.fixed });
        }
        book
    }

    pub(super) fn has_user(&self, name: &str) -> bool {
        !self.complete || self.users.contains_key(name)
    }

    pub(super) fn has_group(&self, name: &str) -> bool {
        !self.complete || self.groups.contains_key(name)
    }

    /// Whether there is a group of that name or number.
    pub(super) fn finds_group(&self, text: &str) -> bool {
        self.has_group(text)
            || text.parse().is_ok_and(|gid: u32| self.groups.values().any(|group| group.gid == Some(gid)))
    }

    pub(super) fn gid_owner(&self, gid: u32) -> Option<&str> {
        self.groups.iter().find(|(_, group)| group.gid == Some(gid)).map(|(name, _)| name.as_str())
    }

    pub(super) fn uid_owner(&self, uid: u32) -> Option<&str> {
        self.users.iter().find(|(_, user)| user.uid == Some(uid)).map(|(name, _)| name.as_str())
    }
}
