// SPDX-License-Identifier: Apache-2.0
//! One case from its folder to its differences.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::case::{self, Boot, Case, Form, Outcome, Placed, Sabotage, Starts, Work};
use crate::facts;
use crate::host;
use crate::image::{BootPartition, Image, Item};
use crate::oracle;
use crate::peripherals::{self, Tang, Tpm};
use crate::qemu::{self, Console, Disk, Event, Machine, Vm};
use crate::serve::{Resource, Server};
use crate::session::{Overlaid, Session};
use crate::template::{Values, gzip};

/// The firmware device's name for the config, as upstream's platform `qemu` has it.
const CONFIG: &str = "opt/com.coreos/config";
/// The firmware device's name for what the checker looks at.
pub(crate) const PROBE: &str = "opt/org.fledge.test/probe";
/// The firmware device's name for what is run before the stages.
const PREPARE: &str = "opt/org.fledge.test/prepare";
/// The line by which something in the guest asks for its power to be cut.
const CUT: &str = "cut";
const EMPTY_CONFIG: &[u8] = b"{\"ignition\":{\"version\":\"3.0.0\"}}";
const A_DAY: Duration = Duration::from_secs(24 * 3600);
/// What the console says when the initramfs is left: systemd's log, or its status.
const SWITCH_ROOT: [&str; 2] = ["Switching root", "initrd-switch-root.service"];

/// Who looks on while a case runs.
pub(crate) trait Observer {
    /// The case as it will be run, and the values of this run. It may still be changed.
    fn prepared(&mut self, _case: &mut Case, _values: &Values<'_>) -> Result<()> {
        Ok(())
    }
    /// A boot begins.
    fn boot_begins(&mut self, _name: &str) {}
    /// The machine runs; called now and then.
    fn running(&mut self, _vm: &Vm) {}
    /// Whether the console belongs to the user, who ends the machine.
    fn is_interactive(&self) -> bool {
        false
    }
    /// The checker answered.
    fn answered(&mut self, _facts: &[Value]) {}
}

/// Nobody.
pub(super) struct Silent;

impl Observer for Silent {}

/// Runs all boots of a case; returns what differed.
pub(crate) fn run(session: &Session, case: &Case, observer: &mut dyn Observer) -> Result<Vec<String>> {
    if case.work == Work::Oracle {
        return oracle::run(session, case);
    }
    let server = Server::start()?;
    let mut values = Values::new(&case.folder, session.image.tools(), &server)?;
    if case.tang {
        values.tang = Some(Tang::start(session.image.tools())?);
    }
    let text = fs::read_to_string(case.folder.join("case.toml"))?;
    let mut case = case::parse(&case.name, &case.folder, &values.expand(&text)?)?;
    observer.prepared(&mut case, &values)?;
    let sabotage = session.options.sabotage.then_some(case.sabotage);
    publish(&case, &values, &server, sabotage)?;
    let work = session.folder(&case.name)?;
    let image = session.image(case.image)?;
    let mut differences = Vec::new();
    let mut alike = Alike::new();
    for (index, boot) in case.boots.iter().enumerate() {
        let name = if boot.name.is_empty() { format!("boot {}", index + 1) } else { boot.name.clone() };
        let disk_is_needed = case.boots.get(index + 1).is_some_and(|next| !next.fresh);
        let first = index == 0 || boot.fresh;
        let (case, values, work, image) = (&case, &values, &work, &image);
        let run = Run { session, image, case, boot, first, disk_is_needed, values, work, sabotage };
        observer.boot_begins(&name);
        let found = run.boot(&server, observer, &mut alike).or_else(|error| {
            let logs = session.keep_logs(&case.name, work);
            Err(error).with_context(|| format!("{name} (the console is in {})", logs.join("console.log").display()))
        })?;
        if !found.is_empty() {
            let logs = session.keep_logs(&case.name, work);
            differences.extend(found.into_iter().map(|difference| format!("{name}: {difference}")));
            differences.push(format!("the console is in {}", logs.join("console.log").display()));
            break;
        }
    }
    drop(fs::remove_dir_all(&work));
    Ok(differences)
}

/// Puts on the server what the case serves.
pub(crate) fn publish(case: &Case, values: &Values<'_>, server: &Server, sabotage: Option<Sabotage>) -> Result<()> {
    for served in &case.serve {
        let body = served.file.as_ref().map_or(Ok(Vec::new()), |file| contents(file, values, sabotage))?;
        let body = if served.gzip { gzip(&body)? } else { body };
        let resource =
            Resource { body, zeros: served.zeros, status: served.status, silent: served.silent, headers: Vec::new() };
        server.publish(&served.path, resource);
    }
    Ok(())
}

/// A file of the case. If its configs are emptied on purpose and this is one, it is an empty one instead.
fn contents(file: &str, values: &Values<'_>, sabotage: Option<Sabotage>) -> Result<Vec<u8>> {
    if sabotage == Some(Sabotage::EmptyConfig)
        && Path::new(file).extension().is_some_and(|extension| extension == "ign")
    {
        return Ok(EMPTY_CONFIG.to_vec());
    }
    values.file(file)
}

/// What the looks of `alike` saw in each boot, by its name.
type Alike = BTreeMap<String, Vec<Value>>;

struct Run<'a> {
    session: &'a Session,
    image: &'a Image,
    case: &'a Case,
    boot: &'a Boot,
    /// Whether it starts from an untouched disk.
    first: bool,
    /// Whether the next boot goes on with this one's disk.
    disk_is_needed: bool,
    values: &'a Values<'a>,
    work: &'a Path,
    /// How it is broken on purpose, if it is.
    sabotage: Option<Sabotage>,
}

impl Run<'_> {
    fn boot(&self, server: &Server, observer: &mut dyn Observer, alike: &mut Alike) -> Result<Vec<String>> {
        let disk = self.disk()?;
        let console = if observer.is_interactive() { Console::Terminal } else { Console::File };
        let mut machine = self.machine(disk, console)?;
        let tpm = self.case.tpm.then(|| Tpm::start(self.session.image.tools(), self.work)).transpose()?;
        machine.tpm = tpm.as_ref().map(|(_, socket)| socket.clone());
        server.take_requests();
        let mut vm = machine.start(self.session.image.tools(), self.work)?;
        let deadline = Instant::now() + Duration::from_secs(60 + 4 * self.case.seconds);
        let report = match vm.wait_watching(deadline, &mut |vm| observer.running(vm))? {
            Event::Report(line) => line,
            Event::Ended(status) => return self.lost(&vm, &format!("the machine ended ({status})")),
            Event::TimedOut => return self.lost(&vm, "the time is up"),
        };
        if report == CUT {
            // The machine ends here and now, as it is: what it had not written to its disks yet is lost.
            let starts = self.compare_starts(&vm);
            drop(vm);
            let expected = self.boot.outcome == Outcome::Cut;
            let odd = (!expected).then(|| "the power was cut, which nobody expected".to_owned());
            return Ok(odd.into_iter().chain(starts).collect());
        }
        fs::write(self.work.join("answer.json"), &report)?;
        let answer: Value = serde_json::from_str(&report).context("the checker's answer is not JSON")?;
        if answer.get("nonce").and_then(Value::as_str) != Some(self.values.nonce()) {
            return self.lost(&vm, "the answer comes from another run: the nonce differs");
        }
        observer.running(&vm);
        observer.answered(answer.get("facts").and_then(Value::as_array).map_or(&[], Vec::as_slice));
        if observer.is_interactive() {
            vm.tell("stay")?;
            vm.wait_end(Instant::now() + A_DAY)?;
            return Ok(self.compare(&answer, alike));
        }
        let mut differences = self.compare(&answer, alike);
        if differences.is_empty() && self.boot.outcome == Outcome::Login {
            // The checker answers when multi-user.target is reached; the prompt comes a moment later.
            if let Err(error) = vm.wait_for_console("login:", Instant::now() + Duration::from_secs(60)) {
                differences.push(error.to_string());
            }
        }
        observer.running(&vm);
        differences.extend(self.compare_console(&vm.console()));
        differences.extend(self.compare_starts(&vm));
        if let Some(expected) = &self.boot.requests {
            let seen = server.take_requests();
            if seen != *expected {
                differences.push(format!("requests to the host were {seen:?}, expected {expected:?}"));
            }
        }
        // What later boots read must be on the disk, as after an orderly shutdown.
        vm.tell(if self.disk_is_needed { "shutdown" } else { "off" })?;
        vm.wait_end(Instant::now() + Duration::from_secs(90))?;
        Ok(differences)
    }

    /// A machine without an answer differs from what any case expects. One that was broken on purpose must still answer
    /// what differs: dying says nothing about the case.
    fn lost(&self, vm: &Vm, why: &str) -> Result<Vec<String>> {
        let text =
            format!("no word from inside the guest: {why}. The console's end:\n{}", host::tail(&vm.console(), 25));
        if self.sabotage.is_some() {
            bail!("{text}");
        }
        Ok(vec![text])
    }

    fn initramfs(&self) -> Result<PathBuf> {
        let stays = self.case.form == Form::Initramfs;
        let wanted = Overlaid { stays, sabotage: self.sabotage == Some(Sabotage::NoOp), pivot: self.boot.pivot };
        self.session.initramfs(self.case.image, wanted)
    }

    fn disk(&self) -> Result<PathBuf> {
        let disk = self.work.join("disk.img");
        if !self.first {
            return Ok(disk);
        }
        drop(fs::remove_file(&disk));
        let image = self.image;
        if self.case.form == Form::Initramfs {
            let mut items = accounts();
            if self.case.selinux {
                items.extend(self.session.policy()?);
            }
            for placed in &self.case.target {
                items.push(self.item(placed)?);
            }
            image.extra_disk(&disk, "root", 256 << 20, &items, self.work)?;
        } else {
            let mut files = Vec::new();
            for placed in &self.case.boot_files {
                files.push((placed.path.clone(), placed.mode(0o600)?, self.contents(placed)?));
            }
            let partition = BootPartition {
                initramfs: (self.case.form == Form::Grub).then(|| self.initramfs()).transpose()?,
                arguments: self.arguments().collect(),
                without: self.case.without.clone(),
                stamp: self.case.first_boot.then(|| self.case.stamp.clone()),
                files,
            };
            image.boot_disk(&disk, self.case.disk, &partition, self.work)?;
        }
        Ok(disk)
    }

    fn arguments(&self) -> impl Iterator<Item = String> {
        let no_count = (self.sabotage == Some(Sabotage::NoCount)).then(|| "fledge.boot.count=0".to_owned());
        self.case.arguments.iter().chain(&self.boot.arguments).cloned().chain(no_count)
    }

    fn contents(&self, placed: &Placed) -> Result<Vec<u8>> {
        match (&placed.file, &placed.text) {
            (Some(file), _) => contents(file, self.values, self.sabotage),
            (None, text) => Ok(text.clone().unwrap_or_default().into_bytes()),
        }
    }

    fn item(&self, placed: &Placed) -> Result<Item> {
        let path = placed.path.clone();
        Ok(if let Some(target) = &placed.link {
            Item::Link(path, target.clone())
        } else if placed.file.is_some() || placed.text.is_some() {
            Item::File(path, placed.mode(0o644)?, self.contents(placed)?)
        } else {
            Item::Folder(path, placed.mode(0o755)?)
        })
    }

    fn machine(&self, disk: PathBuf, console: Console) -> Result<Machine> {
        // What two boots have in common comes first: what a boot looks at may be a change.
        let own = self.boot.facts.iter().map(|fact| case::split(fact).0);
        let looks: Vec<Value> = self.case.alike.iter().cloned().chain(own).collect();
        let probe = self.work.join("probe.json");
        fs::write(&probe, serde_json::to_vec(&json!({ "nonce": self.values.nonce(), "looks": looks }))?)?;
        let mut fw_cfg = vec![(PROBE.to_owned(), probe)];
        if let Some(path) = config_file(self.boot, self.values, self.work, self.sabotage)? {
            fw_cfg.push((CONFIG.to_owned(), path));
        }
        if !self.boot.prepare.is_empty() {
            let path = self.work.join("prepare.sh");
            fs::write(&path, peripherals::script(&self.boot.prepare, &self.case.disks))?;
            fw_cfg.push((PREPARE.to_owned(), path));
        }
        let image = self.image;
        let boot = if self.case.form == Form::Grub {
            qemu::Boot::Disk
        } else {
            let first = self.first && self.case.first_boot;
            let mut words: Vec<String> = image.options(first).split_whitespace().map(str::to_owned).collect();
            words.extend(self.arguments());
            if self.case.form == Form::Initramfs {
                words.retain(|word| !word.starts_with("ostree="));
            }
            qemu::Boot::Kernel { kernel: image.kernel(), initramfs: self.initramfs()?, arguments: words.join(" ") }
        };
        let format = if self.case.form == Form::Initramfs { "raw" } else { "qcow2" };
        let mut disks =
            vec![Disk { path: disk, format, serial: "fledge-boot".to_owned(), sector: 512, paths: self.case.paths }];
        disks.extend(peripherals::disks(&self.case.disks, self.first, image.tools(), self.work)?);
        Ok(Machine {
            memory: self.case.memory,
            processors: 1,
            disks,
            boot,
            tpm: None,
            fw_cfg,
            network: true,
            console,
            accel: self.session.accel,
            reboots: self.boot.starts.is_some(),
        })
    }

    fn compare(&self, answer: &Value, alike: &mut Alike) -> Vec<String> {
        let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
        let place = self.boot.outcome.place();
        if text("place") != place {
            return vec![format!("the machine ended in {:?}, expected {place:?}", text("place"))];
        }
        let facts = answer.get("facts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let expected = self.boot.facts.len() + self.case.alike.len();
        if facts.len() != expected {
            return vec![format!("{} facts came back, expected {expected}", facts.len())];
        }
        let (same, facts) = facts.split_at(self.case.alike.len());
        let pairs = self.boot.facts.iter().zip(facts);
        let differences = pairs.flat_map(|(wanted, fact)| {
            let (look, expected) = case::split(wanted);
            facts::differences(&look.to_string(), &expected, fact)
        });
        let other = self.boot.like.as_ref().and_then(|name| alike.get(name)).map_or(&[][..], Vec::as_slice);
        let pairs = other.iter().zip(same).zip(&self.case.alike);
        let unlike = pairs.flat_map(|((other, this), look)| facts::unlike(&look.to_string(), other, this));
        let differences = differences.chain(unlike).collect();
        alike.insert(self.boot.name.clone(), same.to_vec());
        differences
    }

    fn compare_starts(&self, vm: &Vm) -> Option<String> {
        let expected = self.boot.starts?;
        // Without the time stamp before it, the words could be those of a program.
        let kernel = vm.console().lines().filter(|line| line.contains("] Linux version ")).count();
        let seen = Starts { firmware: vm.firmware_starts(), kernel };
        (seen != expected).then(|| format!("the starts were {seen:?}, expected {expected:?}"))
    }

    fn compare_console(&self, console: &str) -> Vec<String> {
        let mut differences = Vec::new();
        let expected = &self.boot.console;
        for text in expected.contains.iter().filter(|text| !console.contains(text.as_str())) {
            differences.push(format!("the console lacks {text:?}"));
        }
        for text in expected.lacks.iter().filter(|text| console.contains(text.as_str())) {
            differences.push(format!("the console has {text:?}"));
        }
        differences.extend(switch_root(console, self.boot.outcome));
        differences
    }
}

/// Writes the config of a boot, if it has one, and returns the file.
fn config_file(boot: &Boot, values: &Values<'_>, work: &Path, sabotage: Option<Sabotage>) -> Result<Option<PathBuf>> {
    let bytes = match (&boot.verbatim, &boot.config) {
        (Some(path), _) => fs::read(path).with_context(|| format!("can't read {}", path.display()))?,
        (None, Some(name)) => contents(name, values, sabotage)?,
        (None, None) => return Ok(None),
    };
    let path = work.join("config.ign");
    fs::write(&path, bytes)?;
    Ok(Some(path))
}

/// A boot that must not leave the initramfs says none of the texts; one that must says one, or their absence would mean
/// nothing.
fn switch_root(console: &str, outcome: Outcome) -> Vec<String> {
    let said: Vec<&str> = SWITCH_ROOT.into_iter().filter(|text| console.contains(text)).collect();
    match outcome {
        Outcome::Login if said.is_empty() => {
            vec![format!("the console never told of leaving the initramfs: {SWITCH_ROOT:?}")]
        }
        Outcome::Login => Vec::new(),
        _ => said.iter().map(|text| format!("the initramfs was left: the console has {text:?}")).collect(),
    }
}

/// The accounts files of a small target, as Debian has them.
fn accounts() -> Vec<Item> {
    let file = |path: &str, mode, text: &str| Item::File(path.to_owned(), mode, text.as_bytes().to_vec());
    let groups = [("root", 0), ("adm", 4), ("sudo", 27), ("systemd-journal", 999), ("wheel", 982), ("docker", 983)];
    let group = groups.map(|(name, id)| format!("{name}:x:{id}:\n")).concat();
    let hidden = groups.map(|(name, _)| format!("{name}:*::\n")).concat();
    let folders = ["etc", "home", "root", "usr", "usr/bin", "usr/lib", "var", "opt", "tmp"];
    let mut items: Vec<Item> = folders.iter().map(|path| Item::Folder((*path).to_owned(), 0o755)).collect();
    items.extend([
        file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/bash\n"),
        file("etc/shadow", 0o640, "root:*:20000:0:99999:7:::\n"),
        file("etc/group", 0o644, &group),
        file("etc/gshadow", 0o640, &hidden),
        file("usr/lib/os-release", 0o644, "ID=fledge-test-target\n"),
    ]);
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::Tools;

    #[test]
    fn the_console_tells_of_switch_root_exactly_where_it_must() {
        let left = "[  OK  ] Starting initrd-switch-root.service - Switch Root...";
        assert_eq!(switch_root(left, Outcome::Login).len(), 0);
        assert_eq!(switch_root("quiet", Outcome::Login).len(), 1);
        for outcome in [Outcome::Emergency, Outcome::Initramfs] {
            assert_eq!(switch_root(left, outcome).len(), 1);
            assert_eq!(switch_root("quiet", outcome).len(), 0);
        }
    }

    #[test]
    fn sabotage_empties_configs_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["config.ign", "tool.txt"] {
            fs::write(folder.path().join(name), "whole").unwrap();
        }
        let (tools, server) = (Tools::new(folder.path().to_owned()), Server::start().unwrap());
        let values = Values::new(folder.path(), &tools, &server).unwrap();
        let read = |name, sabotage| contents(name, &values, sabotage).unwrap();
        assert_eq!(read("config.ign", Some(Sabotage::EmptyConfig)), EMPTY_CONFIG);
        assert_eq!(read("tool.txt", Some(Sabotage::EmptyConfig)), b"whole");
        assert_eq!(read("config.ign", Some(Sabotage::NoOp)), b"whole");
        assert_eq!(read("config.ign", None), b"whole");
    }
}
