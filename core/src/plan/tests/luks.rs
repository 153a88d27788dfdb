// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::config::Luks;
use crate::facts::Volume;
use crate::plan::luks::{MARK, PHASE};

const UUID: &str = "5ab36f4a-0000-4000-8000-000000000000";

fn phase(json: &str, facts: &Facts) -> String {
    let (config, sources) = config(json);
    show(PHASE.plan(&config, facts, &sources))
}

fn one(rest: &str) -> String {
    format!(r#"{{"storage": {{"luks": [{{"name": "data", "device": "/dev/vdb"{rest}}}]}}}}"#)
}

const GIVEN: &str =
    r#", "keyFile": {"source": "https://keys.example/k?t=secret", "verification": {"hash": "sha256-00"}}"#;

/// A blank device, memory in plenty.
fn blank() -> Facts {
    let mut facts = facts(&[]);
    facts.devices.insert("/dev/vdb".into(), Device { present: true, ..Device::default() });
    (facts.memory, facts.available_memory) = (16 << 20, 15 << 20);
    facts
}

/// A device with a LUKS2 volume that this text would have made, and that counts as made.
fn made(json: &str) -> (Facts, Luks) {
    let (config, _) = config(json);
    let luks = config.storage.luks[0].clone();
    let mut facts = blank();
    let label = luks.label.clone().unwrap_or_default();
    facts.devices.insert("/dev/vdb".into(), Device::holding("crypto_LUKS", &label, UUID));
    let volume = Volume {
        device: "/dev/vdb".into(),
        version: 2,
        uuid: UUID.into(),
        label,
        made_from: Some(crate::plan::luks::fingerprint(&luks)),
        ..Volume::default()
    };
    facts.volumes.push(volume);
    (facts, luks)
}

fn foreign(json: &str) -> Facts {
    let mut facts = made(json).0;
    facts.volumes[0].made_from = None;
    facts
}

type Change<'c> = &'c dyn Fn(&mut Volume);

#[test]
fn everything_that_a_volume_can_have() {
    let json = r#"{"storage": {"luks": [
  {"name": "data", "device": "/dev/vdb", "label": "Data", "uuid": "5ab36f4a-0000-4000-8000-000000000000", "discard": true,
   "options": ["--cipher", "aes-cbc-essiv:sha256"], "openOptions": ["--perf-no_read_workqueue"],
   "keyFile": {"source": "https://u:p@keys.example/k?t=secret"}},
  {"name": "bound", "device": "/dev/vdc", "clevis": {"threshold": 2, "tpm2": true, "tang": [
    {"url": "http://tang.example:7500/a/?x=secret", "thumbprint": "abc\"d"},
    {"url": "http://other.example", "thumbprint": "efg", "advertisement": "{\"payload\": 1}"}]}},
  {"name": "custom", "device": "/dev/vdd", "wipeVolume": true,
   "clevis": {"custom": {"pin": "tpm2", "config": "{\"pcr_ids\": \"7\"}", "needsNetwork": true}}}
 ], "filesystems": [{"device": "/dev/mapper/custom", "format": "xfs", "path": "/var/lib/custom"}]}}"#;
    let (config, sources) = config(json);
    let mut facts = blank();
    (facts.memory, facts.available_memory) = (480 << 10, 300 << 10);
    facts.devices.insert("/dev/vdd".into(), Device::holding("xfs", "old", ""));
    let disks = show(PHASE.plan(&config, &facts, &sources));
    assert_plan(
        &disks,
        r#"
disks
1 make the encrypted volume "data" on /dev/vdb with the key of https://keys.example/k?t=..., label "Data", UUID "5ab36f4a-0000-4000-8000-000000000000", at most 120 MiB of memory to derive keys, options --cipher aes-cbc-essiv:sha256, discards let through, opened with --perf-no_read_workqueue  [test:3:3 at $.storage.luks.0]
2 make the encrypted volume "bound" on /dev/vdc with a random key, at most 120 MiB of memory to derive keys, bound by clevis's pin sss, asking http://tang.example:7500/a/adv?x=...  [test:6:3 at $.storage.luks.1]
3 make the encrypted volume "custom" on /dev/vdd with a random key, at most 120 MiB of memory to derive keys, bound by clevis's pin tpm2, in place of xfs, label "old"  [test:9:3 at $.storage.luks.2]
"#,
    );
    let plan = PHASE.plan(&config, &facts, &sources).unwrap();
    let binding = |index: usize| match &plan.steps[index].step {
        Step::Luks(super::super::luks::Step::Make(make)) => make.binding.clone().unwrap(),
        other => panic!("{other:?}"),
    };
    let shares: serde_json::Value = serde_json::from_str(&binding(1).config).unwrap();
    let expected = serde_json::json!({"t": 2, "pins": {"tpm2": {}, "tang": [
        {"url": "http://tang.example:7500/a/?x=secret", "thp": "abc\"d"},
        {"url": "http://other.example", "thp": "efg", "adv": {"payload": 1}}]}});
    assert_eq!(shares, expected);
    // One server to ask and the TPM are as many as it takes.
    assert!(binding(1).tried);
    assert_eq!((binding(2).config.as_str(), binding(2).tried), ("{\"pcr_ids\": \"7\"}", false));

    apply(&plan, &mut facts);
    let later = show(files(&config, &facts, &sources, Settings::default()));
    assert_plan(
        &later,
        r#"
files
1 make the directory /etc/luks, mode 0700  [test:3:3 at $.storage.luks.0]
2 write /etc/luks/data from the volume's key, mode 0600  [test:3:3 at $.storage.luks.0]
3 write to /etc/crypttab: data UUID=5ab36f4a-0000-4000-8000-000000000000 /etc/luks/data luks,x-initrd.attach; bound UUID=(random) none luks,_netdev,x-initrd.attach; custom UUID=(random) none luks,_netdev,x-initrd.attach
4 write /etc/.ignition-result.json: provisioned by an operator's configuration
5 count the encrypted volume "data" as made  [test:3:3 at $.storage.luks.0]
6 count the encrypted volume "bound" as made  [test:6:3 at $.storage.luks.1]
7 count the encrypted volume "custom" as made  [test:9:3 at $.storage.luks.2]
"#,
    );
    for text in [disks, later] {
        assert!(!text.contains("secret") && !text.contains("u:p"), "{text}");
    }
}

#[test]
fn a_given_key_is_fetched_as_the_configuration_says() {
    let key_file = r#", "keyFile": {"source": "https://keys.example/k", "compression": "gzip",
        "verification": {"hash": "sha256-00"}, "httpHeaders": [{"name": "X-Token", "value": "1"}]}"#;
    let (config, sources) = config(&one(key_file));
    let plan = PHASE.plan(&config, &blank(), &sources).unwrap();
    let Step::Luks(step) = &plan.steps[0].step else { panic!("{plan}") };
    let [key] = step.resources()[..] else { panic!("{plan}") };
    let headers: Vec<_> =
        key.http_headers.iter().map(|header| (header.name.as_str(), header.value.as_deref())).collect();
    assert_eq!(key.source.as_deref(), Some("https://keys.example/k"));
    assert_eq!(key.compression.as_deref(), Some("gzip"));
    assert_eq!(key.verification.hash.as_deref(), Some("sha256-00"));
    assert_eq!(headers, [("X-Token", Some("1"))]);
}

#[test]
fn a_server_whose_advertisement_is_given_need_not_answer_now() {
    let tang = r#", "clevis": {"tang": [{"url": "http://t", "thumbprint": "x", "advertisement": "{}"}]}"#;
    let (config, sources) = config(&one(tang));
    let plan = PHASE.plan(&config, &blank(), &sources).unwrap();
    let Step::Luks(step) = &plan.steps[0].step else { panic!("{plan}") };
    assert_eq!(step.resources().len(), 0);
    let crate::plan::luks::Step::Make(make) = step else { panic!("{plan}") };
    assert!(!make.binding.as_ref().unwrap().tried);
}

#[test]
fn memory_is_bounded_unless_the_configuration_says_how_much() {
    let bounded = |memory, available, options: &str| {
        let mut facts = blank();
        (facts.memory, facts.available_memory) = (memory, available);
        let text = phase(&one(options), &facts);
        text.split(", at most ").nth(1).map(|rest| rest.split(' ').next().unwrap_or_default().to_string())
    };
    assert_eq!(bounded(2 << 20, 1 << 20, "").as_deref(), Some("512"));
    assert_eq!(bounded(2 << 20, 256 << 10, "").as_deref(), Some("128"));
    assert_eq!(bounded(128 << 10, 8 << 10, "").as_deref(), Some("32"));
    assert_eq!(bounded(8 << 20, 8 << 20, ""), None);
    assert_eq!(bounded(0, 0, ""), None);
    assert_eq!(bounded(480 << 10, 300 << 10, r#", "options": ["--pbkdf-memory=4096"]"#), None);
    assert_eq!(bounded(480 << 10, 300 << 10, r#", "options": ["--pbkdf-memory", "4096"]"#), None);
}

#[test]
fn a_volume_that_fits_is_opened_and_any_other_is_refused() {
    let json =
        one(&format!(r#"{GIVEN}, "label": "Data", "uuid": "5AB36F4A-0000-4000-8000-000000000000", "discard": true"#));
    let mut facts = foreign(&json);
    let volume = |facts: &mut Facts, change: &dyn Fn(&mut Volume)| {
        change(&mut facts.volumes[0]);
    };
    volume(&mut facts, &|volume| volume.flags.push("allow-discards".into()));
    assert_plan(
        &phase(&json, &facts),
        r#"
disks
1 open the encrypted volume "data" of /dev/vdb with the key of https://keys.example/k?t=..., discards let through  [test:2:22 at $.storage.luks.0]
"#,
    );
    let changes: [(Change<'_>, &str); 6] = [
        (&|volume| volume.label = "Other".into(), r#"its label is "Other", not "Data""#),
        (&|volume| volume.uuid = "1".into(), r#"its UUID is "1", not "5AB3"#),
        (&|volume| volume.flags.clear(), "discards are not let through"),
        (&|volume| volume.version = 1, "it is LUKS1, not LUKS2"),
        (&|volume| volume.version = 0, "its header is damaged"),
        (&|volume| volume.open_as = Some("luks-1".into()), "it is open as /dev/mapper/luks-1"),
    ];
    for (change, why) in changes {
        let mut facts = facts.clone();
        volume(&mut facts, change);
        let text = phase(&json, &facts);
        assert!(text.contains("refused") && text.contains(why) && text.contains("only wipeVolume"), "{why}: {text}");
        let wiped = json.replacen("\"label\"", "\"wipeVolume\": true, \"label\"", 1);
        let text = phase(&wiped, &facts);
        assert!(
            text.contains("1 make the encrypted volume") && text.contains("in place of the LUKS volume there"),
            "{text}"
        );
    }
    // Ignition's rules: without a key file, and with clevis, nothing foreign is opened.
    assert!(phase(&one(""), &foreign(&one(""))).contains("the configuration has no keyFile"));
    let bound = one(&format!(r#"{GIVEN}, "clevis": {{"tpm2": true}}"#));
    assert!(phase(&bound, &foreign(&bound)).contains("bound by clevis"));
}

#[test]
fn other_contents_are_left_alone_unless_they_are_to_be_wiped() {
    let mut facts = blank();
    facts.devices.insert("/dev/vdb".into(), Device::holding("ext4", "home", ""));
    assert!(phase(&one(""), &facts).contains(r#"it holds ext4, label "home""#));
    let text = phase(&one(r#", "wipeVolume": true"#), &facts);
    assert!(text.contains(r#"in place of ext4, label "home""#), "{text}");
    facts.devices.insert("/dev/vdb".into(), Device::default());
    assert!(phase(&one(""), &facts).contains("the device /dev/vdb did not appear"));
}

#[test]
fn what_an_interrupted_boot_left_unfinished_is_made_anew() {
    let json = one("");
    let mut facts = foreign(&one(r#", "label": "from another configuration""#));
    let volume = &mut facts.volumes[0];
    (volume.subsystem, volume.version, volume.open_as) = (MARK.into(), 0, Some("old".into()));
    let (config, sources) = config(&json);
    let plan = PHASE.plan(&config, &facts, &sources).unwrap();
    let text = plan.to_string();
    assert!(
        text.contains("make the encrypted volume") && text.contains("an interrupted first boot left unfinished"),
        "{text}"
    );
    let Step::Luks(crate::plan::luks::Step::Make(make)) = &plan.steps[0].step else { panic!("{text}") };
    assert_eq!(make.close.as_deref(), Some("old"));
}

#[test]
fn what_an_interrupted_boot_finished_is_opened_with_the_key_that_it_left() {
    let json = one("");
    let (mut facts, _) = made(&json);
    let text = phase(&json, &facts);
    assert!(text.contains("its key is not in /etc/luks/data of the target any more"), "{text}");
    facts.volumes[0].held = true;
    assert!(phase(&json, &facts).contains("with the key that it was made with"));
    // The files stage then leaves the volume as it is, and writes the key that is there already.
    facts.volumes[0].open_as = Some("data".into());
    facts.nodes.insert("/etc/luks/data".into(), node("/etc/luks/data", old_file(None)));
    facts.nodes.insert("/etc/luks".into(), node("/etc/luks", NodeKind::Directory));
    assert_plan(
        &plan(&json, &facts),
        r#"
files
1 replace /etc/luks/data by the volume's key, mode 0600  [test:2:22 at $.storage.luks.0]
2 write to /etc/crypttab: data UUID=5ab36f4a-0000-4000-8000-000000000000 /etc/luks/data luks,x-initrd.attach
3 write /etc/.ignition-result.json: provisioned by an operator's configuration
4 forget the key of the encrypted volume "data"  [test:2:22 at $.storage.luks.0]
"#,
    );
    // Once more in the same boot: the key has been forgotten, but it is there.
    facts.volumes[0].held = false;
    assert!(!plan(&json, &facts).contains("the volume's key"));
    facts.nodes.clear();
    assert!(plan(&json, &facts).contains("the disks stage has left none"));

    // Another configuration, another volume: this one is foreign to it.
    let other = one(r#", "discard": true"#);
    assert!(phase(&other, &facts).contains("the configuration has no keyFile"));
    // Clevis's binding is that of the configuration, if the configuration is the same.
    let bound = one(r#", "clevis": {"tpm2": true}"#);
    assert!(phase(&bound, &made(&bound).0).contains("open the encrypted volume \"data\" of /dev/vdb by clevis"));
}

#[test]
fn facts_about_volumes_read_back_from_their_json() {
    let mut facts = made(&one("")).0;
    facts.volumes.push(Volume {
        flags: ["a".into(), "b".into()].into(),
        open_as: Some("x".into()),
        held: true,
        ..Volume::default()
    });
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
    assert!(serde_json::from_str::<Facts>(r#"{"volumes": [{"version": "2", "color": "blue"}]}"#).is_err());
    assert!(serde_json::from_str::<Facts>(r#"{"volumes": [{"version": "two"}]}"#).is_err());
}

#[test]
fn a_fingerprint_tells_nothing_about_the_key() {
    let fingerprint = |rest: &str| made(&one(rest)).0.volumes[0].made_from.clone().unwrap();
    assert_eq!(fingerprint(GIVEN), fingerprint(r#", "keyFile": {"source": "data:,weak"}"#));
    assert_eq!(fingerprint(""), fingerprint(r#", "wipeVolume": true"#));
    assert_ne!(fingerprint(""), fingerprint(r#", "label": "x""#));
}

#[test]
fn names_and_options_that_would_mislead_are_refused() {
    for name in ["a b", "-x", "#x", "..", "control", "a\\nb"] {
        let text = phase(&one("").replacen("data", name, 1), &blank());
        assert!(text.contains("the name can't stand in /etc/crypttab"), "{name}: {text}");
    }
    for (options, refused) in [
        (r#"["--type", "luks1"]"#, true),
        (r#"["--type=luks1"]"#, true),
        (r#"["--type", "luks2"]"#, false),
        (r#"["--header", "/run/h"]"#, true),
        (r#"["--key-file=/x"]"#, true),
        (r#"["--cipher", "aes-xts-plain64", "--subsystem", "mine"]"#, false),
    ] {
        let text = phase(&one(&format!(r#", "options": {options}"#)), &blank());
        assert_eq!(text.contains("refused"), refused, "{options}: {text}");
    }
    let twice = r#"{"storage": {"luks": [{"name": "a", "device": "/dev/vdb"}, {"name": "b", "device": "/dev/vdb"}]}}"#;
    assert!(phase(twice, &blank()).contains(r#"the volume "a" is to be made there too"#));
}

#[test]
fn the_subsystem_of_the_options_is_what_stays() {
    let subsystem = |options: &[&str]| {
        let options: Vec<_> = options.iter().map(ToString::to_string).collect();
        crate::plan::luks::subsystem(&options).to_string()
    };
    assert_eq!(subsystem(&["--subsystem", "a", "--label", "x", "--subsystem=b"]), "b");
    assert_eq!(subsystem(&["--subsystem", "a", "--subsystems"]), "a");
    assert_eq!(subsystem(&["--cipher", "x"]), "");
}

#[test]
fn keys_and_table_stay_inside_what_is_there() {
    let json = r#"{"storage": {"luks": [{"name": "data", "device": "/dev/vdb"}],
        "files": [{"path": "/etc/luks/data", "contents": {"source": "data:,mine"}}]}}"#;
    let mut facts = made(json).0;
    facts.volumes[0].held = true;
    assert!(plan(json, &facts).contains("a file that this configuration makes stands at /etc/luks/data"));
    facts.nodes.insert("/etc/crypttab".into(), node("/etc/crypttab", NodeKind::Directory));
    assert!(plan(&one(""), &facts).contains("writing /etc/crypttab: a directory stands at /etc/crypttab"));
    facts.volumes.clear();
    assert!(plan(&one(""), &facts).contains("/dev/vdb is no LUKS volume"));
}

#[test]
fn a_device_in_use_or_under_two_names_is_refused() {
    let mut facts = blank();
    facts.devices.get_mut("/dev/vdb").unwrap().users = Vec::from(["mounted at /boot".into()]);
    for json in [one(""), one(r#", "wipeVolume": true"#)] {
        let text = phase(&json, &facts);
        assert!(text.contains("/dev/vdb is in use: it is mounted at /boot"), "{text}");
    }
    // Open, and not by us: it would be made over.
    let json = one(&format!(r#"{GIVEN}, "wipeVolume": true"#));
    let mut facts = foreign(&json);
    facts.devices.get_mut("/dev/vdb").unwrap().users = Vec::from(["part of /dev/dm-0".into()]);
    facts.volumes[0].open_as = Some("data".into());
    assert!(phase(&json, &facts).contains("in use: it is part of /dev/dm-0"));
    // It may be kept, and one of ours that isn't ready is closed.
    assert!(phase(&one(GIVEN), &facts).contains("open the encrypted volume"));
    facts.volumes[0].subsystem = MARK.into();
    assert!(phase(&json, &facts).contains("make the encrypted volume"));

    let json = r#"{"storage": {"luks": [
        {"name": "a", "device": "/dev/vdb"}, {"name": "b", "device": "/dev/disk/by-label/x"}]}}"#;
    let mut facts = blank();
    for name in ["/dev/vdb", "/dev/disk/by-label/x"] {
        facts.devices.insert(name.into(), Device { present: true, node: "/dev/vdb".into(), ..Device::default() });
    }
    let text = phase(json, &facts);
    assert!(text.contains("the volume \"a\" is to be made there too") && text.contains("$.storage.luks.1"), "{text}");
}

#[test]
fn what_a_volume_takes_is_no_device_of_others() {
    let json = r#"{"storage": {"luks": [{"name": "data", "device": "/dev/vdb"}],
        "filesystems": [{"device": "/dev/vdb", "format": "ext4", "wipeFilesystem": true}]}}"#;
    let (config, sources) = config(json);
    let text = show(disks(&config, &blank(), &sources));
    assert!(text.contains("in use: it is part of /dev/mapper/data"), "{text}");
    let json =
        json.replace(r#""luks""#, r#""raid": [{"name": "x", "level": "raid0", "devices": ["/dev/vdb"]}], "luks""#);
    let (config, sources) = super::config(&json.replace(r#""/dev/vdb"}]"#, r#""/dev/vdb", "wipeVolume": true}]"#));
    let text = show(disks(&config, &blank(), &sources));
    assert!(text.contains("/dev/vdb is in use: it is part of /dev/md/x"), "{text}");
}

#[test]
fn no_spelling_gets_another_type_or_key_in() {
    for options in [
        r#""-M", "luks1""#,
        r#""-Mluks1""#,
        r#""-qMplain""#,
        r#""-M=luks1""#,
        r#""--type=luks1""#,
        r#""--type", "luks1""#,
        r#""-d", "/key""#,
        r#""-d/key""#,
        r#""-qd/key""#,
        r#""--header", "/file""#,
    ] {
        let text = phase(&one(&format!(r#", "options": [{options}]"#)), &blank());
        assert!(text.contains("would have something else made"), "{options}: {text}");
    }
    for options in
        [r#""-Mluks2""#, r#""-M", "luks2""#, r#""--type=luks2""#, r#""-q", "-caes-xts-plain64", "--pbkdf", "pbkdf2""#]
    {
        let text = phase(&one(&format!(r#", "options": [{options}]"#)), &blank());
        assert!(text.contains("make the encrypted volume"), "{options}: {text}");
    }
}
