// SPDX-License-Identifier: Apache-2.0
//! The disks of one config: loop devices over sparse files in memory; what is on them, as facts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::{printed, settle};

/// What `blkid` says about the machine rather than about the device.
const BLKID_LEFT_OUT: &[&str] = &["DEVNAME", "PART_ENTRY_DISK"];

/// Attaches a loop device to each disk, with partitions.
pub(super) fn make(place: &Path, disks: &[Value]) -> Result<()> {
    let folder = place.join("disks");
    fs::create_dir_all(&folder)?;
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=100%", "tmpfs"]).arg(&folder).status()?;
    ensure!(status.success(), "can't mount a tmpfs for the disks");
    drop(Command::new("modprobe").arg("loop").status());
    for (index, disk) in disks.iter().enumerate() {
        let number = |name: &str| disk.get(name).and_then(Value::as_u64);
        let image = folder.join(format!("{index}"));
        File::create(&image)?.set_len(number("size").context("a disk has no size")?)?;
        let device = format!("/dev/loop{index}");
        let sector = number("sector").unwrap_or(512).to_string();
        let mut attach = Command::new("losetup");
        attach.args(["--partscan", "--sector-size", &sector, &device]).arg(&image);
        let output = attach.output().context("can't start losetup")?;
        ensure!(output.status.success(), "{device}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    settle();
    Ok(())
}

/// Stops everything that lies on the disks, and detaches them. What udev still looks at is waited for.
pub(super) fn remove() -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        settle();
        let left = holders()?;
        if left.is_empty() {
            break;
        }
        for name in left {
            let device = format!("/dev/{name}");
            match name.get(..2) {
                Some("md") => drop(printed("mdadm", &["--stop", &device])),
                Some("dm") => drop(printed("dmsetup", &["remove", "--force", &device])),
                _ => drop(printed("losetup", &["--detach", &device])),
            }
        }
        if Instant::now() > deadline {
            bail!("these devices can't be taken down: {}", holders()?.join(", "));
        }
    }
    let folder = Path::new(super::PLACE).join("disks");
    if super::facts::points(&folder)?.contains(&folder) {
        let status = Command::new("umount").arg(&folder).status()?;
        ensure!(status.success(), "can't unmount {}", folder.display());
    }
    Ok(())
}

/// Mapped volumes and arrays, then attached loop devices.
fn holders() -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir("/sys/block")?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let state = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            let there = match name.get(..2)? {
                "md" => !matches!(state("md/array_state").trim(), "" | "clear"),
                "dm" => true,
                "lo" => entry.path().join("loop/backing_file").exists(),
                _ => false,
            };
            there.then_some(name)
        })
        .collect();
    names.sort();
    Ok(names)
}

/// Partition tables, what `blkid` finds on each device, LUKS headers and arrays.
pub(super) fn facts(facts: &mut Map<String, Value>) -> Result<()> {
    for name in holders()? {
        for part in parts(&name)? {
            let device = format!("/dev/{part}");
            let shown = shown(&part);
            let probed = printed("blkid", &["--probe", "--output", "export", &device]).unwrap_or_default();
            let mut luks = false;
            for (key, value) in probed.lines().filter_map(|line| line.split_once('=')) {
                luks = luks || value == "crypto_LUKS";
                if !BLKID_LEFT_OUT.contains(&key) {
                    facts.insert(format!("blkid:{shown} {key}"), json!(value));
                }
            }
            if let Ok(sectors) = fs::read_to_string(format!("/sys/class/block/{part}/size")) {
                facts.insert(format!("size:{shown}"), json!(sectors.trim()));
            }
            if luks {
                header(&shown, &device, facts);
            }
        }
        if name.starts_with("loop") {
            table(&name, facts);
        }
        if name.starts_with("md") {
            array(&name, facts);
        }
    }
    Ok(())
}

/// A device and its partitions, in order.
fn parts(name: &str) -> Result<Vec<String>> {
    let folder = PathBuf::from("/sys/block").join(name);
    let mut found: Vec<(u64, String)> = fs::read_dir(&folder)?
        .flatten()
        .filter_map(|entry| {
            let number = fs::read_to_string(entry.path().join("partition")).ok()?;
            Some((number.trim().parse().ok()?, entry.file_name().into_string().ok()?))
        })
        .collect();
    found.sort();
    Ok(std::iter::once(name.to_owned()).chain(found.into_iter().map(|(_, name)| name)).collect())
}

/// Mapped volumes and arrays by the names that were asked for, since their numbers mean nothing.
fn shown(name: &str) -> String {
    if let Ok(mapped) = fs::read_to_string(format!("/sys/block/{name}/dm/name")) {
        return format!("mapper/{}", mapped.trim());
    }
    if name.starts_with("md") {
        let links = fs::read_dir("/dev/md").into_iter().flatten().flatten();
        let mut links = links.filter(|link| fs::read_link(link.path()).is_ok_and(|target| target.ends_with(name)));
        if let Some(link) = links.next() {
            return format!("md/{}", link.file_name().to_string_lossy());
        }
        return "md/?".to_owned();
    }
    name.to_owned()
}

fn table(name: &str, facts: &mut Map<String, Value>) {
    let Some(text) = printed("sfdisk", &["--dump", &format!("/dev/{name}")]) else { return };
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        let fields: Vec<&str> = value.split_whitespace().collect();
        facts.insert(format!("sfdisk:{name} {}", key.trim()), json!(fields.join(" ")));
    }
}

fn header(shown: &str, device: &str, facts: &mut Map<String, Value>) {
    let Some(text) = printed("cryptsetup", &["luksDump", "--dump-json-metadata", device]) else { return };
    let metadata: Value = serde_json::from_str(&text).unwrap_or_default();
    let members = |name: &str| metadata.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    facts.insert(format!("luks:{shown} keyslots"), json!(members("keyslots").keys().collect::<Vec<_>>()));
    let tokens: Vec<Value> = members("tokens")
        .values()
        .map(|token| json!({ "type": token.get("type"), "keyslots": token.get("keyslots"), "pin": token.pointer("/jwe/protected").is_some() }))
        .collect();
    facts.insert(format!("luks:{shown} tokens"), json!(tokens));
    for (key, pointer) in [
        ("flags", "/config/flags"),
        ("encryption", "/segments/0/encryption"),
        ("sector", "/segments/0/sector_size"),
        ("offset", "/segments/0/offset"),
    ] {
        facts.insert(format!("luks:{shown} {key}"), metadata.pointer(pointer).cloned().unwrap_or_default());
    }
}

fn array(name: &str, facts: &mut Map<String, Value>) {
    let shown = shown(name);
    let Some(text) = printed("mdadm", &["--detail", "--export", &format!("/dev/{name}")]) else { return };
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        facts.insert(format!("mdadm:{shown} {key}"), json!(value));
    }
    for file in ["chunk_size", "layout", "bitmap/location"] {
        if let Ok(value) = fs::read_to_string(format!("/sys/block/{name}/md/{file}")) {
            facts.insert(format!("mdadm:{shown} {file}"), json!(value.trim()));
        }
    }
}
