// SPDX-License-Identifier: Apache-2.0
//! `/etc/greenboot/greenboot.conf`: of greenboot's settings, the scripts that are not to run.
//!
//! greenboot has bash read the file. Here nothing of it is run: only the list is read, as bash would read a list of words, and what would
//! need a shell is refused.

/// The array of the file that is read.
const KEY: &str = "DISABLED_HEALTHCHECKS";

/// The file names that `DISABLED_HEALTHCHECKS=(...)` lists. The last assignment counts, `+=` adds to it.
///
/// # Errors
/// It is no list in parentheses, isn't closed, or has something in it that only a shell could work out.
pub fn disabled(text: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let start = offset + (line.len() - line.trim_start().len());
        offset += line.len();
        let line = line.trim_start();
        let Some(rest) = line.strip_prefix(KEY) else { continue };
        let (adds, value) = match rest.strip_prefix("+=") {
            Some(value) => (true, value),
            None => match rest.strip_prefix('=') {
                Some(value) => (false, value),
                None => continue,
            },
        };
        let behind = start + (line.len() - value.len());
        let list = words(text.get(behind..).unwrap_or_default()).map_err(|why| {
            format!("line {}: {KEY} {why}", text.get(..start).unwrap_or_default().lines().count() + 1)
        })?;
        if !adds {
            names.clear();
        }
        names.extend(list);
    }
    Ok(names)
}

/// The words of a list that the text begins with.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    const SHELL: &str = "has something in it that only a shell could work out: write the names as they are";
    let text = text.strip_prefix('(').ok_or("is no list in parentheses")?;
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ')' => {
                words.extend(word);
                return Ok(words);
            }
            c if c.is_whitespace() => words.extend(word.take()),
            '#' if word.is_none() => {
                // To the end of the line.
                chars.by_ref().find(|c| *c == '\n');
            }
            '"' | '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some(end) if end == c => break,
                        Some('$' | '`' | '\\') if c == '"' => return Err(SHELL),
                        Some(other) => word.push(other),
                        None => return Err("has a quote that isn't closed"),
                    }
                }
            }
            '$' | '`' | '\\' | '*' | '?' | '[' | '(' | ';' | '&' | '|' | '<' | '>' => return Err(SHELL),
            other => word.get_or_insert_default().push(other),
        }
    }
    Err("isn't closed by a parenthesis")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_list_as_bash_does() {
        for (text, names) in [
            ("", &[][..]),
            ("GREENBOOT_WATCHDOG_CHECK_ENABLED=true\n", &[]),
            ("DISABLED_HEALTHCHECKS=()\n", &[]),
            ("DISABLED_HEALTHCHECKS=(a.sh 'b c.sh' \"d\".sh)", &["a.sh", "b c.sh", "d.sh"]),
            ("# DISABLED_HEALTHCHECKS=(a)\n", &[]),
            ("  DISABLED_HEALTHCHECKS=(\n\t\"01_x.sh\" # why\n\t02_y.sh\n)\nOTHER=1", &["01_x.sh", "02_y.sh"]),
            ("DISABLED_HEALTHCHECKS=(a)\nDISABLED_HEALTHCHECKS=(b)\nDISABLED_HEALTHCHECKS+=(c)", &["b", "c"]),
            ("DISABLED_HEALTHCHECKS_TOO=(a)\n", &[]),
        ] {
            assert_eq!(disabled(text).unwrap(), names, "{text}");
        }
    }

    #[test]
    fn what_needs_a_shell_is_refused_with_its_line() {
        for (text, why) in [
            ("\nDISABLED_HEALTHCHECKS=a.sh\n", "line 2: DISABLED_HEALTHCHECKS is no list"),
            ("DISABLED_HEALTHCHECKS=(a", "isn't closed by a parenthesis"),
            ("DISABLED_HEALTHCHECKS=('a)\n", "a quote that isn't closed"),
            ("DISABLED_HEALTHCHECKS=($(ls))\n", "only a shell"),
            ("DISABLED_HEALTHCHECKS=(\"$X\")\n", "only a shell"),
            ("DISABLED_HEALTHCHECKS=(*.sh)\n", "only a shell"),
        ] {
            let error = disabled(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
