// SPDX-License-Identifier: Apache-2.0
//! Arrays.

use fledge_core::plan::raid::Step;

use super::{Done, Machine};

impl Machine<'_> {
    pub(super) fn raid(&mut self, step: &Step) -> Done {
        match *step {}
    }
}
