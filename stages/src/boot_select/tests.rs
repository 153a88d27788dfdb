// SPDX-License-Identifier: Apache-2.0
//! Selection on real boot file systems in loop devices. What a bootloader sees of them is read by debugfs, which replays no journal
//! either; what is left after a power cut is what had reached the file behind the device. Tools that aren't installed fail their test.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Instant;

use fledge_core::counting::{BLOCK, Environment, FOLDER, Left, Starts, State, Tries};

use super::*;
use crate::host::bootfs::{self, BootFs, Place};

fn run_program(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {said}");
    said.trim().to_owned()
}

/// A file system in a file, and the loop device that it is in.
struct Disk {
    image: PathBuf,
    device: String,
}

impl Disk {
    fn attach(image: &Path) -> Self {
        let device = run_program("losetup", &["--find", "--show", image.to_str().unwrap()]);
        Self { image: image.to_owned(), device }
    }

    /// Mounts it for a moment.
    fn within<T>(&self, look: impl FnOnce(&Path) -> T) -> T {
        let point = tempfile::tempdir().unwrap();
        run_program("mount", &[&self.device, point.path().to_str().unwrap()]);
        let seen = look(point.path());
        // A program that another test starts at this moment holds on to what is open here until it runs.
        let unmounted = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            rustix::mount::unmount(point.path(), rustix::mount::UnmountFlags::empty()).is_ok()
        });
        assert!(unmounted);
        seen
    }

    fn names(&self) -> Vec<String> {
        self.within(|boot| {
            let folder = fs::read_dir(boot.join(FOLDER.trim_start_matches('/'))).into_iter().flatten();
            let mut names: Vec<_> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        })
    }

    fn set(&self, names: &[&str]) {
        self.within(|boot| {
            let folder = boot.join(FOLDER.trim_start_matches('/'));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            for name in names {
                fs::write(folder.join(name), "").unwrap();
            }
        });
    }

    /// What is left of it if power is lost now.
    fn after_a_power_cut(&self) -> Self {
        let copy = self.image.with_file_name(format!("copy-{}", self.device.replace('/', "-")));
        fs::copy(&self.image, &copy).unwrap();
        Self::attach(&copy)
    }

    /// A file as it is seen by who replays no journal.
    fn seen_by_grub(&self, path: &str) -> String {
        let image = self.image.to_str().unwrap();
        run_program("debugfs", &["-R", &format!("cat {path}"), image])
    }

    /// Whether it isn't mounted, be it where nobody else sees it: a device that is can't be opened exclusively (open(2)).
    fn is_free(&self) -> bool {
        // A program that another test starts at this moment holds on to what is open here until it runs.
        (0..50).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            fs::OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(&self.device).is_ok()
        })
    }

    /// Sectors that were written to it so far (the kernel's `Documentation/block/stat.rst`).
    fn sectors_written(&self) -> u64 {
        let name = Path::new(&self.device).file_name().unwrap();
        let stat = fs::read_to_string(Path::new("/sys/block").join(name).join("stat")).unwrap();
        stat.split_whitespace().nth(6).unwrap().parse().unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("/usr/sbin/losetup").args(["--detach", &self.device]).status();
    }
}

/// A machine with three deployments: the newest has a kernel of its own, the others differ in their stateroot.
struct Machine {
    folder: tempfile::TempDir,
    boot: Disk,
}

const WANTS: &str = "usr/lib/systemd/system/multi-user.target.wants";
const GRUB: &str = "set default=0\nif [ -f /grub2/grubenv ]; then\n  load_env -f /grub2/grubenv\nfi\nblscfg\n";
/// Link, stateroot, deployment, the oldest first.
const DEPLOYMENTS: [(&str, &str, &str); 3] = [
    ("/ostree/boot.1/other/11/0", "other", "aa.0"),
    ("/ostree/boot.1/nestos/11/0", "nestos", "bb.0"),
    ("/ostree/boot.1/nestos/22/0", "nestos", "cc.0"),
];

thread_local! {
    /// Of this test: others run beside it.
    static REBOOTS: Cell<usize> = const { Cell::new(0) };
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("boot.img");
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        run_program("mkfs.ext4", &["-q", image.to_str().unwrap()]);
        let machine = Self { boot: Disk::attach(&image), folder };
        machine.boot.within(|boot| {
            fs::create_dir_all(boot.join("loader.1/entries")).unwrap();
            symlink("loader.1", boot.join("loader")).unwrap();
            fs::write(boot.join("vmlinuz"), "kernel").unwrap();
            fs::create_dir(boot.join("grub2")).unwrap();
            fs::write(boot.join("grub2/grub.cfg"), GRUB).unwrap();
            fs::write(boot.join("grub2/grubenv"), Environment::default().render().unwrap()).unwrap();
            for ((link, _, _), place) in DEPLOYMENTS.iter().zip(1..) {
                let text = format!("title Nest {place}\noptions root=x rw ostree={link}\nlinux /vmlinuz\n");
                fs::write(boot.join(format!("loader/entries/ostree-{place}.conf")), text).unwrap();
            }
        });
        for (link, stateroot, deployment) in DEPLOYMENTS {
            let root = machine.folder.path().join("root");
            let path = root.join(format!("ostree/deploy/{stateroot}/deploy/{deployment}"));
            for folder in ["usr/bin", "usr/lib", "etc/systemd/system", "sysroot", "../../var", WANTS] {
                fs::create_dir_all(path.join(folder)).unwrap();
            }
            for file in ["usr/bin/fledgectl", "usr/lib/os-release"] {
                fs::write(path.join(file), "").unwrap();
            }
            symlink("../fledge-bless.service", path.join(WANTS).join("fledge-bless.service")).unwrap();
            let link = root.join(link.trim_start_matches('/'));
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(path, link).unwrap();
        }
        machine
    }

    fn places(&self) -> Places {
        let folder = self.folder.path();
        Places {
            root: folder.join("root"),
            initramfs: folder.join("initramfs"),
            runtime: folder.join("run"),
            units: folder.join("units"),
            reboot: || {
                REBOOTS.set(REBOOTS.get() + 1);
                Failure::new("rebooting", "this is a test")
            },
        }
    }

    /// Boots a deployment by its place in the table.
    fn boots(&self, deployment: usize, arguments: &str) -> Selection {
        let _ = fs::remove_dir_all(self.folder.path().join("run"));
        let _ = fs::remove_dir_all(self.folder.path().join("units"));
        let cmdline = self.cmdline(deployment, arguments);
        let ahead = observe::ahead(&Cmdline::parse(&cmdline));
        run(&cmdline, &self.places(), ahead)
    }

    fn cmdline(&self, deployment: usize, arguments: &str) -> String {
        format!("BOOT_IMAGE=/vmlinuz boot={} ostree={} {arguments}", self.boot.device, DEPLOYMENTS[deployment].0)
    }

    fn left(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.path().join(name)).ok()
    }

    /// Without the newest deployment, whose kernel is another one.
    fn with_one_kernel() -> Self {
        let machine = Self::new();
        machine.boot.within(|boot| fs::remove_file(boot.join("loader/entries/ostree-3.conf")).unwrap());
        machine
    }
}

fn id(text: &str) -> Option<Id> {
    Id::parse(text)
}

#[test]
fn a_bad_deployment_is_tried_three_times_and_gives_way_without_a_reboot() {
    let machine = Machine::with_one_kernel();
    for (name, done) in [("nestos-bb.0+2-1", 1), ("nestos-bb.0+1-2", 2), ("nestos-bb.0+0-3", 3)] {
        let selection = machine.boots(1, "quiet");
        assert_eq!(selection.verdict, Verdict::Counted, "{selection:?}");
        assert_eq!(selection.tries, Some(Tries { left: 3 - done, done }));
        assert_eq!(machine.boot.names(), [name]);
        assert_eq!(machine.left("run/pivot-cmdline"), None);
    }
    machine.boot.set(&["nestos-bb.0+0-3", "other-aa.0.good"]);
    let before = machine.boot.sectors_written();
    let selection = machine.boots(1, "quiet");
    assert_eq!((selection.verdict, &selection.deployment), (Verdict::FellBack, &id("other-aa.0")));
    assert_eq!(machine.boot.sectors_written(), before, "a fallback to a blessed one writes nothing");
    let cmdline = machine.left("run/pivot-cmdline").unwrap();
    let expected = format!("BOOT_IMAGE=/vmlinuz boot={} quiet ostree={}\n", machine.boot.device, DEPLOYMENTS[0].0);
    assert_eq!(cmdline, expected);
    let unit = machine.left("units/var.mount").unwrap();
    assert!(unit.contains("\nWhere=/var\nWhat=/sysroot/ostree/deploy/other/var\n"), "{unit}");
    let record = machine.left("run/boot-select.json").unwrap();
    assert_eq!(serde_json::from_str::<Selection>(&record).unwrap(), selection);
    assert_eq!(machine.left("run/exhausted"), None);

    // A file system of its own on /var stays what the deployment says.
    let etc = machine.folder.path().join("root/ostree/deploy/other/deploy/aa.0/etc");
    fs::write(etc.join("fstab"), "#x /var\nLABEL=var /var/ xfs defaults 0 0\n").unwrap();
    assert_eq!(machine.boots(1, "").verdict, Verdict::FellBack);
    assert_eq!(machine.left("units/var.mount"), None);
}

#[test]
fn boots_of_a_blessed_deployment_write_nothing_and_leave_nothing_mounted() {
    let machine = Machine::new();
    machine.boot.set(&["nestos-cc.0.good"]);
    let before = machine.boot.sectors_written();
    for _ in 0..2 {
        assert_eq!(machine.boots(2, "").verdict, Verdict::Blessed);
    }
    assert_eq!(machine.boots(1, "").verdict, Verdict::NotCounted, "picked by hand");
    assert_eq!(machine.boots(2, "fledge.boot.count=0").verdict, Verdict::NotCounted);
    assert_eq!(machine.boot.sectors_written(), before);
    assert!(machine.boot.is_free());
    let held = BootFs::open(&Place::Device(machine.boot.device.clone().into()), false).unwrap();
    assert!(!machine.boot.is_free(), "this is how one sees it");
    drop(held);
}

#[test]
fn another_kernel_is_reached_by_what_grub_sees() {
    let machine = Machine::new();
    machine.boot.set(&["nestos-cc.0+0-3", "nestos-bb.0.good"]);
    let inode = machine.boot.within(|boot| fs::metadata(boot.join("grub2/grubenv")).unwrap().ino());
    // The test's reboot fails, so that the boot goes on.
    let selection = machine.boots(2, "");
    assert_eq!(REBOOTS.get(), 1);
    assert_eq!((selection.verdict, &selection.deployment), (Verdict::Exhausted, &id("nestos-cc.0")));
    assert!(machine.left("run/exhausted").unwrap().contains("nestos-bb.0 could not be booted in its stead"));
    assert_eq!(machine.boot.names(), ["nestos-bb.0.good", "nestos-cc.0+0-3", "nestos-cc.0.switched"]);
    let block = machine.boot.seen_by_grub("/grub2/grubenv");
    assert!(block.contains("\ndefault=ostree-2\n#") && block.contains("# GRUB Environment Block\n"), "{block}");
    let after = machine.boot.within(|boot| fs::metadata(boot.join("grub2/grubenv")).unwrap());
    assert_eq!((after.ino(), after.len()), (inode, BLOCK as u64));

    // The next boot is the other one's, which is the bootloader's choice now.
    let selection = machine.boots(1, "");
    assert_eq!((selection.verdict, &selection.instead_of), (Verdict::Blessed, &id("nestos-cc.0")));
    // Should the bootloader not obey, nothing reboots again.
    assert_eq!(machine.boots(2, "").verdict, Verdict::NotCounted);
    machine.boot.within(|boot| {
        fs::write(boot.join("grub2/grubenv"), Environment::default().render().unwrap()).unwrap();
        fs::write(boot.join("fledge/boot/nestos-cc.0.switched-again"), "").unwrap();
    });
    assert_eq!(machine.boots(2, "").verdict, Verdict::Exhausted);
    assert_eq!(REBOOTS.get(), 1);
}

/// As GRUB and `fledgectl` leave it.
fn arm(machine: &Machine, left: Left) {
    let starts = Starts { left, fallback: "ostree-2".into(), tried: id("nestos-cc.0").unwrap(), given: 3 };
    let block = starts.written(&Environment::default().with("kernelopts", Some("x"))).render().unwrap();
    machine.boot.within(|boot| fs::write(boot.join("grub2/grubenv"), block).unwrap());
}

#[test]
fn a_start_that_arrives_is_counted_and_grub_sees_that_it_counts_no_more() {
    let machine = Machine::new();
    machine.boot.set(&["nestos-bb.0.good"]);
    arm(&machine, Left::Starts(2));
    assert_eq!(machine.boots(1, "").verdict, Verdict::NotCounted, "picked by hand");
    assert!(machine.boot.seen_by_grub("/grub2/grubenv").contains("fledge_starts=2\n"));
    let selection = machine.boots(2, "");
    assert_eq!((selection.verdict, selection.remarks.len()), (Verdict::Counted, 0), "{selection:?}");
    assert_eq!(machine.boot.names(), ["nestos-bb.0.good", "nestos-cc.0+2-1"]);
    let block = machine.boot.seen_by_grub("/grub2/grubenv");
    assert!(block.contains("# GRUB Environment Block\nkernelopts=x\n###") && !block.contains("fledge"), "{block}");
}

#[test]
fn a_start_that_arrives_for_a_person_to_repair_is_no_more_counted_by_grub() {
    let machine = Machine::new();
    machine.boot.set(&["nestos-bb.0.good"]);
    for arguments in ["rd.break", "emergency", "fledge.boot.count=0"] {
        arm(&machine, Left::Starts(2));
        let before = machine.boot.sectors_written();
        assert_eq!(machine.boots(1, arguments).verdict, Verdict::NotCounted, "picked by hand");
        assert_eq!(machine.boot.sectors_written(), before);
        let selection = machine.boots(2, arguments);
        assert_eq!((selection.verdict, selection.remarks.len()), (Verdict::NotCounted, 0), "{selection:?}");
        assert_eq!(machine.boot.names(), ["nestos-bb.0.good"]);
        assert!(!machine.boot.seen_by_grub("/grub2/grubenv").contains("fledge"), "{arguments}");
        let before = machine.boot.sectors_written();
        machine.boots(2, arguments);
        assert_eq!(machine.boot.sectors_written(), before, "once");
    }
    let cmdline = machine.cmdline(2, "rd.break").replace("boot=/dev/", "not=");
    assert_eq!(run(&cmdline, &machine.places(), None).verdict, Verdict::NotCounted, "it can't be looked at");
}

#[test]
fn a_deployment_that_grub_left_is_used_up() {
    let machine = Machine::new();
    machine.boot.set(&["nestos-bb.0.good"]);
    arm(&machine, Left::FellBack);
    let selection = machine.boots(1, "");
    assert_eq!((selection.verdict, &selection.instead_of), (Verdict::Blessed, &id("nestos-cc.0")));
    assert_eq!(selection.never_arrived, Some(3));
    assert_eq!(machine.boot.names(), ["nestos-bb.0.good", "nestos-cc.0+0-3"]);
    let block = machine.boot.seen_by_grub("/grub2/grubenv");
    assert!(block.contains("\nfledge_starts=0\nfledge_fallback=ostree-2\n"), "it arrived: {block}");
    arm(&machine, Left::FellBack);
    assert_eq!(machine.boots(1, "").instead_of, id("nestos-cc.0"));
    assert_eq!(machine.boot.names(), ["nestos-bb.0.good", "nestos-cc.0+0-3"]);
}

#[test]
fn what_counts_is_there_after_a_power_cut_once_it_was_synced() {
    let machine = Machine::new();
    let boot = BootFs::open(&Place::Device(machine.boot.device.clone().into()), true).unwrap();
    boot.create_name(FOLDER, "nestos-cc.0+2-1").unwrap();
    assert_eq!(machine.boot.after_a_power_cut().names(), [""; 0], "nothing was written yet");
    boot.sync_names(FOLDER).unwrap();
    assert_eq!(machine.boot.after_a_power_cut().names(), ["nestos-cc.0+2-1"]);
    boot.rename_name(FOLDER, "nestos-cc.0+2-1", "nestos-cc.0+1-2").unwrap();
    boot.sync_names(FOLDER).unwrap();
    assert_eq!(machine.boot.after_a_power_cut().names(), ["nestos-cc.0+1-2"]);
    boot.remove_name(FOLDER, "nestos-cc.0+1-2").unwrap();
    boot.remove_name(FOLDER, "nestos-cc.0+1-2").unwrap();
    boot.sync_names(FOLDER).unwrap();
    assert_eq!(machine.boot.after_a_power_cut().names(), [""; 0]);

    // A new file is somewhere else on the disk: GRUB finds it when the file system was written out.
    boot.write_readable("/grub2/grubenv", &[b'#'; BLOCK]).unwrap();
    assert!(machine.boot.seen_by_grub("/grub2/grubenv").starts_with("# GRUB"), "debugfs would see what GRUB doesn't");
    boot.flush().unwrap();
    assert!(!machine.boot.seen_by_grub("/grub2/grubenv").contains("GRUB Environment"));
    boot.create_name(FOLDER, "it-is.thawed").unwrap();
    for (path, why) in [("/grub2/grub.cfg", "bytes"), ("/loader", "symbolic link"), ("/grub2", "directory")] {
        let failure = boot.overwrite(path, &[b'#'; BLOCK]).unwrap_err();
        assert!(failure.why.contains(why), "{failure}");
    }
}

#[test]
fn a_boot_goes_on_that_can_t_be_counted() {
    let machine = Machine::new();
    run_program("blockdev", &["--setro", &machine.boot.device]);
    let selection = machine.boots(2, "");
    assert_eq!((selection.verdict, &selection.deployment), (Verdict::CouldNotCount, &id("nestos-cc.0")));
    assert!(!selection.counted && selection.reason.contains("Permission denied"), "{}", selection.reason);
    run_program("blockdev", &["--setrw", &machine.boot.device]);

    // No file can be made any more.
    let names = machine.boot.within(|boot| {
        let fill = (0..).map_while(|number| fs::write(boot.join(format!("fill-{number}")), "").ok());
        fill.count()
    });
    assert!(names > 100);
    let selection = machine.boots(2, "");
    assert_eq!(selection.verdict, Verdict::CouldNotCount, "{}", selection.reason);
    assert!(selection.reason.contains("No space left"), "{}", selection.reason);

    fs::write(&machine.boot.image, vec![0; 16 << 20]).unwrap();
    let damaged = Disk::attach(&machine.boot.image);
    let selection =
        run(&machine.cmdline(2, "").replace(&machine.boot.device, &damaged.device), &machine.places(), None);
    assert_eq!(selection.verdict, Verdict::CouldNotCount, "{}", selection.reason);
    let selection = run("rw quiet", &machine.places(), None);
    assert_eq!((selection.verdict, selection.deployment), (Verdict::CouldNotCount, None));
}

#[test]
fn a_damaged_grubenv_and_damaged_names_stop_nothing() {
    let machine = Machine::new();
    machine.boot.set(&["nestos-cc.0+0-3", "nestos-bb.0.good", "nestos-cc.0+0x-3", "x"]);
    machine.boot.within(|boot| fs::write(boot.join("grub2/grubenv"), "torn").unwrap());
    let selection = machine.boots(2, "fledge.boot.tries=none");
    assert_eq!(selection.verdict, Verdict::Exhausted);
    assert!(selection.reason.contains("grubenv: it has 4 bytes"), "{}", selection.reason);
    assert_eq!(selection.remarks.len(), 3, "{:?}", selection.remarks);
    machine.boot.within(|boot| fs::remove_file(boot.join("grub2/grubenv")).unwrap());
    machine.boots(2, "");
    assert!(machine.boot.seen_by_grub("/grub2/grubenv").contains("\ndefault=ostree-2\n"), "it is made");
}

#[test]
fn a_grubenv_that_was_torn_is_written_again() {
    let machine = Machine::new();
    let whole = |value: &str| Environment::default().with("x", Some(value)).render().unwrap();
    // Of one write the first sector came to the disk, of another the second.
    let mixed = [&whole(&"y".repeat(600))[..512], &whole("y")[512..]].concat();
    let zeros = [&whole(&"y".repeat(600))[..512], &[0; 512]].concat();
    let none = [b'x'; BLOCK].to_vec();
    // GRUB reads what is before it.
    let behind = [&whole("y")[..512], &[0; 512]].concat();
    for (block, marks, damaged, told) in [
        (&mixed, &[][..], true, true),
        (&zeros, &[], true, true),
        (&zeros, &["nestos-cc.0.switched"], true, true),
        (&none, &[], false, false),
        (&none, &["nestos-cc.0.switched"], true, true),
        (&behind, &[], false, true),
        (&behind, &["nestos-cc.0.switched"], false, true),
    ] {
        machine.boot.within(|boot| fs::write(boot.join("grub2/grubenv"), block).unwrap());
        machine.boot.set(&[&["nestos-cc.0+0-3", "nestos-bb.0.good"], marks].concat());
        let before = REBOOTS.get();
        let selection = machine.boots(2, "");
        let said = selection.remarks.iter().any(|remark| remark.contains("grubenv is damaged"));
        assert_eq!((said, REBOOTS.get() > before), (damaged, told), "{marks:?} {selection:?}");
        let seen = machine.boot.seen_by_grub("/grub2/grubenv");
        assert_eq!(seen.contains("\ndefault=ostree-2\n"), told);
        assert_eq!(seen.contains("\nx=y\n"), *block == behind, "what GRUB reads is kept");
        let again = machine.boot.names().contains(&"nestos-cc.0.switched-again".to_owned());
        assert_eq!(again, !marks.is_empty());
    }
}

#[test]
fn a_grubenv_that_is_a_link_isn_t_taken_for_one_that_is_missing() {
    let machine = Machine::new();
    machine.boot.set(&["nestos-cc.0+0-3", "nestos-bb.0.good"]);
    for (target, why) in
        [("../efi/EFI/fedora/grubenv", "on another file system"), ("grub.env", "which is not written through")]
    {
        machine.boot.within(|boot| {
            let _ = fs::remove_file(boot.join("grub2/grubenv"));
            symlink(target, boot.join("grub2/grubenv")).unwrap();
            fs::write(boot.join("grub2/grub.env"), Environment::default().render().unwrap()).unwrap();
        });
        let selection = machine.boots(2, "");
        assert_eq!((selection.verdict, REBOOTS.get()), (Verdict::Exhausted, 0), "{target}");
        assert!(selection.reason.contains(&format!("a link to {target}, {why}")), "{}", selection.reason);
    }
    assert_eq!(machine.boot.names(), ["nestos-bb.0.good", "nestos-cc.0+0-3"], "nothing was begun");
}

#[test]
fn the_grubenv_is_the_one_beside_grub_cfg() {
    let machine = Machine::new();
    let look = |switched| {
        let boot = BootFs::open(&Place::Device(machine.boot.device.clone().into()), false).unwrap();
        Grub::look(&boot, switched)
    };
    let told = Environment::default().with("default", Some("ostree-1")).render().unwrap();
    machine.boot.within(|boot| {
        fs::create_dir(boot.join("grub")).unwrap();
        fs::rename(boot.join("grub2/grub.cfg"), boot.join("grub/grub.cfg")).unwrap();
        fs::write(boot.join("grub/grubenv"), &told).unwrap();
    });
    let grub = look(false);
    assert_eq!((grub.path.as_deref(), grub.overridden(), &grub.unsteerable), (Some("/grub/grubenv"), true, &None));
    machine.boot.within(|boot| fs::remove_file(boot.join("grub/grub.cfg")).unwrap());
    let grub = look(false);
    assert_eq!((grub.path.as_deref(), grub.overridden()), (Some("/grub2/grubenv"), false));
    assert!(grub.unsteerable.unwrap().contains("no grub.cfg"));
    machine.boot.within(|boot| fs::write(boot.join("grub2/grubenv"), [b'x'; BLOCK]).unwrap());
    assert!(look(false).unreadable.is_some() && !look(false).overridden());
    assert!(look(true).unreadable.is_none() && look(true).overridden());
    let long = Environment::default().with("x", Some(&"y".repeat(600))).with("default", Some("ostree-1"));
    let torn = [&long.render().unwrap()[..512], &[0; 512]].concat();
    machine.boot.within(|boot| fs::write(boot.join("grub2/grubenv"), torn).unwrap());
    assert!(look(false).torn && !look(false).overridden(), "nothing tells of an override");
    assert!(look(true).torn && look(true).overridden());
}

#[test]
fn a_deployment_whose_kernel_is_gone_isn_t_rebooted_into() {
    let machine = Machine::new();
    machine.boot.set(&["nestos-cc.0+0-3", "nestos-bb.0.good"]);
    machine.boot.within(|boot| {
        for place in [1, 2] {
            let path = boot.join(format!("loader/entries/ostree-{place}.conf"));
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, text + "initrd /boot/ostree/11/initramfs.img\n").unwrap();
        }
    });
    let selection = machine.boots(2, "");
    assert_eq!((selection.verdict, REBOOTS.get()), (Verdict::Exhausted, 0), "{}", selection.reason);
    assert!(selection.reason.contains("there is no /boot/ostree/11/initramfs.img"), "{}", selection.reason);
    assert_eq!(selection.fallback, id("nestos-bb.0"), "it is kept all the same");
    machine.boot.set(&["nestos-bb.0.bad", "other-aa.0.good"]);
    machine.boot.within(|boot| fs::remove_file(boot.join("loader/entries/ostree-3.conf")).unwrap());
    assert_eq!(machine.boots(1, "").verdict, Verdict::FellBack, "the kernel that runs is its own");
}

#[test]
fn a_deployment_without_fledgectl_isn_t_counted() {
    let machine = Machine::new();
    fs::remove_file(machine.folder.path().join("root/ostree/deploy/nestos/deploy/cc.0/usr/bin/fledgectl")).unwrap();
    let selection = machine.boots(2, "");
    assert_eq!(selection.verdict, Verdict::NotCounted);
    assert!(selection.reason.contains("no fledgectl"), "{}", selection.reason);
    assert_eq!(machine.boot.names(), [""; 0]);
}

#[test]
fn a_deployment_that_wouldn_t_be_blessed_isn_t_counted() {
    let machine = Machine::new();
    let deployment = machine.folder.path().join("root/ostree/deploy/nestos/deploy/cc.0");
    let (etc, wants) = (deployment.join("etc/systemd/system"), deployment.join(WANTS).join("fledge-bless.service"));
    let reason = || {
        let selection = machine.boots(2, "");
        assert_eq!((selection.verdict, selection.counted), (Verdict::NotCounted, false), "{selection:?}");
        selection.reason
    };
    for unit in ["fledge-bless.service", "fledge-health.service", "boot-complete.target"] {
        symlink("/dev/null", etc.join(unit)).unwrap();
        assert!(reason().contains(&format!("{unit} is masked in it")), "{}", reason());
        fs::remove_file(etc.join(unit)).unwrap();
    }
    fs::write(etc.join("fledge-health.service"), "").unwrap();
    assert!(reason().contains("fledge-health.service is masked in it"), "an empty file does that, too");
    fs::remove_file(etc.join("fledge-health.service")).unwrap();
    fs::remove_file(&wants).unwrap();
    assert!(reason().contains("fledge-bless.service isn't enabled in it"), "{}", reason());
    assert_eq!(machine.boot.names(), [""; 0]);

    // systemctl enable makes its link in etc. A unit of one's own there is no mask.
    fs::create_dir(etc.join("multi-user.target.wants")).unwrap();
    symlink("/usr/lib/systemd/system/fledge-bless.service", etc.join("multi-user.target.wants/fledge-bless.service"))
        .unwrap();
    fs::write(etc.join("fledge-bless.service"), "[Unit]\n").unwrap();
    assert_eq!(machine.boots(2, "").verdict, Verdict::Counted);
    // As the image has it, where nothing was merged.
    fs::rename(deployment.join("etc"), deployment.join("usr/etc")).unwrap();
    assert_eq!(machine.boots(2, "").verdict, Verdict::Counted);
}

#[test]
fn a_boot_entry_that_can_t_be_read_is_passed_over() {
    let machine = Machine::new();
    machine.boot.within(|boot| {
        let entries = boot.join("loader/entries");
        fs::write(entries.join("ostree-9.conf"), b"title \xff\n").unwrap();
        symlink("ostree-1.conf", entries.join("ostree-8.conf")).unwrap();
        fs::create_dir(entries.join("ostree-7.conf")).unwrap();
    });
    let selection = machine.boots(2, "");
    assert_eq!(selection.verdict, Verdict::Counted, "{}", selection.reason);
    assert_eq!(selection.remarks.len(), 3, "{:?}", selection.remarks);
    for name in ["ostree-9.conf", "ostree-8.conf", "ostree-7.conf"] {
        assert!(selection.remarks.iter().any(|remark| remark.contains(name)), "{name}: {:?}", selection.remarks);
    }
    // Whoever changes kernel arguments has to see all of them.
    let boot = BootFs::open(&Place::Device(machine.boot.device.clone().into()), false).unwrap();
    assert!(boot.entries().is_err());
    drop(boot);
    machine.boot.within(|boot| {
        (1..=3).for_each(|one| fs::remove_file(boot.join(format!("loader/entries/ostree-{one}.conf"))).unwrap());
    });
    assert_eq!(machine.boots(2, "").verdict, Verdict::CouldNotCount, "none is left");
}

#[test]
fn it_waits_for_the_root_and_holds_the_boot_file_system_no_longer() {
    let machine = Machine::new();
    machine.boot.set(&["nestos-bb.0.good"]);
    let (cmdline, places) = (machine.cmdline(2, ""), machine.places());
    let root = places.root.clone();
    let (done, selected) = mpsc::channel();
    std::thread::spawn(move || {
        let ahead = ahead(&cmdline, &places);
        done.send(run(&cmdline, &places, ahead)).unwrap();
    });
    assert!(selected.recv_timeout(Duration::from_millis(500)).is_err());
    assert!(!machine.boot.is_free() && machine.left("run/boot-select.json").is_none());
    rustix::mount::mount_bind(&root, &root).unwrap();
    let selection = selected.recv_timeout(Duration::from_secs(30));
    rustix::mount::unmount(&root, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(selection.unwrap().verdict, Verdict::Counted);
    assert!(machine.boot.is_free() && machine.boot.names().contains(&"nestos-cc.0+2-1".to_owned()));
    // A root that has /boot itself is mounted by others.
    let both = format!("root={0} boot={0}", machine.boot.device);
    assert!(observe::ahead(&Cmdline::parse(&both)).is_none());
    assert!(observe::ahead(&Cmdline::parse(&format!("root=LABEL=x boot={}", machine.boot.device))).is_some());
}

#[test]
fn what_names_no_device_doesn_t_name_the_root() {
    let machine = Machine::new();
    let root = &machine.folder.path().join("root");
    for (argument, place) in [
        ("boot=FOO=x", bootfs::DEVICE),
        ("boot=UUID=", bootfs::DEVICE),
        ("boot=yes", bootfs::DEVICE),
        ("", bootfs::DEVICE),
        ("boot=UUID=0A", "/dev/disk/by-uuid/0A"),
        ("boot=/dev/vda3", "/dev/vda3"),
    ] {
        let (found, patience) = observe::boot_place(root, &Cmdline::parse(argument));
        assert!(matches!(&found, Place::Device(device) if device == Path::new(place)), "{argument}: {found:?}");
        assert_eq!(patience.is_zero(), place == bootfs::DEVICE, "{argument}");
    }
}

#[test]
fn what_a_person_wrote_into_custom_cfg_is_seen() {
    let machine = Machine::new();
    machine.boot.set(&["nestos-cc.0+0-3", "nestos-bb.0.good"]);
    machine.boot.within(|boot| {
        let config = format!("{GRUB}if [ -f /grub2/custom.cfg ]; then\n  source /grub2/custom.cfg\nfi\n");
        fs::write(boot.join("grub2/grub.cfg"), config).unwrap();
        fs::write(boot.join("grub2/custom.cfg"), "set \"default=1\"\n").unwrap();
    });
    // GRUB starts the second by itself, which can't be told here.
    let selection = machine.boots(1, "");
    assert_eq!(selection.verdict, Verdict::NotCounted);
    assert!(selection.reason.contains("picked by hand"), "{}", selection.reason);
    let selection = machine.boots(2, "");
    assert_eq!((selection.verdict, REBOOTS.get()), (Verdict::Exhausted, 0));
    assert!(selection.reason.contains("its custom.cfg sets default itself"), "{}", selection.reason);
    machine.boot.within(|boot| fs::write(boot.join("grub2/custom.cfg"), "set timeout=5\n").unwrap());
    machine.boots(2, "");
    assert_eq!(REBOOTS.get(), 1);
}

#[test]
fn a_machine_without_a_boot_file_system_doesn_t_wait_for_it() {
    let machine = Machine::new();
    let cmdline = machine.cmdline(2, "").replace("boot=/dev/", "not=");
    let start = Instant::now();
    let selection = run(&cmdline, &machine.places(), None);
    assert_eq!((selection.verdict, &selection.deployment), (Verdict::CouldNotCount, &id("nestos-cc.0")));
    assert!(selection.reason.contains("by-label/boot: it did not appear"), "{}", selection.reason);
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
}

#[test]
fn what_it_leaves_is_for_everybody_to_read() {
    let machine = Machine::with_one_kernel();
    machine.boot.set(&["nestos-bb.0.bad", "other-aa.0.good"]);
    assert_eq!(machine.boots(1, "").verdict, Verdict::FellBack);
    let mode = |name: &str| fs::metadata(machine.folder.path().join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("run"), mode("run/boot-select.json"), mode("run/pivot-cmdline")), (0o755, 0o644, 0o644));
}

#[test]
fn who_else_counts_is_left_alone() {
    let machine = Machine::new();
    machine.boot.within(|boot| {
        let block = Environment::default().with("boot_counter", Some("2")).render().unwrap();
        fs::write(boot.join("grub2/grubenv"), block).unwrap();
    });
    let selection = machine.boots(2, "");
    assert_eq!(selection.verdict, Verdict::NotCounted);
    assert!(selection.reason.contains("boot_counter"), "{}", selection.reason);
    machine.boot.within(|boot| {
        fs::remove_file(boot.join("grub2/grubenv")).unwrap();
        let entries = boot.join("loader/entries");
        fs::rename(entries.join("ostree-3.conf"), entries.join("ostree-3+2-1.conf")).unwrap();
    });
    let selection = machine.boots(2, "");
    assert!(selection.reason.contains("the name of the entry ostree-3+2-1"), "{}", selection.reason);
    assert_eq!(machine.boot.names(), [""; 0]);
}

#[test]
fn a_boot_folder_of_the_physical_root_is_used_where_it_is() {
    let machine = Machine::with_one_kernel();
    let boot = machine.folder.path().join("root/boot");
    machine.boot.within(|from| run_program("cp", &["-a", from.to_str().unwrap(), boot.to_str().unwrap()]));
    assert_eq!(machine.boots(1, "").verdict, Verdict::Counted);
    assert!(boot.join("fledge/boot/nestos-bb.0+2-1").exists());
    assert_eq!(machine.boot.names(), [""; 0], "the device isn't asked");
    let name = State::Good.name(&id("nestos-bb.0").unwrap());
    fs::rename(boot.join("fledge/boot/nestos-bb.0+2-1"), boot.join("fledge/boot").join(name)).unwrap();
    assert_eq!(machine.boots(1, "").verdict, Verdict::Blessed);
}

#[test]
fn a_deployment_that_can_t_be_booted_is_no_fallback() {
    let machine = Machine::with_one_kernel();
    machine.boot.set(&["nestos-bb.0.bad", "other-aa.0.good"]);
    let conf = machine.folder.path().join("initramfs/etc/ostree/prepare-root.conf");
    fs::create_dir_all(conf.parent().unwrap()).unwrap();
    fs::write(&conf, "[composefs]\nenabled=yes\n").unwrap();
    assert_eq!(machine.boots(1, "").verdict, Verdict::Exhausted, "it has no image");
    // Signatures are for OSTree's own program to check. Where the booted one has no image, another one needs none.
    fs::write(&conf, "[composefs]\nenabled=signed\n").unwrap();
    assert_eq!(machine.boots(1, "").verdict, Verdict::FellBack);
    let deploy = machine.folder.path().join("root/ostree/deploy");
    fs::write(deploy.join("nestos/deploy/bb.0/.ostree.cfs"), "").unwrap();
    assert_eq!(machine.boots(1, "").verdict, Verdict::Exhausted, "the booted one has an image");
    fs::write(deploy.join("other/deploy/aa.0/.ostree.cfs"), [0; 4096]).unwrap();
    let selection = machine.boots(1, "");
    assert_eq!(selection.verdict, Verdict::Exhausted, "its image is none");
    let header = [0xd078_629a_u32, 1, 0].map(u32::to_le_bytes).concat();
    fs::write(deploy.join("other/deploy/aa.0/.ostree.cfs"), header).unwrap();
    assert_eq!(machine.boots(1, "").verdict, Verdict::FellBack);
    fs::remove_file(&conf).unwrap();
    let root = deploy.join("other/deploy/aa.0");
    for missing in ["../../var", "usr/lib/os-release", "sysroot", "etc", "usr"] {
        let (there, away) = (root.join(missing), deploy.join("away"));
        fs::rename(&there, &away).unwrap();
        assert_eq!(machine.boots(1, "").verdict, Verdict::Exhausted, "it has no {missing}");
        fs::rename(&away, &there).unwrap();
        assert_eq!(machine.boots(1, "").verdict, Verdict::FellBack, "{missing}");
    }
    // Where /etc is in memory, it comes from usr/etc.
    fs::write(&conf, "[etc]\ntransient=true\n").unwrap();
    assert_eq!(machine.boots(1, "").verdict, Verdict::Exhausted, "it has no usr/etc");
    fs::rename(root.join("etc"), root.join("usr/etc")).unwrap();
    assert_eq!(machine.boots(1, "").verdict, Verdict::FellBack);
    fs::remove_file(&conf).unwrap();
    fs::remove_dir_all(&root).unwrap();
    let selection = machine.boots(1, "");
    assert_eq!(selection.verdict, Verdict::NotCounted, "it is gone, and no other is there");
    assert!(selection.reason.contains("no other deployment"), "{}", selection.reason);
}
