// SPDX-License-Identifier: Apache-2.0
//! Real pivots of small deployments, each in a mount namespace and a root of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use fledge_core::cmdline::Cmdline;
use fledge_core::counting::{Id, Selection, Verdict};
use fledge_core::pivot::{Value, serialize};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount};

use super::*;
use crate::boot_select::{self, Places};
use crate::host::cmd::SH;

/// The variable that names a folder for the root.
const ROOT: &str = "FLEDGE_TEST_ROOT";
const DEPLOYMENT: &str = "/ostree/deploy/nestos/deploy/abc.0";

/// Runs one of the ignored tests below in a mount namespace.
fn in_a_namespace(test: &str) {
    let rights = if rustix::process::geteuid().is_root() { "--mount" } else { "--map-root-user" };
    let test = format!("pivot::tests::{test}");
    let args = [rights, "--mount", "--propagation", "private"];
    let root = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command
        .env(ROOT, root.path())
        .env("FLEDGE_RUNTIME_DIR", root.path().join("run"))
        .args(args)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--ignored"]);
    let output = command.output().unwrap();
    let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && printed.contains("1 passed"), "{test} in its own mount namespace:\n{printed}");
}

/// The optional fields of a mount, which tell how it propagates (`proc_pid_mountinfo(5)`).
fn propagation(point: &str) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let row = table.lines().find(|line| line.split(' ').nth(4) == Some(point)).unwrap();
    let fields = row.split(' ').skip(6).take_while(|word| *word != "-");
    fields.map(|field| field.split(':').next().unwrap().to_owned()).collect()
}

/// Goes to a root that holds an initramfs with these settings and a physical root with one deployment.
fn initramfs(settings: &str) -> Cmdline {
    let root = PathBuf::from(std::env::var_os(ROOT).unwrap());
    mount("tmpfs", &root, "tmpfs", MountFlags::empty(), None).unwrap();
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("usr/lib/ostree/prepare-root.conf", "[sysroot]\nreadonly=false\n[root]\ntransient=true\n");
    write("etc/ostree/prepare-root.conf", settings);
    for folder in ["run", "proc"] {
        fs::create_dir(root.join(folder)).unwrap();
    }
    mount_bind("/proc", root.join("proc")).unwrap();
    mount("tmpfs", root.join("run"), "tmpfs", MountFlags::empty(), None).unwrap();
    let physical = root.join("sysroot");
    fs::create_dir(&physical).unwrap();
    mount("tmpfs", &physical, "tmpfs", MountFlags::empty(), None).unwrap();
    for folder in ["etc", "usr/etc", "usr/lib/ostree", "var", "sysroot", "boot"] {
        fs::create_dir_all(root.join(format!("sysroot{DEPLOYMENT}/{folder}"))).unwrap();
    }
    write(&format!("sysroot{DEPLOYMENT}/usr/lib/os-release"), "ID=test\n");
    write(&format!("sysroot{DEPLOYMENT}/usr/etc/motd"), "hello\n");
    write("sysroot/ostree/deploy/nestos/var/lib/file", "");
    write("sysroot/ostree/repo/config", "[core]\nmode=bare\n");
    fs::create_dir_all(physical.join("ostree/boot.1.1/nestos/def")).unwrap();
    symlink("boot.1.1", physical.join("ostree/boot.1")).unwrap();
    symlink("../../../deploy/nestos/deploy/abc.0", physical.join("ostree/boot.1.1/nestos/def/0")).unwrap();
    rustix::process::chroot(&root).unwrap();
    rustix::process::chdir("/").unwrap();
    Cmdline::parse("rw ostree=/ostree/boot.1/nestos/def/0")
}

fn is_writable(folder: &str) -> bool {
    let file = Path::new(folder).join("written");
    fs::write(&file, "").is_ok() && fs::remove_file(&file).is_ok()
}

#[test]
fn a_deployment_becomes_the_root_above_a_read_only_physical_root() {
    in_a_namespace("plain");
}

#[test]
#[ignore = "run by the test above, which gives it a mount namespace of its own"]
fn plain() {
    let cmdline = initramfs("[sysroot]\nreadonly=true\n");
    let before = fs::metadata(format!("/sysroot{DEPLOYMENT}")).unwrap();
    run(Path::new("/sysroot"), &cmdline).unwrap();

    let root = fs::metadata("/sysroot").unwrap();
    assert_eq!((root.dev(), root.ino()), (before.dev(), before.ino()));
    assert_eq!(fs::read_to_string("/sysroot/usr/lib/os-release").unwrap(), "ID=test\n");
    assert!(Path::new("/sysroot/sysroot/ostree/repo/config").exists());
    let writable = [
        ("/sysroot/etc", true),
        ("/sysroot/usr", false),
        ("/sysroot/sysroot", false),
        ("/sysroot/sysroot/ostree/deploy/nestos/var", true),
    ];
    assert_eq!(writable.map(|(folder, _)| (folder, is_writable(folder))), writable);
    assert!(!Path::new("/sysroot/var/lib").exists(), "the real root mounts it");
    assert!(!Path::new("/sysroot.tmp").exists());
    // The deployment has no program of OSTree's that would tell another form.
    let expected = serialize(&[
        ("backing-root-device-inode", Value::Pair(before.dev(), before.ino())),
        ("root.transient", Value::Boolean(false)),
        ("root.transient-ro", Value::Boolean(false)),
        ("sysroot-ro", Value::Boolean(true)),
    ]);
    assert_eq!(fs::read("/run/ostree-booted").unwrap(), expected);
    assert_eq!(fs::metadata("/run/ostree-booted").unwrap().mode() & 0o7777, 0o644);
    assert_eq!(fs::metadata("/run/ostree/.private").unwrap().mode() & 0o7777, 0);
    assert!(fs::symlink_metadata("/run/systemd/volatile-root").is_err());

    let again = run(Path::new("/sysroot"), &cmdline).unwrap_err();
    assert!(again.why.contains("it was done before"), "{again}");
}

#[test]
fn changes_of_a_transient_etc_stay_in_memory() {
    in_a_namespace("transient_etc");
}

#[test]
#[ignore = "run by the test above, which gives it a mount namespace of its own"]
fn transient_etc() {
    let cmdline = initramfs("[etc]\ntransient=true\n");
    // It asks for what the settings leave open, in whatever encoding.
    fs::write("/sysroot/ostree/repo/config", b"[core]\ntitle=B\xfccher\n[sysroot]\nreadonly=true\n").unwrap();
    fs::create_dir("/run/ostree").unwrap();
    fs::write("/run/ostree/initramfs-mount-var", "").unwrap();
    run(Path::new("/sysroot"), &cmdline).unwrap();

    assert_eq!(fs::read_to_string("/sysroot/etc/motd").unwrap(), "hello\n");
    fs::write("/sysroot/etc/motd", "changed\n").unwrap();
    let kept = format!("/sysroot/sysroot{DEPLOYMENT}");
    assert_eq!(fs::read_to_string(format!("{kept}/usr/etc/motd")).unwrap(), "hello\n");
    assert_eq!(fs::read_dir(format!("{kept}/etc")).unwrap().count(), 0);
    assert!(Path::new("/sysroot/var/lib/file").exists(), "asked for by the marker");
    assert_eq!(propagation("/sysroot/var"), ["shared"], "mounts below it are for later namespaces, too");
    let booted = fs::read("/run/ostree-booted").unwrap();
    let folder = fs::read_dir("/run/ostree")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.join("upper/motd").exists());
    let name = folder.unwrap().to_str().unwrap().to_owned();
    assert!(
        name.starts_with("/run/ostree/transient-etc.") && name.len() == "/run/ostree/transient-etc.".len() + 6,
        "{name}"
    );
    assert!(booted.windows(name.len()).any(|window| window == name.as_bytes()));
}

#[test]
fn a_hotfix_of_usr_is_kept() {
    in_a_namespace("hotfix");
}

#[test]
#[ignore = "run by the test above, which gives it a mount namespace of its own"]
fn hotfix() {
    let cmdline = initramfs("");
    for folder in [".usr-ovl-work", ".usr-ovl-upper"] {
        fs::create_dir(format!("/sysroot{DEPLOYMENT}/{folder}")).unwrap();
    }
    run(Path::new("/sysroot"), &cmdline).unwrap();
    assert_eq!(fs::read_to_string("/sysroot/usr/lib/os-release").unwrap(), "ID=test\n");
    fs::write("/sysroot/usr/lib/os-release", "ID=fixed\n").unwrap();
    let kept = format!("/sysroot/sysroot{DEPLOYMENT}");
    assert_eq!(fs::read_to_string(format!("{kept}/usr/lib/os-release")).unwrap(), "ID=test\n");
    assert_eq!(fs::read_to_string(format!("{kept}/.usr-ovl-upper/lib/os-release")).unwrap(), "ID=fixed\n");
    assert!(is_writable("/sysroot/sysroot"), "nobody asked for a read-only one");
}

#[test]
fn a_hotfix_on_a_read_only_root_is_mounted_or_refused_as_the_deployments_ostree_would() {
    in_a_namespace("hotfix_read_only");
}

#[test]
#[ignore = "run by the test above, which gives it a mount namespace of its own"]
fn hotfix_read_only() {
    let cmdline = initramfs("");
    for folder in [".usr-ovl-work", ".usr-ovl-upper"] {
        fs::create_dir(format!("/sysroot{DEPLOYMENT}/{folder}")).unwrap();
    }
    let program = format!("/sysroot{DEPLOYMENT}/usr/lib/ostree/ostree-prepare-root");
    let readonly = |readonly| {
        let flags = if readonly { MountFlags::RDONLY } else { MountFlags::empty() };
        mount_remount("/sysroot", flags, "").unwrap();
    };
    readonly(true);
    let failure = run(Path::new("/sysroot"), &cmdline).unwrap_err();
    assert!(failure.remedy.as_ref().is_some_and(|remedy| remedy.contains("add rw")), "{failure}");

    readonly(false);
    fs::write(program, b"\0failed to remount rootfs writable (for overlayfs)\0").unwrap();
    readonly(true);
    run(Path::new("/sysroot"), &cmdline).unwrap();
    fs::write("/sysroot/usr/lib/os-release", "ID=fixed\n").unwrap();
    let kept = format!("/sysroot/sysroot{DEPLOYMENT}/.usr-ovl-upper/lib/os-release");
    assert_eq!(fs::read_to_string(kept).unwrap(), "ID=fixed\n");
    assert_eq!(fs::read("/run/ostree-booted").unwrap(), b"", "as that OSTree has it");
}

#[test]
fn another_command_line_is_there_for_ostrees_own_program_and_gone_afterwards() {
    in_a_namespace("another_cmdline");
}

#[test]
#[ignore = "run by the test above, which gives it a mount namespace of its own"]
fn another_cmdline() {
    // In place of the program: a shell, with a script in place of the root.
    let folder = PathBuf::from(std::env::var_os(ROOT).unwrap());
    let (script, seen) = (folder.join("script"), folder.join("seen"));
    let before = fs::read("/proc/cmdline").unwrap();
    // As a service has it: what is mounted here from now on comes to its namespace, unless it is kept from that.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC).unwrap();
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    let mut service =
        Command::new("unshare").args(["--mount", "--propagation", "slave", "sleep", "60"]).spawn().unwrap();
    let pid = service.id().to_string();
    while namespace(&pid) == namespace("self") {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let table = folder.join("table");
    let script_text =
        format!("cat /proc/cmdline > {}; cat /proc/{pid}/mountinfo > {}", seen.display(), table.display());
    fs::write(&script, script_text).unwrap();
    theirs::start(SH, &script, Some("rw ostree=/other")).unwrap();
    service.kill().unwrap();
    service.wait().unwrap();
    assert_eq!(fs::read_to_string(&seen).unwrap(), "rw ostree=/other\n");
    let table = fs::read_to_string(table).unwrap();
    assert!(table.contains(" /proc ") && !table.contains("/proc/cmdline"), "{table}");
    assert_eq!(fs::read("/proc/cmdline").unwrap(), before);
    assert_eq!(fs::read_dir(folder.join("run")).unwrap().count(), 0);

    fs::write(&script, format!("cat /proc/cmdline > {}", seen.display())).unwrap();
    theirs::start(SH, &script, None).unwrap();
    assert_eq!(fs::read(&seen).unwrap(), before);
    fs::write(&script, "exit 3").unwrap();
    assert!(theirs::start(SH, &script, Some("rw")).unwrap_err().why.contains("exit code 3"));
    assert_eq!(fs::read("/proc/cmdline").unwrap(), before);
    fs::write(&script, "umount /proc/cmdline; exit 3").unwrap();
    let both = theirs::start(SH, &script, Some("rw")).unwrap_err();
    assert!(both.why.contains("exit code 3; and changing /proc/cmdline"), "{both}");
}

#[test]
fn a_fallback_that_can_t_be_mounted_gives_way_to_what_the_bootloader_chose() {
    in_a_namespace("fallback_refused");
}

/// A second deployment, of a stateroot of its own, and the command line of a fallback to it.
fn another() -> (PathBuf, &'static str) {
    let deployment = PathBuf::from("/sysroot/ostree/deploy/other/deploy/abd.0");
    for folder in ["etc", "usr/etc", "usr/lib/ostree", "sysroot", "boot"] {
        fs::create_dir_all(deployment.join(folder)).unwrap();
    }
    fs::create_dir(deployment.join("../../var")).unwrap();
    fs::create_dir_all("/sysroot/ostree/boot.1.1/other/def").unwrap();
    symlink("../../../deploy/other/deploy/abd.0", "/sysroot/ostree/boot.1.1/other/def/0").unwrap();
    (deployment, "rw ostree=/ostree/boot.1/other/def/0")
}

/// What a fallback without a reboot leaves.
fn fell_back(chosen: &str) -> (Places, Selection) {
    let places =
        Places { runtime: "/run/fledge".into(), units: "/run/units".into(), ..Places::of_this_boot("/sysroot".into()) };
    let mut selection = Selection::not_counted(Verdict::FellBack, Id::parse("other-abd.0"), "nestos-abc.0 is used up");
    selection.bootloader = Id::parse("nestos-abc.0");
    selection.instead_of = selection.bootloader.clone();
    for folder in [&places.runtime, &places.units] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(places.runtime.join("boot-select.json"), serde_json::to_vec(&selection).unwrap()).unwrap();
    fs::write(places.runtime.join("pivot-cmdline"), format!("{chosen}\n")).unwrap();
    fs::write(places.units.join("var.mount"), "# Written by fledge boot-select: x\n[Mount]\n").unwrap();
    (places, selection)
}

fn points() -> Vec<PathBuf> {
    let mut points: Vec<_> = crate::host::mount::table().unwrap().into_iter().map(|mount| mount.point).collect();
    points.sort();
    points
}

#[test]
#[ignore = "run by the test above, which gives it a mount namespace of its own"]
fn fallback_refused() {
    let own = initramfs("[sysroot]\nreadonly=true\n");
    let (deployment, chosen) = another();
    let physical = fs::metadata("/sysroot").unwrap().ino();
    let before = points();
    // At its beginning, after its first mounts, and when the physical root has been moved already.
    for missing in ["usr", "etc", "sysroot", "../../var"] {
        let (there, away) = (deployment.join(missing), Path::new("/sysroot/away"));
        fs::rename(&there, away).unwrap();
        let look = Before::look(Path::new("/sysroot")).unwrap();
        run(Path::new("/sysroot"), &Cmdline::parse(chosen)).unwrap_err();
        look.restore().unwrap_or_else(|failure| panic!("{missing}: {failure}"));
        assert_eq!(points(), before, "{missing}");
        assert_eq!(fs::metadata("/sysroot").unwrap().ino(), physical, "{missing}");
        assert!(!Path::new("/run/ostree").exists() && !Path::new("/run/ostree-booted").exists(), "{missing}");
        fs::rename(away, &there).unwrap();
    }

    fs::remove_dir(deployment.join("../../var")).unwrap();
    let (places, selection) = fell_back(chosen);
    let tried = std::cell::RefCell::new(Vec::new());
    let attempt = |cmdline: Option<&str>| {
        tried.borrow_mut().push(cmdline.map(str::to_owned));
        run(Path::new("/sysroot"), &cmdline.map_or_else(|| own.clone(), Cmdline::parse))
    };
    boot_select::pivot(&places, &attempt).unwrap();
    assert_eq!(*tried.borrow(), [Some(chosen.to_owned()), None]);
    assert_eq!(fs::read_to_string("/sysroot/usr/lib/os-release").unwrap(), "ID=test\n");
    assert!(Path::new("/run/ostree-booted").exists());
    let record: Selection = serde_json::from_slice(&fs::read("/run/fledge/boot-select.json").unwrap()).unwrap();
    assert_eq!((record.verdict, &record.deployment), (Verdict::Exhausted, &selection.bootloader));
    assert_eq!((record.instead_of, record.fallback), (None, selection.deployment));
    assert!(record.reason.contains("other-abd.0 could not be booted in its stead: pivoting"), "{}", record.reason);
    let flag = fs::read_to_string("/run/fledge/exhausted").unwrap();
    assert_eq!(flag.trim_end(), record.reason);
    assert!(!places.runtime.join("pivot-cmdline").exists() && !places.units.join("var.mount").exists());
}

#[test]
fn what_ostrees_own_program_leaves_is_taken_back() {
    in_a_namespace("theirs_refused");
}

#[test]
#[ignore = "run by the test above, which gives it a mount namespace of its own"]
fn theirs_refused() {
    let own = initramfs("[sysroot]\nreadonly=true\n");
    let (deployment, chosen) = another();
    let (places, _) = fell_back(chosen);
    // As OSTree 2022.7 and 2025.2 go about it; both stop at the first thing that fails.
    let theirs = || {
        let bound = deployment.to_str().unwrap();
        mount_bind(bound, bound).unwrap();
        fs::write("/run/ostree-sysroot-ro.stamp", "").unwrap();
        for folder in ["/run/ostree", "/run/ostree/.private", "/run/ostree/.private/cfsroot-lower", "/sysroot.tmp"] {
            fs::create_dir(folder).unwrap();
        }
        mount_bind(bound, "/run/ostree/.private/cfsroot-lower").unwrap();
        mount_bind(bound, "/sysroot.tmp").unwrap();
        mount_bind("/sysroot.tmp/etc", "/sysroot.tmp/etc").unwrap();
    };
    let before = points();
    let attempt = |cmdline: Option<&str>| {
        if cmdline.is_some() {
            theirs();
            return Err(Failure::new("ostree-prepare-root", "exit code 1"));
        }
        assert_eq!(points(), before);
        assert!(["/run/ostree", "/run/ostree-sysroot-ro.stamp"].iter().all(|path| !Path::new(path).exists()));
        run(Path::new("/sysroot"), &own)
    };
    boot_select::pivot(&places, &attempt).unwrap();
    assert_eq!(fs::read_to_string("/sysroot/usr/lib/os-release").unwrap(), "ID=test\n");
}

#[test]
fn a_pivot_that_can_t_be_done_leaves_the_physical_root_where_it_is() {
    in_a_namespace("refused");
}

#[test]
#[ignore = "run by the test above, which gives it a mount namespace of its own"]
fn refused() {
    let cmdline = initramfs("[composefs]\nenabled=yes\n");
    symlink("ostree/repo/config", "/sysroot/file").unwrap();
    for (cmdline, why) in [
        (cmdline.clone(), "has no .ostree.cfs"),
        (Cmdline::parse("rw"), "no ostree= argument"),
        (Cmdline::parse("ostree=/ostree/boot.1/nestos/def/1"), "no symbolic link"),
        // What can't be looked at is not what isn't there.
        (Cmdline::parse("ostree=/file"), "/sysroot/ostree/repo/config/.ostree.cfs: Not a directory"),
    ] {
        let failure = run(Path::new("/sysroot"), &cmdline).unwrap_err();
        assert!(failure.why.contains(why), "{failure}");
        assert!(failure.remedy.is_some(), "{failure}");
    }
    fs::write(format!("/sysroot{DEPLOYMENT}/.ostree.cfs"), [0; 4096]).unwrap();
    let failure = run(Path::new("/sysroot"), &cmdline).unwrap_err();
    assert!(failure.why.contains("it is no composefs image"), "{failure}");
    fs::create_dir(format!("/sysroot{DEPLOYMENT}/usr/lib/ostree/ostree-prepare-root")).unwrap();
    let failure = run(Path::new("/sysroot"), &cmdline).unwrap_err();
    assert!(failure.why.contains("ostree-prepare-root: Is a directory"), "{failure}");
    assert!(Path::new("/sysroot/ostree/repo").exists());
    assert!(!Path::new("/run/ostree-booted").exists());
}
