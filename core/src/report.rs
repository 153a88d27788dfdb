// SPDX-License-Identifier: Apache-2.0
//! What was done on a first boot: the file `/run/fledge/report.json`, kept as `/var/lib/fledge/first-boot.json`.
//!
//! Reading it is enough to know what was done, in which order, how long it took, and from which configuration each item
//! came. It carries no secret: steps are the words of the plan ([`crate::plan`]).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::diag::{Diagnostic, Failure, Place};
use crate::origin::Sources;
use crate::stage::Stage;

/// The version of the file's form that this build writes.
pub const VERSION: u32 = 1;

/// One first boot.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The program that wrote it, with its version.
    pub program: String,
    /// The boot's id, as in `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// The configurations that took part.
    #[serde(default)]
    pub sources: Sources,
    /// The stages, in the order in which they ran.
    #[serde(default)]
    pub stages: Vec<StageReport>,
    /// What was done around them to the disk of the root, in the order in which it was done ([`crate::root`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub root: Vec<StepReport>,
}

/// One run of one stage.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// Which stage.
    pub stage: Stage,
    /// Start, in milliseconds since the machine booted.
    pub start_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How it ended.
    pub outcome: StageOutcome,
    /// What the configurations were warned about in this stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<Diagnostic>,
    /// Its steps, in the order in which they were carried out.
    #[serde(default)]
    pub steps: Vec<StepReport>,
    /// What it took of the machine's memory.
    #[serde(default)]
    pub memory: Memory,
}

/// Peaks of resident memory, in KiB.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Of this process (`VmHWM` in proc(5)).
    pub own_kib: u64,
    /// Of the largest program that it ran (`ru_maxrss` in getrusage(2)).
    pub children_kib: u64,
}

/// How a stage ended.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageOutcome {
    /// All that the configuration asked for is so.
    Done,
    /// The configuration can't be had without a network; `fetch` goes on from here.
    NeedsNetwork,
    /// The stage stopped; the machine doesn't boot on.
    Failed(Vec<Failure>),
}

/// One step.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// What was to be done, in the words of the plan.
    pub what: String,
    /// Which part of which configuration asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// How it ended.
    pub outcome: StepOutcome,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// It was carried out.
    Done,
    /// It was so before.
    AlreadySo,
    /// It failed; the stage's outcome says why.
    Failed,
}

impl Report {
    /// An empty report of one boot.
    pub fn new(program: impl Into<String>, boot_id: impl Into<String>) -> Self {
        Self {
            version: VERSION,
            program: program.into(),
            boot_id: boot_id.into(),
            sources: Sources::default(),
            stages: Vec::new(),
            root: Vec::new(),
        }
    }
}

impl fmt::Display for Report {
    /// A table: a line a stage, indented lines for its steps, failures in full.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, boot {}", self.program, self.boot_id)?;
        for source in &self.sources.0 {
            writeln!(f, "config: {} (sha512 {}…)", source.name, source.sha512.get(..12).unwrap_or(&source.sha512))?;
        }
        writeln!(f, "{:>10} {:>9}  {:<10} what", "start", "took", "result")?;
        for stage in &self.stages {
            stage.fmt(f)?;
        }
        if !self.root.is_empty() {
            writeln!(f, "{:>32}the root and its disk, around the stages", "")?;
        }
        self.root.iter().try_for_each(|step| step.fmt(f))
    }
}

impl fmt::Display for StageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = match &self.outcome {
            StageOutcome::Done => "done",
            StageOutcome::NeedsNetwork => "needs net",
            StageOutcome::Failed(_) => "FAILED",
        };
        writeln!(
            f,
            "{:>7} ms {:>6} ms  {result:<10} {}, at most {} KiB of memory",
            self.start_ms, self.took_ms, self.stage, self.memory.own_kib
        )?;
        self.steps.iter().try_for_each(|step| step.fmt(f))?;
        for remark in &self.remarks {
            writeln!(f, "{:>32}{remark}", "")?;
        }
        if let StageOutcome::Failed(failures) = &self.outcome {
            for failure in failures {
                writeln!(f, "{failure}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for StepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = match self.outcome {
            StepOutcome::Done => "done",
            StepOutcome::AlreadySo => "already so",
            StepOutcome::Failed => "FAILED",
        };
        write!(f, "{:>10} {:>6} ms  {result:<10}   {}", "", self.took_ms, self.what)?;
        match &self.place {
            Some(place) => writeln!(f, "  [{place}]"),
            None => writeln!(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    fn report() -> Report {
        let mut report = Report::new("fledge 0.1.0", "b007");
        report.stages.push(StageReport {
            stage: Stage::Files,
            start_ms: 4200,
            took_ms: 31,
            outcome: StageOutcome::Failed(vec![Failure::new("writing /etc/motd", "No space left on device")]),
            remarks: Vec::new(),
            memory: Memory { own_kib: 3072, children_kib: 0 },
            steps: vec![
                StepReport {
                    what: "create the directory /opt".into(),
                    place: None,
                    outcome: StepOutcome::AlreadySo,
                    took_ms: 0,
                },
                StepReport {
                    what: "write /etc/motd".into(),
                    place: Some(Place { source: "user.ign".into(), path: "$.storage.files.0".into(), position: None }),
                    outcome: StepOutcome::Failed,
                    took_ms: 12,
                },
            ],
        });
        report
    }

    #[test]
    fn the_table_tells_what_failed_and_why() {
        let text = report().to_string();
        assert!(text.contains("FAILED       write /etc/motd  [user.ign at $.storage.files.0]"), "{text}");
        assert!(text.contains("\nwriting /etc/motd: No space left on device\n"), "{text}");
        assert!(text.contains("already so   create the directory /opt\n"), "{text}");
    }

    #[test]
    fn reading_back_gives_the_same() {
        let report = report();
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
