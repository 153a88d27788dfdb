// SPDX-License-Identifier: Apache-2.0
//! Users and groups by shadow's tools in the target root (with their long options only, as Ignition calls them), and what users get.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use fledge_core::diag::Failure;
use fledge_core::facts;
use fledge_core::path;
use fledge_core::plan::{Group, User};

use super::{Done, Machine};
use crate::host::cmd::{self, Arg, Tool};
use crate::host::fs::{self, Attributes};
use crate::host::journal;
use crate::observe;

/// What is the user's own.
const PRIVATE_DIRECTORY: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// The arguments of one call.
struct Call<'a> {
    tool: Tool,
    args: Vec<Arg<'a>>,
}

impl<'a> Call<'a> {
    fn new(tool: Tool, root: &'a Path) -> Self {
        Self { tool, args: vec!["--root".into(), root.into()] }
    }

    fn option(&mut self, name: &'static str, value: Option<impl Into<Arg<'a>>>) {
        if let Some(value) = value {
            self.args.extend([name.into(), value.into()]);
        }
    }

    fn switch(&mut self, name: &'static str, on: bool) {
        if on {
            self.args.push(name.into());
        }
    }

    fn run(mut self, name: &'a str) -> Done {
        self.args.push(name.into());
        cmd::run(self.tool, &self.args).map(|_| true)
    }
}

/// The call's words stand in the failure already; the step's are what a person looks for.
fn told(done: Done, what: impl FnOnce() -> String) -> Done {
    done.map_err(|failure| Failure { why: format!("{}: {}", failure.what, failure.why), what: what(), ..failure })
}

impl Machine<'_> {
    pub(super) fn ensure_group(&self, group: &Group) -> Done {
        if !group.changes() {
            return Ok(false);
        }
        let gid = group.gid.map(|gid| gid.to_string());
        let mut call = Call::new(if group.exists { cmd::GROUPMOD } else { cmd::GROUPADD }, self.root.path());
        call.option("--gid", gid.as_ref());
        call.option("--password", group.password.as_ref().map(Arg::Secret));
        call.switch("--system", group.system && !group.exists);
        told(call.run(&group.name), || group.to_string())
    }

    pub(super) fn delete_group(&self, name: &str) -> Done {
        Call::new(cmd::GROUPDEL, self.root.path()).run(name)
    }

    pub(super) fn ensure_user(&self, user: &User) -> Done {
        if !user.changes() {
            return Ok(false);
        }
        let uid = user.uid.map(|uid| uid.to_string());
        let groups = user.groups.join(",");
        let mut call = Call::new(if user.exists { cmd::USERMOD } else { cmd::USERADD }, self.root.path());
        if user.exists {
            call.option("--home", user.home.as_ref());
            call.switch("--move-home", user.home.is_some());
        } else {
            call.option("--home-dir", user.home.as_ref());
            call.switch(if user.no_create_home { "--no-create-home" } else { "--create-home" }, true);
            call.switch("--no-user-group", user.no_user_group);
            call.switch("--system", user.system);
            call.switch("--no-log-init", user.no_log_init);
        }
        call.option("--password", user.password.as_ref().map(Arg::Secret));
        call.option("--uid", uid.as_ref());
        call.option("--comment", user.gecos.as_ref());
        call.option("--gid", user.primary_group.as_ref());
        call.option("--groups", Some(&groups).filter(|groups| !groups.is_empty()));
        call.option("--shell", user.shell.as_ref());
        told(call.run(&user.name), || user.to_string())
    }

    pub(super) fn delete_user(&self, name: &str) -> Done {
        let mut call = Call::new(cmd::USERDEL, self.root.path());
        call.switch("--remove", true);
        call.run(name)
    }

    /// Copies the line of a group that only the distribution's file has.
    pub(super) fn adopt_group(&self, name: &str) -> io::Result<bool> {
        let is_it = |line: &&str| line.split(':').next() == Some(name);
        if self.root.text("/etc/group")?.lines().any(|line| is_it(&line)) {
            return Ok(false);
        }
        let text = self.root.text("/usr/lib/group")?;
        let line = text.lines().find(is_it).ok_or_else(|| io::Error::other("/usr/lib/group has no such group"))?;
        self.add_lines("/etc/group", &[line.to_owned()])
    }

    pub(super) fn own_home(&self, user: &str, directories: &[String]) -> io::Result<bool> {
        let user = self.user(user)?;
        let attributes = Attributes::default().or(user.uid, user.gid, PRIVATE_DIRECTORY);
        let mut done = false;
        for directory in directories {
            let directory = self.root.directory_without_links(directory)?;
            done |= fs::set_attributes(directory.as_fd(), attributes)?;
        }
        Ok(done)
    }

    /// Writes a user's keys. The home directory is the user's, who may have left links in it: none may lead out of it.
    pub(super) fn authorize_keys(&self, name: &str, file: &str, keys: &[String]) -> io::Result<bool> {
        let user = self.user(name)?;
        let home = self.root.directory(&path::clean(&user.home))?;
        let (above, file_name) = file.rsplit_once('/').ok_or_else(|| io::Error::other("it has no directory"))?;
        let above = home.make_beneath(above, Attributes::default().or(user.uid, user.gid, PRIVATE_DIRECTORY))?;
        let new = above.temporary()?;
        let mut text = keys.join("\n");
        if !text.ends_with('\n') {
            text.push('\n');
        }
        new.file().write_all(text.as_bytes())?;
        let attributes = Attributes::default().or(user.uid, user.gid, PRIVATE_FILE);
        let is_so = match above.file(file_name) {
            Ok(Some(old)) => fs::is_same(new.file(), &old, attributes)?,
            _ => false,
        };
        if !is_so {
            above.place(new, file_name, attributes, true)?;
        }
        // Told each time, as Ignition does: who listens may not have heard it before.
        journal::wrote_keys(name, &above.path()?.join(file_name));
        Ok(!is_so)
    }

    fn user(&self, name: &str) -> io::Result<facts::User> {
        let mut accounts = observe::accounts(self.root)?;
        accounts.users.remove(name).ok_or_else(|| io::Error::other(format!("the target has no user {name:?}")))
    }
}
