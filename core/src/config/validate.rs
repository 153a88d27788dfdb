// SPDX-License-Identifier: Apache-2.0
//! The rules of the specification, one file a section.

use alloc::vec::Vec;

use super::model::{Checking, Rules, Value as _};
use super::remark::Remarks;
use super::types::Config;
use super::version::Version;
use crate::diag::{Diagnostic, Place};
use crate::json::{Path, PathBuf, StepBuf};
use crate::origin::Sources;

/// Checks what merging made, by the rules of the newest version. Each remark is about the entry that has the fault, in the
/// configuration that wrote it.
pub fn validate(config: &Config, sources: &Sources) -> Vec<Diagnostic> {
    let mut remarks = Remarks::default();
    config.check(&Path::ROOT, &mut Checking { version: Version::LATEST, remarks: &mut remarks });
    remarks.into_diagnostics_at("the merged config", |path| place_of(config, path, sources))
}

/// The place of a node of a merged configuration, as the configuration that wrote its list entry would name it.
pub(super) fn place_of(config: &Config, path: &PathBuf, sources: &Sources) -> Place {
    let merged = || Place { source: "the merged config".into(), path: alloc::format!("{path}"), position: None };
    let Some((depth, origin)) = config.origin_on(&path.0, 0) else { return merged() };
    let (Some(above), Some(below)) = (path.0.get(..depth.saturating_sub(1)), path.0.get(depth..)) else {
        return merged();
    };
    let section = PathBuf(above.to_vec());
    let Some(mut place) = sources.place(origin, &alloc::format!("{section}")) else { return merged() };
    for step in below {
        place.path.push('.');
        match step {
            StepBuf::Key(key) => place.path.push_str(key),
            StepBuf::Index(index) => place.path.push_str(&alloc::format!("{index}")),
        }
    }
    place
}

impl Rules for Config {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Ignition {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::IgnitionConfig {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Proxy {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Security {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Tls {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Timeouts {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::KernelArguments {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Passwd {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::PasswdGroup {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::PasswdUser {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Resource {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::HttpHeader {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Verification {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Storage {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Directory {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Disk {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::File {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Filesystem {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Link {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::NodeGroup {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::NodeUser {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Partition {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Raid {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Luks {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Cex {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Clevis {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::ClevisCustom {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Tang {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Systemd {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Unit {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for super::types::Dropin {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}
