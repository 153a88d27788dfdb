// SPDX-License-Identifier: Apache-2.0
//! Selection on real boot file systems.

mod deployments;
mod grub;
mod machine;

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
use machine::{DEPLOYMENTS, Disk, GRUB, Machine, REBOOTS, WANTS, run_program};

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
    let held = BootFs::open(&Place::Device(machine.boot.device.clone().into()), false).unwrap();
    assert!(!machine.boot.is_free(), "this is how one sees it");
    drop(held);
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
    machine.boot.rests();
    assert!(machine.boot.names().contains(&"nestos-cc.0+2-1".to_owned()));
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
