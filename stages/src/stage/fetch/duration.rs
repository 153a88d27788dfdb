// SPDX-License-Identifier: Apache-2.0
//! Durations on the kernel command line.

use std::time::Duration;

/// Reads seconds, or whole numbers with units in any order: `90`, `90s`, `5m`, `1h30m`.
pub(super) fn parse(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let mut seconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let mut tail = tail.chars();
        let unit = match tail.next()? {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return None,
        };
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = tail.as_str();
    }
    (!text.is_empty()).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, seconds) in [("90", 90), ("0", 0), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("1h1s", 3601)] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "-1", "+ 1", "1.5m", "5 m", "1h30", "99999999999999999999s", "9999999999999999999h", "5d"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
