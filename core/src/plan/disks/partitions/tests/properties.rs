// SPDX-License-Identifier: Apache-2.0
//! What must hold of any disk and any configuration that is carried out on it.

use core::cell::Cell;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config as Settings, TestRunner};

use super::*;

const SMALL: Geometry = Geometry { sector: 512, sectors: 64 << 11 };

/// Gap and size in MiB, number, and whether it bears a label that the configuration may have.
type There = Vec<(u64, u64, u32, bool)>;

#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "so has the configuration")]
struct Entry {
    number: u32,
    start: Option<u64>,
    size: Option<u64>,
    guid: bool,
    resize: bool,
    wipe: bool,
    gone: bool,
}

fn entry() -> impl Strategy<Value = Entry> {
    let mebibytes = |most: u64| {
        // What no disk has, and what is beyond that when it is counted in sectors or bytes.
        let huge = prop_oneof![Just(i64::MAX as u64), Just(1 << 42), Just((1 << 52) - 1), Just((1 << 53) + 1)];
        option::of(prop_oneof![10 => Just(0_u64), 10 => 1..most, 1 => huge])
    };
    let numbers = (0_u32..9, mebibytes(60), mebibytes(20));
    (numbers, any::<(bool, bool)>(), prop::bool::weighted(0.7), prop::bool::weighted(0.2)).prop_map(
        |((number, start, size), (guid, resize), wipe, gone)| Entry { number, start, size, guid, resize, wipe, gone },
    )
}

fn table(there: &There, first: u64) -> Table {
    let mut table = Table::fresh(SMALL, Guid::derived(&[b"old"])).unwrap();
    table.first = first;
    let mut next = 2048;
    for (gap, size, number, labelled) in there {
        let (start, size) = (next + gap * 2048, size * 2048);
        next = start + size;
        if next <= table.last && table.partition(*number).is_none() {
            let label = if *labelled { format!("l{number}") } else { String::new() };
            let mut partition = partition(*number, start, size, &label);
            partition.guid = Guid::derived(&[b"old", &number.to_le_bytes()]);
            partition.attributes = 4;
            table.partitions.push(partition);
        }
    }
    table.partitions.sort_by_key(|partition| partition.number);
    table
}

fn text(entries: &[Entry], wipe: bool, guids: bool) -> String {
    let mut taken = Vec::new();
    let mut words = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        if entry.number > 0 && taken.contains(&entry.number) {
            continue;
        }
        taken.push(entry.number);
        let number = entry.number;
        let wipe = entry.wipe;
        if entry.gone && number > 0 {
            words.push(format!(r#"{{"number": {number}, "shouldExist": false, "wipePartitionEntry": {wipe}}}"#));
            continue;
        }
        let label = if number == 0 { format!("z{index}") } else { format!("l{number}") };
        let mut text = format!(
            r#"{{"number": {number}, "label": {label:?}, "wipePartitionEntry": {wipe}, "resize": {}"#,
            entry.resize
        );
        for (word, value) in [("startMiB", entry.start), ("sizeMiB", entry.size)] {
            text.extend(value.map(|value| format!(", {word:?}: {value}")));
        }
        if entry.guid && guids {
            text.extend([format!(", \"guid\": \"{}\"", Guid::derived(&[b"given", &index.to_le_bytes()]))]);
        }
        words.push(text + "}");
    }
    format!(r#"[{{"device": "/dev/vdb", "wipeTable": {wipe}, "partitions": [{}]}}]"#, words.join(", "))
}

/// Writes a table to an image and reads what it holds.
fn through_bytes(step: &Step) -> Found {
    let mut image = vec![0; SMALL.sectors as usize * 512];
    let table = step.table.as_ref().unwrap();
    for region in &table.render(SMALL) {
        image[region.offset as usize..][..region.bytes.len()].copy_from_slice(&region.bytes);
    }
    image[..512].copy_from_slice(&crate::gpt::protective(SMALL, &[]));
    crate::gpt::read(SMALL, &mut |offset, len| Some(image.get(offset as usize..offset as usize + len)?.to_vec()))
}

#[test]
fn any_plan_is_sound_leaves_the_rest_alone_and_is_done_once() {
    let (done, changed) = (Cell::new(0), Cell::new(0));
    let strategy = (
        vec((0_u64..4, 1_u64..8, 1_u32..9, any::<bool>()), 0..6),
        vec(entry(), 1..6),
        prop::bool::weighted(0.2),
        any::<bool>(),
    );
    let settings = Settings { cases: 1500, failure_persistence: None, ..Settings::default() };
    let result = TestRunner::new(settings).run(&strategy, |(there, entries, wipe, guids)| {
        // A start that can't be aligned changes the alignment of the next run, unless it bears our mark.
        let old = table(&there, if guids { 2048 } else { 34 });
        let config = text(&entries, wipe, guids);
        let holds = Found::Gpt(Gpt { table: old.clone(), backup: SMALL.last(), hybrid: vec![], flaws: vec![] });
        // `steps` checks the finished plan, overlaps included.
        let Ok(steps) = steps(&config, &facts(disk(SMALL, holds))) else { return Ok(()) };
        let Some(step) = steps.first().filter(|step| step.table.is_some()) else { return Ok(()) };
        done.set(done.get() + 1);
        changed.set(changed.get() + usize::from(step.write));
        let new = step.table.as_ref().unwrap();
        for partition in old.partitions.iter().filter(|_| !wipe) {
            let named = step.changes.iter().find(|change| change.number == partition.number);
            if named.is_none_or(|change| change.deed == Deed::Keep) {
                prop_assert_eq!(new.partition(partition.number), Some(partition));
            }
        }
        let found = through_bytes(step);
        let again = super::steps(&config, &facts(disk(SMALL, found)))
            .map_err(|failures| TestCaseError::fail(format!("{config}: {failures:?}")))?;
        prop_assert!(!again[0].write, "{}", again[0]);
        prop_assert_eq!(&again[0].table, &step.table);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!(done.get() > 150 && changed.get() > 100, "{} of 1500 configurations could be carried out", done.get());
}
