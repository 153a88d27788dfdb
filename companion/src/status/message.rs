// SPDX-License-Identifier: Apache-2.0
//! The message of the day: what whoever logs in has to know. A machine on which all is well says nothing.

use std::fmt::Write as _;

use super::{Row, Status, Verdict, printable, short, shortened};
use crate::duty::never_arrived;

/// As wide as a text console is at least.
const RULE: &str = "==============================================================================";

/// The words for logins, if there is anything to say.
pub fn of_the_day(status: &Status) -> Option<String> {
    let parts: Vec<String> =
        [exhausted(status), unhealthy(status), undone(status), fallen_back(status)].into_iter().flatten().collect();
    if parts.is_empty() {
        return None;
    }
    Some(printable(&format!("{RULE}\n{}\nMore: fledgectl status\n{RULE}\n", shortened(&parts.join("\n")))))
}

fn exhausted(status: &Status) -> Option<String> {
    let why = status.exhausted.as_ref()?;
    if let Some(row) = status.way_out() {
        let what = if row.verdict == Verdict::Good { "which is good" } else { "which nobody has seen healthy yet" };
        return Some(format!(
            "THIS MACHINE COULD NOT LEAVE THIS DEPLOYMENT BY ITSELF: {why}.\n\
            It runs on as it is, and isn't rebooted by itself any more.\n\
            There is {}, {what}.\n\
            To boot that one: fledgectl rollback --reboot {}\n",
            row.name(),
            row.index
        ));
    }
    // One may be left: then this says so once the boot entries can be read.
    if status.is_unknown("deployments") {
        return Some(format!(
            "THIS MACHINE CAN'T GO TO ANOTHER DEPLOYMENT BY ITSELF: {why}.\n\
            It runs on as it is, and isn't rebooted by itself any more.\n\
            Which deployments are left isn't known: the boot entries can't be read.\n"
        ));
    }
    // What is bad isn't marked as good by a healthy boot.
    let bad = status.running().is_some_and(|row| row.verdict == Verdict::Bad);
    let then = if bad { "\n  fledgectl bless" } else { "" };
    Some(format!(
        "NO DEPLOYMENT OF THIS MACHINE IS LEFT that gets healthy: {why}.\n\
        It runs on as it is, and isn't rebooted by itself any more.\n\
        What to do: deploy another version, and reboot. Or repair this one, then\n  \
        systemctl restart fledge-health\n  \
        systemctl start fledge-bless{then}\n"
    ))
}

fn unhealthy(status: &Status) -> Option<String> {
    let health = status.health.as_ref().filter(|health| !health.healthy)?;
    let mut text = "THIS BOOT IS NOT HEALTHY.\n".to_owned();
    for why in health.failed().map(ToString::to_string).chain(health.end.clone()) {
        // Writing to a String can't fail.
        let _ = writeln!(text, "  {why}");
    }
    for problem in &health.problems {
        let _ = writeln!(text, "  {}: {}", problem.what, problem.why);
    }
    if let Some(why) = health.stays.as_ref().filter(|_| status.exhausted.is_none()) {
        let _ = writeln!(text, "The machine isn't rebooted by itself: {why}.");
    }
    text.push_str("What the checks wrote: journalctl -b -u fledge-health.service\n");
    Some(text)
}

/// A healthy boot after which not all could be done that follows.
fn undone(status: &Status) -> Option<String> {
    let health = status.health.as_ref().filter(|health| health.healthy && !health.undone.is_empty())?;
    let mut text = "THIS BOOT IS HEALTHY, BUT WHAT FOLLOWS A HEALTHY BOOT COULD NOT BE DONE.\n".to_owned();
    for failure in &health.undone {
        let _ = writeln!(text, "  {failure}");
    }
    if status.running().is_some_and(|row| !matches!(row.verdict, Verdict::Good | Verdict::Bad)) {
        text.push_str(
            "The deployment isn't marked as good. Until it is, its boots are counted, and the machine\n\
            leaves it when its tries are used up.\n",
        );
    }
    text.push_str("Once that is mended: systemctl restart fledge-bless\n");
    Some(text)
}

/// The deployment that failed: the one in whose stead this boot is, or one that is still there and marked as bad.
fn fallen_back(status: &Status) -> Option<String> {
    let boot = status.boot.as_ref();
    let failed = boot.and_then(|boot| boot.instead_of.as_ref());
    let is_over = |row: &&Row| row.verdict == Verdict::Bad && !row.running;
    let row = match failed {
        Some(id) => status.row(id),
        None => status.deployments.iter().find(is_over),
    };
    let name = match (row, failed) {
        (Some(row), _) => row.name(),
        (None, Some(id)) => short(id),
        (None, None) => return None,
    };
    let running = status.running().map_or_else(|| "another deployment".to_owned(), Row::name);
    let mut text = match failed {
        Some(_) => {
            format!("THIS MACHINE FELL BACK to an earlier deployment.\n  failed:  {name}\n  running: {running}\n")
        }
        None => format!(
            "A deployment failed on this machine, and isn't booted by itself any more.\n  failed:  {name}\n  running: {running}\n"
        ),
    };
    if let Some(words) = boot.and_then(never_arrived) {
        // Writing to a String can't fail.
        let _ = writeln!(text, "  {words}");
    }
    // Those of an earlier round are in the status.
    for attempt in row.iter().flat_map(|row| &row.attempts).filter(|attempt| attempt.number > 0) {
        let _ = writeln!(text, "  {attempt}");
    }
    if let Some(words) = row.and_then(Row::traceless) {
        let _ = writeln!(text, "  {words}");
    }
    let same = status.running().zip(row).is_some_and(|(running, row)| running.stateroot == row.stateroot);
    if same {
        text.push_str("/etc is that of the running deployment; /var is as the failed one left it.\n");
    }
    if let Some(Row { index, .. }) = row {
        let _ = writeln!(
            text,
            "To try it once more: fledgectl bless --forget {index}; fledgectl rollback --reboot {index}"
        );
    }
    Some(text)
}
