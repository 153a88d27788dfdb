// SPDX-License-Identifier: Apache-2.0
//! What the specification has and no machine of ours can do. A config that asks for it is refused before anything is written.

use alloc::format;
use alloc::vec::Vec;

use super::remark::Remarks;
use super::types::{Config, Resource};
use super::validate::place_of;
use crate::diag::Diagnostic;
use crate::json::Path;
use crate::origin::Sources;
use crate::url::scheme;

/// What a config asks for that can't be done. All are errors; without any, the list is empty.
pub fn unsupported(config: &Config, sources: &Sources) -> Vec<Diagnostic> {
    let mut remarks = Remarks::default();
    let storage = Path::ROOT.key("storage");
    let list = storage.key("luks");
    for (index, luks) in config.storage.luks.iter().enumerate().filter(|(_, luks)| luks.cex.enabled == Some(true)) {
        remarks
            .error(
                &list.index(index).key("cex").key("enabled"),
                format!(
                    "Crypto Express cards are in s390x machines alone, and Fledge is not built for these: {:?} can't have its key there",
                    luks.name
                ),
            )
            .remedy("use keyFile or clevis, or Ignition on an s390x machine");
    }
    each_resource(config, &mut |path, resource| {
        let packed = resource.compression.as_deref().is_some_and(|name| !name.is_empty());
        // Not a gap of ours: Ignition refuses it too, but only when it comes to fetch it.
        if packed && resource.source.as_deref().and_then(scheme).is_some_and(|scheme| matches!(&*scheme, "s3" | "arn"))
        {
            remarks
                .error(&path.key("compression"), "what comes from S3 can't be decompressed")
                .remedy("store it uncompressed and remove the compression, or serve it by another scheme");
        }
    });
    remarks.into_diagnostics_at("the merged config", |path| place_of(config, path, sources))
}

/// All resources.
fn each_resource(config: &Config, visit: &mut dyn FnMut(&Path<'_>, &Resource)) {
    let ignition = Path::ROOT.key("ignition");
    let references = ignition.key("config");
    visit(&references.key("replace"), &config.ignition.config.replace);
    let merge = references.key("merge");
    for (index, resource) in config.ignition.config.merge.iter().enumerate() {
        visit(&merge.index(index), resource);
    }
    let (security, storage) = (ignition.key("security"), Path::ROOT.key("storage"));
    let tls = security.key("tls");
    let authorities = tls.key("certificateAuthorities");
    for (index, resource) in config.ignition.security.tls.certificate_authorities.iter().enumerate() {
        visit(&authorities.index(index), resource);
    }
    let luks = storage.key("luks");
    for (index, volume) in config.storage.luks.iter().enumerate() {
        visit(&luks.index(index).key("keyFile"), &volume.key_file);
    }
    let files = storage.key("files");
    for (index, file) in config.storage.files.iter().enumerate() {
        let at = files.index(index);
        visit(&at.key("contents"), &file.contents);
        let append = at.key("append");
        for (index, resource) in file.append.iter().enumerate() {
            visit(&append.index(index), resource);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::*;
    use crate::config::parse;

    fn said(rest: &str) -> Vec<String> {
        let text = format!("{{\"ignition\": {{\"version\": \"{}\"}}, {rest}}}", crate::config::Version::LATEST);
        let config = parse(text.as_bytes(), "t", None).unwrap_or_else(|refusal| panic!("{refusal}")).config;
        unsupported(&config, &Sources::default()).into_iter().map(|d| d.place.path).collect()
    }

    #[test]
    fn what_this_build_does_is_not_refused() {
        let supported = "\"storage\": {\"disks\": [{\"device\": \"/d\"}], \"filesystems\": [{\"device\": \"/d\", \"format\": \"xfs\", \"path\": \"/var\", \"label\": \"x\", \"wipeFilesystem\": true}],
             \"raid\": [{\"name\": \"a\", \"level\": \"1\", \"devices\": [\"/e\"]}],
            \"files\": [{\"path\": \"/a\", \"contents\": {\"source\": \"HTTPS://h/x\"}, \"append\": [{\"source\": \"http://h\"}, {\"source\": \"data:,\"}, {\"source\": \"s3://b/k\"}]},
            {\"path\": \"/b\", \"append\": [{\"source\": \"tftp://h/x\", \"compression\": \"gzip\"}, {\"source\": \"gs://b/o\", \"compression\": \"gzip\"}]}],
            \"directories\": [{\"path\": \"/c\"}], \"links\": [{\"path\": \"/l\", \"target\": \"x\"}]},
            \"passwd\": {\"users\": [{\"name\": \"u\"}], \"groups\": [{\"name\": \"g\"}]},
            \"systemd\": {\"units\": [{\"name\": \"a.service\"}]}, \"kernelArguments\": {\"shouldExist\": [\"a\"], \"shouldNotExist\": [\"b\"]}";
        assert_eq!(said(supported), Vec::<String>::new());
        assert_eq!(unsupported(&crate::config::empty(), &Sources::default()), []);
    }

    #[test]
    fn what_it_does_not_do_is_refused_each_where_it_stands() {
        for (rest, path) in [
            (
                "\"storage\": {\"luks\": [{\"name\": \"a\", \"device\": \"/d\", \"cex\": {\"enabled\": true}}]}",
                "$.storage.luks.0.cex.enabled",
            ),
            (
                "\"storage\": {\"luks\": [{\"name\": \"a\", \"device\": \"/d\", \"keyFile\": {\"source\": \"s3://b/k\", \"compression\": \"gzip\"}}]}",
                "$.storage.luks.0.keyFile.compression",
            ),
        ] {
            assert_eq!(said(rest), [path], "{rest}");
        }
    }

    #[test]
    fn what_comes_from_s3_is_not_decompressed_wherever_it_goes() {
        let text = br#"{"ignition": {"version": "3.6.0",
            "config": {"merge": [{"source": "s3://b/k", "compression": "gzip"}], "replace": {"source": "arn:aws:s3:::b/k", "compression": "gzip"}},
            "security": {"tls": {"certificateAuthorities": [{"source": "S3://b/c", "compression": "gzip"}]}}},
            "storage": {"files": [{"path": "/a", "contents": {"source": "s3://b/k", "compression": "gzip"},
            "append": [{"source": "s3://b/k"}, {"source": "s3://b/l", "compression": "gzip"}]}]}}"#;
        let config = parse(text, "t", None).unwrap().config;
        let paths: Vec<_> = unsupported(&config, &Sources::default()).into_iter().map(|d| d.place.path).collect();
        assert_eq!(
            paths,
            [
                "$.ignition.config.replace.compression",
                "$.ignition.config.merge.0.compression",
                "$.ignition.security.tls.certificateAuthorities.0.compression",
                "$.storage.files.0.contents.compression",
                "$.storage.files.0.append.1.compression"
            ]
        );
    }
}
