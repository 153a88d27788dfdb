// SPDX-License-Identifier: Apache-2.0
//! One look at the system: what is asked for goes in, what is there comes out, both as JSON.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::{journal, left, tree};

/// Texts longer than this are only hashed.
const TEXT_LIMIT: u64 = 64 * 1024;

/// What a unit's fact holds; names as `systemctl show` prints them.
const UNIT_PROPERTIES: &str =
    "Id,LoadState,ActiveState,SubState,Result,UnitFileState,ExecMainStatus,FragmentPath,DropInPaths,ConditionResult";

/// Answers one look. The first key names its kind:
///
/// | look | fact |
/// |---|---|
/// | `{"path": P}` | `kind` (`file`, `dir`, `link`, `other`, `absent`), `mode`, `uid`, `gid`, `size`, `links`, `inode`, `sha256`, `text`, `target`, `label` (SELinux's) |
/// | `{"left": P}` | as `path`, but in the moment in which the initramfs was left |
/// | `{"tree": P, "except": [P..]}` | `sha256`, `count`, and `changed` since `checker before` |
/// | `{"user": N}` | `uid`, `gid`, `gecos`, `home`, `shell`, `password`, `groups`; or `absent` |
/// | `{"group": N}` | `gid`, `members`; or `absent` |
/// | `{"unit": N}` | properties of `systemctl show` |
/// | `{"mount": P}` | `source`, `kind`, `options`, `super_options`; or `absent` |
/// | `{"mounts": true}` | `lines`: the mounts that hold the system's files, sorted, without what differs from boot to boot |
/// | `{"written": SERIAL}` | `sectors` of 512 bytes that this boot wrote to the disk with this serial number, partitions included |
/// | `{"cmdline": true}` | `words` |
/// | `{"network": true}` | `up`: names of links with a carrier, without `lo` |
/// | `{"journal": TEXT}` | `initramfs`, `real_root`: how many lines hold the text; `lines`: the first of them |
/// | `{"failed_units": true}` | `names` |
/// | `{"json": P, "pointer": "/a/0"}` | `value` |
/// | `{"run": [PROGRAM, ARG..]}` | `status`, `stdout`, `stderr` |
///
/// # Errors
/// If the look is of no known kind, or looking fails for another reason than that the thing isn't there.
pub(crate) fn look(wanted: &Value) -> Result<Value> {
    let text = |key: &str| wanted.get(key).and_then(Value::as_str);
    if let Some(path) = text("path") {
        of_path(Path::new(path))
    } else if let Some(path) = text("left") {
        left::recall(Path::new(crate::FOLDER), path)
    } else if let Some(path) = text("tree") {
        tree::compare(Path::new(crate::FOLDER), Path::new(path), wanted)
    } else if let Some(name) = text("user") {
        user(name)
    } else if let Some(name) = text("group") {
        group(name)
    } else if let Some(name) = text("unit") {
        unit(name)
    } else if let Some(path) = text("mount") {
        mount(path)
    } else if wanted.get("mounts").is_some() {
        Ok(json!({ "lines": mounts(&fs::read_to_string("/proc/self/mountinfo")?) }))
    } else if let Some(serial) = text("written") {
        load_disks();
        written(Path::new("/sys/block"), serial)
    } else if let Some(pattern) = text("journal") {
        journal::search(pattern)
    } else if let Some(path) = text("json") {
        let value: Value = serde_json::from_slice(&fs::read(path).with_context(|| format!("can't read {path}"))?)?;
        Ok(json!({ "value": value.pointer(text("pointer").unwrap_or_default()) }))
    } else if let Some(words) = wanted.get("run").and_then(Value::as_array) {
        run(words)
    } else if wanted.get("cmdline").is_some() {
        let line = fs::read_to_string("/proc/cmdline")?;
        Ok(json!({ "words": line.split_whitespace().collect::<Vec<_>>() }))
    } else if wanted.get("network").is_some() {
        network()
    } else if wanted.get("failed_units").is_some() {
        let text =
            output(Command::new("systemctl").args(["list-units", "--failed", "--plain", "--no-legend", "--no-pager"]))?;
        let names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
        Ok(json!({ "names": names }))
    } else {
        bail!("no such kind of look: {wanted}")
    }
}

pub(crate) fn of_path(path: &Path) -> Result<Value> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if matches!(error.raw_os_error(), Some(2 | 20)) => return Ok(json!({ "kind": "absent" })),
        Err(error) => return Err(error).with_context(|| format!("can't look at {}", path.display())),
    };
    let kind = meta.file_type();
    let mut fact = json!({
        "kind": if kind.is_symlink() { "link" } else if kind.is_dir() { "dir" } else if kind.is_file() { "file" } else { "other" },
        "mode": format!("{:04o}", meta.mode() & 0o7777),
        "uid": meta.uid(),
        "gid": meta.gid(),
        "links": meta.nlink(),
        "inode": meta.ino(),
    });
    let map = fact.as_object_mut().context("an object")?;
    let mut label = [0_u8; 256];
    if let Ok(len) = rustix::fs::lgetxattr(path, "security.selinux", &mut label[..]) {
        let text = String::from_utf8_lossy(label.get(..len).unwrap_or_default());
        map.insert("label".to_owned(), json!(text.trim_end_matches('\0')));
    }
    if kind.is_symlink() {
        map.insert("target".to_owned(), json!(fs::read_link(path)?.to_string_lossy()));
    } else if kind.is_file() {
        let bytes = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
        map.insert("size".to_owned(), json!(bytes.len()));
        map.insert("sha256".to_owned(), json!(hex(&Sha256::digest(&bytes))));
        if meta.len() <= TEXT_LIMIT {
            if let Ok(text) = String::from_utf8(bytes) {
                map.insert("text".to_owned(), json!(text));
            }
        }
    } else if kind.is_block_device() || kind.is_char_device() {
        map.insert("device".to_owned(), json!(meta.rdev()));
    }
    Ok(fact)
}

/// The root whose accounts are looked at: in the initramfs, the target's.
fn accounts(file: &str) -> Result<String> {
    let initramfs = Path::new("/etc/initrd-release").exists();
    let path = if initramfs { format!("/sysroot/etc/{file}") } else { format!("/etc/{file}") };
    fs::read_to_string(&path).with_context(|| format!("can't read {path}"))
}

fn row(text: &str, name: &str) -> Option<Vec<String>> {
    text.lines()
        .map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>())
        .find(|fields| fields.first().is_some_and(|first| first == name))
}

fn field(row: &[String], index: usize) -> &str {
    row.get(index).map_or("", String::as_str)
}

fn user(name: &str) -> Result<Value> {
    let Some(entry) = row(&accounts("passwd")?, name) else { return Ok(json!({ "absent": true })) };
    let groups_text = accounts("group")?;
    let mut groups: Vec<&str> = groups_text
        .lines()
        .filter(|line| line.rsplit(':').next().unwrap_or_default().split(',').any(|member| member == name))
        .filter_map(|line| line.split(':').next())
        .collect();
    groups.sort_unstable();
    let hidden = row(&accounts("shadow")?, name).unwrap_or_default();
    Ok(json!({
        "uid": field(&entry, 2).parse::<u32>().ok(),
        "gid": field(&entry, 3).parse::<u32>().ok(),
        "gecos": field(&entry, 4),
        "home": field(&entry, 5),
        "shell": field(&entry, 6),
        "password": field(&hidden, 1),
        "groups": groups,
    }))
}

fn group(name: &str) -> Result<Value> {
    let Some(entry) = row(&accounts("group")?, name) else { return Ok(json!({ "absent": true })) };
    let members: Vec<&str> = field(&entry, 3).split(',').filter(|member| !member.is_empty()).collect();
    Ok(json!({ "gid": field(&entry, 2).parse::<u32>().ok(), "members": members }))
}

fn unit(name: &str) -> Result<Value> {
    // A unit that is still starting is waited for a while: multi-user.target doesn't wait for all.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let text = output(Command::new("systemctl").args(["show", "--property", UNIT_PROPERTIES, name]))?;
        let fact: Map<String, Value> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .collect();
        if fact.get("ActiveState").and_then(Value::as_str) != Some("activating") || Instant::now() > deadline {
            return Ok(Value::Object(fact));
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// The topmost mount at a path, from `/proc/self/mountinfo` (proc(5)).
fn mount(path: &str) -> Result<Value> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let mut found = text.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        (left.get(4) == Some(&path)).then(|| {
            json!({
                "kind": right.first(),
                "source": right.get(1),
                "options": left.get(5).map(|options| options.split(',').collect::<Vec<_>>()),
                "super_options": right.get(2).map(|options| options.split(',').collect::<Vec<_>>()),
            })
        })
    });
    Ok(found.next_back().unwrap_or_else(|| json!({ "absent": true })))
}

/// Mounts as `proc_pid_mountinfo(5)` has them: mount point, where its parent is mounted, what of the file system, options, how it
/// propagates, type, source, options of the file system. The numbers differ from boot to boot, and so do credentials of units, what the
/// kernel shows of itself, and the size of a tmpfs, which is given where it isn't half of the memory that the kernel has by then.
fn mounts(table: &str) -> Vec<String> {
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(' ').collect()).collect();
    let field = |row: &[&str], index: usize| row.get(index).copied().unwrap_or_default().to_owned();
    let point =
        |id: &str| rows.iter().find(|row| field(row, 0) == id).map_or_else(|| "-".to_owned(), |row| field(row, 4));
    let mut lines = Vec::new();
    for row in &rows {
        let at = field(row, 4);
        if ["/proc", "/sys", "/dev", "/run/credentials"].iter().any(|root| Path::new(&at).starts_with(root)) {
            continue;
        }
        let propagation = row.iter().skip(6).take_while(|word| **word != "-");
        let propagation: Vec<&str> = propagation.filter_map(|word| word.split(':').next()).collect();
        let rest: Vec<&str> = row.iter().copied().skip_while(|word| *word != "-").skip(1).collect();
        let parent = point(&field(row, 1));
        let sized = |option: &&str| rest.first() == Some(&"tmpfs") && option.starts_with("size=");
        let rest: Vec<String> =
            rest.iter().map(|word| word.split(',').filter(|one| !sized(one)).collect::<Vec<_>>().join(",")).collect();
        let (root, options) = (field(row, 3), field(row, 5));
        lines.push(format!("{at} on {parent} root {root} {options} {} {}", propagation.join(","), rest.join(" ")));
    }
    lines.sort();
    lines
}

/// What the kernel counted as written to a disk (Linux, `Documentation/block/stat.rst`: the seventh field).
fn written(disks: &Path, serial: &str) -> Result<Value> {
    for entry in fs::read_dir(disks).with_context(|| format!("can't list {}", disks.display()))?.flatten() {
        let disk = entry.path();
        if fs::read_to_string(disk.join("serial")).is_ok_and(|text| text.trim() == serial) {
            let text = fs::read_to_string(disk.join("stat"))?;
            let field = text.split_whitespace().nth(6).context("the disk's stat has no seventh field")?;
            return Ok(json!({ "sectors": field.parse::<u64>()? }));
        }
    }
    bail!("there is no disk with the serial number {serial}")
}

/// A boot that stops early may not have loaded the disks' driver, which is as good as none written; with the driver the
/// look still finds out whether that disk is there.
fn load_disks() {
    if !Path::new("/sys/bus/virtio/drivers/virtio_blk").exists() {
        drop(Command::new("modprobe").arg("virtio_blk").status());
    }
}

fn network() -> Result<Value> {
    let mut up = Vec::new();
    for entry in fs::read_dir("/sys/class/net")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let state = fs::read_to_string(entry.path().join("operstate")).unwrap_or_default();
        if name != "lo" && state.trim() == "up" {
            up.push(name);
        }
    }
    up.sort();
    Ok(json!({ "up": up }))
}

fn run(words: &[Value]) -> Result<Value> {
    let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
    let (program, args) = words.split_first().context("nothing to run")?;
    let output = Command::new(program).args(args).output().with_context(|| format!("can't run {program}"))?;
    Ok(json!({
        "status": output.status.code(),
        "stdout": String::from_utf8_lossy(&output.stdout),
        "stderr": String::from_utf8_lossy(&output.stderr),
    }))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("can't run {}", command.get_program().to_string_lossy()))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_told_without_their_numbers() {
        let table = "28 1 254:4 /ostree/deploy /  rw,relatime shared:1 - xfs /dev/vda4 rw\n\
            29 28 0:22 / /proc/sys rw - proc proc rw\n\
            30 28 254:4 /var /var rw shared:9 master:1 - xfs /dev/vda4 rw,x\n\
            31 28 0:40 / /tmp rw shared:10 - tmpfs tmpfs rw,size=495588k,inode64\n"
            .replace("  ", " ");
        let expected = [
            "/ on - root /ostree/deploy rw,relatime shared xfs /dev/vda4 rw",
            "/tmp on / root / rw shared tmpfs tmpfs rw,inode64",
            "/var on / root /var rw shared,master xfs /dev/vda4 rw,x",
        ];
        assert_eq!(mounts(&table), expected);
    }

    #[test]
    fn sectors_are_those_of_the_disk_with_the_serial_number() {
        let disks = std::env::temp_dir().join(format!("fledge-vm-checker-{}", std::process::id()));
        for (name, serial, stat) in [("vda", "one", "1 2 3 4 5 6 70 8 9\n"), ("vdb", "two\n", "  1 2 3 4 5 6 71 8\n")] {
            fs::create_dir_all(disks.join(name)).unwrap();
            fs::write(disks.join(name).join("serial"), serial).unwrap();
            fs::write(disks.join(name).join("stat"), stat).unwrap();
        }
        fs::create_dir_all(disks.join("loop0")).unwrap();
        let sectors = ["one", "two"].map(|serial| written(&disks, serial).unwrap()["sectors"].as_u64());
        let missing = written(&disks, "three").is_err();
        fs::remove_dir_all(&disks).unwrap();
        assert_eq!(sectors, [Some(70), Some(71)]);
        assert!(missing);
    }
}
