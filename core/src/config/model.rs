// SPDX-License-Identifier: Apache-2.0
//! One definition per section of the specification, and everything that follows from it.
//!
//! [`section!`] makes from a list of fields: the type, its JSON form (`Serialize`, as Ignition writes its cache), its place
//! in the schema, how it is read ([`Value::decode`]), merged ([`Value::merge`]), checked ([`Value::check`]), and where its list
//! items came from ([`Value::each_origin`]). A field that is added there can't be forgotten in any of these.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::decode::Decoding;
use super::remark::Remarks;
use super::schema::{Field, Kind};
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

/// Remembers which keys the entries of one object's lists have, to find those that stand twice.
#[derive(Default)]
pub(crate) struct Keys {
    exclusive: BTreeMap<String, (&'static str, usize)>,
}

impl Keys {
    /// Looks at one list.
    pub(crate) fn check<T: Value>(
        &mut self,
        list: &T,
        name: &'static str,
        exclusive: bool,
        at: &Path<'_>,
        cx: &mut Checking<'_>,
    ) {
        let mut own = BTreeMap::new();
        let keys = if exclusive { &mut self.exclusive } else { &mut own };
        list.each_key(&mut |index, key| match keys.get(key) {
            Some((other, first)) => {
                let what = if key.is_empty() { String::new() } else { alloc::format!(" of {key:?}") };
                let reason = alloc::format!("this is a second entry{what}; the first is {at}.{other}.{first}");
                let list = at.key(name);
                cx.remarks.error(&list.index(index), reason).remedy("keep one of them");
            }
            None => {
                keys.insert(key.into(), (name, index));
            }
        });
    }
}

/// The keys of a child's exclusive lists: entries of the parent that stand in another list give way.
#[derive(Default)]
pub(crate) struct Claims(BTreeMap<String, &'static str>);

impl Claims {
    pub(crate) fn claim<T: Value>(&mut self, list: &T, name: &'static str) {
        list.each_key(&mut |_, key| {
            self.0.insert(key.into(), name);
        });
    }

    pub(crate) fn give_way<T: Value>(&self, list: &mut T, name: &'static str) {
        if !self.0.is_empty() {
            list.drop_keys(&|key| self.0.get(key).is_some_and(|claimed| *claimed != name));
        }
    }
}

/// Finds a field by its exact name.
pub(crate) fn field(fields: &'static [Field], name: &str) -> Option<&'static Field> {
    fields.iter().find(|field| field.name == name)
}

/// Defines a section; see the module.
///
/// A field reads `name: Type = "jsonName", V3_0;`, a list may add how it is merged (`appending`, `exclusive`; keyed without
/// either), and after that which fields of its objects came later than elsewhere (`["compression" V3_1]`).
/// `item` instead of `part` says that it is an entry of a list and carries its [`Origin`].
macro_rules! section {
    ($(#[$meta:meta])* pub part $name:ident { $($body:tt)* }) => {
        section!(@define [$(#[$meta])*] $name [] { $($body)* });
        impl $crate::config::model::HasOrigin for $name {}
    };
    ($(#[$meta:meta])* pub item $name:ident { $($body:tt)* }) => {
        section!(@define [$(#[$meta])*] $name
            [/// Where it was written.
             #[serde(skip)]
             pub origin: $crate::origin::Origin,]
            { $($body)* });
        impl $crate::config::model::HasOrigin for $name {
            fn origin(&self) -> Option<$crate::origin::Origin> {
                Some(self.origin)
            }
            fn origin_mut(&mut self) -> Option<&mut $crate::origin::Origin> {
                Some(&mut self.origin)
            }
        }
    };
    (@define [$(#[$meta:meta])*] $name:ident [$($extra:tt)*] {
        $(
            $(#[$field_meta:meta])*
            $field:ident: $type:ty = $json:literal, $since:ident
            $(, $rule:ident)? $(, [$($later:literal $later_since:ident),+])?;
        )*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, Eq, PartialEq, serde::Serialize)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(rename = $json, skip_serializing_if = "crate::config::model::Value::is_absent")]
                pub $field: $type,
            )*
            $($extra)*
        }

        impl $crate::config::model::Value for $name {
            const KIND: $crate::config::schema::Kind = $crate::config::schema::Kind::Object(&[
                $($crate::config::schema::Field {
                    name: $json,
                    kind: <$type as $crate::config::model::Value>::KIND,
                    since: $crate::config::version::Version::$since,
                    later: &[$($(($later, $crate::config::version::Version::$later_since)),+)?],
                    rule: section!(@rule $($rule)?),
                }),*
            ]);

            fn decode(
                &mut self,
                node: $crate::json::Node<'_>,
                at: &$crate::json::Path<'_>,
                cx: &mut $crate::config::decode::Decoding<'_>,
            ) {
                cx.object(Self::KIND, node, at, &mut |name, node, at, cx| match name {
                    $($json => $crate::config::model::Value::decode(&mut self.$field, node, at, cx),)*
                    _ => {}
                });
            }

            #[allow(unused_mut, unused_variables, reason = "sections without exclusive lists have nothing to claim")]
            fn merge(&mut self, child: Self) {
                use $crate::config::model::HasOrigin as _;
                let origin = child.origin();
                let mut claims = $crate::config::model::Claims::default();
                $(section!(@claim (claims) (child.$field) $json $($rule)?);)*
                $(section!(@give_way (claims) (self.$field) $json $($rule)?);)*
                $(section!(@merge (self.$field) (child.$field) $($rule)?);)*
                if let (Some(own), Some(origin)) = (self.origin_mut(), origin.filter($crate::origin::Origin::is_known)) {
                    *own = origin;
                }
            }

            fn check(&self, at: &$crate::json::Path<'_>, cx: &mut $crate::config::model::Checking<'_>) {
                $crate::config::model::Rules::rules(self, at, cx);
                #[allow(unused_mut, unused_variables, reason = "sections without keyed lists have no keys")]
                let mut keys = $crate::config::model::Keys::default();
                $(section!(@keys (keys) (self.$field) $json (at) (cx) $($rule)?);)*
                $($crate::config::model::Value::check(&self.$field, &at.key($json), cx);)*
            }

            fn each_origin(&mut self, at: &$crate::json::Path<'_>, visit: $crate::config::model::OriginVisitor<'_>) {
                use $crate::config::model::HasOrigin as _;
                if let Some(origin) = self.origin_mut() {
                    visit(at, origin);
                }
                $($crate::config::model::Value::each_origin(&mut self.$field, &at.key($json), visit);)*
            }

            fn copy_origins(&self, out: &mut alloc::vec::Vec<$crate::origin::Origin>) {
                use $crate::config::model::HasOrigin as _;
                out.extend(self.origin());
                $($crate::config::model::Value::copy_origins(&self.$field, out);)*
            }

            fn origin_on(
                &self,
                path: &[$crate::json::StepBuf],
                depth: usize,
            ) -> Option<(usize, $crate::origin::Origin)> {
                use $crate::config::model::HasOrigin as _;
                let own = self.origin().map(|origin| (depth, origin));
                let Some(($crate::json::StepBuf::Key(key), rest)) = path.split_first() else { return own };
                let below = match key.as_str() {
                    $($json => $crate::config::model::Value::origin_on(&self.$field, rest, depth + 1),)*
                    _ => None,
                };
                // What is directly at the key is no item of a list.
                below.filter(|(found, _)| *found > depth + 1).or(own)
            }
        }
    };
    (@rule) => { $crate::config::schema::Rule::Keyed };
    (@rule exclusive) => { $crate::config::schema::Rule::Exclusive };
    (@rule appending) => { $crate::config::schema::Rule::Appending };
    (@merge ($own:expr) ($child:expr)) => { $crate::config::model::Value::merge(&mut $own, $child) };
    (@merge ($own:expr) ($child:expr) exclusive) => { $crate::config::model::Value::merge(&mut $own, $child) };
    (@merge ($own:expr) ($child:expr) appending) => { $own.extend($child) };
    (@claim ($claims:expr) ($child:expr) $json:literal exclusive) => { $claims.claim(&$child, $json) };
    (@claim ($claims:expr) ($child:expr) $json:literal $($rule:ident)?) => {};
    (@give_way ($claims:expr) ($own:expr) $json:literal exclusive) => { $claims.give_way(&mut $own, $json) };
    (@give_way ($claims:expr) ($own:expr) $json:literal $($rule:ident)?) => {};
    (@keys ($keys:expr) ($own:expr) $json:literal ($at:expr) ($cx:expr) appending) => {};
    (@keys ($keys:expr) ($own:expr) $json:literal ($at:expr) ($cx:expr) exclusive) => {
        $keys.check(&$own, $json, true, $at, $cx)
    };
    (@keys ($keys:expr) ($own:expr) $json:literal ($at:expr) ($cx:expr)) => {
        $keys.check(&$own, $json, false, $at, $cx)
    };
}
pub(crate) use section;

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
