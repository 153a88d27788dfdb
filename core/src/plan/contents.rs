// SPDX-License-Identifier: Apache-2.0
//! Where the bytes of a file come from, and what can be said about them without fetching them.

use alloc::format;
use alloc::string::String;
use core::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256, Sha512};

use super::{Contents, Digest};
use crate::config::Resource;

/// The hash of a resource's contents, if it is known without fetching it: verified ones say it themselves. As in facts,
/// `sha512-` or `sha256-` and hexadecimal digits.
pub fn known_digest(resource: &Resource) -> Option<String> {
    if resource.source.as_deref() == Some("") {
        return Some(Digest::Sha512.of(b""));
    }
    let hash = resource.verification.hash.as_deref()?;
    (hash.starts_with("sha512-") || hash.starts_with("sha256-")).then(|| hash.to_ascii_lowercase())
}

impl Digest {
    /// The hash of some bytes, in the form that facts have.
    pub fn of(self, bytes: &[u8]) -> String {
        match self {
            Self::Sha256 => format!("sha256-{}", HEXLOWER.encode(&Sha256::digest(bytes))),
            Self::Sha512 => format!("sha512-{}", HEXLOWER.encode(&Sha512::digest(bytes))),
        }
    }
}

/// A URL without what may be secret: user, password, query, fragment, and the data of a data URL.
pub fn shown_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once(':') else { return "a URL without a scheme".into() };
    if scheme.eq_ignore_ascii_case("data") {
        return "a data URL".into();
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let Some(rest) = rest.strip_prefix("//") else { return format!("{scheme}:{rest}") };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Resource(resource) => {
                match resource.source.as_deref() {
                    None | Some("") => f.write_str("nothing")?,
                    Some(source) => f.write_str(&shown_url(source))?,
                }
                if resource.compression.as_deref().is_some_and(|compression| !compression.is_empty()) {
                    f.write_str(", decompressed")?;
                }
                if resource.verification.hash.is_some() {
                    f.write_str(", verified")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Contents {
    /// As in plans: contents may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_has_no_secrets() {
        for (url, shown) in [
            ("https://user:pass@example.com:8443/a/b?token=x#y", "https://example.com:8443/a/b"),
            ("http://example.com", "http://example.com"),
            ("s3://bucket/key?versionId=1", "s3://bucket/key"),
            ("arn:aws:s3:::bucket/key", "arn:aws:s3:::bucket/key"),
            ("data:,secret", "a data URL"),
            ("DATA:;base64,c2VjcmV0", "a data URL"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }
}
