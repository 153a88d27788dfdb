// SPDX-License-Identifier: Apache-2.0
//! The table of Ignition's operator notes, and what must hold of any configuration.
#![allow(clippy::cast_possible_truncation, reason = "images here are small")]

mod power_cut;
mod properties;
mod rules;
use alloc::string::{String, ToString};

use super::*;
use crate::gpt::Partition;
use crate::origin::{Source, SourceKind};
use crate::plan::{Plan, check};

/// 2 GiB, sectors of 512 bytes.
const DISK: Geometry = Geometry { sector: 512, sectors: 4 << 20 };

fn configuration(disks: &str) -> (Config, Sources) {
    let text = format!("{{\"ignition\": {{\"version\": \"3.6.0\"}},\n\"storage\": {{\"disks\": {disks}}}}}");
    let mut sources = Sources::default();
    sources.add(Source { name: "test".into(), kind: SourceKind::User, referenced: false, sha512: String::new() });
    (config::parse_unchecked(&text, Some(0)), sources)
}

fn disk(geometry: Geometry, holds: Found) -> Disk {
    Disk {
        device: "/dev/vdb".into(),
        node: "/dev/vdb".into(),
        sector: geometry.sector,
        sectors: geometry.sectors,
        read_only: false,
        part_of: None,
        identity: "serial 7".into(),
        holds,
        uses: Vec::new(),
    }
}

fn facts(disk: Disk) -> Facts {
    Facts { disks: vec![disk], ..Facts::default() }
}

fn partition(number: u32, start: u64, size: u64, label: &str) -> Partition {
    Partition {
        number,
        start,
        end: start + size - 1,
        kind: Guid::LINUX_DATA,
        guid: Guid::derived(&[label.as_bytes()]),
        label: label.into(),
        name: None,
        attributes: 0,
    }
}

fn gpt(geometry: Geometry, partitions: &[Partition]) -> Gpt {
    let mut table = Table::fresh(geometry, Guid::derived(&[b"old"])).unwrap();
    table.partitions = partitions.to_vec();
    Gpt { table, backup: geometry.last(), hybrid: Vec::new(), flaws: Vec::new() }
}

/// The steps for a configuration of disks.
fn steps(disks: &str, facts: &Facts) -> Result<Vec<Step>, Vec<Failure>> {
    let (config, sources) = configuration(disks);
    let plan = Plan { stage: crate::stage::Stage::Disks, steps: plan(&config, facts, &sources)? };
    check(&plan).unwrap_or_else(|faults| panic!("{plan}\n{faults:?}"));
    let step = |planned: PlannedStep| match planned.step {
        crate::plan::Step::Partition(step) => step,
        other => panic!("{other}"),
    };
    Ok(plan.steps.into_iter().map(step).collect())
}

/// What a configuration with these partitions makes of a disk with those.
fn told(partitions: &str, there: &[Partition]) -> String {
    match steps(
        &format!("[{{\"device\": \"/dev/vdb\", \"partitions\": [{partitions}]}}]"),
        &facts(disk(DISK, Found::Gpt(gpt(DISK, there)))),
    ) {
        Ok(steps) => brief(steps.first().unwrap()),
        Err(failures) => format!("refused: {}: {}", failures[0].what, failures[0].why),
    }
}

/// Every partition that there will be, and what is done, without GUIDs.
fn brief(step: &Step) -> String {
    let mut words: Vec<String> = Vec::new();
    for change in &step.changes {
        let deed = match &change.deed {
            Deed::Keep => "keep".into(),
            Deed::Make => "make".into(),
            Deed::Resize { from } => format!("resize from {from}"),
            Deed::Replace { label } => format!("replace {label}"),
            Deed::Delete { label } => format!("delete {label}"),
        };
        words.push(format!("{deed} {}", change.number));
    }
    for Partition { number, start, end, label, .. } in step.table.iter().flat_map(|table| &table.partitions) {
        words.push(format!("{number}:{label} {start}-{end}"));
    }
    words.push(if step.write { "write".into() } else { "as it is".into() });
    words.join(", ")
}

#[test]
fn a_plan_reads_well() {
    let mut used = disk(
        DISK,
        Found::Gpt(gpt(
            DISK,
            &[partition(1, 2048, 2048, "boot"), partition(2, 4096, 2048, "old"), partition(3, 8192, 2048, "gone")],
        )),
    );
    used.uses.push(crate::facts::Use { number: Some(1), device: "/dev/vdb1".into(), how: "mounted at /boot".into() });
    let facts = facts(used);
    let (config, sources) = configuration(
        r#"[{"device": "/dev/vdb", "partitions": [
  {"number": 1, "label": "boot"},
  {"number": 2, "label": "old", "sizeMiB": 2, "resize": true},
  {"number": 3, "shouldExist": false, "wipePartitionEntry": true},
  {"label": "var", "guid": "01234567-89ab-cdef-edcb-a98765432101", "sizeMiB": 50, "wipePartitionEntry": true},
  {"label": "log", "sizeMiB": 1, "startMiB": 100, "typeGuid": "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"}]}]"#,
    );
    let plan = Plan { stage: crate::stage::Stage::Disks, steps: plan(&config, &facts, &sources).unwrap() };
    assert_eq!(
        plan.to_string().trim_end(),
        "disks
   1 write the partition table 3CC8C7E3-3802-86CB-B58C-EAE6E0740A1C of /dev/vdb (2048 MiB, sectors of 512 bytes)
       keep 1 \"boot\", sectors 2048 to 4095 (1 MiB), type 0FC63DAF-8483-4772-8E79-3D69D8477DE4, GUID 8DD3D8E0-E319-85F9-B17F-0667D6C2C67D
       resize from 1 MiB: 2 \"old\", sectors 4096 to 8191 (2 MiB), type 0FC63DAF-8483-4772-8E79-3D69D8477DE4, GUID 3CC8C7E3-3802-86CB-B58C-EAE6E0740A1C
       replace \"gone\" by 3 \"var\", sectors 8192 to 110591 (50 MiB), type 0FC63DAF-8483-4772-8E79-3D69D8477DE4, GUID 01234567-89AB-CDEF-EDCB-A98765432101
       make 4 \"log\", sectors 204800 to 206847 (1 MiB), type 0657FD6D-A4AB-43C4-84E5-0933C84B4F4F, GUID 8AABA3EA-F3D8-8D13-8DC3-E3FB816B93FC  [test:2:23 at $.storage.disks.0]"
    );
}

#[test]
fn facts_about_disks_read_back_from_their_json() {
    let mut used = disk(DISK, Found::Gpt(gpt(DISK, &[partition(1, 2048, 2048, "a b")])));
    used.uses.push(crate::facts::Use { number: Some(1), device: "/dev/vdb1".into(), how: "mounted at /a b".into() });
    used.uses.push(crate::facts::Use { number: None, device: "/dev/vdb".into(), how: "held by md0".into() });
    let text = serde_json::to_string(&facts(used.clone())).unwrap();
    assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts(used), "{text}");
}
