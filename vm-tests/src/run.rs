// SPDX-License-Identifier: Apache-2.0
//! Runs cases, several at once, and sums up.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::Result;

use crate::case::{self, Case, Tier};
use crate::interrupt;
use crate::progress::say;
use crate::session::Session;

pub(crate) mod one;

/// Seconds from the first case's begin to the last one's end that a run of all cases may take on two cores.
const BUDGET: f64 = 1800.0;

/// What came of one case.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// The case's name.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
    /// How long its `case.toml` says that it takes.
    pub expected: u64,
    /// What differed from what the case expects; nothing: it passed.
    pub differences: Vec<String>,
    /// The harness itself failed: neither passed nor failed, and counted as failed.
    pub broken: Option<String>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Summary {
    /// One result a case, in the order in which they ended.
    pub results: Vec<CaseResult>,
    /// Seconds from the first case's begin to the last one's end.
    pub seconds: f64,
    /// Whether each case was broken on purpose and had to fail.
    pub sabotage: bool,
}

impl CaseResult {
    /// Whether this is what was to come out.
    pub fn is_good(&self, sabotage: bool) -> bool {
        self.broken.is_none() && self.differences.is_empty() != sabotage
    }
}

impl Summary {
    /// How many cases came out as they should.
    pub fn passed(&self) -> usize {
        self.results.iter().filter(|result| result.is_good(self.sabotage)).count()
    }

    /// How many didn't.
    pub fn failed(&self) -> usize {
        self.results.len() - self.passed()
    }

    /// The results, slowest first.
    pub fn slowest(&self) -> Vec<&CaseResult> {
        let mut results: Vec<_> = self.results.iter().collect();
        results.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
        results
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for result in self.results.iter().filter(|result| !result.is_good(self.sabotage)) {
            writeln!(out, "\nFAILED {}", result.name)?;
            if let Some(error) = &result.broken {
                writeln!(out, "  the harness: {error}")?;
            } else if self.sabotage {
                writeln!(out, "  passed although it was broken on purpose: it can't fail")?;
            }
            for difference in &result.differences {
                writeln!(out, "  {difference}")?;
            }
        }
        writeln!(out, "\nslowest cases:")?;
        for result in self.slowest().iter().take(10) {
            writeln!(out, "  {:6.1} s  {}", result.seconds, result.name)?;
        }
        let expected: u64 = self.results.iter().map(|result| result.expected).sum();
        let summed: f64 = self.results.iter().map(|result| result.seconds).sum();
        let over = if self.seconds > BUDGET { ", which is over" } else { "" };
        writeln!(out, "\nthe cases' own seconds: {expected} expected, {summed:.0} measured")?;
        writeln!(out, "the whole run: {:.0} s of a budget of {BUDGET:.0} s{over}", self.seconds)?;
        let kind = if self.sabotage { " (broken on purpose: passed means it went red)" } else { "" };
        write!(out, "VM cases{kind}: {} passed, {} failed, {:.0} s", self.passed(), self.failed(), self.seconds)
    }
}

/// Which cases a run takes.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// Those that every run of the tests takes.
    Every,
    /// All that there are.
    All,
    /// These.
    Named(&'a [String]),
}

/// Runs the cases that are chosen, `jobs` at once, the longest first.
///
/// # Errors
/// If a name is unknown, or the user interrupts. A case that fails is no error.
pub fn run(session: &Session, choice: Choice<'_>) -> Result<Summary> {
    let mut cases: Vec<Case> = match choice {
        Choice::Every => case::list()?.into_iter().filter(|case| case.tier == Tier::Every).collect(),
        Choice::All => case::list()?,
        Choice::Named(names) => names.iter().map(|name| case::load(name)).collect::<Result<_>>()?,
    };
    let mut known = BTreeSet::new();
    cases.retain(|case| known.insert(case.name.clone()));
    // Taken from the end.
    cases.sort_by_key(|case| case.seconds);
    let total = cases.len();
    let begun = Instant::now();
    let queue = Mutex::new(cases);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..session.options.jobs.clamp(1, total.max(1)) {
            scope.spawn(|| {
                while interrupt::check().is_ok() {
                    let Some(case) = lock(&queue).pop() else { break };
                    let result = run_one(session, &case);
                    let mut results = lock(&results);
                    results.push(result.clone());
                    let done = results.len();
                    drop(results);
                    tell(&result, done, total, session.options.sabotage);
                }
            });
        }
    });
    interrupt::check()?;
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Summary { results, seconds: begun.elapsed().as_secs_f64(), sabotage: session.options.sabotage })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run_one(session: &Session, case: &Case) -> CaseResult {
    say(format_args!("{}: begins (expected {} s)", case.name, case.seconds));
    let begun = Instant::now();
    let outcome = one::run(session, case, &mut one::Silent);
    let seconds = begun.elapsed().as_secs_f64();
    let (differences, broken) = match outcome {
        Ok(differences) => (differences, None),
        Err(error) => (Vec::new(), Some(format!("{error:#}"))),
    };
    CaseResult { name: case.name.clone(), seconds, expected: case.seconds, differences, broken }
}

fn tell(result: &CaseResult, done: usize, total: usize, sabotage: bool) {
    let word = if result.is_good(sabotage) { "ok" } else { "FAILED" };
    say(format_args!("{}: {word} in {:.1} s ({done} of {total})", result.name, result.seconds));
    if !result.is_good(sabotage) || sabotage {
        for line in result.differences.iter().chain(&result.broken) {
            say(format_args!("  {}: {line}", result.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_sabotage_the_other_way_round() {
        let result = |name: &str, differences: &[&str], broken: Option<&str>| CaseResult {
            name: name.to_owned(),
            seconds: 1.0,
            expected: 2,
            differences: differences.iter().map(ToString::to_string).collect(),
            broken: broken.map(str::to_owned),
        };
        let results = vec![result("green", &[], None), result("red", &["x"], None), result("broken", &[], Some("y"))];
        let plain = Summary { results: results.clone(), seconds: 3.0, sabotage: false };
        assert_eq!((plain.passed(), plain.failed()), (1, 2));
        let sabotaged = Summary { results: results[..2].to_vec(), seconds: 3.0, sabotage: true };
        assert_eq!((sabotaged.passed(), sabotaged.failed()), (1, 1));
        assert!(plain.to_string().ends_with("VM cases: 1 passed, 2 failed, 3 s"));
        assert!(sabotaged.to_string().contains("it can't fail"));
        let broken = Summary { results, seconds: 3.0, sabotage: true };
        assert_eq!((broken.passed(), broken.failed()), (1, 2), "a machine that died is not red");
        let end = format!("6 expected, 3 measured\nthe whole run: 3 s of a budget of {BUDGET} s\n");
        assert!(plain.to_string().contains(&end), "{plain}");
        let slow = Summary { seconds: BUDGET + 0.5, ..plain };
        assert!(slow.to_string().contains("which is over\n"), "{slow}");
    }
}
