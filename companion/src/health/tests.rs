// SPDX-License-Identifier: Apache-2.0
//! Real script trees, run for real. Each script notes its name in a file, so that order and number of runs are seen.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::programs::tests::executable;

struct Tree {
    directory: TempDir,
}

impl Tree {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self, path: &str, text: &str, mode: u32) -> &Self {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        executable(&path, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// A script that notes its path below the root, and ends with a code.
    fn script(&self, path: &str, code: i32) -> &Self {
        let log = self.root().join("ran");
        self.file(path, &format!("#!/bin/sh\necho {path} >> {}\nexit {code}\n", log.display()), 0o755)
    }

    fn ran(&self) -> Vec<String> {
        fs::read_to_string(self.root().join("ran")).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

fn outcomes(checks: &[Check]) -> Vec<(String, Outcome)> {
    let name = |check: &Check| check.path.file_name().unwrap().to_string_lossy().into_owned();
    checks.iter().map(|check| (name(check), check.outcome.clone())).collect()
}

#[test]
fn a_machine_without_checks_is_healthy() {
    let health = check(Tree::new().root(), "b007");
    assert!(health.healthy && health.checks.is_empty());
    assert_eq!(health.boot_id, "b007");
}

#[test]
fn required_checks_of_all_folders_come_first_then_wanted_ones_in_the_order_of_bytes() {
    let tree = Tree::new();
    for path in [
        "etc/fledge/health.d/01_ours.sh",
        "etc/greenboot/check/required.d/00_etc.sh",
        "etc/greenboot/check/wanted.d/00_wanted.sh",
        "usr/lib/greenboot/check/required.d/B.sh",
        "usr/lib/greenboot/check/required.d/a.sh",
        "usr/lib/greenboot/check/required.d/10_x.sh",
        "usr/lib/greenboot/check/required.d/9_x.sh",
        "usr/lib/greenboot/check/wanted.d/99_lib.sh",
    ] {
        tree.script(path, 0);
    }
    assert!(check(tree.root(), "").healthy);
    assert_eq!(
        tree.ran(),
        [
            "usr/lib/greenboot/check/required.d/10_x.sh",
            "usr/lib/greenboot/check/required.d/9_x.sh",
            "usr/lib/greenboot/check/required.d/B.sh",
            "usr/lib/greenboot/check/required.d/a.sh",
            "etc/greenboot/check/required.d/00_etc.sh",
            "etc/fledge/health.d/01_ours.sh",
            "usr/lib/greenboot/check/wanted.d/99_lib.sh",
            "etc/greenboot/check/wanted.d/00_wanted.sh",
        ]
    );
}

#[test]
fn the_first_required_check_that_fails_is_the_last_that_runs() {
    let tree = Tree::new();
    tree.script("usr/lib/greenboot/check/required.d/10.sh", 0)
        .script("usr/lib/greenboot/check/required.d/20.sh", 3)
        .script("usr/lib/greenboot/check/required.d/30.sh", 4)
        .script("etc/greenboot/check/required.d/00.sh", 5)
        .script("etc/greenboot/check/wanted.d/00w.sh", 0);
    let health = check(tree.root(), "");
    assert!(!health.healthy);
    assert_eq!(tree.ran().len(), 2);
    assert_eq!(
        outcomes(&health.checks),
        [
            ("10.sh".into(), Outcome::Passed),
            ("20.sh".into(), Outcome::Failed(3)),
            ("30.sh".into(), Outcome::Skipped),
            ("00.sh".into(), Outcome::Skipped),
            ("00w.sh".into(), Outcome::Skipped),
        ]
    );
}

#[test]
fn wanted_checks_may_fail_and_the_others_run_all_the_same() {
    let tree = Tree::new();
    tree.script("usr/lib/greenboot/check/wanted.d/10.sh", 1).script("etc/greenboot/check/wanted.d/10.sh", 0);
    let health = check(tree.root(), "");
    assert!(health.healthy);
    assert_eq!(tree.ran().len(), 2);
    assert_eq!(health.failed().count(), 1);
}

#[test]
fn what_runs_is_a_file_that_is_named_sh_or_executable() {
    let tree = Tree::new();
    let folder = "etc/greenboot/check/required.d";
    tree.script(&format!("{folder}/program"), 0)
        .file(&format!("{folder}/by-bash.sh"), "[[ x == x ]]", 0o644)
        .file(&format!("{folder}/README"), "exit 1", 0o644)
        .script(&format!("{folder}/.hidden.sh"), 1)
        .script(&format!("{folder}/folder.sh/inner.sh"), 1);
    let health = check(tree.root(), "");
    assert!(health.healthy, "{health:?}");
    assert_eq!(outcomes(&health.checks), [("by-bash.sh".into(), Outcome::Passed), ("program".into(), Outcome::Passed)]);
}

#[test]
fn a_check_that_can_not_be_run_fails() {
    let tree = Tree::new();
    tree.file("etc/fledge/health.d/10_no_such_interpreter", "#!/no/such/program\n", 0o755);
    assert!(matches!(check(tree.root(), "").checks[0].outcome, Outcome::NotStarted(_)));
    let tree = Tree::new();
    fs::create_dir_all(tree.root().join("etc/fledge/health.d")).unwrap();
    symlink("/no/such/file", tree.root().join("etc/fledge/health.d/10.sh")).unwrap();
    assert_eq!(check(tree.root(), "").checks[0].outcome, Outcome::Failed(127), "bash's code for what isn't there");
    let tree = Tree::new();
    tree.file("etc/fledge/health.d/10.sh", "kill -KILL $$", 0o644);
    assert_eq!(check(tree.root(), "").checks[0].outcome, Outcome::Killed(9));
}

#[test]
fn disabled_checks_do_not_run_and_unknown_names_are_told() {
    let tree = Tree::new();
    tree.script("usr/lib/greenboot/check/required.d/10_bad.sh", 1)
        .script("etc/greenboot/check/wanted.d/10_bad.sh", 1)
        .script("etc/greenboot/check/required.d/20_good.sh", 0)
        .file("etc/greenboot/greenboot.conf", "DISABLED_HEALTHCHECKS=(\"10_bad.sh\" nobody.sh)\n", 0o644);
    let health = check(tree.root(), "");
    assert!(health.healthy);
    assert_eq!(tree.ran(), ["etc/greenboot/check/required.d/20_good.sh"]);
    assert_eq!(health.unknown_disabled, ["nobody.sh"]);
    assert_eq!(health.checks[0].outcome, Outcome::Disabled);
}

#[test]
fn settings_or_folders_that_can_not_be_read_make_a_boot_unhealthy() {
    let tree = Tree::new();
    tree.file("etc/greenboot/greenboot.conf", "DISABLED_HEALTHCHECKS=(a", 0o644);
    let health = check(tree.root(), "");
    assert!(!health.healthy && health.problems[0].why.contains("isn't closed"), "{health:?}");
    let tree = Tree::new();
    tree.file("etc/greenboot/check/required.d", "", 0o644);
    assert!(!check(tree.root(), "").healthy);
}

#[test]
fn the_last_line_of_a_failed_check_is_kept_and_no_other() {
    let tree = Tree::new();
    tree.file("etc/fledge/health.d/10.sh", "echo password=x; echo no route to host >&2; echo; exit 1", 0o644);
    let health = check(tree.root(), "b007");
    assert_eq!(health.checks[0].said.as_deref(), Some("no route to host"));
    let runtime = tree.root().join("run/fledge");
    leave(&runtime, &health).unwrap();
    let (file, folder) = (fs::metadata(runtime.join(FILE)).unwrap(), fs::metadata(&runtime).unwrap());
    assert_eq!((file.permissions().mode() & 0o777, folder.permissions().mode() & 0o777), (0o644, 0o755));
    assert!(!fs::read_to_string(runtime.join(FILE)).unwrap().contains("password"), "everybody reads it");
    assert_eq!(left(&runtime).unwrap(), Some(health));
    assert_eq!(left(tree.root()).unwrap(), None);
    tree.file("etc/fledge/health.d/10.sh", "seq -s ' ' 1 1000; exit 1", 0o644);
    assert_eq!(check(tree.root(), "").checks[0].said.as_ref().unwrap().len(), LONGEST);
}

#[test]
fn all_hooks_run_in_order_whatever_they_say() {
    let tree = Tree::new();
    tree.script("etc/greenboot/red.d/10.sh", 0)
        .script("usr/lib/greenboot/red.d/20.sh", 1)
        .script("usr/lib/greenboot/red.d/10.sh", 1)
        .script("etc/greenboot/green.d/10.sh", 0)
        .file("etc/greenboot/greenboot.conf", "DISABLED_HEALTHCHECKS=(10.sh)\n", 0o644);
    assert_eq!(hooks(tree.root(), Kind::Red, None).iter().filter(|hook| hook.outcome.is_failure()).count(), 2);
    assert_eq!(
        tree.ran(),
        ["usr/lib/greenboot/red.d/10.sh", "usr/lib/greenboot/red.d/20.sh", "etc/greenboot/red.d/10.sh"]
    );
    assert_eq!(hooks(tree.root(), Kind::Green, None).len(), 1);
}

#[test]
fn hooks_have_one_time_for_all_of_them() {
    let tree = Tree::new();
    tree.script("etc/greenboot/red.d/10.sh", 0)
        .file("etc/greenboot/red.d/20.sh", "echo waits; sleep 60", 0o644)
        .script("etc/greenboot/red.d/30.sh", 0);
    let start = Instant::now();
    let hooks = hooks(tree.root(), Kind::Red, Some(start + std::time::Duration::from_secs(5)));
    assert!(start.elapsed() < std::time::Duration::from_secs(40));
    assert_eq!(
        outcomes(&hooks),
        [("10.sh".into(), Outcome::Passed), ("20.sh".into(), Outcome::TooLate), ("30.sh".into(), Outcome::TooLate)]
    );
    assert_eq!((hooks[1].said.as_deref(), tree.ran().len()), (Some("waits"), 1));
}

/// What greenboot's own package brings beside the scripts that need a network.
#[test]
fn scripts_as_greenboot_ships_them() {
    let tree = Tree::new();
    for (folder, what) in [("required", "Required"), ("wanted", "Wanted")] {
        let text = format!("#!/bin/bash\nset -euo pipefail\n\necho \"{what} checks begin\"\n");
        tree.file(&format!("usr/lib/greenboot/check/{folder}.d/00_{folder}_scripts_start.sh"), &text, 0o644);
    }
    let conf = "# A comment\n\n## Watchdog\nGREENBOOT_WATCHDOG_CHECK_ENABLED=true\n# GREENBOOT_MAX_BOOT_ATTEMPTS=3\n### DISABLED_HEALTHCHECKS=(\n### \t\"01.sh\"\n### )\nDISABLED_HEALTHCHECKS=()\n";
    tree.file("etc/greenboot/greenboot.conf", conf, 0o644);
    let health = check(tree.root(), "");
    assert!(health.healthy && health.checks.len() == 2 && health.failed().count() == 0, "{health:?}");
}
