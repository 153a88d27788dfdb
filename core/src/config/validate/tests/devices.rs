// SPDX-License-Identifier: Apache-2.0
//! Disks, arrays, encrypted volumes and file systems.

use super::*;

#[test]
fn shared_file_systems() {
    let shared = |inner: &str| format!("\"storage\": {{\"filesystems\": [{{\"format\": \"virtiofs\", {inner}}}]}}");
    let (fits, long) = (format!("\"device\": \"{}\"", "t".repeat(36)), format!("\"device\": \"{}\"", "t".repeat(37)));
    table(
        shared,
        "$.storage.filesystems.0",
        &[
            ("\"device\": \"my tag\", \"path\": \"/var/shared\", \"mountOptions\": [\"ro\"]", &[]),
            ("\"device\": \"t\", \"label\": \"\", \"uuid\": \"\", \"wipeFilesystem\": false, \"options\": []", &[]),
            (&fits, &[]),
            (&long, &[(Error, ".device")]),
            ("\"device\": \"\"", &[(Error, ".device")]),
            ("\"path\": \"/a\"", &[(Error, ".device")]),
            ("\"device\": \"t\", \"path\": \"a\"", &[(Error, ".path")]),
            ("\"device\": \"t\", \"label\": \"x\"", &[(Error, ".label")]),
            ("\"device\": \"t\", \"uuid\": \"x\"", &[(Error, ".uuid")]),
            ("\"device\": \"t\", \"wipeFilesystem\": true", &[(Error, ".wipeFilesystem")]),
            ("\"device\": \"t\", \"options\": [\"x\"]", &[(Error, ".options")]),
        ],
    );
}

#[test]
fn filesystems() {
    let filesystem = |inner: &str| format!("\"storage\": {{\"filesystems\": [{{\"device\": \"/dev/a\", {inner}}}]}}");
    let label = |format: &str, len: usize| format!("\"format\": \"{format}\", \"label\": \"{}\"", "x".repeat(len));
    table(
        filesystem,
        "$.storage.filesystems.0",
        &[
            (
                "\"format\": \"ext4\", \"path\": \"/var\", \"mountOptions\": [\"a\", \"a\"], \"options\": [\"b\", \"b\"]",
                &[],
            ),
            ("\"format\": \"ext4\", \"path\": \"\"", &[]),
            ("\"format\": \"ext4\", \"path\": \"var\"", &[(Error, ".path")]),
            ("\"format\": \"ntfs\"", &[(Error, ".format")]),
            ("\"format\": \"9p\"", &[(Error, ".format")]),
            ("\"wipeFilesystem\": false", &[]),
            ("\"wipeFilesystem\": true", &[(Error, ".format")]),
            ("\"path\": \"/var\"", &[(Error, ".format")]),
            ("\"label\": \"x\"", &[(Error, ".format")]),
            ("\"uuid\": \"x\"", &[(Error, ".format")]),
            ("\"options\": [\"x\"]", &[(Error, ".format")]),
            ("\"format\": \"\", \"mountOptions\": [\"x\"]", &[(Error, ".format")]),
            ("\"device\": \"\"", &[(Error, ".device"), (Warning, ".device")]),
            (&label("ext4", 16), &[]),
            (&label("ext4", 17), &[(Error, ".label")]),
            (&label("btrfs", 256), &[]),
            (&label("btrfs", 257), &[(Error, ".label")]),
            (&label("xfs", 12), &[]),
            (&label("xfs", 13), &[(Error, ".label")]),
            (&label("swap", 15), &[]),
            (&label("swap", 16), &[(Error, ".label")]),
            (&label("vfat", 11), &[]),
            (&label("vfat", 12), &[(Error, ".label")]),
            (&label("none", 99), &[]),
        ],
    );
    since(&filesystem("\"format\": \"none\""), "$.storage.filesystems.0.format", |version| version >= Version::V3_3);
    since(&filesystem("\"format\": \"virtiofs\""), "$.storage.filesystems.0.format", |version| {
        version >= Version::V3_7
    });
    let disk = |disk: &str, filesystem: &str| {
        said(
            Version::LATEST,
            &format!(
                "\"storage\": {{\"disks\": [{{\"device\": \"/dev/a\"{disk}}}], \"filesystems\": [{{\"device\": \"/dev/a\", \"format\": \"xfs\"{filesystem}}}]}}"
            ),
        )
    };
    let warning = Vec::from([(Warning, "$.storage.filesystems.0.device".into())]);
    assert_eq!(disk("", ""), []);
    assert_eq!(disk(", \"partitions\": [{\"number\": 1}]", ""), warning);
    assert_eq!(disk(", \"wipeTable\": true", ""), warning);
    assert_eq!(disk(", \"wipeTable\": true", ", \"wipeFilesystem\": true"), []);
}

#[test]
fn disks_and_partitions() {
    let guid = "01234567-89ab-CDEF-EDCB-A98765432101";
    table(
        |inner| format!("\"storage\": {{\"disks\": [{{\"device\": \"/dev/a\", \"partitions\": [{inner}]}}]}}"),
        "$.storage.disks.0.partitions",
        &[
            ("{\"number\": 1}, {\"label\": \"a\"}, {\"label\": \"b\"}", &[]),
            (&format!("{{\"number\": 1, \"guid\": \"{guid}\", \"typeGuid\": \"\"}}"), &[]),
            ("{}", &[(Error, ".0")]),
            ("{\"number\": 0, \"label\": \"\"}", &[]),
            ("{\"number\": -1}", &[(Error, ".0.number")]),
            ("{\"number\": 1}, {\"number\": 1}", &[(Error, ".1")]),
            ("{\"label\": \"a\"}, {\"label\": \"a\"}", &[(Error, ".1")]),
            ("{\"number\": 1, \"label\": \"a\"}, {\"label\": \"a\"}", &[(Error, ".1")]),
            ("{\"number\": 1, \"guid\": \"x\"}", &[(Error, ".0.guid")]),
            (&format!("{{\"number\": 1, \"typeGuid\": \"{guid}0\"}}"), &[(Error, ".0.typeGuid")]),
            (&format!("{{\"number\": 1, \"typeGuid\": \"{}\"}}", guid.replace('0', "g")), &[(Error, ".0.typeGuid")]),
            (&format!("{{\"label\": \"{}\"}}", "x".repeat(36)), &[]),
            (&format!("{{\"label\": \"{}\"}}", "x".repeat(37)), &[(Error, ".0.label")]),
            ("{\"label\": \"a:b\"}", &[(Error, ".0.label")]),
            ("{\"number\": 1, \"shouldExist\": false}", &[]),
            ("{\"number\": 1, \"shouldExist\": false, \"sizeMiB\": 0}", &[(Error, ".0")]),
            ("{\"number\": 1, \"sizeMiB\": -1, \"startMiB\": -1}", &[(Error, ".0.sizeMiB"), (Error, ".0.startMiB")]),
            (
                "{\"number\": 1, \"startMiB\": 1, \"sizeMiB\": 9}, {\"number\": 2, \"startMiB\": 10, \"sizeMiB\": 0}",
                &[],
            ),
            (
                "{\"number\": 1, \"startMiB\": 1, \"sizeMiB\": 10}, {\"number\": 2, \"startMiB\": 10, \"sizeMiB\": 0}",
                &[(Error, ".1")],
            ),
            (
                "{\"number\": 1, \"startMiB\": 10, \"sizeMiB\": 5}, {\"number\": 2, \"startMiB\": 1, \"sizeMiB\": 100}",
                &[(Error, ".1")],
            ),
            ("{\"number\": 1, \"startMiB\": 10}, {\"number\": 2, \"startMiB\": 10, \"sizeMiB\": 0}", &[]),
            ("{\"number\": 1, \"startMiB\": 0, \"sizeMiB\": 5}, {\"number\": 2, \"startMiB\": 0, \"sizeMiB\": 5}", &[]),
        ],
    );
    let disks = |disks: &str| said(Version::LATEST, &format!("\"storage\": {{\"disks\": [{disks}]}}"));
    assert_eq!(disks("{\"device\": \"dev/a\"}"), [(Error, "$.storage.disks.0.device".into())]);
    assert_eq!(disks("{}"), [(Error, "$.storage.disks.0.device".into())]);
    assert_eq!(disks("{\"device\": \"/a\"}, {\"device\": \"/a\"}"), [(Error, "$.storage.disks.1".into())]);
}

#[test]
fn arrays() {
    let raid = |inner: &str| format!("\"storage\": {{\"raid\": [{{\"name\": \"a\", {inner}}}]}}");
    let devices = "\"devices\": [\"/dev/a\", \"/dev/b\"]";
    table(
        raid,
        "$.storage.raid.0",
        &[
            (&format!("\"level\": \"raid1\", \"spares\": 1, \"options\": [\"x\", \"x\"], {devices}"), &[]),
            (&format!("\"level\": \"stripe\", \"spares\": 0, {devices}"), &[]),
            (&format!("\"level\": \"stripe\", \"spares\": 1, {devices}"), &[(Error, ".level")]),
            (&format!("\"level\": \"raid7\", {devices}"), &[(Error, ".level")]),
            (devices, &[(Error, ".level")]),
            ("\"level\": \"raid1\"", &[(Error, ".devices")]),
            ("\"level\": \"raid1\", \"devices\": [\"/a\", \"/a\"]", &[(Error, ".devices.1")]),
            ("\"level\": \"raid1\", \"devices\": [\"/a\", \"b\"]", &[(Error, ".devices.1")]),
        ],
    );
    assert_eq!(
        said(
            Version::LATEST,
            &raid(&format!("\"level\": \"1\", {devices}")).replace("\"name\": \"a\"", "\"name\": \"\"")
        ),
        [(Error, "$.storage.raid.0.name".into())]
    );
}

#[test]
fn luks_volumes() {
    let luks = |inner: &str| format!("\"storage\": {{\"luks\": [{{\"name\": \"a\", \"device\": \"/d\", {inner}}}]}}");
    let tang = "{\"url\": \"http://t\", \"thumbprint\": \"x\"}";
    table(
        luks,
        "$.storage.luks.0",
        &[
            ("\"options\": [\"x\", \"x\"], \"openOptions\": [\"y\"], \"discard\": true", &[]),
            ("\"openOptions\": [\"y\", \"y\"]", &[(Error, ".openOptions.1")]),
            (&format!("\"label\": \"{}\"", "x".repeat(47)), &[]),
            (&format!("\"label\": \"{}\"", "x".repeat(48)), &[(Error, ".label")]),
            ("\"keyFile\": {\"source\": \"data:,x\"}", &[]),
            ("\"keyFile\": {\"source\": \"x\"}", &[(Error, ".keyFile.source")]),
            (&format!("\"clevis\": {{\"tang\": [{tang}], \"tpm2\": true, \"threshold\": 2}}"), &[]),
            (&format!("\"clevis\": {{\"tang\": [{tang}, {tang}]}}"), &[(Error, ".clevis.tang.1")]),
            (
                "\"clevis\": {\"tang\": [{\"url\": \"ftp://t\", \"thumbprint\": \"x\"}]}",
                &[(Error, ".clevis.tang.0.url")],
            ),
            ("\"clevis\": {\"tang\": [{\"thumbprint\": \"x\"}]}", &[(Error, ".clevis.tang.0.url")]),
            ("\"clevis\": {\"tang\": [{\"url\": \"https://t\"}]}", &[(Error, ".clevis.tang.0.thumbprint")]),
            (&format!("\"clevis\": {{\"tang\": [{}]}}", tang.replace('}', ", \"advertisement\": \"{}\"}")), &[]),
            (
                &format!("\"clevis\": {{\"tang\": [{}]}}", tang.replace('}', ", \"advertisement\": \"{\"}")),
                &[(Error, ".clevis.tang.0.advertisement")],
            ),
            ("\"clevis\": {\"custom\": {\"pin\": \"own\", \"config\": \"x\", \"needsNetwork\": true}}", &[]),
            ("\"clevis\": {\"custom\": {\"config\": \"x\"}}", &[(Error, ".clevis.custom.pin")]),
            ("\"clevis\": {\"custom\": {\"pin\": \"tpm2\"}}", &[(Error, ".clevis.custom.config")]),
            ("\"clevis\": {\"custom\": {\"pin\": \"tpm2\", \"config\": \"x\"}, \"tpm2\": true}", &[(Error, ".clevis")]),
            ("\"cex\": {\"enabled\": true}", &[]),
            ("\"cex\": {\"enabled\": false}, \"clevis\": {\"tpm2\": true}", &[]),
            ("\"cex\": {\"enabled\": true}, \"clevis\": {\"tpm2\": true}", &[(Error, ".cex")]),
            ("\"cex\": {\"enabled\": true}, \"keyFile\": {\"source\": \"data:,x\"}", &[(Error, ".cex")]),
        ],
    );
    let volumes = |inner: &str| said(Version::LATEST, &format!("\"storage\": {{\"luks\": [{inner}]}}"));
    assert_eq!(volumes("{\"name\": \"a\"}"), [(Error, "$.storage.luks.0.device".into())]);
    assert_eq!(volumes("{\"name\": \"a/b\", \"device\": \"/d\"}"), [(Error, "$.storage.luks.0.name".into())]);
    assert_eq!(volumes("{\"device\": \"/d\"}"), [(Error, "$.storage.luks.0.name".into())]);

    let ignored = |version: Version| version < Version::V3_2;
    let own = luks("\"clevis\": {\"custom\": {\"pin\": \"own\", \"config\": \"x\"}}");
    since(&own, "$.storage.luks.0.clevis.custom.pin", |version| ignored(version) || version >= Version::V3_6);
    let beside = luks("\"clevis\": {\"custom\": {\"needsNetwork\": false}, \"tpm2\": true}");
    since(&beside, "$.storage.luks.0.clevis", |version| version != Version::V3_2);
    let empty = luks("\"clevis\": {\"custom\": {}, \"tpm2\": true}");
    since(&empty, "$.storage.luks.0.clevis", |version| version != Version::V3_2);
    let alone = luks("\"clevis\": {\"custom\": {\"needsNetwork\": true}}");
    for version in Version::ALL {
        let said = said(version, &alone);
        let errors = said.iter().filter(|(severity, _)| *severity == Error).count();
        assert_eq!(errors, if version >= Version::V3_3 { 2 } else { 0 }, "{version}");
    }
    let card = luks("\"cex\": {\"enabled\": true}, \"clevis\": {\"tpm2\": true}");
    since(&card, "$.storage.luks.0.cex", |version| version < Version::V3_5);
}
