// SPDX-License-Identifier: Apache-2.0
//! Where the bytes of a file come from, and what can be said about them without fetching them.

use alloc::string::{String, ToString as _};
use core::fmt;

use super::Contents;
use crate::config::Resource;
use crate::dataurl::DataUrl;
use crate::url::redact;
use crate::verification::{Expected, Function, Hasher};

/// The hash of a file of these contents with these appended, if it is known without fetching anything; in the form that facts
/// have.
pub(super) fn known_digest(contents: &Resource, append: &[Resource]) -> Option<String> {
    if let (Some(hash), []) = (contents.verification.hash.as_deref(), append) {
        return Expected::parse(hash).ok().map(|hash| hash.to_string());
    }
    let mut hasher = Hasher::new(Function::Sha512);
    for resource in core::iter::once(contents).chain(append) {
        match resource.source.as_deref() {
            None | Some("") => {}
            Some(_) if compressed(resource) => return None,
            Some(source) => DataUrl::parse(source).ok()?.decode_chunks(&mut |bytes| hasher.update(bytes)).ok()?,
        }
    }
    Some(hasher.finish().to_string())
}

/// Which function the facts about a file have to use, so that they can be compared with [`known_digest`].
pub(super) fn function(contents: &Resource, append: &[Resource]) -> Function {
    let hash = contents.verification.hash.as_deref().filter(|_| append.is_empty());
    hash.and_then(|hash| Expected::parse(hash).ok()).map_or(Function::Sha512, |hash| hash.function())
}

fn compressed(resource: &Resource) -> bool {
    resource.compression.as_deref().is_some_and(|compression| !compression.is_empty())
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Key(_) => f.write_str("the volume's key"),
            Self::Resource(resource) => {
                match resource.source.as_deref() {
                    None | Some("") => f.write_str("nothing")?,
                    Some(source) => f.write_str(&redact(source))?,
                }
                if compressed(resource) {
                    f.write_str(", decompressed")?;
                }
                if resource.verification.hash.is_some() {
                    f.write_str(", verified")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Contents {
    /// As in plans: contents may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({self})")
    }
}
