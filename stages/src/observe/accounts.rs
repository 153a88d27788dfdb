// SPDX-License-Identifier: Apache-2.0
//! Users and groups of the target root, from its files.

use std::io;

use fledge_core::accounts::{Texts, parse};
use fledge_core::facts::Accounts;

use crate::host::fs::Root;

/// Reads them; a file that isn't there names nobody.
///
/// # Errors
/// Whatever the operating system says.
pub fn accounts(root: &Root) -> io::Result<Accounts> {
    Ok(parse(&Texts {
        passwd: &root.text("/etc/passwd")?,
        group: &root.text("/etc/group")?,
        usr_passwd: &root.text("/usr/lib/passwd")?,
        usr_group: &root.text("/usr/lib/group")?,
        login_defs: &root.text("/etc/login.defs")?,
        useradd: &root.text("/etc/default/useradd")?,
    }))
}
