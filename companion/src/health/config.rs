// SPDX-License-Identifier: Apache-2.0
//! `/etc/greenboot/greenboot.conf`: of greenboot's settings, the scripts that are not to run.
//!
//! greenboot has bash read the file. Here nothing of it is run: only the list is read, as bash would read a list of words, and what would
//! need a shell is refused. Conditions around a line aren't seen.

/// The array of the file that is read.
const KEY: &str = "DISABLED_HEALTHCHECKS";

/// The file names that `DISABLED_HEALTHCHECKS=(...)` lists. The last assignment counts, `+=` adds to it.
///
/// # Errors
/// It is no list in parentheses, isn't closed, has something in it that only a shell could work out, or is named anywhere else than at the
/// beginning of a line: a list that isn't understood would let checks run that are not to.
pub fn disabled(text: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let number = text.get(..text.len() - rest.len()).unwrap_or_default().matches('\n').count() + 1;
        let failure = |why: &str| format!("line {number}: {KEY} {why}");
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let words_of_line = line.trim_start();
        let assigned = words_of_line.strip_prefix(KEY).filter(|behind| !behind.starts_with(is_of_name));
        let Some(behind) = assigned else {
            if names_it(words_of_line) {
                return Err(failure(ELSEWHERE));
            }
            rest = after;
            continue;
        };
        let (adds, value) = match (behind.strip_prefix("+="), behind.strip_prefix('=')) {
            (Some(value), _) => (true, value),
            (None, Some(value)) => (false, value),
            (None, None) => return Err(failure(ELSEWHERE)),
        };
        // The list may go on in the next lines.
        let value = rest.get(line.len() - value.len()..).unwrap_or_default();
        let (list, behind) = words(value).map_err(failure)?;
        let (same_line, after) = behind.split_once('\n').unwrap_or((behind, ""));
        let is_comment = same_line.starts_with(char::is_whitespace) && same_line.trim_start().starts_with('#');
        if !same_line.trim().is_empty() && !is_comment {
            return Err(failure(
                "has something behind its list that only a shell could work out: write it on a line of its own",
            ));
        }
        if !adds {
            names.clear();
        }
        names.extend(list);
        rest = after;
    }
    Ok(names)
}

const ELSEWHERE: &str =
    "is used in a way that only a shell could work out: write NAME=(...) or NAME+=(...) at the beginning of a line";

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether a line has the array's name in it, but in a comment. A number sign behind a quote may be a part of a word.
fn names_it(line: &str) -> bool {
    let comment = line.match_indices('#').map(|(at, _)| line.split_at(at).0).find(|before| {
        (before.is_empty() || before.ends_with(char::is_whitespace)) && !before.contains(['"', '\'', '\\'])
    });
    let code = comment.unwrap_or(line);
    code.match_indices(KEY).any(|(at, _)| {
        let (before, behind) = code.split_at(at);
        !before.ends_with(is_of_name) && !behind.get(KEY.len()..).unwrap_or_default().starts_with(is_of_name)
    })
}

/// The words of a list that the text begins with, and what is behind it.
fn words(text: &str) -> Result<(Vec<String>, &str), &'static str> {
    const SHELL: &str = "has something in it that only a shell could work out: write the names as they are";
    let text = text.strip_prefix('(').ok_or("is no list in parentheses")?;
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ')' => {
                words.extend(word);
                return Ok((words, chars.as_str()));
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
            '$' | '`' | '\\' | '*' | '?' | '[' | '{' | '~' | '(' | ';' | '&' | '|' | '<' | '>' => return Err(SHELL),
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
            ("DISABLED_HEALTHCHECKS_TOO=(a)\nMY_DISABLED_HEALTHCHECKS=(a)", &[]),
            ("DISABLED_HEALTHCHECKS=(a)\t# DISABLED_HEALTHCHECKS=(b)\nX=1 # as DISABLED_HEALTHCHECKS\n", &["a"]),
            ("DISABLED_HEALTHCHECKS=(\na\n)\nDISABLED_HEALTHCHECKS+=(b)", &["a", "b"]),
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
            ("DISABLED_HEALTHCHECKS=({01,02}_x.sh)\n", "only a shell"),
            ("DISABLED_HEALTHCHECKS=(~/x.sh)\n", "only a shell"),
            ("X=(\na\n)\ndeclare -a DISABLED_HEALTHCHECKS=(a)\n", "line 4: DISABLED_HEALTHCHECKS is used in a way"),
            ("export DISABLED_HEALTHCHECKS=(a)\n", "only a shell"),
            ("[[ -e /x ]] && DISABLED_HEALTHCHECKS=(a)\n", "only a shell"),
            ("DISABLED_HEALTHCHECKS[0]=a\n", "only a shell"),
            ("X=${#Y} DISABLED_HEALTHCHECKS=(a)\n", "only a shell"),
            ("X=\"a #b\"; DISABLED_HEALTHCHECKS=(a)\n", "only a shell"),
            ("DISABLED_HEALTHCHECKS=(a)\nunset DISABLED_HEALTHCHECKS\n", "line 2"),
            ("DISABLED_HEALTHCHECKS=(\na\n) || true\n", "line 1: DISABLED_HEALTHCHECKS has something behind its list"),
            ("DISABLED_HEALTHCHECKS=(a); DISABLED_HEALTHCHECKS=()\n", "behind its list"),
            ("DISABLED_HEALTHCHECKS=(a)#b\n", "behind its list"),
        ] {
            let error = disabled(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
