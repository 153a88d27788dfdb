// SPDX-License-Identifier: Apache-2.0
//! The units: systemd's own programs install them below a root and load them, as an image would.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// All that units here may say: systemd 249 knows each (`src/core/load-fragment-gperf.gperf.in`, `src/core/main.c`). `RequiresMountsFor`
/// isn't among them: what has to be told of a file system that can't be mounted would not run.
const DIRECTIVES: [&str; 23] = [
    "After",
    "Alias",
    "Before",
    "ConditionKernelCommandLine",
    "ConditionPathExists",
    "Conflicts",
    "DefaultDependencies",
    "Description",
    "ExecStart",
    "ExecStop",
    "IgnoreOnIsolate",
    "OnFailure",
    "RebootWatchdogSec",
    "RemainAfterExit",
    "RequiredBy",
    "Requires",
    "RuntimeWatchdogSec",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "Type",
    "WantedBy",
    "Wants",
    "WatchdogDevice",
];

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("units")
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

fn is_unit(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["service", "target"].iter().any(|unit| extension == *unit))
}

/// A root with the units of this package, as `docs/companion.md` installs them, and systemd's own.
fn image() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let system = root.path().join("usr/lib/systemd/system");
    let presets = root.path().join("usr/lib/systemd/system-preset");
    let programs = root.path().join("usr/bin");
    for folder in [&system, &presets, &programs] {
        fs::create_dir_all(folder).unwrap();
    }
    for path in files(Path::new("/usr/lib/systemd/system")) {
        let to = system.join(path.strip_prefix("/usr/lib/systemd/system").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        match fs::read_link(&path) {
            Ok(target) => symlink(target, to).unwrap(),
            Err(_) => drop(fs::copy(&path, to).unwrap()),
        }
    }
    for path in files(&units()).iter().filter(|path| is_unit(path)) {
        fs::copy(path, system.join(path.file_name().unwrap())).unwrap();
    }
    fs::create_dir_all(system.join("boot-complete.target.d")).unwrap();
    let drop_in = "boot-complete.target.d/10-fledge.conf";
    fs::copy(units().join(drop_in), system.join(drop_in)).unwrap();
    fs::copy(units().join("40-fledge-companion.preset"), presets.join("40-fledge-companion.preset")).unwrap();
    fs::write(presets.join("99-others.preset"), "disable *\n").unwrap();
    for program in ["fledgectl", "systemctl"] {
        fs::write(programs.join(program), "#!/bin/sh\n").unwrap();
        fs::set_permissions(programs.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let preset =
        Command::new("systemctl").arg(format!("--root={}", root.path().display())).arg("preset-all").output().unwrap();
    assert!(preset.status.success(), "{}", String::from_utf8_lossy(&preset.stderr));
    root
}

/// What `systemd-analyze verify` says about units of ours. What it says about others isn't for us.
fn verify(root: &Path, names: &[&str]) -> Vec<String> {
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", &format!("--root={}", root.display())])
        .args(names)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours = ["fledge", "redboot", "boot-complete"];
    let said: Vec<String> =
        said.lines().filter(|line| ours.iter().any(|ours| line.contains(ours))).map(str::to_owned).collect();
    // A line that names none of ours and still makes it fail would be passed over.
    assert!(output.status.success() || !said.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn systemd_installs_and_loads_them() {
    let root = image();
    let installed = root.path().join("etc/systemd/system");
    let links: Vec<String> = files(&installed)
        .iter()
        .map(|path| path.strip_prefix(&installed).unwrap().display().to_string())
        .filter(|link| link.contains("fledge") || link.contains("greenboot"))
        .collect();
    assert_eq!(
        links,
        [
            "basic.target.wants/fledge-attempt.service",
            "boot-complete.target.requires/fledge-health.service",
            "greenboot-healthcheck.service",
            "multi-user.target.wants/fledge-bless.service",
            "multi-user.target.wants/fledge-green.service",
            "redboot.target.wants/fledge-red.service",
            "rescue.target.wants/fledge-give-back.service",
            "sysinit.target.wants/fledge-deadline.service",
            "sysinit.target.wants/fledge-start-arm.service",
        ]
    );
    let names = [
        "multi-user.target",
        "rescue.target",
        "redboot.target",
        "fledge-arm.service",
        "fledge-give-back.service",
        "fledge-red.service",
    ];
    assert_eq!(verify(root.path(), &names), Vec::<String>::new());
    // systemd's own check for failed units comes after multi-user.target and before boot-complete.target. It may be enabled.
    let check = "systemd-boot-check-no-failures.service";
    let requires = installed.join("boot-complete.target.requires");
    symlink(format!("/usr/lib/systemd/system/{check}"), requires.join(check)).unwrap();
    assert_eq!(verify(root.path(), &names), Vec::<String>::new());
}

#[test]
fn what_is_wrong_would_be_seen() {
    let root = image();
    let bless = root.path().join("usr/lib/systemd/system/fledge-bless.service");
    let text = fs::read_to_string(&bless).unwrap();
    fs::write(&bless, text.replace("[Service]", "Before=fledge-health.service\nStartLimitBurst=x\n\n[Service]"))
        .unwrap();
    fs::remove_file(root.path().join("usr/bin/fledgectl")).unwrap();
    let said = verify(root.path(), &["fledge-bless.service"]).join("\n");
    for part in ["Failed to parse", "not executable", "ordering cycle"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn they_say_nothing_that_systemd_249_does_not_know_and_call_what_there_is() {
    let help = Command::new(env!("CARGO_BIN_EXE_fledgectl")).args(["unit", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let mut called = BTreeSet::new();
    for path in files(&units()).iter().filter(|path| {
        is_unit(path) || path.to_string_lossy().contains(".d/") || path.to_string_lossy().contains("optional/")
    }) {
        for line in
            fs::read_to_string(path).unwrap().lines().filter(|line| !line.starts_with(['#', '[']) && !line.is_empty())
        {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{}: {line}", path.display()));
            assert!(DIRECTIVES.contains(&key), "{}: {key}", path.display());
            let started = value.strip_prefix("/usr/bin/systemctl --no-block start ");
            if let Some(unit) = started.filter(|_| key == "ExecStart") {
                assert!(units().join(unit).exists(), "{}: {value}", path.display());
            } else if ["ExecStart", "ExecStop"].contains(&key) {
                let name = value.strip_prefix("/usr/bin/fledgectl unit ").unwrap_or_else(|| panic!("{value}"));
                assert!(help.contains(&format!("\n  {name} ")), "{}: {value}", path.display());
                called.insert(name.to_owned());
            }
        }
    }
    let offered = help.lines().filter(|line| line.starts_with("  ")).filter_map(|line| line.split_whitespace().next());
    assert_eq!(offered.map(str::to_owned).collect::<BTreeSet<_>>(), called);
}

/// A mount with `nofail` isn't ordered before `local-fs.target`.
#[test]
fn those_that_write_come_after_the_file_systems_and_run_without_them() {
    for name in ["attempt", "bless", "give-back"] {
        let text = fs::read_to_string(units().join(format!("fledge-{name}.service"))).unwrap();
        let values = |key: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
        };
        let (wanted, after) = (values("Wants"), values("After"));
        assert!(["boot.mount", "var.mount"].iter().all(|mount| wanted.iter().any(|unit| unit == mount)), "{name}");
        assert!(wanted.iter().all(|unit| after.contains(unit)), "{name}");
        assert!(after.iter().any(|unit| unit == "local-fs.target"), "{name}");
        assert!(values("Requires").iter().all(|unit| !wanted.contains(unit)), "{name}");
    }
}

/// Whether systemd's order between two units, be it by way of others, has the first start before the second one, and so stop after it: if it
/// has, the opposite order makes a circle.
fn starts_before(root: &Path, first: &str, second: &str) -> bool {
    let system = root.join("usr/lib/systemd/system");
    fs::create_dir_all(system.join(format!("{first}.d"))).unwrap();
    let opposite = system.join(format!("{first}.d/99-test.conf"));
    fs::write(&opposite, format!("[Unit]\nAfter={second}\n")).unwrap();
    let wants = format!("[Unit]\nWants=multi-user.target {first} {second}\n");
    fs::write(system.join("fledge-test.target"), wants).unwrap();
    let said = verify(root, &["fledge-test.target"]);
    fs::remove_file(opposite).unwrap();
    // The line that begins a circle may name others.
    said.iter()
        .any(|line| ["Found ordering cycle on ", "Found dependency on "].iter().any(|found| line.contains(found)))
}

#[test]
fn what_arms_stops_after_whatever_may_deploy_and_keeps_no_boot() {
    let root = image();
    let system = root.path().join("usr/lib/systemd/system");
    for unit in ["rpm-ostreed.service", "ostree-finalize-staged.service", "boot.mount", "sysroot.mount"] {
        let text = match unit {
            // As OSTree has it, and all others by default.
            "ostree-finalize-staged.service" => {
                "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/usr/bin/fledgectl\n"
            }
            "rpm-ostreed.service" => "[Service]\nExecStart=/usr/bin/fledgectl\n",
            "boot.mount" => "[Mount]\nWhat=/dev/null\nWhere=/boot\nOptions=nofail\n",
            _ => "[Mount]\nWhat=/dev/null\nWhere=/sysroot\nOptions=nofail\n",
        };
        fs::write(system.join(unit), text).unwrap();
    }
    let arm = "fledge-arm.service";
    // Sessions stop before what permits them does.
    for deploys in [
        "rpm-ostreed.service",
        "fledge-bless.service",
        "systemd-user-sessions.service",
        "ostree-finalize-staged.service",
    ] {
        assert!(starts_before(root.path(), arm, deploys), "{deploys}");
    }
    for mount in ["boot.mount", "sysroot.mount"] {
        assert!(starts_before(root.path(), mount, arm), "{mount}");
    }
    // Only what comes after the basic system starts it.
    assert!(starts_before(root.path(), "basic.target", "fledge-start-arm.service"));
    assert!(!starts_before(root.path(), arm, "fledge-deadline.service"), "there is no order");

    let text = fs::read_to_string(system.join(arm)).unwrap();
    fs::write(system.join(arm), text.replace("Before=basic.target ", "Before=")).unwrap();
    assert!(!starts_before(root.path(), arm, "rpm-ostreed.service"), "nothing else orders them");
    assert_eq!(verify(root.path(), &["fledge-test.target"]), Vec::<String>::new());
}

#[test]
fn who_updates_by_itself_begins_after_them() {
    for name in ["attempt", "bless"] {
        let text = fs::read_to_string(units().join(format!("fledge-{name}.service"))).unwrap();
        let before: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("Before=")).flat_map(str::split_whitespace).collect();
        assert!(
            ["zincati.service", "rpm-ostreed-automatic.service"].iter().all(|unit| before.contains(unit)),
            "{name}"
        );
    }
}

#[test]
fn the_preset_enables_all_that_can_be() {
    let preset = fs::read_to_string(units().join("40-fledge-companion.preset")).unwrap();
    let enabled: Vec<&str> = preset.lines().filter_map(|line| line.strip_prefix("enable ")).collect();
    let installable: Vec<String> = files(&units())
        .iter()
        .filter(|path| is_unit(path) && fs::read_to_string(path).unwrap().contains("\n[Install]\n"))
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(enabled, installable);
}
