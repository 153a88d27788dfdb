// SPDX-License-Identifier: Apache-2.0
//! One boot that works through the batch.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};

use super::Results;
use super::configs::Config;
use crate::case::Case;
use crate::cpio::Archive;
use crate::host;
use crate::image::{Item, Variant};
use crate::peripherals::Tpm;
use crate::progress::say;
use crate::qemu::{self, Console, Disk, Event};
use crate::run::one;
use crate::serve::Server;
use crate::session::{Overlaid, Session};
use crate::template::Values;

/// Where the initramfs has Debian's program.
pub(super) const DEBIAN: &str = "/usr/lib/fledge-test/debian/ignition";
/// Where it has ours.
pub(super) const FLEDGE: &str = "/usr/bin/ignition";

/// Stands for the distribution's program: it remembers what it was called with, and fails if it is told so.
const KARGS_HELPER: &[u8] = b"#!/bin/sh\nprintf '%s\\n' \"$@\" > /run/oracle/kargs\ntest ! -e /run/oracle/refuse\n";

/// Seconds beyond a config's own in which the guest has to tell what came of it.
const GRACE: u64 = 180;

/// What both boots have in common.
pub(super) struct Machine<'a> {
    pub(super) session: &'a Session,
    pub(super) case: &'a Case,
    pub(super) values: &'a Values<'a>,
    pub(super) server: &'a Server,
    pub(super) configs: &'a [Config],
    pub(super) work: &'a Path,
}

impl Machine<'_> {
    /// Writes the initramfs with both programs and the batch. The kernel is kept beside it: until the second boot, another run
    /// may have put a newer image into the cache.
    pub(super) fn initramfs(&self, debian: &Path) -> Result<PathBuf> {
        let path = self.work.join("initramfs.img");
        fs::copy(self.session.image.kernel(), self.work.join("kernel"))?;
        let wanted = Overlaid { stays: true, sabotage: self.session.options.sabotage, pivot: None };
        fs::copy(self.session.initramfs(Variant::Plain, wanted)?, &path)?;
        let mut archive = Archive::default();
        archive.file(DEBIAN.trim_start_matches('/'), 0o755, &fs::read(debian)?);
        for folder in ["usr/bin", "usr/sbin"] {
            archive.file(&format!("{folder}/ignition-kargs-helper"), 0o755, KARGS_HELPER);
        }
        let configs: Vec<Value> = self.configs.iter().map(Config::order).collect();
        archive.file("usr/lib/fledge-test/oracle.json", 0o644, json!({ "configs": configs }).to_string().as_bytes());
        let mut packed = GzEncoder::new(File::options().append(true).open(&path)?, Compression::fast());
        packed.write_all(&archive.finish())?;
        packed.finish()?;
        Ok(path)
    }

    /// Boots, and returns what each config left. Configs that the machine didn't come to are missing.
    pub(super) fn run(&self, name: &str, program: &str, initramfs: &Path) -> Result<Results> {
        say(format_args!("{}: {} configs with {name}", self.case.name, self.configs.len()));
        let tools = self.session.image.tools();
        let tpm = self.case.tpm.then(|| Tpm::start(tools, self.work)).transpose()?;
        let machine = self.machine(program, initramfs, tpm.as_ref().map(|(_, socket)| socket.clone()))?;
        self.server.take_requests();
        self.server.take_extra_headers();
        let mut vm = machine.start(tools, self.work)?;
        let mut results = Results::new();
        let mut current = "the boot itself";
        // The limits of each config are the guest's; this is for a guest that says nothing any more.
        let longest = self.configs.iter().map(|config| config.limit).max().unwrap_or_default();
        loop {
            let line = match vm.wait(Instant::now() + Duration::from_secs(longest + GRACE))? {
                Event::Report(line) => line,
                Event::Ended(status) => {
                    return self.lost(&vm, results, current, &format!("the machine ended ({status})"));
                }
                Event::TimedOut => return self.lost(&vm, results, current, "no word from the guest"),
            };
            let answer: Value = serde_json::from_str(&line).context("the guest's line is not JSON")?;
            ensure!(answer.get("nonce").and_then(Value::as_str) == Some(self.values.nonce()), "the nonce differs");
            let text = |key: &str| answer.get(key).and_then(Value::as_str);
            if let Some(begun) = text("begins") {
                let known = self.configs.iter().find(|config| config.name == begun);
                current = known.map_or(current, |config| &config.name);
            } else if let Some(done) = text("name") {
                let mut facts = answer.get("facts").and_then(Value::as_object).cloned().unwrap_or_default();
                // Contents are fetched side by side by ours.
                let sorted = |mut lines: Vec<String>| {
                    lines.sort();
                    json!(lines)
                };
                facts.insert("requests".to_owned(), sorted(self.server.take_requests()));
                facts.insert("request headers".to_owned(), sorted(self.server.take_extra_headers()));
                results.insert(done.to_owned(), facts);
                if results.len() % 20 == 0 {
                    say(format_args!("{}: {name}: {} of {}", self.case.name, results.len(), self.configs.len()));
                }
                vm.tell("next")?;
            } else if let Some(error) = text("error") {
                return self.lost(&vm, results, current, error);
            } else {
                vm.tell("off")?;
                vm.wait_end(Instant::now() + Duration::from_secs(90))?;
                return Ok(results);
            }
        }
    }

    /// A machine that is lost with one config must not take what it told of the others with it.
    fn lost(&self, vm: &qemu::Vm, mut results: Results, config: &str, why: &str) -> Result<Results> {
        let logs = self.session.keep_logs(&self.case.name, self.work);
        let end = host::tail(&vm.console(), 15);
        if results.is_empty() {
            bail!("{why} at {config}; the console is in {}:\n{end}", logs.join("console.log").display());
        }
        let mut facts = Map::new();
        facts.insert("error".to_owned(), json!(format!("{why}. The console's end:\n{end}")));
        results.insert(config.to_owned(), facts);
        Ok(results)
    }

    fn machine(&self, program: &str, initramfs: &Path, tpm: Option<PathBuf>) -> Result<qemu::Machine> {
        let probe = self.work.join("probe.json");
        let asked = json!({ "nonce": self.values.nonce(), "looks": [], "oracle": program });
        fs::write(&probe, serde_json::to_vec(&asked)?)?;
        // The boot needs some root; the configs get roots of their own.
        let disk = self.work.join("disk.img");
        drop(fs::remove_file(&disk));
        let items = ["etc", "usr", "var"].map(|path| Item::Folder(path.to_owned(), 0o755));
        self.session.image.extra_disk(&disk, "root", 32 << 20, &items, self.work)?;
        let mut words: Vec<String> = self.session.image.options(false).split_whitespace().map(str::to_owned).collect();
        words.retain(|word| !word.starts_with("ostree="));
        words.extend(self.case.arguments.iter().cloned());
        Ok(qemu::Machine {
            memory: self.case.memory,
            processors: 1,
            disks: vec![Disk { path: disk, format: "raw", serial: "fledge-boot".to_owned(), sector: 512, paths: 1 }],
            boot: qemu::Boot::Kernel {
                kernel: self.work.join("kernel"),
                initramfs: initramfs.to_owned(),
                arguments: words.join(" "),
            },
            tpm,
            fw_cfg: vec![(one::PROBE.to_owned(), probe)],
            network: true,
            console: Console::File,
            reboots: false,
            accel: self.session.accel,
        })
    }
}
