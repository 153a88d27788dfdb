// SPDX-License-Identifier: Apache-2.0
use super::*;

fn persist_facts() -> persist::Facts {
    let of = |node: &str, format: &str, uuid: &str| FileSystem {
        node: node.into(),
        format: format.into(),
        uuid: uuid.into(),
    };
    persist::Facts {
        root: of("/dev/vda4", "xfs", ROOT),
        stack: vec![layer("/dev/vda", Kind::Disk), partition("/dev/vda", 4)],
        boot: of("/dev/vda3", "ext4", BOOT),
        entries: vec![("ostree-1.conf".into(), Entry::new(OPTIONS)), ("ostree-2.conf".into(), Entry::new(OPTIONS))],
        loaders: vec![persist::loader(None, "/grub2", None)],
        ..persist::Facts::default()
    }
}

#[test]
fn the_default_entry_comes_last_and_the_binding_after_it() {
    let plan = persist::plan(&persist_facts()).unwrap();
    let arguments = format!("root=UUID={ROOT} rw rootflags=prjquota boot=UUID={BOOT}");
    let expected = format!(
        "   1 add to the boot entry ostree-1.conf: {arguments}
   2 add to the boot entry ostree-2.conf: {arguments}
   3 write /grub2/bootuuid.cfg on the boot file system: set BOOT_UUID=\"{BOOT}\"
   4 write /.root_uuid on the boot file system: {ROOT}
   5 write /run/coreos/bootfs_uuid: {BOOT}
   6 write /run/nestos/bootfs_uuid: {BOOT}
"
    );
    assert_eq!(plan.to_string(), expected);
    let Some(persist::Step::Entry { entry, .. }) = plan.steps.first() else { panic!() };
    assert_eq!(entry.text(), OPTIONS.replace("/y/0\n", &format!("/y/0 {arguments}\n")));
}

/// Carries out a plan on the facts alone, up to a step.
fn after(mut facts: persist::Facts, steps: usize) -> persist::Facts {
    for step in persist::plan(&facts).unwrap().steps.into_iter().take(steps) {
        match step {
            persist::Step::Entry { name, entry, .. } => {
                facts.entries.iter_mut().find(|(other, _)| *other == name).unwrap().1 = entry;
            }
            persist::Step::File { path, text, .. } if path == persist::BOUND => facts.bound = Some(text),
            persist::Step::File { path, text, .. } => {
                facts.loaders.iter_mut().find(|loader| loader.path == path).unwrap().text = Some(text);
            }
            persist::Step::Tell { .. } => {}
        }
    }
    facts
}

#[test]
fn a_power_cut_after_any_step_leaves_what_a_second_run_finishes() {
    let whole = after(persist_facts(), usize::MAX);
    for steps in 0..=6 {
        let mut cut = after(persist_facts(), steps);
        // The next boot's command line is that of the default entry.
        let default = cut.entries.last().unwrap().1.clone();
        let has = |key: &str| default.arguments().any(|argument| argument.starts_with(key));
        (cut.root_is_named, cut.boot_is_named) = (has("root="), has("boot="));
        let again = after(cut, usize::MAX);
        assert_eq!(
            (again.entries, again.bound, again.loaders),
            (whole.entries.clone(), whole.bound.clone(), whole.loaders.clone()),
            "{steps}"
        );
    }
    let mut later = whole;
    (later.root_is_named, later.boot_is_named) = (true, true);
    assert_eq!(persist::plan(&later).unwrap().to_string(), "   - nothing is left to do\n");
}

#[test]
fn a_boot_file_system_of_another_root_is_refused_before_any_step() {
    let other = "0badc0de-0000-0000-0000-000000000000";
    let facts = persist::Facts { bound: Some(format!("{other}\n")), ..persist_facts() };
    let failure = persist::plan(&facts).unwrap_err().to_string();
    for word in [other, ROOT, "/dev/vda3", "/dev/vda4", "take one out"] {
        assert!(failure.contains(word), "{word}: {failure}");
    }
    let facts = persist::Facts { bound: Some(format!("{ROOT}\n")), ..persist_facts() };
    assert!(!persist::plan(&facts).unwrap().to_string().contains(".root_uuid"));
}

#[test]
fn what_an_operator_wrote_stays() {
    let mut facts = persist_facts();
    facts.root_is_named = true;
    facts.entries = vec![("a.conf".into(), Entry::new("options root=LABEL=mine boot=LABEL=b\n"))];
    assert_eq!(
        persist::plan(&facts).unwrap().steps.iter().filter(|step| matches!(step, persist::Step::Entry { .. })).count(),
        0
    );
    // One that was started by other means, without the entries.
    facts.root_is_named = false;
    assert!(!persist::plan(&facts).unwrap().to_string().contains("boot entry"));
    facts.entries = vec![("a.conf".into(), Entry::new("options root=LABEL=mine\n"))];
    assert!(persist::plan(&facts).unwrap().to_string().contains(&format!("a.conf: boot=UUID={BOOT}\n")));
    facts.entries = vec![("a.conf".into(), Entry::new("options \"root=x\n"))];
    assert!(persist::plan(&facts).unwrap_err().to_string().contains("double quote"));
}

#[test]
fn each_root_stack_has_its_arguments() {
    let luks = |network| Kind::Luks { name: "root".into(), uuid: "5eed".into(), network };
    let raid = Kind::Raid { uuid: "0:1:2:3".into() };
    let multipath = Kind::Multipath { wwid: "3600".into() };
    let two = || {
        vec![
            layer("/dev/vda", Kind::Disk),
            partition("/dev/vda", 1),
            layer("/dev/vdb", Kind::Disk),
            partition("/dev/vdb", 1),
        ]
    };
    let tail = format!("root=UUID={ROOT} rw");
    let cases: [(Vec<Layer>, &str, String); 7] = [
        (two(), "ext4", tail.clone()),
        ([two(), vec![layer("/dev/md127", raid.clone())]].concat(), "ext4", format!("rd.md.uuid=0:1:2:3 {tail}")),
        (
            [two(), vec![layer("/dev/md127", raid), layer("/dev/dm-0", luks(false))]].concat(),
            "xfs",
            format!("rd.md.uuid=0:1:2:3 rd.luks.name=5eed=root {tail} rootflags=prjquota"),
        ),
        (
            [two(), vec![layer("/dev/dm-0", Kind::Integrity), layer("/dev/dm-1", luks(true))]].concat(),
            "btrfs",
            format!("rd.luks.name=5eed=root rd.neednet=1 rd.luks.options=_netdev {tail}"),
        ),
        (
            vec![layer("/dev/dm-0", multipath.clone()), partition("/dev/dm-0", 4)],
            "ext4",
            format!("mpath.wwid=3600 root=/dev/disk/by-uuid/dm-mpath-{ROOT} rw"),
        ),
        (
            vec![layer("/dev/dm-0", multipath), partition("/dev/dm-0", 4), layer("/dev/dm-1", luks(false))],
            "ext4",
            format!("mpath.wwid=3600 rd.luks.name=5eed=root {tail}"),
        ),
        (vec![], "ext4", tail),
    ];
    for (stack, format, expected) in cases {
        let root = FileSystem { format: format.into(), ..persist_facts().root };
        let mut facts = persist::Facts { root, stack, multipath_is_linked: true, ..persist_facts() };
        assert_eq!(persist::arguments(&facts).unwrap().join(" "), expected);
        // A link that nobody makes would never be found.
        facts.multipath_is_linked = false;
        let expected = expected.replace("/dev/disk/by-uuid/dm-mpath-", "UUID=");
        assert_eq!(persist::arguments(&facts).unwrap().join(" "), expected);
    }
    let facts = persist::Facts { options: Some("noatime".into()), ..persist_facts() };
    assert_eq!(persist::arguments(&facts).unwrap().last().unwrap(), "rootflags=noatime");
    let facts = persist::Facts { stack: vec![layer("/dev/dm-3", Kind::Other("LVM-x".into()))], ..persist_facts() };
    assert!(persist::plan(&facts).unwrap_err().to_string().contains("/dev/dm-3, which is LVM-x"));
    let named = persist::Facts { root_is_named: true, ..facts.clone() };
    assert!(!persist::plan(&named).unwrap().to_string().contains("root="));
    let facts = persist::Facts { root: FileSystem { uuid: String::new(), ..facts.root }, ..persist_facts() };
    assert!(persist::plan(&facts).unwrap_err().to_string().contains("has no UUID"));
}

#[test]
fn crypttab_tells_who_needs_the_network() {
    let table = "# root x\n\nroot UUID=1 none luks,_netdev\nvar UUID=2\n home UUID=3 /etc/key discard,no_netdev\n";
    let told = ["root", "var", "home", "swap"].map(|name| persist::needs_network(table, name));
    assert_eq!(told, [Some(true), Some(false), Some(false), None]);
}
