// SPDX-License-Identifier: Apache-2.0
//! Runs inside the guest and tells the host what is there. It shares no code with what it checks.
//!
//! Called as
//! - `checker before`: remembers the trees that the case compares;
//! - `checker prepare`: runs the host's shell script `opt/org.fledge.test/prepare`, if there is one;
//! - `checker stage`: takes itself and the programs under test from the initramfs to the real root, and remembers what
//!   the case wants to know of the moment in which the initramfs is left;
//! - `checker cut PLACE PROGRAM ARG..`: runs a program, and has the machine's power cut in the place of one of its effects on a disk, see [`cut`];
//! - `checker report PLACE`: looks at what the host asks for, sends it as one line of JSON, and does what it is told;
//! - by any other name: nothing, successfully. The harness puts it in place of `fledge` to see the tests fail;
//! - as process 1: says that the machine works, and powers it off.
//!
//! The host asks through the firmware device, `opt/org.fledge.test/probe`: `{"nonce": "...", "looks": [...]}`, see
//! [`look::look`]. The answer goes to the virtio port `org.fledge.result`:
//! `{"nonce": "...", "place": "real-root", "facts": [...]}`, one fact for each look. With `"oracle": PROGRAM` in the probe,
//! the batch of [`oracle`] is run first.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

mod cut;
mod journal;
mod left;
mod look;
mod oracle;
mod tree;

/// Where the checker keeps things across switch-root.
const FOLDER: &str = "/run/fledge-test";
const PROBE: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/org.fledge.test/probe/raw";
const PREPARE: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/org.fledge.test/prepare/raw";
const PORT: &str = "org.fledge.result";

fn main() -> ExitCode {
    if std::process::id() == 1 {
        println!("fledge-vm-checker: this machine works");
        power_off();
        return ExitCode::FAILURE;
    }
    let args: Vec<String> = std::env::args().collect();
    let name = args.first().map(|path| path.rsplit('/').next().unwrap_or_default());
    if name != Some("checker") {
        return ExitCode::SUCCESS;
    }
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["before"] => before(),
        ["prepare"] => prepare(),
        ["stage"] => stage(),
        ["cut", place, program @ ..] => cut_at(place, program),
        ["report", place] => report(place),
        _ => Err(anyhow::anyhow!("usage: checker before | prepare | stage | cut PLACE PROGRAM ARG.. | report PLACE")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fledge-vm-checker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the host asks for.
fn probe() -> Result<Value> {
    if !Path::new(PROBE).exists() {
        // Built as a module in Debian's kernel; nobody else needs to have loaded it.
        drop(Command::new("modprobe").arg("qemu_fw_cfg").status());
    }
    let bytes = fs::read(PROBE).context("the firmware device has no opt/org.fledge.test/probe")?;
    serde_json::from_slice(&bytes).context("the probe is not JSON")
}

fn looks(probe: &Value) -> &[Value] {
    probe.get("looks").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn before() -> Result<()> {
    fs::create_dir_all(FOLDER)?;
    for look in looks(&probe()?) {
        if let Some(path) = look.get("tree").and_then(Value::as_str) {
            tree::remember(Path::new(FOLDER), Path::new(path), look)?;
        }
    }
    Ok(())
}

fn prepare() -> Result<()> {
    probe()?;
    if !Path::new(PREPARE).exists() {
        return Ok(());
    }
    let status = Command::new("sh").arg(PREPARE).status().context("can't start sh")?;
    if !status.success() {
        bail!("the case's preparation failed ({status})");
    }
    // The initramfs has no program for it.
    rustix::fs::sync();
    Ok(())
}

fn stage() -> Result<()> {
    left::remember(Path::new(FOLDER), looks(&probe()?))?;
    let folder = Path::new(FOLDER);
    let units = Path::new("/run/systemd/system");
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(folder)?;
    fs::create_dir_all(&wants)?;
    fs::copy("/usr/lib/fledge-test/checker", folder.join("checker"))?;
    let unit = "fledge-test-report.service";
    fs::copy(Path::new("/usr/lib/fledge-test").join(unit), units.join(unit))?;
    let link = wants.join(unit);
    if !link.is_symlink() {
        std::os::unix::fs::symlink(Path::new("..").join(unit), link)?;
    }
    for (program, source) in [("fledge", "/usr/bin/fledge"), ("fledgectl", "/usr/lib/fledge-test/fledgectl")] {
        let target = Path::new("/sysroot/usr/bin").join(program);
        if !target.exists() || !Path::new(source).exists() {
            continue;
        }
        let copy = folder.join(program);
        fs::copy(source, &copy)?;
        let status = Command::new("mount").arg("--bind").arg(&copy).arg(&target).status()?;
        if !status.success() {
            bail!("can't bind the {program} under test over {}", target.display());
        }
    }
    Ok(())
}

fn cut_at(place: &str, program: &[&str]) -> Result<()> {
    let place = cut::Place::parse(place)?;
    let mut port = open_port()?;
    cut::at(&place, program, || {
        port.write_all(b"cut\n").context("asking for the power to be cut")?;
        cut::wait()
    })
}

fn report(place: &str) -> Result<()> {
    let probe = probe()?;
    let mut port = open_port()?;
    let nonce = probe.get("nonce").unwrap_or(&Value::Null);
    if let Some(program) = probe.get("oracle").and_then(Value::as_str) {
        if let Err(error) = oracle::run(program, nonce, &mut port) {
            let line = json!({ "nonce": nonce, "place": place, "error": format!("{error:#}") });
            port.write_all(format!("{line}\n").as_bytes())?;
            return obey(&mut port);
        }
    }
    let facts: Vec<Value> = looks(&probe)
        .iter()
        .map(|wanted| look::look(wanted).unwrap_or_else(|error| json!({ "error": format!("{error:#}") })))
        .collect();
    let answer = json!({ "nonce": nonce, "place": place, "facts": facts });
    port.write_all(format!("{answer}\n").as_bytes()).context("writing the answer")?;
    obey(&mut port)
}

/// Opens the virtio port by its name; udev may not have made a link for it.
fn open_port() -> Result<File> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        for entry in fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
            let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim() == PORT {
                let device = PathBuf::from("/dev").join(entry.file_name());
                return File::options().read(true).write(true).open(&device).context("opening the virtio port");
            }
        }
        if Instant::now() > deadline {
            bail!("there is no virtio port {PORT}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits for the host's word: `off` ends the machine at once, `shutdown` unmounts first, `stay` leaves it running.
fn obey(port: &mut File) -> Result<()> {
    let mut word = Vec::new();
    let mut byte = [0; 1];
    loop {
        match port.read(&mut byte).context("waiting for the host")? {
            // The host hung up.
            0 => break,
            _ if byte == *b"\n" => break,
            _ => word.extend_from_slice(&byte),
        }
    }
    match word.as_slice() {
        b"stay" => {}
        b"shutdown" => {
            Command::new("systemctl").args(["poweroff", "--force"]).status().context("systemctl poweroff")?;
        }
        _ => power_off(),
    }
    Ok(())
}

fn power_off() {
    rustix::fs::sync();
    if let Err(error) = rustix::system::reboot(rustix::system::RebootCommand::PowerOff) {
        eprintln!("fledge-vm-checker: can't power off: {error}");
    }
}
