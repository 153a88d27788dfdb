// SPDX-License-Identifier: Apache-2.0
//! `ignition`, `kernelArguments`, and what spans sections.

use alloc::format;

use super::common::said;
use crate::config::model::{Checking, KeyMap, Rules};
use crate::config::schema::REFERENCES_ARE_RESOURCES;
use crate::config::types::{
    Config, Ignition, IgnitionConfig, KernelArguments, Proxy, Resource, Security, Timeouts, Tls,
};
use crate::json::Path;
use crate::url::Url;

impl Rules for Config {
    /// A unit or drop-in and a file, directory or link may not be at one path.
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        let mut units = KeyMap::new();
        for (index, unit) in self.systemd.units.iter().enumerate() {
            let path = format!("/etc/systemd/system/{}", unit.name);
            for dropin in unit.dropins.iter().filter(|dropin| said(dropin.contents.as_ref()).is_some()) {
                units.insert(format!("{path}.d/{}", dropin.name), ("a drop-in of the unit", index));
            }
            if said(unit.contents.as_ref()).is_some() {
                units.insert(path, ("the unit", index));
            }
        }
        if units.is_empty() {
            return;
        }
        let storage = at.key("storage");
        let mut check = |list: &str, index: usize, path: &str| {
            if let Some((what, unit)) = units.get(path) {
                let reason = format!("{what} {at}.systemd.units.{unit} is written to {path} too");
                cx.remarks.error(&storage.key(list).index(index).key("path"), reason).remedy("keep one of them");
            }
        };
        for (index, file) in self.storage.files.iter().enumerate() {
            check("files", index, &file.path);
        }
        for (index, directory) in self.storage.directories.iter().enumerate() {
            check("directories", index, &directory.path);
        }
        for (index, link) in self.storage.links.iter().enumerate() {
            check("links", index, &link.path);
        }
    }
}

impl Rules for Ignition {
    /// The version was looked at before anything else.
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for IgnitionConfig {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        if cx.version < REFERENCES_ARE_RESOURCES {
            return;
        }
        let merge = at.key("merge");
        for (index, resource) in self.merge.iter().enumerate() {
            require_source(resource, &merge.index(index), cx);
        }
    }
}

impl Rules for Tls {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        let list = at.key("certificateAuthorities");
        for (index, resource) in self.certificate_authorities.iter().enumerate() {
            require_source(resource, &list.index(index), cx);
        }
    }
}

/// Says that a source is missing; what is wrong with one that is there, the resource itself says.
fn require_source(resource: &Resource, at: &Path<'_>, cx: &mut Checking<'_>) {
    if said(resource.source.as_ref()).is_none() {
        cx.remarks.error(at, "the source is missing").remedy("give the URL as \"source\", or remove the entry");
    }
}

impl Rules for Proxy {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        for (name, value) in [("httpProxy", &self.http_proxy), ("httpsProxy", &self.https_proxy)] {
            let Some(text) = value else { continue };
            let at = at.key(name);
            match Url::parse(text) {
                Err(error) => {
                    cx.remarks
                        .error(&at, format!("the URL of the proxy can't be read: {error}"))
                        .remedy("write it as http://HOST:PORT");
                }
                Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                    cx.remarks
                        .error(&at, format!("a proxy is spoken to by http or https, not {:?}", url.scheme()))
                        .remedy("write it as http://HOST:PORT");
                }
                Ok(url) if name == "httpsProxy" && url.scheme() == "http" => {
                    cx.remarks.warning(&at, "the proxy for https is spoken to without encryption");
                }
                Ok(_) => {}
            }
        }
    }
}

impl Rules for Security {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for Timeouts {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        if self.http_total.is_some_and(|seconds| seconds < 0) {
            cx.remarks
                .error(&at.key("httpTotal"), "the time for a fetch is negative: nothing could be fetched")
                .remedy("write 0 for no limit");
        }
        if self.http_response_headers.is_some_and(|seconds| seconds < 0) {
            cx.remarks
                .warning(&at.key("httpResponseHeaders"), "the number of seconds is negative; it is read as no limit")
                .remedy("write 0 for no limit");
        }
    }
}

impl Rules for KernelArguments {
    /// That no argument is both wanted and unwanted follows from the two lists being exclusive.
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        for (name, list) in [("shouldExist", &self.should_exist), ("shouldNotExist", &self.should_not_exist)] {
            let at = at.key(name);
            for (index, argument) in list.iter().enumerate() {
                if argument.text.trim().is_empty() {
                    cx.remarks.warning(&at.index(index), "the kernel argument is empty").remedy("remove the entry");
                }
            }
        }
    }
}
