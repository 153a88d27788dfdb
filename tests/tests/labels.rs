// SPDX-License-Identifier: Apache-2.0
//! Labels on targets with SELinux: what `setfiles` is asked for. That it does it, a VM case shows with Debian's policy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use fledge_tests::Machine;
use fledge_tests::namespace::{Disk, alone, run};

const CONTEXTS: &str = "etc/selinux/targeted/contexts/files/file_contexts";

/// A target with a policy, and a `setfiles` that notes how it was called and what it was told.
struct Bench {
    machine: Machine,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(script: &str) -> Self {
        let machine = Machine::new();
        machine.put("etc/selinux/config", 0o644, "SELINUX=enforcing\nSELINUXTYPE=targeted\n");
        machine.put(CONTEXTS, 0o644, "/.*\tsystem_u:object_r:default_t:s0\n");
        let folder = tempfile::tempdir().unwrap();
        let tool = folder.path().join("setfiles");
        let notes = folder.path().join("notes");
        fs::write(&tool, format!("#!/bin/sh\nnotes={}\n{script}\n", notes.display())).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let layers = format!("lowerdir={}:/usr/sbin", folder.path().display());
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers, "/usr/sbin"]));
        Self { machine, folder }
    }

    /// The calls so far: arguments, then the paths below the root.
    fn calls(&self) -> Vec<(String, Vec<String>)> {
        let text = fs::read_to_string(self.folder.path().join("notes")).unwrap_or_default();
        let root = self.machine.root().canonicalize().unwrap();
        let below = |path: &str| format!("/{}", Path::new(path).strip_prefix(&root).unwrap().display());
        text.split_terminator("end\n")
            .map(|call| {
                let (args, paths) = call.split_once('\n').unwrap();
                (args.to_owned(), paths.split_terminator('\0').map(below).collect())
            })
            .collect()
    }

    fn arguments(&self) -> String {
        let root = self.machine.root().canonicalize().unwrap();
        format!("-vF0 -r {} {} -f -", root.display(), root.join(CONTEXTS).display())
    }
}

const NOTE: &str = r#"{ echo "$@"; cat; echo end; } >> "$notes""#;

#[test]
fn what_was_made_is_labelled_and_nothing_else() {
    alone("labels::what_was_made_is_labelled_and_nothing_else", || {
        let bench = Bench::new(NOTE);
        let machine = &bench.machine;
        let (empty, filled) = (Disk::new(16, &["mkfs.ext4", "-q", "-F"]), Disk::new(16, &["mkfs.ext4", "-q", "-F"]));
        run(Command::new("mount").arg(&filled.device).arg("/mnt"));
        fs::write("/mnt/precious", "").unwrap();
        run(Command::new("umount").arg("/mnt"));
        machine.put("srv/there/before", 0o644, "");
        machine.put("etc/kept", 0o644, "kept");
        fs::create_dir(machine.root().join("root")).unwrap();
        let config = format!(
            r#"{{"ignition": {{"version": "3.4.0"}}, "storage": {{
  "filesystems": [{{"device": "{}", "format": "ext4", "path": "/data/empty"}}, {{"device": "{}", "format": "ext4", "path": "/data/filled"}}],
  "directories": [{{"path": "/srv/there", "mode": 448}}, {{"path": "/srv/new/er"}}],
  "files": [{{"path": "/srv/new/file"}}, {{"path": "/etc/kept", "mode": 384}}, {{"path": "/data/filled/file"}}, {{"path": "/opt/deep/file"}}],
  "links": [{{"path": "/etc/link", "target": "nowhere"}}]}},
 "passwd": {{"users": [{{"name": "nest", "sshAuthorizedKeys": ["k"]}}, {{"name": "root", "sshAuthorizedKeys": ["k"]}}]}},
 "systemd": {{"units": [{{"name": "a.service", "enabled": true, "contents": "[Unit]\n", "dropins": [{{"name": "b.conf", "contents": ""}}]}}]}}}}"#,
            empty.name(),
            filled.name()
        );
        let boot = machine.boot(&config);
        assert!(boot.stopped.is_none(), "{}", boot.output);
        let calls = bench.calls();
        assert!(calls.iter().all(|(arguments, _)| *arguments == bench.arguments()), "{calls:?}");
        let paths: Vec<&[String]> = calls.iter().map(|(_, paths)| &paths[..]).collect();
        let [top, empty_root, second, rest] = &paths[..] else { panic!("{paths:?}") };
        // What was made to mount on, and the root of what holds nothing yet.
        assert_eq!(([top[0].as_str()], [empty_root[0].as_str()]), (["/data"], ["/data/empty"]));
        assert_eq!(second[..], ["/data/filled"]);
        let expected = [
            "/data/filled/file",
            "/etc/.fledge-begun.json",
            "/etc/.ignition-result.json",
            "/etc/.pwd.lock",
            "/etc/group",
            "/etc/gshadow",
            "/etc/kept",
            "/etc/link",
            "/etc/passwd",
            "/etc/shadow",
            "/etc/systemd",
            "/home/nest",
            "/opt",
            "/root/.ssh",
            "/srv/new",
        ];
        let rest: Vec<&str> = rest.iter().map(String::as_str).filter(|path| !path.ends_with('-')).collect();
        assert_eq!(rest, expected);
        assert!(boot.output.contains("label by the SELinux policy \"targeted\": "), "{}", boot.output);

        // The next boot, after a loss of power: the same is labelled again, and what is mounted is seen to be labelled or not.
        machine.lose_power();
        let boot = machine.boot(&config);
        assert!(boot.stopped.is_none(), "{}", boot.output);
        let again = bench.calls();
        let last: Vec<&str> = again.last().unwrap().1.iter().map(String::as_str).collect();
        for path in ["/home/nest", "/opt", "/srv/new", "/root/.ssh", "/etc/systemd"] {
            assert!(last.contains(&path), "{path} is not in {last:?}");
        }
    });
}

#[test]
fn without_the_tool_nothing_is_written_and_without_a_policy_nothing_is_labelled() {
    alone("labels::without_the_tool_nothing_is_written_and_without_a_policy_nothing_is_labelled", || {
        let bench = Bench::new(NOTE);
        let machine = &bench.machine;
        let config = r#"{"ignition": {"version": "3.4.0"}, "storage": {"files": [{"path": "/etc/a"}]}, "passwd": {"users": [{"name": "nest"}]}}"#;
        run(Command::new("mount").args(["--bind", "/dev/null", "/usr/sbin/setfiles"]));
        let before = machine.tree();
        let stopped = machine.boot(config).stopped.unwrap();
        assert_eq!((stopped.stage, stopped.code), ("files", 1));
        for words in ["\"targeted\"", "setfiles is not in the initramfs", "install policycoreutils"] {
            assert!(stopped.output.contains(words), "{words:?} is not in:\n{}", stopped.output);
        }
        assert_eq!(machine.tree(), before);
        run(Command::new("umount").arg("/usr/sbin/setfiles"));
        for config_of_selinux in ["SELINUX=disabled\nSELINUXTYPE=targeted\n", ""] {
            machine.put("etc/selinux/config", 0o644, config_of_selinux);
            let boot = machine.boot(config);
            assert!(boot.stopped.is_none(), "{}", boot.output);
            machine.lose_power();
        }
        assert_eq!(bench.calls(), []);
    });
}

#[test]
fn a_tool_that_fails_stops_the_boot_with_its_words() {
    alone("labels::a_tool_that_fails_stops_the_boot_with_its_words", || {
        let bench = Bench::new("cat > /dev/null; echo 'line 7 has no context' >&2; exit 255");
        let boot =
            bench.machine.boot(r#"{"ignition": {"version": "3.4.0"}, "storage": {"files": [{"path": "/etc/a"}]}}"#);
        let stopped = boot.stopped.unwrap();
        assert_eq!((stopped.stage, stopped.code), ("files", 1));
        assert!(stopped.output.contains("exit code 255: line 7 has no context"), "{}", stopped.output);
    });
}
