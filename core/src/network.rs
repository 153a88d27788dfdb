// SPDX-License-Identifier: Apache-2.0
//! Whether carrying out a configuration takes a network.

use alloc::string::String;
use alloc::vec::Vec;

use crate::config::{Config, Resource};
use crate::url;

/// What in a configuration needs a network, in words fit for a log; empty if nothing does.
///
/// That are resources with any URL but a `data` URL, and disks that are bound to a Tang server whose advertisement isn't given, or
/// to a custom Clevis pin that says so.
pub fn needs(config: &Config) -> Vec<String> {
    let ignition = &config.ignition;
    let mut resources: Vec<&Resource> = Vec::new();
    resources.push(&ignition.config.replace);
    resources.extend(&ignition.config.merge);
    resources.extend(&ignition.security.tls.certificate_authorities);
    for file in &config.storage.files {
        resources.push(&file.contents);
        resources.extend(&file.append);
    }
    resources.extend(config.storage.luks.iter().map(|luks| &luks.key_file));
    let sources = resources.into_iter().filter_map(|resource| resource.source.as_deref());
    let mut needs: Vec<String> = sources.filter(|source| is_remote(source)).map(url::redact).collect();
    for luks in &config.storage.luks {
        let tangs = luks.clevis.tang.iter().filter(|tang| tang.advertisement.as_deref().unwrap_or_default().is_empty());
        needs.extend(tangs.map(|tang| url::redact(&tang.url)));
        if luks.clevis.custom.needs_network == Some(true) {
            needs.push(alloc::format!("the Clevis pin of the LUKS volume {}", luks.name));
        }
    }
    needs
}

/// Whether a resource's URL leads out of the configuration.
pub fn is_remote(source: &str) -> bool {
    !source.is_empty() && url::scheme(source).is_none_or(|scheme| scheme != "data")
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::config::schema::{CONFIG, Kind};
    use crate::config::{parse, read_cache};

    fn needs_of(rest: &str) -> Vec<String> {
        let text = format!(r#"{{"ignition": {{"version": "3.6.0"}}{rest}}}"#);
        needs(&parse(text.as_bytes(), "test", None).unwrap().config)
    }

    #[test]
    fn only_what_is_not_at_hand_needs_a_network() {
        for (rest, expected) in [
            ("", &[][..]),
            (r#", "storage": {"files": [{"path": "/a", "contents": {"source": "data:,a"}}, {"path": "/b"}]}"#, &[]),
            (
                r#", "storage": {"files": [{"path": "/a", "contents": {"source": "https://u:p@h/a?t=1"}},
                    {"path": "/b", "append": [{"source": "tftp://h/b"}]}]}"#,
                &["https://h/a?t=...", "tftp://h/b"],
            ),
            (
                r#", "storage": {"files": [{"path": "/a", "contents": {"source": "s3://b/k?versionId=1"}},
                    {"path": "/b", "append": [{"source": "arn:aws:s3:::b/k"}, {"source": "gs://b/o"}]}]}"#,
                &["s3://b/k?versionId=...", "arn:aws:s3:::b/k", "gs://b/o"],
            ),
            (
                r#", "storage": {"luks": [{"name": "x", "device": "/dev/x", "clevis": {"tang": [
                    {"url": "http://tang", "thumbprint": "t", "advertisement": "{}"}]}}]}"#,
                &[],
            ),
            (
                r#", "storage": {"luks": [{"name": "x", "device": "/dev/x", "keyFile": {"source": "http://h/k"},
                    "clevis": {"tang": [{"url": "http://tang", "thumbprint": "t"}]}}]}"#,
                &["http://h/k", "http://tang"],
            ),
            (
                r#", "storage": {"luks": [{"name": "x", "device": "/dev/x", "clevis": {"custom":
                    {"pin": "tpm2", "config": "{}", "needsNetwork": true}}}]}"#,
                &["the Clevis pin of the LUKS volume x"],
            ),
        ] {
            assert_eq!(needs_of(rest), expected, "{rest}");
        }
    }

    /// A configuration with a remote source wherever the schema has room for one.
    #[test]
    fn no_place_for_a_resource_is_forgotten() {
        fn fill(kind: &Kind, count: &mut usize) -> String {
            match kind {
                Kind::Text => r#""x""#.into(),
                Kind::Integer => "1".into(),
                Kind::Boolean => "false".into(),
                Kind::List(inner) => format!("[{}]", fill(inner, count)),
                Kind::Object(fields) => {
                    let is_resource = fields.iter().any(|field| field.name == "verification");
                    *count += usize::from(is_resource);
                    let members = fields.iter().map(|field| match field.name {
                        "source" if is_resource => r#""source": "http://h/x""#.into(),
                        name => format!("{name:?}: {}", fill(&field.kind, count)),
                    });
                    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
                }
            }
        }
        let mut count = 0;
        let text = fill(&CONFIG, &mut count);
        let config = read_cache(text.as_bytes(), "test").unwrap();
        assert!(count > 5, "{count}");
        assert_eq!(needs(&config).iter().filter(|need| *need == "http://h/x").count(), count);
    }
}
