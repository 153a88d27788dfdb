// SPDX-License-Identifier: Apache-2.0
//! What is read of a system is what OSTree says of it.

use fledge_companion::duty;
use fledge_companion::status::{self, Verdict};
use fledge_companion::sysroot::Sysroot;
use fledge_core::counting::{EXHAUSTED, Selection, Verdict as Selected};

use crate::machine::System;

#[test]
fn deployments_are_those_of_ostree_in_its_order() {
    let system = System::new(&["1", "2k", "3"]);
    let status = status::look(&Sysroot::at(&system.machine.sysroot.root)).unwrap();
    let listed: Vec<_> = system.machine.admin.list().unwrap().into_iter().map(|line| line.id).collect();
    assert_eq!(status.deployments.iter().map(|row| row.id.clone()).collect::<Vec<_>>(), listed);
    assert_eq!(status.deployments.len(), 3);
    let first = &status.deployments[0];
    assert!(first.default && !first.running && !status.booted && first.verdict == Verdict::New);
    assert_eq!(first.title, "NestOS 3", "without the place in the list that OSTree adds");
    assert_eq!(first.origin.as_deref(), Some("nestos/x"));
    assert_eq!(system.machine.sysroot.all().unwrap().len(), 3);
    assert_eq!(system.machine.sysroot.stateroots().unwrap(), ["nestos"]);
}

#[test]
fn the_running_deployment_is_the_one_whose_folder_is_the_root() {
    let system = System::new(&["1", "2"]);
    let ids = system.ids();
    let sysroot = &system.machine.sysroot;
    assert_eq!(sysroot.running(&ids).unwrap(), None, "nothing was booted");
    for id in &ids {
        system.boot(id, None);
        assert_eq!(sysroot.running(&ids).unwrap().as_ref(), Some(id));
        assert_eq!(status::look(sysroot).unwrap().running().unwrap().id, *id);
    }
    // Older ones leave an empty file, and the root itself is the deployment.
    system.file("run/ostree-booted", "");
    assert_eq!(sysroot.running(&ids).unwrap(), None);
    assert!(status::look(sysroot).unwrap().remarks[0].contains("no boot entry starts"), "and that is told");
}

#[test]
fn pinning_is_ostrees_own() {
    let system = System::new(&["1", "2"]);
    let id = &system.ids()[1];
    let admin = &system.machine.admin;
    admin.pin(id, true).unwrap();
    admin.pin(id, true).unwrap();
    assert_eq!(system.pinned_by_ostree(), 1);
    let is_pinned = || system.machine.sysroot.deployments().unwrap()[1].pinned;
    assert!(is_pinned());
    admin.pin(id, false).unwrap();
    assert!(!is_pinned() && system.pinned_by_ostree() == 0);
}

#[test]
fn the_default_is_changed_where_ostree_can_and_refused_in_words_where_it_can_not() {
    let system = System::new(&["1", "2k"]);
    let ids = system.ids();
    let admin = &system.machine.admin;
    assert!(!admin.set_default(&ids[0]).unwrap(), "it is already");
    system.set_default(false);
    let failure = admin.set_default(&ids[1]).unwrap_err();
    assert!(failure.why.contains("2023.6") && failure.remedy.is_some(), "{failure}");
    assert_eq!(system.ids(), ids);
    system.set_default(true);
    assert!(admin.set_default(&ids[1]).unwrap());
    assert_eq!(system.ids(), [ids[1].clone(), ids[0].clone()]);
}

#[test]
fn what_can_not_be_read_is_unknown_and_not_something_else() {
    let system = System::new(&["1", "2"]);
    let ids = system.ids();
    system.boot(&ids[0], None);
    let sysroot = &system.machine.sysroot;
    // Who may not read a folder gets no answer either; root, who runs these tests, gets one, so here they aren't what they should be.
    for path in ["boot-select.json", "exhausted", "health.json"] {
        std::fs::create_dir(system.machine.live.runtime.join(path)).unwrap();
    }
    std::fs::create_dir_all(sysroot.records_folder().parent().unwrap()).unwrap();
    std::fs::write(sysroot.records_folder(), "").unwrap();
    let status = status::look(sysroot).unwrap();
    assert_eq!(status.unknown, ["records", "boot", "exhausted", "health", "starts"]);
    assert_eq!(status.exhausted, None);
    assert!(status.deployments.iter().all(|row| row.verdict == Verdict::Unknown));
    let text = status.to_string();
    for part in
        ["boot:    unknown", "health:  unknown", "deployment is left to fall back to isn't known", "note: reading"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("first boot") && !text.contains("not checked") && !text.contains("no boot of it"), "{text}");
    assert!(status.rollback(true).is_err(), "nobody knows whether it is good");
}

/// Boot selection and the records say the same of odd names, not one after the other.
#[test]
fn nothing_is_remarked_twice() {
    let system = System::new(&["1"]);
    let ids = system.ids();
    system.record(&["a".into(), "b".into()]);
    let mut boot = Selection::not_counted(Selected::NotCounted, Some(ids[0].clone()), "");
    boot.remarks = ["a", "b"].map(|name| format!("the name {name:?} among the records means nothing")).to_vec();
    system.boot(&ids[0], Some(&boot));
    assert_eq!(status::look(&system.machine.sysroot).unwrap().remarks.len(), 2);
}

#[test]
fn an_entry_that_leads_nowhere_is_told_and_the_others_are_there() {
    let system = System::new(&["1", "2"]);
    let ids = system.ids();
    system.boot(&ids[0], None);
    let folder = system.machine.sysroot.root.join(ids[1].path().trim_start_matches('/'));
    let _ = std::process::Command::new("chattr").args(["-f", "-i"]).arg(&folder).status();
    std::fs::rename(&folder, system.path().join("gone")).unwrap();
    let status = status::look(&system.machine.sysroot).unwrap();
    assert_eq!(status.deployments.len(), 1);
    assert!(status.remarks[0].starts_with("the boot entry ostree-1"), "{:?}", status.remarks);
    duty::bless(&system.machine).unwrap();
    assert_eq!(system.records(), [format!("{}.good", ids[0])]);
}

#[test]
fn an_entry_that_can_t_be_read_is_told_and_keeps_nothing_from_being_marked() {
    let system = System::new(&["1", "2"]);
    let ids = system.ids();
    system.boot(&ids[0], None);
    let entries = system.machine.sysroot.boot.join("loader/entries");
    std::fs::write(entries.join("latin.conf"), b"title \xe9\n").unwrap();
    std::os::unix::fs::symlink("nowhere", entries.join("memtest.conf")).unwrap();
    let status = status::look(&system.machine.sysroot).unwrap();
    assert_eq!((status.deployments.len(), status.unknown.len()), (2, 0));
    for name in ["latin.conf", "memtest.conf"] {
        let told = |remark: &String| remark.contains(name) && remark.contains("passed over");
        assert!(status.remarks.iter().any(told), "{:?}", status.remarks);
    }
    assert!(status.rollback(false).is_ok() || status.named("1").is_ok());
    duty::bless(&system.machine).unwrap();
    assert_eq!(system.records(), [format!("{}.good", ids[0])]);
}

/// As on a machine whose /boot could not be mounted.
#[test]
fn without_boot_entries_the_rest_is_told_all_the_same() {
    let system = System::new(&["1", "2"]);
    let (ids, machine) = (system.ids(), &system.machine);
    let mut counted = Selection::not_counted(Selected::Counted, Some(ids[0].clone()), "this is try 1 of 3");
    counted.counted = true;
    system.boot(&ids[0], Some(&counted));
    std::fs::rename(&machine.sysroot.boot, system.path().join("boot")).unwrap();
    std::fs::create_dir(&machine.sysroot.boot).unwrap();
    assert!(duty::check(machine).unwrap());
    assert!(duty::bless(machine).is_err(), "it can't be marked");
    assert!(std::fs::read_dir(&machine.sysroot.boot).unwrap().next().is_none(), "nothing is written into the folder");
    let message = || system.text("run/motd.d/80-fledge-boot").unwrap();
    assert!(message().contains("BUT WHAT FOLLOWS A HEALTHY BOOT COULD NOT BE DONE"), "{}", message());
    let status = status::look(&machine.sysroot).unwrap();
    assert_eq!((status.unknown.as_slice(), status.deployments.len()), (&["deployments".to_owned()][..], 0));
    let text = status.to_string();
    for part in
        ["this is try 1 of 3", "could not be done after it", "Which deployments there are isn't known", "note: "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("No boot entry") && !text.contains("no boot entry"), "{text}");
    assert!(status.named("0").unwrap_err().remedy.is_some() && status.rollback(false).unwrap_err().remedy.is_some());
    system.file(&format!("run/fledge/{EXHAUSTED}"), "it is used up\n");
    machine.tell().unwrap();
    assert!(message().contains("CAN'T GO TO ANOTHER DEPLOYMENT BY ITSELF: it is used up"), "{}", message());
    assert!(status::look(&Sysroot::at(&machine.sysroot.root)).unwrap_err().remedy.is_some(), "nothing is known of it");
}
