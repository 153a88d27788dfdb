// SPDX-License-Identifier: Apache-2.0
//! Users and groups of a target root, from the texts of its files: passwd(5), group(5), login.defs(5), useradd(8).
//!
//! On OSTree systems the accounts of the distribution stand in `/usr/lib/passwd` and `/usr/lib/group` (nss-altfiles); those
//! of `/etc` come first.

use alloc::string::String;

use crate::facts::{Accounts, Group, User};

/// The texts. A file that isn't there is an empty text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Texts<'t> {
    /// `/etc/passwd`.
    pub passwd: &'t str,
    /// `/etc/group`.
    pub group: &'t str,
    /// `/usr/lib/passwd`.
    pub usr_passwd: &'t str,
    /// `/usr/lib/group`.
    pub usr_group: &'t str,
    /// `/etc/login.defs`.
    pub login_defs: &'t str,
    /// `/etc/default/useradd`.
    pub useradd: &'t str,
}

/// Reads the texts. As the C library does, it passes over lines that it can't read, and the first line of a name counts.
pub fn parse(texts: &Texts<'_>) -> Accounts {
    let mut accounts = Accounts { user_groups: false, ..Accounts::default() };
    for (text, fixed) in [(texts.passwd, false), (texts.usr_passwd, true)] {
        for (name, user) in text.lines().filter_map(|line| passwd_line(line, fixed)) {
            accounts.users.entry(name).or_insert(user);
        }
    }
    for (text, fixed) in [(texts.group, false), (texts.usr_group, true)] {
        for (name, group) in text.lines().filter_map(|line| group_line(line, fixed)) {
            accounts.groups.entry(name).or_insert(group);
        }
    }
    if let Some(value) = setting(texts.login_defs, "USERGROUPS_ENAB", char::is_whitespace) {
        accounts.user_groups = value.eq_ignore_ascii_case("yes");
    }
    if let Some(homes) = setting(texts.useradd, "HOME", |c| c == '=').filter(|homes| homes.starts_with('/')) {
        accounts.homes = homes.into();
    }
    accounts
}

fn passwd_line(line: &str, fixed: bool) -> Option<(String, User)> {
    let mut fields = line.split(':');
    let name = account_name(fields.next()?)?;
    let _password = fields.next()?;
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let _comment = fields.next()?;
    let home = fields.next()?.into();
    Some((name.into(), User { uid, gid, home, fixed }))
}

fn group_line(line: &str, fixed: bool) -> Option<(String, Group)> {
    let mut fields = line.split(':');
    let name = account_name(fields.next()?)?;
    let _password = fields.next()?;
    let gid = fields.next()?.parse().ok()?;
    Some((name.into(), Group { gid, fixed }))
}

/// Comments, and the `+` and `-` lines of NIS, name no account.
fn account_name(name: &str) -> Option<&str> {
    (!name.is_empty() && !name.starts_with(['#', '+', '-'])).then_some(name)
}

/// The value of a setting's last line.
fn setting<'t>(text: &'t str, key: &str, separates: impl Fn(char) -> bool + Copy) -> Option<&'t str> {
    text.lines()
        .filter_map(|line| line.trim_start().strip_prefix(key)?.strip_prefix(separates))
        .map(|value| value.trim().trim_matches('"'))
        .last()
}

/// A number as the id of a user or group: the largest that fits into 32 bits means "unchanged" to the kernel.
pub fn id(number: i64) -> Option<u32> {
    u32::try_from(number).ok().filter(|id| *id != u32::MAX)
}

/// What to write instead of a number that is none.
pub const IDS: &str = "use a number from 0 to 4294967294";

/// Why no `useradd` or `groupadd` takes this name, if none does. Distributions draw the line differently; this is what they all
/// refuse (shadow's `chkname.c` and the patches of Debian and Fedora to it).
pub fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > 255 {
        Some("it is longer than 255 bytes")
    } else if name == "." || name == ".." {
        Some("it is the name of a directory")
    } else if name.starts_with(['-', '+', '~']) {
        Some("it begins with -, + or ~")
    } else if name.contains([':', ',', '/']) {
        Some("it contains a colon, a comma or a slash")
    } else if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Some("it contains white space or a control character")
    } else {
        None
    }
}

/// Why a value can't stand in a field of `passwd` or `group`, if it can't.
pub fn field_fault(value: &str) -> Option<&'static str> {
    value.contains([':', '\n', '\0']).then_some("it contains a colon, a line break or a NUL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_etc_come_before_those_of_usr() {
        let accounts = parse(&Texts {
            passwd: "root:x:0:0:root:/root:/bin/sh\n# c:x:1:1::/:\n+::::::\nbroken:x\nroot:x:7:7::/other:/bin/sh\n",
            usr_passwd: "root:x:9:9::/:/bin/sh\nchrony:x:991:988::/var/lib/chrony:/sbin/nologin\n",
            group: "root:x:0:\nwheel:x:10:core,nest\n",
            usr_group: "wheel:x:10:\ndocker:x:986:\n",
            login_defs: "# USERGROUPS_ENAB no\nUSERGROUPS_ENAB\tyes\n",
            useradd: "GROUP=100\nHOME=/var/home\n",
        });
        assert_eq!(accounts.users["root"], User { uid: 0, gid: 0, home: "/root".into(), fixed: false });
        assert!(accounts.users["chrony"].fixed);
        assert_eq!(accounts.users.len(), 2);
        assert_eq!(accounts.groups["wheel"], Group { gid: 10, fixed: false });
        assert_eq!(accounts.groups["docker"], Group { gid: 986, fixed: true });
        assert!(accounts.user_groups);
        assert_eq!(accounts.homes, "/var/home");
    }

    #[test]
    fn without_settings_the_tools_defaults_hold() {
        let accounts = parse(&Texts::default());
        assert_eq!((accounts.homes.as_str(), accounts.user_groups), ("/home", false));
    }

    #[test]
    fn names_that_no_tool_takes() {
        for name in ["", ".", "..", "-x", "+x", "~x", "a b", "a:b", "a,b", "a/b", "a\n"] {
            assert!(name_fault(name).is_some(), "{name:?}");
        }
        for name in ["core", "_apt", "systemd-network", "svc$", "Admin", "j.doe"] {
            assert!(name_fault(name).is_none(), "{name:?}");
        }
    }
}
