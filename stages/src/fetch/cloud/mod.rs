// SPDX-License-Identifier: Apache-2.0
//! Stores of objects that clouds have, and who a machine is there: credentials come from its metadata service, never from a
//! configuration. Where there are none, objects are asked for anonymously.
//!
//! | module | URLs | credentials, and where they are looked for |
//! |---|---|---|
//! | [`s3`] | `s3:`, `arn:` | those of the instance's role, on the platform `aws` |
//! | [`google`] | `gs:` | a token of the instance's service account, on Google's machines |
//! | [`azure`] | `https://*.blob.core.windows.net/` | a token of the managed identity, on the platform `azure` |

mod azure;
mod google;
mod s3;

use std::fmt;
use std::io::Read;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fledge_core::diag::Failure;
use fledge_core::json::Node;
use fledge_core::s3::error_code;
use fledge_core::url::Url;

use super::Conditions;
use crate::host::dmi;
use crate::host::net::cause::Shown;
use crate::host::net::client::Consume;
use crate::host::net::{Method, Request, Session};

/// Where the metadata services of all three are.
const METADATA: &str = "169.254.169.254";
/// How long a metadata service may take. It is near; if it doesn't answer, there is none.
const PATIENCE: Duration = Duration::from_secs(30);
/// Credentials are good for five minutes more than they are remembered, and longer.
const FRESH: Duration = Duration::from_secs(300);

/// Who this machine is to its cloud, as far as it is known.
pub(crate) struct Cloud {
    platform: String,
    google: Option<String>,
    instance: Remembered<s3::Instance>,
    google_token: Remembered<Token>,
    azure_token: Remembered<Token>,
}

/// A token, or why there is none.
type Token = Result<String, String>;

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cloud")
    }
}

impl Cloud {
    pub(crate) fn new(conditions: &Conditions) -> Self {
        Self {
            platform: conditions.platform.clone(),
            google: conditions.google.clone(),
            instance: Remembered::default(),
            google_token: Remembered::default(),
            azure_token: Remembered::default(),
        }
    }

    /// Fetches a URL of any scheme that takes a network.
    pub(crate) fn fetch(
        &self,
        session: &Session,
        url: &Url,
        headers: &[(String, String)],
        consume: Consume<'_>,
    ) -> Result<(), Failure> {
        match url.scheme() {
            "s3" | "arn" => s3::fetch(self, session, url, consume),
            "gs" => google::fetch(self, session, url, consume),
            _ if azure::concerns(self, url) => azure::fetch(self, session, url, headers, consume),
            _ => session.ask(&Request::get(url, headers), consume),
        }
    }
}

/// Where Google's metadata service is, if this is a machine of Google's: `GCE_METADATA_HOST` as Google's own libraries have it, or
/// its usual address if the firmware says so.
pub(crate) fn google_metadata(platform: &str) -> Option<String> {
    match std::env::var("GCE_METADATA_HOST") {
        Ok(host) if !host.is_empty() => Some(host),
        _ => {
            let is_google = platform == "gcp" || ["Google", "Google Compute Engine"].contains(&&*dmi::product_name());
            is_google.then(|| METADATA.into())
        }
    }
}

/// What was found out is asked for again only when it may have changed.
struct Remembered<T>(Mutex<Option<(Instant, T)>>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Remembered<T> {
    /// Others who ask meanwhile wait for the answer.
    fn get(&self, find: &dyn Fn() -> T) -> T {
        let Ok(mut known) = self.0.lock() else { return find() };
        match &*known {
            Some((since, found)) if since.elapsed() < FRESH => found.clone(),
            _ => {
                let found = find();
                *known = Some((Instant::now(), found.clone()));
                found
            }
        }
    }
}

/// An answer that isn't the object.
struct Refusal {
    status: u16,
    /// The server's own word for it.
    code: Option<String>,
    /// The server's clock.
    time: Option<i64>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", Shown(self.status))?;
        match &self.code {
            Some(code) => write!(f, " ({code})"),
            None => Ok(()),
        }
    }
}

/// Asks for an object; `None` if `consume` got it.
fn ask(
    session: &Session,
    name: &str,
    url: &Url,
    headers: &[(String, String)],
    consume: Consume<'_>,
) -> Result<Option<Refusal>, Failure> {
    let mut refusal = None;
    let request = Request { name: Some(name), any_status: true, ..Request::get(url, headers) };
    session.ask(&request, &mut |answer| {
        if matches!(answer.status, 200 | 204) {
            return consume(answer);
        }
        let time = answer.header("date").and_then(fledge_core::date::of_http);
        let mut body = Vec::new();
        // What it says is of use, but not needed.
        let _ = answer.body.take(4096).read_to_end(&mut body);
        refusal = Some(Refusal { status: answer.status, code: error_code(&body), time });
        Ok(())
    })?;
    Ok(refusal)
}

/// Asks a metadata service. `None` if it has nothing of the kind.
fn metadata(
    session: &Session,
    method: Method,
    url: &str,
    header: Option<(&str, &str)>,
) -> Result<Option<String>, String> {
    let url = Url::parse(url).map_err(|why| why.to_string())?;
    let headers: Vec<_> = header.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut text = None;
    let request = Request {
        method,
        name: Some("metadata"),
        any_status: true,
        metadata: Some(PATIENCE),
        ..Request::get(&url, &headers)
    };
    let result = session.ask(&request, &mut |answer| {
        let mut body = Vec::new();
        let whole = answer.body.take(64 << 10).read_to_end(&mut body);
        if matches!(answer.status, 200) && whole.is_ok() {
            text = String::from_utf8(body).ok();
        }
        Ok(())
    });
    result.map(|()| text).map_err(|failure| format!("{} failed: {}", failure.what, failure.why))
}

/// A text member of a JSON object.
fn member(text: &str, name: &str) -> Option<String> {
    let Ok(Node::Object(members)) = Node::parse(text) else { return None };
    members.into_iter().find_map(|(key, value)| match value {
        Node::Text(value) if key == name && !value.is_empty() => Some(value.into_owned()),
        _ => None,
    })
}

/// A header that carries a token.
fn bearer(token: &str) -> (String, String) {
    ("authorization".into(), format!("Bearer {token}"))
}
