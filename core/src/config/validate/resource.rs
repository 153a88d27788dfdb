// SPDX-License-Identifier: Apache-2.0
//! Contents that come from a URL.

use alloc::format;

use super::common::{check_optional_url, said};
use crate::config::model::{Checking, Rules};
use crate::config::schema::{HASHES, REFERENCES_ARE_RESOURCES, accepted, listed};
use crate::config::types::{HttpHeader, Resource, Verification};
use crate::json::{Path, Step};
use crate::url::scheme;
use crate::verification::{Expected, ExpectedError};

impl Rules for Resource {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        if let Some(other) = self.compression.as_deref().filter(|name| !matches!(*name, "" | "gzip")) {
            cx.remarks
                .error(&at.key("compression"), format!("{other:?} is no compression that is known here"))
                .remedy("use \"gzip\", or leave it out");
        }
        let reference = at.first() == Some(Step::Key("ignition")) && cx.version < REFERENCES_ARE_RESOURCES;
        if self.verification.hash.is_some() && self.source.is_none() && !reference {
            cx.remarks
                .error(&at.key("verification").key("hash"), "a hash is given, but no source that could have it")
                .remedy("give a source, or remove the verification");
        }
        check_optional_url(self.source.as_ref(), &at.key("source"), cx);
        if !self.http_headers.is_empty() {
            let http =
                said(self.source.as_ref()).and_then(scheme).is_some_and(|scheme| matches!(&*scheme, "http" | "https"));
            if !http {
                cx.remarks
                    .error(&at.key("httpHeaders"), "headers are sent only to http and https URLs")
                    .remedy("remove the headers");
            }
        }
    }
}

impl Rules for HttpHeader {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        let name = at.key("name");
        if self.name.is_empty() {
            cx.remarks.error(&name, "the header has no name").remedy("name it, or remove the entry");
        } else if token(&self.name) != self.name {
            cx.remarks
                .error(
                    &name,
                    format!(
                        "behind {:?}, the name of the header has a character that no such name has",
                        token(&self.name)
                    ),
                )
                .remedy("use letters, digits and !#$%&'*+-.^_`|~ only");
        }
        let value = at.key("value");
        match self.value.as_deref() {
            Some("") => {
                cx.remarks
                    .error(&value, "the value of the header is empty")
                    .remedy("give a value, or leave it out to remove the header of a parent config");
            }
            Some(text) if text.chars().any(|c| c.is_control() && c != '\t') => {
                cx.remarks.error(&value, "the value of the header contains a control character");
            }
            _ => {}
        }
    }
}

/// What of a header's name may be shown: up to the first character that isn't of a token (RFC 9110, 5.6.2). Who writes a whole line
/// for the name writes a secret behind it.
pub fn token(name: &str) -> &str {
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && !"!#$%&'*+-.^_`|~".contains(c));
    name.get(..end.unwrap_or(name.len())).unwrap_or_default()
}

impl Rules for Verification {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        let Some(text) = &self.hash else { return };
        let at = at.key("hash");
        let functions = listed(HASHES, cx.version);
        let function = text.split_once('-').map_or("", |(function, _)| function);
        if let Err(Some(since)) = accepted(HASHES, function, cx.version) {
            cx.remarks
                .error(&at, format!("{function} came with version {since}, this config says {}", cx.version))
                .remedy(format!("set ignition.version to {since} or later, or use {functions}"));
            return;
        }
        let Err(error) = Expected::parse(text) else { return };
        let reason = format!("the hash can't be right: {error}");
        let remark = cx.remarks.error(&at, reason);
        match error {
            ExpectedError::Malformed | ExpectedError::Function(_) => {
                remark.remedy(format!("write FUNCTION-HEX with one of {functions}"));
            }
            ExpectedError::Length { function, .. } => {
                remark.remedy(format!("copy the whole output of {}sum", function.name()));
            }
            ExpectedError::Digits => {}
        }
    }
}
