// SPDX-License-Identifier: Apache-2.0
//! Adding and removing arguments in a text, byte for byte.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::Request;
use crate::cmdline::{unquoted, words};

/// A quote that isn't closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a double quote isn't closed")]
pub struct Unclosed;

/// Where in a text the arguments stand, line by line.
pub(super) type Spans<'s> = &'s dyn Fn(&str) -> Vec<Range<usize>>;

/// A whole kernel command line with the arguments that a request asks for.
///
/// # Errors
/// A quote in it isn't closed.
pub fn edit_command_line(text: &str, request: &Request) -> Result<String, Unclosed> {
    let mut text = String::from(text.trim());
    edit(&mut text, &|text| core::iter::once(0..text.len()).collect(), request)?;
    Ok(text.trim().into())
}

/// Removes what must not be there, wherever it stands and however often; then adds what is missing behind the last argument of
/// the last line. Says whether anything changed.
pub(super) fn edit(text: &mut String, spans: Spans<'_>, request: &Request) -> Result<bool, Unclosed> {
    if spans(text).into_iter().any(|span| text.get(span).is_some_and(|line| !is_closed(line))) {
        return Err(Unclosed);
    }
    let mut changed = false;
    for argument in &request.should_not_exist {
        while let Some(found) = find(text, spans, argument) {
            for word in found.into_iter().rev() {
                remove(text, &word);
            }
            changed = true;
        }
    }
    for argument in &request.should_exist {
        if find(text, spans, argument).is_none() {
            append(text, spans, argument);
            changed = true;
        }
    }
    Ok(changed)
}

/// Whether each double quote has its second.
pub(super) fn is_closed(line: &str) -> bool {
    line.matches('"').count() % 2 == 0
}

/// The words that an argument stands for: one, unless it has a space outside of quotes.
pub(super) fn meaning(argument: &str) -> Vec<String> {
    words(argument).map(unquoted).collect()
}

/// The first place among words where an argument's words follow each other.
pub(super) fn position(words: &[String], argument: &str) -> Option<Range<usize>> {
    let wanted = meaning(argument);
    let start = words.windows(wanted.len().max(1)).position(|window| window == wanted)?;
    Some(start..start + wanted.len())
}

fn find(text: &str, spans: Spans<'_>, argument: &str) -> Option<Vec<Range<usize>>> {
    let places = places(text, spans);
    let meanings: Vec<_> = places.iter().map(|place| unquoted(text.get(place.clone()).unwrap_or_default())).collect();
    Some(places.get(position(&meanings, argument)?)?.to_vec())
}

/// Where the words stand.
fn places(text: &str, spans: Spans<'_>) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    for span in spans(text) {
        let mut at = span.start;
        let line = text.get(span).unwrap_or_default();
        let mut rest = line;
        for word in words(line) {
            let skipped = rest.find(word).unwrap_or_default();
            places.push(at + skipped..at + skipped + word.len());
            at += skipped + word.len();
            rest = rest.get(skipped + word.len()..).unwrap_or_default();
        }
    }
    places
}

/// Removes a word with the space before it.
fn remove(text: &mut String, word: &Range<usize>) {
    let start = text.get(..word.start).map_or(word.start, |before| before.trim_end_matches([' ', '\t']).len());
    text.replace_range(start..word.end, "");
}

fn append(text: &mut String, spans: Spans<'_>, argument: &str) {
    if let Some(line) = spans(text).last() {
        let last = places(text, spans).pop().filter(|place| place.start >= line.start);
        let end = last.map_or(line.start, |place| place.end);
        text.insert_str(end, argument);
        text.insert(end, ' ');
        return;
    }
    let line_break = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let is_whole = text.is_empty() || text.ends_with('\n');
    if !is_whole {
        text.push_str(line_break);
    }
    text.push_str("options ");
    text.push_str(argument);
    if is_whole {
        text.push_str(line_break);
    }
}
