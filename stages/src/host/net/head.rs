// SPDX-License-Identifier: Apache-2.0
//! What stands at the head of a request.

use fledge_core::config::token;
use fledge_core::url::Url;
use ureq::http::{self, HeaderMap, HeaderName, HeaderValue, header};

use super::resolver::NameError;
use super::way::credentials;

/// The version of Ignition whose behaviour servers may count on: some choose by it which form of a config they send.
const USER_AGENT: &str = "Ignition/2.26.0";
const ACCEPT: &str = "application/vnd.coreos.ignition+json;version=3.6.0, */*;q=0.1";

/// What goes over the wire: no credentials, everything escaped that has to be.
pub(super) fn uri(url: &Url) -> Result<http::Uri, String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("its scheme is {}, not http or https", url.scheme()));
    }
    if !url.host().is_ascii() {
        return Err(NameError::Invalid(url.host().into()).to_string());
    }
    http::Uri::builder()
        .scheme(url.scheme())
        .authority(url.authority())
        .path_and_query(url.request_target())
        .build()
        .map_err(|error| error.to_string())
}

/// Our headers, replaced by the configuration's. Of two with one name the last counts, and those that describe the message itself
/// are not for a configuration to say: both as Ignition has it.
pub(super) fn headers(configured: &[(String, String)], target: &Url) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    map.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    map.insert(header::ACCEPT, HeaderValue::from_static(ACCEPT));
    map.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    if target.host().contains('%') {
        // A zone is for this machine alone.
        map.insert(header::HOST, HeaderValue::from_str(&target.host_header()).map_err(|error| error.to_string())?);
    }
    authorize(&mut map, header::AUTHORIZATION, target)?;
    for (name, value) in configured {
        // What follows a character that no name has may be a secret.
        let wrong = |what: &str| format!("the header {:?} has a {what} that HTTP doesn't allow", token(name));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("name"))?;
        let mut value = HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|_| wrong("value"))?;
        value.set_sensitive(true);
        if ![header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TRAILER].contains(&name) {
            map.insert(name, value);
        }
    }
    Ok(map)
}

/// Tells the proxy who asks, if its URL says so.
pub(super) fn authorize_proxy(map: &mut HeaderMap, proxy: &Url) -> Result<(), String> {
    authorize(map, header::PROXY_AUTHORIZATION, proxy)
}

fn authorize(map: &mut HeaderMap, name: HeaderName, url: &Url) -> Result<(), String> {
    if let Some(credentials) = credentials(url) {
        let mut value = HeaderValue::from_str(&credentials).map_err(|error| error.to_string())?;
        value.set_sensitive(true);
        map.insert(name, value);
    }
    Ok(())
}
