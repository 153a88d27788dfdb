// SPDX-License-Identifier: Apache-2.0
//! The kargs stage and the helper, with a real boot file system on a loop device.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use fledge_tests::namespace::{Disk, alone, mounts_below, run};
use fledge_tests::{Machine, fledge};

const ENTRY: &str = "title Nest\noptions rw $ignition_firstboot ostree=/ostree/boot.1/nestos/aa/0\nlinux /vmlinuz\n";

/// A boot file system with an entry of each form of name.
fn boot_disk() -> Disk {
    let folder = tempfile::tempdir().unwrap();
    let entries = folder.path().join("loader.0/entries");
    fs::create_dir_all(&entries).unwrap();
    std::os::unix::fs::symlink("loader.0", folder.path().join("loader")).unwrap();
    for name in ["ostree-1.conf", "ostree-2-nestos.conf"] {
        fs::write(entries.join(name), ENTRY).unwrap();
    }
    let from = folder.path().to_str().unwrap().to_owned();
    Disk::new(16, &["mkfs.ext4", "-q", "-F", "-L", "boot", "-d", &from])
}

/// What the entries of a boot disk say.
fn entries(disk: &Disk) -> [String; 2] {
    let at = Path::new("/mnt");
    run(Command::new("mount").args(["-o", "ro"]).arg(&disk.device).arg(at));
    let texts = ["ostree-1.conf", "ostree-2-nestos.conf"]
        .map(|name| fs::read_to_string(at.join("loader/entries").join(name)).unwrap());
    run(Command::new("umount").arg(at));
    texts
}

/// The helper, on a machine that runs with this command line.
fn helper(disk: &Disk, folder: &Path, cmdline: &str, args: &[&str]) -> Output {
    fs::write(folder.join("cmdline"), cmdline).unwrap();
    Command::new(fledge())
        .arg("ignition-kargs-helper")
        .args(["--boot-device", disk.name()])
        .args(args)
        .env("IGNITION_KERNEL_CMDLINE_PATH", folder.join("cmdline"))
        .env("FLEDGE_RUNTIME_DIR", folder.join("run"))
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

#[test]
fn the_helper_edits_a_boot_disk_that_nobody_else_sees_mounted() {
    alone("kargs::the_helper_edits_a_boot_disk_that_nobody_else_sees_mounted", || {
        let (disk, folder) = (boot_disk(), tempfile::tempdir().unwrap());
        let flag = folder.path().join("run/kargs-reboot");
        let args = ["--should-exist", "quiet", "--should-exist=x=\"a b\"", "--should-not-exist", "rw"];
        let output = helper(&disk, folder.path(), "rw ignition.firstboot", &args);
        assert!(output.status.success(), "{}", said(&output));
        assert!(
            said(&output).contains("edited ostree-1.conf, ostree-2-nestos.conf; a reboot is needed"),
            "{}",
            said(&output)
        );
        let expected = ENTRY.replace(" rw", "").replace("/aa/0", "/aa/0 quiet x=\"a b\"");
        assert_eq!(entries(&disk), [expected.clone(), expected.clone()]);
        assert_eq!(fs::read_to_string(&flag).unwrap(), "+quiet\n+x=\"a b\"\n-rw\n");

        // As the kernel shows it after the reboot.
        fs::remove_file(&flag).unwrap();
        let output = helper(&disk, folder.path(), "quiet \"x=a b\" ignition.firstboot", &args);
        assert!(said(&output).contains("have these arguments already"), "{}", said(&output));
        assert!(!flag.exists());
        assert_eq!(entries(&disk)[0], expected);
    });
}

#[test]
fn what_the_helper_cannot_do_it_says() {
    alone("kargs::what_the_helper_cannot_do_it_says", || {
        let (disk, folder) = (boot_disk(), tempfile::tempdir().unwrap());
        for (args, code, words) in [
            (&["--should-exist"][..], 2, "missing argument"),
            (&["--frobnicate"], 2, "--frobnicate"),
            (&["--should-exist", "a\nb"], 1, "control character"),
            (&["--should-exist", "a", "--boot-mount", "/nonexistent"], 1, "/nonexistent"),
        ] {
            let output = helper(&disk, folder.path(), "rw", args);
            assert_eq!(output.status.code(), Some(code), "{}", said(&output));
            assert!(said(&output).contains(words), "{}", said(&output));
        }
        let blank = Disk::new(16, &[]);
        let output = helper(&blank, folder.path(), "rw", &["--should-exist", "a"]);
        assert!(said(&output).contains("it is none of ext4, xfs, vfat, btrfs"), "{}", said(&output));
        assert_eq!(entries(&disk)[0], ENTRY);
        let output = helper(&disk, folder.path(), "rw", &[]);
        assert!(output.status.success(), "{}", said(&output));
    });
}

/// Puts a program where stages look for it, in this namespace alone.
fn install_helper(script: &str) {
    let place = Path::new("/usr/sbin");
    let folder = Path::new("/mnt");
    run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(folder));
    for name in ["upper", "work"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    let layers = format!("lowerdir={},upperdir=/mnt/upper,workdir=/mnt/work", place.display());
    run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers]).arg(place));
    let program = place.join("ignition-kargs-helper");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

const CONFIG: &str = r#"{"ignition": {"version": "3.3.0"}, "kernelArguments": {
  "shouldExist": ["quiet", "x=\"a b\""],
  "shouldNotExist": ["rw"]}}"#;

#[test]
fn the_stage_calls_the_distributions_helper_as_ignition_does() {
    alone("kargs::the_stage_calls_the_distributions_helper_as_ignition_does", || {
        let machine = Machine::new();
        let boot = machine.boot(CONFIG);
        let stopped = boot.stopped.unwrap();
        assert_eq!((stopped.stage, stopped.code), ("kargs", 1));
        assert!(stopped.output.contains("no program ignition-kargs-helper"), "{}", stopped.output);
        assert!(stopped.output.contains("config.ign:2:19 at $.kernelArguments.shouldExist.0"), "{}", stopped.output);

        let calls = machine.root().join("calls");
        install_helper(&format!(
            "for word; do echo \"$word\"; done >> {}; echo changed; echo warned >&2",
            calls.display()
        ));
        let boot = machine.boot(CONFIG);
        assert!(boot.stopped.is_none(), "{}", boot.output);
        assert_eq!(
            fs::read_to_string(&calls).unwrap(),
            "--should-exist\nquiet\n--should-exist\nx=\"a b\"\n--should-not-exist\nrw\n"
        );
        for line in
            ["ignition-kargs-helper: changed", "ignition-kargs-helper: warned", "set the kernel arguments: with quiet"]
        {
            assert!(boot.output.contains(line), "{line}: {}", boot.output);
        }

        fs::remove_file(&calls).unwrap();
        assert!(machine.boot(r#"{"ignition": {"version": "3.3.0"}}"#).stopped.is_none());
        assert!(!calls.exists(), "nothing was asked for");

        fs::write("/usr/sbin/ignition-kargs-helper", "#!/bin/sh\necho no zipl >&2\nexit 7\n").unwrap();
        let stopped = machine.boot(CONFIG).stopped.unwrap();
        assert!(stopped.output.contains("ended with exit code 7: no zipl"), "{}", stopped.output);
        assert_eq!(mounts_below(&machine.root()), [] as [&str; 0]);
    });
}
