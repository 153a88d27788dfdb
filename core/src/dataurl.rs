// SPDX-License-Identifier: Apache-2.0
//! `data` URLs (RFC 2397), as strict and as lenient as the reader that Ignition uses (vincent-petithory/dataurl): the media
//! type may be left out but not invented, parameters may be quoted, `;base64` stands last, the payload is padded base64 or
//! percent-encoded ASCII.

use alloc::vec::Vec;

/// Why a text is no `data` URL.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DataUrlError {
    /// It doesn't begin with `data:`.
    #[error("it doesn't begin with data:")]
    Prefix,
    /// No comma ends the part before the payload.
    #[error("the comma before its contents is missing")]
    NoComma,
    /// The media type isn't `type/subtype` of a registered kind.
    #[error("its media type is not a type that is registered, such as text/plain")]
    MediaType,
    /// A parameter isn't `;name=value` or `;base64` at the end.
    #[error("what follows its media type is neither ;name=value nor ;base64")]
    Parameter,
    /// A character that may not stand there; its offset in the payload.
    #[error("character {0} of its contents must be written as % and two hexadecimal digits")]
    Character(usize),
    /// A `%` without two digits; its offset in the payload.
    #[error("the % at character {0} of its contents isn't followed by two hexadecimal digits")]
    Escape(usize),
    /// Not base64: a foreign character or missing padding; an offset in the payload near it.
    #[error("its contents are not base64 with padding (near character {0})")]
    Base64(usize),
}

/// A `data` URL in parts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DataUrl<'t> {
    /// `type/subtype`; empty if it is left out.
    pub media_type: &'t str,
    /// Whether the payload is base64; else it is percent-encoded.
    pub base64: bool,
    /// Everything behind the comma.
    pub payload: &'t str,
}

/// How much is passed on at a time.
const CHUNK: usize = 4096;

impl<'t> DataUrl<'t> {
    /// Takes a `data` URL apart, without looking into its payload.
    ///
    /// # Errors
    /// Those of [`DataUrlError`] that aren't about the contents.
    pub fn parse(text: &'t str) -> Result<Self, DataUrlError> {
        let rest = text.strip_prefix("data:").ok_or(DataUrlError::Prefix)?;
        let end = rest.find([';', ',']).ok_or(DataUrlError::NoComma)?;
        let (media_type, mut rest) = rest.split_at(end);
        if !media_type.is_empty() && !is_media_type(media_type) {
            return Err(DataUrlError::MediaType);
        }
        while let Some(parameter) = rest.strip_prefix(';') {
            let end = parameter.find(|c| !is_token(c)).ok_or(DataUrlError::NoComma)?;
            let (name, after) = parameter.split_at(end);
            match after.strip_prefix('=') {
                _ if name.is_empty() => return Err(DataUrlError::Parameter),
                Some(value) => rest = skip_value(value)?,
                None => match after.strip_prefix(',') {
                    Some(payload) if name == "base64" => return Ok(Self { media_type, base64: true, payload }),
                    _ => return Err(DataUrlError::Parameter),
                },
            }
        }
        let payload = rest.strip_prefix(',').ok_or(DataUrlError::Parameter)?;
        Ok(Self { media_type, base64: false, payload })
    }

    /// Checks the payload, without keeping what it says.
    ///
    /// # Errors
    /// Those of [`DataUrlError`] that are about the contents.
    pub fn check(&self) -> Result<(), DataUrlError> {
        self.decode_chunks(&mut |_| {})
    }

    /// What the payload says.
    ///
    /// # Errors
    /// Those of [`DataUrlError`] that are about the contents.
    pub fn decode(&self) -> Result<Vec<u8>, DataUrlError> {
        let mut out = Vec::with_capacity(if self.base64 { self.payload.len() / 4 * 3 } else { self.payload.len() });
        self.decode_chunks(&mut |chunk| out.extend_from_slice(chunk))?;
        Ok(out)
    }

    /// What the payload says, in pieces of a few KiB.
    ///
    /// # Errors
    /// Those of [`DataUrlError`] that are about the contents. The pieces before it were passed on already.
    pub fn decode_chunks(&self, sink: &mut dyn FnMut(&[u8])) -> Result<(), DataUrlError> {
        if self.base64 { decode_base64(self.payload, sink) } else { decode_percent(self.payload, sink) }
    }
}

/// Decodes a `data` URL.
///
/// # Errors
/// Every variant of [`DataUrlError`] names one.
pub fn decode(text: &str) -> Result<Vec<u8>, DataUrlError> {
    DataUrl::parse(text)?.decode()
}

/// A character of a MIME token (RFC 2045).
fn is_token(c: char) -> bool {
    c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(c)
}

fn is_media_type(text: &str) -> bool {
    const KINDS: [&str; 7] = ["text", "image", "audio", "video", "application", "message", "multipart"];
    let Some((kind, subtype)) = text.split_once('/') else { return false };
    let known = kind.starts_with("x-") || kind.starts_with("X-") || KINDS.iter().any(|known| kind.starts_with(known));
    known && kind.chars().all(is_token) && subtype.chars().all(is_token)
}

/// Passes over a parameter's value; what follows is a semicolon or a comma.
fn skip_value(value: &str) -> Result<&str, DataUrlError> {
    let rest = match value.strip_prefix('"') {
        None => {
            let end = value.find([';', ',']).ok_or(DataUrlError::NoComma)?;
            let (value, rest) = value.split_at(end);
            let escapes = value.match_indices('%').all(|(at, _)| {
                value.as_bytes().get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            });
            if value.is_empty() || !value.chars().all(is_token) || !escapes {
                return Err(DataUrlError::Parameter);
            }
            rest
        }
        Some(quoted) => {
            let mut chars = quoted.char_indices();
            loop {
                match chars.next().ok_or(DataUrlError::Parameter)? {
                    (at, '"') => break quoted.get(at + 1..).unwrap_or_default(),
                    (_, '\\') => match chars.next() {
                        Some((_, 'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' | '"')) => {}
                        _ => return Err(DataUrlError::Parameter),
                    },
                    (_, c) if c.is_ascii() && c != '\n' => {}
                    _ => return Err(DataUrlError::Parameter),
                }
            }
        }
    };
    match rest.chars().next() {
        Some(';' | ',') => Ok(rest),
        Some(_) => Err(DataUrlError::Parameter),
        None => Err(DataUrlError::NoComma),
    }
}

fn decode_percent(payload: &str, sink: &mut dyn FnMut(&[u8])) -> Result<(), DataUrlError> {
    let mut rest = payload.as_bytes();
    let mut chunk = Vec::with_capacity(CHUNK.min(rest.len()));
    while let Some((&byte, after)) = rest.split_first() {
        let at = payload.len() - rest.len();
        let allowed = byte.is_ascii_graphic() && !b"<>#\"{}|\\^[]`".contains(&byte);
        if !allowed {
            return Err(DataUrlError::Character(at));
        }
        rest = after;
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let decoded = match after {
                [high, low, ..] => digit(*high).zip(digit(*low)).map(|(high, low)| high * 16 + low),
                _ => None,
            };
            chunk.push(decoded.ok_or(DataUrlError::Escape(at))?);
            rest = after.get(2..).unwrap_or_default();
        } else {
            chunk.push(byte);
        }
        if chunk.len() >= CHUNK {
            sink(&chunk);
            chunk.clear();
        }
    }
    if !chunk.is_empty() {
        sink(&chunk);
    }
    Ok(())
}

/// Four characters are three bytes; the last four may end in one or two `=`. As in Go, bits beyond the last byte may be set.
fn decode_base64(payload: &str, sink: &mut dyn FnMut(&[u8])) -> Result<(), DataUrlError> {
    let digits = payload.trim_end_matches('=');
    let padding = payload.len() - digits.len();
    let mut chunk = Vec::with_capacity(CHUNK.min(payload.len()));
    let (mut bits, mut count) = (0_u32, 0_u32);
    for (at, byte) in digits.bytes().enumerate() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(DataUrlError::Base64(at)),
        };
        bits = (bits << 6) | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            let [byte, ..] = (bits >> count).to_le_bytes();
            chunk.push(byte);
        }
        if chunk.len() >= CHUNK {
            sink(&chunk);
            chunk.clear();
        }
    }
    if payload.len() % 4 != 0 || padding > 2 {
        return Err(DataUrlError::Base64(digits.len()));
    }
    if !chunk.is_empty() {
        sink(&chunk);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;

    #[test]
    fn decodes_what_ignition_decodes() {
        for (text, contents) in [
            ("data:,", ""),
            ("data:,hello%20world%0A", "hello world\n"),
            ("data:,a+b?c&d=e;f", "a+b?c&d=e;f"),
            ("data:text/plain;charset=utf-8,x", "x"),
            ("data:text/plain;charset=%75tf-8,x", "x"),
            ("data:text/plain;a=\"b;c,\\\"d\";e=f,x", "x"),
            ("data:;a=b,x", "x"),
            ("data:textual/,x", "x"),
            ("data:x-own/y,x", "x"),
            ("data:;base64,", ""),
            ("data:;base64,aGVsbG8=", "hello"),
            ("data:;base64,aGVsbG9=", "hello"),
            ("data:text/plain;charset=utf-8;base64,aGk=", "hi"),
            ("data:application/octet-stream;base64,aGVsbA==", "hell"),
        ] {
            let decoded = decode(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(core::str::from_utf8(&decoded), Ok(contents), "{text}");
        }
        assert_eq!(decode("data:,%00%ff").unwrap(), [0, 255]);
    }

    #[test]
    fn refuses_what_ignition_refuses() {
        for (text, error) in [
            ("", DataUrlError::Prefix),
            ("Data:,x", DataUrlError::Prefix),
            ("data:", DataUrlError::NoComma),
            ("data:text/plain", DataUrlError::NoComma),
            ("data:hello,x", DataUrlError::MediaType),
            ("data:foo/bar,x", DataUrlError::MediaType),
            ("data:x/y,x", DataUrlError::MediaType),
            ("data:text/pl ain,x", DataUrlError::MediaType),
            ("data:;,x", DataUrlError::Parameter),
            ("data:;=b,x", DataUrlError::Parameter),
            ("data:;a=,x", DataUrlError::Parameter),
            ("data:;a=%zz,x", DataUrlError::Parameter),
            ("data:;a=\"b,x", DataUrlError::Parameter),
            ("data:;a=\"b\"c,x", DataUrlError::Parameter),
            ("data:;charset,x", DataUrlError::Parameter),
            ("data:;base64;a=b,x", DataUrlError::Parameter),
            ("data:;BASE64,eA==", DataUrlError::Parameter),
            ("data:;base64", DataUrlError::NoComma),
            ("data:,a b", DataUrlError::Character(1)),
            ("data:,a#b", DataUrlError::Character(1)),
            ("data:,a\u{e9}", DataUrlError::Character(1)),
            ("data:,a\n", DataUrlError::Character(1)),
            ("data:,a%4", DataUrlError::Escape(1)),
            ("data:,a%zz", DataUrlError::Escape(1)),
            ("data:;base64,aGk", DataUrlError::Base64(3)),
            ("data:;base64,a===", DataUrlError::Base64(1)),
            ("data:;base64,====", DataUrlError::Base64(0)),
            ("data:;base64,aGk==", DataUrlError::Base64(3)),
            ("data:;base64,aGk=aGk=", DataUrlError::Base64(3)),
            ("data:;base64,aG_=", DataUrlError::Base64(2)),
            ("data:;base64,aGk=\n", DataUrlError::Base64(3)),
        ] {
            assert_eq!(decode(text), Err(error), "{text}");
        }
    }

    #[test]
    fn decodes_in_pieces_what_it_decodes_as_a_whole() {
        let contents: Vec<u8> = (0..3 * CHUNK + 7).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let base64 = alloc::format!("data:;base64,{}", BASE64.encode(&contents));
        let percent: Vec<_> = contents.iter().map(|byte| alloc::format!("%{byte:02x}")).collect();
        let percent = alloc::format!("data:,{}", percent.concat());
        for text in [base64, percent] {
            let url = DataUrl::parse(&text).unwrap();
            assert_eq!(url.decode().unwrap(), contents);
            let mut largest = 0;
            url.decode_chunks(&mut |chunk| largest = largest.max(chunk.len())).unwrap();
            assert!(largest <= CHUNK);
        }
    }
}
