// SPDX-License-Identifier: Apache-2.0
//! Golden plans: a configuration and facts in, the plan's text or the refusals out.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::*;
use crate::config;
use crate::facts::{Accounts, Device, Node, NodeKind, Now, Original, Selinux};
use crate::origin::{Source, SourceKind};

mod arrays;
mod files;
mod filesystems;
mod kargs;
mod luks;
mod mounts;
mod users;

/// The configuration of a text without `ignition`, and the sources that it comes from.
fn config(json: &str) -> (Config, Sources) {
    let text = format!("{{\"ignition\": {{\"version\": \"3.6.0\"}},\n{}", json.trim_start().trim_start_matches('{'));
    let mut sources = Sources::default();
    sources.add(Source { name: "test".into(), kind: SourceKind::User, referenced: false, sha512: String::new() });
    // Plans don't rely on the checks: the cache is read without them.
    (config::parse_unchecked(&text, Some(0)), sources)
}

/// As [`config()`], for what checking a configuration refuses already: plans don't rely on that.
fn unchecked(json: &str) -> (Config, Sources) {
    let text = format!("{{\"ignition\": {{\"version\": \"3.6.0\"}},\n{}", json.trim_start().trim_start_matches('{'));
    let config = config::read_cache(text.as_bytes(), "test").unwrap_or_else(|refusal| panic!("{refusal}"));
    (config, Sources::default())
}

fn show(result: Result<Plan, Vec<Failure>>) -> String {
    match result {
        Ok(plan) => {
            check(&plan).unwrap_or_else(|faults| panic!("{plan}\n{faults:?}"));
            plan.to_string()
        }
        Err(failures) => {
            let lines: Vec<_> = failures.iter().map(|failure| format!("refused: {failure}")).collect();
            lines.join("\n")
        }
    }
}

/// The plan for the files stage.
fn plan(json: &str, facts: &Facts) -> String {
    let (config, sources) = config(json);
    show(files(&config, facts, &sources, Settings::default()))
}

fn node(resolved: &str, kind: NodeKind) -> Node {
    let missing = (kind == NodeKind::Missing).then(|| resolved.into());
    Node { resolved: resolved.into(), kind, missing }
}

fn facts(nodes: &[(&str, &str, NodeKind)]) -> Facts {
    let nodes = nodes.iter().map(|(path, resolved, kind)| ((*path).into(), node(resolved, kind.clone()))).collect();
    Facts { nodes, accounts: Some(accounts()), ..Facts::default() }
}

fn accounts() -> Accounts {
    crate::accounts::parse(&crate::accounts::Texts {
        passwd: "root:x:0:0::/root:/bin/sh\ncore:x:1000:1000::/home/core:/bin/bash\n",
        group: "root:x:0:\nwheel:x:10:\ncore:x:1000:\n",
        usr_passwd: "chrony:x:991:988::/var/lib/chrony:/sbin/nologin\n",
        usr_group: "docker:x:986:\nchrony:x:988:\n",
        login_defs: "USERGROUPS_ENAB yes\n",
        useradd: "HOME=/home\n",
    })
}

fn old_file(digest: Option<&str>) -> NodeKind {
    NodeKind::File { device: 1, inode: 7, size: 3, digest: digest.map(Into::into) }
}

/// Compares line by line, so that a difference shows.
#[track_caller]
fn assert_plan(found: &str, expected: &str) {
    let clean = |text: &str| text.trim().lines().map(str::trim).collect::<Vec<_>>().join("\n");
    assert_eq!(clean(found), clean(expected), "\n{found}");
}

#[test]
fn a_blank_machine_plans_a_whole_configuration() {
    let (config, sources) = config(
        r#"{"storage": {
  "filesystems": [
    {"device": "/dev/disk/by-label/log", "format": "xfs", "path": "/var/log", "mountOptions": ["noatime"]},
    {"device": "/dev/disk/by-label/var", "format": "ext4", "path": "/var", "label": "var"},
    {"device": "/dev/disk/by-label/swap", "format": "swap"}],
  "files": [{"path": "/etc/motd", "contents": {"source": "https://u:p@example.com/motd?t=1", "compression": "gzip"},
             "user": {"name": "nobody-knows"}, "mode": 292}]},
 "passwd": {"users": [{"name": "nest", "groups": ["wheel"], "passwordHash": "$y$secret",
                       "sshAuthorizedKeys": ["ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"]}]},
 "systemd": {"units": [{"name": "a.service", "enabled": true, "contents": "[Service]\nExecStart=/bin/true\n"}]}}"#,
    );
    let plans = all(&config, &Facts::default(), &sources, Settings::default()).unwrap();
    let text: String = plans.iter().map(ToString::to_string).collect();
    assert_plan(
        &text,
        r#"
kargs
     nothing to do
disks
   1 make the xfs file system of /dev/disk/by-label/log: mkfs.xfs -f  [test:4:5 at $.storage.filesystems.0]
   2 make the ext4 file system of /dev/disk/by-label/var: mkfs.ext4 -F -L var  [test:5:5 at $.storage.filesystems.1]
   3 make the swap file system of /dev/disk/by-label/swap: mkswap -f  [test:6:5 at $.storage.filesystems.2]
mount
   1 mount /dev/disk/by-label/var at /var as ext4  [test:5:5 at $.storage.filesystems.1]
   2 mount /dev/disk/by-label/log at /var/log as xfs with noatime  [test:4:5 at $.storage.filesystems.0]
files
   1 note in /etc/.fledge-begun.json what is about to be made, should this first boot be interrupted
   2 create the user "nest", groups wheel, with a password  [test:9:23 at $.passwd.users.0]
   3 write 2 SSH keys of the user "nest" to ~/.ssh/authorized_keys.d/ignition  [test:9:23 at $.passwd.users.0]
   4 write /etc/motd from https://example.com/motd?t=..., decompressed, mode 0444, user "nobody-knows"  [test:7:13 at $.storage.files.0]
   5 write /etc/systemd/system/a.service from 30 bytes  [test:11:24 at $.systemd.units.0]
   6 add to /etc/systemd/system-preset/20-ignition.preset: enable a.service
   7 write /etc/.ignition-result.json: provisioned by an operator's configuration
umount
   1 unmount /var/log  [test:4:5 at $.storage.filesystems.0]
   2 unmount /var  [test:5:5 at $.storage.filesystems.1]
"#,
    );
    assert!(!text.contains("secret") && !text.contains("AAAA") && !text.contains("u:p"), "{text}");
}

#[test]
fn facts_read_back_from_their_json() {
    let facts = facts(&[("/a", "/b/a", old_file(Some("sha512-00"))), ("/c", "/c", NodeKind::Blocked("/b".into()))]);
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
}

#[test]
fn questions_name_every_path_and_device() {
    let (config, _) = config(
        r#"{"storage": {
  "filesystems": [{"device": "/dev/vdb", "format": "xfs", "path": "/var/lib/data"}],
  "files": [{"path": "/etc/a/b", "contents": {"source": "data:,x"}}, {"path": "/etc/c"}],
  "links": [{"path": "/l", "target": "/etc/c", "hard": true}]},
 "passwd": {"users": [{"name": "nest", "sshAuthorizedKeys": ["x"]}, {"name": "core"}]},
 "systemd": {"units": [{"name": "a.service", "enabled": false, "dropins": [{"name": "b.conf", "contents": "x"}]}]}}"#,
    );
    let questions = Questions::of(&config, Some(&accounts()));
    let paths: Vec<_> = questions.paths.iter().map(|(path, digest)| (path.as_str(), digest.is_some())).collect();
    assert_eq!(
        paths,
        [
            ("/", false),
            ("/etc/.fledge-begun.json", false),
            ("/etc/.ignition-result.json", false),
            ("/etc/a/b", true),
            ("/etc/c", false),
            ("/etc/group", false),
            ("/etc/passwd", false),
            ("/etc/systemd/system-preset/20-ignition.preset", false),
            ("/etc/systemd/system/a.service", false),
            ("/etc/systemd/system/a.service.d/b.conf", false),
            ("/home/core", false),
            ("/home/nest", false),
            ("/home/nest/.ssh/authorized_keys", false),
            ("/home/nest/.ssh/authorized_keys.d/ignition", false),
            ("/l", false),
            ("/var", false),
            ("/var/lib", false),
            ("/var/lib/data", false),
        ]
    );
    assert_eq!(questions.devices.into_iter().collect::<Vec<_>>(), ["/dev/vdb"]);
    assert_eq!(questions.units.into_iter().collect::<Vec<_>>(), ["a.service"]);
}
