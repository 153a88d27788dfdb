// SPDX-License-Identifier: Apache-2.0
//! The status as people read it.

use std::fmt;

use fledge_core::counting::Verdict as Selected;
use fledge_core::diag::Failure;

use super::{Counted, Status, Try, short};

/// Before what belongs to a deployment: words stand below its columns.
const INDENT: &str = "       ";

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of a system that isn't running there is nothing to say but what is on its disk.
        if self.booted {
            self.this_boot(f)?;
            writeln!(f)?;
        }
        if self.is_unknown("deployments") {
            writeln!(f, "Which deployments there are isn't known.")?;
        } else if self.deployments.is_empty() {
            writeln!(f, "No boot entry starts a deployment.")?;
        } else {
            self.table(f)?;
        }
        if self.staged {
            writeln!(
                f,
                "\nAn update is staged: it becomes the default when the machine is shut down, unless its finalization is locked."
            )?;
        }
        if let Some(Counted { left, tried, fallback }) = &self.starts {
            let tried = self.row(tried).map_or_else(|| short(tried), super::Row::name);
            match left {
                Some(0) => writeln!(f, "\nGRUB counts starts of {tried}: none is left, it starts {fallback} instead.")?,
                Some(left) => writeln!(
                    f,
                    "\nGRUB counts starts of {tried} until one arrives: {left} left, then it starts {fallback} instead."
                )?,
                None => writeln!(f, "\nGRUB counted starts of {tried}, and has started {fallback} instead.")?,
            }
        }
        for remark in &self.remarks {
            writeln!(f, "\nnote: {remark}")?;
        }
        Ok(())
    }
}

impl Status {
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.deployments.iter().map(|row| row.short().len()).max().unwrap_or_default();
        writeln!(f, "   #  {:<width$}  {:<8}  {:<18}  title", "deployment", "verdict", "")?;
        for row in &self.deployments {
            let marks = [(row.running, "running"), (row.default, "default"), (row.pinned, "pinned")];
            let marks: Vec<&str> = marks.into_iter().filter_map(|(is, mark)| is.then_some(mark)).collect();
            let star = if row.running { '*' } else { ' ' };
            let line = format!(
                "{star}{:>3}  {:<width$}  {:<8}  {:<18}  {}",
                row.index,
                row.short(),
                row.verdict,
                marks.join(", "),
                row.title
            );
            writeln!(f, "{}", line.trim_end())?;
            writeln!(f, "{INDENT}{}", row.why)?;
            row.attempts.iter().try_for_each(|attempt| writeln!(f, "{INDENT}  {attempt}"))?;
            row.traceless().map_or(Ok(()), |words| writeln!(f, "{INDENT}  {words}"))?;
        }
        Ok(())
    }

    fn this_boot(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.exhausted, self.way_out()) {
            (None, _) if self.is_unknown("exhausted") => {
                writeln!(f, "Whether a deployment is left to fall back to isn't known.")?;
            }
            (None, _) => {}
            (Some(why), None) if self.is_unknown("deployments") => {
                writeln!(f, "THE MACHINE CAN'T GO TO ANOTHER DEPLOYMENT BY ITSELF: {why}")?;
            }
            (Some(why), None) => writeln!(f, "NO DEPLOYMENT IS LEFT to fall back to: {why}")?,
            (Some(why), Some(row)) => writeln!(
                f,
                "THE MACHINE COULD NOT LEAVE THIS DEPLOYMENT BY ITSELF: {why}\n         to boot {}: fledgectl rollback --reboot {}",
                row.name(),
                row.index
            )?,
        }
        match &self.boot {
            None if self.is_unknown("boot") => writeln!(f, "boot:    unknown: it can't be read what selected it")?,
            None => writeln!(f, "boot:    nothing selected it: a first boot, or an initramfs without Fledge")?,
            Some(boot) => {
                let what = match boot.verdict {
                    Selected::NotCounted => "not counted",
                    Selected::Blessed => "not counted: the deployment is good",
                    Selected::Counted => "counted",
                    Selected::FellBack => "FELL BACK",
                    Selected::Rebooting => "was to reboot into another deployment",
                    Selected::Exhausted => "EXHAUSTED",
                    Selected::CouldNotCount => "COULD NOT BE COUNTED",
                };
                writeln!(f, "boot:    {what}; {}", boot.reason)?;
                if let Some(bad) = &boot.instead_of {
                    writeln!(
                        f,
                        "         in the stead of {}",
                        self.row(bad).map_or_else(|| short(bad), super::Row::name)
                    )?;
                }
            }
        }
        let Some(health) = &self.health else {
            let what = if self.is_unknown("health") { "unknown: it can't be read" } else { "not checked yet" };
            return writeln!(f, "health:  {what}");
        };
        let ran = health.checks.iter().filter(|check| check.outcome.is_run()).count();
        let what = if health.healthy { "healthy" } else { "NOT HEALTHY" };
        writeln!(f, "health:  {what}; checks run: {ran}, failed: {}", health.failed().count())?;
        health.failed().try_for_each(|check| writeln!(f, "         {check}"))?;
        health.end.iter().try_for_each(|end| writeln!(f, "         {end}"))?;
        health.problems.iter().try_for_each(|problem| writeln!(f, "         {}: {}", problem.what, problem.why))?;
        health.stays.iter().try_for_each(|why| writeln!(f, "         the machine isn't rebooted by itself: {why}"))?;
        let undone =
            |problem: &Failure| writeln!(f, "         could not be done after it: {}: {}", problem.what, problem.why);
        health.undone.iter().try_for_each(undone)
    }
}

impl fmt::Display for Try {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            0 => write!(f, "an earlier try: ")?,
            number => write!(f, "try {number}: ")?,
        }
        match &self.end {
            Some(end) => f.write_str(end)?,
            None => f.write_str("it didn't say why it ended: it hung, lost its power, panicked or was rebooted")?,
        }
        match &self.journal {
            Some(journal) => write!(f, " [{}]", journal.display()),
            None => f.write_str(" [no journal was kept]"),
        }
    }
}
