// SPDX-License-Identifier: Apache-2.0
//! The configuration: what a machine is to become, in the words of the Ignition specification 3.x.
//!
//! A text becomes a [`Config`] by [`parse`]: it is refused or accepted by the rules of the version that it names, and has then
//! the shape of the newest one. Several become one by [`merge`]; what came of that is checked again by [`validate`].

mod decode;
mod model;
mod parse;
mod recognize;
mod remark;
pub mod schema;
pub mod types;
mod validate;
mod version;

pub use parse::{Parsed, Refusal, parse, read_cache};
pub use types::{
    Cex, Clevis, ClevisCustom, Config, Directory, Disk, Dropin, File, Filesystem, HttpHeader, Ignition, IgnitionConfig,
    KernelArguments, Link, Luks, NodeGroup, NodeUser, Partition, Passwd, PasswdGroup, PasswdUser, Proxy, Raid,
    Resource, Security, Storage, Systemd, Tang, Timeouts, Tls, Unit, Verification,
};
pub use validate::validate;
pub use version::Version;

use model::Value as _;

/// Merges a child over its parent by Ignition's rules: where both say something, the child wins; lists are merged by key (a
/// path, a name, a device, a URL) or appended, and a path of the child that is a file drops the parent's directory of that path.
/// An entry that both have takes the child's origin.
pub fn merge(mut parent: Config, child: Config) -> Config {
    parent.merge(child);
    parent
}

impl Config {
    /// Visits the origins of all list items, in the order in which they are written to the cache.
    pub fn each_item(&mut self, visit: &mut dyn FnMut(&mut crate::origin::Origin)) {
        self.each_origin(&crate::json::Path::ROOT, &mut |_, origin| visit(origin));
    }
}

#[cfg(test)]
mod tests;
