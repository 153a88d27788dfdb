// SPDX-License-Identifier: Apache-2.0
//! What GRUB is told when a system goes off.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use fledge_companion::{duty, status};
use fledge_core::counting::{BLOCK, Environment, Id};

use crate::machine::System;

const ARM: &str = "usr/lib/systemd/system/fledge-arm.service";

/// The first of two deployments, which has a kernel of its own, was never booted; the second runs, and is good. GRUB counts.
fn updated(first: &str) -> (System, Vec<Id>, PathBuf) {
    let system = System::new(&["1", first]);
    let ids = system.ids();
    for id in &ids {
        let deployment = system.machine.sysroot.root.join(id.path().trim_start_matches('/'));
        for file in ["usr/bin/fledgectl", "etc/systemd/system/multi-user.target.wants/fledge-bless.service", ARM] {
            let path = deployment.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }
    system.record(&[format!("{}.good", ids[1])]);
    system.boot(&ids[1], None);
    let grub2 = system.machine.sysroot.boot.join("grub2");
    fs::create_dir_all(&grub2).unwrap();
    fs::write(grub2.join("grub.cfg"), "load_env\nsource $prefix/fledge-starts.cfg\nblscfg\n").unwrap();
    fs::write(grub2.join("fledge-starts.cfg"), "").unwrap();
    let grubenv = grub2.join("grubenv");
    fs::write(&grubenv, Environment::default().with("kept", Some("1")).render().unwrap()).unwrap();
    (system, ids, grubenv)
}

fn variables(grubenv: &PathBuf) -> [Option<String>; 4] {
    let block = Environment::parse(&fs::read(grubenv).unwrap()).unwrap();
    ["kept", "fledge_starts", "fledge_fallback", "fledge_tried"].map(|name| block.get(name).map(str::to_owned))
}

fn kept() -> [Option<String>; 4] {
    [Some("1".to_owned()), None, None, None]
}

#[test]
fn an_update_with_another_kernel_is_counted_from_the_next_start_on() {
    let (system, ids, grubenv) = updated("2k");
    duty::arm(&system.machine).unwrap();
    let entry = system.entry(&ids[1]);
    let wanted = ["1".to_owned(), "3".to_owned(), entry, format!("{}+3-0", ids[0])];
    assert_eq!(variables(&grubenv), wanted.map(Some));
    let status = serde_json::to_value(status::look(&system.machine.sysroot).unwrap()).unwrap();
    let counted = serde_json::json!({ "left": 3, "tried": ids[0].as_str(), "fallback": system.entry(&ids[1]) });
    assert_eq!(status.pointer("/starts"), Some(&counted));

    // It arrived once, or somebody knows better: nothing is left of it.
    system.record(&[format!("{}+2-1", ids[0])]);
    duty::arm(&system.machine).unwrap();
    assert_eq!(variables(&grubenv), kept());
    assert_eq!(status::look(&system.machine.sysroot).unwrap().starts, None);
}

#[test]
fn what_a_good_deployment_has_shown_to_work_isn_t_counted() {
    let (system, _, grubenv) = updated("2");
    let before = fs::read(&grubenv).unwrap();
    duty::arm(&system.machine).unwrap();
    assert_eq!(fs::read(&grubenv).unwrap(), before);
}

#[test]
fn grub_isn_t_told_where_it_wouldn_t_count() {
    let (system, _, grubenv) = updated("2k");
    fs::remove_file(grubenv.with_file_name("fledge-starts.cfg")).unwrap();
    duty::arm(&system.machine).unwrap();
    assert_eq!(variables(&grubenv), kept());
}

/// Nothing of it tells GRUB that it arrived. It would be healthy, and left.
#[test]
fn a_deployment_from_before_grub_counted_isn_t_armed_for() {
    let (system, ids, grubenv) = updated("2k");
    let deployment = |id: &Id| system.machine.sysroot.root.join(id.path().trim_start_matches('/'));
    fs::remove_file(deployment(&ids[0]).join(ARM)).unwrap();
    duty::arm(&system.machine).unwrap();
    assert_eq!(variables(&grubenv), kept());
    // What the other one knows doesn't matter.
    fs::rename(deployment(&ids[1]).join(ARM), deployment(&ids[0]).join(ARM)).unwrap();
    duty::arm(&system.machine).unwrap();
    assert_eq!(variables(&grubenv)[1].as_deref(), Some("3"));
}

#[test]
fn a_boot_entry_that_can_t_be_read_keeps_nothing_from_being_counted() {
    let (system, ids, grubenv) = updated("2k");
    let entry = system.entry(&ids[1]);
    let entries = system.machine.sysroot.boot.join("loader/entries");
    fs::write(entries.join("ostree-0-odd.conf"), b"title \xff\n").unwrap();
    symlink("nowhere", entries.join("memtest.conf")).unwrap();
    duty::arm(&system.machine).unwrap();
    assert_eq!(variables(&grubenv)[2], Some(entry));
}

#[test]
fn only_a_default_that_names_another_entry_keeps_grub_from_counting() {
    for (told, starts) in [("0", Some("3")), ("", Some("3")), ("ostree-1", None)] {
        let (system, _, _) = updated("2k");
        let grubenv = system.tell_grub(told);
        duty::arm(&system.machine).unwrap();
        assert_eq!(variables(&grubenv)[1].as_deref(), starts, "{told:?}");
        assert_eq!(variables(&grubenv)[0].as_deref(), Some("1"));
    }
}

#[test]
fn a_torn_grubenv_is_written_again_unless_it_may_have_named_another_entry() {
    let torn = |grubenv: &Path| {
        let block = Environment::default().with("x", Some(&"y".repeat(600))).render().unwrap();
        fs::write(grubenv, [&block[..512], &[0; 512][..]].concat()).unwrap();
        fs::read(grubenv).unwrap()
    };
    // What a mark tells of may be in it: a healthy boot takes that back.
    let (system, ids, grubenv) = updated("2k");
    system.record(&[format!("{}.switched", ids[0])]);
    let before = torn(&grubenv);
    duty::arm(&system.machine).unwrap();
    assert_eq!(fs::read(&grubenv).unwrap(), before);
    // It is armed, or, where nothing is to be counted, whole again.
    for (records, starts) in [(None, Some("3")), (Some("good"), None)] {
        let (system, ids, grubenv) = updated("2k");
        system.record(&records.map(|state| format!("{}.{state}", ids[0])).into_iter().collect::<Vec<_>>());
        torn(&grubenv);
        duty::arm(&system.machine).unwrap();
        assert_eq!(variables(&grubenv)[1].as_deref(), starts);
    }
    // GRUB reads what it counts, and couldn't write it.
    let (system, _, grubenv) = updated("2k");
    duty::arm(&system.machine).unwrap();
    let whole = fs::read(&grubenv).unwrap();
    fs::write(&grubenv, [&whole[..512], &[0; 512][..]].concat()).unwrap();
    duty::arm(&system.machine).unwrap();
    assert_eq!(fs::read(&grubenv).unwrap(), whole);
}

/// GRUB reads any encoding.
#[test]
fn what_a_person_has_in_grubenv_stays() {
    let (system, _, grubenv) = updated("2k");
    let text = &b"# GRUB Environment Block\nkept=1\nsaved_entry=Men\xfc\n"[..];
    let mut block = text.to_vec();
    block.resize(BLOCK, b'#');
    fs::write(&grubenv, block).unwrap();
    duty::arm(&system.machine).unwrap();
    assert!(fs::read(&grubenv).unwrap().starts_with(text));
    assert_eq!(variables(&grubenv)[1].as_deref(), Some("3"));
}
