// SPDX-License-Identifier: Apache-2.0
//! `fledge firstboot-complete` on a real `/boot`: an ext4 file system, mounted read-only as distributions do.

use std::fs;
use std::path::Path;
use std::process::Command;

use fledge_tests::fledge;
use fledge_tests::namespace::{self, Disk};

/// Runs the test with a read-only `/boot` that holds the stamp and an installed config, and an empty `/var/lib`.
fn with_boot(name: &str, test: impl FnOnce()) {
    namespace::alone(name, || {
        let disk = Disk::new(32, &["mkfs.ext4", "-q"]);
        let run = |program: &str, args: &[&str]| {
            assert!(Command::new(program).args(args).status().unwrap().success(), "{program} {args:?}");
        };
        fs::create_dir_all("/boot").unwrap();
        run("mount", &[disk.name(), "/boot"]);
        fs::create_dir("/boot/ignition").unwrap();
        fs::write("/boot/ignition/config.ign", "{}").unwrap();
        fs::write("/boot/ignition.firstboot", "").unwrap();
        run("mount", &["-o", "remount,ro", "/boot"]);
        run("mount", &["-t", "tmpfs", "tmpfs", "/var/lib"]);
        run("mount", &["-t", "tmpfs", "tmpfs", "/mnt"]);
        fs::write("/mnt/report.json", "{}").unwrap();
        fs::write("/mnt/cmdline", "ignition.firstboot ignition.platform.id=qemu").unwrap();
        test();
        run("umount", &["/boot"]);
    });
}

fn complete() -> (bool, String) {
    let output = Command::new(fledge())
        .arg("firstboot-complete")
        .env("FLEDGE_RUNTIME_DIR", "/mnt")
        .env("IGNITION_KERNEL_CMDLINE_PATH", "/mnt/cmdline")
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_read_only_boot_loses_stamp_and_config() {
    with_boot("firstboot::a_read_only_boot_loses_stamp_and_config", || {
        assert_eq!(complete(), (true, String::new()));
        assert!(!Path::new("/boot/ignition.firstboot").exists());
        assert!(!Path::new("/boot/ignition").exists());
        assert_eq!(fs::read_to_string("/var/lib/fledge/first-boot.json").unwrap(), "{}");
    });
}

#[test]
fn a_stamp_that_stays_is_told() {
    with_boot("firstboot::a_stamp_that_stays_is_told", || {
        // A file that something is mounted on can't be removed.
        let bound = Command::new("mount").args(["--bind", "/mnt/report.json", "/boot/ignition.firstboot"]).status();
        assert!(bound.unwrap().success());
        let (good, words) = complete();
        assert!(!good);
        assert!(words.contains("removing /boot/ignition.firstboot"), "{words}");
        assert!(words.contains("what to do: remove it by hand"), "{words}");
        assert!(fs::read_to_string("/mnt/failure").unwrap().contains("/boot/ignition.firstboot"));
        assert!(!Path::new("/boot/ignition").exists(), "the rest is done all the same");
        assert!(Command::new("umount").arg("/boot/ignition.firstboot").status().unwrap().success());
    });
}
