// SPDX-License-Identifier: Apache-2.0
//! Which proxy a URL is asked through: `ignition.proxy`, by the rules that Go has for `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`
//! (golang.org/x/net/http/httpproxy), since Ignition hands them to it.
//!
//! An https URL is asked through `httpsProxy` only, whatever Ignition's documentation says about `httpProxy`.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::config::Proxy;
use crate::url::Url;

/// The proxies of a configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    direct: Vec<Rule>,
}

/// An entry of `noProxy`.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Rule {
    /// `*`.
    All,
    /// `10.0.0.0/8`.
    Network { address: IpAddr, bits: u32 },
    /// `10.0.0.1` or `[::1]:80`.
    Address { address: IpAddr, port: String },
    /// `example.org`, `.example.org`, `*.example.org`, each also with a port. The domain is kept with its leading dot.
    Domain { domain: String, itself: bool, port: String },
}

impl Proxies {
    /// The proxies of a configuration. What is no URL of a proxy is none, as in Go; validation has said so before.
    pub fn of(proxy: &Proxy) -> Self {
        let url = |text: &Option<String>| {
            let url = Url::parse(text.as_deref()?).ok()?;
            matches!(url.scheme(), "http" | "https").then_some(url)
        };
        let entries = proxy.no_proxy.iter().flat_map(|entry| entry.split(','));
        Self {
            http: url(&proxy.http_proxy),
            https: url(&proxy.https_proxy),
            direct: entries.filter_map(rule).collect(),
        }
    }

    /// The proxy for an https (`secure`) or http URL with that host and port, if it is to be asked through one.
    pub fn choose(&self, secure: bool, host: &str, port: u16) -> Option<&Url> {
        let proxy = if secure { &self.https } else { &self.http }.as_ref()?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = host.split('%').next().unwrap_or_default().parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        if host == "localhost" || address.is_some_and(|ip| ip.is_loopback()) {
            return None;
        }
        let host = host.to_ascii_lowercase();
        let port = alloc::format!("{port}");
        let direct = self.direct.iter().any(|rule| rule.matches(&host, address, &port));
        (!direct).then_some(proxy)
    }
}

impl Rule {
    fn matches(&self, host: &str, ip: Option<IpAddr>, at: &str) -> bool {
        let port_matches = |port: &str| port.is_empty() || port == at;
        match self {
            Self::All => true,
            Self::Network { address, bits } => ip.is_some_and(|ip| within(ip, *address, *bits)),
            Self::Address { address, port } => ip == Some(*address) && port_matches(port),
            Self::Domain { domain, itself, port } => {
                let name = host.ends_with(domain.as_str()) || (*itself && Some(host) == domain.strip_prefix('.'));
                ip.is_none() && name && port_matches(port)
            }
        }
    }
}

/// Reads an entry; what makes no sense is passed over, as in Go.
fn rule(entry: &str) -> Option<Rule> {
    let entry = entry.trim().to_ascii_lowercase();
    if entry == "*" {
        return Some(Rule::All);
    }
    if let Some((address, bits)) = entry.split_once('/') {
        if let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u32>()) {
            let longest = if address.is_ipv4() { 32 } else { 128 };
            if bits <= longest {
                return Some(Rule::Network { address, bits });
            }
        }
    }
    let (host, port) = split_port(&entry);
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(Rule::Address { address: address.to_canonical(), port: port.into() });
    }
    let host = if host.starts_with("*.") { host.get(1..)? } else { host };
    let itself = !host.is_empty() && !host.starts_with('.');
    let domain = if itself { alloc::format!(".{host}") } else { host.into() };
    (!host.is_empty()).then(|| Rule::Domain { domain, itself, port: port.into() })
}

/// A port behind a name, an IPv4 address, or an IPv6 address in brackets.
fn split_port(entry: &str) -> (&str, &str) {
    match entry.rsplit_once(':') {
        Some((host, port)) => match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => (host, port),
            None if host.contains(':') => (entry, ""),
            None => (host, port),
        },
        None => (entry, ""),
    }
}

fn within(ip: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => (ip.to_bits() ^ network.to_bits()).leading_zeros() >= bits,
        (IpAddr::V6(ip), IpAddr::V6(network)) => (ip.to_bits() ^ network.to_bits()).leading_zeros() >= bits,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(no_proxy: &[&str]) -> Proxies {
        Proxies::of(&Proxy {
            http_proxy: Some("http://plain:3128".into()),
            https_proxy: Some("https://secure:3129".into()),
            no_proxy: no_proxy.iter().map(|entry| (*entry).into()).collect(),
        })
    }

    fn is_direct(no_proxy: &[&str], host: &str, port: u16) -> bool {
        proxies(no_proxy).choose(false, host, port).is_none()
    }

    #[test]
    fn each_scheme_has_its_own_proxy() {
        let both = proxies(&[]);
        assert_eq!(both.choose(false, "h", 80).unwrap().host(), "plain");
        assert_eq!(both.choose(true, "h", 443).unwrap().host(), "secure");
        let plain = Proxies::of(&Proxy { http_proxy: Some("http://plain".into()), ..Proxy::default() });
        assert_eq!(plain.choose(true, "h", 443), None);
        assert_eq!(Proxies::default().choose(false, "h", 80), None);
        let broken = Proxies::of(&Proxy { http_proxy: Some("socks5://plain".into()), ..Proxy::default() });
        assert_eq!(broken, Proxies::default());
    }

    /// The cases are those of Go's own tests (`proxy_test.go`: `UseProxyTests` and around), by what they say.
    #[test]
    fn exceptions_are_read_as_go_reads_them() {
        let entries =
            ["foobar.com", ".barbaz.net", "*.wild.org", "192.168.1.1", "10.0.0.2:8080", "[::9]:90", "2001:db8::52:0:2"];
        for (host, port, direct) in [
            ("localhost", 80, true),
            ("127.0.0.1", 80, true),
            ("127.0.0.2", 80, true),
            ("[::1]", 80, true),
            ("::ffff:127.0.0.1", 80, true),
            ("localhost.net", 80, false),
            ("local.localhost", 80, false),
            ("192.168.1.1", 80, true),
            ("192.168.1.2", 80, false),
            ("192.168.1.10", 80, false),
            ("10.0.0.2", 8080, true),
            ("10.0.0.2", 80, false),
            ("[::9]", 90, true),
            ("[::9]", 91, false),
            ("2001:db8::52:0:2", 80, true),
            ("[2001:db8::52:0:3]", 80, false),
            ("barbaz.net", 80, false),
            ("www.barbaz.net", 443, true),
            ("foobar.com", 80, true),
            ("www.foobar.com", 80, true),
            ("WWW.FOOBAR.com", 80, true),
            ("foofoobar.com", 80, false),
            ("foobar.com.evil.org", 80, false),
            ("wild.org", 80, false),
            ("a.b.wild.org", 80, true),
            ("baz.com", 80, false),
        ] {
            assert_eq!(is_direct(&entries, host, port), direct, "{host}:{port}");
        }
        for (entry, host, port, direct) in [
            ("*", "anything", 80, true),
            ("a, *", "anything", 80, true),
            ("10.0.0.0/8", "10.255.0.1", 80, true),
            ("10.0.0.0/8", "11.0.0.1", 80, false),
            ("0.0.0.0/0", "11.0.0.1", 80, true),
            ("0.0.0.0/0", "name", 80, false),
            ("0.0.0.0/0", "2001:db8::1", 80, false),
            ("10.0.0.0/33", "10.0.0.1", 80, false),
            ("2001:db8::/32", "2001:db8:1::1", 80, true),
            ("2001:db8::/32", "2001:db9::1", 80, false),
            ("169.254.0.0/16", "169.254.169.254", 80, true),
            ("example.org:8080", "example.org", 8080, true),
            ("example.org:8080", "example.org", 80, false),
            ("example.org:", "example.org", 80, true),
            (".example.org:8080", "a.example.org", 8080, true),
            (" one.org , two.org", "two.org", 80, true),
            (":80", "example.org", 80, false),
            ("", "example.org", 80, false),
            (".", "example.org", 80, false),
            ("*.", "example.org", 80, false),
            ("10.1", "10.1", 80, true),
        ] {
            assert_eq!(is_direct(&[entry], host, port), direct, "{entry:?}: {host}:{port}");
        }
    }
}
