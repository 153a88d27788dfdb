// SPDX-License-Identifier: Apache-2.0
//! File systems.

use fledge_core::diag::Failure;
use fledge_core::plan::filesystems::Step;

use super::{Done, Machine, failed};
use crate::host::device;

impl Machine<'_> {
    pub(super) fn filesystem(&mut self, step: &Step) -> Done {
        match step {
            Step::Reuse { device, format, .. } => reuse(step, device, format),
        }
    }
}

/// Looks once more, right before others rely on it.
fn reuse(step: &Step, device: &str, format: &str) -> Done {
    let found = device::look(device).map_err(|error| failed(step, &error))?;
    if found.signature.is_some_and(|signature| signature.format == *format) {
        return Ok(false);
    }
    Err(Failure::new(step.to_string(), "it isn't there any more").remedy("see what else writes to that device"))
}
