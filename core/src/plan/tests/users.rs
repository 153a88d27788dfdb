// SPDX-License-Identifier: Apache-2.0
use super::*;

#[test]
fn groups_then_users_each_with_home_and_keys() {
    let mut facts = facts(&[
        ("/home/nest", "/var/home/nest", NodeKind::Missing),
        ("/home/core", "/var/home/core", NodeKind::Directory),
    ]);
    facts.made_directories = ["/var/home/nest", "/var/home/nest/data", "/var/lib"].map(Into::into).into();
    let json = r#"{"passwd": {
  "groups": [{"name": "ops", "gid": 2000, "system": true}, {"name": "wheel", "gid": 10}, {"name": "core", "shouldExist": false},
             {"name": "never", "shouldExist": false}],
  "users": [{"name": "nest", "uid": 2001, "primaryGroup": "ops", "groups": ["wheel", "docker"], "gecos": "Nest", "shell": "/bin/sh",
             "homeDir": "/home/nest", "system": true, "noLogInit": true, "sshAuthorizedKeys": ["k"]},
            {"name": "core", "uid": 1000, "homeDir": "/home/core/", "passwordHash": ""},
            {"name": "chrony"},
            {"name": "gone", "shouldExist": false},
            {"name": "svc", "noCreateHome": true, "noUserGroup": true}]}}"#;
    assert_plan(
        &plan(json, &facts),
        r#"
refused: deleting the group "core": it is the primary group of the user "core"
  where: test:3:90 at $.passwd.groups.2
  what to do: give that user another primary group first; groups are handled before users
"#,
    );
    let json = json.replace(r#" {"name": "core", "shouldExist": false},"#, "");
    assert_plan(
        &plan(&json, &facts),
        r#"
files
   1 create the system group "ops", gid 2000  [test:3:14 at $.passwd.groups.0]
   2 keep the group "wheel"  [test:3:60 at $.passwd.groups.1]
   3 copy the group "docker" from /usr/lib/group to /etc/group, so that it can have members  [test:5:13 at $.passwd.users.0]
   4 create the system user "nest", uid 2001, home /home/nest, primary group ops, shell /bin/sh, comment "Nest", groups wheel, docker, not in the login databases, no password login  [test:5:13 at $.passwd.users.0]
   5 give /var/home/nest, /var/home/nest/data to the user "nest", mode 0700  [test:5:13 at $.passwd.users.0]
   6 write 1 SSH key of the user "nest" to ~/.ssh/authorized_keys.d/ignition  [test:5:13 at $.passwd.users.0]
   7 modify the user "core", no password login  [test:7:13 at $.passwd.users.1]
   8 keep the user "chrony"  [test:8:13 at $.passwd.users.2]
   9 create the user "svc", no home directory made, no group of its own, no password login  [test:10:13 at $.passwd.users.4]
  10 write /etc/.ignition-result.json: provisioned by an operator's configuration
"#,
    );
}

#[test]
fn a_group_may_have_a_password_that_no_plan_shows() {
    let (config, sources) = config(r#"{"passwd": {"groups": [{"name": "ops", "passwordHash": "$y$secret"}]}}"#);
    let plan = files(&config, &facts(&[]), &sources, Settings::default()).unwrap();
    let Some(Step::EnsureGroup(group)) = plan.steps.first().map(|planned| &planned.step) else { panic!("{plan}") };
    assert_eq!(group.password.as_ref().map(Secret::expose), Some("$y$secret"));
    let text = plan.to_string();
    assert!(text.contains("create the group \"ops\", with a password") && !text.contains("secret"), "{text}");
}

#[test]
fn keys_go_to_one_file_if_the_distribution_wants_that() {
    let (config, sources) = config(r#"{"passwd": {"users": [{"name": "core", "sshAuthorizedKeys": ["k"]}]}}"#);
    let facts = facts(&[("/home/core", "/home/core", NodeKind::Directory)]);
    let text = show(files(&config, &facts, &sources, Settings { keys_fragment: false, ..Settings::default() }));
    assert!(text.contains("to ~/.ssh/authorized_keys  ["), "{text}");
}

#[test]
fn what_the_tools_would_refuse_is_refused_before() {
    for (section, words) in [
        (r#""users": [{"name": "bad name"}]"#, "the name can't be used: it contains white space"),
        (r#""users": [{"name": "-x"}]"#, "the name can't be used"),
        (r#""groups": [{"name": "a:b"}]"#, "the name can't be used"),
        (r#""users": [{"name": "x", "uid": 0}]"#, "the uid 0 belongs to the user \"root\""),
        (r#""users": [{"name": "x", "uid": 7}, {"name": "y", "uid": 7}]"#, "the uid 7 belongs to the user \"x\""),
        (r#""users": [{"name": "core", "uid": 991}]"#, "the uid 991 belongs to the user \"chrony\""),
        (r#""users": [{"name": "x", "uid": -1}]"#, "-1 is no user id"),
        (r#""groups": [{"name": "x", "gid": 10}]"#, "the gid 10 belongs to the group \"wheel\""),
        (r#""users": [{"name": "x", "primaryGroup": "nope"}]"#, "there is no group \"nope\", which primaryGroup names"),
        (r#""users": [{"name": "x", "primaryGroup": "12345"}]"#, "there is no group \"12345\""),
        (r#""users": [{"name": "x", "groups": ["wheel", "nope"]}]"#, "there is no group \"nope\", which groups names"),
        (r#""users": [{"name": "wheel"}]"#, "a group \"wheel\" exists"),
        (r#""users": [{"name": "x", "gecos": "a:b"}]"#, "gecos can't be used"),
        (r#""users": [{"name": "x", "shell": "sh"}]"#, "shell is no absolute path"),
        (r#""users": [{"name": "x", "homeDir": "x"}]"#, "homeDir is no absolute path"),
        (r#""users": [{"name": "x", "passwordHash": "a\nb"}]"#, "passwordHash can't be used"),
        (r#""users": [{"name": "chrony", "shell": "/bin/sh"}]"#, "stands in /usr/lib/passwd"),
        (r#""users": [{"name": "chrony", "shouldExist": false}]"#, "stands in /usr/lib/passwd"),
        (r#""groups": [{"name": "docker", "gid": 5}]"#, "stands in /usr/lib/group"),
        (r#""users": [{"name": "x", "homeDir": "/etc/hosts"}]"#, "a file stands at /etc/hosts"),
        (
            r#""users": [{"name": "x", "noCreateHome": true, "homeDir": "/none", "sshAuthorizedKeys": ["k"]}]"#,
            "the home directory /none isn't there",
        ),
    ] {
        let facts = facts(&[("/etc/hosts", "/etc/hosts", old_file(None)), ("/none", "/none", NodeKind::Missing)]);
        let (config, sources) = unchecked(&format!(r#"{{"passwd": {{{section}}}}}"#));
        let text = show(files(&config, &facts, &sources, Settings::default()));
        assert!(text.starts_with("refused: ") && text.contains(words), "{section}: {text}");
        assert!(text.contains("  what to do: "), "{section}: {text}");
    }
}

#[test]
fn groups_that_users_bring_can_be_named_by_later_ones() {
    let json = r#"{"passwd": {"users": [{"name": "a"}, {"name": "b", "groups": ["a"]}, {"name": "c", "primaryGroup": "10"}]}}"#;
    assert!(!plan(json, &facts(&[])).contains("refused"), "{}", plan(json, &facts(&[])));
    let json = r#"{"passwd": {"users": [{"name": "b", "groups": ["a"]}, {"name": "a"}]}}"#;
    assert!(plan(json, &facts(&[])).contains("there is no group \"a\""));
}

#[test]
fn a_deleted_user_frees_its_id() {
    let json = r#"{"passwd": {"users": [{"name": "core", "shouldExist": false}, {"name": "nest", "uid": 1000}]}}"#;
    let text = plan(json, &facts(&[]));
    assert!(text.contains("delete the user \"core\" and the home directory"), "{text}");
}
