// SPDX-License-Identifier: Apache-2.0
//! Objects in S3, as `s3` and `arn` URLs name them, and where they are asked for.
//!
//! | URL | what it names |
//! |---|---|
//! | `s3://BUCKET/KEY` | an object in the partition that the machine runs in, or in `aws` |
//! | `arn:PARTITION:s3:::BUCKET/KEY` | an object in that partition |
//! | `arn:PARTITION:s3:REGION:ACCOUNT:accesspoint/NAME/object/KEY` | an object behind an access point |
//!
//! Each with `?versionId=`. Host names are those of the dual-stack endpoints: Amazon S3's user guide, "Making requests over IPv6".

use alloc::format;
use alloc::string::{String, ToString as _};

use crate::url::{Url, escape};

/// Where the partition of a region has its servers, by how the region's name begins. The last row is for all others.
const SUFFIXES: &[(&str, &str)] = &[
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("", "amazonaws.com"),
];

/// A region of each partition that knows where all its buckets are.
const HINTS: &[(&str, &str)] = &[("aws", DEFAULT_REGION), ("aws-cn", "cn-north-1"), ("aws-us-gov", "us-gov-west-1")];

/// The region to ask when nothing says which.
pub const DEFAULT_REGION: &str = "us-east-1";

/// An object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Object {
    /// What holds it.
    pub holder: Holder,
    /// Its key.
    pub key: String,
    /// Its version, if a certain one is wanted.
    pub version: Option<String>,
}

/// What holds an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Holder {
    /// A bucket; its region is yet to be found.
    Bucket {
        /// Its name.
        name: String,
        /// A region of its partition, if the URL tells the partition.
        hint: Option<&'static str>,
    },
    /// An access point.
    AccessPoint {
        /// Its name.
        name: String,
        /// The account that it belongs to.
        account: String,
        /// Its region.
        region: String,
    },
}

impl Object {
    /// What an `s3` or `arn` URL names.
    ///
    /// # Errors
    /// Why it names no object in S3, as a clause.
    pub fn parse(url: &Url) -> Result<Self, &'static str> {
        let version = url.query_value("versionId");
        let (holder, key) = if url.scheme() == "s3" {
            let key = url.decoded_path().trim_start_matches('/').into();
            (Holder::Bucket { name: url.host().into(), hint: None }, key)
        } else {
            // An ARN has no escapes (AWS General Reference, "Amazon Resource Names").
            let no_object = "it is not the ARN of an object in S3";
            let mut parts = url.path().splitn(5, ':');
            let mut part = || parts.next().ok_or(no_object);
            let (partition, service, region, account, resource) = (part()?, part()?, part()?, part()?, part()?);
            if service != "s3" {
                return Err(no_object);
            }
            if let Some(rest) = resource.strip_prefix("accesspoint/") {
                let (name, rest) = rest.split_once('/').ok_or(no_object)?;
                let key = rest.strip_prefix("object/").ok_or(no_object)?;
                // They become parts of a host name.
                let is_word =
                    |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                if ![name, region, account].iter().all(is_word) {
                    return Err("it names no single access point (those of several regions are not supported)");
                }
                let (name, account, region) = (name.into(), account.into(), region.into());
                (Holder::AccessPoint { name, account, region }, key.into())
            } else {
                let (bucket, key) = resource.split_once('/').ok_or(no_object)?;
                // Whatever else stands before the key, the bucket is what follows the last colon.
                let name = bucket.rsplit(':').next().unwrap_or(bucket).into();
                let hint = HINTS.iter().find(|(name, _)| *name == partition).map(|(_, region)| *region);
                (Holder::Bucket { name, hint }, key.into())
            }
        };
        let object = Self { holder, key, version };
        let nameless = matches!(&object.holder, Holder::Bucket { name, .. } if name.is_empty());
        match () {
            () if nameless => Err("it names no bucket"),
            () if object.key.is_empty() => Err("it names no object in the bucket"),
            () => Ok(object),
        }
    }

    /// Its URL in a region, as requests to S3 have it.
    pub fn url(&self, region: &str) -> String {
        let mut url = format!("{}{}", self.holder.url(region), escape(&self.key, true));
        if let Some(version) = &self.version {
            url.push_str("?versionId=");
            url.push_str(&escape(version, false));
        }
        url
    }
}

impl Holder {
    /// Its own URL, with a slash at its end. A bucket's is in that region; an access point knows its own.
    pub fn url(&self, region: &str) -> String {
        let region = if let Self::AccessPoint { region, .. } = self { region } else { region };
        let suffix = SUFFIXES.iter().find(|(start, _)| region.starts_with(start)).map_or("", |(_, suffix)| *suffix);
        match self {
            Self::AccessPoint { name, account, .. } => {
                format!("https://{name}-{account}.s3-accesspoint.dualstack.{region}.{suffix}/")
            }
            Self::Bucket { name, .. } if is_label(name) => format!("https://{name}.s3.dualstack.{region}.{suffix}/"),
            // A certificate for *.s3... covers no dots.
            Self::Bucket { name, .. } => format!("https://s3.dualstack.{region}.{suffix}/{}/", escape(name, false)),
        }
    }
}

/// Whether a bucket's name can be a part of a host name.
fn is_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (3..=63).contains(&name.len()) && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

/// What an answer of S3 says about why there is no object: the code in its XML, such as `AccessDenied`.
pub fn error_code(body: &[u8]) -> Option<String> {
    let text = core::str::from_utf8(body).ok()?;
    let code = text.split_once("<Code>")?.1.split_once("</Code>")?.0;
    let plain = (1..64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| code.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Object, &'static str> {
        Object::parse(&Url::parse(text).unwrap())
    }

    #[test]
    fn buckets_are_named_by_both_schemes() {
        for (text, bucket, key, version, hint) in [
            ("s3://kola-fixtures/resources/anonymous", "kola-fixtures", "resources/anonymous", None, None),
            ("s3://b//a%20b%2fc", "b", "a b/c", None, None),
            ("s3://b/k?versionId=x%2By&other=1", "b", "k", Some("x+y"), None),
            ("arn:aws:s3:::kola-fixtures/resources/a", "kola-fixtures", "resources/a", None, Some("us-east-1")),
            ("arn:aws:s3:::b/a%20b?versionId=3", "b", "a%20b", Some("3"), Some("us-east-1")),
            ("arn:aws-cn:s3:::b/k", "b", "k", None, Some("cn-north-1")),
            ("arn:aws-us-gov:s3:::b/k", "b", "k", None, Some("us-gov-west-1")),
            ("arn:invalid:s3:::b/k", "b", "k", None, None),
            ("arn:aws:s3:::b//k", "b", "/k", None, Some("us-east-1")),
        ] {
            let object = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(object.holder, Holder::Bucket { name: bucket.into(), hint }, "{text}");
            assert_eq!((object.key.as_str(), object.version.as_deref()), (key, version), "{text}");
        }
    }

    #[test]
    fn access_points_are_named_by_arns() {
        let object = parse("arn:aws-cn:s3:cn-northwest-1:123456789012:accesspoint/test/object/path/object").unwrap();
        assert_eq!(object.key, "path/object");
        assert_eq!(
            object.url("another"),
            "https://test-123456789012.s3-accesspoint.dualstack.cn-northwest-1.amazonaws.com.cn/path/object"
        );
    }

    #[test]
    fn what_names_no_object_is_refused() {
        for text in [
            "arn:aws:iam:us-west-2:123456789012:resource",
            "arn:aws:s3:us-east-1:123456789012:accesspoint/test/object",
            "arn:aws:s3:us-east-1:123456789012:accesspoint/test/name",
            "arn:aws:s3::123456789012:accesspoint/test.mrap/object/key",
            "arn:aws:s3:evil.example/:123456789012:accesspoint/test/object/key",
            "arn:aws:s3:us-east-1:123456789012:accesspoint/te@st/object/key",
            "arn:aws:s3:::bucket",
            "arn:aws:s3:::bucket/",
            "arn:aws:s3:::/key",
            "arn:aws:s3",
            "s3://bucket",
            "s3://bucket/",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_host_is_that_of_the_region() {
        for (text, region, url) in [
            ("s3://my-bucket/a b/c", "eu-west-1", "https://my-bucket.s3.dualstack.eu-west-1.amazonaws.com/a%20b/c"),
            ("s3://my.bucket/k", "us-east-1", "https://s3.dualstack.us-east-1.amazonaws.com/my.bucket/k"),
            ("s3://Bucket/k", "us-east-1", "https://s3.dualstack.us-east-1.amazonaws.com/Bucket/k"),
            ("s3://my-bucket/k", "cn-north-1", "https://my-bucket.s3.dualstack.cn-north-1.amazonaws.com.cn/k"),
            ("s3://my-bucket/k", "us-gov-west-1", "https://my-bucket.s3.dualstack.us-gov-west-1.amazonaws.com/k"),
            ("s3://my-bucket/k", "us-isob-east-1", "https://my-bucket.s3.dualstack.us-isob-east-1.sc2s.sgov.gov/k"),
            (
                "s3://my-bucket/k?versionId=a/b",
                "us-east-1",
                "https://my-bucket.s3.dualstack.us-east-1.amazonaws.com/k?versionId=a%2Fb",
            ),
        ] {
            assert_eq!(parse(text).unwrap().url(region), url);
        }
    }

    #[test]
    fn the_code_of_an_error_is_found() {
        let body = b"<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
        assert_eq!(error_code(body).as_deref(), Some("AccessDenied"));
        for body in [&b""[..], b"<Code>", b"<Code></Code>", b"<Code>a b</Code>", b"\xff<Code>A</Code>"] {
            assert_eq!(error_code(body), None);
        }
    }
}
