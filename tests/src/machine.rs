// SPDX-License-Identifier: Apache-2.0
//! A machine without hardware: a root in a temporary folder, with the accounts of a small system, and its first boot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::program::fledge;
use crate::tree::{self, Tree};

/// A machine whose root is a folder.
pub struct Machine {
    folder: TempDir,
    flags: Vec<String>,
    environment: Vec<(&'static str, String)>,
    open_files: Option<u32>,
}

/// How a first boot went.
pub struct Boot {
    /// Where it stopped; `None` when it went through.
    pub stopped: Option<Stopped>,
    /// What all stages printed.
    pub output: String,
    /// How long all of it took.
    pub took: Duration,
}

/// Where a boot stopped.
pub struct Stopped {
    /// The stage.
    pub stage: &'static str,
    /// Its exit code; -1 if it was ended by a signal.
    pub code: i32,
    /// What it printed.
    pub output: String,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A machine with root, a system user `dnsmasq`, and the groups `wheel` and `docker`.
    ///
    /// # Panics
    /// The temporary folder can't be filled.
    pub fn new() -> Self {
        // Built now, so that no boot's time counts it.
        fledge();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let machine = Self { folder, flags: Vec::new(), environment: Vec::new(), open_files: None };
        machine.put(
            "etc/passwd",
            0o644,
            "root:x:0:0:root:/root:/bin/sh\ndnsmasq:x:990:65534::/var/lib/misc:/bin/false\n",
        );
        machine.put("etc/group", 0o644, "root:x:0:\nwheel:x:10:\ndocker:x:980:\nnogroup:x:65534:\n");
        machine.put("etc/shadow", 0o600, "root:*:20000:0:99999:7:::\ndnsmasq:!:20000::::::\n");
        machine.put("etc/gshadow", 0o600, "root:*::\nwheel:!::\ndocker:!::\nnogroup:*::\n");
        machine.put(
            "etc/login.defs",
            0o644,
            "UID_MIN 1000\nUID_MAX 60000\nGID_MIN 1000\nGID_MAX 60000\nUSERGROUPS_ENAB yes\n",
        );
        machine.put("cmdline", 0o644, "");
        for directory in ["home", "var", "usr/bin", "dev", "proc"] {
            fs::create_dir_all(machine.root().join(directory)).expect("a directory");
        }
        machine
    }

    /// Adds a flag to every stage's command line.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Starts every stage with this variable in its environment.
    #[must_use]
    pub fn environment(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Starts every stage with this soft limit of open files, as systemd does with 1024.
    #[must_use]
    pub fn open_files(mut self, limit: u32) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// The target root.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// What stands in the target root.
    ///
    /// # Panics
    /// It can't be read.
    pub fn tree(&self) -> Tree {
        tree::read(&self.root()).expect("a readable root")
    }

    /// Writes a file into the root, or, for `cmdline`, the kernel command line.
    ///
    /// # Panics
    /// It can't be written.
    pub fn put(&self, path: &str, mode: u32, text: &str) {
        let path = if path == "cmdline" { self.folder.path().join(path) } else { self.root().join(path) };
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("permissions");
    }

    /// Boots with a config, stage after stage, as the units of a boot do.
    ///
    /// # Panics
    /// The program can't be started.
    pub fn boot(&self, config: &str) -> Boot {
        let start = Instant::now();
        self.prepare(config);
        let mut output = String::new();
        let mut stopped = None;
        for stage in ["fetch-offline", "fetch", "kargs", "disks", "mount", "files"] {
            if stage == "fetch" && (self.run_file("ignition.json").exists() || !self.run_file("neednet").exists()) {
                continue;
            }
            stopped = self.stage(stage, &mut output);
            if stopped.is_some() {
                break;
            }
        }
        stopped = stopped.or(self.stage("umount", &mut output));
        Boot { stopped, output, took: start.elapsed() }
    }

    /// Loses what stages leave for each other, as a loss of power does.
    ///
    /// # Panics
    /// It can't be removed.
    pub fn lose_power(&self) {
        fs::remove_dir_all(self.folder.path().join("run")).expect("a folder for what stages leave");
    }

    /// Boots with a config that no stage stops at.
    ///
    /// # Panics
    /// One did.
    pub fn booted(&self, config: &str) -> Boot {
        let boot = self.boot(config);
        assert!(boot.stopped.is_none(), "{}", boot.output);
        boot
    }

    /// The text of a file of the target.
    ///
    /// # Panics
    /// It can't be read.
    pub fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Gives the machine a config without booting it.
    ///
    /// # Panics
    /// It can't be written.
    pub fn prepare(&self, config: &str) {
        fs::write(self.folder.path().join("config.ign"), config).expect("a config");
    }

    /// A file that stages leave for each other.
    pub fn run_file(&self, name: &str) -> PathBuf {
        self.folder.path().join("run").join(name)
    }

    /// Runs one stage, and adds what it prints to `output`.
    ///
    /// # Panics
    /// The program can't be started.
    pub fn stage(&self, stage: &'static str, output: &mut String) -> Option<Stopped> {
        let Output { status, stdout, stderr } = self.command(stage).output().expect("fledge runs");
        let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        output.push_str(&text);
        if status.success() {
            return None;
        }
        Some(Stopped { stage, code: status.code().unwrap_or(-1), output: text })
    }

    /// The report of the boot.
    ///
    /// # Panics
    /// There is none.
    pub fn report(&self) -> serde_json::Value {
        let text = fs::read(self.folder.path().join("fledge/report.json")).expect("a report");
        serde_json::from_slice(&text).expect("a report in JSON")
    }

    /// Starts one stage in a process group of its own and kills it, with all that it started, after a while.
    ///
    /// # Panics
    /// The program can't be started or killed.
    pub fn cut_off(&self, stage: &str, after: Duration) {
        use std::os::unix::process::CommandExt;
        let mut child = self.command(stage).process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.as_mut().expect("fledge runs");
        std::thread::sleep(after);
        // It may have ended already; as nobody has waited for it yet, its number is still its own.
        let group = rustix::process::Pid::from_child(child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        child.wait().expect("an end");
        // What it started holds on to devices until it is gone, too.
        let end = Instant::now() + Duration::from_secs(20);
        while rustix::process::test_kill_process_group(group).is_ok() {
            assert!(Instant::now() < end, "something of the process group {group:?} doesn't end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn command(&self, stage: &str) -> Command {
        let run = |name: &str| format!("{}", self.run_file(name).display());
        let absent = Path::new("/nonexistent");
        let mut command = match self.open_files {
            None => Command::new(fledge()),
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -Sn {limit} && exec \"$0\" \"$@\"")]).arg(fledge());
                shell
            }
        };
        command
            .arg("ignition")
            .args(["--platform=file", "--log-to-stdout"])
            .arg(format!("--stage={stage}"))
            .arg(format!("--root={}", self.root().display()))
            .arg(format!("--config-cache={}", run("ignition.json")))
            .arg(format!("--neednet={}", run("neednet")))
            .arg(format!("--state-file={}", run("state")))
            .args(&self.flags)
            .env("FLEDGE_RUNTIME_DIR", self.folder.path().join("fledge"))
            .env("IGNITION_CONFIG_FILE", self.folder.path().join("config.ign"))
            .env("IGNITION_KERNEL_CMDLINE_PATH", self.folder.path().join("cmdline"))
            .env("IGNITION_SYSTEM_CONFIG_DIR", absent)
            .env("IGNITION_SYSTEM_LOCAL_CONFIG_DIR", absent)
            .env("IGNITION_SYSTEM_RUNTIME_CONFIG_DIR", absent)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }
}
