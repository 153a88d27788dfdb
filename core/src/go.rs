// SPDX-License-Identifier: Apache-2.0
//! Values as Go's standard library reads them, since Ignition's flags and environment are read by it.

use core::time::Duration;

/// A truth value as `strconv.ParseBool` takes it (<https://pkg.go.dev/strconv#ParseBool>).
pub fn parse_bool(word: &str) -> Option<bool> {
    match word {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A duration as Go's `time.ParseDuration` reads it: `5s`, `1h30m`, `1.5s`, `300ms`, `0`. Negative ones are refused. What is
/// below a nanosecond is dropped.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit_length = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_length);
        let nanoseconds = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(times(number, nanoseconds)?)?;
        rest = tail;
    }
    if text.is_empty() { None } else { Some(Duration::from_nanos(total)) }
}

/// A decimal number, which may begin or end with its point, times a unit.
fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut total = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.checked_mul(unit)? };
    let mut place = unit;
    for digit in fraction.chars() {
        place /= 10;
        total = total.checked_add(u64::from(digit.to_digit(10)?) * place)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gos_words_count() {
        for (word, value) in
            [("true", Some(true)), ("1", Some(true)), ("F", Some(false)), ("tRUE", None), ("yes", None), ("", None)]
        {
            assert_eq!(parse_bool(word), value, "{word:?}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [
            ("5s", 5000),
            ("2m", 120_000),
            ("1h30m", 5_400_000),
            ("300ms", 300),
            ("1.5s", 1500),
            ("0", 0),
            (".5s", 500),
            ("1.s", 1000),
            ("0.25m", 15_000),
            ("+1.25s", 1250),
            ("1500us", 1),
            ("2000000ns", 2),
        ] {
            assert_eq!(duration(text).map(|duration| duration.as_millis()), Some(millis), "{text}");
        }
        for text in ["", "5", "s", "-5s", "5 s", "1x", "5s5", ".", ".s", "1.5.5s", "99999999999999h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
