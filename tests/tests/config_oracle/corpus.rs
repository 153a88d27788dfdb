// SPDX-License-Identifier: Apache-2.0
//! Configs to compare readers with: every field of the schema in every version with values right and wrong, and those of
//! `oracle/configs.toml`, each in every version.

use fledge_core::config::Version;
use fledge_core::config::schema::{CONFIG, Field, Kind};
use serde_json::{Map, Value, json};

/// A text, and what to call it: where it came from, what was done to it, and its version.
pub(crate) struct Case {
    /// A path of the schema, such as `storage.files.path`, or a name of `oracle/configs.toml`.
    pub(crate) subject: String,
    /// What was done: one of [`VARIANTS`], or `as written`.
    pub(crate) variant: &'static str,
    pub(crate) version: Version,
    pub(crate) text: String,
}

/// What is done to a field.
const VARIANTS: [&str; 9] =
    ["right", "null", "empty", "other type", "other case", "twice", "fraction", "large", "unknown beside"];

/// A value that is neither refused nor warned about: what the rules ask for, else anything of its kind.
fn sample(path: &str, kind: Kind) -> Value {
    let leaf = path.rsplit('.').next().unwrap();
    let url = || json!("https://host/x");
    match (leaf, kind) {
        ("source" | "url", _) => url(),
        ("httpProxy" | "httpsProxy", _) => json!("https://proxy:3128"),
        ("hash", _) => json!(format!("sha512-{}", "0".repeat(128))),
        ("compression", _) => json!("gzip"),
        ("advertisement", _) => json!("{}"),
        ("pin", _) => json!("tang"),
        ("mode", _) => json!(420),
        ("level", _) => json!("raid1"),
        ("guid" | "typeGuid", _) => json!("01234567-89AB-CDEF-EDCB-A98765432101"),
        ("format", _) => json!("ext4"),
        ("homeDir" | "shell", _) => json!("/bin/sh"),
        ("sshAuthorizedKeys", _) => json!(["ssh-ed25519 AAAA"]),
        ("devices", _) => json!(["/dev/a"]),
        ("device" | "path", _) => json!("/some/path"),
        ("target", _) => json!("target"),
        (_, Kind::Text) if path == "systemd.units.name" => json!("x.service"),
        (_, Kind::Text) if path == "systemd.units.dropins.name" => json!("x.conf"),
        (_, Kind::Text) if leaf == "contents" => json!("[Service]\n"),
        (_, Kind::Text) => json!("x"),
        (_, Kind::Integer) => json!(1),
        (_, Kind::Boolean) => json!(true),
        (_, Kind::Object(_)) => needed(path),
        (_, Kind::List(item)) => json!([sample_item(path, *item)]),
    }
}

fn sample_item(path: &str, kind: Kind) -> Value {
    match kind {
        Kind::Object(_) => needed(path),
        _ => json!("x"),
    }
}

/// What the rules want beside any field of an object.
fn needed(path: &str) -> Value {
    match path {
        "storage.files" | "storage.directories" => json!({"path": "/f"}),
        "storage.links" => json!({"path": "/l", "target": "t"}),
        "storage.disks" => json!({"device": "/dev/d"}),
        "storage.disks.partitions" => json!({"number": 1}),
        "storage.filesystems" => json!({"device": "/dev/f", "format": "xfs"}),
        "storage.luks" => json!({"name": "l", "device": "/dev/l"}),
        "storage.luks.clevis.tang" => json!({"url": "https://tang", "thumbprint": "t"}),
        "storage.luks.clevis.custom" => json!({"pin": "sss", "config": "{}"}),
        "storage.raid" => json!({"name": "r", "level": "raid6", "devices": ["/dev/r"]}),
        "passwd.users" | "passwd.groups" => json!({"name": "n"}),
        "systemd.units" => json!({"name": "n.service"}),
        "systemd.units.dropins" => json!({"name": "n.conf"}),
        "ignition.config.merge" | "ignition.config.replace" => json!({"source": "https://host/c"}),
        "ignition.security.tls.certificateAuthorities"
        | "storage.files.append"
        | "storage.files.contents"
        | "storage.luks.keyFile" => json!({"source": "https://host/r"}),
        path if path.ends_with(".httpHeaders") => json!({"name": "H", "value": "v"}),
        _ => json!({}),
    }
}

/// The value as JSON text, with what was done to it; `None` if that can't be done to this kind.
fn vary(variant: &str, kind: Kind, value: &Value) -> Option<String> {
    let text = match variant {
        "null" => "null".into(),
        "empty" => match kind {
            Kind::Text => "\"\"".into(),
            Kind::Integer => "0".into(),
            Kind::Boolean => "false".into(),
            Kind::Object(_) => "{}".into(),
            Kind::List(_) => "[]".into(),
        },
        "other type" => match kind {
            Kind::Text | Kind::Boolean => "7".into(),
            Kind::Integer | Kind::Object(_) => "\"7\"".into(),
            Kind::List(_) => "{}".into(),
        },
        "fraction" => matches!(kind, Kind::Integer).then(|| "1.5".into())?,
        "large" => matches!(kind, Kind::Integer).then(|| "9223372036854775808".into())?,
        _ => value.to_string(),
    };
    Some(text)
}

/// Writes an object whose member `name` is the text `value`, among its other members.
fn object(others: &Value, name: &str, value: &str, variant: &str) -> String {
    let mut members: Vec<String> = Vec::new();
    for (other, value) in others.as_object().unwrap_or(&Map::new()) {
        if other != name {
            members.push(format!("{}: {value}", json!(other)));
        }
    }
    let key = match variant {
        "other case" => json!(name.to_uppercase()),
        _ => json!(name),
    };
    members.push(format!("{key}: {value}"));
    match variant {
        "twice" => members.push(format!("{key}: {value}")),
        "unknown beside" => members.push("\"unknown\": {\"path\": 1}".into()),
        _ => {}
    }
    format!("{{{}}}", members.join(", "))
}

/// A field of the schema: its way down, from the root.
type Trail = Vec<(&'static str, Kind)>;

fn trails(kind: Kind, above: &Trail, out: &mut Vec<Trail>) {
    let fields: &[Field] = match kind {
        Kind::Object(fields) => fields,
        Kind::List(item) => return trails(*item, above, out),
        _ => return,
    };
    for field in fields {
        let mut trail = above.clone();
        trail.push((field.name, field.kind));
        out.push(trail.clone());
        trails(field.kind, &trail, out);
    }
}

fn text(trail: &Trail, variant: &str, version: Version) -> Option<String> {
    let path = |depth: usize| trail[..depth].iter().map(|(name, _)| *name).collect::<Vec<_>>().join(".");
    let (name, kind) = *trail.last()?;
    let mut text = vary(variant, kind, &sample(&path(trail.len()), kind))?;
    let mut name = name;
    let mut variant = variant;
    for depth in (1..trail.len()).rev() {
        text = object(&needed(&path(depth)), name, &text, variant);
        variant = "";
        let (above, kind) = trail[depth - 1];
        if matches!(kind, Kind::List(_)) {
            text = format!("[{text}]");
        }
        name = above;
    }
    let version = json!({"version": version.name()});
    Some(match name {
        // The version goes into the same object, unless it is the subject itself.
        "ignition" if trail.len() > 1 && trail[1].0 != "version" => {
            let inner = text.strip_prefix('{')?.trim_end_matches(' ');
            format!("{{\"ignition\": {{\"version\": {}, {inner}}}", version["version"])
        }
        "ignition" => format!("{{\"ignition\": {text}}}"),
        name => object(&json!({"ignition": version}), name, &text, variant),
    })
}

/// All of them, in a fixed order.
pub(crate) fn all() -> Vec<Case> {
    let mut all = Vec::new();
    let mut fields = Vec::new();
    trails(CONFIG, &Vec::new(), &mut fields);
    for trail in &fields {
        let subject: Vec<_> = trail.iter().map(|(name, _)| *name).collect();
        for variant in VARIANTS {
            for version in Version::ALL {
                if let Some(text) = text(trail, variant, version) {
                    all.push(Case { subject: subject.join("."), variant, version, text });
                }
            }
        }
    }
    let written: toml::Table = toml::from_str(include_str!("../../oracle/configs.toml")).unwrap();
    for (subject, rest) in written {
        let rest = rest.as_str().unwrap();
        for version in Version::ALL {
            let whole = rest.contains("@VERSION@") || subject.starts_with("text: ");
            let text = if whole {
                rest.replace("@VERSION@", version.name())
            } else {
                format!("{{\"ignition\": {{\"version\": \"{version}\"}}, {rest}}}")
            };
            all.push(Case { subject: subject.clone(), variant: "as written", version, text });
        }
    }
    all
}
