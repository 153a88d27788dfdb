// SPDX-License-Identifier: Apache-2.0
//! What this build can't do yet. A config that asks for it is refused before anything is written.

use alloc::format;
use alloc::vec::Vec;

use super::remark::Remarks;
use super::types::{Config, Resource};
use super::validate::place_of;
use crate::diag::Diagnostic;
use crate::json::Path;
use crate::origin::Sources;
use crate::url::scheme;

/// Is told of the nodes that ask for it.
type Found<'f> = &'f mut dyn FnMut(&Path<'_>);

/// Something that can't be done yet.
struct Gap {
    /// What it would be: "this build of Fledge does not ... yet".
    what: &'static str,
    /// Names the nodes of a config that ask for it.
    find: fn(&Config, Found<'_>),
}

/// The gaps. Whoever closes one removes its row.
const GAPS: &[Gap] = &[
    Gap { what: "make RAID arrays", find: |config, found| each("storage", "raid", config.storage.raid.len(), found) },
    Gap { what: "make LUKS volumes", find: |config, found| each("storage", "luks", config.storage.luks.len(), found) },
    Gap { what: "format file systems", find: formatting },
    Gap { what: "use proxies", find: proxies },
    Gap { what: "change kernel arguments", find: kernel_arguments },
];

/// The schemes that can be fetched.
const SCHEMES: &[&str] = &["http", "https", "data"];

/// What a config asks for that this build of Fledge doesn't do yet. All are errors; without any, the list is empty.
pub fn unsupported(config: &Config, sources: &Sources) -> Vec<Diagnostic> {
    let mut remarks = Remarks::default();
    for gap in GAPS {
        (gap.find)(config, &mut |path| {
            remarks
                .error(path, format!("this build of Fledge does not {} yet", gap.what))
                .remedy("remove it from the config, or use Ignition on this machine");
        });
    }
    each_resource(config, &mut |path, resource| {
        let Some(scheme) = resource.source.as_deref().and_then(scheme) else { return };
        if !SCHEMES.contains(&&*scheme) {
            remarks
                .error(&path.key("source"), format!("this build of Fledge does not fetch from {scheme} URLs yet"))
                .remedy(format!("serve it from one of {}", SCHEMES.join(", ")));
        }
    });
    remarks.into_diagnostics_at("the merged config", |path| place_of(config, path, sources))
}

fn proxies(config: &Config, found: Found<'_>) {
    let proxy = &config.ignition.proxy;
    // `noProxy` alone asks for what is done anyway.
    let at = Path::ROOT.key("ignition");
    let at = at.key("proxy");
    for (name, url) in [("httpProxy", &proxy.http_proxy), ("httpsProxy", &proxy.https_proxy)] {
        if url.as_deref().is_some_and(|url| !url.is_empty()) {
            found(&at.key(name));
        }
    }
}

fn each(section: &str, list: &str, len: usize, found: Found<'_>) {
    let section = Path::ROOT.key(section);
    let list = section.key(list);
    for index in 0..len {
        found(&list.index(index));
    }
}

/// Whether an unformatted device has to be formatted is known only on the machine; there the stage refuses it.
fn formatting(config: &Config, found: Found<'_>) {
    let storage = Path::ROOT.key("storage");
    let list = storage.key("filesystems");
    for (index, filesystem) in config.storage.filesystems.iter().enumerate() {
        if filesystem.wipe_filesystem == Some(true) {
            found(&list.index(index).key("wipeFilesystem"));
        }
    }
}

fn kernel_arguments(config: &Config, found: Found<'_>) {
    each("kernelArguments", "shouldExist", config.kernel_arguments.should_exist.len(), found);
    each("kernelArguments", "shouldNotExist", config.kernel_arguments.should_not_exist.len(), found);
}

/// All resources but the key files of LUKS volumes, which are refused with their volume.
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
        let text = format!("{{\"ignition\": {{\"version\": \"3.6.0\"}}, {rest}}}");
        let config = parse(text.as_bytes(), "t", None).unwrap_or_else(|refusal| panic!("{refusal}")).config;
        unsupported(&config, &Sources::default()).into_iter().map(|d| d.place.path).collect()
    }

    #[test]
    fn what_this_build_does_is_not_refused() {
        let supported = "\"storage\": {\"disks\": [{\"device\": \"/d\"}], \"filesystems\": [{\"device\": \"/d\", \"format\": \"xfs\", \"path\": \"/var\", \"label\": \"x\"}],
            \"files\": [{\"path\": \"/a\", \"contents\": {\"source\": \"HTTPS://h/x\"}, \"append\": [{\"source\": \"http://h\"}, {\"source\": \"data:,\"}]}, {\"path\": \"/b\"}],
            \"directories\": [{\"path\": \"/c\"}], \"links\": [{\"path\": \"/l\", \"target\": \"x\"}]},
            \"passwd\": {\"users\": [{\"name\": \"u\"}], \"groups\": [{\"name\": \"g\"}]},
            \"systemd\": {\"units\": [{\"name\": \"a.service\"}]}, \"kernelArguments\": {\"shouldExist\": []}";
        assert_eq!(said(supported), Vec::<String>::new());
        assert_eq!(unsupported(&crate::config::empty(), &Sources::default()), []);
    }

    #[test]
    fn what_it_does_not_do_is_refused_each_where_it_stands() {
        for (rest, path) in [
            (
                "\"storage\": {\"raid\": [{\"name\": \"a\", \"level\": \"1\", \"devices\": [\"/d\"]}]}",
                "$.storage.raid.0",
            ),
            ("\"storage\": {\"luks\": [{\"name\": \"a\", \"device\": \"/d\"}]}", "$.storage.luks.0"),
            (
                "\"storage\": {\"filesystems\": [{\"device\": \"/d\", \"format\": \"xfs\", \"wipeFilesystem\": true}]}",
                "$.storage.filesystems.0.wipeFilesystem",
            ),
            ("\"kernelArguments\": {\"shouldExist\": [\"a\"]}", "$.kernelArguments.shouldExist.0"),
            ("\"kernelArguments\": {\"shouldNotExist\": [\"a\"]}", "$.kernelArguments.shouldNotExist.0"),
            (
                "\"storage\": {\"files\": [{\"path\": \"/a\", \"contents\": {\"source\": \"tftp://h/x\"}}]}",
                "$.storage.files.0.contents.source",
            ),
            (
                "\"storage\": {\"files\": [{\"path\": \"/a\", \"append\": [{\"source\": \"s3://b/k\"}]}]}",
                "$.storage.files.0.append.0.source",
            ),
        ] {
            assert_eq!(said(rest), [path], "{rest}");
        }
        let references = br#"{"ignition": {"version": "3.6.0", "config": {"merge": [{"source": "gs://b/o"}], "replace": {"source": "arn:aws:s3:::b/k"}},
            "security": {"tls": {"certificateAuthorities": [{"source": "s3://b/k"}]}}}}"#;
        let config = parse(references, "t", None).unwrap().config;
        let paths: Vec<_> = unsupported(&config, &Sources::default()).into_iter().map(|d| d.place.path).collect();
        assert_eq!(
            paths,
            [
                "$.ignition.config.replace.source",
                "$.ignition.config.merge.0.source",
                "$.ignition.security.tls.certificateAuthorities.0.source"
            ]
        );
    }
}
