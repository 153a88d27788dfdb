// SPDX-License-Identifier: Apache-2.0
//! Runs the stages of one Ignition over a batch of configs, each on a fresh small target and fresh disks, and tells the
//! host what each left.
//!
//! The batch is `/usr/lib/fledge-test/oracle.json` of the initramfs: `{"configs": [..]}`, each
//! `{"name", "text", "prepare": [shell line..], "disks": [{"size": BYTES, "sector": BYTES}..], "limit": SECONDS}`.
//! For each, two lines go to the host: `{"nonce", "begins": NAME}`, and `{"nonce", "name", "facts"}`; after the second the
//! host's word is waited for, so that it can tell which requests belong to which config. What the facts are stands in
//! [`facts::collect`]; `{"error": ..}` instead says that the machinery around the stages failed.
//!
//! The disks are `/dev/loop0` and so on. The shell lines find the target root in `$ROOT`, the folder for base configs in
//! `$SYSTEM`.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

mod devices;
mod facts;
mod target;

const BATCH: &str = "/usr/lib/fledge-test/oracle.json";
/// Everything of one config.
const PLACE: &str = "/run/oracle";
const ROOT: &str = "/run/oracle/root";
/// How much of what a failed stage said is kept.
const SAID: usize = 3000;

/// Runs the batch with `program`, and reports through `port`.
pub(crate) fn run(program: &str, nonce: &Value, port: &mut File) -> Result<()> {
    let batch: Value = serde_json::from_slice(&fs::read(BATCH).with_context(|| format!("can't read {BATCH}"))?)?;
    let configs = batch.get("configs").and_then(Value::as_array).context("the batch has no configs")?;
    network()?;
    for config in configs {
        let name = config.get("name").context("a config has no name")?;
        say(port, &json!({ "nonce": nonce, "begins": name }))?;
        let outcome = one(program, config);
        // What one config leaves must not reach the next, whatever became of it.
        let outcome = clear().and(outcome);
        let facts = outcome.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }));
        say(port, &json!({ "nonce": nonce, "name": name, "facts": facts }))?;
        let mut word = [0; 1];
        while port.read(&mut word).context("waiting for the host")? == 1 && word != *b"\n" {}
    }
    Ok(())
}

fn say(port: &mut File, line: &Value) -> Result<()> {
    port.write_all(format!("{line}\n").as_bytes()).context("writing to the host")
}

/// The host's loopback address is reached through QEMU's user network, whose addresses never differ.
fn network() -> Result<()> {
    drop(Command::new("modprobe").arg("virtio_net").status());
    let deadline = Instant::now() + Duration::from_secs(20);
    let card = loop {
        let names = fs::read_dir("/sys/class/net")?.flatten().map(|entry| entry.file_name());
        let card = names.filter_map(|name| name.into_string().ok()).find(|name| name != "lo");
        if let Some(card) = card {
            break card;
        }
        ensure!(Instant::now() < deadline, "there is no network card");
        std::thread::sleep(Duration::from_millis(100));
    };
    // It may be renamed while udev looks at it.
    drop(Command::new("udevadm").args(["settle", "--timeout=30"]).status());
    let now = Path::new("/sys/class/net").join(&card);
    let card = if now.exists() { card } else { return network() };
    shell(&format!("ip link set lo up; ip addr replace 10.0.2.15/24 dev {card}; ip link set {card} up"), "")
}

fn one(program: &str, config: &Value) -> Result<Value> {
    clear()?;
    let text = config.get("text").and_then(Value::as_str).context("a config has no text")?;
    let limit = config.get("limit").and_then(Value::as_u64).unwrap_or(120);
    let deadline = Instant::now() + Duration::from_secs(limit);
    fs::create_dir_all(format!("{PLACE}/system"))?;
    fs::write(format!("{PLACE}/config.ign"), text)?;
    target::make(Path::new(ROOT))?;
    devices::make(Path::new(PLACE), config.get("disks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice))?;
    for line in config.get("prepare").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        shell(line, "prepare: ")?;
    }
    settle();
    let mut facts = Map::new();
    let failed = stages(program, deadline, &mut facts)?;
    facts::collect(Path::new(PLACE), Path::new(ROOT), failed.as_deref(), &mut facts)?;
    Ok(Value::Object(facts))
}

/// All stages as the units of a first boot run them, up to the first that fails, whose name is returned.
fn stages(program: &str, deadline: Instant, facts: &mut Map<String, Value>) -> Result<Option<String>> {
    let mut failed = None;
    let mut mounted = false;
    for stage in ["fetch-offline", "fetch", "kargs", "disks", "mount", "files"] {
        let cached = Path::new(PLACE).join("ignition.json").exists();
        if stage == "fetch" && (cached || !Path::new(PLACE).join("neednet").exists()) {
            continue;
        }
        let (code, said) = run_stage(program, stage, deadline)?;
        facts.insert(format!("exit {stage}"), code.clone());
        if code != 0 {
            facts.insert("said".to_owned(), json!(said));
            failed = Some(stage.to_owned());
            break;
        }
        // What a unit does when it is stopped is done only if it was started.
        mounted = mounted || stage == "mount";
    }
    if failed.is_none() {
        // The mounts show what mount did, and hold some of what files wrote.
        facts::mounted(Path::new(ROOT), facts)?;
        settle();
    }
    if mounted {
        let (code, said) = run_stage(program, "umount", deadline + Duration::from_secs(20))?;
        facts.insert("exit umount".to_owned(), code.clone());
        if code != 0 && failed.is_none() {
            facts.insert("said".to_owned(), json!(said));
            failed = Some("umount".to_owned());
        }
    }
    Ok(failed)
}

fn run_stage(program: &str, stage: &str, deadline: Instant) -> Result<(Value, String)> {
    let log = Path::new(PLACE).join("log");
    let output = File::create(&log)?;
    let flag = |name: &str, file: &str| format!("-{name}={PLACE}/{file}");
    let mut child = Command::new(program)
        .args(["-platform=file", &format!("-stage={stage}"), &flag("root", "root"), "-fetch-timeout=10s"])
        .args([flag("config-cache", "ignition.json"), flag("state-file", "state"), flag("neednet", "neednet")])
        .arg("-log-to-stdout")
        .env("IGNITION_CONFIG_FILE", format!("{PLACE}/config.ign"))
        .env("IGNITION_SYSTEM_CONFIG_DIR", format!("{PLACE}/system"))
        .env("IGNITION_SYSTEM_LOCAL_CONFIG_DIR", format!("{PLACE}/none"))
        .env("IGNITION_SYSTEM_RUNTIME_CONFIG_DIR", format!("{PLACE}/none"))
        .env("PATH", "/usr/sbin:/usr/bin")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()
        .with_context(|| format!("can't start {program}"))?;
    let code = loop {
        if let Some(status) = child.try_wait()? {
            break status.code().map_or_else(|| json!(status.to_string()), |code| json!(code));
        }
        if Instant::now() > deadline {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
                rustix::process::kill_process_group(group, rustix::process::Signal::KILL)?;
            }
            child.wait()?;
            break json!("out of time");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let skipped = said.char_indices().rev().nth(SAID).map_or(0, |(index, _)| index);
    Ok((code, said.get(skipped..).unwrap_or_default().to_owned()))
}

/// Takes everything of a config away again.
fn clear() -> Result<()> {
    target::remove(Path::new(ROOT))?;
    devices::remove()?;
    for path in [PLACE, "/run/ignition", "/run/fledge"] {
        if Path::new(path).exists() {
            fs::remove_dir_all(path).with_context(|| format!("can't remove {path}"))?;
        }
    }
    fs::create_dir_all(PLACE)?;
    Ok(())
}

fn settle() {
    drop(Command::new("udevadm").args(["settle", "--timeout=20"]).status());
}

fn shell(line: &str, what: &str) -> Result<()> {
    let output = Command::new("sh")
        .args(["-e", "-c", line])
        .env("ROOT", ROOT)
        .env("SYSTEM", format!("{PLACE}/system"))
        .env("PATH", "/usr/sbin:/usr/bin")
        .output()
        .context("can't start sh")?;
    if !output.status.success() {
        bail!("{what}{line}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// What a program printed, or nothing if it failed.
fn printed(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).env("PATH", "/usr/sbin:/usr/bin").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
