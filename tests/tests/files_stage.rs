// SPDX-License-Identifier: Apache-2.0
//! The files stage on real trees, with the real tools for users and groups.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use data_encoding::BASE64;
use fledge_tests::Machine;
use fledge_tests::http::Server;

/// Owner, group and mode.
fn meta(machine: &Machine, path: &str) -> (u32, u32, u32) {
    let metadata = fs::symlink_metadata(machine.root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
}

fn line<'t>(text: &'t str, name: &str) -> &'t str {
    text.lines().find(|line| line.split(':').next() == Some(name)).unwrap_or_else(|| panic!("no {name} in:\n{text}"))
}

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn gzip(text: &str) -> String {
    format!("data:;base64,{}", BASE64.encode(&packed(text)))
}

const USERS: &str = r#"{"ignition": {"version": "3.4.0"}, "passwd": {
 "groups": [{"name": "ops", "gid": 2000}, {"name": "daemons", "system": true}],
 "users": [
  {"name": "nest", "uid": 1500, "groups": ["wheel", "docker"], "gecos": "The Nest", "shell": "/bin/bash",
   "passwordHash": "$y$j9T$abc$def", "sshAuthorizedKeys": ["ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"]},
  {"name": "admin", "primaryGroup": "ops", "homeDir": "/var/home/admin"},
  {"name": "svc", "system": true, "noCreateHome": true},
  {"name": "root", "sshAuthorizedKeys": ["ssh-ed25519 CCCC root"]}]}}"#;

#[test]
fn users_and_groups_as_the_tools_make_them() {
    let machine = Machine::new();
    fs::create_dir(machine.root().join("root")).unwrap();
    machine.put("etc/skel/.profile", 0o644, "from skel");
    machine.booted(USERS);
    let (passwd, group, shadow) = (machine.text("etc/passwd"), machine.text("etc/group"), machine.text("etc/shadow"));
    assert_eq!(line(&passwd, "nest"), "nest:x:1500:1500:The Nest:/home/nest:/bin/bash");
    assert!(line(&shadow, "nest").starts_with("nest:$y$j9T$abc$def:"), "{shadow}");
    assert!(line(&shadow, "admin").starts_with("admin:*:"), "{shadow}");
    assert_eq!(line(&group, "wheel"), "wheel:x:10:nest");
    assert_eq!(line(&group, "docker"), "docker:x:980:nest");
    assert_eq!(line(&group, "ops"), "ops:x:2000:");
    assert!(line(&passwd, "admin").contains(":2000::/var/home/admin:"), "{passwd}");
    assert_eq!(meta(&machine, "home/nest").0, 1500);
    assert_eq!(machine.text("home/nest/.profile"), "from skel");
    assert!(machine.root().join("var/home/admin").is_dir());
    assert!(!machine.root().join("home/svc").exists());
    for (home, uid, keys) in
        [("home/nest", 1500, "ssh-ed25519 AAAA one\nssh-ed25519 BBBB two\n"), ("root", 0, "ssh-ed25519 CCCC root\n")]
    {
        let file = format!("{home}/.ssh/authorized_keys.d/ignition");
        assert_eq!(machine.text(&file), keys);
        assert_eq!(meta(&machine, &file), (uid, uid, 0o600));
        assert_eq!(meta(&machine, &format!("{home}/.ssh")), (uid, uid, 0o700));
        assert_eq!(meta(&machine, &format!("{home}/.ssh/authorized_keys.d")), (uid, uid, 0o700));
    }
    // The same again changes nothing but the date of the last change and the backups of the tools.
    let before: Vec<_> = ["etc/passwd", "etc/group"].map(|file| machine.text(file)).into();
    let boot = machine.booted(USERS);
    assert_eq!(["etc/passwd", "etc/group"].map(|file| machine.text(file)), *before);
    assert!(boot.output.contains("already so: write 2 SSH keys of the user \"nest\""), "{}", boot.output);
    assert!(!boot.output.contains("$y$j9T"), "{}", boot.output);
    assert!(!boot.output.contains("AAAA"), "{}", boot.output);
}

#[test]
fn users_and_groups_are_modified_and_deleted() {
    let machine = Machine::new();
    fs::create_dir(machine.root().join("root")).unwrap();
    machine.booted(USERS);
    machine.booted(r#"{"ignition": {"version": "3.4.0"}, "passwd": {"groups": [{"name": "ops", "gid": 2001}],
  "users": [{"name": "nest", "uid": 1600, "shell": "/bin/sh", "groups": ["ops"], "homeDir": "/home/moved", "passwordHash": ""},
            {"name": "svc", "shouldExist": false}, {"name": "never", "shouldExist": false}]}}"#,
    );
    let (passwd, group) = (machine.text("etc/passwd"), machine.text("etc/group"));
    assert_eq!(line(&passwd, "nest"), "nest:x:1600:1500:The Nest:/home/moved:/bin/sh");
    assert_eq!(line(&group, "wheel"), "wheel:x:10:");
    assert_eq!(line(&group, "ops"), "ops:x:2001:nest");
    assert!(!passwd.contains("svc:"), "{passwd}");
    assert!(line(&machine.text("etc/shadow"), "nest").starts_with("nest:*:"));
    assert!(machine.root().join("home/moved/.ssh").is_dir() && !machine.root().join("home/nest").exists());
}

#[test]
fn groups_of_the_distribution_get_members() {
    let machine = Machine::new();
    machine.put("usr/lib/group", 0o644, "libvirt:x:960:\n");
    machine.put("usr/lib/passwd", 0o644, "chrony:x:970:960::/var/lib/chrony:/sbin/nologin\n");
    machine.booted(r#"{"ignition": {"version": "3.4.0"}, "passwd": {"users": [{"name": "nest", "groups": ["libvirt"]}]},
 "storage": {"files": [{"path": "/etc/chrony.conf", "user": {"name": "chrony"}, "group": {"name": "libvirt"}, "mode": 416}]}}"#,
    );
    assert_eq!(line(&machine.text("etc/group"), "libvirt"), "libvirt:x:960:nest");
    assert_eq!(meta(&machine, "etc/chrony.conf"), (970, 960, 0o640));
    assert_eq!(meta(&machine, "etc/group"), (0, 0, 0o644));
}

#[test]
fn a_hostile_home_keeps_its_keys_out_of_the_rest() {
    let machine = Machine::new();
    machine.put("etc/passwd", 0o644, "root:x:0:0::/root:/bin/sh\nevil:x:1234:1234::/home/evil:/bin/sh\n");
    fs::create_dir(machine.root().join("home/evil")).unwrap();
    symlink("../../etc", machine.root().join("home/evil/.ssh")).unwrap();
    let boot = machine.boot(
        r#"{"ignition": {"version": "3.4.0"}, "passwd": {"users": [{"name": "evil", "sshAuthorizedKeys": ["k"]}]}}"#,
    );
    assert_eq!(boot.stopped.unwrap().stage, "files");
    assert!(!machine.root().join("etc/authorized_keys.d").exists());
}

fn files_config() -> String {
    format!(
        r#"{{"ignition": {{"version": "3.6.0"}}, "passwd": {{"users": [{{"name": "nest", "uid": 1500}}]}}, "storage": {{
 "directories": [{{"path": "/opt/deep/er", "mode": 1472, "user": {{"name": "nest"}}}}, {{"path": "/var", "mode": 448}},
                 {{"path": "/etc/was-a-file", "overwrite": true}}, {{"path": "/etc/was-full", "overwrite": true}}],
 "files": [
  {{"path": "/etc/motd", "contents": {{"source": "data:,hello%0A"}}}},
  {{"path": "/opt/deep/er/tool", "contents": {{"source": "{tool}", "compression": "gzip",
    "verification": {{"hash": "sha256-2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}}}},
    "mode": 2541, "user": {{"name": "dnsmasq"}}, "group": {{"name": "nest"}}}},
  {{"path": "/etc/hosts", "append": [{{"source": "data:,one%0A"}}, {{"source": "{two}", "compression": "gzip"}}], "mode": 384}},
  {{"path": "/etc/kept", "mode": 292}},
  {{"path": "/etc/was-a-file/below", "contents": {{"source": "data:,below"}}}},
  {{"path": "/etc/was-full/below", "contents": {{"source": "data:,below"}}}},
  {{"path": "/etc/compressed", "contents": {{"source": "{tool}", "compression": "gzip"}}, "append": [{{"source": "data:,%21"}}]}},
  {{"path": "/etc/replaced", "overwrite": true, "contents": {{"source": "data:,new"}}}},
  {{"path": "/etc/was-a-directory", "overwrite": true, "contents": {{"source": "data:,file"}}}},
  {{"path": "/etc/was-a-link", "overwrite": true, "contents": {{"source": "data:,file"}}}},
  {{"path": "/linked/inside/file", "contents": {{"source": "data:,through"}}}},
  {{"path": "/etc/empty", "contents": {{}}}}],
 "links": [{{"path": "/etc/localtime", "target": "../usr/share/zoneinfo/UTC", "user": {{"id": 7}}, "group": {{"name": "nest"}}}},
           {{"path": "/a-hard-link", "target": "/opt/deep/er/tool", "hard": true}}]}}}}"#,
        tool = gzip("hello"),
        two = gzip("two\n"),
    )
}

fn files_machine() -> Machine {
    let machine = Machine::new();
    machine.put("etc/hosts", 0o640, "127.0.0.1 localhost\n");
    machine.put("etc/kept", 0o755, "kept");
    machine.put("etc/replaced", 0o600, "old");
    machine.put("etc/was-a-directory/with/something", 0o644, "x");
    machine.put("etc/was-a-file", 0o600, "x");
    machine.put("etc/was-full/of/something", 0o600, "x");
    machine.put("etc/was-full/below", 0o600, "x");
    machine.put("etc/precious", 0o600, "precious");
    symlink("precious", machine.root().join("etc/was-a-link")).unwrap();
    symlink("/var/elsewhere", machine.root().join("linked")).unwrap();
    machine
}

#[test]
fn files_directories_and_links_as_asked() {
    let machine = files_machine();
    let boot = machine.booted(&files_config());
    assert_eq!(machine.text("etc/motd"), "hello\n");
    assert_eq!(meta(&machine, "etc/motd"), (0, 0, 0o644));
    assert_eq!(machine.text("opt/deep/er/tool"), "hello");
    assert_eq!(meta(&machine, "opt/deep/er/tool"), (990, 1500, 0o4755));
    assert_eq!(meta(&machine, "opt/deep/er"), (1500, 0, 0o2700));
    assert_eq!(meta(&machine, "opt/deep"), (0, 0, 0o755));
    assert_eq!(meta(&machine, "var"), (0, 0, 0o700));
    assert_eq!(machine.text("etc/hosts"), "127.0.0.1 localhost\none\ntwo\n");
    assert_eq!(meta(&machine, "etc/hosts"), (0, 0, 0o600));
    assert_eq!((machine.text("etc/kept").as_str(), meta(&machine, "etc/kept")), ("kept", (0, 0, 0o444)));
    assert_eq!((machine.text("etc/replaced").as_str(), meta(&machine, "etc/replaced")), ("new", (0, 0, 0o644)));
    assert_eq!(machine.text("etc/was-a-directory"), "file");
    assert_eq!(machine.text("etc/was-a-link"), "file");
    assert_eq!(machine.text("etc/precious"), "precious");
    assert_eq!(machine.text("var/elsewhere/inside/file"), "through");
    assert_eq!(machine.text("etc/empty"), "");
    assert_eq!(machine.text("etc/was-a-file/below"), "below");
    assert_eq!(machine.text("etc/was-full/below"), "below");
    assert!(!machine.root().join("etc/was-full/of").exists());
    assert_eq!(machine.text("etc/compressed"), "hello!");
    let link = machine.root().join("etc/localtime");
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("../usr/share/zoneinfo/UTC"));
    assert_eq!((meta(&machine, "etc/localtime").0, meta(&machine, "etc/localtime").1), (7, 1500));
    let inode = |path: &str| fs::metadata(machine.root().join(path)).unwrap().ino();
    assert_eq!(inode("a-hard-link"), inode("opt/deep/er/tool"));

    let result: serde_json::Value = serde_json::from_str(&machine.text("etc/.ignition-result.json")).unwrap();
    assert_eq!(result["userConfigProvided"], true);
    assert_eq!(result["provisioningBootID"], fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim());
    assert!(result["provisioningDate"].as_str().unwrap().ends_with('Z'));
    assert!(result.get("previousReport").is_none());
    assert_eq!(meta(&machine, "etc/.ignition-result.json"), (0, 0, 0o600));
    let left: Vec<_> = machine.tree().into_keys().filter(|path| path.contains(".fledge-")).collect();
    assert_eq!(left, ["/etc/.fledge-begun.json"], "{}", boot.output);

    // The stage alone once more, as a unit that is started again would do: nothing is doubled.
    let before = machine.tree();
    let mut output = String::new();
    assert!(machine.stage("files", &mut output).is_none(), "{output}");
    let mut after = machine.tree();
    let result: serde_json::Value = serde_json::from_str(&machine.text("etc/.ignition-result.json")).unwrap();
    assert_eq!(result["previousReport"]["userConfigProvided"], true);
    after.insert("/etc/.ignition-result.json".into(), before["/etc/.ignition-result.json"].clone());
    assert_eq!(after, before);
    for already in [
        "keep the first 20 bytes of /etc/hosts",
        "replace /etc/compressed",
        "replace /etc/replaced",
        "make the directory /opt/deep/er",
    ] {
        assert!(output.contains(&format!("already so: {already}")), "{already}:\n{output}");
    }
}

#[test]
fn contents_are_asked_for_unpacked_and_verified() {
    let server = Server::http(|exchange| match exchange.seen.headers.get("x-token").map(String::as_str) {
        Some(token) => exchange.reply(200, &[], &packed(&format!("for {token}"))),
        None => exchange.reply(403, &[], b""),
    });
    // `printf 'for 1' | sha256sum`, and 'for 2'
    let hashes = [
        "sha256-ef2840c2e11870b128159ba7293468cd7dca0198477d4a1a4d91be2947846626",
        "sha256-cc2657c7fff4a816cf146f143d8dcb0373b79bb66d707dcdddb515ae9d0a7359",
    ];
    let resource = |token: &str, hash: &str| {
        format!(
            r#"{{"source": "{}", "compression": "gzip", "verification": {{"hash": "{hash}"}},
                "httpHeaders": [{{"name": "X-Token", "value": "{token}"}}]}}"#,
            server.url("/")
        )
    };
    let config = |contents: &str, append: &str| {
        format!(
            r#"{{"ignition": {{"version": "3.6.0"}}, "storage": {{"files": [
 {{"path": "/etc/fetched", "contents": {contents}, "append": [{append}]}}]}}}}"#
        )
    };
    let [one, two] = hashes;
    let machine = Machine::new();
    machine.booted(&config(&resource("1", one), &resource("2", two)));
    assert_eq!(machine.text("etc/fetched"), "for 1for 2");
    for wrong in [config(&resource("1", two), &resource("2", two)), config(&resource("1", one), &resource("2", one))] {
        let machine = Machine::new();
        let boot = machine.boot(&wrong);
        let stopped = boot.stopped.unwrap_or_else(|| panic!("it went through:\n{}", boot.output));
        assert!(stopped.output.contains("is expected"), "{}", stopped.output);
        assert!(!machine.root().join("etc/fetched").exists());
    }
}

#[test]
fn facts_gathered_here_plan_there() {
    let machine = files_machine();
    let parsed = fledge_core::config::parse(files_config().as_bytes(), "config.ign", None).unwrap();
    let before = machine.tree();
    let facts = fledge_stages::observe::facts(&parsed.config, &machine.root()).unwrap();
    assert_eq!(machine.tree(), before, "looking changed something");
    // As `fledge facts` prints them and `fledge plan` reads them.
    let facts: fledge_core::facts::Facts = serde_json::from_str(&serde_json::to_string(&facts).unwrap()).unwrap();
    let plans = fledge_core::plan::all(
        &parsed.config,
        &facts,
        &fledge_core::origin::Sources::default(),
        fledge_core::plan::Settings::default(),
    )
    .unwrap();
    let text: String = plans.iter().map(ToString::to_string).collect();
    for line in [
        "create the user \"nest\", uid 1500",
        "write /var/elsewhere/inside/file from",
        "remove /etc/was-a-directory",
        "replace /etc/was-a-link by",
        "keep the contents of /etc/kept, mode 0444",
        "keep the contents of /etc/hosts, append",
        "hard link /a-hard-link to the file /opt/deep/er/tool",
    ] {
        assert!(text.contains(line), "{line:?} is not in:\n{text}");
    }
}

#[test]
fn units_presets_and_masks() {
    let machine = Machine::new();
    machine.put(
        "usr/lib/systemd/system/on.service",
        0o644,
        "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
    );
    fs::create_dir_all(machine.root().join("etc/systemd/system/multi-user.target.wants")).unwrap();
    let enabled = machine.root().join("etc/systemd/system/multi-user.target.wants/on.service");
    symlink("/usr/lib/systemd/system/on.service", &enabled).unwrap();
    symlink("/dev/null", machine.root().join("etc/systemd/system/masked.service")).unwrap();
    machine.put("etc/systemd/system-preset/20-ignition.preset", 0o640, "enable there.service\nenable new.service");
    let config = r#"{"ignition": {"version": "3.4.0"}, "systemd": {"units": [
  {"name": "new.service", "enabled": true, "contents": "[Unit]\n", "dropins": [{"name": "a.conf", "contents": "[Service]\n"}]},
  {"name": "on.service", "enabled": false},
  {"name": "absent.service", "enabled": false},
  {"name": "to-mask.service", "mask": true},
  {"name": "masked.service", "mask": false},
  {"name": "e@b.service", "enabled": true}, {"name": "e@a.service", "enabled": true}]}}"#;
    machine.booted(config);
    assert_eq!(machine.text("etc/systemd/system/new.service"), "[Unit]\n");
    assert_eq!(machine.text("etc/systemd/system/new.service.d/a.conf"), "[Service]\n");
    assert!(fs::symlink_metadata(&enabled).is_err());
    let mask = machine.root().join("etc/systemd/system/to-mask.service");
    assert_eq!(fs::read_link(mask).unwrap(), Path::new("/dev/null"));
    assert!(fs::symlink_metadata(machine.root().join("etc/systemd/system/masked.service")).is_err());
    let preset =
        "enable there.service\nenable new.service\ndisable absent.service\nenable e@.service b a\ndisable on.service\n";
    assert_eq!(machine.text("etc/systemd/system-preset/20-ignition.preset"), preset);
    assert_eq!(meta(&machine, "etc/systemd/system-preset/20-ignition.preset").2, 0o640);
    machine.booted(config);
    assert_eq!(machine.text("etc/systemd/system-preset/20-ignition.preset"), preset);
}

#[test]
fn a_tool_that_fails_says_why_and_nothing_secret() {
    let machine = Machine::new();
    fs::remove_file(machine.root().join("etc/shadow")).unwrap();
    fs::create_dir(machine.root().join("etc/shadow")).unwrap();
    let boot = machine.boot(
        r#"{"ignition": {"version": "3.4.0"}, "passwd": {"users": [{"name": "nest", "passwordHash": "$y$secret"}]}}"#,
    );
    let stopped = boot.stopped.unwrap();
    assert_eq!((stopped.stage, stopped.code), ("files", 1));
    for words in ["creat", "\"nest\"", "useradd", "exit code 1", "config.ign:1:", "$.passwd.users.0"] {
        assert!(stopped.output.contains(words), "{words:?} is not in:\n{}", stopped.output);
    }
    assert!(!boot.output.contains("$y$secret"), "{}", boot.output);
}

#[test]
fn more_files_than_a_service_may_have_open_at_first() {
    let file = |index: usize| format!(r#"{{"path": "/etc/many/{index}", "contents": {{"source": "data:,{index}"}}}}"#);
    let files: Vec<_> = (0..300).map(file).collect();
    let config = format!(r#"{{"ignition": {{"version": "3.4.0"}}, "storage": {{"files": [{}]}}}}"#, files.join(","));
    let machine = Machine::new().open_files(128);
    machine.booted(&config);
    assert_eq!(machine.text("etc/many/299"), "299");
}

#[test]
fn a_target_may_have_very_many_groups() {
    let machine = Machine::new();
    let groups: Vec<_> = (2000..92_000).map(|id| format!("a-group-{id}:x:{id}:\n")).collect();
    let groups = groups.concat();
    assert!(groups.len() > 1 << 20);
    machine.put("etc/group", 0o644, &format!("root:x:0:\n{groups}"));
    machine.booted(
        r#"{"ignition": {"version": "3.4.0"}, "storage": {"files": [{"path": "/etc/a", "group": {"name": "a-group-91999"}}]}}"#,
    );
    assert_eq!(meta(&machine, "etc/a").1, 91_999);
}
