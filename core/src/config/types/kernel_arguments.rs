// SPDX-License-Identifier: Apache-2.0
//! `kernelArguments`.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Serialize, Serializer};

use crate::config::decode::Decoding;
use crate::config::model::{Entry, OriginVisitor, Value};
use crate::config::schema::Kind;
use crate::config::section::section;
use crate::json::{Node, Path, StepBuf};
use crate::origin::Origin;

section! {
    /// What the kernel is to be started with, and without.
    pub part KernelArguments {
        /// Arguments that are added where they are missing.
        should_exist: Vec<KernelArgument> = "shouldExist", V3_3, exclusive;
        /// Arguments that are removed where they are.
        should_not_exist: Vec<KernelArgument> = "shouldNotExist", V3_3, exclusive;
    }
}

/// A kernel argument, and where it was written: no section around it says so.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct KernelArgument {
    /// The argument.
    pub text: String,
    /// Where it was written.
    pub origin: Origin,
}

impl Serialize for KernelArgument {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

impl Value for KernelArgument {
    const KIND: Kind = Kind::Text;

    fn decode(&mut self, node: Node<'_>, at: &Path<'_>, cx: &mut Decoding<'_>) {
        self.text.decode(node, at, cx);
    }

    fn merge(&mut self, child: Self) {
        *self = child;
    }

    fn each_origin(&mut self, at: &Path<'_>, visit: OriginVisitor<'_>) {
        visit(at, &mut self.origin);
    }

    fn copy_origins(&self, out: &mut Vec<Origin>) {
        out.push(self.origin);
    }

    fn origin_on(&self, _: &[StepBuf], depth: usize) -> Option<(usize, Origin)> {
        Some((depth, self.origin))
    }
}

impl Entry for KernelArgument {
    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.text)
    }
}
