// SPDX-License-Identifier: Apache-2.0
//! Values as Go's standard library reads them, since Ignition's flags and environment are read by it.

/// A truth value as `strconv.ParseBool` takes it (<https://pkg.go.dev/strconv#ParseBool>).
pub fn parse_bool(word: &str) -> Option<bool> {
    match word {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
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
}
