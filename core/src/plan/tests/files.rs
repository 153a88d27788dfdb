// SPDX-License-Identifier: Apache-2.0
use super::*;

/// Plans one entry of `storage` over what stands at its path.
fn over(section: &str, kind: NodeKind) -> String {
    plan(&format!(r#"{{"storage": {{{section}}}}}"#), &facts(&[("/a", "/a", kind)]))
}

const PLAIN: &str = r#""files": [{"path": "/a", "contents": {"source": "data:,new"}}]"#;
const OVERWRITE: &str = r#""files": [{"path": "/a", "overwrite": true, "contents": {"source": "data:,new"}}]"#;
const EMPTY: &str = r#""files": [{"path": "/a"}]"#;
/// `printf new | sha512sum`
const NEW: &str = "sha512-aa54def9e0bb11c1ebbfc97a9ee63af9e95c4fdf1d032b1ddcc0f21661f748651d2b2b8fb94e9ae041780554db29815daa1c0fe991ddae54eff0c4c28cd9d20c";

#[test]
fn the_shallowest_come_first_and_hard_links_last() {
    let json = r#"{"storage": {
  "files": [{"path": "/b/c/d/file", "contents": {"source": "data:,x"}, "mode": 511}, {"path": "/top"}],
  "directories": [{"path": "/b/c/d", "mode": 1472}, {"path": "/b", "user": {"id": 5}, "group": {"name": "wheel"}}],
  "links": [{"path": "/hard", "target": "/b/c/d/file", "hard": true}, {"path": "/b/soft", "target": "../x"}]}}"#;
    assert_plan(
        &plan(json, &facts(&[])),
        r#"
files
   1 note in /etc/.fledge-begun.json what is about to be made, should this first boot be interrupted
   2 make the directory /b, user 5, group "wheel"  [test:4:53 at $.storage.directories.1]
   3 write /top from 0 bytes  [test:3:86 at $.storage.files.1]
   4 link /b/soft to ../x  [test:5:71 at $.storage.links.1]
   5 make the directory /b/c/d, mode 2700  [test:4:19 at $.storage.directories.0]
   6 write /b/c/d/file from data:... (7 bytes), mode 0777  [test:3:13 at $.storage.files.0]
   7 hard link /hard to the file /b/c/d/file  [test:5:13 at $.storage.links.0]
   8 write /etc/.ignition-result.json: provisioned by an operator's configuration
"#,
    );
}

#[test]
fn owners_are_named_or_numbered() {
    for (section, made) in [
        (r#""directories": [{"path": "/a","#, "make the directory /a"),
        (r#""files": [{"path": "/a","#, "write /a from 0 bytes"),
        (r#""links": [{"path": "/a", "target": "/b","#, "link /a to /b"),
    ] {
        for (owner, shown) in [
            (r#""user": {"id": 5}, "group": {"name": "wheel"}"#, r#", user 5, group "wheel"  ["#),
            (r#""user": {"name": "core"}, "group": {"id": 6}"#, r#", user "core", group 6  ["#),
        ] {
            let text = over(&format!("{section} {owner}}}]"), NodeKind::Missing);
            assert!(text.contains(&format!("{made}{shown}")), "{section} {owner}:\n{text}");
        }
    }
}

#[test]
fn overwrite_decides_over_what_stands_there() {
    let link = || NodeKind::Symlink("/etc/passwd".into());
    for (section, kind, words) in [
        (PLAIN, NodeKind::Missing, "write /a from data:... (9 bytes)"),
        (PLAIN, old_file(Some("sha512-00")), "a file stands at /a and overwrite is not set"),
        (PLAIN, NodeKind::Directory, "a directory stands at /a and overwrite is not set"),
        (PLAIN, link(), "a symbolic link stands at /a and overwrite is not set"),
        (PLAIN, NodeKind::Other, "a device, socket or pipe stands at /a"),
        (PLAIN, NodeKind::Blocked("/x".into()), "/x is above it and is not a directory"),
        (OVERWRITE, NodeKind::Missing, "write /a from data"),
        (OVERWRITE, old_file(Some("sha512-00")), "replace /a by data"),
        (OVERWRITE, link(), "replace /a by data"),
        (OVERWRITE, NodeKind::Directory, "2 remove /a  [test:2:23 at $.storage.files.0]\n   3 write /a from data"),
        (EMPTY, NodeKind::Missing, "write /a from 0 bytes"),
        (EMPTY, old_file(None), "keep the contents of /a  ["),
        (EMPTY, NodeKind::Directory, "a directory stands at /a and overwrite is not set"),
        (EMPTY, link(), "a symbolic link stands at /a"),
        (r#""directories": [{"path": "/a"}]"#, NodeKind::Directory, "make the directory /a  ["),
        (r#""directories": [{"path": "/a"}]"#, old_file(None), "a file stands at /a and overwrite is not set"),
        (r#""directories": [{"path": "/a"}]"#, link(), "a symbolic link stands at /a"),
        (r#""directories": [{"path": "/a", "overwrite": true}]"#, link(), "remove /a  ["),
        (r#""directories": [{"path": "/a", "overwrite": true}]"#, NodeKind::Directory, "remove /a  ["),
        (r#""links": [{"path": "/a", "target": "//etc/./passwd"}]"#, link(), "link /a to //etc/./passwd"),
        (r#""links": [{"path": "/a", "target": "/etc/group"}]"#, link(), "a link to /etc/passwd stands there"),
        (
            r#""links": [{"path": "/a", "target": "/b"}]"#,
            old_file(None),
            "a file stands at /a and overwrite is not set",
        ),
        (
            r#""links": [{"path": "/a", "target": "/b", "overwrite": true}]"#,
            old_file(None),
            "replace by a link /a to /b",
        ),
        (r#""links": [{"path": "/a", "target": "/b", "overwrite": true}]"#, NodeKind::Directory, "remove /a  ["),
    ] {
        let text = over(section, kind.clone());
        assert!(text.contains(words), "{section} over {kind:?}:\n{text}");
        assert_eq!(text.starts_with("refused"), words.contains("stands") || words.contains("above"), "{text}");
    }
}

#[test]
fn a_file_that_is_the_same_is_kept() {
    let text = over(PLAIN, old_file(Some(NEW)));
    assert!(text.contains("keep the contents of /a, mode 0644, user 0, group 0"), "{text}");
    let hashed = r#""files": [{"path": "/a", "contents": {"source": "https://example.com/",
        "verification": {"hash": "sha256-E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"}}}]"#;
    let same = "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert!(over(hashed, old_file(Some(same))).contains("keep the contents of /a"));
    assert!(over(hashed, old_file(Some(NEW))).contains("overwrite is not set"));
}

#[test]
fn contents_are_fetched_as_the_configuration_says() {
    let resource = |path: &str| {
        format!(
            r#"{{"source": "https://h/{path}", "compression": "gzip", "verification": {{"hash": "sha256-00"}},
                "httpHeaders": [{{"name": "X-Token", "value": "{path}"}}]}}"#
        )
    };
    let json = format!(
        r#"{{"storage": {{"files": [{{"path": "/a", "contents": {}, "append": [{}]}}]}}}}"#,
        resource("one"),
        resource("two")
    );
    let (config, sources) = config(&json);
    let plan = files(&config, &facts(&[]), &sources, Settings::default()).unwrap();
    let written = plan.steps.iter().find_map(|planned| match &planned.step {
        Step::WriteFile { contents: Some(contents), append, .. } => Some([contents, &append[0]]),
        _ => None,
    });
    for (contents, path) in written.unwrap_or_else(|| panic!("{plan}")).into_iter().zip(["one", "two"]) {
        let Contents::Resource(resource) = contents else { panic!("{plan}") };
        let [header] = &resource.http_headers[..] else { panic!("{plan}") };
        assert_eq!(resource.source, Some(format!("https://h/{path}")));
        assert_eq!(resource.compression.as_deref(), Some("gzip"));
        assert_eq!(resource.verification.hash.as_deref(), Some("sha256-00"));
        assert_eq!((header.name.as_str(), header.value.as_deref()), ("X-Token", Some(path)));
    }
}

#[test]
fn appending_keeps_what_is_there_and_happens_once() {
    let json = r#"{"storage": {"files": [{"path": "/a", "append": [{"source": "data:,one"}, {"source": "data:,two"}], "mode": 384}]}}"#;
    let mut facts = facts(&[("/a", "/a", old_file(Some("sha512-11")))]);
    let text = plan(json, &facts);
    assert!(
        text.contains("keep the contents of /a, append data:... (9 bytes), append data:... (9 bytes), mode 0600"),
        "{text}"
    );
    let begun = |facts: &Facts| {
        let (config, sources) = config(json);
        let plan = files(&config, facts, &sources, Settings::default()).unwrap();
        plan.steps.into_iter().find_map(|planned| match planned.step {
            Step::Begin { path, begun } if path == BEGUN => Some(begun),
            _ => None,
        })
    };
    let original = Original { size: 3, digest: "sha512-11".into(), now: Now::Intact, appended: Vec::new() };
    let noted = begun(&facts).unwrap();
    assert_eq!((noted.originals["/a"].clone(), noted.made.len()), (original.clone(), 0));
    // An earlier run appended, or didn't get that far: what was there before is what counts, and stays noted.
    facts.nodes.insert("/a".into(), node("/a", old_file(Some("sha512-22"))));
    facts.begun.originals.insert("/a".into(), original.clone());
    let text = plan(json, &facts);
    assert!(text.contains("keep the first 3 bytes of /a, append data:... (9 bytes), append"), "{text}");
    assert_eq!(begun(&facts).unwrap().originals["/a"], original);
    // Somebody changed it since.
    facts.begun.originals.insert("/a".into(), Original { now: Now::Changed, ..original.clone() });
    let text = plan(json, &facts);
    assert!(text.contains("neither what it held before nor") && text.contains("what to do"), "{text}");
    // Or wrote something behind what was appended, which stays.
    facts.begun.originals.insert("/a".into(), Original { now: Now::Continued, ..original });
    let text = plan(json, &facts);
    assert!(text.contains("keep the contents of /a, mode 0600"), "{text}");
}

#[test]
fn what_a_new_home_directory_holds_is_noted_before_it_is_appended_to() {
    let json = r#"{"passwd": {"users": [{"name": "nest"}]},
 "storage": {"files": [{"path": "/home/nest/.profile", "append": [{"source": "data:,x"}]}]}}"#;
    let mut facts = facts(&[("/home/nest/.profile", "/home/nest/.profile", NodeKind::Missing)]);
    facts.skeleton.insert(".profile".into(), old_file(None));
    let text = plan(json, &facts);
    let steps = [
        "note in /etc/.fledge-begun.json what is about to be made",
        "create the user \"nest\"",
        "note in /etc/.fledge-begun.json what /home/nest/.profile holds before it is appended to",
        "keep the contents of /home/nest/.profile, append data",
    ];
    let at: Vec<_> = steps.iter().map(|step| text.find(step).unwrap_or_else(|| panic!("{step}\n{text}"))).collect();
    assert!(at.is_sorted(), "{text}");
}

#[test]
fn nothing_is_noted_in_a_container() {
    let (config, sources) =
        config(r#"{"storage": {"files": [{"path": "/a", "append": [{"source": "data:,x"}]}, {"path": "/new"}]}}"#);
    let mut facts = facts(&[("/a", "/a", old_file(Some("sha512-11"))), ("/new", "/new", NodeKind::Missing)]);
    facts.selinux = Some(Selinux::default());
    let original = Original { size: 1, digest: "sha512-22".into(), now: Now::Changed, appended: Vec::new() };
    facts.begun.originals.insert("/a".into(), original);
    let text = show(files(&config, &facts, &sources, Settings { in_container: true, ..Settings::default() }));
    assert_plan(
        &text,
        "files
        1 keep the contents of /a, append data:... (7 bytes)  [test:2:23 at $.storage.files.0]
        2 write /new from 0 bytes  [test:2:74 at $.storage.files.1]",
    );
}

#[test]
fn what_an_interrupted_run_made_is_made_again_and_nothing_else() {
    let links = r#"{"storage": {"files": [{"path": "/a", "contents": {"source": "https://example.com/"}},
        {"path": "/new", "append": [{"source": "data:,x"}]}], "links": [{"path": "/l", "target": "/a", "hard": true}]}}"#;
    let missing = facts(&[("/a", "/a", NodeKind::Missing)]);
    let (config, sources) = config(links);
    let first = files(&config, &missing, &sources, Settings::default()).unwrap();
    let Some(Step::Begin { begun, .. }) = first.steps.first().map(|planned| &planned.step) else { panic!("{first}") };
    assert_eq!(begun.made.iter().collect::<Vec<_>>(), ["/a", "/l", "/new"]);
    let other = NodeKind::File { device: 1, inode: 8, size: 0, digest: None };
    let mut halfway = facts(&[
        ("/a", "/a", old_file(Some("sha512-11"))),
        ("/new", "/new", old_file(Some("sha512-22"))),
        ("/l", "/l", other),
    ]);
    let text = plan(links, &halfway);
    assert!(text.contains("a file stands at /a") && text.contains("a file stands at /l"), "{text}");
    halfway.begun = begun.clone();
    let text = plan(links, &halfway);
    for words in [
        "replace /a by https://example.com/",
        "replace /new by 0 bytes, append data",
        "replace by a hard link /l to the file /a",
    ] {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
    // It is noted once more: this run may be interrupted too.
    let again = files(&config, &halfway, &sources, Settings::default()).unwrap();
    assert_eq!(again.steps[0].step, first.steps[0].step);
}

#[test]
fn what_is_made_is_labelled_and_what_was_there_is_not() {
    let below = |resolved: &str, missing: &str| Node {
        resolved: resolved.into(),
        kind: NodeKind::Missing,
        missing: Some(missing.into()),
    };
    let mut facts = facts(&[
        ("/old", "/old", NodeKind::Directory),
        ("/kept", "/kept", old_file(None)),
        ("/home/nest", "/var/home/nest", NodeKind::Missing),
        ("/hard", "/hard", NodeKind::Missing),
    ]);
    let keys = "home/nest/.ssh/authorized_keys.d/ignition";
    facts.nodes.insert(format!("/{keys}"), below(&format!("/var/{keys}"), "/var/home/nest"));
    facts.nodes.insert("/opt/a/b/file".into(), below("/var/opt/a/b/file", "/var/opt/a"));
    facts.nodes.insert("/opt/a/dir".into(), below("/var/opt/a/dir", "/var/opt/a"));
    facts.nodes.insert("/in/here/hard".into(), below("/in/here/hard", "/in/here"));
    facts.begun.labels.insert("/from/before".into());
    facts.selinux = Some(Selinux { policy: "targeted".into(), contexts: true, tool: true });
    let json = r#"{"passwd": {"users": [{"name": "nest", "sshAuthorizedKeys": ["k"]}]}, "storage": {
  "directories": [{"path": "/old", "mode": 448}, {"path": "/opt/a/dir"}],
  "files": [{"path": "/opt/a/b/file"}, {"path": "/kept", "mode": 384}],
  "links": [{"path": "/soft", "target": "/kept"}, {"path": "/hard", "target": "/kept", "hard": true},
            {"path": "/in/here/hard", "target": "/kept", "hard": true}]},
 "systemd": {"units": [{"name": "m.service", "mask": true}]}}"#;
    let (config, sources) = config(json);
    let labels = |facts: &Facts| {
        let plan = files(&config, facts, &sources, Settings::default()).unwrap();
        check(&plan).unwrap();
        let last = plan.steps.into_iter().next_back().map(|planned| planned.step);
        let Some(Step::Label { policy, paths }) = last else { return Vec::new() };
        assert_eq!(policy, "targeted");
        paths.into_iter().filter(|path| !path.starts_with("/etc/")).collect()
    };
    assert_eq!(labels(&facts), ["/from/before", "/in/here", "/kept", "/soft", "/var/home/nest", "/var/opt/a"]);
    let text = plan(json, &facts);
    for path in ["/etc/.fledge-begun.json", "/etc/.ignition-result.json", "/etc/.pwd.lock", "/etc/shadow-"] {
        assert!(text.contains(path), "{path} is not in:\n{text}");
    }
    assert!(text.contains("label by the SELinux policy \"targeted\": /etc/.fledge-begun.json"), "{text}");
    assert!(!text.contains("/etc/systemd/system,"), "{text}");

    for (contexts, tool, words) in [
        (false, true, "contexts/files/file_contexts isn't there"),
        (true, false, "the program setfiles is not in the initramfs"),
    ] {
        facts.selinux = Some(Selinux { policy: "targeted".into(), contexts, tool });
        let text = plan(json, &facts);
        assert!(text.starts_with("refused: ") && text.contains(words) && text.contains("what to do"), "{text}");
    }
    facts.selinux = None;
    assert_eq!(labels(&facts), [] as [&str; 0]);
}

#[test]
fn links_above_a_path_are_followed_and_double_paths_found() {
    let facts =
        facts(&[("/home/x", "/var/home/x", NodeKind::Missing), ("/var/home/x", "/var/home/x", NodeKind::Missing)]);
    let json = r#"{"storage": {"files": [{"path": "/home/x"}]}}"#;
    assert!(plan(json, &facts).contains("write /var/home/x from"));
    let json = r#"{"storage": {"files": [{"path": "/home/x"}], "directories": [{"path": "/var/home/x"}]}}"#;
    assert_plan(
        &plan(json, &facts),
        r"
refused: writing the file /home/x: it leads to /var/home/x, and so does another entry, /var/home/x
  where: test:2:23 at $.storage.files.0
  what to do: keep one of them
",
    );
}

#[test]
fn a_directory_in_place_of_a_link_is_what_paths_go_through() {
    let facts =
        facts(&[("/a", "/a", NodeKind::Symlink("/elsewhere".into())), ("/a/b", "/elsewhere/b", NodeKind::Missing)]);
    let json = r#"{"storage": {"directories": [{"path": "/a", "overwrite": true}], "files": [{"path": "/a/b"}]}}"#;
    let text = plan(json, &facts);
    assert!(text.contains("2 remove /a  [") && text.contains("write /a/b from"), "{text}");
}

#[test]
fn what_an_overwrite_takes_away_is_gone_for_what_follows() {
    let facts = facts(&[("/a", "/a", NodeKind::Directory), ("/a/b", "/a/b", old_file(Some("sha512-00")))]);
    let json = r#"{"storage": {"directories": [{"path": "/a", "overwrite": true}],
        "files": [{"path": "/a/b", "contents": {"source": "data:,x"}}]}}"#;
    assert!(plan(json, &facts).contains("write /a/b from"));
    let json = r#"{"storage": {"files": [{"path": "/a/b", "contents": {"source": "data:,x"}}]}}"#;
    assert!(plan(json, &facts).contains("a file stands at /a/b"));
}

#[test]
fn overwrite_removes_neither_mounts_nor_what_was_just_made() {
    let mut facts = facts(&[("/a", "/a", NodeKind::Directory), ("/home/nest", "/home/nest", NodeKind::Missing)]);
    facts.mounts = ["/a/b"].map(Into::into).into();
    let json = r#"{"storage": {"directories": [{"path": "/a", "overwrite": true}]}}"#;
    assert!(plan(json, &facts).contains("overwrite would remove what is mounted at /a/b"));
    facts.mounts.clear();
    facts.nodes.insert("/home".into(), node("/home", NodeKind::Directory));
    let json = r#"{"passwd": {"users": [{"name": "nest"}]}, "storage": {"directories": [{"path": "/home", "overwrite": true}]}}"#;
    assert!(plan(json, &facts).contains("overwrite would remove /home/nest, which this configuration makes before it"));
    let json = r#"{"storage": {"directories": [{"path": "/", "overwrite": true}]}}"#;
    assert!(plan(json, &facts).contains("overwrite would remove what is mounted at /"));
}

#[test]
fn files_below_files_and_unknown_owners_are_refused() {
    let (config, sources) = unchecked(r#"{"storage": {"files": [{"path": "/a"}, {"path": "/a/b"}]}}"#);
    let text = show(files(&config, &facts(&[]), &sources, Settings::default()));
    assert!(text.contains("/a is above it and is not a directory"), "{text}");
    for (owner, words) in [
        (r#""user": {"name": "nobody-knows"}"#, "there is no user \"nobody-knows\" in the target"),
        (r#""group": {"name": "nobody-knows"}"#, "there is no group \"nobody-knows\" in the target"),
        (r#""user": {"id": -5}"#, "-5 is no user id"),
    ] {
        let (config, sources) = unchecked(&format!(r#"{{"storage": {{"files": [{{"path": "/x", {owner}}}]}}}}"#));
        let text = show(files(&config, &facts(&[]), &sources, Settings::default()));
        assert!(text.contains(words) && text.contains("writing the file /x"), "{text}");
    }
    let json = r#"{"passwd": {"users": [{"name": "nest"}], "groups": [{"name": "ops"}]}, "storage": {"files": [
        {"path": "/x", "user": {"name": "nest"}, "group": {"name": "ops"}},
        {"path": "/y", "user": {"name": "chrony"}, "group": {"name": "nest"}}]}}"#;
    assert!(!plan(json, &facts(&[])).contains("refused"), "{}", plan(json, &facts(&[])));
}

#[test]
fn the_skeleton_of_a_new_home_stands_in_the_way() {
    let mut facts = facts(&[
        ("/home/nest", "/home/nest", NodeKind::Missing),
        ("/home/nest/.bashrc", "/home/nest/.bashrc", NodeKind::Missing),
    ]);
    facts.skeleton.insert(".bashrc".into(), old_file(None));
    let json = r#"{"passwd": {"users": [{"name": "nest"}]}, "storage": {"files": [
        {"path": "/home/nest/.bashrc", "contents": {"source": "data:,x"}}]}}"#;
    let text = plan(json, &facts);
    assert!(text.contains("a file that this configuration makes stands at /home/nest/.bashrc and overwrite"), "{text}");
}

#[test]
fn hard_links_need_a_file_to_name() {
    let json = r#"{"storage": {"links": [{"path": "/l", "target": "/a", "hard": true}]}}"#;
    let with = |target, link| plan(json, &facts(&[("/a", "/a", target), ("/l", "/l", link)]));
    assert!(with(old_file(None), NodeKind::Missing).contains("hard link /l to the file /a"));
    assert!(with(old_file(None), old_file(None)).contains("hard link /l to the file /a"));
    let other = NodeKind::File { device: 1, inode: 8, size: 3, digest: None };
    assert!(with(old_file(None), other).contains("a file stands at /l and overwrite is not set"));
    assert!(with(NodeKind::Missing, NodeKind::Missing).contains("its target /a isn't there"));
    assert!(with(NodeKind::Directory, NodeKind::Missing).contains("its target /a is a directory"));
}

#[test]
fn units_are_written_masked_and_disabled() {
    let mut facts = facts(&[
        (
            "/etc/systemd/system/masked.service",
            "/etc/systemd/system/masked.service",
            NodeKind::Symlink("/dev/null".into()),
        ),
        ("/etc/systemd/system/old.service", "/etc/systemd/system/old.service", old_file(None)),
        ("/etc/systemd/system/aimed.service", "/etc/systemd/system/aimed.service", NodeKind::Symlink("/x".into())),
    ]);
    facts.enabled_units.insert("on.service".into());
    let json = r#"{"systemd": {"units": [
  {"name": "old.service", "contents": "[Unit]\n", "dropins": [{"name": "a.conf", "contents": ""}, {"name": "b.conf"}]},
  {"name": "masked.service", "mask": false},
  {"name": "aimed.service", "mask": false},
  {"name": "new-mask.service", "mask": true, "contents": "[Unit]\n"},
  {"name": "on.service", "enabled": false},
  {"name": "off.service", "enabled": false},
  {"name": "x@a.service", "enabled": true},
  {"name": "x@b.service", "enabled": true}]}}"#;
    assert_plan(
        &plan(json, &facts),
        r"
files
   1 write /etc/systemd/system/old.service.d/a.conf from 0 bytes  [test:3:3 at $.systemd.units.0]
   2 replace /etc/systemd/system/old.service by 7 bytes  [test:3:3 at $.systemd.units.0]
   3 remove /etc/systemd/system/masked.service  [test:4:3 at $.systemd.units.1]
   4 link /etc/systemd/system/new-mask.service to /dev/null  [test:6:3 at $.systemd.units.3]
   5 remove the links that enable on.service  [test:7:3 at $.systemd.units.4]
   6 add to /etc/systemd/system-preset/20-ignition.preset: disable off.service; disable on.service; enable x@.service a b
   7 write /etc/.ignition-result.json: provisioned by an operator's configuration
",
    );
}

#[test]
fn units_take_the_place_of_what_the_configuration_puts_at_their_paths() {
    const UNIT: &str = "/etc/systemd/system/a.service";
    let over = |storage: &str, unit: &str, kind: NodeKind| {
        let json =
            format!(r#"{{"storage": {{{storage}}}, "systemd": {{"units": [{{"name": "a.service", {unit}}}]}}}}"#);
        let text = plan(&json, &facts(&[(UNIT, UNIT, kind)]));
        let about = text.lines().filter(|line| line.contains("a.service"));
        about.map(|line| line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit())).map(String::from).collect()
    };
    let file =
        r#""files": [{"path": "/etc/systemd/system/a.service", "overwrite": true, "contents": {"source": "data:,x"}}]"#;
    let link = r#""links": [{"path": "/etc/systemd/system/a.service", "overwrite": true, "target": "/dev/null"}]"#;
    let directory = r#""directories": [{"path": "/etc/systemd/system/a.service"}], "files": [{"path": "/etc/systemd/system/a.service/x"}]"#;
    let dropin = r#""files": [{"path": "/etc/systemd/system/a.service.d/b.conf", "contents": {"source": "data:,x"}}]"#;
    let hard = r#""files": [{"path": "/etc/systemd/system/a.service"}],
        "links": [{"path": "/b", "target": "/etc/systemd/system/a.service", "hard": true}]"#;
    let (mask, unmask) = (r#""mask": true"#, r#""mask": false"#);
    let contents = r#""contents": "[Unit]\n""#;
    let masked = "link /etc/systemd/system/a.service to /dev/null  [test:2:";
    let remasked = "replace by a link /etc/systemd/system/a.service to /dev/null  [test:2:";
    let none: &[&str] = &[];
    for (storage, unit, kind, expected) in [
        (file, mask, NodeKind::Missing, &[masked][..]),
        (file, mask, old_file(None), &[remasked]),
        (link, mask, NodeKind::Missing, &[masked]),
        (link, mask, old_file(None), &[remasked]),
        (link, unmask, NodeKind::Missing, none),
        (link, unmask, old_file(None), &["remove /etc/systemd/system/a.service  ["]),
        (link, contents, NodeKind::Missing, &["write /etc/systemd/system/a.service from 7 bytes"]),
        (directory, mask, NodeKind::Missing, &[masked]),
        (directory, mask, NodeKind::Directory, &["remove /etc/systemd/system/a.service  [", masked]),
        (directory, contents, NodeKind::Missing, &["refused: writing the unit \"a.service\""]),
        (file, contents, NodeKind::Missing, &["write /etc/systemd/system/a.service from 7 bytes"]),
        (file, contents, old_file(None), &["replace /etc/systemd/system/a.service by 7 bytes"]),
        (
            dropin,
            r#""dropins": [{"name": "b.conf", "contents": ""}]"#,
            NodeKind::Missing,
            &["write /etc/systemd/system/a.service.d/b.conf from 0 bytes"],
        ),
        (hard, mask, NodeKind::Missing, &["refused: masking the unit \"a.service\": the hard link /b"]),
    ] {
        let found: Vec<String> = over(storage, unit, kind.clone());
        let right =
            found.len() == expected.len() && found.iter().zip(expected).all(|(found, words)| found.starts_with(words));
        assert!(right, "{storage} {unit} over {kind:?}: {found:#?}");
    }
}
