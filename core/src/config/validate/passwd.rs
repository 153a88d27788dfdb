// SPDX-License-Identifier: Apache-2.0
//! `passwd`.

use alloc::format;
use alloc::string::String;

use super::common::said;
use super::storage::check_id;
use crate::accounts::{field_fault, name_fault};
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
        for (field, value) in [
            ("gecos", &self.gecos),
            ("homeDir", &self.home_dir),
            ("passwordHash", &self.password_hash),
            ("shell", &self.shell),
        ] {
            check_field(field, value.as_ref(), at, cx);
        }
        for (field, value) in [("homeDir", &self.home_dir), ("shell", &self.shell)] {
            if said(value.as_ref()).is_some_and(|path| !path.starts_with('/')) {
                cx.remarks.error(&at.key(field), "the path is relative").remedy("begin it with a slash");
            }
        }
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
        check_field("passwordHash", self.password_hash.as_ref(), at, cx);
    }
}

/// What `useradd` and `groupadd` would refuse on the machine is refused here.
fn check_name(what: &str, name: &str, at: &Path<'_>, cx: &mut Checking<'_>) {
    if let Some(fault) = name_fault(name) {
        cx.remarks
            .error(&at.key("name"), format!("{name:?} can't be the name of a {what}: {fault}"))
            .remedy("begin it with a letter or underscore, and go on with letters, digits, underscores and hyphens");
    }
}

/// What would break the line of the file that it is written to. The value isn't repeated: it may be a secret.
fn check_field(name: &str, value: Option<&String>, at: &Path<'_>, cx: &mut Checking<'_>) {
    if let Some(fault) = value.and_then(|value| field_fault(value)) {
        cx.remarks.error(&at.key(name), format!("this can't stand in a line of passwd or group: {fault}"));
    }
}
