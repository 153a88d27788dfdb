// SPDX-License-Identifier: Apache-2.0
//! URLs, as far as a first boot needs them: RFC 3986 with the freedoms that Go's `net/url` takes, because Ignition's users
//! rely on them (spaces and other letters in paths, scheme in capitals).
//!
//! Schemes are `http`, `https`, `tftp`, `s3`, `gs`, `arn`, and `data`, whose contents [`crate::dataurl`] reads.

mod text;

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use text::{escape_all_into, escape_into, lossy, push, unescape, without_dots};

/// Why a text is no URL.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UrlError {
    /// There is nothing before a colon that could be a scheme.
    #[error("it has no scheme, such as https://")]
    NoScheme,
    /// It holds a control character.
    #[error("it contains a control character")]
    ControlCharacter,
    /// A `%` isn't followed by two hexadecimal digits.
    #[error("a % in it isn't followed by two hexadecimal digits")]
    Escape,
    /// The host holds what no host can.
    #[error("its host contains a character that no host name has")]
    Host,
    /// A bracketed host that isn't an IPv6 address.
    #[error("the brackets in its host don't hold an IPv6 address")]
    Ipv6,
    /// The port is no number up to 65535.
    #[error("its port is not a number from 0 to 65535")]
    Port,
    /// The scheme needs a host and there is none.
    #[error("it has no host")]
    NoHost,
}

/// A URL in parts. A fragment is dropped, as no server ever sees it.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Url {
    scheme: String,
    user: Option<String>,
    password: Option<String>,
    host: String,
    port: Option<u16>,
    path: String,
    query: Option<String>,
    /// Nothing but scheme and path, without slashes between them: `arn:...`, `data:...`.
    opaque: bool,
}

/// The scheme of a URL in small letters, without looking at the rest.
pub fn scheme(text: &str) -> Option<Cow<'_, str>> {
    let (scheme, _) = text.split_once(':')?;
    let mut chars = scheme.chars();
    let valid =
        chars.next()?.is_ascii_alphabetic() && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !valid {
        return None;
    }
    if scheme.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(Cow::Owned(scheme.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(scheme))
}

/// A URL for messages: without user, password and the values of its query; a `data` URL only by its length. What isn't a URL
/// is withheld as a whole.
pub fn redact(text: &str) -> String {
    if scheme(text).is_some_and(|scheme| scheme == "data") {
        return format!("data:... ({} bytes)", text.len());
    }
    Url::parse(text).map_or_else(|_| "(not a URL)".into(), |url| url.redacted())
}

/// A text as a part of a URL: everything is escaped but letters, digits and `-._~`, and slashes unless they are to be kept.
pub fn escape(text: &str, keep_slashes: bool) -> String {
    let mut escaped = String::new();
    for (index, part) in text.split('/').enumerate() {
        if index > 0 {
            escaped.push_str(if keep_slashes { "/" } else { "%2F" });
        }
        escape_all_into(&mut escaped, part);
    }
    escaped
}

impl Url {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// Every variant of [`UrlError`] names one.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(UrlError::ControlCharacter);
        }
        let scheme = scheme(text).ok_or(UrlError::NoScheme)?.into_owned();
        let rest = text.get(scheme.len() + 1..).unwrap_or_default();
        let mut url = Self { scheme, ..Self::default() };
        url.set_rest(rest)?;
        if matches!(url.scheme.as_str(), "http" | "https" | "tftp" | "s3" | "gs") && url.host.is_empty() {
            return Err(UrlError::NoHost);
        }
        Ok(url)
    }

    /// Everything behind the scheme's colon.
    fn set_rest(&mut self, rest: &str) -> Result<(), UrlError> {
        if self.scheme == "data" {
            self.opaque = true;
            self.path = rest.into();
            return Ok(());
        }
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (rest, query) = split_query(rest);
        self.query = query.map(Into::into);
        if let Some(rest) = rest.strip_prefix("//") {
            let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
            self.set_authority(authority)?;
            self.path = path.into();
        } else {
            self.opaque = !rest.starts_with('/');
            self.path = rest.into();
        }
        if !self.opaque {
            unescape(&self.path)?;
        }
        Ok(())
    }

    fn set_authority(&mut self, authority: &str) -> Result<(), UrlError> {
        let (userinfo, host) = match authority.rsplit_once('@') {
            Some((userinfo, host)) => (Some(userinfo), host),
            None => (None, authority),
        };
        if let Some(userinfo) = userinfo {
            let (user, password) = match userinfo.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (userinfo, None),
            };
            self.user = Some(lossy(&unescape(user)?));
            self.password = password.map(|password| Ok(lossy(&unescape(password)?))).transpose()?;
        }
        let (host, port) = if let Some(rest) = host.strip_prefix('[') {
            let (address, port) = rest.split_once(']').ok_or(UrlError::Ipv6)?;
            let (bare, zone) = address.split_once("%25").map_or((address, None), |(bare, zone)| (bare, Some(zone)));
            bare.parse::<core::net::Ipv6Addr>().map_err(|_| UrlError::Ipv6)?;
            let host = match zone {
                Some(zone) => format!("{bare}%{}", lossy(&unescape(zone)?)),
                None => bare.into(),
            };
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':').ok_or(UrlError::Port)?),
            };
            (host, port)
        } else {
            let (host, port) = match host.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host, None),
            };
            (checked_host(host)?, port)
        };
        self.host = host;
        self.port = match port {
            None | Some("") => None,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().map_err(|_| UrlError::Port)?)
            }
            Some(_) => return Err(UrlError::Port),
        };
        Ok(())
    }

    /// In small letters.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// User, decoded.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Password, decoded.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Host name or address; an IPv6 address without its brackets. The bucket of `s3` and `gs`. Empty for `arn` and `data`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port that it names.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The port to connect to, if the scheme has a usual one.
    pub fn port_or_default(&self) -> Option<u16> {
        self.port.or(match self.scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            "tftp" => Some(69),
            _ => None,
        })
    }

    /// The path as written. For `arn` and `data` it is everything behind the colon up to the query (`data`: everything).
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path with its escapes resolved.
    pub fn decoded_path(&self) -> String {
        unescape(&self.path).map_or_else(|_| self.path.clone(), |bytes| lossy(&bytes))
    }

    /// The query as written, without its question mark.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// The first value of a query's name, with its escapes resolved. `?name` has the empty value.
    pub fn query_value(&self, name: &str) -> Option<String> {
        self.query_parts().find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| unescape(&text.replace('+', " ")).map(|bytes| lossy(&bytes));
            let key = decode(key).ok()?;
            (key == name).then(|| decode(value).ok()).flatten()
        })
    }

    fn query_parts(&self) -> impl Iterator<Item = &str> {
        self.query.as_deref().unwrap_or_default().split('&').filter(|part| !part.is_empty())
    }

    /// What stands in the request line of HTTP: path and query, with everything escaped that may not stand there.
    pub fn request_target(&self) -> String {
        let mut target = String::new();
        if !self.path.starts_with('/') {
            target.push('/');
        }
        escape_into(&mut target, &self.path);
        if let Some(query) = &self.query {
            target.push('?');
            escape_into(&mut target, query);
        }
        target
    }

    /// Host and port as the `Host` header has them: brackets around IPv6 (without its zone), the port only if it isn't the
    /// scheme's own.
    pub fn host_header(&self) -> String {
        self.with_port(self.host.split_once('%').map_or(self.host.as_str(), |(host, _)| host))
    }

    /// Host and port as a URI of HTTP has them: as [`Self::host_header`], with the zone of an IPv6 address (RFC 6874).
    pub fn authority(&self) -> String {
        self.with_port(&self.host.replacen('%', "%25", 1))
    }

    fn with_port(&self, host: &str) -> String {
        let mut header = if host.contains(':') { format!("[{host}]") } else { host.into() };
        let usual = Self { port: None, scheme: self.scheme.clone(), ..Self::default() }.port_or_default();
        if let Some(port) = self.port.filter(|port| Some(*port) != usual) {
            push(&mut header, format_args!(":{port}"));
        }
        header
    }

    /// What a redirect's `Location` means, seen from here (RFC 3986, 5.2).
    ///
    /// # Errors
    /// What makes it no URL.
    pub fn join(&self, location: &str) -> Result<Self, UrlError> {
        if scheme(location).is_some() {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme));
        }
        let location = location.split_once('#').map_or(location, |(location, _)| location);
        let (path, query) = split_query(location);
        if location.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(UrlError::ControlCharacter);
        }
        unescape(path)?;
        let mut url = self.clone();
        match path {
            "" => {
                if query.is_some() {
                    url.query = query.map(Into::into);
                }
                return Ok(url);
            }
            path if path.starts_with('/') => url.path = without_dots(path),
            path => {
                let base = self.path.rfind('/').map_or("/", |slash| self.path.get(..=slash).unwrap_or("/"));
                url.path = without_dots(&format!("{base}{path}"));
            }
        }
        url.query = query.map(Into::into);
        Ok(url)
    }

    /// For messages: without user and password, and without the values of the query.
    pub fn redacted(&self) -> String {
        if self.scheme == "data" {
            return format!("data:... ({} bytes)", self.path.len() + "data:".len());
        }
        let mut text = self.without_query(false);
        if self.query.is_some() {
            // What has no name is all value.
            let shown =
                |pair: &str| pair.split_once('=').map_or_else(|| "...".into(), |(name, _)| format!("{name}=..."));
            let names: Vec<_> = self.query_parts().map(shown).collect();
            text.push('?');
            text.push_str(&names.join("&"));
        }
        text
    }

    fn without_query(&self, userinfo: bool) -> String {
        let mut text = format!("{}:", self.scheme);
        if !self.opaque {
            if !self.host.is_empty() || self.user.is_some() {
                text.push_str("//");
            }
            if let Some(user) = self.user.as_deref().filter(|_| userinfo) {
                escape_all_into(&mut text, user);
                if let Some(password) = &self.password {
                    text.push(':');
                    escape_all_into(&mut text, password);
                }
                text.push('@');
            }
            if self.host.contains(':') {
                push(&mut text, format_args!("[{}]", self.host.replacen('%', "%25", 1)));
            } else {
                text.push_str(&self.host);
            }
            if let Some(port) = self.port {
                push(&mut text, format_args!(":{port}"));
            }
        }
        text.push_str(&self.path);
        text
    }
}

impl fmt::Display for Url {
    /// All of it, secrets included: for requests, not for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_query(true))?;
        match &self.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    match text.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (text, None),
    }
}

/// A host name or IPv4 address. Letters outside ASCII are accepted here, as in Go, and refused by whoever is to connect to it.
fn checked_host(host: &str) -> Result<String, UrlError> {
    let forbidden = |c: char| matches!(c, ' ' | '"' | '<' | '>' | '[' | ']' | '\\' | '^' | '`' | '{' | '|' | '}' | '/');
    let host = lossy(&unescape(host)?);
    if host.contains(forbidden) || host.chars().any(char::is_control) {
        return Err(UrlError::Host);
    }
    Ok(host)
}

#[cfg(test)]
mod tests;
