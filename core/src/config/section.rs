// SPDX-License-Identifier: Apache-2.0
//! One definition per section of the specification, and everything that follows from it.
//!
//! [`section!`] makes from a list of fields: the type, its JSON form (`Serialize`, as Ignition writes its cache), its place
//! in the schema, how it is read ([`super::model::Value::decode`]), merged ([`super::model::Value::merge`]), checked ([`super::model::Value::check`]), and where its list
//! items came from ([`super::model::Value::each_origin`]). A field that is added there can't be forgotten in any of these.

use alloc::format;
use alloc::string::String;

use super::model::{Checking, KeyMap, KeyedList};
use crate::json::Path;
use crate::url::{redact, scheme};

/// Remembers which keys the entries of one object's lists have, to find those that stand twice.
#[derive(Default)]
pub(crate) struct Keys {
    exclusive: KeyMap,
}

impl Keys {
    /// Looks at one field; what is no list has no keys.
    pub(crate) fn check(
        &mut self,
        list: Option<&dyn KeyedList>,
        name: &'static str,
        exclusive: bool,
        at: &Path<'_>,
        cx: &mut Checking<'_>,
    ) {
        let Some(list) = list else { return };
        let mut own = KeyMap::new();
        let keys = if exclusive { &mut self.exclusive } else { &mut own };
        list.each_key(&mut |index, key| match keys.get(key) {
            Some((other, first)) => {
                // Where resources are entries, their URL is the key; and an SSH key may be a private one by mistake.
                let what = match (key, scheme(key)) {
                    ("", _) => String::new(),
                    (key, Some(_)) => format!(" of {}", redact(key)),
                    (key, None) if key.starts_with('/') || !key.contains(char::is_whitespace) => format!(" of {key:?}"),
                    _ => String::new(),
                };
                let reason = format!("this is a second entry{what}; the first is {at}.{other}.{first}");
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
pub(crate) struct Claims(KeyMap);

impl Claims {
    /// Takes the keys of one of the child's lists.
    pub(crate) fn claim(&mut self, list: Option<&dyn KeyedList>, name: &'static str) {
        if let Some(list) = list {
            list.each_key(&mut |index, key| {
                self.0.insert(key.into(), (name, index));
            });
        }
    }

    /// Drops from one of the parent's lists what the child has in another.
    pub(crate) fn give_way(&self, list: Option<&mut dyn KeyedList>, name: &'static str) {
        if let Some(list) = list.filter(|_| !self.0.is_empty()) {
            list.drop_keys(&|key| self.0.get(key).is_some_and(|(claimed, _)| *claimed != name));
        }
    }
}

/// Defines a section; see the module.
///
/// A field reads `name: Type = "jsonName", V3_0;`, a list may add how it is merged (`appending`, `exclusive`; keyed without
/// either), and after that which fields of its objects came later than elsewhere (`["compression" V3_1]`).
/// `item` instead of `part` says that it is an entry of a list and carries its [`crate::origin::Origin`].
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
        #[derive(Clone, Default, Eq, PartialEq, serde::Serialize)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(rename = $json, skip_serializing_if = "crate::config::model::Value::is_absent")]
                pub $field: $type,
            )*
            $($extra)*
        }

        impl core::fmt::Debug for $name {
            /// No more than the name: configurations hold secrets.
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), " { .. }"))
            }
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
                let mut claims = $crate::config::section::Claims::default();
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
                let mut keys = $crate::config::section::Keys::default();
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
    (@claim ($claims:expr) ($child:expr) $json:literal exclusive) => { $claims.claim($crate::config::model::Value::as_list(&$child), $json) };
    (@claim ($claims:expr) ($child:expr) $json:literal $($rule:ident)?) => {};
    (@give_way ($claims:expr) ($own:expr) $json:literal exclusive) => { $claims.give_way($crate::config::model::Value::as_list_mut(&mut $own), $json) };
    (@give_way ($claims:expr) ($own:expr) $json:literal $($rule:ident)?) => {};
    (@keys ($keys:expr) ($own:expr) $json:literal ($at:expr) ($cx:expr) appending) => {};
    (@keys ($keys:expr) ($own:expr) $json:literal ($at:expr) ($cx:expr) exclusive) => {
        $keys.check($crate::config::model::Value::as_list(&$own), $json, true, $at, $cx)
    };
    (@keys ($keys:expr) ($own:expr) $json:literal ($at:expr) ($cx:expr)) => {
        $keys.check($crate::config::model::Value::as_list(&$own), $json, false, $at, $cx)
    };
}
pub(crate) use section;
