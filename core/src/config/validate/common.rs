// SPDX-License-Identifier: Apache-2.0
//! What several sections have in common.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use crate::config::model::Checking;
use crate::config::schema::{SCHEMES, accepted, listed};
use crate::dataurl::DataUrl;
use crate::json::Path;
use crate::path;
use crate::url::{Url, scheme};

/// The text of an optional field, if it says anything.
pub(super) fn said(value: Option<&String>) -> Option<&str> {
    value.map(String::as_str).filter(|text| !text.is_empty())
}

/// Where each key stands in its list; of equal ones the last. It inserts one by one, since collecting sorts, and each sort is
/// compiled anew.
pub(super) fn index_of<'k>(keys: &mut dyn Iterator<Item = &'k str>) -> BTreeMap<&'k str, usize> {
    let mut map = BTreeMap::new();
    for (index, key) in keys.enumerate() {
        map.insert(key, index);
    }
    map
}

/// Longest path, and longest name in it, in bytes (`include/uapi/linux/limits.h`, without the zero at the end).
const PATH_MAX: usize = 4095;
const NAME_MAX: usize = 255;

/// A path in the target: absolute and simplified, as Go's `path.Clean` has it.
pub(super) fn check_path(path: &str, at: &Path<'_>, cx: &mut Checking<'_>) {
    if path.is_empty() {
        cx.remarks.error(at, "the path is missing").remedy("give an absolute path");
    } else if !path.starts_with('/') {
        cx.remarks.error(at, format!("the path {path:?} is relative")).remedy("begin it with a slash");
    } else if path.contains('\0') {
        cx.remarks.error(at, "the path contains a NUL, which no path can").remedy("leave it out");
    } else if path.len() > PATH_MAX || path::names(path).any(|name| name.len() > NAME_MAX) {
        cx.remarks
            .error(
                at,
                format!("the path is longer than Linux allows: {PATH_MAX} bytes, {NAME_MAX} for each name in it"),
            )
            .remedy("shorten it");
    } else {
        let clean = path::clean(path);
        if clean != path {
            cx.remarks
                .error(at, format!("the path {path:?} is not in its simplest form"))
                .remedy(format!("write {clean:?}"));
        }
    }
}

/// What is wrong with the URL of a resource. The reason never repeats the URL: it may hold secrets.
pub(super) struct BadUrl {
    pub(super) reason: String,
    pub(super) remedy: Option<String>,
}

/// Checks the URL of a resource by the rules of a version.
pub(super) fn check_url(text: &str, cx: &Checking<'_>) -> Result<(), BadUrl> {
    let bad = |reason: String| BadUrl { reason, remedy: None };
    let Some(scheme) = scheme(text) else {
        let remedy = Some(format!("begin it with one of the schemes {}", listed(SCHEMES, cx.version)));
        return Err(BadUrl { reason: "the URL has no scheme".into(), remedy });
    };
    if let Err(since) = accepted(SCHEMES, &scheme, cx.version) {
        return Err(match since {
            Some(since) => BadUrl {
                reason: format!(
                    "URLs of the scheme {scheme:?} came with version {since}, this config says {}",
                    cx.version
                ),
                remedy: Some(format!("set ignition.version to {since} or later")),
            },
            None => BadUrl {
                reason: format!("{scheme:?} is no scheme that can be fetched"),
                remedy: Some(format!("use one of {}", listed(SCHEMES, cx.version))),
            },
        });
    }
    if scheme == "data" {
        let checked = DataUrl::parse(text).and_then(|url| url.check());
        return checked.map_err(|error| bad(format!("the data URL can't be read: {error}")));
    }
    let url = Url::parse(text).map_err(|error| bad(format!("the URL can't be read: {error}")))?;
    if scheme == "arn" && !is_s3_arn(&url) {
        return Err(BadUrl {
            reason: "this is not the ARN of an S3 object".into(),
            remedy: Some(
                "write it as arn:PARTITION:s3:::BUCKET/KEY, or with a region and account as \
                 arn:PARTITION:s3:REGION:ACCOUNT:accesspoint/NAME/object/KEY"
                    .into(),
            ),
        });
    }
    if matches!(&*scheme, "s3" | "arn") && url.query_value("versionId").is_some_and(|id| id.is_empty()) {
        return Err(BadUrl {
            reason: "the versionId in its query is empty".into(),
            remedy: Some("name a version, or leave versionId out".into()),
        });
    }
    Ok(())
}

/// As upstream: the first four parts behind `arn:` may be anything, the service is `s3`, and there is a key behind a slash.
fn is_s3_arn(url: &Url) -> bool {
    let mut parts = url.path().splitn(5, ':');
    let service = parts.nth(1);
    let resource = parts.nth(2);
    let slashes = url.path().matches('/').count();
    match (service, resource) {
        (Some("s3"), Some(resource)) if resource.starts_with("accesspoint/") => slashes >= 2,
        (Some("s3"), Some(_)) => slashes >= 1,
        _ => false,
    }
}

/// Checks an optional URL that may also be empty.
pub(super) fn check_optional_url(source: Option<&String>, at: &Path<'_>, cx: &mut Checking<'_>) {
    if let Some(text) = said(source) {
        if let Err(bad) = check_url(text, cx) {
            report_url(bad, at, cx);
        }
    }
}

/// Says what is wrong with a URL.
pub(super) fn report_url(bad: BadUrl, at: &Path<'_>, cx: &mut Checking<'_>) {
    let remark = cx.remarks.error(at, bad.reason);
    if let Some(remedy) = bad.remedy {
        remark.remedy(remedy);
    }
}
