// SPDX-License-Identifier: Apache-2.0
//! `passwd`.

use alloc::format;
use alloc::string::String;

use super::storage::check_id;
use crate::config::model::{Checking, Rules};
use crate::config::types::{Passwd, PasswdGroup, PasswdUser};
use crate::json::Path;

impl Rules for Passwd {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for PasswdUser {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        check_name("user", &self.name, at, cx);
        check_id(self.uid, &at.key("uid"), cx);
        check_hash(self.password_hash.as_ref(), at, cx);
        let keys = at.key("sshAuthorizedKeys");
        for (index, key) in self.ssh_authorized_keys.iter().enumerate() {
            let trimmed = key.trim();
            if trimmed.lines().any(|line| line.contains("PRIVATE KEY-----")) {
                cx.remarks
                    .warning(
                        &keys.index(index),
                        "this is a private key; nobody can log in with it, and everybody can read it here",
                    )
                    .remedy("give the contents of the .pub file");
            } else if !trimmed.is_empty() && !trimmed.starts_with('#') && !trimmed.contains(char::is_whitespace) {
                cx.remarks
                    .warning(&keys.index(index), "this has not the form of an SSH key; sshd will pass over it")
                    .remedy("write it as TYPE BASE64, as in the .pub file");
            }
        }
    }
}

impl Rules for PasswdGroup {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        check_name("group", &self.name, at, cx);
        check_id(self.gid, &at.key("gid"), cx);
        check_hash(self.password_hash.as_ref(), at, cx);
    }
}

/// What `useradd` and `groupadd` would refuse on the machine is refused here.
fn check_name(what: &str, name: &str, at: &Path<'_>, cx: &mut Checking<'_>) {
    let at = at.key("name");
    if name.is_empty() {
        cx.remarks.error(&at, format!("the {what} has no name")).remedy("name it, or remove the entry");
    } else if name.contains([':', '/', '\n', ',']) || name.chars().any(char::is_whitespace) || name.starts_with('-') {
        cx.remarks
            .error(&at, format!("{name:?} can't be the name of a {what}"))
            .remedy("begin it with a letter or underscore, and go on with letters, digits, underscores and hyphens");
    }
}

/// A colon or a line's end would break the line of the file that it is written to.
fn check_hash(hash: Option<&String>, at: &Path<'_>, cx: &mut Checking<'_>) {
    if hash.is_some_and(|hash| hash.contains([':', '\n'])) {
        cx.remarks
            .error(&at.key("passwordHash"), "the hash contains a colon or a line's end, which no hash does")
            .remedy("give one field, as mkpasswd prints it");
    }
}
