// SPDX-License-Identifier: Apache-2.0
//! Three clouds in a network namespace: metadata services at their usual address, and stores of objects under their real names,
//! with certificates of an authority of their own. They hold requests to the rules: signatures are computed anew (AWS Signature
//! Version 4, here with ring), tokens compared.

use std::collections::BTreeMap;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use ring::{digest, hmac};

use crate::http::{Exchange, Identity, Kind, Seen, Server};

/// Where metadata services are.
pub const METADATA: &str = "169.254.169.254";

/// The names that the stores have here.
pub const NAMES: &[&str] = &[
    "public-bucket.s3.dualstack.us-east-1.amazonaws.com",
    "private-bucket.s3.dualstack.us-east-1.amazonaws.com",
    "private-bucket.s3.dualstack.eu-west-1.amazonaws.com",
    "missing-bucket.s3.dualstack.us-east-1.amazonaws.com",
    "missing-bucket.s3.dualstack.eu-west-1.amazonaws.com",
    "public-bucket.s3.dualstack.eu-west-1.amazonaws.com",
    "china-bucket.s3.dualstack.cn-north-1.amazonaws.com.cn",
    "s3.dualstack.us-east-1.amazonaws.com",
    "point-123456789012.s3-accesspoint.dualstack.eu-west-1.amazonaws.com",
    "storage.googleapis.com",
    "account.blob.core.windows.net",
];

/// The buckets, their regions, and whether everybody may read them.
const BUCKETS: &[(&str, &str, bool)] = &[
    ("public-bucket", "us-east-1", true),
    ("private-bucket", "eu-west-1", false),
    ("china-bucket", "cn-north-1", true),
    ("dotted.bucket", "us-east-1", true),
    ("point", "eu-west-1", false),
];

const KEY: &str = "ASIAEXAMPLE";
const SECRET: &str = "a/secret+of/tests";
const TOKEN: &str = "session//token==";

/// What is the case in the clouds.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// Whether the instance has a role, a service account, a managed identity.
    pub known: bool,
    /// Whether AWS has only the first version of its metadata service.
    pub old_metadata: bool,
    /// How many seconds the clocks of the stores are ahead of this machine's.
    pub ahead: i64,
}

impl Default for World {
    fn default() -> Self {
        Self { known: true, old_metadata: false, ahead: 0 }
    }
}

/// The clouds, as long as they are wanted.
pub struct Clouds {
    /// The metadata services of all of them.
    pub metadata: Server,
    /// Their stores.
    pub stores: Server,
    /// The stores' certificate.
    pub identity: Identity,
}

impl Clouds {
    /// Starts them. The namespace has to have the address [`METADATA`], and [`NAMES`] for `127.0.0.1`.
    ///
    /// # Panics
    /// Something else listens there.
    pub fn start(world: World) -> Self {
        let identity = Identity::new(Kind::Good, NAMES).expect("names that can stand in a certificate");
        let metadata = Server::http_at(&format!("{METADATA}:80"), move |exchange| metadata(world, exchange));
        let stores = Server::https_at(&identity, "127.0.0.1:443", move |exchange| store(world, exchange));
        Self { metadata, stores, identity }
    }
}

fn metadata(world: World, exchange: &mut Exchange<'_>) -> io::Result<()> {
    let seen = exchange.seen.clone();
    let header = |name: &str| seen.headers.get(name).map_or("", String::as_str);
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let roles = "/latest/meta-data/iam/security-credentials/";
    let aws = world.old_metadata || header("x-aws-ec2-metadata-token") == "imds-token";
    let google = "/computeMetadata/v1/instance/service-accounts/default/token";
    let (status, body) = match path {
        "/latest/api/token" if world.old_metadata => (404, String::new()),
        "/latest/api/token" if seen.method != "PUT" || header("content-length") != "0" => (400, String::new()),
        "/latest/api/token" if header("x-aws-ec2-metadata-token-ttl-seconds") == "21600" => (200, "imds-token".into()),
        path if path.starts_with("/latest/") && !aws => (401, String::new()),
        "/latest/dynamic/instance-identity/document" => {
            (200, r#"{"accountId": "123456789012", "region": "eu-west-1", "version": "2017-09-30"}"#.into())
        }
        path if path.starts_with(roles) && !world.known => (404, String::new()),
        path if path == roles => (200, "reader\n".into()),
        path if path == format!("{roles}reader") => (
            200,
            format!(
                r#"{{"Code": "Success", "AccessKeyId": "{KEY}", "SecretAccessKey": "{SECRET}", "Token": "{TOKEN}",
                "Expiration": "2099-01-01T00:00:00Z"}}"#
            ),
        ),
        path if path == google && header("metadata-flavor") != "Google" => (403, String::new()),
        path if path == google && world.known && query.ends_with("%2Fauth%2Fdevstorage.read_only") => {
            (200, r#"{"access_token": "google-token", "expires_in": 3599, "token_type": "Bearer"}"#.into())
        }
        "/metadata/identity/oauth2/token" if header("metadata") != "true" => (400, String::new()),
        "/metadata/identity/oauth2/token"
            if world.known && query == "api-version=2018-02-01&resource=https%3A%2F%2Fstorage.azure.com%2F" =>
        {
            (200, r#"{"access_token": "azure-token", "expires_in": "3599", "token_type": "Bearer"}"#.into())
        }
        "/metadata/identity/oauth2/token" => (400, r#"{"error": "invalid_request"}"#.into()),
        _ => (404, String::new()),
    };
    exchange.reply(status, &[], body.as_bytes())
}

fn store(world: World, exchange: &mut Exchange<'_>) -> io::Result<()> {
    let seen = exchange.seen.clone();
    let host = seen.headers.get("host").cloned().unwrap_or_default();
    let bearer = seen.headers.get("authorization").map(String::as_str);
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    match host.as_str() {
        "storage.googleapis.com" => {
            let object = path.strip_prefix("/storage/v1/b/").and_then(|rest| rest.split_once("/o/"));
            let known = match bearer {
                None => false,
                Some("Bearer google-token") => true,
                Some(_) => return exchange.reply(401, &[], b""),
            };
            match object {
                _ if query != "alt=media" => exchange.reply(400, &[], b""),
                Some(("public", object)) => exchange.reply(200, &[], format!("public {object}").as_bytes()),
                Some(("private", object)) if known => exchange.reply(200, &[], format!("private {object}").as_bytes()),
                Some(("private", _)) => exchange.reply(401, &[], b"{}"),
                _ => exchange.reply(404, &[], b"{}"),
            }
        }
        "account.blob.core.windows.net" => {
            let version = seen.headers.get("x-ms-version").map_or("", String::as_str);
            match (path, bearer) {
                (_, Some(bearer)) if bearer != "Bearer azure-token" || version < "2017-11-09" => {
                    exchange.reply(401, &[], b"")
                }
                // What a machine may read and what everybody may read are two things.
                ("/public/file", None) => exchange.reply(200, &[], b"public file"),
                ("/private/file", Some(_)) => exchange.reply(200, &[], b"private file"),
                ("/private/file", None) if query == "sv=1&sig=abc" => exchange.reply(200, &[], b"signed file"),
                _ => exchange.reply(404, &[], b"<?xml version=\"1.0\"?><Error><Code>ResourceNotFound</Code></Error>"),
            }
        }
        _ => s3(world, exchange, &host, path, query),
    }
}

fn s3(world: World, exchange: &mut Exchange<'_>, host: &str, path: &str, query: &str) -> io::Result<()> {
    let seen = exchange.seen.clone();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let now = i64::try_from(now).unwrap_or_default() + world.ahead;
    let date = http_date(now);
    let refuse = |exchange: &mut Exchange<'_>, status: u16, code: &str, headers: &[(&str, &str)]| {
        let body = format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><RequestId>1</RequestId></Error>");
        let body = if seen.method == "HEAD" { String::new() } else { body };
        exchange.reply(status, &[headers, &[("Date", date.as_str())]].concat(), body.as_bytes())
    };
    let mut labels = host.split('.');
    let first = labels.next().unwrap_or_default();
    let region = labels.clone().nth(2).or(labels.clone().nth(1)).unwrap_or_default();
    let (bucket, region, key) = if first == "s3" {
        let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        (bucket, labels.nth(1).unwrap_or_default(), key)
    } else {
        (first.split_once("-1234").map_or(first, |(name, _)| name), region, path.trim_start_matches('/'))
    };
    let Some((_, home, public)) = BUCKETS.iter().find(|(name, ..)| *name == bucket) else {
        return refuse(exchange, 404, "NoSuchBucket", &[]);
    };
    let in_region = [("x-amz-bucket-region", *home)];
    if region != *home {
        return refuse(exchange, 301, "PermanentRedirect", &in_region);
    }
    let signed = seen.headers.contains_key("authorization");
    if signed {
        if let Err((status, code)) = check_signature(&seen, path, query, region, now) {
            return refuse(exchange, status, code, &in_region);
        }
    } else if !public {
        return refuse(exchange, 403, "AccessDenied", &in_region);
    }
    match (seen.method.as_str(), key) {
        ("HEAD", "") => exchange.reply(200, &in_region, b""),
        ("GET", "missing") => refuse(exchange, 404, "NoSuchKey", &in_region),
        ("GET", key) => {
            let who = if signed { "reader" } else { "nobody" };
            exchange.reply(200, &in_region, format!("{bucket} {} {query} for {who}", decode(key)).as_bytes())
        }
        _ => refuse(exchange, 405, "MethodNotAllowed", &in_region),
    }
}

/// Checks a request as S3 does: from what came over the wire.
fn check_signature(seen: &Seen, path: &str, query: &str, region: &str, now: i64) -> Result<(), (u16, &'static str)> {
    let malformed = (400, "AuthorizationHeaderMalformed");
    let header = |name: &str| seen.headers.get(name).map(String::as_str);
    let rest = header("authorization").and_then(|value| value.strip_prefix("AWS4-HMAC-SHA256 ")).ok_or(malformed)?;
    let parts: BTreeMap<&str, &str> = rest.split(',').filter_map(|part| part.trim().split_once('=')).collect();
    let part = |name: &str| parts.get(name).copied().ok_or(malformed);
    let (credential, signed, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
    let time = header("x-amz-date").ok_or(malformed)?;
    let (key, scope) = credential.split_once('/').ok_or(malformed)?;
    let day = time.get(..8).ok_or(malformed)?;
    if key != KEY || header("x-amz-security-token") != Some(TOKEN) {
        return Err((403, "InvalidAccessKeyId"));
    }
    if scope != format!("{day}/{region}/s3/aws4_request") {
        return Err(malformed);
    }
    if (unix(time).ok_or(malformed)? - now).abs() > 900 {
        return Err((403, "RequestTimeTooSkewed"));
    }
    let names: Vec<&str> = signed.split(';').collect();
    let must = seen.headers.keys().filter(|name| *name == "host" || name.starts_with("x-amz-"));
    if must.into_iter().any(|name| !names.contains(&name.as_str())) || !names.is_sorted() {
        return Err((403, "SignatureDoesNotMatch"));
    }
    let mut canonical = format!("{}\n{}\n", seen.method, encode(&decode(path), true));
    let mut pairs: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            format!("{}={}", encode(&decode(name), false), encode(&decode(value), false))
        })
        .collect();
    pairs.sort();
    canonical.push_str(&pairs.join("&"));
    canonical.push('\n');
    for name in &names {
        canonical.extend([name, ":", header(name).ok_or(malformed)?.trim(), "\n"]);
    }
    let content = header("x-amz-content-sha256").ok_or(malformed)?;
    if content != hex(digest::digest(&digest::SHA256, b"").as_ref()) {
        return Err((400, "XAmzContentSHA256Mismatch"));
    }
    canonical.extend(["\n", signed, "\n", content]);
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}");
    let sign = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    let mut tag = sign(format!("AWS4{SECRET}").as_bytes(), day);
    for part in [region, "s3", "aws4_request", text.as_str()] {
        tag = sign(tag.as_ref(), part);
    }
    if hex(tag.as_ref()) == signature { Ok(()) } else { Err((403, "SignatureDoesNotMatch")) }
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        let digits = if byte == b'%' { bytes.next().zip(bytes.next()) } else { None };
        let digits = digits.map(|(high, low)| String::from_utf8_lossy(&[high, low]).into_owned());
        out.push(digits.and_then(|digits| u8::from_str_radix(&digits, 16).ok()).unwrap_or(byte));
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn encode(text: &str, slashes: bool) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (slashes && byte == b'/');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// `date` knows calendars; this only has to be right.
fn date(args: &[&str]) -> Option<String> {
    let output = std::process::Command::new("date").arg("--utc").args(args).env("LC_ALL", "C").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn http_date(seconds: i64) -> String {
    date(&["--date", &format!("@{seconds}"), "+%a, %d %b %Y %H:%M:%S GMT"]).expect("date prints a date")
}

/// Seconds since 1970 of `YYYYMMDDTHHMMSSZ`.
fn unix(text: &str) -> Option<i64> {
    let (day, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (hours, minutes, seconds) = (time.get(..2)?, time.get(2..4)?, time.get(4..6)?);
    date(&["--date", &format!("{day} {hours}:{minutes}:{seconds}"), "+%s"])?.parse().ok()
}
