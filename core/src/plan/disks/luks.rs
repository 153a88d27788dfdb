// SPDX-License-Identifier: Apache-2.0
//! Encrypted volumes. This build makes none: `config::unsupported` refuses a configuration that asks for any.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::super::PlannedStep;
use super::Phase;
use crate::config::Config;
use crate::diag::Failure;
use crate::facts::Facts;
use crate::origin::Sources;

/// See the module.
pub const PHASE: Phase = Phase { name: "encrypted volumes", devices, plan, apply: |_, _| {} };

/// One thing to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {}

impl Step {
    /// What is wrong with it, told without knowing how it was planned.
    pub(in crate::plan) fn faults(&self) -> Vec<String> {
        match *self {}
    }
}

impl fmt::Display for Step {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

fn devices(config: &Config) -> BTreeSet<String> {
    config.storage.luks.iter().filter_map(|luks| luks.device.clone()).collect()
}

fn plan(_: &Config, _: &Facts, _: &Sources) -> Result<Vec<PlannedStep>, Vec<Failure>> {
    Ok(Vec::new())
}
