// SPDX-License-Identifier: Apache-2.0
//! Deployments are administered by OSTree's own programs: `ostree admin`, or rpm-ostree, whose daemon holds the same lock.
//!
//! rpm-ostree has one command for the default, `rpm-ostree rollback`: it makes the deployment after the running one the default, of those
//! of its stateroot, or, if there is none, the running one (rpm-ostree's `rollback_transaction_execute`; its man page tells it otherwise).
//! `ostree admin set-default` takes any, since 2023.6. rpm-ostree goes first where one call of its does what is wanted: it is the one whose
//! state users look at. An OSTree without `set-default` gets by with several calls.
//!
//! An update that is staged becomes the default when the machine is shut down, whatever is the default until then, and OSTree drops it
//! without a word when the list is written anew: it is dropped here, in words, before another default is chosen.

use std::path::PathBuf;

use fledge_core::counting::Id;
use fledge_core::diag::Failure;

use crate::programs::{OSTREE, Programs, RPM_OSTREE};

/// The programs that administer deployments.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    /// Where programs are.
    pub programs: Programs,
    /// The physical root of a system that isn't running.
    pub sysroot: Option<PathBuf>,
}

/// A deployment as `ostree admin status` lists it. Its place in that list is the index that OSTree's commands take.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// Which.
    pub id: Id,
    /// Whether it runs.
    pub running: bool,
    /// Whether it takes effect when the machine is shut down, at once or once its finalization is unlocked.
    pub staged: bool,
    /// Whether OSTree keeps it whatever is deployed.
    pub pinned: bool,
}

/// How to make a deployment the default.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// It is already.
    Already,
    /// So many calls of `rpm-ostree rollback`.
    Rollback(usize),
    /// `ostree admin set-default`.
    SetDefault,
}

impl Admin {
    /// The deployments in OSTree's order.
    ///
    /// # Errors
    /// OSTree isn't there, fails, or prints what can't be understood.
    pub fn list(&self) -> Result<Vec<Line>, Failure> {
        let text = self.ostree(&["status"])?;
        let lines = lines(&text);
        if lines.is_empty() {
            return Err(Failure::new("listing the deployments", "`ostree admin status` names none")
                .remedy("run `ostree admin status` and see what is wrong"));
        }
        Ok(lines)
    }

    /// Makes a deployment the one that OSTree lists first, which the bootloader starts by itself. A staged update, which would take its
    /// place, is dropped. Says whether anything was to be done.
    ///
    /// # Errors
    /// It isn't there, no program can do it, or the program fails.
    pub fn set_default(&self, id: &Id) -> Result<bool, Failure> {
        let rollback = self.sysroot.is_none() && self.programs.find(RPM_OSTREE).is_some();
        let knows_set_default = self.knows_set_default()?;
        let lines = self.list()?;
        // Nothing is dropped for what can't be done.
        let way = choose(&lines, id, rollback, knows_set_default)?;
        let dropped = self.drop_staged(&lines)?;
        match way {
            Way::Already => return Ok(dropped),
            Way::SetDefault => {}
            Way::Rollback(calls) => {
                let rolled = (0..calls).try_for_each(|_| self.programs.run(RPM_OSTREE, &["rollback"]).map(drop));
                let rolled = rolled.and_then(|()| self.is_first(id));
                match rolled {
                    Ok(()) => return Ok(true),
                    Err(failure) if !knows_set_default => return Err(failure),
                    Err(failure) => log::warn!("{failure}\n`ostree admin set-default` does it instead"),
                }
            }
        }
        let index = index(&self.list()?, id)?;
        self.ostree(&["set-default", &index.to_string()])?;
        self.is_first(id).map(|()| true)
    }

    /// Drops the update that would become the default when the machine is shut down. Says whether there was one.
    fn drop_staged(&self, lines: &[Line]) -> Result<bool, Failure> {
        let Some((index, line)) = lines.iter().enumerate().find(|(_, line)| line.staged) else { return Ok(false) };
        log::warn!(
            "the staged update {} is dropped: it would become the default when the machine is shut down",
            line.id
        );
        self.ostree(&["undeploy", &index.to_string()])?;
        Ok(true)
    }

    /// What a program says it did isn't what counts.
    fn is_first(&self, id: &Id) -> Result<(), Failure> {
        if self.list()?.first().is_some_and(|first| first.id == *id) {
            return Ok(());
        }
        Err(Failure::new(
            format!("making {id} the default"),
            "the command succeeded, but another one is first in the list",
        )
        .remedy("look at `ostree admin status`; another program may be deploying at the same time"))
    }

    /// Pins a deployment, so that OSTree keeps it whatever is deployed, or lets go of it.
    ///
    /// # Errors
    /// It isn't there, or OSTree fails, or does it to another one.
    pub fn pin(&self, id: &Id, pinned: bool) -> Result<(), Failure> {
        let index = index(&self.list()?, id)?.to_string();
        let args: &[&str] = if pinned { &["pin", &index] } else { &["pin", "--unpin", &index] };
        self.ostree(args)?;
        // The index is of a list that another program may have changed meanwhile.
        if self.list()?.iter().any(|line| line.id == *id && line.pinned == pinned) {
            return Ok(());
        }
        let (what, how) = if pinned { ("pinning", "isn't pinned") } else { ("unpinning", "is still pinned") };
        Err(Failure::new(format!("{what} {id}"), format!("the command succeeded, but the deployment {how}")).remedy(
            "look at `ostree admin status`: another program may have deployed at the same time, and another deployment be the one that was meant",
        ))
    }

    fn knows_set_default(&self) -> Result<bool, Failure> {
        let help = self.programs.output(OSTREE, &["admin", "--help"])?;
        let text = help.stdout + &help.stderr;
        Ok(text.lines().any(|line| line.split_whitespace().next() == Some("set-default")))
    }

    fn ostree(&self, args: &[&str]) -> Result<String, Failure> {
        let sysroot = self.sysroot.as_ref().map(|root| format!("--sysroot={}", root.display()));
        let all: Vec<&str> = ["admin"].into_iter().chain(args.iter().copied()).chain(sysroot.as_deref()).collect();
        Ok(self.programs.run(OSTREE, &all)?.stdout)
    }
}

/// The deployments of `ostree admin status`: a mark, the stateroot, the commit and serial, and what it is; more of it in lines that follow.
fn lines(text: &str) -> Vec<Line> {
    let mut all: Vec<Line> = Vec::new();
    for text in text.lines() {
        if let Some(line) = line(text) {
            all.push(line);
        } else if let (Some(last), "Pinned: yes") = (all.last_mut(), text.trim()) {
            last.pinned = true;
        }
    }
    all
}

/// `* STATEROOT CHECKSUM.SERIAL (staged)`: the mark is a star for the running one, and else a space. One whose finalization is locked, as
/// update agents stage it, is staged as well, and called `(finalization locked)` alone since 2023.8 (`ot-admin-builtin-status.c`).
fn line(line: &str) -> Option<Line> {
    let mut chars = line.chars();
    let running = match chars.next()? {
        '*' => true,
        ' ' => false,
        _ => return None,
    };
    let rest = chars.as_str().strip_prefix(' ').filter(|rest| !rest.starts_with(' '))?;
    let mut words = rest.split_whitespace();
    let id = Id::new(words.next()?, words.next()?)?;
    let staged = ["(staged)", "(finalization locked)"].iter().any(|what| rest.contains(what));
    Some(Line { id, running, staged, pinned: false })
}

fn index(lines: &[Line], id: &Id) -> Result<usize, Failure> {
    lines.iter().position(|line| line.id == *id).ok_or_else(|| {
        Failure::new(format!("looking for the deployment {id}"), "`ostree admin status` doesn't list it")
            .remedy("see `fledgectl status` for those that are there")
    })
}

/// How to do it. A staged one, which is dropped first, doesn't count.
fn choose(lines: &[Line], id: &Id, rollback: bool, set_default: bool) -> Result<Way, Failure> {
    index(lines, id)?;
    let mut order: Vec<&Line> = lines.iter().filter(|line| !line.staged).collect();
    if order.first().is_some_and(|first| first.id == *id) {
        return Ok(Way::Already);
    }
    let mut calls = 0;
    if rollback {
        // It moves one to the front each time: soon all states were there.
        while calls < lines.len() && order.first().is_none_or(|first| first.id != *id) && rolled_back(&mut order) {
            calls += 1;
        }
    }
    let reached = order.first().is_some_and(|first| first.id == *id);
    match (reached, set_default) {
        (true, true) if calls == 1 => Ok(Way::Rollback(1)),
        (_, true) => Ok(Way::SetDefault),
        (true, false) => Ok(Way::Rollback(calls)),
        (false, false) => {
            let why = if rollback {
                "this OSTree has no `ostree admin set-default`, which came with 2023.6, and `rpm-ostree rollback` never chooses this deployment"
            } else {
                "this OSTree has no `ostree admin set-default`, which came with 2023.6, and there is no rpm-ostree"
            };
            Err(Failure::new(format!("making {id} the default"), why)
                .remedy("choose it in the bootloader's menu, or deploy its commit once more"))
        }
    }
}

/// What `rpm-ostree rollback` makes of the order. Says whether it would do anything.
fn rolled_back(order: &mut [&Line]) -> bool {
    let Some(running) = order.iter().position(|line| line.running) else { return false };
    let Some(stateroot) = order.get(running).map(|line| line.id.stateroot().to_owned()) else { return false };
    let of_stateroot = |line: &&Line| line.id.stateroot() == stateroot;
    let after = order.iter().skip(running + 1).position(of_stateroot).map(|at| running + 1 + at);
    let before = order.iter().take(running).any(of_stateroot);
    let Some(chosen) = after.or(before.then_some(running)) else { return false };
    if let Some(moved) = order.get_mut(..=chosen) {
        moved.rotate_right(1);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "  nestos bb.0 (staged)\n    Version: 3\n    origin refspec: nestos/x\n\
        * nestos aa.0\n    Version: 2\n    Pinned: yes\n  nestos 99.1 (rollback)\n    origin: <unknown origin type>\n  other-root 88.0\n";

    fn id(stateroot: &str, deployment: &str) -> Id {
        Id::new(stateroot, deployment).unwrap()
    }

    #[test]
    fn reads_what_ostree_lists() {
        let lines = lines(TEXT);
        assert_eq!(lines.len(), 4);
        assert!(lines[0].staged && !lines[0].running && !lines[0].pinned);
        assert!(lines[1].running && lines[1].id == id("nestos", "aa.0") && lines[1].pinned);
        assert!(!lines[2].pinned && !lines[2].staged);
        assert_eq!(index(&lines, &id("other-root", "88.0")).unwrap(), 3, "a staged one has a place, too");
        assert!(index(&lines, &id("nestos", "88.0")).unwrap_err().remedy.is_some());
    }

    /// As OSTree since 2023.8 lists what was staged with its finalization locked, and a newer one what a soft reboot goes to.
    #[test]
    fn one_whose_finalization_is_locked_is_staged() {
        let lines = lines(
            "  nestos bb.0 (finalization locked)\n    Version: 3\n* nestos aa.0\n    Version: 2\n  nestos 99.0 (rollback) (soft-reboot)\n",
        );
        assert_eq!(lines.iter().map(|line| line.staged).collect::<Vec<_>>(), [true, false, false]);
    }

    fn list(ids: &[&Id], running: usize) -> Vec<Line> {
        let line =
            |(at, id): (usize, &&Id)| Line { id: (*id).clone(), running: at == running, staged: false, pinned: false };
        ids.iter().enumerate().map(line).collect()
    }

    #[test]
    fn the_way_is_the_one_that_does_what_is_wanted() {
        let (first, second, other) = (id("n", "aa.0"), id("n", "bb.0"), id("m", "cc.0"));
        let way = |running, id: &Id, rpm, set| choose(&list(&[&first, &second, &other], running), id, rpm, set);
        for rpm in [false, true] {
            assert_eq!(way(0, &first, rpm, true), Ok(Way::Already));
            assert_eq!(way(1, &first, rpm, true), Ok(Way::Already));
            assert_eq!(way(0, &other, rpm, true), Ok(Way::SetDefault), "another stateroot's");
            assert!(way(0, &other, rpm, false).is_err());
        }
        assert_eq!(way(0, &second, true, true), Ok(Way::Rollback(1)));
        assert_eq!(way(0, &second, false, true), Ok(Way::SetDefault));
        assert!(way(0, &second, false, false).unwrap_err().why.contains("no rpm-ostree"));
        // The running one isn't the first, and none of its stateroot comes after it: rollback makes it the first.
        assert_eq!(way(1, &second, true, false), Ok(Way::Rollback(1)));
        assert_eq!(way(2, &second, true, true), Ok(Way::SetDefault));
    }

    #[test]
    fn with_an_older_deployment_rollback_takes_that_one_first() {
        let (bad, good, older) = (id("n", "aa.0"), id("n", "bb.0"), id("n", "cc.0"));
        let lines = list(&[&bad, &good, &older], 1);
        assert_eq!(choose(&lines, &good, true, true), Ok(Way::SetDefault));
        // To the front come the older one, then the running one.
        assert_eq!(choose(&lines, &good, true, false), Ok(Way::Rollback(2)));
        let mut list: Vec<&Line> = lines.iter().collect();
        assert!(rolled_back(&mut list) && list[0].id == older);
        assert!(rolled_back(&mut list) && list[0].id == good);
    }

    #[test]
    fn a_staged_update_is_dropped_first_and_does_not_count() {
        let (first, second) = (id("n", "aa.0"), id("n", "bb.0"));
        let mut lines = list(&[&first, &second], 0);
        lines.insert(0, Line { id: id("n", "dd.0"), running: false, staged: true, pinned: false });
        assert_eq!(choose(&lines, &second, true, true), Ok(Way::Rollback(1)));
        assert_eq!(choose(&lines, &second, false, true), Ok(Way::SetDefault));
        assert_eq!(choose(&lines, &first, true, true), Ok(Way::Already));
    }
}
