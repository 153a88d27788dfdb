// SPDX-License-Identifier: Apache-2.0
//! Plans as text. No secret and no file content appears in it.

use core::fmt;

use super::{Attributes, Group, Owner, Plan, Step, User};

/// How many of the paths that are labelled are named.
const LABELS: usize = 20;

impl fmt::Display for Plan {
    /// The stage's name, then a numbered line a step with its place in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.stage)?;
        if self.steps.is_empty() {
            writeln!(f, "     nothing to do")?;
        }
        for (number, planned) in self.steps.iter().enumerate() {
            write!(f, "{:4} {}", number + 1, planned.step)?;
            match &planned.place {
                Some(place) => writeln!(f, "  [{place}]")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetKernelArguments { should_exist, should_not_exist } => {
                f.write_str("set the kernel arguments:")?;
                let lists = [("with", should_exist), ("without", should_not_exist)];
                for (number, (word, list)) in lists.iter().filter(|(_, list)| !list.is_empty()).enumerate() {
                    let separator = if number == 0 { "" } else { ";" };
                    write!(f, "{separator} {word} {}", list.join(", "))?;
                }
                Ok(())
            }
            Self::Mount { device, path, format, options, policy } => {
                write!(f, "mount {device} at {path} as {format}")?;
                if !options.text.is_empty() {
                    write!(f, " with {options}")?;
                }
                match policy {
                    Some(policy) => write!(f, ", label what is new by the SELinux policy {policy:?}"),
                    None => Ok(()),
                }
            }
            Self::Partition(step) => step.fmt(f),
            Self::Raid(step) => step.fmt(f),
            Self::Luks(step) => step.fmt(f),
            Self::Filesystem(step) => step.fmt(f),
            Self::Unmount { path } => write!(f, "unmount {path}"),
            Self::Begin { path, .. } => {
                write!(f, "note in {path} what is about to be made, should this first boot be interrupted")
            }
            Self::NoteOriginal { note, path } => write!(f, "note in {note} what {path} holds before it is appended to"),
            Self::AdoptGroup { name } => {
                write!(f, "copy the group {name:?} from /usr/lib/group to /etc/group, so that it can have members")
            }
            Self::EnsureGroup(group) => group.fmt(f),
            Self::DeleteGroup { name } => write!(f, "delete the group {name:?}"),
            Self::EnsureUser(user) => user.fmt(f),
            Self::DeleteUser { name } => write!(f, "delete the user {name:?} and the home directory"),
            Self::OwnHome { user, directories } => {
                write!(f, "give {} to the user {user:?}, mode 0700", directories.join(", "))
            }
            Self::AuthorizeKeys { user, file, keys } => {
                let s = if keys.len() == 1 { "" } else { "s" };
                write!(f, "write {} SSH key{s} of the user {user:?} to ~/{file}", keys.len())
            }
            Self::Remove { path } => write!(f, "remove {path}"),
            Self::EnsureDirectory { path, attributes } => write!(f, "make the directory {path}{attributes}"),
            Self::WriteFile { path, contents, keep, append, attributes, replace } => {
                match contents {
                    Some(contents) if *replace => write!(f, "replace {path} by {contents}")?,
                    Some(contents) => write!(f, "write {path} from {contents}")?,
                    None => match keep {
                        Some(bytes) => write!(f, "keep the first {bytes} bytes of {path}")?,
                        None => write!(f, "keep the contents of {path}")?,
                    },
                }
                for contents in append {
                    write!(f, ", append {contents}")?;
                }
                attributes.fmt(f)
            }
            Self::Symlink { path, target, attributes, replace } => {
                write!(f, "{} {path} to {target}{attributes}", if *replace { "replace by a link" } else { "link" })
            }
            Self::HardLink { path, target, replace } => {
                let verb = if *replace { "replace by a hard link" } else { "hard link" };
                write!(f, "{verb} {path} to the file {target}")
            }
            Self::AddLines { path, lines } => {
                write!(f, "add to {path}: {}", lines.join("; "))
            }
            Self::WriteResult { path, user_config } => {
                let whose = if *user_config { "an operator's" } else { "no operator's" };
                write!(f, "write {path}: provisioned by {whose} configuration")
            }
            Self::Label { policy, paths } => {
                let shown = paths.get(..paths.len().min(LABELS)).unwrap_or_default();
                write!(f, "label by the SELinux policy {policy:?}: {}", shown.join(", "))?;
                match paths.len() - shown.len() {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Self::Crypttab(step) => step.fmt(f),
            Self::DisableUnit { unit } => write!(f, "remove the links that enable {unit}"),
        }
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(mode) = self.mode {
            write!(f, ", mode {mode:04o}")?;
        }
        for (word, owner) in [("user", &self.user), ("group", &self.group)] {
            match owner {
                Owner::Keep => {}
                Owner::Id(id) => write!(f, ", {word} {id}")?,
                Owner::Name(name) => write!(f, ", {word} {name:?}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = verb(self.exists, self.changes());
        let system = if self.system { "system " } else { "" };
        write!(f, "{verb} the {system}group {:?}", self.name)?;
        if let Some(gid) = self.gid {
            write!(f, ", gid {gid}")?;
        }
        if self.password.is_some() {
            f.write_str(", with a password")?;
        }
        Ok(())
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = verb(self.exists, self.changes());
        let system = if self.system { "system " } else { "" };
        write!(f, "{verb} the {system}user {:?}", self.name)?;
        if let Some(uid) = self.uid {
            write!(f, ", uid {uid}")?;
        }
        let texts = [("home", &self.home), ("primary group", &self.primary_group), ("shell", &self.shell)];
        for (word, value) in texts {
            if let Some(value) = value {
                write!(f, ", {word} {value}")?;
            }
        }
        if let Some(gecos) = &self.gecos {
            write!(f, ", comment {gecos:?}")?;
        }
        if !self.groups.is_empty() {
            write!(f, ", groups {}", self.groups.join(", "))?;
        }
        let switches = [
            (self.no_create_home, "no home directory made"),
            (self.no_user_group, "no group of its own"),
            (self.no_log_init, "not in the login databases"),
        ];
        for (_, words) in switches.iter().filter(|(on, _)| *on) {
            write!(f, ", {words}")?;
        }
        match &self.password {
            Some(password) if password.expose() == "*" => f.write_str(", no password login"),
            Some(_) => f.write_str(", with a password"),
            None => Ok(()),
        }
    }
}

fn verb(exists: bool, changes: bool) -> &'static str {
    match (exists, changes) {
        (false, _) => "create",
        (true, true) => "modify",
        (true, false) => "keep",
    }
}
