// SPDX-License-Identifier: Apache-2.0
//! Host names to addresses, without the C library: in a static program its resolver would load foreign shared objects
//! named in `/etc/nsswitch.conf`, and it would go on using the name servers of the first attempt when a network comes up.
//!
//! `/etc/hosts` (hosts(5)) and `/etc/resolv.conf` (resolv.conf(5): `nameserver`, `search`, `domain`, `options ndots`,
//! `timeout`, `attempts`) are read anew for each name.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::dns::{Answer, Kind, answer, question};
use super::{Cancel, NetFiles};

/// Why a name could not be turned into addresses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum NameError {
    /// The name servers say that there is no such name, or that it has no address.
    NotFound(String),
    /// No name server is known yet: the file that should name one.
    NoServer(PathBuf),
    /// No name server gave a usable answer: what the last one did.
    NoAnswer(String),
    /// A link-local address is to be reached by a network interface of that name, which isn't there yet.
    NoInterface(String),
    /// The name can't be one.
    Invalid(String),
    /// Somebody else's failure made this moot.
    Cancelled,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(name) => write!(f, "the name servers know no address of \"{name}\""),
            Self::NoServer(file) => write!(f, "no name server is known yet ({} names none)", file.display()),
            Self::NoAnswer(what) => write!(f, "no name server answered: {what}"),
            Self::NoInterface(name) => write!(f, "there is no network interface \"{name}\""),
            Self::Invalid(name) if name.is_ascii() => write!(f, "\"{name}\" can't be a host name"),
            Self::Invalid(name) => write!(f, "the host name \"{name}\" has to be written in ASCII, as xn--..."),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for NameError {}

/// What resolv.conf says.
#[derive(Clone, Debug, Eq, PartialEq)]
struct ResolvConf {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
}

impl ResolvConf {
    fn parse(text: &str, port: u16) -> Self {
        let mut conf =
            Self { servers: Vec::new(), search: Vec::new(), ndots: 1, timeout: Duration::from_secs(5), attempts: 2 };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(|word| with_zone(word, port))),
                Some("search" | "domain") => {
                    conf.search = words.map(|word| word.trim_end_matches('.').into()).collect();
                }
                Some("options") => words.for_each(|option| conf.option(option)),
                _ => {}
            }
        }
        // As many as the C library asks.
        conf.servers.truncate(3);
        conf
    }

    fn option(&mut self, option: &str) {
        let Some((key, Ok(value))) = option.split_once(':').map(|(key, value)| (key, value.parse::<u32>())) else {
            return;
        };
        match key {
            "ndots" => self.ndots = usize::try_from(value.min(15)).unwrap_or(15),
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 30).into()),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }

    /// The names to ask for, in order.
    fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.into()];
        }
        let searched = self.search.iter().filter(|domain| !domain.is_empty()).map(|domain| format!("{name}.{domain}"));
        let as_it_is = std::iter::once(name.to_owned());
        if name.matches('.').count() >= self.ndots {
            as_it_is.chain(searched).collect()
        } else {
            searched.chain(as_it_is).collect()
        }
    }
}

/// An address as text, which may have a zone: the name of an interface or its number.
fn with_zone(word: &str, port: u16) -> Option<SocketAddr> {
    let Some((address, zone)) = word.split_once('%') else {
        return Some(SocketAddr::new(word.parse().ok()?, port));
    };
    let index = zone.parse().ok().or_else(|| {
        let text = fs::read_to_string(Path::new("/sys/class/net").join(zone).join("ifindex")).ok()?;
        text.trim().parse().ok()
    })?;
    Some(SocketAddrV6::new(address.parse().ok()?, port, 0, index).into())
}

/// The addresses that a hosts file gives a name.
fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    text.lines().filter_map(line).collect()
}

/// Where to connect to for a port of a host: an address as text (with the zone of a link-local one behind `%`), a name in the hosts
/// file, or one that the name servers know.
///
/// # Errors
/// See [`NameError`].
pub(crate) fn resolve(
    files: &NetFiles,
    host: &str,
    port: u16,
    until: Instant,
    cancel: &Cancel,
) -> Result<Vec<SocketAddr>, NameError> {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    if let Some((_, zone)) = address.split_once('%') {
        let found = with_zone(address, port).map(|address| vec![address]);
        return found.ok_or_else(|| NameError::NoInterface(zone.into()));
    }
    if let Ok(address) = address.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = look_up(files, host, until, cancel)?;
    Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

/// The addresses of a name.
fn look_up(files: &NetFiles, host: &str, until: Instant, cancel: &Cancel) -> Result<Vec<IpAddr>, NameError> {
    if !host.is_ascii() {
        return Err(NameError::Invalid(host.into()));
    }
    let hosts = String::from_utf8_lossy(&fs::read(&files.hosts).unwrap_or_default()).into_owned();
    let found = in_hosts(&hosts, host);
    if !found.is_empty() {
        return Ok(found);
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    // RFC 6761, section 6.3: these never leave the machine.
    if name == "localhost" || name.ends_with(".localhost") {
        return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
    }
    let text = String::from_utf8_lossy(&fs::read(&files.resolv_conf).unwrap_or_default()).into_owned();
    let conf = ResolvConf::parse(&text, files.dns_port);
    if conf.servers.is_empty() {
        return Err(NameError::NoServer(files.resolv_conf.clone()));
    }
    let mut failed = None;
    for candidate in conf.candidates(host) {
        match ask_all(&conf, &candidate, until, cancel) {
            Ok(found) if found.is_empty() => {}
            Err(NameError::Cancelled) => return Err(NameError::Cancelled),
            // With a domain behind it, it may be too long to be one.
            Err(NameError::Invalid(_)) if candidate != host => {}
            Err(error) => failed = Some(error),
            found => return found,
        }
    }
    Err(failed.unwrap_or_else(|| NameError::NotFound(host.into())))
}

/// Asks one server after the other, until one knows. No address: there is none.
fn ask_all(conf: &ResolvConf, name: &str, until: Instant, cancel: &Cancel) -> Result<Vec<IpAddr>, NameError> {
    let mut last = NameError::NoAnswer("there was no time left to ask".into());
    for _ in 0..conf.attempts {
        for server in &conf.servers {
            let until = until.min(Instant::now() + conf.timeout);
            match ask(*server, name, until, cancel) {
                Ok(found) => return Ok(found),
                Err(error @ (NameError::Invalid(_) | NameError::Cancelled)) => return Err(error),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

/// Asks one server for both kinds of addresses at once.
fn ask(server: SocketAddr, name: &str, until: Instant, cancel: &Cancel) -> Result<Vec<IpAddr>, NameError> {
    let mut open = Vec::new();
    for (id, kind) in [(random_id(), Kind::Aaaa), (random_id(), Kind::A)] {
        open.push((kind, question(id, name, kind).ok_or_else(|| NameError::Invalid(name.into()))?));
    }
    let no_answer = |error: &io::Error| NameError::NoAnswer(format!("{}: {error}", server.ip()));
    let socket = udp(server).map_err(|error| no_answer(&error))?;
    for (_, question) in &open {
        socket.send(question).map_err(|error| no_answer(&error))?;
    }
    let mut addresses = Vec::new();
    let mut buffer = [0; 1232];
    let mut unknown = false;
    // Servers that can't tell IPv6 addresses say all kinds of things when asked for them (RFC 4074, section 4): what one answer
    // lacks, the other may have.
    let mut failed = None;
    while !open.is_empty() {
        let length = match receive(&socket, &mut buffer, until, cancel) {
            Ok(length) => length,
            Err(Stop::Io(error)) => {
                failed = failed.or_else(|| Some(no_answer(&error)).filter(|_| !unknown));
                break;
            }
            Err(Stop::Cancelled) => return Err(NameError::Cancelled),
        };
        let message = buffer.get(..length).unwrap_or_default();
        let known = |(kind, question): &(Kind, Vec<u8>)| answer(question, *kind, message);
        let Some((index, mut reply)) = open.iter().enumerate().find_map(|(i, asked)| Some((i, known(asked)?))) else {
            continue;
        };
        let (kind, question) = open.swap_remove(index);
        if reply == Answer::Truncated {
            match over_tcp(server, &question, kind, until) {
                Ok(whole) => reply = whole,
                Err(error) => {
                    failed = Some(no_answer(&error));
                    continue;
                }
            }
        }
        let refused = |why: &str| Some(NameError::NoAnswer(format!("{} {why}", server.ip())));
        match reply {
            Answer::Addresses(found) => addresses.extend(found),
            Answer::NoSuchName => unknown = true,
            Answer::Truncated => failed = refused("cut its answer short"),
            Answer::Refused(code) => failed = refused(&format!("said: {}", code_name(code))),
        }
    }
    match failed {
        Some(failed) if addresses.is_empty() => Err(failed),
        _ => Ok(addresses),
    }
}

enum Stop {
    Cancelled,
    Io(io::Error),
}

fn udp(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    Ok(socket)
}

fn receive(socket: &UdpSocket, buffer: &mut [u8], until: Instant, cancel: &Cancel) -> Result<usize, Stop> {
    loop {
        if cancel.is_set() {
            return Err(Stop::Cancelled);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Stop::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")));
        }
        socket.set_read_timeout(Some(left.min(super::SLICE))).map_err(Stop::Io)?;
        match socket.recv(buffer) {
            Ok(length) => return Ok(length),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(Stop::Io(error)),
        }
    }
}

fn over_tcp(server: SocketAddr, question: &[u8], kind: Kind, until: Instant) -> io::Result<Answer> {
    let left = || Some(until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
    let mut stream = TcpStream::connect_timeout(&server, left().unwrap_or_default())?;
    stream.set_write_timeout(left())?;
    stream.set_read_timeout(left())?;
    // RFC 1035, section 4.2.2: the length goes first.
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    answer(question, kind, &message).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a malformed answer"))
}

fn random_id() -> u16 {
    u16::from_ne_bytes(super::random())
}

/// RFC 1035, section 4.1.1, and RFC 6895.
fn code_name(code: u8) -> String {
    match code {
        1 => "format error".into(),
        2 => "server failure".into(),
        4 => "not implemented".into(),
        5 => "refused".into(),
        other => format!("response code {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_the_manual_has_it() {
        let text = "# comment\nnameserver 10.0.2.3\nnameserver fe80::1%3\nnameserver nonsense\ndomain old.example\n\
                    search a.example b.example.\noptions ndots:2 timeout:99 attempts:0 rotate\n; x\nnameserver ::1\n\
                    nameserver 1.1.1.1\n";
        let conf = ResolvConf::parse(text, 53);
        let link_local = SocketAddr::from(SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, 3));
        assert_eq!(conf.servers, ["10.0.2.3:53".parse().unwrap(), link_local, "[::1]:53".parse().unwrap()]);
        assert_eq!(conf.search, ["a.example", "b.example"]);
        assert_eq!((conf.ndots, conf.timeout, conf.attempts), (2, Duration::from_secs(30), 1));
        assert_eq!(conf.candidates("x.y"), ["x.y.a.example", "x.y.b.example", "x.y"]);
        assert_eq!(conf.candidates("x.y.z"), ["x.y.z", "x.y.z.a.example", "x.y.z.b.example"]);
        assert_eq!(conf.candidates("x."), ["x"]);
    }

    #[test]
    fn the_hosts_file_is_read_as_the_manual_has_it() {
        let text =
            "127.0.0.1 localhost\n10.0.2.2 Config config.example # server.example\n::1 config\nnonsense config\n";
        assert_eq!(in_hosts(text, "config."), ["10.0.2.2".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert_eq!(in_hosts(text, "server.example"), Vec::<IpAddr>::new());
    }

    /// A name server on a port of its own that answers by `reply`: flags and addresses for a question's kind.
    fn server(reply: impl Fn(u16) -> Option<(u16, Vec<u8>)> + Send + 'static) -> (NetFiles, tempfile::TempDir) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let resolv_conf = directory.path().join("resolv.conf");
        fs::write(&resolv_conf, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
        let files = NetFiles {
            resolv_conf,
            hosts: directory.path().join("hosts"),
            dns_port: socket.local_addr().unwrap().port(),
            ..NetFiles::default()
        };
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let mut message = buffer[..length].to_vec();
                let kind = u16::from_be_bytes([message[length - 4], message[length - 3]]);
                let Some((flags, data)) = reply(kind) else { continue };
                message[2..4].copy_from_slice(&flags.to_be_bytes());
                if !data.is_empty() {
                    message[7] = 1;
                    message.extend([0xc0, 12]);
                    message.extend(kind.to_be_bytes());
                    message.extend([0, 1, 0, 0, 0, 60, 0, u8::try_from(data.len()).unwrap()]);
                    message.extend(data);
                }
                socket.send_to(&message, from).unwrap();
            }
        });
        (files, directory)
    }

    fn look_up(files: &NetFiles, name: &str) -> Result<Vec<IpAddr>, NameError> {
        let found = resolve(files, name, 80, Instant::now() + Duration::from_secs(5), &Cancel::default())?;
        Ok(found.into_iter().map(|address| address.ip()).collect())
    }

    #[test]
    fn both_kinds_of_addresses_are_found() {
        let (files, _guard) = server(|kind| {
            Some((0x8180, if kind == 28 { Ipv6Addr::LOCALHOST.octets().to_vec() } else { vec![10, 0, 2, 2] }))
        });
        let mut found = look_up(&files, "config.example").unwrap();
        found.sort();
        assert_eq!(found, ["10.0.2.2".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
    }

    #[test]
    fn a_server_that_ignores_questions_for_ipv6_costs_time_but_no_answer() {
        let (files, _guard) = server(|kind| (kind == 1).then(|| (0x8180, vec![10, 0, 2, 2])));
        assert_eq!(look_up(&files, "config.example").unwrap(), ["10.0.2.2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn a_bad_answer_about_ipv6_does_not_hide_the_good_one() {
        for flags in [0x8182, 0x8183, 0x8184, 0x8185] {
            let files = [1, 28].map(|good| {
                server(move |kind| {
                    let data = if kind == 28 { Ipv6Addr::LOCALHOST.octets().to_vec() } else { vec![10, 0, 2, 2] };
                    Some(if kind == good { (0x8180, data) } else { (flags, vec![]) })
                })
            });
            assert_eq!(look_up(&files[0].0, "config.example").unwrap(), ["10.0.2.2".parse::<IpAddr>().unwrap()]);
            assert_eq!(look_up(&files[1].0, "config.example").unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
        }
    }

    #[test]
    fn zones_name_interfaces() {
        let files = NetFiles::default();
        let resolve = |host: &str| resolve(&files, host, 69, Instant::now(), &Cancel::default());
        let link_local = SocketAddr::from(SocketAddrV6::new("fe80::1".parse().unwrap(), 69, 0, 1));
        assert_eq!(resolve("fe80::1%lo").unwrap(), [link_local]);
        assert_eq!(resolve("[fe80::1%1]").unwrap(), [link_local]);
        assert_eq!(resolve("fe80::1%eth-none").unwrap_err().to_string(), "there is no network interface \"eth-none\"");
        let text = resolve("b\u{fc}cher.example").unwrap_err().to_string();
        assert_eq!(text, "the host name \"b\u{fc}cher.example\" has to be written in ASCII, as xn--...");
    }

    #[test]
    fn missing_names_silent_servers_and_missing_servers_are_told_apart() {
        let (files, _guard) = server(|_| Some((0x8183, vec![])));
        assert_eq!(look_up(&files, "config.example"), Err(NameError::NotFound("config.example".into())));
        let (files, _guard) = server(|_| Some((0x8182, vec![])));
        let error = look_up(&files, "config.example").unwrap_err().to_string();
        assert_eq!(error, "no name server answered: 127.0.0.1 said: server failure");
        let (files, _guard) = server(|_| None);
        let error = look_up(&files, "config.example").unwrap_err().to_string();
        assert_eq!(error, "no name server answered: 127.0.0.1: no answer in time");
        fs::write(&files.resolv_conf, "").unwrap();
        assert_eq!(look_up(&files, "config.example"), Err(NameError::NoServer(files.resolv_conf.clone())));
        assert_eq!(look_up(&files, "a.localhost").unwrap().len(), 2);
        assert_eq!(look_up(&files, "[::1]").unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn the_files_are_read_anew_for_each_name() {
        let (files, _guard) = server(|_| Some((0x8183, vec![])));
        assert!(look_up(&files, "config").is_err());
        fs::write(&files.hosts, "10.0.2.9 config\n").unwrap();
        assert_eq!(look_up(&files, "config").unwrap(), ["10.0.2.9".parse::<IpAddr>().unwrap()]);
    }
}
