// SPDX-License-Identifier: Apache-2.0
//! Real files in a folder that stands for the mounted boot file system.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

const ENTRY: &str = "title Nest\noptions root=LABEL=root $ignition_firstboot ostree=/ostree/boot.1/nestos/aa/0 debug\nlinux /ostree/nestos-aa/vmlinuz\n";

struct Machine {
    folder: tempfile::TempDir,
    places: Places,
}

/// Two deployments, one under each form of name, and the link that OSTree makes.
fn machine(cmdline: &str) -> Machine {
    let folder = tempfile::tempdir().unwrap();
    let boot = folder.path().join("boot");
    let entries = boot.join("loader.1/entries");
    fs::create_dir_all(&entries).unwrap();
    symlink("loader.1", boot.join("loader")).unwrap();
    fs::write(entries.join("ostree-2-nestos.conf"), ENTRY).unwrap();
    fs::write(entries.join("ostree-1.conf"), ENTRY.replace("/aa/0", "/bb/1").replace('\n', "\r\n")).unwrap();
    fs::write(entries.join("entries.srel"), "type1\n").unwrap();
    fs::set_permissions(entries.join("ostree-1.conf"), fs::Permissions::from_mode(0o640)).unwrap();
    let cmdline_file = folder.path().join("cmdline");
    fs::write(&cmdline_file, format!("{cmdline}\n")).unwrap();
    let flag = folder.path().join("run/kargs-reboot");
    let places = Places { boot: Place::Mounted(boot), flag, cmdline: cmdline_file, boot_id: "1".into() };
    Machine { folder, places }
}

impl Machine {
    fn entry(&self, name: &str) -> PathBuf {
        self.folder.path().join("boot/loader/entries").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.entry(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.entry(""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn mark(&self, boot_id: &str, request: &Request) {
        let marker = Marker { boot_id: boot_id.into(), request: request.clone() };
        BootFs::open(&self.places.boot, true).unwrap().write(MARKER, marker.to_text().as_bytes()).unwrap();
    }
}

fn request() -> Request {
    Request::new(&["quiet"], &["debug"]).unwrap()
}

#[test]
fn all_entries_are_edited_and_nothing_else() {
    let machine = machine("root=LABEL=root debug");
    let before = fs::metadata(machine.entry("ostree-1.conf")).unwrap();
    let names = machine.names();
    let outcome = adjust(&request(), false, &machine.places).unwrap();
    assert_eq!(outcome.edited, ["ostree-1.conf", "ostree-2-nestos.conf"]);
    assert!(outcome.reboot);
    assert_eq!(machine.read("ostree-2-nestos.conf"), ENTRY.replace(" debug", " quiet"));
    assert_eq!(
        machine.read("ostree-1.conf"),
        ENTRY.replace("/aa/0", "/bb/1").replace('\n', "\r\n").replace(" debug", " quiet")
    );
    let after = fs::metadata(machine.entry("ostree-1.conf")).unwrap();
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    assert_ne!(after.ino(), before.ino(), "it was replaced, not written over");
    assert_eq!(machine.names(), names);
    assert_eq!(Request::from_text(&fs::read_to_string(&machine.places.flag).unwrap()), request());

    // Once more, as when the power failed before the reboot: nothing is left to edit, and the reboot is still needed.
    fs::remove_file(&machine.places.flag).unwrap();
    let outcome = adjust(&request(), false, &machine.places).unwrap();
    assert_eq!(outcome, Outcome { edited: Vec::new(), reboot: true });
    assert!(machine.places.flag.is_file());
}

#[test]
fn what_is_so_already_is_left_alone() {
    let machine = machine("quiet root=LABEL=root");
    let want = Request::new(&["root=LABEL=root", "quiet"], &[]).unwrap();
    // The kernel runs with it, the entries lack it: for the next boot.
    let outcome = adjust(&want, false, &machine.places).unwrap();
    assert_eq!((outcome.edited.len(), outcome.reboot), (2, false));
    assert!(!machine.places.flag.exists());
    let before = fs::metadata(machine.entry("ostree-1.conf")).unwrap();
    assert_eq!(adjust(&want, false, &machine.places).unwrap(), Outcome::default());
    assert_eq!(fs::metadata(machine.entry("ostree-1.conf")).unwrap().ino(), before.ino());
}

#[test]
fn a_bootloader_that_ignores_its_entries_ends_in_words() {
    let machine = machine("root=LABEL=root");
    adjust(&request(), false, &machine.places).unwrap();
    // The stage run again in the boot that asked is no proof.
    machine.mark("1", &request());
    assert!(adjust(&request(), false, &machine.places).unwrap().reboot);
    fs::remove_file(&machine.places.flag).unwrap();

    machine.mark("0", &request());
    let failure = adjust(&request(), false, &machine.places).unwrap_err().to_string();
    for words in [
        "loader/entries/ostree-1.conf, loader/entries/ostree-2-nestos.conf",
        "it lacks quiet",
        "bootloader",
        "what to do: ",
    ] {
        assert!(failure.contains(words), "{failure}");
    }
    assert!(!machine.places.flag.exists());
    // Other arguments are another reason.
    let other = Request::new(&["other"], &[]).unwrap();
    assert!(adjust(&other, false, &machine.places).unwrap().reboot);

    // Entries that don't keep what was written would go round in circles as well.
    fs::write(machine.entry("ostree-1.conf"), ENTRY).unwrap();
    let failure = adjust(&request(), false, &machine.places).unwrap_err();
    assert!(failure.why.contains("the change is gone"), "{failure}");
    assert_eq!(machine.read("ostree-1.conf"), ENTRY);
}

#[test]
fn a_live_system_is_refused_unless_all_is_so() {
    let machine = machine("quiet");
    let failure =
        adjust(&request(), true, &Places { cmdline: machine.entry("ostree-1.conf"), ..machine.places.clone() });
    assert!(
        failure
            .unwrap_err()
            .to_string()
            .contains("a live system, whose command line can't be changed: it lacks quiet, it has debug")
    );
    assert_eq!(adjust(&request(), true, &machine.places).unwrap(), Outcome::default());
    assert_eq!(machine.read("ostree-2-nestos.conf"), ENTRY);
}

#[test]
fn entries_that_cannot_be_edited_stop_it_before_any_is() {
    let machine = machine("");
    fs::write(machine.entry("ostree-2-nestos.conf"), "options x=\"a\n").unwrap();
    let failure = adjust(&request(), false, &machine.places).unwrap_err().to_string();
    assert!(failure.contains("ostree-2-nestos.conf") && failure.contains("double quote"), "{failure}");
    assert!(machine.read("ostree-1.conf").contains("debug"));
    fs::write(machine.entry("ostree-2-nestos.conf"), b"options \xff\n").unwrap();
    let failure = adjust(&request(), false, &machine.places).unwrap_err().to_string();
    assert!(failure.contains("ostree-2-nestos.conf") && failure.contains("UTF-8"), "{failure}");
    for name in ["ostree-1.conf", "ostree-2-nestos.conf"] {
        fs::remove_file(machine.entry(name)).unwrap();
    }
    let failure = adjust(&request(), false, &machine.places).unwrap_err().to_string();
    assert!(failure.contains("has none") && failure.contains("loader/entries"), "{failure}");
    fs::remove_dir_all(machine.folder.path().join("boot")).unwrap();
    assert!(adjust(&request(), false, &machine.places).is_err());
}

#[test]
fn links_lead_nowhere_else() {
    let machine = machine("");
    let outside = machine.folder.path().join("precious");
    fs::write(&outside, ENTRY).unwrap();
    fs::remove_file(machine.entry("ostree-1.conf")).unwrap();
    symlink(&outside, machine.entry("ostree-1.conf")).unwrap();
    assert!(adjust(&request(), false, &machine.places).is_err());
    assert_eq!(fs::read_to_string(&outside).unwrap(), ENTRY);
}

#[test]
fn the_note_is_forgotten_with_its_folder() {
    let machine = machine("");
    let boot = machine.folder.path().join("boot");
    forget(&boot).unwrap();
    machine.mark("1", &request());
    assert_eq!(fs::metadata(boot.join("fledge")).unwrap().mode() & 0o777, 0o700);
    forget(&boot).unwrap();
    assert!(!boot.join("fledge").exists());
    machine.mark("1", &request());
    fs::write(boot.join("fledge/other"), "").unwrap();
    forget(&boot).unwrap();
    assert_eq!(fs::read_dir(boot.join("fledge")).unwrap().count(), 1);
}

#[test]
fn the_booted_entry_is_known_by_its_deployment() {
    let entry =
        |name: &str, options: &str| BootEntry { name: name.into(), entry: Entry::new(format!("options {options}\n")) };
    let entries = [entry("ostree-1.conf", "rw ostree=/a/0"), entry("ostree-2.conf", "rw ostree=/b/0")];
    assert_eq!(booted(&entries, "BOOT_IMAGE=x ostree=/a/0 quiet"), Some(&entries[0].entry));
    assert_eq!(booted(&entries, "ostree=/a/1"), None);
    assert_eq!(booted(&entries, "quiet"), None);
    assert_eq!(booted(&entries[1..], "quiet"), Some(&entries[1].entry));
    assert_eq!(booted(&[entry("a", "ostree=/a/0"), entry("b", "ostree=/a/0")], "ostree=/a/0"), None);
}
