// SPDX-License-Identifier: Apache-2.0
//! Google's Cloud Storage, by its JSON API ("Objects: get"); tokens come from the metadata service of Compute Engine ("Access
//! tokens for service accounts").

use fledge_core::diag::Failure;
use fledge_core::url::{Url, escape};

use super::{Cloud, Token, ask, bearer, member, metadata};
use crate::host::net::client::Consume;
use crate::host::net::{Method, Session};

pub(super) fn fetch(cloud: &Cloud, session: &Session, url: &Url, consume: Consume<'_>) -> Result<(), Failure> {
    let name = url.redacted();
    let path = url.decoded_path();
    let (bucket, object) = (escape(url.host(), false), escape(path.trim_start_matches('/'), false));
    let target = format!("https://storage.googleapis.com/storage/v1/b/{bucket}/o/{object}?alt=media");
    let target = Url::parse(&target).map_err(|why| Failure::new(format!("fetching {name}"), why.to_string()))?;
    let token = cloud.google_token.get(&|| token(cloud, session));
    let headers: Vec<_> = token.iter().map(|token| bearer(token)).collect();
    let Some(refusal) = ask(session, &name, &target, &headers, consume)? else { return Ok(()) };
    let (who, remedy) = match token {
        Ok(_) => (
            "the instance's service account".to_owned(),
            "allow the service account to read it (roles/storage.objectViewer)",
        ),
        Err(why) => (
            format!("nobody, since there is no token: {why}"),
            "let allUsers read it, or give the instance a service account",
        ),
    };
    let remedy = if refusal.status == 404 { "check the names of the bucket and the object" } else { remedy };
    Err(Failure::new(format!("fetching {name}"), format!("{refusal}, asked by {who}")).remedy(remedy))
}

fn token(cloud: &Cloud, session: &Session) -> Token {
    let host = cloud.google.as_ref().ok_or("this is no machine of Google's")?;
    let scope = "https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fdevstorage.read_only";
    let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token?scopes={scope}");
    let text = metadata(session, Method::Get, &url, Some(("metadata-flavor", "Google")))?;
    let text = text.ok_or("the instance has no service account")?;
    member(&text, "access_token").ok_or_else(|| "the metadata service's answer holds no token".into())
}
