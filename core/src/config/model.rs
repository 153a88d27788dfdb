// SPDX-License-Identifier: Apache-2.0
//! What every value of a configuration can do: be read, merged, checked, and say where it came from.
//!
//! Texts, numbers and lists do it here; sections by the macro in [`super::section`].

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::decode::Decoding;
use super::remark::Remarks;
use super::schema::Kind;
use super::version::Version;
use crate::json::{Node, Path, StepBuf};
use crate::origin::Origin;

/// What is done to an origin.
pub(crate) type OriginVisitor<'v> = &'v mut dyn FnMut(&Path<'_>, &mut Origin);

/// Anything that a field of a configuration may hold.
pub(crate) trait Value: Default {
    /// Its place in the schema.
    const KIND: Kind;

    /// Reads a node over what is already there, as Go does with repeated keys: objects are merged, the rest is replaced.
    fn decode(&mut self, node: Node<'_>, at: &Path<'_>, cx: &mut Decoding<'_>);

    /// Merges a child over what is already there.
    fn merge(&mut self, child: Self);

    /// Whether the JSON form leaves it out.
    fn is_absent(&self) -> bool {
        false
    }

    /// Says what is wrong with it by the rules of a version.
    fn check(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        let _ = (at, cx);
    }

    /// For a list: the keys of its entries.
    fn each_key(&self, visit: &mut dyn FnMut(usize, &str)) {
        let _ = visit;
    }

    /// For a list: drops the entries whose keys are named.
    fn drop_keys(&mut self, keys: &dyn Fn(&str) -> bool) {
        let _ = keys;
    }

    /// Visits the origins of all list items below.
    fn each_origin(&mut self, at: &Path<'_>, visit: OriginVisitor<'_>) {
        let _ = (at, visit);
    }

    /// Copies the origins of all list items below, in the order in which [`Value::each_origin`] visits them.
    fn copy_origins(&self, out: &mut Vec<Origin>) {
        let _ = out;
    }

    /// The origin of the innermost list item on a path, with the number of steps down to it.
    fn origin_on(&self, path: &[StepBuf], depth: usize) -> Option<(usize, Origin)> {
        let _ = (path, depth);
        None
    }
}

/// The rules of one section that aren't about one field's type: written by hand in [`super::validate`].
pub(crate) trait Rules {
    /// Says what is wrong, without descending: sections below are asked on their own.
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>);
}

/// What rules need to know and where they leave what they have to say.
pub(crate) struct Checking<'r> {
    /// The rules of this version hold.
    pub(crate) version: Version,
    /// What was found.
    pub(crate) remarks: &'r mut Remarks,
}

/// An entry of a keyed list.
pub(crate) trait Entry: Value {
    /// What makes two entries one.
    fn key(&self) -> Cow<'_, str>;

    /// Whether merging this entry over one of its key removes both.
    fn removes(&self) -> bool {
        false
    }
}

impl Value for String {
    const KIND: Kind = Kind::Text;

    fn decode(&mut self, node: Node<'_>, at: &Path<'_>, cx: &mut Decoding<'_>) {
        match node {
            Node::Null => {}
            Node::Text(text) => *self = text.into_owned(),
            other => cx.mismatch(at, "a string", &other),
        }
    }

    fn merge(&mut self, child: Self) {
        *self = child;
    }
}

impl Entry for String {
    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

impl Value for i64 {
    const KIND: Kind = Kind::Integer;

    fn decode(&mut self, node: Node<'_>, at: &Path<'_>, cx: &mut Decoding<'_>) {
        match node {
            Node::Null => {}
            Node::Integer(value) => *self = value,
            other => cx.mismatch(at, "a whole number of at most 64 bits, without fraction or exponent", &other),
        }
    }

    fn merge(&mut self, child: Self) {
        *self = child;
    }

    fn is_absent(&self) -> bool {
        *self == 0
    }
}

impl Value for bool {
    const KIND: Kind = Kind::Boolean;

    fn decode(&mut self, node: Node<'_>, at: &Path<'_>, cx: &mut Decoding<'_>) {
        match node {
            Node::Null => {}
            Node::Bool(value) => *self = value,
            other => cx.mismatch(at, "true or false", &other),
        }
    }

    fn merge(&mut self, child: Self) {
        *self = child;
    }
}

impl<T: Value> Value for Option<T> {
    const KIND: Kind = T::KIND;

    fn decode(&mut self, node: Node<'_>, at: &Path<'_>, cx: &mut Decoding<'_>) {
        match node {
            Node::Null => *self = None,
            node => self.get_or_insert_with(T::default).decode(node, at, cx),
        }
    }

    fn merge(&mut self, child: Self) {
        if child.is_some() {
            *self = child;
        }
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Entry> Value for Vec<T> {
    const KIND: Kind = Kind::List(&T::KIND);

    fn decode(&mut self, node: Node<'_>, at: &Path<'_>, cx: &mut Decoding<'_>) {
        let nodes = match node {
            Node::Null => return self.clear(),
            Node::List(nodes) => nodes,
            other => return cx.mismatch(at, "a list", &other),
        };
        // Go would read the entries of a repeated list over those of the first (golang/go#21092); nobody means that.
        self.clear();
        self.reserve_exact(nodes.len());
        for (index, node) in nodes.into_iter().enumerate() {
            let mut item = T::default();
            item.decode(node, &at.index(index), cx);
            self.push(item);
        }
    }

    fn merge(&mut self, child: Self) {
        if self.is_empty() {
            // Nothing to merge with: an entry that would remove another stays, as it does in Ignition.
            *self = child;
            return;
        }
        if child.is_empty() {
            return;
        }
        let known: BTreeSet<String> = self.iter().map(|item| item.key().into_owned()).collect();
        let (changing, new): (Self, Self) = child.into_iter().partition(|item| known.contains(&*item.key()));
        let mut changing: BTreeMap<String, T> =
            changing.into_iter().map(|item| (item.key().into_owned(), item)).collect();
        for mut item in core::mem::take(self) {
            match changing.remove(&*item.key()) {
                Some(child) if child.removes() => {}
                Some(child) => {
                    item.merge(child);
                    self.push(item);
                }
                None => self.push(item),
            }
        }
        self.extend(new);
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn check(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        for (index, item) in self.iter().enumerate() {
            item.check(&at.index(index), cx);
        }
    }

    fn each_key(&self, visit: &mut dyn FnMut(usize, &str)) {
        for (index, item) in self.iter().enumerate() {
            visit(index, &item.key());
        }
    }

    fn drop_keys(&mut self, keys: &dyn Fn(&str) -> bool) {
        self.retain(|item| !keys(&item.key()));
    }

    fn each_origin(&mut self, at: &Path<'_>, visit: OriginVisitor<'_>) {
        for (index, item) in self.iter_mut().enumerate() {
            item.each_origin(&at.index(index), visit);
        }
    }

    fn copy_origins(&self, out: &mut Vec<Origin>) {
        for item in self {
            item.copy_origins(out);
        }
    }

    fn origin_on(&self, path: &[StepBuf], depth: usize) -> Option<(usize, Origin)> {
        match path.split_first() {
            Some((StepBuf::Index(index), rest)) => self.get(*index)?.origin_on(rest, depth + 1),
            _ => None,
        }
    }
}

/// What only list items have.
pub(crate) trait HasOrigin {
    /// Where it was written, if it is a list item.
    fn origin(&self) -> Option<Origin> {
        None
    }

    /// The same, to change it.
    fn origin_mut(&mut self) -> Option<&mut Origin> {
        None
    }
}
