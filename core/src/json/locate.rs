// SPDX-License-Identifier: Apache-2.0
//! Lines and columns of nodes.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use super::path::{Path, PathBuf, Step, StepBuf};
use super::same_key;
use crate::diag::Position;

/// Where a node stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Found {
    /// The first character of the value.
    pub value: Position,
    /// The opening quote of its key; the value's own position where it has none.
    pub key: Position,
}

/// A set of paths, and after [`Places::locate`] where each of them stands.
///
/// A key matches as Go matches it ([`same_key`]), and of several that match the last counts, as it does when the text is
/// read. Whatever the number of paths, locating them takes one pass.
#[derive(Debug, Default)]
pub struct Places {
    found: Option<Found>,
    members: Vec<(String, Places)>,
    /// Ascending by index.
    elements: Vec<(usize, Places)>,
}

impl Places {
    /// Adds a path, and with it all nodes on the way.
    pub fn add(&mut self, path: &Path<'_>) {
        self.add_buf(&path.to_buf());
    }

    /// Adds an owned path.
    pub fn add_buf(&mut self, path: &PathBuf) {
        let mut places = self;
        for step in &path.0 {
            places = places.child(step);
        }
    }

    /// Where a path stands, or the nearest node above it that is in the text. The flag says whether it is the node itself.
    pub fn get(&self, path: &PathBuf) -> Option<(Found, bool)> {
        let mut places = self;
        let mut nearest = self.found;
        for step in &path.0 {
            let next = match step {
                StepBuf::Key(key) => places.member(key),
                StepBuf::Index(index) => places.element(*index),
            };
            let Some((next, found)) = next.and_then(|next| Some((next, next.found?))) else {
                return nearest.map(|found| (found, false));
            };
            places = next;
            nearest = Some(found);
        }
        nearest.map(|found| (found, true))
    }

    /// Where exactly this path stands.
    pub fn exactly(&self, path: &Path<'_>) -> Option<Found> {
        self.at(path)?.found
    }

    fn at(&self, path: &Path<'_>) -> Option<&Self> {
        let Some((parent, step)) = path.split() else { return Some(self) };
        let parent = self.at(parent)?;
        match step {
            Step::Key(key) => parent.member(key),
            Step::Index(index) => parent.element(index),
        }
    }

    fn child(&mut self, step: &StepBuf) -> &mut Self {
        match step {
            StepBuf::Key(key) => {
                let index = self.members.iter().position(|(name, _)| name == key).unwrap_or_else(|| {
                    self.members.push((key.clone(), Self::default()));
                    self.members.len() - 1
                });
                #[allow(clippy::indexing_slicing, reason = "found or pushed above")]
                &mut self.members[index].1
            }
            StepBuf::Index(index) => {
                let at = self.elements.binary_search_by_key(index, |(index, _)| *index).unwrap_or_else(|at| {
                    self.elements.insert(at, (*index, Self::default()));
                    at
                });
                #[allow(clippy::indexing_slicing, reason = "found or inserted above")]
                &mut self.elements[at].1
            }
        }
    }

    fn member(&self, key: &str) -> Option<&Self> {
        self.members.iter().find(|(name, _)| name == key).map(|(_, places)| places)
    }

    fn element(&self, index: usize) -> Option<&Self> {
        let at = self.elements.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        self.elements.get(at).map(|(_, places)| places)
    }

    /// Finds all paths of the set in a text that [`super::Node::parse`] has accepted. In any other text it finds what it finds.
    pub fn locate(&mut self, text: &str) {
        let mut scanner = Scanner { text, at: 0, counted: 0, position: Position { line: 1, column: 1 } };
        scanner.skip_space();
        let value = scanner.position();
        scanner.value(self, Found { value, key: value });
    }
}

struct Scanner<'t> {
    text: &'t str,
    /// Byte offset of the next character.
    at: usize,
    /// Byte offset up to which `position` has been counted: offsets are asked for in ascending order.
    counted: usize,
    position: Position,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The line and column of the next character.
    fn position(&mut self) -> Position {
        let bytes = self.text.as_bytes().get(self.counted..self.at).unwrap_or_default();
        for byte in bytes {
            match byte {
                b'\n' => self.position = Position { line: self.position.line.saturating_add(1), column: 1 },
                // Not the later bytes of a character.
                0x80..=0xbf => {}
                _ => self.position.column = self.position.column.saturating_add(1),
            }
        }
        self.counted = self.at;
        self.position
    }

    /// Walks a value whose paths are wanted. It goes only as deep as the paths do.
    fn value(&mut self, places: &mut Places, found: Found) {
        places.found = Some(found);
        match self.peek() {
            Some(b'{') if !places.members.is_empty() => self.object(places),
            Some(b'[') if !places.elements.is_empty() => self.list(places),
            _ => self.skip_value(),
        }
    }

    fn object(&mut self, places: &mut Places) {
        self.at += 1;
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'"') => {}
                Some(b',') => {
                    self.at += 1;
                    continue;
                }
                Some(_) => {
                    self.at += 1;
                    return;
                }
                None => return,
            }
            let start = self.at;
            self.skip_string();
            let key = unescape(self.text.get(start..self.at).unwrap_or_default());
            let member = match places.members.iter().position(|(name, _)| *name == key) {
                Some(index) => Some(index),
                None => places.members.iter().position(|(name, _)| same_key(name, &key)),
            };
            let member = member.and_then(|index| places.members.get_mut(index));
            let end = self.at;
            let key_at = member.as_ref().map(|_| {
                self.at = start;
                let position = self.position();
                self.at = end;
                position
            });
            self.skip_space();
            if self.peek() == Some(b':') {
                self.at += 1;
            }
            self.skip_space();
            match (member, key_at) {
                (Some((_, places)), Some(key)) => {
                    let value = self.position();
                    self.value(places, Found { value, key });
                }
                _ => self.skip_value(),
            }
        }
    }

    fn list(&mut self, places: &mut Places) {
        self.at += 1;
        let mut wanted = places.elements.iter_mut().peekable();
        for index in 0.. {
            self.skip_space();
            if self.peek() == Some(b',') {
                self.at += 1;
                self.skip_space();
            }
            match self.peek() {
                Some(b']') => {
                    self.at += 1;
                    return;
                }
                None => return,
                Some(_) => {}
            }
            let start = self.at;
            match wanted.next_if(|(at, _)| *at == index) {
                Some((_, places)) => {
                    let value = self.position();
                    self.value(places, Found { value, key: value });
                }
                None => self.skip_value(),
            }
            if self.at == start {
                // Not JSON: don't stand still.
                self.at += 1;
            }
        }
    }

    fn skip_string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'"' => return,
                b'\\' => self.at += 1,
                _ => {}
            }
        }
        self.at = self.at.min(self.text.len());
    }

    fn skip_value(&mut self) {
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                Some(b'"') => self.skip_string(),
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b'}' | b']') => {
                    if depth == 0 {
                        return;
                    }
                    depth -= 1;
                    self.at += 1;
                }
                Some(b',') if depth == 0 => return,
                Some(b',' | b':' | b' ' | b'\t' | b'\r' | b'\n') => {
                    self.at += 1;
                    continue;
                }
                Some(_) => {
                    while !matches!(self.peek(), None | Some(b',' | b':' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n'))
                    {
                        self.at += 1;
                    }
                }
                None => return,
            }
            if depth == 0 {
                return;
            }
        }
    }
}

/// The key that a quoted text stands for.
fn unescape(quoted: &str) -> Cow<'_, str> {
    if quoted.contains('\\') {
        if let Ok(key) = serde_json::from_str::<String>(quoted) {
            return Cow::Owned(key);
        }
    }
    Cow::Borrowed(quoted.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::json::Node;

    fn key(key: &str) -> StepBuf {
        StepBuf::Key(key.into())
    }

    /// Line and column of a key and of its value.
    type At = ((u32, u32), (u32, u32));

    fn located(text: &str, paths: &[Vec<StepBuf>]) -> Vec<Option<At>> {
        let mut places = Places::default();
        for path in paths {
            places.add_buf(&PathBuf(path.clone()));
        }
        places.locate(text);
        let at = |position: Position| (position.line, position.column);
        paths
            .iter()
            .map(|path| {
                let (found, exact) = places.get(&PathBuf(path.clone()))?;
                exact.then(|| (at(found.key), at(found.value)))
            })
            .collect()
    }

    #[test]
    fn counts_lines_and_characters() {
        let text =
            "\r\n {\"\u{e9}\u{1f980}\": \"\u{e9}\", \"a\" :\r\n\t[1, [2,\n3],{\"b\": null, \"\\u0063\\\"\": {}}]}";
        let list = |rest: Vec<StepBuf>| [vec![key("a")], rest].concat();
        assert_eq!(
            located(
                text,
                &[
                    vec![],
                    vec![key("\u{e9}\u{1f980}")],
                    list(vec![]),
                    list(vec![StepBuf::Index(0)]),
                    list(vec![StepBuf::Index(1), StepBuf::Index(1)]),
                    list(vec![StepBuf::Index(2), key("b")]),
                    list(vec![StepBuf::Index(2), key("c\"")]),
                    list(vec![StepBuf::Index(3)]),
                    vec![key("missing"), key("a")],
                    vec![StepBuf::Index(0)],
                ]
            ),
            [
                Some(((2, 2), (2, 2))),
                Some(((2, 3), (2, 9))),
                Some(((2, 14), (3, 2))),
                Some(((3, 3), (3, 3))),
                Some(((4, 1), (4, 1))),
                Some(((4, 5), (4, 10))),
                Some(((4, 16), (4, 28))),
                None,
                None,
                None,
            ]
        );
    }

    #[test]
    fn falls_back_to_the_nearest_node_above() {
        let mut places = Places::default();
        let path = PathBuf(vec![key("a"), StepBuf::Index(0), key("b"), key("c")]);
        places.add_buf(&path);
        places.locate("{\"a\":\n[{}]}");
        let (found, exact) = places.get(&path).unwrap();
        assert_eq!((found.value, exact), (Position { line: 2, column: 2 }, false));
    }

    #[test]
    fn of_several_keys_the_last_counts() {
        let path = [vec![key("a"), key("b")]];
        assert_eq!(located("{\"a\": {\"b\": 1},\n\"A\": {\"B\": 2}}", &path), [Some(((2, 7), (2, 12)))]);
        assert_eq!(located("{\"a\": {\"b\": 1},\n\"a\": {}}", &path), [Some(((1, 8), (1, 13)))]);
        assert_eq!(located("{\"A\": {\"b\": 1}}", &path), [Some(((1, 8), (1, 13)))]);
    }

    #[test]
    fn broken_text_is_no_trouble() {
        let text = "{\"a\": [1, {\"b\": \"\u{e9}\\\"x\"}, 2], \"c\": {}}";
        let paths = [vec![key("a"), StepBuf::Index(1), key("b")], vec![key("c")]];
        for (cut, _) in text.char_indices() {
            located(&text[..cut], &paths);
            located(&text[cut..], &paths);
        }
        for text in ["]]]", "[[[", "{{{", "[,,,", "{\"a\"", "{\"a\":", "\\", "[}", "{]", "{\"a\" 1 \"a\"", "[:::"] {
            located(text, &[vec![key("a")], vec![StepBuf::Index(0)], vec![StepBuf::Index(5), StepBuf::Index(0)]]);
        }
    }

    fn documents() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[a-c]{0,2}", "\\PC{0,4}", Just("\"\\\n\t{}[],:".into())];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((text.clone(), inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// All paths of a document, but those through keys that Go takes for one.
    fn paths(value: &Value, at: &[StepBuf], out: &mut Vec<(Vec<StepBuf>, Value)>) {
        out.push((at.to_vec(), value.clone()));
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    paths(item, &[at, &[StepBuf::Index(index)]].concat(), out);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    if members.keys().filter(|other| same_key(other, name)).count() == 1 {
                        paths(member, &[at, &[key(name)]].concat(), out);
                    }
                }
            }
            _ => {}
        }
    }

    fn offset(text: &str, (line, column): (u32, u32)) -> usize {
        let start: usize = text.split_inclusive('\n').take(line as usize - 1).map(str::len).sum();
        start + text[start..].chars().take(column as usize - 1).map(char::len_utf8).sum::<usize>()
    }

    proptest! {
        #[test]
        fn what_stands_at_a_place_is_the_node(document in documents(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
            prop_assert!(Node::parse(&text).is_ok());
            let mut all = Vec::new();
            paths(&document, &[], &mut all);
            let wanted: Vec<_> = all.iter().map(|(path, _)| path.clone()).collect();
            for ((path, value), place) in all.iter().zip(located(&text, &wanted)) {
                let (at_key, at_value) = place.ok_or_else(|| TestCaseError::fail(format!("{path:?} not found in {text}")))?;
                let mut stream = serde_json::Deserializer::from_str(&text[offset(&text, at_value)..]).into_iter::<Value>();
                prop_assert_eq!(stream.next().unwrap().unwrap(), value.clone());
                if let Some(StepBuf::Key(name)) = path.last() {
                    let mut stream = serde_json::Deserializer::from_str(&text[offset(&text, at_key)..]).into_iter::<Value>();
                    prop_assert_eq!(stream.next().unwrap().unwrap(), Value::from(name.as_str()));
                }
            }
        }

        #[test]
        fn any_text_is_survived(text in "[\\[\\]{}:,\"\\\\ab1 \n\u{e9}]{0,40}", index in 0_usize..3) {
            located(&text, &[vec![key("a"), key("b")], vec![StepBuf::Index(index), key("a")], vec![StepBuf::Index(2), StepBuf::Index(index)]]);
        }
    }
}
