// SPDX-License-Identifier: Apache-2.0
//! The configuration: what a machine is to become, in the words of the Ignition specification 3.x.
//!
//! A text becomes a [`Config`] by [`parse`]: it is refused or accepted by the rules of the version that it names, and has then
//! the shape of the newest one. Several become one by [`merge`]; what came of that is checked again by [`validate`].

mod decode;
mod model;
#[cfg(feature = "mutation")]
mod mutation;
mod parse;
mod recognize;
mod remark;
pub mod schema;
mod section;
pub mod types;
mod unsupported;
mod validate;
mod version;

#[cfg(test)]
pub(crate) use parse::parse_unchecked;
pub use parse::{Parsed, Refusal, parse, read_cache};
pub use types::{
    Cex, Clevis, ClevisCustom, Config, Directory, Disk, Dropin, File, Filesystem, HttpHeader, Ignition, IgnitionConfig,
    KernelArgument, KernelArguments, Link, Luks, NodeGroup, NodeUser, Partition, Passwd, PasswdGroup, PasswdUser,
    Proxy, Raid, Resource, Security, Storage, Systemd, Tang, Timeouts, Tls, Unit, Verification,
};
pub use unsupported::unsupported;
pub use validate::{token, validate};
pub use version::Version;

use alloc::vec::Vec;

use crate::json::Path;
use crate::origin::Origin;
use model::Value as _;

/// Merges a child over its parent by Ignition's rules: where both say something, the child wins; lists are merged by key (a
/// path, a name, a device, a URL) or appended, and a path of the child that is a file drops the parent's directory of that path.
/// An entry that both have takes the child's origin.
pub fn merge(mut parent: Config, child: Config) -> Config {
    parent.merge(child);
    parent
}

/// The configuration of those who gave none: nothing but the version.
pub fn empty() -> Config {
    Config { ignition: Ignition { version: Version::LATEST.name().into(), ..Ignition::default() }, ..Config::default() }
}

/// The origins of all list items, in a fixed order. The cache doesn't hold them; with [`restore_origins`] they come back in
/// the next process.
pub fn origins(config: &Config) -> Vec<Origin> {
    let mut origins = Vec::new();
    config.copy_origins(&mut origins);
    origins
}

/// Puts the origins back that [`origins`] gave. Does nothing and returns `false` if their number isn't right, as when somebody
/// has changed the cache.
pub fn restore_origins(config: &mut Config, origins: &[Origin]) -> bool {
    let mut count = 0;
    config.each_origin(&Path::ROOT, &mut |_, _| count += 1);
    if count != origins.len() {
        return false;
    }
    let mut origins = origins.iter();
    config.each_origin(&Path::ROOT, &mut |_, origin| {
        if let Some(known) = origins.next() {
            *origin = *known;
        }
    });
    true
}

#[cfg(test)]
mod merge_tests;
#[cfg(test)]
mod tests;
