// SPDX-License-Identifier: Apache-2.0
//! What GRUB is told, and what it says.

use super::*;

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

#[test]
fn grub_sees_what_it_is_told_while_somebody_holds_the_disk() {
    let machine = Machine::new();
    machine.boot.set(&["nestos-cc.0+0-3", "nestos-bb.0.good"]);
    // Unmounting can't be what brings it to the disk.
    let held = BootFs::open(&Place::Device(machine.boot.device.clone().into()), false).unwrap();
    assert_eq!((machine.selects(2, "").verdict, REBOOTS.get()), (Verdict::Exhausted, 1));
    assert!(machine.boot.seen_by_grub("/grub2/grubenv").contains("\ndefault=ostree-2\n"));
    drop(held);
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
