// SPDX-License-Identifier: Apache-2.0
//! Amazon's S3. Requests are signed if the instance has a role (Amazon EC2 User Guide, "Retrieve security credentials from
//! instance metadata"); in which region a bucket is, S3 itself says.

use fledge_core::diag::Failure;
use fledge_core::s3::{DEFAULT_REGION, Holder, Object};
use fledge_core::sigv4::{Credentials, sign};
use fledge_core::url::Url;

use super::{Cloud, METADATA, Refusal, ask, member, metadata};
use crate::host::clock;
use crate::host::net::client::Consume;
use crate::host::net::{Method, Request, Session};

/// S3 takes clocks that are wrong by up to 15 minutes; what is above this is the clock's fault, not the network's.
const SKEW: i64 = 240;

/// What an instance knows about itself.
#[derive(Clone)]
pub(super) struct Instance {
    region: Option<String>,
    /// Or why there are none.
    credentials: Result<Credentials, String>,
}

pub(super) fn fetch(cloud: &Cloud, session: &Session, url: &Url, consume: Consume<'_>) -> Result<(), Failure> {
    let name = url.redacted();
    let failed = |why: String| Failure::new(format!("fetching {name}"), why);
    let object = Object::parse(url).map_err(|why| {
        failed(why.into()).remedy("write s3://BUCKET/KEY, or the ARN of an object or of one behind an access point")
    })?;
    let instance = cloud.instance.get(&|| instance(cloud, session));
    let region = match &object.holder {
        Holder::AccessPoint { region, .. } => {
            if let Err(why) = &instance.credentials {
                let why = format!("access points can't be asked anonymously, and there are no credentials: {why}");
                return Err(failed(why).remedy("give the instance a role, or name the bucket itself"));
            }
            region.clone()
        }
        Holder::Bucket { name: bucket, hint } => {
            let hint = hint.or(instance.region.as_deref()).unwrap_or(DEFAULT_REGION);
            bucket_region(session, &name, &object.holder, hint)?.ok_or_else(|| {
                failed(format!("there is no bucket {bucket:?} in the partition of {hint}"))
                    .remedy("check the bucket's name; name another partition by an ARN (arn:aws-cn:s3:::BUCKET/KEY)")
            })?
        }
    };
    let target = Url::parse(&object.url(&region)).map_err(|why| failed(why.to_string()))?;
    let mut skew = 0;
    loop {
        let now = clock::unix() + skew;
        let headers = match &instance.credentials {
            Ok(credentials) => sign(&target, &region, credentials, &compact(now)),
            Err(_) => Vec::new(),
        };
        let Some(refusal) = ask(session, &name, &target, &headers, consume)? else { return Ok(()) };
        // A signature holds only around its time, and the clock of a first boot may be anywhere.
        let wrong = refusal.time.map_or(0, |time| time - now);
        if refusal.status == 403 && !headers.is_empty() && skew == 0 && wrong.abs() > SKEW {
            log::warn!("this machine's clock is off by {wrong} s; the request is signed again with S3's time");
            skew = wrong;
            continue;
        }
        return Err(refused(&name, &refusal, &instance));
    }
}

fn refused(name: &str, refusal: &Refusal, instance: &Instance) -> Failure {
    let (who, remedy) = match &instance.credentials {
        Ok(_) => ("the instance's role".to_owned(), "allow the instance's role s3:GetObject on it"),
        Err(why) => (
            format!("nobody, since there are no credentials: {why}"),
            "let everybody read it, or give the instance a role",
        ),
    };
    let remedy = if refusal.status == 404 { "check the key, and the version" } else { remedy };
    Failure::new(format!("fetching {name}"), format!("{refusal}, asked by {who}")).remedy(remedy)
}

/// Where a bucket is: every answer about it says so, even one that denies access.
fn bucket_region(session: &Session, name: &str, bucket: &Holder, hint: &str) -> Result<Option<String>, Failure> {
    let url = bucket.url(hint);
    let url = Url::parse(&url).map_err(|why| Failure::new(format!("fetching {name}"), why.to_string()))?;
    let mut region = None;
    let request = Request { method: Method::Head, name: Some(name), any_status: true, ..Request::get(&url, &[]) };
    session.ask(&request, &mut |answer| {
        region = answer.header("x-amz-bucket-region").map(str::to_owned);
        if region.is_none() && answer.status != 404 {
            region = Some(hint.into());
        }
        Ok(())
    })?;
    let valid = |region: &String| region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    Ok(region.filter(valid))
}

fn instance(cloud: &Cloud, session: &Session) -> Instance {
    if cloud.platform != "aws" {
        return Instance { region: None, credentials: Err("this is no machine in AWS".into()) };
    }
    let url = |path: &str| format!("http://{METADATA}/latest/{path}");
    let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", "21600");
    let token = match metadata(session, Method::Put, &url("api/token"), Some(ttl)) {
        Ok(token) => token,
        Err(why) => return Instance { region: None, credentials: Err(why) },
    };
    // Without a token it is the first version of the service, which wants none.
    let header = token.as_deref().map(|token| ("x-aws-ec2-metadata-token", token));
    let get = |path: &str| metadata(session, Method::Get, &url(path), header);
    let document = get("dynamic/instance-identity/document").ok().flatten();
    let region = document.and_then(|document| member(&document, "region"));
    let credentials = || {
        let roles = get("meta-data/iam/security-credentials/")?;
        let role = roles.as_deref().and_then(|roles| roles.lines().next()).filter(|role| !role.is_empty());
        let role = role.ok_or("the instance has no role")?;
        let text = get(&format!("meta-data/iam/security-credentials/{role}"))?.unwrap_or_default();
        let part =
            |name| member(&text, name).ok_or_else(|| format!("the credentials of the role {role} have no {name}"));
        Ok(Credentials { key: part("AccessKeyId")?, secret: part("SecretAccessKey")?, token: member(&text, "Token") })
    };
    let credentials = credentials();
    if let Err(why) = &credentials {
        let why: &String = why;
        log::warn!("S3 is asked anonymously: {why}");
    }
    Instance { region, credentials }
}

/// `YYYYMMDDTHHMMSSZ`.
fn compact(seconds: i64) -> String {
    clock::rfc3339(u64::try_from(seconds).unwrap_or_default()).replace(['-', ':'], "")
}
