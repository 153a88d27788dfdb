// SPDX-License-Identifier: Apache-2.0
//! An http or https URL as it goes over the wire: credentials apart, no fragment, what RFC 3986 doesn't allow escaped.

use std::fmt::Write as _;

use data_encoding::BASE64;
use ureq::http::Uri;

/// Where a request goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    scheme: &'static str,
    authority: String,
    /// Path and query, from the slash.
    path: String,
    credentials: Option<String>,
}

impl Target {
    /// Reads an absolute URL.
    ///
    /// # Errors
    /// What is wrong with it, as a clause.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("it is no absolute URL")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => "http",
            "https" => "https",
            other => return Err(format!("its scheme is {other}, not http or https")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (userinfo, authority) = match authority.rsplit_once('@') {
            Some((userinfo, authority)) => (Some(userinfo), authority),
            None => (None, authority),
        };
        let path = escape(path);
        let target = Self {
            scheme,
            authority: authority.into(),
            path: if path.starts_with('/') { path } else { format!("/{path}") },
            credentials: userinfo.map(|userinfo| format!("Basic {}", BASE64.encode(&unescape(userinfo)))),
        };
        target.uri()?;
        Ok(target)
    }

    /// Follows a `Location` (RFC 3986, section 5.2).
    ///
    /// # Errors
    /// Why it can't be followed, as a clause.
    pub(crate) fn join(&self, location: &str) -> Result<Self, String> {
        let location = location.trim();
        let reference = location.split('#').next().unwrap_or_default();
        if let Some((scheme, _)) = reference.split_once(':') {
            let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
            if scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(is_scheme) {
                return Self::parse(reference);
            }
        }
        if reference.starts_with("//") {
            return Self::parse(&format!("{}:{reference}", self.scheme));
        }
        let (base, _) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let path = match reference.chars().next() {
            None => self.path.clone(),
            Some('/') => reference.into(),
            Some('?') => format!("{base}{reference}"),
            Some(_) => format!(
                "{}{reference}",
                base.rsplit_once('/').map_or("/", |(folder, _)| base.split_at(folder.len() + 1).0)
            ),
        };
        Self::parse(&format!("{}://{}{}", self.scheme, self.authority, without_dots(&path)))
    }

    /// For the request.
    ///
    /// # Errors
    /// What is wrong with the URL, as a clause.
    pub(crate) fn uri(&self) -> Result<Uri, String> {
        let uri = format!("{}://{}{}", self.scheme, self.authority, self.path);
        let uri: Uri = uri.parse().map_err(|error: ureq::http::uri::InvalidUri| error.to_string())?;
        match uri.host() {
            Some(host) if !host.is_empty() => Ok(uri),
            _ => Err("it names no host".into()),
        }
    }

    /// Whether it needs TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.scheme == "https"
    }

    /// The `Authorization` that the URL itself carries.
    pub(crate) fn credentials(&self) -> Option<&str> {
        self.credentials.as_deref()
    }

    /// For people: without what may be a secret.
    pub(crate) fn shown(&self) -> String {
        let (path, query) = self.path.split_once('?').map_or((self.path.as_str(), ""), |(path, _)| (path, "?..."));
        format!("{}://{}{path}{query}", self.scheme, self.authority)
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            escaped.push(byte.into());
        } else {
            // Writing to a String can't fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *byte == b'%').and_then(|code| std::str::from_utf8(code).ok());
        if let Some(code) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            bytes.push(code);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(*byte);
            rest = after;
        }
    }
    bytes
}

/// Removes `.` and `..` from the path of a reference (RFC 3986, section 5.2.4).
fn without_dots(reference: &str) -> String {
    let (path, query) = reference.split_at(reference.find('?').unwrap_or(reference.len()));
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(target: &Target) -> String {
        target.uri().unwrap().to_string()
    }

    #[test]
    fn a_url_is_made_fit_for_the_wire() {
        for (url, expected) in [
            ("http://h", "http://h/"),
            ("HTTPS://h:8443/a?b=c#d", "https://h:8443/a?b=c"),
            ("http://h?q=1", "http://h/?q=1"),
            ("http://[::1]:80/ä b", "http://[::1]:80/%C3%A4%20b"),
            ("http://h/a%20b|c", "http://h/a%20b%7Cc"),
        ] {
            assert_eq!(text(&Target::parse(url).unwrap()), expected, "{url}");
        }
        for url in ["h/a", "ftp://h/a", "http://", "http:///a", "http://h h/", "http://h:port/"] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn credentials_go_into_a_header_and_secrets_are_not_shown() {
        let target = Target::parse("https://me:p%40ss@h/a?token=secret").unwrap();
        assert_eq!(target.credentials(), Some("Basic bWU6cEBzcw=="));
        assert_eq!(text(&target), "https://h/a?token=secret");
        assert_eq!(target.shown(), "https://h/a?...");
    }

    #[test]
    fn references_are_followed_as_the_rfc_has_it() {
        let base = Target::parse("http://a/b/c/d;p?q").unwrap();
        // The normal and abnormal examples of RFC 3986, section 5.4, as far as HTTP has them.
        for (reference, expected) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("g#s", "http://a/b/c/g"),
            (";x", "http://a/b/c/;x"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../../../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            ("./g/.", "http://a/b/c/g/"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("https://g/x:y", "https://g/x:y"),
            ("g:/h?x", "refused"),
            ("file:///etc/shadow", "refused"),
        ] {
            let joined = base.join(reference).map_or_else(|_| "refused".into(), |target| text(&target));
            assert_eq!(joined, expected, "{reference}");
        }
    }
}
