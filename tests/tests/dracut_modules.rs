// SPDX-License-Identifier: Apache-2.0
//! The dracut modules, by running their `install` with dracut's functions replaced; and `docs/dracut-modules.md` against them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// dracut's functions as far as the modules call them: each says what it was asked for, and fails for a source that isn't there.
const DRACUT: &str = r#"
set -u
dracutmodules=all add_dracutmodules=" fledge-ostree " force_add_dracutmodules="" dracutsysrootdir=""
initdir=/nowhere systemdsystemunitdir=/usr/lib/systemd/system systemdsystemconfdir=/etc/systemd/system systemdutildir=/usr/lib/systemd udevdir=/usr/lib/udev SYSTEMCTL=systemctl
inst_simple() { [[ -e $1 ]] && echo "install $1 $2"; }
inst_script() { inst_simple "$@"; }
inst_multiple() { echo "programs $*"; }
inst_libdir_file() { echo "library $*"; }
inst_rules() { echo "rules $*"; }
inst_dir() { :; }
ln_r() { echo "link $2 $1"; }
instmods() { echo "modules $*"; }
dfatal() { echo "fatal $*"; }
dracut_module_included() { [[ " $included " == *" $1 "* ]]; }
systemctl() { shift 2; echo "$@"; }
. "$moddir/module-setup.sh"
"#;

fn repo() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn page() -> String {
    fs::read_to_string(repo().join("docs/dracut-modules.md")).unwrap()
}

/// Runs something in a module's shell and returns its exit code and what it said.
fn shell(module: &str, before: &str, call: &str) -> (i32, String) {
    let moddir = repo().join("dracut").join(module);
    let output = Command::new("bash")
        .arg("-c")
        .arg(format!(
            "moddir='{}'\nincluded='' omit_dracutmodules='' dracutbasedir=/nowhere\n{before}\n{DRACUT}\n{call}",
            moddir.display()
        ))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{module}");
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn install(module: &str, included: &str) -> Vec<Vec<String>> {
    install_with("native", module, included)
}

fn install_with(pivot: &str, module: &str, included: &str) -> Vec<Vec<String>> {
    let (code, text) = shell(module, &format!("included='{included}' fledge_pivot={pivot}"), "install");
    assert_eq!(code, 0, "{module}: {text}");
    text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

fn files(folder: &str) -> BTreeSet<PathBuf> {
    fs::read_dir(repo().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn modules_install_all_that_they_have_and_enable_only_what_they_installed() {
    for (module, included) in [("30ignition", ""), ("40fledge-ostree", "systemd-networkd")] {
        // What is installed beside OSTree's own pivot isn't beside the native one.
        let lines = [install_with("ostree", module, included), install(module, included)].concat();
        let mut sources: BTreeSet<_> =
            lines.iter().filter(|line| line[0] == "install").map(|line| PathBuf::from(&line[1])).collect();
        sources.insert(repo().join("dracut").join(module).join("module-setup.sh"));
        assert_eq!(sources, files(&format!("dracut/{module}")), "{module}");

        let installed: BTreeSet<_> = lines
            .iter()
            .filter(|line| line[0] == "install")
            .filter_map(|line| line[2].rsplit('/').next())
            .chain(["systemd-networkd.service", "systemd-networkd-wait-online.service"])
            .collect();
        for line in lines.iter().filter(|line| line[0].starts_with("add-")) {
            for unit in &line[2..] {
                assert!(installed.contains(unit.as_str()), "{module} enables {unit}, which it does not install");
            }
        }
    }
}

#[test]
fn ignition_has_upstreams_interface_to_dracut() {
    assert_eq!(shell("30ignition", "", "check"), (255, String::new()));
    assert_eq!(shell("30ignition", "", "depends").1, "qemu systemd url-lib network\n");
    let lines = install("30ignition", "");
    let required: BTreeSet<_> = lines
        .iter()
        .filter(|line| line[0] == "add-requires" && line[1] == "ignition-complete.target")
        .map(|line| line[2].as_str())
        .collect();
    let stages =
        ["fetch-offline", "fetch", "kargs", "disks", "mount", "files"].map(|stage| format!("ignition-{stage}.service"));
    assert_eq!(required, stages.iter().map(String::as_str).collect());
    for link in ["/usr/bin/ignition", "/usr/lib/systemd/system-generators/ignition-generator"] {
        assert!(
            lines.iter().any(|line| line[0] == "link" && line[1] == link && line[2] == "/usr/bin/fledge"),
            "{link}"
        );
    }
    let (_, kernel) = shell("30ignition", "DRACUT_ARCH=aarch64", "installkernel");
    for module in
        ["hv_utils", "vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport", "mlxbf_bootctl"]
    {
        assert!(kernel.split_whitespace().any(|word| word == module), "{module}");
    }
}

#[test]
fn fledge_ostree_refuses_the_module_that_it_replaces() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join("modules.d/40ignition-ostree");
    fs::create_dir_all(&theirs).unwrap();
    let base = format!("dracutbasedir='{}'", folder.path().display());
    let (code, said) = shell("40fledge-ostree", &base, "check");
    assert_eq!(code, 1);
    assert!(said.contains("fatal") && said.contains("omit_dracutmodules"), "{said}");
    let (code, said) = shell("40fledge-ostree", &format!("{base} omit_dracutmodules=' ignition-ostree '"), "check");
    assert_eq!((code, said.as_str()), (255, ""));
    assert_eq!(shell("40fledge-ostree", "", "check"), (255, String::new()));
}

#[test]
fn the_native_pivot_stands_in_for_ostrees_only_where_it_is_asked_for() {
    let unit =
        |line: &Vec<String>| line.iter().any(|word| word.contains("fledge-pivot") || word.contains("prepare-root"));
    let of = |before: &str| {
        let (code, text) = shell("40fledge-ostree", before, "install; installkernel");
        let lines = text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        (code, lines.filter(|line| unit(line) || line[0] == "modules" || line[0] == "fatal").collect::<Vec<_>>())
    };
    for theirs in ["", "fledge_pivot=ostree"] {
        let (code, lines) = of(theirs);
        let [drop_in, modules @ ..] = lines.as_slice() else { panic!("{theirs}: {lines:?}") };
        let modules: Vec<_> = modules.iter().map(|line| line.join(" ")).collect();
        assert_eq!((code, modules), (0, vec!["modules overlay".into(), "modules zram lzo lzo-rle".into()]), "{theirs}");
        assert_eq!(drop_in[2], "/usr/lib/systemd/system/ostree-prepare-root.service.d/50-fledge.conf", "{theirs}");
    }
    let (code, native) = of("fledge_pivot=native");
    let native: Vec<_> = native.iter().map(|line| line.join(" ")).collect();
    assert_eq!(code, 0);
    for line in [
        "link /etc/systemd/system/initrd-root-fs.target.requires/ostree-prepare-root.service /etc/systemd/system/ostree-prepare-root.service",
        "link /etc/systemd/system/ostree-prepare-root.service /usr/lib/systemd/system/fledge-pivot.service",
        "modules overlay",
        "modules erofs",
    ] {
        assert!(native.iter().any(|found| found == line), "{line}: {native:?}");
    }
    assert!(!native.iter().any(|line| line.contains("50-fledge.conf")), "{native:?}");
    let (code, wrong) = of("fledge_pivot=ours");
    assert_eq!(code, 1);
    assert!(wrong.concat().join(" ").contains("must be 'ostree' or 'native'"), "{wrong:?}");
}

#[test]
fn boot_selection_comes_before_either_pivot_and_can_t_stop_a_boot() {
    let lines = install("40fledge-ostree", "");
    let enabled: Vec<_> = lines.iter().filter(|line| line.contains(&"fledge-boot-select.service".to_owned())).collect();
    assert_eq!(enabled, [&["add-wants", "ignition-diskful-subsequent.target", "fledge-boot-select.service"]]);
    let text = fs::read_to_string(repo().join("dracut/40fledge-ostree/fledge-boot-select.service")).unwrap();
    for line in [
        // It can't wait for the root before that is looked for.
        "After=initrd-root-device.target local-fs-pre.target dracut-pre-mount.service",
        // Its time isn't bounded.
        "After=systemd-fsck-root.service",
        "Before=fledge-pivot.service",
        "Before=ostree-prepare-root.service",
        "ExecStart=-/usr/bin/fledge boot-select --ahead /sysroot",
        "ConditionPathExists=!/proc/vmcore",
        "ConditionPathExists=!/run/fledge/boot-select.json",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    assert!(!text.contains("OnFailure=") && !text.contains("Requires="), "{text}");
    assert!(text.contains("\nTimeoutStartSec="), "bounded");
    // The pivots read what it leaves: no command line is given to them.
    for unit in ["fledge-pivot.service", "ostree-prepare-root.conf"] {
        let text = fs::read_to_string(repo().join("dracut/40fledge-ostree").join(unit)).unwrap();
        let start = text.lines().rfind(|line| line.starts_with("ExecStart=")).unwrap();
        assert!(start.starts_with("ExecStart=/usr/bin/fledge pivot ") && start.ends_with(" /sysroot"), "{start}");
    }
}

#[test]
fn a_distributions_own_network_goes_before_ours() {
    for module in ["coreos-network", "nestos-network"] {
        let lines = install("40fledge-ostree", &format!("systemd-networkd {module}"));
        // What is handed over at the end, and what of it an installer left, is another matter.
        let others = ["handover", "copy-network", "firstboot-network"];
        let starts = |word: &&String| word.contains("network") && !others.iter().any(|other| word.contains(other));
        assert_eq!(lines.iter().flatten().find(starts), None, "{module}");
        assert!(lines.iter().flatten().any(|word| word == "fledge-user-config.service"));
    }
}

#[test]
fn a_distributions_own_hand_over_goes_before_ours() {
    // The hand-over with what it can't do without, and the copy.
    let ours = |initdir: &Path| {
        let (_, text) = shell("40fledge-ostree", "", &format!("initdir='{}'; install", initdir.display()));
        let has = |line: &str| text.lines().any(|found| found == line);
        assert!(has("add-requires ignition-diskful.target fledge-unique-boot.service"), "{text}");
        let enabled = |unit: &str| has(&format!("add-requires ignition-complete.target {unit}"));
        [enabled("fledge-network-handover.service"), has("programs ip"), enabled("fledge-copy-network.service")]
    };
    for name in ["coreos", "nestos"] {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(ours(folder.path()), [true; 3]);
        let units = folder.path().join("usr/lib/systemd/system");
        fs::create_dir_all(&units).unwrap();
        // Each by itself.
        for (theirs, left) in
            [("teardown-initramfs", [false, false, true]), ("copy-firstboot-network", [true, true, false])]
        {
            let unit = units.join(format!("{name}-{theirs}.service"));
            fs::write(&unit, "").unwrap();
            assert_eq!(ours(folder.path()), left, "{name}-{theirs}");
            fs::remove_file(unit).unwrap();
        }
    }
}

#[test]
fn a_distributions_own_work_on_the_boot_disk_goes_before_ours() {
    for (ours, theirs) in [("fledge-gpt-setup", "gpt-setup"), ("fledge-persist-root", "boot-edit")] {
        let enabled = |initdir: &Path| {
            let (_, text) = shell("40fledge-ostree", "", &format!("initdir='{}'; install", initdir.display()));
            let enables = format!("add-requires ignition-complete.target {ours}.service");
            let aliased = text.contains(&format!("-{theirs}.service /usr/lib/systemd/system/{ours}.service"));
            assert_eq!(text.lines().any(|line| line == enables), aliased, "{text}");
            assert!(text.contains("add-requires ignition-complete.target ignition-ostree-uuid-boot.service"), "{text}");
            aliased
        };
        for name in ["coreos", "nestos"] {
            let folder = tempfile::tempdir().unwrap();
            assert!(enabled(folder.path()));
            let units = folder.path().join("usr/lib/systemd/system");
            fs::create_dir_all(&units).unwrap();
            fs::write(units.join(format!("{name}-{theirs}.service")), "").unwrap();
            assert!(!enabled(folder.path()), "{name}");
        }
    }
}

/// What a unit says under a key, word by word.
fn said(text: &str, key: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

#[test]
fn nobody_has_the_boot_file_system_mounted_while_its_disk_gets_its_own_names() {
    for unit in ["fledge-gpt-setup.service", "ignition-ostree-uuid-boot.service"] {
        let text = fs::read_to_string(repo().join("dracut/40fledge-ostree").join(unit)).unwrap();
        let after = said(&text, "After");
        // A config that is refused leaves the disk as it was.
        for name in ["fledge-user-config", "fledge-copy-network", "ignition-fetch", "fledge-installer-refused"] {
            assert!(after.contains(&format!("{name}.service")), "{unit}: {name}");
        }
        // A distribution's own, which stand beside ours under other names only if ours aren't there.
        for name in ["coreos", "nestos"] {
            assert!(after.contains(&format!("{name}-copy-firstboot-network.service")), "{unit}: {name}");
        }
    }
}

#[test]
fn no_order_of_ours_goes_in_a_circle() {
    let mut before: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in ["dracut/30ignition", "dracut/40fledge-ostree"].into_iter().flat_map(files) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".service") && !name.ends_with(".target") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for other in said(&text, "After") {
            before.entry(other).or_default().insert(name.clone());
        }
        before.entry(name).or_default().extend(said(&text, "Before"));
    }
    // What systemd itself orders.
    for (first, then) in [
        ("systemd-fsck-root.service", "sysroot.mount"),
        ("sysroot.mount", "initrd-root-fs.target"),
        ("initrd-root-fs.target", "initrd-parse-etc.service"),
        ("initrd-parse-etc.service", "initrd.target"),
        ("initrd.target", "initrd-switch-root.target"),
    ] {
        before.entry(first.into()).or_default().insert(then.into());
    }
    while !before.is_empty() {
        let followed: BTreeSet<_> = before.values().flatten().cloned().collect();
        let count = before.len();
        before.retain(|name, _| followed.contains(name));
        assert!(before.len() < count, "{before:?}");
    }
}

#[test]
fn a_distributions_own_kargs_helper_goes_before_ours() {
    let brought = |initdir: &Path| {
        let (_, text) = shell("40fledge-ostree", "", &format!("initdir='{}'; install", initdir.display()));
        text.lines().any(|line| line.starts_with("install ") && line.ends_with(" /usr/sbin/ignition-kargs-helper"))
    };
    for place in ["usr/sbin", "usr/bin"] {
        let folder = tempfile::tempdir().unwrap();
        assert!(brought(folder.path()));
        fs::create_dir_all(folder.path().join(place)).unwrap();
        fs::write(folder.path().join(place).join("ignition-kargs-helper"), "").unwrap();
        assert!(!brought(folder.path()), "{place}");
    }
}

/// The files that make up the modules, the generator's templates and the real root's units.
fn ours() -> BTreeSet<String> {
    ["dracut/30ignition", "dracut/40fledge-ostree", "dracut/real-root", "systemd-generators"]
        .into_iter()
        .flat_map(files)
        .filter(|path| path.is_file())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "module-setup.sh")
        .collect()
}

/// The rows of the page below a heading: cells without their white space.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, section) = page.split_once(heading).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().filter(|line| line.starts_with('|')).skip(2);
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// What stands between backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn the_page_names_each_of_our_files_and_no_other() {
    let page = page();
    let named: BTreeSet<_> =
        rows(&page, "## What ours install").iter().flat_map(|row| quoted(row[0])).map(str::to_owned).collect();
    assert_eq!(named, ours());
}

#[test]
fn the_page_has_a_row_for_each_module_and_unit_that_ours_meet() {
    let page = page();
    let modules: Vec<_> = rows(&page, "## NestOS's modules").iter().map(|row| row[0]).collect();
    assert_eq!(
        modules,
        [
            "10nestos-sysctl",
            "35nestos-ignition",
            "35nestos-live",
            "35nestos-multipath",
            "35nestos-network",
            "40ignition-conf",
            "40ignition-ostree",
            "50ignition-conf-nestos",
            "50nestos-kernel",
            "60nestos-agetty-workaround",
            "99emergency-shell-setup",
            "99journal-conf"
        ]
    );
    let rows = rows(&page, "## Fedora CoreOS's units");
    let units: BTreeSet<_> = rows.iter().flat_map(|row| quoted(row[0])).collect();
    for unit in UPSTREAM {
        assert!(units.contains(unit), "{unit} has no row");
    }
}

/// The units of Ignition's module (2.26) and of Fedora CoreOS's modules that it or provisioning depends on (2024-10).
const UPSTREAM: [&str; 45] = [
    "coreos-boot-edit.service",
    "coreos-check-kernel.service",
    "coreos-copy-firstboot-network.service",
    "coreos-enable-network.service",
    "coreos-gpt-setup.service",
    "coreos-ignition-firstboot-complete.service",
    "coreos-ignition-setup-user.service",
    "coreos-ignition-unique-boot.service",
    "coreos-ignition-write-issues.service",
    "coreos-kargs-reboot.service",
    "coreos-live-clear-sssd-cache.service",
    "coreos-live-unmount-tmpfs-var.service",
    "coreos-liveiso-persist-osmet.service",
    "coreos-livepxe-persist-osmet.service",
    "coreos-livepxe-rootfs.service",
    "coreos-multipath-wait.target",
    "coreos-post-ignition-checks.service",
    "coreos-propagate-multipath-conf.service",
    "coreos-rootflags.service",
    "coreos-secex-ignition-prepare.service",
    "coreos-teardown-initramfs.service",
    "coreos-touch-run-agetty.service",
    "coreos-unique-boot.service",
    "ignition-complete.target",
    "ignition-delete-config.service",
    "ignition-diskful-subsequent.target",
    "ignition-diskful.target",
    "ignition-disks.service",
    "ignition-fetch-offline.service",
    "ignition-fetch.service",
    "ignition-files.service",
    "ignition-kargs.service",
    "ignition-mount.service",
    "ignition-ostree-check-rootfs-size.service",
    "ignition-ostree-growfs.service",
    "ignition-ostree-mount-state-overlays.service",
    "ignition-ostree-mount-var.service",
    "ignition-ostree-populate-var.service",
    "ignition-ostree-transposefs-autosave-xfs.service",
    "ignition-ostree-transposefs-detect.service",
    "ignition-ostree-transposefs-restore.service",
    "ignition-ostree-transposefs-save.service",
    "ignition-ostree-uuid-boot.service",
    "ignition-ostree-uuid-root.service",
    "ignition-remount-sysroot.service",
];

#[test]
fn each_row_says_what_becomes_of_it_and_what_replaces_it_exists() {
    let page = page();
    let ours = ours();
    let modules = rows(&page, "## NestOS's modules").into_iter().map(|row| (row[0], row[1..].to_vec()));
    let units = rows(&page, "## Fedora CoreOS's units").into_iter().map(|row| (row[0], row[2..].to_vec()));
    for (name, rest) in modules.chain(units) {
        let [verdict, by, why] = rest[..] else { panic!("{name}: cells are missing") };
        assert!(why.len() >= 4, "{name}: why?");
        match verdict {
            "replaced" if by == "the applet" => {}
            "replaced" => {
                assert_ne!(quoted(by).count(), 0, "{name}: replaced by what?");
                for unit in quoted(by) {
                    assert!(ours.contains(unit), "{name}: {unit} does not exist");
                }
            }
            "planned" => assert!(by.starts_with("issue: "), "{name}: when?"),
            "kept" | "left out" => {}
            other => panic!("{name}: {other:?} is no verdict"),
        }
    }
}

/// All that units here may say: systemd 249 knows each (`src/core/load-fragment-gperf.gperf.in`, `networkd-network-gperf.gperf`).
const DIRECTIVES: [&str; 30] = [
    "After",
    "Before",
    "ClientIdentifier",
    "ConditionKernelCommandLine",
    "ConditionPathExists",
    "ConditionPathIsReadWrite",
    "Conflicts",
    "DHCP",
    "DefaultDependencies",
    "Description",
    "Documentation",
    "EnvironmentFile",
    "ExecStart",
    "ExecStop",
    "IgnoreOnIsolate",
    "KernelCommandLine",
    "MountFlags",
    "OnFailure",
    "OnFailureJobMode",
    "Options",
    "RemainAfterExit",
    "Requires",
    "RequiresMountsFor",
    "StandardError",
    "TimeoutStartSec",
    "Type",
    "WantedBy",
    "Wants",
    "What",
    "Where",
];

#[test]
fn units_say_nothing_that_systemd_249_does_not_know_and_call_applets_that_exist() {
    let applets = fs::read_to_string(repo().join("initramfs/src/applets.rs")).unwrap();
    for folder in ["dracut/30ignition", "dracut/40fledge-ostree", "dracut/real-root", "systemd-generators"] {
        for path in files(folder) {
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if !["service", "target", "mount", "network", "conf"].contains(&extension)
                || path.ends_with("pwquality.conf")
            {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for line in text.lines().filter(|line| !line.starts_with(['#', '[']) && !line.is_empty()) {
                let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{}: {line}", path.display()));
                assert!(DIRECTIVES.contains(&key), "{}: {key}", path.display());
                let mut words = value.split_whitespace();
                if words.next().map(|program| program.trim_start_matches('-')) == Some("/usr/bin/fledge") {
                    let applet = format!("name: \"{}\"", words.next().unwrap());
                    assert!(applets.contains(&applet), "{}: {value}", path.display());
                }
            }
        }
    }
}

#[test]
fn what_may_fail_in_the_initramfs_ends_in_the_emergency_target() {
    for folder in ["dracut/30ignition", "dracut/40fledge-ostree", "systemd-generators"] {
        for path in files(folder).iter().filter(|path| path.extension().is_some_and(|extension| extension == "service"))
        {
            let text = fs::read_to_string(path).unwrap();
            // The first tells of it, and the second fails at nothing.
            if path.ends_with("fledge-failure.service") || path.ends_with("fledge-boot-select.service") {
                continue;
            }
            assert!(text.contains("\nOnFailure=emergency.target\nOnFailureJobMode=isolate\n"), "{}", path.display());
        }
    }
}
