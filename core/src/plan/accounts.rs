// SPDX-License-Identifier: Apache-2.0
//! Groups, then users, each with home directory and keys.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::book::{Book, Circle, Person};
use super::files::{Planner, Settings, standing_in_the_way};
use super::world::{Made, Standing, World};
use super::{Group, Step, User};
use crate::accounts::{self, field_fault, name_fault};
use crate::config::{Config, PasswdGroup, PasswdUser};
use crate::diag::Failure;
use crate::facts::{Accounts, NodeKind};
use crate::path;
use crate::secret::Secret;

pub(super) const PASSWD: &str = "/etc/passwd";
pub(super) const GROUP: &str = "/etc/group";
/// What the tools for users and groups write, with the backups that they leave.
const TOUCHED: [&str; 13] = [
    "/etc/.pwd.lock",
    "/etc/passwd",
    "/etc/passwd-",
    "/etc/group",
    "/etc/group-",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/subuid",
    "/etc/subuid-",
    "/etc/subgid",
    "/etc/subgid-",
];
const FRAGMENT: &str = ".ssh/authorized_keys.d/ignition";
const WHOLE: &str = ".ssh/authorized_keys";

/// The home directories of the configuration's users, and the files that their keys go to.
pub(super) fn homes(config: &Config, accounts: Option<&Accounts>) -> Vec<String> {
    let mut list = Vec::new();
    for user in config.passwd.users.iter().filter(|user| user.should_exist != Some(false)) {
        let known = accounts.and_then(|accounts| accounts.users.get(&user.name)).map(|user| user.home.clone());
        let home = wanted_home(user).map(Into::into).or(known).unwrap_or_else(|| default_home(&user.name, accounts));
        if !user.ssh_authorized_keys.is_empty() {
            list.extend([path::below(&home, FRAGMENT), path::below(&home, WHOLE)]);
        }
        list.push(home);
    }
    list
}

fn wanted_home(user: &PasswdUser) -> Option<&str> {
    user.home_dir.as_deref().filter(|home| !home.is_empty())
}

fn default_home(name: &str, accounts: Option<&Accounts>) -> String {
    path::below(accounts.map_or("/home", |accounts| &accounts.homes), name)
}

/// Plans groups and users.
pub(super) fn plan(config: &Config, world: &mut World<'_>, planner: &mut Planner<'_>, settings: Settings) -> Book {
    let mut book = Book::new(world.facts().accounts.as_ref());
    for group in &config.passwd.groups {
        let place = planner.place(group.origin, "$.passwd.groups");
        match plan_group(group, &mut book) {
            Ok(Some(step)) => planner.step(step, place),
            Ok(None) => {}
            Err(failure) => planner.refuse(place, failure),
        }
    }
    if !config.passwd.groups.is_empty() || !config.passwd.users.is_empty() {
        for path in TOUCHED {
            world.label(path);
        }
    }
    for user in &config.passwd.users {
        let place = planner.place(user.origin, "$.passwd.users");
        let mut steps = Vec::new();
        match plan_user(user, &mut book, world, settings, &mut steps) {
            Ok(()) => steps.into_iter().for_each(|step| planner.step(step, place.clone())),
            Err(failure) => {
                // Others may refer to it; one message is enough.
                book.users.entry(user.name.clone()).or_insert_with(|| Person {
                    uid: None,
                    gid: None,
                    home: String::new(),
                    fixed: false,
                });
                planner.refuse(place, failure);
            }
        }
    }
    book
}

fn plan_group(group: &PasswdGroup, book: &mut Book) -> Result<Option<Step>, Failure> {
    let name = &group.name;
    let old = book.groups.get(name);
    let exists = old.is_some();
    if group.should_exist == Some(false) {
        let what = || format!("deleting the group {name:?}");
        let Some(old) = book.groups.remove(name) else { return Ok(None) };
        if old.fixed {
            return Err(Failure::new(what(), "it stands in /usr/lib/group, which belongs to the distribution")
                .remedy("leave the group alone"));
        }
        let member = book.users.iter().find(|(_, user)| old.gid.is_some() && user.gid == old.gid);
        if let Some((user, _)) = member {
            return Err(Failure::new(what(), format!("it is the primary group of the user {user:?}"))
                .remedy("give that user another primary group first; groups are handled before users"));
        }
        return Ok(Some(Step::DeleteGroup { name: name.clone() }));
    }
    let what = || format!("{} the group {name:?}", if exists { "modifying" } else { "creating" });
    let mut gid = id(group.gid, "group").map_err(|failure| Failure { what: what(), ..failure })?;
    if let Some(old) = old {
        if gid == old.gid {
            gid = None;
        }
        if old.fixed && (gid.is_some() || password(group.password_hash.as_ref()).is_some()) {
            return Err(Failure::new(what(), "it stands in /usr/lib/group, which belongs to the distribution")
                .remedy("leave gid and passwordHash out, or choose another name"));
        }
    } else if let Some(fault) = name_fault(name) {
        return Err(Failure::new(what(), format!("the name can't be used: {fault}")).remedy("choose another name"));
    }
    if let Some((gid, owner)) = gid.and_then(|gid| Some((gid, book.gid_owner(gid)?))) {
        return Err(Failure::new(what(), format!("the gid {gid} belongs to the group {owner:?}"))
            .remedy("choose another gid, or leave it out"));
    }
    field(group.password_hash.as_ref(), "passwordHash", &what)?;
    let fixed = old.is_some_and(|old| old.fixed);
    let known = gid.or_else(|| old.and_then(|old| old.gid));
    book.groups.insert(name.clone(), Circle { gid: known, fixed });
    Ok(Some(Step::EnsureGroup(Group {
        name: name.clone(),
        exists,
        gid,
        system: group.system == Some(true),
        password: password(group.password_hash.as_ref()),
    })))
}

/// An empty hash of a group changes nothing.
fn password(hash: Option<&String>) -> Option<Secret> {
    hash.filter(|hash| !hash.is_empty()).map(Secret::new)
}

/// An id as a step has it; the failure's `what` is the caller's to fill in.
///
/// # Errors
/// It is none.
pub(super) fn id(value: Option<i64>, kind: &str) -> Result<Option<u32>, Failure> {
    let Some(value) = value else { return Ok(None) };
    match accounts::id(value) {
        Some(id) => Ok(Some(id)),
        None => Err(Failure::new("", format!("{value} is no {kind} id")).remedy(accounts::IDS)),
    }
}

fn field(value: Option<&String>, name: &str, what: &dyn Fn() -> String) -> Result<(), Failure> {
    match value.and_then(|value| field_fault(value)) {
        Some(fault) => Err(Failure::new(what(), format!("{name} can't be used: {fault}")).remedy("correct it")),
        None => Ok(()),
    }
}

fn plan_user(
    user: &PasswdUser,
    book: &mut Book,
    world: &mut World<'_>,
    settings: Settings,
    steps: &mut Vec<Step>,
) -> Result<(), Failure> {
    let name = &user.name;
    if user.should_exist == Some(false) {
        return delete_user(name, book, world, steps);
    }
    let exists = book.users.contains_key(name);
    let what = || format!("{} the user {name:?}", if exists { "modifying" } else { "creating" });
    if let Some(fault) = name_fault(name).filter(|_| !exists) {
        return Err(Failure::new(what(), format!("the name can't be used: {fault}")).remedy("choose another name"));
    }
    let mut step = wanted_user(user, exists, &what)?;
    check_groups(user, book, &what, steps)?;
    let old = book.users.get(name);
    if let Some(old) = old {
        // What is so already needs no tool.
        step.uid = step.uid.filter(|uid| old.uid != Some(*uid));
        step.home = step.home.filter(|home| path::clean(home) != path::clean(&old.home));
        if old.fixed && step.changes() {
            return Err(Failure::new(what(), "the user stands in /usr/lib/passwd, which belongs to the distribution")
                .remedy("give only sshAuthorizedKeys for it, or choose another name"));
        }
    }
    if let Some((uid, owner)) = step.uid.and_then(|uid| Some((uid, book.uid_owner(uid)?))) {
        return Err(Failure::new(what(), format!("the uid {uid} belongs to the user {owner:?}"))
            .remedy("choose another uid, or leave it out"));
    }
    let accounts = world.facts().accounts.as_ref();
    let own_group = !exists
        && step.primary_group.is_none()
        && !step.no_user_group
        && accounts.is_none_or(|accounts| accounts.user_groups);
    if own_group && book.groups.contains_key(name) {
        return Err(Failure::new(
            what(),
            format!("a group {name:?} exists, so that the user can't get one of its own"),
        )
        .remedy(format!("set primaryGroup to {name:?}, or noUserGroup")));
    }
    let home = match (wanted_home(user), old) {
        (Some(home), _) => home.to_string(),
        (None, Some(old)) => old.home.clone(),
        (None, None) => default_home(name, accounts),
    };
    let person = Person {
        uid: step.uid.or_else(|| old.and_then(|old| old.uid)),
        gid: match &step.primary_group {
            Some(group) => book.groups.get(group).map_or_else(|| group.parse().ok(), |group| group.gid),
            None => old.and_then(|old| old.gid),
        },
        fixed: old.is_some_and(|old| old.fixed),
        home: home.clone(),
    };
    if own_group {
        book.groups.insert(name.clone(), Circle { gid: None, fixed: false });
    }
    book.users.insert(name.clone(), person);
    let makes_home = !step.no_create_home && (!exists || step.home.is_some());
    steps.push(Step::EnsureUser(step));
    plan_home(user, &home, makes_home, world, settings, steps)
}

fn delete_user(name: &str, book: &mut Book, world: &mut World<'_>, steps: &mut Vec<Step>) -> Result<(), Failure> {
    let Some(old) = book.users.remove(name) else { return Ok(()) };
    if old.fixed {
        let why = "the user stands in /usr/lib/passwd, which belongs to the distribution";
        return Err(Failure::new(format!("deleting the user {name:?}"), why).remedy("leave the user alone"));
    }
    let home = world.resolve(&old.home);
    if home != "/" {
        world.remove(&home);
    }
    steps.push(Step::DeleteUser { name: name.into() });
    Ok(())
}

/// The user as the configuration asks for it.
fn wanted_user(user: &PasswdUser, exists: bool, what: &dyn Fn() -> String) -> Result<User, Failure> {
    let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    for (value, name) in [
        (&user.gecos, "gecos"),
        (&user.home_dir, "homeDir"),
        (&user.shell, "shell"),
        (&user.password_hash, "passwordHash"),
    ] {
        field(value.as_ref(), name, what)?;
    }
    for (value, name) in [(&user.home_dir, "homeDir"), (&user.shell, "shell")] {
        if given(value).is_some_and(|value| !value.starts_with('/')) {
            return Err(Failure::new(what(), format!("{name} is no absolute path")).remedy("begin it with a slash"));
        }
    }
    let password = match user.password_hash.as_deref() {
        Some("") => Some("*"),
        Some(hash) => Some(hash),
        // A new user without a password is one that can't log in by password.
        None => (!exists).then_some("*"),
    };
    let new = |switch: Option<bool>| !exists && switch == Some(true);
    Ok(User {
        name: user.name.clone(),
        exists,
        uid: id(user.uid, "user").map_err(|failure| Failure { what: what(), ..failure })?,
        gecos: given(&user.gecos),
        home: given(&user.home_dir),
        no_create_home: new(user.no_create_home),
        no_user_group: new(user.no_user_group),
        no_log_init: new(user.no_log_init),
        system: new(user.system),
        primary_group: given(&user.primary_group),
        groups: user.groups.clone(),
        shell: given(&user.shell),
        password: password.map(Secret::new),
    })
}

/// All groups must be there; those that only the distribution's file has are copied, since the tools pass over them in silence.
fn check_groups(
    user: &PasswdUser,
    book: &mut Book,
    what: &dyn Fn() -> String,
    steps: &mut Vec<Step>,
) -> Result<(), Failure> {
    let primary = user.primary_group.as_ref().filter(|group| !group.is_empty());
    for (group, field) in primary
        .map(|group| (group, "primaryGroup"))
        .into_iter()
        .chain(user.groups.iter().map(|group| (group, "groups")))
    {
        if group.contains(',') || !book.finds_group(group) {
            return Err(Failure::new(what(), format!("there is no group {group:?}, which {field} names"))
                .remedy("add the group to passwd.groups of the configuration, or correct the name"));
        }
    }
    for name in &user.groups {
        if let Some(group) = book.groups.get_mut(name).filter(|group| group.fixed) {
            group.fixed = false;
            steps.push(Step::AdoptGroup { name: name.clone() });
        }
    }
    Ok(())
}

/// The home directory and the keys in it.
fn plan_home(
    user: &PasswdUser,
    home: &str,
    makes_home: bool,
    world: &mut World<'_>,
    settings: Settings,
    steps: &mut Vec<Step>,
) -> Result<(), Failure> {
    let name = &user.name;
    let place = world.resolve(home);
    let known = world.facts().nodes.contains_key(&path::clean(home));
    let standing = world.at(&place);
    match &standing {
        Standing::Nothing if makes_home => {
            world.label(&place);
            world.make(&place, Made::Directory);
            for (below, kind) in &world.facts().skeleton {
                let made = match kind {
                    NodeKind::Directory => Made::Directory,
                    NodeKind::Symlink(target) => Made::Symlink(target.clone()),
                    _ => Made::File,
                };
                world.make(&path::below(&place, below), made);
            }
        }
        // A link to a directory serves; where it leads isn't known here.
        Standing::Nothing | Standing::Directory | Standing::Symlink(_) => {}
        standing if makes_home => {
            let why = standing_in_the_way(&place, standing);
            return Err(Failure::new(format!("making the home directory {home} of the user {name:?}"), why)
                .remedy("set homeDir to another path"));
        }
        _ => {}
    }
    if user.no_create_home != Some(true) {
        let made = world.facts().made_directories.iter();
        let directories: Vec<_> = made.filter(|made| path::is_within(made, &place)).cloned().collect();
        if !directories.is_empty() {
            steps.push(Step::OwnHome { user: name.clone(), directories });
        }
    }
    if user.ssh_authorized_keys.is_empty() {
        return Ok(());
    }
    let what = || format!("writing the SSH keys of the user {name:?}");
    let usable = match world.at(&place) {
        Standing::Directory | Standing::Symlink(_) => true,
        Standing::Nothing => !known,
        _ => false,
    };
    if !usable {
        return Err(Failure::new(what(), format!("the home directory {home} isn't there"))
            .remedy("leave noCreateHome out, or set homeDir to a directory that is there"));
    }
    let file = if settings.keys_fragment { FRAGMENT } else { WHOLE };
    let key_file = world.resolve(&path::below(home, file));
    match world.at(&key_file) {
        Standing::Blocked(thing) => {
            return Err(Failure::new(what(), format!("{thing} is not a directory")).remedy("remove it from the target"));
        }
        Standing::Directory => {
            return Err(Failure::new(what(), format!("{key_file} is a directory")).remedy("remove it from the target"));
        }
        _ => {}
    }
    world.label(&key_file);
    world.make(&key_file, Made::File);
    steps.push(Step::AuthorizeKeys { user: name.clone(), file: file.into(), keys: user.ssh_authorized_keys.clone() });
    Ok(())
}
