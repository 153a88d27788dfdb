// SPDX-License-Identifier: Apache-2.0
//! The power fails while a table is written: the next run comes to the same table, and no partition of another is lost meanwhile.

use super::*;

const SMALL: Geometry = Geometry { sector: 512, sectors: 8 << 11 };

#[derive(Clone)]
struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, offset: u64, bytes: &[u8]) {
        self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn holds(&self) -> Found {
        crate::gpt::read(SMALL, &mut |offset, len| Some(self.0.get(offset as usize..offset as usize + len)?.to_vec()))
    }

    fn step(&self, config: &str) -> Step {
        let holds = self.holds();
        steps(config, &facts(disk(SMALL, holds.clone())))
            .unwrap_or_else(|failures| panic!("{holds:?}: {failures:?}"))
            .remove(0)
    }

    /// What a step writes, sector by sector; what stands in one list may reach the disk in any order.
    fn writes(&self, step: &Step) -> Vec<Vec<(u64, Vec<u8>)>> {
        let sectors = |region: &crate::gpt::Region| {
            let offsets = (region.offset..).step_by(512);
            offsets.zip(region.bytes.chunks(512).map(<[u8]>::to_vec)).collect::<Vec<_>>()
        };
        let mut lists: Vec<Vec<_>> = match &step.table {
            Some(table) => table.render(SMALL).iter().map(sectors).collect(),
            None => vec![crate::gpt::blank(SMALL).iter().flat_map(sectors).collect()],
        };
        if step.mbr != Mbr::Keep && step.table.is_some() {
            let old: &[u8] = if step.mbr == Mbr::Protective { &self.0[..512] } else { &[] };
            lists.push(vec![(0, crate::gpt::protective(SMALL, old))]);
        }
        lists
    }
}

/// Cuts a run short at every sector, once in the order of the disk and once against it, and runs again.
fn cut_everywhere(config: &str, start: &Image) {
    let goal = start.step(config);
    assert!(goal.write);
    let lists = start.writes(&goal);
    for backwards in [false, true] {
        for (index, list) in lists.iter().enumerate() {
            for count in 0..=list.len() {
                let mut image = start.clone();
                let whole = lists.iter().take(index).flatten();
                let mut torn: Vec<_> = list.iter().collect();
                if backwards {
                    torn.reverse();
                }
                for (offset, bytes) in whole.chain(torn.into_iter().take(count)) {
                    image.put(*offset, bytes);
                }
                let again = image.step(config);
                assert_eq!(again.table, goal.table, "list {index}, {count} sectors, backwards: {backwards}");
                for (offset, bytes) in image.writes(&again).iter().flatten() {
                    image.put(*offset, bytes);
                }
                let done = image.holds();
                match (&done, &goal.table) {
                    (Found::Gpt(gpt), Some(table)) => assert_eq!((&gpt.table, &gpt.flaws), (table, &vec![])),
                    (Found::Nothing, None) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

fn blank() -> Image {
    Image(vec![0; SMALL.sectors as usize * 512])
}

fn with(geometry: Geometry, partitions: &[Partition]) -> Image {
    let mut image = blank();
    for region in gpt(geometry, partitions).table.render(geometry) {
        image.put(region.offset, &region.bytes);
    }
    image.put(0, &crate::gpt::protective(geometry, &[]));
    image
}

const WANTED: &str = r#"[{"device": "/dev/vdb", "partitions": [{"number": 1, "label": "a", "sizeMiB": 2, "resize": true, "wipePartitionEntry": true}, {"label": "z", "wipePartitionEntry": true}, {"number": 3, "shouldExist": false, "wipePartitionEntry": true}]}]"#;

#[test]
fn on_a_blank_disk() {
    cut_everywhere(WANTED, &blank());
}

#[test]
fn on_a_disk_with_a_table() {
    cut_everywhere(
        WANTED,
        &with(
            SMALL,
            &[partition(1, 2048, 2048, "a"), partition(2, 8192, 2048, "stays"), partition(3, 12_288, 2048, "gone")],
        ),
    );
}

#[test]
fn on_a_disk_that_was_grown() {
    let small = Geometry { sectors: 6 << 11, ..SMALL };
    cut_everywhere(WANTED, &with(small, &[partition(1, 2048, 2048, "a"), partition(2, 8192, 2048, "stays")]));
}

#[test]
fn while_the_table_is_wiped() {
    let mut dos = blank();
    dos.0[450] = 0x83;
    dos.put(510, &[0x55, 0xaa]);
    for start in [dos, with(SMALL, &[partition(1, 2048, 2048, "a")])] {
        cut_everywhere(&WANTED.replace("\"partitions\"", "\"wipeTable\": true, \"partitions\""), &start);
        cut_everywhere(r#"[{"device": "/dev/vdb", "wipeTable": true}]"#, &start);
    }
}

#[test]
fn while_a_copy_is_repaired() {
    for damaged in [512 + 20, 1024, SMALL.sectors as usize * 512 - 500] {
        let mut image = with(SMALL, &[partition(1, 2048, 2048, "a")]);
        image.0[damaged] ^= 1;
        cut_everywhere(r#"[{"device": "/dev/vdb", "partitions": [{"number": 1}]}]"#, &image);
    }
}
