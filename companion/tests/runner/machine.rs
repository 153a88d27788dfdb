// SPDX-License-Identifier: Apache-2.0
//! A system with deployments, made by `ostree admin`, and what a boot of it would find.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fledge_companion::admin::Admin;
use fledge_companion::duty::Machine;
use fledge_companion::programs::Programs;
use fledge_companion::sysroot::{Live, Sysroot};
use fledge_core::counting::{Environment, Id, SELECTION, STEERING, Selection};
use fledge_core::diag::Failure;
use fledge_core::pivot::{Value, serialize};
use tempfile::TempDir;

/// The physical root is `sysroot/`, the root of the running system is `live/`, programs that are not to be the real ones are in `bin/`.
pub(crate) struct System {
    directory: TempDir,
    pub(crate) machine: Machine,
}

impl Drop for System {
    fn drop(&mut self) {
        // OSTree makes deployments immutable, so that they could not be removed.
        let _ = Command::new("chattr").args(["-R", "-f", "-i"]).arg(self.directory.path()).status();
    }
}

impl System {
    /// With one deployment of each version, the last one first.
    pub(crate) fn new(versions: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (root, live, bin) =
            (directory.path().join("sysroot"), directory.path().join("live"), directory.path().join("bin"));
        for folder in [&root, &live, &bin] {
            fs::create_dir(folder).unwrap();
        }
        let live = Live { runtime: live.join("run/fledge"), root: live };
        fs::create_dir_all(&live.runtime).unwrap();
        let sysroot = Sysroot { boot: root.join("boot"), root: root.clone(), live: Some(live.clone()) };
        let programs = Programs::within([bin, "/usr/bin".into()]);
        let admin = Admin { programs, sysroot: Some(root.clone()) };
        let machine = Machine {
            sysroot,
            admin,
            live,
            boot_id: "b007-1d".into(),
            patience: Duration::from_secs(60),
            hooks: Duration::from_secs(60),
            restart: || Failure::new("restarting the machine", "this is a test"),
        };
        let system = Self { directory, machine };
        ostree(&["admin", "init-fs"], &[&root]);
        system.admin(&["os-init", "nestos"]);
        let repo = format!("--repo={}/ostree/repo", root.display());
        ostree(&[&repo, "config", "set", "sysroot.bootloader", "none"], &[]);
        for version in versions {
            system.deploy(version);
        }
        system.program("systemctl", "case $1 in show) echo 0 ;; is-active) exit 3 ;; esac");
        system.program("journalctl", "case $* in *--sync*) ;; *) echo \"the journal: $*\" ;; esac");
        system
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Commits and deploys one more version. Versions that end in `k` have a kernel of their own.
    pub(crate) fn deploy(&self, version: &str) {
        let tree = self.path().join("tree");
        let modules = tree.join("usr/lib/modules/5.10");
        fs::create_dir_all(&modules).unwrap();
        fs::create_dir_all(tree.join("usr/etc")).unwrap();
        fs::write(tree.join("usr/lib/os-release"), "NAME=NestOS\nPRETTY_NAME=\"NestOS\"\nID=nestos\n").unwrap();
        let kernel = if version.ends_with('k') { version } else { "kernel" };
        fs::write(modules.join("vmlinuz"), kernel).unwrap();
        fs::write(modules.join("initramfs.img"), "initramfs").unwrap();
        fs::write(tree.join("usr/version"), version).unwrap();
        let root = &self.machine.sysroot.root;
        let repo = format!("--repo={}/ostree/repo", root.display());
        let (dir, meta) =
            (format!("--tree=dir={}", tree.display()), format!("--add-metadata-string=version={version}"));
        ostree(&[&repo, "commit", "--branch=nestos/x", &dir, &meta], &[]);
        // What isn't merged from a running system is kept only on demand.
        self.admin(&["deploy", "--retain", "--os=nestos", "nestos/x"]);
    }

    /// Runs `ostree admin` and returns what it prints.
    pub(crate) fn admin(&self, args: &[&str]) -> String {
        let sysroot = format!("--sysroot={}", self.machine.sysroot.root.display());
        let args: Vec<&str> = ["admin"].into_iter().chain(args.iter().copied()).chain([sysroot.as_str()]).collect();
        ostree(&args, &[])
    }

    /// Whether this machine's OSTree can choose any default.
    pub(crate) fn has_set_default() -> bool {
        let output = Command::new("ostree").args(["admin", "--help"]).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).contains("set-default")
    }

    /// From now on `ostree` is one that can choose a default, or one that can't. All else is done by the real one. The second of two
    /// deployments becomes the first by what OSTree goes by: their boot entries change places.
    pub(crate) fn set_default(&self, can: bool) {
        let others = "*) exec /usr/bin/ostree \"$@\" ;;";
        let help = "/usr/bin/ostree admin --help 2>&1 | grep -v set-default";
        let entries = self.machine.sysroot.boot.join("loader/entries");
        let script = match (can, Self::has_set_default()) {
            (true, true) => format!("case x in {others} esac"),
            (false, _) => format!("case $* in 'admin --help') {help} ;; {others} esac"),
            (true, false) => format!(
                "case $* in 'admin --help') {help}; echo '  set-default' ;; 'admin set-default 1 '*) cd {} || exit 1; set -- *.conf; \
                 [ $# = 2 ] || exit 1; one=$(grep '^version ' $1) other=$(grep '^version ' $2); \
                 sed \"s/^version .*/$other/\" $1 > new; sed \"s/^version .*/$one/\" $2 > $1; mv new $2 ;; {others} esac",
                entries.display()
            ),
        };
        self.program("ostree", &script);
    }

    /// What GRUB was told, besides what others keep there.
    pub(crate) fn tell_grub(&self, entry: &str) -> PathBuf {
        let grubenv = self.machine.sysroot.boot.join("grub2/grubenv");
        fs::create_dir_all(grubenv.parent().unwrap()).unwrap();
        let told = Environment::default().with("kept", Some("1")).with(STEERING, Some(entry));
        fs::write(&grubenv, told.render().unwrap()).unwrap();
        grubenv
    }

    /// The deployments in the bootloader's order.
    pub(crate) fn ids(&self) -> Vec<Id> {
        self.machine.sysroot.deployments().unwrap().into_iter().map(|deployment| deployment.id).collect()
    }

    /// The name of a deployment's boot entry, without `.conf`.
    pub(crate) fn entry(&self, id: &Id) -> String {
        let deployments = self.machine.sysroot.deployments().unwrap();
        let place = deployments.iter().position(|deployment| deployment.id == *id).unwrap();
        let mut names = names(&self.machine.sysroot.boot.join("loader/entries"));
        // The highest comes first.
        names.reverse();
        names[place].trim_end_matches(".conf").to_owned()
    }

    /// Puts a program in the place of the real one. Its calls are noted.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let path = self.path().join("bin").join(name);
        let calls = self.path().join("calls");
        let text = format!("#!/bin/sh\necho {name} \"$@\" >> {}\n{script}\n", calls.display());
        // Another process writes it: a program that is open for writing, here or in what a test beside this one starts, can't be run.
        let write = ["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""];
        assert!(Command::new("sh").args(write).arg(&path).arg(text).status().unwrap().success());
    }

    /// How the programs were called whose names begin so.
    pub(crate) fn calls(&self, beginning: &str) -> Vec<String> {
        let calls = fs::read_to_string(self.path().join("calls")).unwrap_or_default();
        calls.lines().filter(|line| line.starts_with(beginning)).map(str::to_owned).collect()
    }

    /// This deployment runs, as the initramfs would say.
    pub(crate) fn boot(&self, id: &Id, selection: Option<&Selection>) {
        let folder = self.machine.sysroot.root.join(id.path().trim_start_matches('/'));
        let stat = fs::metadata(folder).unwrap();
        let booted = serialize(&[("backing-root-device-inode", Value::Pair(stat.dev(), stat.ino()))]);
        fs::write(self.machine.live.root.join("run/ostree-booted"), booted).unwrap();
        let path = self.machine.live.runtime.join(SELECTION);
        match selection {
            Some(selection) => fs::write(path, serde_json::to_vec(selection).unwrap()).unwrap(),
            None => drop(fs::remove_file(path)),
        }
    }

    /// A file of the running system.
    pub(crate) fn file(&self, path: &str, text: &str) -> PathBuf {
        let path = self.machine.live.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// The text of a file of the running system.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.machine.live.root.join(path)).ok()
    }

    /// Makes records.
    pub(crate) fn record(&self, names: &[String]) {
        let folder = self.machine.sysroot.records_folder();
        fs::create_dir_all(&folder).unwrap();
        for name in names {
            fs::write(folder.join(name), "").unwrap();
        }
    }

    /// The names of all records, sorted.
    pub(crate) fn records(&self) -> Vec<String> {
        names(&self.machine.sysroot.records_folder())
    }

    /// The names of the deployments that this program pinned.
    pub(crate) fn pinned(&self) -> Vec<String> {
        names(&self.machine.sysroot.boot.join("fledge/pinned"))
    }

    /// The deployments that OSTree calls pinned.
    pub(crate) fn pinned_by_ostree(&self) -> usize {
        self.admin(&["status"]).matches("Pinned: yes").count()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn ostree(args: &[&str], paths: &[&Path]) -> String {
    let output =
        Command::new("ostree").args(args).args(paths).env("LC_ALL", "C").output().expect("ostree is installed");
    assert!(output.status.success(), "ostree {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
