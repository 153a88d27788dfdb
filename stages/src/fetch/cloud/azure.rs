// SPDX-License-Identifier: Apache-2.0
//! Azure's Blob Storage ("Authorize with Microsoft Entra ID"). A blob's URL is an https URL like any other; on Azure's machines it
//! is asked for with a token of the managed identity first, if there is one ("How to use managed identities on an Azure VM to
//! acquire an access token"), and then like any other.

use fledge_core::diag::Failure;
use fledge_core::url::Url;

use super::{Cloud, METADATA, Token, ask, bearer, member, metadata};
use crate::host::net::client::Consume;
use crate::host::net::{Method, Request, Session};

/// Tokens are for storage only from version 2017-11-09 on.
const VERSION: (&str, &str) = ("x-ms-version", "2020-10-02");

/// Whether a token may help. A URL with a signature says for itself who asks.
pub(super) fn concerns(cloud: &Cloud, url: &Url) -> bool {
    cloud.platform == "azure"
        && url.scheme() == "https"
        && url.port().is_none()
        && url.host().ends_with(".blob.core.windows.net")
        && url.query_value("sig").is_none()
}

pub(super) fn fetch(
    cloud: &Cloud,
    session: &Session,
    url: &Url,
    headers: &[(String, String)],
    consume: Consume<'_>,
) -> Result<(), Failure> {
    let refused = match cloud.azure_token.get(&|| token(session)) {
        Ok(token) => {
            let with_token = [bearer(&token), (VERSION.0.into(), VERSION.1.into())];
            match ask(session, &url.redacted(), url, &with_token, consume)? {
                None => return Ok(()),
                Some(refusal) => format!("asked by the machine's identity, {refusal}"),
            }
        }
        Err(why) => format!("there is no token of a managed identity: {why}"),
    };
    log::info!("{} is asked for anonymously: {refused}", url.redacted());
    session.ask(&Request::get(url, headers), consume).map_err(|mut failure| {
        failure.why = format!("{}; {refused}", failure.why);
        failure
    })
}

fn token(session: &Session) -> Token {
    let resource = "https%3A%2F%2Fstorage.azure.com%2F";
    let url = format!("http://{METADATA}/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}");
    let text = metadata(session, Method::Get, &url, Some(("metadata", "true")))?;
    let text = text.ok_or("the machine has none")?;
    member(&text, "access_token").ok_or_else(|| "the metadata service's answer holds no token".into())
}
