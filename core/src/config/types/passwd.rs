// SPDX-License-Identifier: Apache-2.0
//! `passwd`.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use crate::config::model::Entry;
use crate::config::section::section;

section! {
    /// Users and groups.
    pub part Passwd {
        /// Groups, which are made first.
        groups: Vec<PasswdGroup> = "groups", V3_0;
        /// Users.
        users: Vec<PasswdUser> = "users", V3_0;
    }
}

section! {
    /// A group.
    pub item PasswdGroup {
        /// Group id.
        gid: Option<i64> = "gid", V3_0;
        /// Its name.
        name: String = "name", V3_0;
        /// Hash of its password.
        password_hash: Option<String> = "passwordHash", V3_0;
        /// Whether it is to be there; `false` deletes it.
        should_exist: Option<bool> = "shouldExist", V3_2;
        /// Whether a new one gets an id of the system's range.
        system: Option<bool> = "system", V3_0;
    }
}

section! {
    /// A user.
    pub item PasswdUser {
        /// The comment field.
        gecos: Option<String> = "gecos", V3_0;
        /// Supplementary groups.
        groups: Vec<String> = "groups", V3_0;
        /// Home directory.
        home_dir: Option<String> = "homeDir", V3_0;
        /// Login name.
        name: String = "name", V3_0;
        /// Whether a new one gets no home directory.
        no_create_home: Option<bool> = "noCreateHome", V3_0;
        /// Whether a new one isn't entered into lastlog and faillog.
        no_log_init: Option<bool> = "noLogInit", V3_0;
        /// Whether a new one gets no group of its own.
        no_user_group: Option<bool> = "noUserGroup", V3_0;
        /// Hash of the password.
        password_hash: Option<String> = "passwordHash", V3_0;
        /// Primary group, by name or number.
        primary_group: Option<String> = "primaryGroup", V3_0;
        /// Keys for SSH.
        ssh_authorized_keys: Vec<String> = "sshAuthorizedKeys", V3_0;
        /// Login shell.
        shell: Option<String> = "shell", V3_0;
        /// Whether the user is to be there; `false` deletes it.
        should_exist: Option<bool> = "shouldExist", V3_2;
        /// Whether a new one gets an id of the system's range.
        system: Option<bool> = "system", V3_0;
        /// User id.
        uid: Option<i64> = "uid", V3_0;
    }
}

impl Entry for PasswdGroup {
    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }
}

impl Entry for PasswdUser {
    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }
}
