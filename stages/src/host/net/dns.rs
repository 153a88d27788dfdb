// SPDX-License-Identifier: Apache-2.0
//! DNS messages (RFC 1035, section 4; AAAA from RFC 3596): questions for addresses, and their answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kind of address that is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
        }
    }
}

/// What a name server answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// The addresses; none if the name exists but has no address of that kind.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NoSuchName,
    /// The answer didn't fit a datagram: ask again over TCP.
    Truncated,
    /// The server could not or would not answer: its response code (RFC 1035, section 4.1.1).
    Refused(u8),
}

const CLASS_INTERNET: u16 = 1;
const HEADER: usize = 12;

/// A question for one name. `None` if the text is no host name: an empty label, one over 63 bytes, or more than 253 in all.
pub(crate) fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    const RECURSION_DESIRED: u16 = 0x0100;
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > 253 {
        return None;
    }
    let mut message = Vec::with_capacity(HEADER + name.len() + 6);
    for word in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        message.push(length);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.number().to_be_bytes());
    message.extend(CLASS_INTERNET.to_be_bytes());
    Some(message)
}

/// Reads an answer to `question`. `None` if it is malformed or answers another question.
pub(crate) fn answer(question: &[u8], kind: Kind, message: &[u8]) -> Option<Answer> {
    const RESPONSE: u16 = 0x8000;
    const TRUNCATED: u16 = 0x0200;
    let flags = word(message, 2)?;
    let asked = question.get(HEADER..)?;
    let repeated = message.get(HEADER..HEADER + asked.len())?;
    if message.get(..2)? != question.get(..2)?
        || flags & RESPONSE == 0
        || word(message, 4)? != 1
        || !repeated.eq_ignore_ascii_case(asked)
    {
        return None;
    }
    match (flags & 0x000f, flags & TRUNCATED != 0) {
        (_, true) => Some(Answer::Truncated),
        (0, false) => records(message, HEADER + asked.len(), word(message, 6)?, kind).map(Answer::Addresses),
        (3, false) => Some(Answer::NoSuchName),
        (code, false) => Some(Answer::Refused(u8::try_from(code).ok()?)),
    }
}

fn records(message: &[u8], mut at: usize, count: u16, kind: Kind) -> Option<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for _ in 0..count {
        at = after_name(message, at)?;
        let (this_kind, class) = (word(message, at)?, word(message, at + 2)?);
        let length = usize::from(word(message, at + 8)?);
        let data = message.get(at + 10..at + 10 + length)?;
        at += 10 + length;
        // Anything else is a step of the alias chain, which the server has already followed.
        if this_kind == kind.number() && class == CLASS_INTERNET {
            addresses.push(match kind {
                Kind::A => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?)),
                Kind::Aaaa => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?)),
            });
        }
    }
    Some(addresses)
}

/// Names end in an empty label or in a pointer to the rest (RFC 1035, section 4.1.4).
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..64 => at += 1 + usize::from(length),
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(question: &[u8], flags: u16, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        message[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
        for (kind, data) in records {
            message.extend([0xc0, 12]);
            message.extend(kind.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 60]);
            message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            message.extend(*data);
        }
        message
    }

    #[test]
    fn a_question_is_laid_out_as_the_rfc_has_it() {
        let expected = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x02ab\x03org\0\0\x1c\0\x01";
        assert_eq!(question(0x1234, "ab.org.", Kind::Aaaa).unwrap(), expected);
        let long = "a".repeat(64);
        for name in ["", ".", "a..b", long.as_str(), "a.".repeat(128).as_str()] {
            assert_eq!(question(1, name, Kind::A), None, "{name}");
        }
    }

    #[test]
    fn aliases_are_passed_over_and_addresses_collected() {
        let question = question(7, "x.example", Kind::A).unwrap();
        let message = reply(&question, 0x8180, &[(5, b"\x01y\xc0\x0c"), (1, &[10, 0, 2, 2]), (1, &[10, 0, 2, 3])]);
        let expected = Answer::Addresses(vec![[10, 0, 2, 2].into(), [10, 0, 2, 3].into()]);
        assert_eq!(answer(&question, Kind::A, &message), Some(expected));
        let upper: Vec<u8> = message.to_ascii_uppercase();
        assert!(answer(&question, Kind::A, &upper).is_some(), "names match without regard to case");
    }

    #[test]
    fn codes_are_told_apart() {
        let question = question(7, "x.example", Kind::A).unwrap();
        assert_eq!(answer(&question, Kind::A, &reply(&question, 0x8183, &[])), Some(Answer::NoSuchName));
        assert_eq!(answer(&question, Kind::A, &reply(&question, 0x8182, &[])), Some(Answer::Refused(2)));
        assert_eq!(answer(&question, Kind::A, &reply(&question, 0x8380, &[])), Some(Answer::Truncated));
        assert_eq!(answer(&question, Kind::A, &reply(&question, 0x8180, &[])), Some(Answer::Addresses(vec![])));
    }

    #[test]
    fn what_answers_another_question_or_is_cut_short_is_not_believed() {
        let asked = question(7, "x.example", Kind::A).unwrap();
        let message = reply(&asked, 0x8180, &[(1, &[10, 0, 2, 2])]);
        assert_eq!(answer(&question(8, "x.example", Kind::A).unwrap(), Kind::A, &message), None);
        assert_eq!(answer(&question(7, "y.example", Kind::A).unwrap(), Kind::A, &message), None);
        assert_eq!(answer(&asked, Kind::A, &reply(&asked, 0x0180, &[])), None, "a question is no answer");
        for length in 0..message.len() {
            assert_eq!(answer(&asked, Kind::A, &message[..length]), None, "{length}");
        }
    }
}
