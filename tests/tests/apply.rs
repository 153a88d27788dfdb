// SPDX-License-Identifier: Apache-2.0
//! `ignition-apply` and `ignition-rmcfg`, the real program under its other names.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use data_encoding::BASE64;
use fledge_tests::http::{Answer, Server};
use fledge_tests::namespace::{alone, run};
use fledge_tests::{fledge, tree};
use tempfile::TempDir;

/// A root of a container image.
struct Image {
    folder: TempDir,
}

impl Image {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("root/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/srv:/bin/false\n"),
            ("root/etc/group", "root:x:0:\nweb:x:33:\n"),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        symlink(fledge(), folder.path().join("ignition-apply")).unwrap();
        Self { folder }
    }

    fn root(&self) -> std::path::PathBuf {
        self.folder.path().join("root")
    }

    /// The program, as a container tool would start it.
    fn apply(&self, args: &[&str], config: &str) -> Output {
        fs::write(self.folder.path().join("config.ign"), config).unwrap();
        let mut command = Command::new(self.folder.path().join("ignition-apply"));
        command
            .args(args)
            .arg("--root=root")
            .current_dir(self.folder.path())
            .env("container", "test")
            .stdin(Stdio::null());
        command.output().unwrap()
    }
}

fn words(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// A config of files, a directory, a link and a unit, and of more members beside.
fn config(more: &str) -> String {
    format!(
        r#"{{"ignition": {{"version": "3.6.0"}}, "storage": {{
  "directories": [{{"path": "/srv/data", "mode": 1023, "user": {{"name": "web"}}}}],
  "files": [{{"path": "/etc/motd", "mode": 384, "contents": {{"source": "data:,hi"}}, "append": [{{"source": "data:,!"}}]}}],
  "links": [{{"path": "/etc/link", "target": "motd"}}]{more}}},
 "systemd": {{"units": [{{"name": "a.service", "enabled": true, "contents": "[Install]\nWantedBy=multi-user.target\n"}}]}}}}"#
    )
}

#[test]
fn what_a_container_can_have_is_applied_and_nothing_else_is_written() {
    let image = Image::new();
    let before = tree::read(&image.root()).unwrap();
    let output = image.apply(&["config.ign"], &config(""));
    assert!(output.status.success(), "{}", words(&output));
    let after = tree::read(&image.root()).unwrap();
    let new: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    assert_eq!(
        new,
        [
            "/etc/link",
            "/etc/motd",
            "/etc/systemd",
            "/etc/systemd/system",
            "/etc/systemd/system-preset",
            "/etc/systemd/system-preset/20-ignition.preset",
            "/etc/systemd/system/a.service",
            "/srv",
            "/srv/data",
        ]
    );
    assert_eq!(fs::read_to_string(image.root().join("etc/motd")).unwrap(), "hi!");
    let mode = |path: &str| fs::metadata(image.root().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("etc/motd"), mode("srv/data")), (0o600, 0o1777));
    assert!(words(&output).contains("/etc/motd"), "{}", words(&output));
}

#[test]
fn one_configuration_after_the_other_appends_and_leaves_nothing_of_ours() {
    let image = Image::new();
    fs::write(image.root().join("etc/hosts"), "before\n").unwrap();
    let config = |line: &str| {
        format!(
            r#"{{"ignition": {{"version": "3.4.0"}}, "storage": {{"files": [{{"path": "/etc/hosts", "append": [{{"source": "data:,{line}%0A"}}]}}]}}}}"#
        )
    };
    for (line, text) in [("one", "before\none\n"), ("two", "before\none\ntwo\n"), ("two", "before\none\ntwo\ntwo\n")] {
        let output = image.apply(&["config.ign"], &config(line));
        assert!(output.status.success(), "{}", words(&output));
        assert_eq!(fs::read_to_string(image.root().join("etc/hosts")).unwrap(), text);
        let names: Vec<_> = tree::read(&image.root()).unwrap().into_keys().collect();
        assert_eq!(names, ["/etc", "/etc/group", "/etc/hosts", "/etc/passwd"]);
    }
}

#[test]
fn sections_that_need_a_machine_are_refused_or_passed_over() {
    let image = Image::new();
    let more = r#", "disks": [{"device": "/dev/vda"}], "filesystems": [{"device": "/dev/vda1", "format": "ext4", "path": "/var", "wipeFilesystem": true}],
        "raid": [{"name": "r", "level": "raid1", "devices": ["/dev/a"]}], "luks": [{"name": "l", "device": "/dev/l"}]"#;
    let text = config(more).replacen(
        "\"storage\"",
        r#""kernelArguments": {"shouldExist": ["quiet"]}, "passwd": {"users": [{"name": "core"}], "groups": [{"name": "g"}]}, "storage""#,
        1,
    );
    let before = tree::read(&image.root()).unwrap();
    let output = image.apply(&["config.ign"], &text);
    assert_eq!(output.status.code(), Some(1));
    let said = words(&output);
    for section in ["disks.0", "raid.0", "luks.0", "filesystems.0", "kernelArguments", "users.0", "groups.0"] {
        assert!(said.contains(section), "{section}: {said}");
    }
    assert_eq!(tree::read(&image.root()).unwrap(), before, "nothing is written");

    let output = image.apply(&["--ignore-unsupported", "config.ign"], &text);
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(fs::read_to_string(image.root().join("etc/motd")).unwrap(), "hi!");
    assert!(!fs::read_to_string(image.root().join("etc/passwd")).unwrap().contains("core"));
}

#[test]
fn offline_nothing_is_fetched_and_nothing_written() {
    let image = Image::new();
    let server = Server::start([("/part.ign", Answer::body(config("")))]);
    let url = server.url("/part.ign");
    let merging = format!(r#"{{"ignition": {{"version": "3.6.0", "config": {{"merge": [{{"source": "{url}"}}]}}}}}}"#);
    let remote = format!(
        r#"{{"ignition": {{"version": "3.6.0"}}, "storage": {{"files": [{{"path": "/x", "contents": {{"source": "{url}"}}}}]}}}}"#
    );
    let before = tree::read(&image.root()).unwrap();
    for text in [&merging, &remote] {
        let output = image.apply(&["--offline", "config.ign"], text);
        assert_eq!(output.status.code(), Some(1), "{}", words(&output));
        assert!(words(&output).contains("network"), "{}", words(&output));
    }
    let told = words(&image.apply(&["--offline", "config.ign"], &merging));
    for word in ["$.ignition.config.merge", "config.ign:1:", "what to do"] {
        assert!(told.contains(word), "{word} is not in:\n{told}");
    }
    assert_eq!(server.requests().len(), 0);
    assert_eq!(tree::read(&image.root()).unwrap(), before);
    let embedded = format!("data:;base64,{}", BASE64.encode(config("").as_bytes()));
    let output = image.apply(&["--offline", "config.ign"], &merging.replace(&url, &embedded));
    assert!(output.status.success(), "{}", words(&output));
    let output = image.apply(&["config.ign"], &remote);
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(fs::read_to_string(image.root().join("x")).unwrap(), config(""));
}

#[test]
fn a_config_comes_from_standard_input_too_and_has_to_be_one() {
    let image = Image::new();
    let mut child = Command::new(image.folder.path().join("ignition-apply"))
        .args(["-", "--root"])
        .arg(image.root())
        .env("container", "oci")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(config("").as_bytes()).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(fs::read_to_string(image.root().join("etc/motd")).unwrap(), "hi!");

    for (text, word) in [
        ("", "it is empty"),
        ("{}", "which version"),
        ("{\"ignition\": {\"version\": \"3.6.0\"}, \"storage\": {\"files\": [{\"path\": \"x\"}]}}", "relative"),
    ] {
        let output = image.apply(&["config.ign"], text);
        assert_eq!(output.status.code(), Some(1));
        assert!(words(&output).contains(word), "{}", words(&output));
    }
}

#[test]
fn command_lines_have_upstreams_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let codes = |name: &str, cases: &[(&[&str], i32, &str)]| {
        let program = folder.path().join(name);
        symlink(fledge(), &program).unwrap();
        for (args, code, word) in cases {
            let output = Command::new(&program).args(*args).stdin(Stdio::null()).output().unwrap();
            assert_eq!(output.status.code(), Some(*code), "{name} {args:?}: {}", words(&output));
            assert!(words(&output).contains(word), "{name} {args:?}: {}", words(&output));
        }
    };
    codes(
        "ignition-apply",
        &[
            (&[], 1, "usage: ignition-apply"),
            (&["a", "b"], 1, "usage: ignition-apply"),
            (&["--colour", "a"], 2, "colour"),
            (&["--platform=qemu", "a"], 2, "platform"),
            (&["-root", "/", "a"], 2, "usage"),
            (&["--offline=perhaps", "a"], 2, "perhaps"),
            (&["--offline", "--offline=false", "--version=false", "/nonexistent"], 1, "/nonexistent"),
            (&["/nonexistent/config.ign"], 1, "/nonexistent/config.ign"),
            (&["--version"], 0, "fledge"),
            (&["--help"], 0, "--ignore-unsupported"),
        ],
    );
    codes(
        "ignition-rmcfg",
        &[
            (&[], 2, "'--platform' must be provided"),
            (&["--platform=qemu", "x"], 2, "usage: ignition-rmcfg"),
            (&["--platform", "nowhere"], 2, "no such platform"),
            (&["--platform", "vmware"], 1, "later build"),
            (&["--platform=qemu", "--log-to-stdout"], 0, "Successfully deleted config"),
            (&["--platform=openstack"], 0, "Successfully deleted config"),
            (&["--version"], 0, "fledge"),
            (&["--root=/"], 2, "root"),
        ],
    );
}

#[test]
fn a_system_that_runs_is_left_alone() {
    // Where this test runs may be a container itself: the program gets a root without the marks of one.
    alone("apply::a_system_that_runs_is_left_alone", || {
        let image = Image::new();
        let host = image.folder.path().join("host");
        for name in ["usr", "bin", "lib", "lib64", "target"] {
            let from = if name == "target" { image.root() } else { Path::new("/").join(name) };
            let to = host.join(name);
            if from.is_dir() {
                fs::create_dir_all(&to).unwrap();
                run(Command::new("mount").arg("--bind").args([&from, &to]));
            }
        }
        fs::create_dir(host.join("proc")).unwrap();
        run(Command::new("mount").args(["-t", "proc", "proc"]).arg(host.join("proc")));
        fs::copy(fledge(), host.join("ignition-apply")).unwrap();
        fs::write(host.join("config.ign"), config("")).unwrap();
        let apply = |container: Option<&str>| {
            let mut command = Command::new("chroot");
            command.arg(&host).args(["/ignition-apply", "--root=/target", "/config.ign"]).env_remove("container");
            command.envs(container.map(|value| ("container", value)));
            command.output().unwrap()
        };
        let before = tree::read(&image.root()).unwrap();
        for container in [None, Some("")] {
            let output = apply(container);
            assert_eq!(output.status.code(), Some(1), "{}", words(&output));
            assert!(words(&output).contains("no container"), "{}", words(&output));
        }
        assert_eq!(tree::read(&image.root()).unwrap(), before);
        let mark = host.join("run/.containerenv");
        fs::create_dir_all(mark.parent().unwrap()).unwrap();
        fs::write(&mark, "").unwrap();
        let output = apply(None);
        assert!(output.status.success(), "{}", words(&output));
    });
}
