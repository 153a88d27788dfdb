// SPDX-License-Identifier: Apache-2.0
//! Against sgdisk and sfdisk on images, and the kernel on loop devices. Tools that aren't installed fail their test: they must be
//! there.

use std::fs;
use std::process::{Command, Stdio};

use fledge_core::config;
use fledge_core::facts::{Disk, Facts};
use fledge_core::gpt::{Guid, Partition};
use fledge_core::origin::Sources;
use fledge_core::plan::partitions::Step;
use fledge_core::plan::{PHASES, Step as PlanStep};

use super::*;

/// Runs a program; its exit code and what it says.
fn run(program: &str, args: &[&str]) -> (i32, String) {
    let output = Command::new(program)
        .args(args)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
}

fn succeed(program: &str, args: &[&str]) -> String {
    let (code, said) = run(program, args);
    assert_eq!(code, 0, "{program} {args:?}: {said}");
    said
}

struct Image {
    _directory: tempfile::TempDir,
    path: String,
}

impl Image {
    fn new(mebibytes: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk").to_str().unwrap().to_owned();
        File::create(&path).unwrap().set_len(mebibytes << 20).unwrap();
        Self { _directory: directory, path }
    }

    fn copy(&self) -> Self {
        let copy = Self::new(0);
        fs::copy(&self.path, &copy.path).unwrap();
        copy
    }

    fn open(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.path).unwrap()
    }

    /// Plans a list of partitions, as JSON, and writes the table.
    fn partition(&self, partitions: &str) -> Result<Option<Step>, String> {
        let file = self.open();
        let geometry = geometry(&file).unwrap();
        let holds = holds(&file, geometry).unwrap();
        let step = plan(geometry, holds, &format!("\"partitions\": [{partitions}]"))?;
        if let Some(step) = &step {
            assert_eq!(write(&file, geometry, step.table.as_ref(), step.mbr).unwrap(), step.write);
        }
        Ok(step)
    }
}

/// The step for a disk.
fn plan(geometry: Geometry, holds: Found, rest: &str) -> Result<Option<Step>, String> {
    let text =
        format!(r#"{{"ignition": {{"version": "3.4.0"}}, "storage": {{"disks": [{{"device": "/dev/x", {rest}}}]}}}}"#);
    let config = config::parse(text.as_bytes(), "test", None).map_err(|refusal| format!("config: {refusal}"))?.config;
    let disk = Disk {
        device: "/dev/x".into(),
        node: "/dev/x".into(),
        sector: geometry.sector,
        sectors: geometry.sectors,
        read_only: false,
        part_of: None,
        identity: String::new(),
        holds,
        uses: Vec::new(),
    };
    let facts = Facts { disks: vec![disk], ..Facts::default() };
    let phase = PHASES.first().unwrap();
    let plan = phase.plan(&config, &facts, &Sources::default()).map_err(|failures| failures[0].to_string())?;
    Ok(plan.steps.into_iter().next().map(|planned| match planned.step {
        PlanStep::Partition(step) => step,
        other => panic!("{other}"),
    }))
}

/// What `sfdisk` finds, without GUIDs: number, start, size, type, name of each partition.
fn table(path: &str) -> Vec<(String, u64, u64, String, String)> {
    let said: serde_json::Value = serde_json::from_str(&succeed("sfdisk", &["--json", path])).unwrap();
    let empty = Vec::new();
    let partitions = said["partitiontable"]["partitions"].as_array().unwrap_or(&empty);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    partitions
        .iter()
        .map(|one| {
            let node = text(&one["node"]).strip_prefix(path).unwrap().to_owned();
            (node, number(&one["start"]), number(&one["size"]), text(&one["type"]), text(&one["name"]))
        })
        .collect()
}

#[test]
fn sgdisk_finds_no_problem() {
    let image = Image::new(64);
    let partitions = r#"{"number": 2, "label": "grüße 𝔾", "sizeMiB": 10, "guid": "01234567-89AB-CDEF-EDCB-A98765432101"},
        {"label": "rest", "typeGuid": "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"}"#;
    image.partition(partitions).unwrap();
    let said = succeed("sgdisk", &["-v", &image.path]);
    assert!(said.contains("No problems found"), "{said}");
    assert!(!said.contains("Warning"), "{said}");
    let linux = "0FC63DAF-8483-4772-8E79-3D69D8477DE4".to_owned();
    assert_eq!(
        table(&image.path),
        [
            ("1".into(), 22_528, 108_511, "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F".into(), "rest".into()),
            ("2".into(), 2048, 20_480, linux, "grüße 𝔾".into())
        ]
    );
    let said = succeed("sgdisk", &["-i", "2", &image.path]);
    assert!(said.contains("Partition unique GUID: 01234567-89AB-CDEF-EDCB-A98765432101"), "{said}");
    // Twice is once.
    assert!(!image.partition(partitions).unwrap().unwrap().write);
}

/// A generator of numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What `sgdisk` would make of a disk: number, first and last sector of each partition; nothing if it refuses.
fn pretend(args: &[String], path: &str) -> Option<Vec<(u32, u64, u64)>> {
    let words = args.iter().map(String::as_str);
    let words: Vec<&str> = ["--pretend"].into_iter().chain(words).chain(["--print", path]).collect();
    let (code, said) = run("sgdisk", &words);
    let rows = said.lines().skip_while(|line| !line.starts_with("Number")).skip(1);
    let row = |line: &str| {
        let mut fields = line.split_whitespace();
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    (code == 0).then(|| rows.filter_map(row).collect())
}

/// New partitions go where sgdisk puts them when it is called as Ignition calls it, and both refuse the same.
#[test]
fn partitions_go_where_sgdisk_puts_them() {
    let mut random = Numbers(7);
    let (mut made, mut refused) = (0, 0);
    for round in 0..300 {
        let image = Image::new(64);
        let file = image.open();
        let geometry = geometry(&file).unwrap();
        let mut table = Table::fresh(geometry, Guid::derived(&[])).unwrap();
        let mut next = 34 + random.below(3) * 1007;
        for number in 1..=u32::try_from(random.below(5)).unwrap() {
            let (start, size) = match round % 3 {
                0 => (next + random.below(9000), 1 + random.below(20_000)),
                _ => (next.next_multiple_of(2048) + random.below(8) * 2048, (1 + random.below(8)) * 2048),
            };
            next = start + size;
            let guid = Guid::derived(&[&number.to_le_bytes()]);
            let label = String::new();
            let kind = Guid::LINUX_DATA;
            table.partitions.push(Partition {
                number,
                start,
                end: next - 1,
                kind,
                guid,
                label,
                name: None,
                attributes: 0,
            });
        }
        if !table.partitions.is_empty() {
            write(&file, geometry, Some(&table), Mbr::Fresh).unwrap();
        }

        // Every partition of the configuration is new or replaced.
        let (mut json, mut deletions, mut creations, mut unnumbered) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for index in 0..=random.below(4) {
            let number = if random.below(3) == 0 { 0 } else { index + 1 };
            let start = (random.below(3) == 0).then(|| random.below(50));
            let size = (random.below(3) > 0).then(|| random.below(20));
            let mut text = format!(r#"{{"number": {number}, "label": "n{index}", "wipePartitionEntry": true"#);
            text.extend(start.map(|start| format!(", \"startMiB\": {start}")));
            text.extend(size.map(|size| format!(", \"sizeMiB\": {size}")));
            json.push(text + "}");
            if table.partitions.iter().any(|partition| u64::from(partition.number) == number) {
                deletions.push(format!("--delete={number}"));
            }
            let sectors = |count: Option<u64>| count.unwrap_or(0) * 2048;
            let list = if number == 0 { &mut unnumbered } else { &mut creations };
            list.push(format!("--new={number}:{}:+{}", sectors(start), sectors(size)));
        }
        let json = json.join(", ");
        let step = match image.partition(&json) {
            Err(why) if why.starts_with("config:") => continue,
            step => step,
        };
        write(&file, geometry, Some(&table).filter(|table| !table.partitions.is_empty()), Mbr::Fresh).unwrap();
        let expected = pretend(&[deletions, creations, unnumbered].concat(), &image.path);
        let places = |step: Option<Step>| {
            let partitions = step.and_then(|step| step.table).map(|table| table.partitions).unwrap_or_default();
            partitions.iter().map(|partition| (partition.number, partition.start, partition.end)).collect::<Vec<_>>()
        };
        made += usize::from(step.is_ok());
        refused += usize::from(step.is_err());
        let why = step.as_ref().err().cloned();
        assert_eq!(step.ok().map(places), expected, "{json} on {table:?}: {why:?}");
    }
    assert!(made > 100 && refused > 30, "{made} made, {refused} refused");
}

/// What sgdisk makes of the same damage is the same table.
#[test]
fn damage_is_repaired_as_sgdisk_repairs_it() {
    for (offset, what) in [(512, "first header"), (1024 + 40, "first array"), ((64 << 20) - 512, "second header")] {
        let image = Image::new(64);
        succeed("sgdisk", &["-n=1:0:+8M", "-c=1:one", "-n=5:0:+8M", &image.path]);
        image.open().write_all_at(b"damage", offset).unwrap();
        let other = image.copy();
        let (code, said) = run("sgdisk", &["-n=6:0:+16384", &image.path]);
        assert_eq!(code, 0, "{what}: {said}");
        let step = other.partition(r#"{"number": 6, "sizeMiB": 8}"#).unwrap().unwrap();
        assert_eq!(step.repairs.len(), 1, "{what}");
        assert_eq!(table(&other.path), table(&image.path), "{what}");
        assert!(succeed("sgdisk", &["-v", &other.path]).contains("No problems found"), "{what}");
    }
}

#[test]
fn mbr_disks_are_refused_and_wiped() {
    let image = Image::new(64);
    let output = Command::new("sfdisk").arg("--quiet").arg(&image.path).stdin(Stdio::piped()).spawn();
    let mut child = output.unwrap();
    io::Write::write_all(&mut child.stdin.take().unwrap(), b"label: dos\nsize=20480\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(image.partition(r#"{"number": 1}"#).unwrap_err().contains("MBR partition table"));
    let file = image.open();
    let geometry = geometry(&file).unwrap();
    let wipe = plan(geometry, Found::Mbr, "\"wipeTable\": true").unwrap().unwrap();
    assert!(write(&file, geometry, wipe.table.as_ref(), wipe.mbr).unwrap());
    assert_eq!(holds(&file, geometry).unwrap(), Found::Nothing);
    assert!(!write(&file, geometry, wipe.table.as_ref(), wipe.mbr).unwrap());
}

/// A loop device, detached when dropped.
struct Loop(String);

impl Loop {
    fn new(image: &Image, sector: &str) -> Self {
        let said = succeed("losetup", &["--find", "--show", "--partscan", "--sector-size", sector, &image.path]);
        Self(said.trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", &["-d", &self.0]);
    }
}

fn known(entry: &Entry) -> Vec<Wanted> {
    let mut known: Vec<_> = kernel::partitions(entry).unwrap().into_iter().map(|(partition, _)| partition).collect();
    known.sort_by_key(|partition| partition.number);
    known
}

#[test]
fn the_kernel_is_told_of_differences() {
    for sector in [512, 4096] {
        let image = Image::new(64);
        let device = Loop::new(&image, &sector.to_string());
        let entry = Entry::of(&device.0).unwrap();
        let disk = open(&entry.node, Duration::ZERO).unwrap();
        let geometry = geometry(&disk).unwrap();
        assert_eq!((geometry.sector, geometry.sectors * u64::from(sector)), (sector, 64 << 20));
        let mebibyte = geometry.mebibytes(1);
        let partition = |number: u32, start: u64, size: u64| Partition {
            number,
            start: start * mebibyte,
            end: (start + size) * mebibyte - 1,
            kind: Guid::LINUX_DATA,
            guid: Guid::derived(&[&number.to_le_bytes()]),
            label: format!("p{number}"),
            name: None,
            attributes: 0,
        };
        let mut table = Table::fresh(geometry, Guid::derived(&[])).unwrap();
        let mut tell = |partitions: &[Partition]| {
            table.partitions = partitions.to_vec();
            assert!(write(&disk, geometry, Some(&table), Mbr::Fresh).unwrap());
            let wanted = Wanted::of(Some(&table), geometry);
            assert!(entry.tell(&disk, &wanted).unwrap());
            assert!(!entry.tell(&disk, &wanted).unwrap());
            assert_eq!(wait(&entry, &wanted, Duration::from_secs(5)).unwrap(), Vec::<String>::new());
            assert_eq!(known(&entry), wanted);
            assert_eq!(
                holds(&disk, geometry).unwrap(),
                Found::Gpt(gpt::Gpt { table: table.clone(), backup: geometry.last(), hybrid: vec![], flaws: vec![] })
            );
        };
        tell(&[partition(1, 1, 8), partition(2, 9, 8), partition(3, 17, 8), partition(7, 25, 8)]);
        // The first is open all the while, as a mounted one would be, and can't go.
        let used = File::open(format!("{}p1", device.0)).unwrap();
        // Shrunk, grown into what was the other's, moved, deleted, added.
        tell(&[partition(1, 1, 8), partition(2, 9, 4), partition(3, 17, 16), partition(5, 13, 4), partition(7, 40, 4)]);
        let (node, error) = entry.tell(&disk, &[]).unwrap_err();
        assert_eq!((node, error.kind()), (format!("{}p1", device.0), io::ErrorKind::ResourceBusy));
        drop(used);
        assert!(entry.tell(&disk, &[]).unwrap());
        assert_eq!(known(&entry), []);
        let said = succeed("sgdisk", &["-v", &device.0]);
        assert!(said.contains("No problems found"), "{said}");
    }
}

#[test]
fn a_disk_is_looked_at() {
    let image = Image::new(64);
    let device = Loop::new(&image, "512");
    let entry = Entry::of(&device.0).unwrap();
    let blank = look(&device.0).unwrap().unwrap();
    assert_eq!(
        (&blank.node, blank.read_only, &blank.holds, &blank.part_of),
        (&device.0, false, &Found::Nothing, &None)
    );
    assert!(blank.uses.is_empty());

    let step = plan(blank.geometry(), Found::Nothing, r#""partitions": [{"number": 1, "sizeMiB": 8}, {"number": 2}]"#);
    let table = step.unwrap().unwrap().table.unwrap();
    let disk = open(&entry.node, Duration::ZERO).unwrap();
    write(&disk, blank.geometry(), Some(&table), Mbr::Fresh).unwrap();
    let wanted = Wanted::of(Some(&table), blank.geometry());
    entry.tell(&disk, &wanted).unwrap();
    assert_eq!(wait(&entry, &wanted, Duration::from_secs(5)).unwrap(), Vec::<String>::new());
    let first = format!("{}p1", device.0);
    assert_eq!(look(&first).unwrap().unwrap().part_of, Some(device.0.clone()));

    succeed("mkfs.ext4", &["-q", &first]);
    let point = tempfile::tempdir().unwrap();
    let path = point.path().to_str().unwrap();
    succeed("mount", &[&first, path]);
    let used = look(&device.0).unwrap().unwrap().uses;
    succeed("umount", &[path]);
    let words: Vec<_> = used.iter().map(|used| (used.number, used.device.clone(), used.how.clone())).collect();
    assert_eq!(words, [(Some(1), first.clone(), format!("mounted at {path}"))]);

    // Partitions that the kernel knows and no table has are of a kind that isn't known.
    write(&disk, blank.geometry(), None, Mbr::Keep).unwrap();
    let Found::Broken(why) = look(&device.0).unwrap().unwrap().holds else { panic!("not broken") };
    assert_eq!(why, "the kernel sees partitions, and their table is of another kind");
    entry.tell(&disk, &[]).unwrap();
    drop(disk);

    // The whole disk.
    succeed("mkfs.ext4", &["-q", &device.0]);
    succeed("mount", &[&device.0, path]);
    let used = look(&device.0).unwrap().unwrap().uses;
    succeed("umount", &[path]);
    assert_eq!(used.first().map(|used| (used.number, used.device.clone())), Some((None, device.0.clone())));
    assert_eq!(look("/dev/surely-not-there").unwrap(), None);
}
