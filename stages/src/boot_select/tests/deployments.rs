// SPDX-License-Identifier: Apache-2.0
//! Deployments that are no fallback, that nobody counts, or whose boot entries can't be read.

use super::*;

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
