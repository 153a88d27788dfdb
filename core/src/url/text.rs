// SPDX-License-Identifier: Apache-2.0
//! Escapes, and the dots in paths.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use super::UrlError;

/// Resolves `%xx`.
pub(super) fn unescape(text: &str) -> Result<Cow<'_, [u8]>, UrlError> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text.as_bytes()));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit().ok_or(UrlError::Escape)?, digit().ok_or(UrlError::Escape)?);
        out.push(u8::try_from(high * 16 + low).map_err(|_| UrlError::Escape)?);
    }
    Ok(Cow::Owned(out))
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn push(out: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a string doesn't fail.
    let _ = out.write_fmt(text);
}

/// Escapes what may not stand in a request line; escapes that are there already stay.
pub(super) fn escape_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#') => {
                out.push(char::from(byte));
            }
            _ => push(out, format_args!("%{byte:02X}")),
        }
    }
}

/// Escapes everything but letters, digits and four marks.
pub(super) fn escape_all_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => push(out, format_args!("%{byte:02X}")),
        }
    }
}

/// Resolves `.` and `..` in an absolute path (RFC 3986, 5.2.4).
pub(super) fn without_dots(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let last = path.rsplit('/').next().unwrap_or_default();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                out.pop();
            }
            segment => out.push(segment),
        }
    }
    if matches!(last, "." | "..") {
        out.push("");
    }
    format!("/{}", out.join("/"))
}
