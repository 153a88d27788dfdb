// SPDX-License-Identifier: Apache-2.0

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

const ENTRY: &str = "title Nest 1 (ostree:0)\nversion 1\noptions root=LABEL=root rw $ignition_firstboot ostree=/ostree/boot.1/nestos/abc/0\nlinux /ostree/nestos-abc/vmlinuz-6\ninitrd /ostree/nestos-abc/initramfs-6.img\n";

fn request(exist: &[&str], not: &[&str]) -> Request {
    Request::new(exist, not).unwrap()
}

/// The text after an edit, which a second one leaves as it is; `None` if nothing changed.
fn edited(text: &str, exist: &[&str], not: &[&str]) -> Option<String> {
    let request = request(exist, not);
    let after = Entry::new(text).edit(&request).unwrap()?;
    assert_eq!(after.edit(&request), Ok(None), "{after:?}");
    Some(after.text)
}

#[test]
fn entries_go_by_either_name() {
    for name in ["ostree-1.conf", "ostree-2-nestos.conf", "ostree-1-fedora-coreos.conf"] {
        assert!(is_entry(name), "{name}");
    }
    for name in ["ostree-1.conf.tmp", ".conf", ".fledge-00.conf", "conf", "entries.srel", ".ostree-1.conf"] {
        assert!(!is_entry(name), "{name}");
    }
}

#[test]
fn values_are_read_by_key() {
    let entry = Entry::new("# linux /no\n\tlinux\t /vmlinuz \r\ninitrd /a\ninitrdx /no\ninitrd /b\noptions\n");
    assert_eq!(entry.values("linux").collect::<Vec<_>>(), ["/vmlinuz"]);
    assert_eq!(entry.values("initrd").collect::<Vec<_>>(), ["/a", "/b"]);
    assert_eq!(entry.values("options").collect::<Vec<_>>(), [""]);
    assert_eq!(entry.arguments().count(), 0);
}

#[test]
fn nothing_changes_where_all_is_so() {
    assert_eq!(edited(ENTRY, &["rw", "root=LABEL=root"], &["quiet", "roo", "rw=", "ostree"]), None);
    assert_eq!(edited("options a=\"b c\" d", &["a=b\" c\"", "\"a=b c\""], &["a=b"]), None);
    assert_eq!(edited("options a b c", &["b c"], &["a c"]), None);
    assert_eq!(edited("", &[], &["a"]), None);
}

#[test]
fn only_the_argument_is_added_or_removed() {
    let after = edited(ENTRY, &["quiet", "console=ttyS0,115200n8"], &["rw"]).unwrap();
    let expected = ENTRY.replace(" rw", "").replace("nestos/abc/0", "nestos/abc/0 quiet console=ttyS0,115200n8");
    assert_eq!(after, expected);
    for (before, exist, not, after) in [
        // Line breaks, spaces and comments stay as they are.
        ("options a\r\nlinux /x\r\n", "b", "", "options a b\r\nlinux /x\r\n"),
        ("options\ta  c \t\nlinux /x", "b", "a", "options  c b \t\nlinux /x"),
        ("linux /x\noptions a", "b", "", "linux /x\noptions a b"),
        ("# options c\noptions a\n", "c", "", "# options c\noptions a c\n"),
        // No options, or none left.
        ("linux /x\n", "b", "", "linux /x\noptions b\n"),
        ("linux /x\r\n", "b", "", "linux /x\r\noptions b\r\n"),
        ("linux /x", "b", "", "linux /x\noptions b"),
        ("options\nlinux /x\n", "b", "", "options b\nlinux /x\n"),
        ("options a\n", "b", "a", "options b\n"),
        ("options a\n", "", "a", "options\n"),
        // Several lines are one list.
        ("options a\noptions b\nlinux /x\n", "c", "a", "options\noptions b c\nlinux /x\n"),
        ("options a b\noptions a c\n", "b", "a", "options b\noptions c\n"),
        ("options a\noptions\n", "b", "", "options a\noptions b\n"),
        // All instances go, also those beside each other; one is enough of what is to be there.
        ("options a a b a\n", "", "a", "options b\n"),
        ("options a b a b\n", "a b", "", ""),
        ("options a b c a b\n", "", "a b", "options c\n"),
        // Keys and values count as a whole.
        ("options a=1 a=2 a\n", "", "a", "options a=1 a=2\n"),
        ("options a=1 a=2\n", "a=3", "a=1", "options a=2 a=3\n"),
        // Quotes keep spaces together, and don't count otherwise.
        ("options x=\"a b\" y\n", "", "x=\"a b\"", "options y\n"),
        ("options x=\"a b\" y\n", "", "\"x=a b\"", "options y\n"),
        ("options \"y\" x=\"y z\"\n", "z=\"1 2\"", "y", "options x=\"y z\" z=\"1 2\"\n"),
    ] {
        let list = |text: &'static str| if text.is_empty() { Vec::new() } else { Vec::from([text]) };
        assert_eq!(edited(before, &list(exist), &list(not)).unwrap_or_default(), after, "{before:?} +{exist} -{not}");
    }
}

#[test]
fn what_is_asked_for_and_against_ends_up_there() {
    // Removing goes first, as rdcore has it.
    assert_eq!(edit_command_line("a b", &request(&["a"], &["a"])).unwrap(), "b a");
}

#[test]
fn a_quote_that_is_not_closed_is_refused() {
    let want = request(&["a"], &[]);
    assert_eq!(Entry::new("options x=\"a b\n").edit(&want), Err(Unclosed));
    assert_eq!(Entry::new("title \"\noptions b\n").edit(&want).unwrap().unwrap().text(), "title \"\noptions b a\n");
    for bad in ["x=\"a", "a\nb", "a\u{0}", "a\r"] {
        let refused = Request::new(&[bad], &[]).map(|request| request.should_exist);
        // What is only around an argument is cut off.
        assert_eq!(refused.clone().ok(), (bad == "a\r").then(|| Vec::from(["a".into()])), "{refused:?}");
    }
    assert!(Request::new(&[" ", ""], &[]).unwrap().is_empty());
}

#[test]
fn a_command_line_is_edited_whole() {
    let line = "BOOT_IMAGE=(hd0,gpt3)/vmlinuz rw ignition.firstboot ip=dhcp debug debug\n";
    let after = edit_command_line(line, &request(&["quiet", "rw"], &["debug"])).unwrap();
    assert_eq!(after, "BOOT_IMAGE=(hd0,gpt3)/vmlinuz rw ignition.firstboot ip=dhcp quiet");
    assert_eq!(edit_command_line("", &request(&["a"], &[])).unwrap(), "a");
}

#[test]
fn what_is_not_so_is_said() {
    let want = request(&["quiet", "x=\"a b\"", "rw"], &["debug", "none"]);
    assert_eq!(want.unmet("rw debug \"x=a b\" quieter\n"), ["it lacks quiet", "it has debug"]);
    assert!(want.unmet("rw quiet x=\"a b\"").is_empty());
}

#[test]
fn requests_and_markers_outlive_their_text() {
    let want = request(&["quiet", "x=\"-a +b\"", "boot 1"], &["debug"]);
    assert_eq!(Request::from_text(&want.to_text()), want);
    let marker = Marker { boot_id: "0-1".into(), request: want };
    assert_eq!(Marker::from_text(&marker.to_text()), marker);
    assert_eq!(Marker::from_text("\u{fffd}"), Marker { boot_id: String::new(), request: Request::default() });
}

#[test]
fn one_reboot_and_never_two_for_one_reason() {
    let want = request(&["quiet"], &[]);
    let marker = |boot_id: &str, request: &Request| Marker { boot_id: boot_id.into(), request: request.clone() };
    let decide = |running, marker: Option<&Marker>| Next::decide(running, &want, marker, "2");
    assert_eq!(decide(true, None), Next::GoOn);
    assert_eq!(decide(true, Some(&marker("1", &want))), Next::GoOn);
    assert_eq!(decide(false, None), Next::Reboot);
    assert_eq!(decide(false, Some(&marker("2", &want))), Next::Reboot, "the stage ran twice");
    assert_eq!(decide(false, Some(&marker("1", &request(&["other"], &[])))), Next::Reboot);
    assert_eq!(decide(false, Some(&marker("1", &want))), Next::Ignored);
}

/// Texts of the pieces that matter to an editor.
fn texts() -> impl Strategy<Value = String> {
    const PIECES: &[&str] =
        &["options", " ", " ", "\t", "\n", "\r\n", "\noptions ", "a", "b=1", "\"", "\"a \"", "linux /x", "#", "é"];
    prop::collection::vec(prop::sample::select(PIECES), 0..24).prop_map(|pieces| pieces.concat())
}

/// The lines that aren't options.
fn others(text: &str) -> Vec<&str> {
    let is_options = |line: &&str| {
        line.trim_start()
            .strip_prefix("options")
            .is_some_and(|rest| rest.trim_start().len() < rest.len() || rest.is_empty())
    };
    text.lines().filter(|line| !is_options(line)).collect()
}

proptest! {
    #[test]
    fn an_edit_does_what_it_is_asked_and_no_more(
        text in texts(),
        exist in prop::collection::vec(prop::sample::select(&["a", "b=1", "c=\"x y\"", "a b=1"][..]), 0..3),
        not in prop::collection::vec(prop::sample::select(&["d", "linux", "b"][..]), 0..2),
    ) {
        let request = Request::new(&exist, &not).unwrap();
        let entry = Entry::new(text.clone());
        match entry.edit(&request) {
            Err(Unclosed) => prop_assert!(entry.values("options").any(|line| line.matches('"').count() % 2 == 1)),
            Ok(None) => prop_assert!(request.unmet(&entry.arguments().collect::<Vec<_>>().join(" ")).is_empty()),
            Ok(Some(after)) => {
                prop_assert!(request.unmet(&after.arguments().collect::<Vec<_>>().join(" ")).is_empty(), "{:?}", after);
                prop_assert_eq!(others(&text), others(&after.text));
                prop_assert_eq!(after.edit(&request).unwrap(), None);
            }
        }
    }
}
