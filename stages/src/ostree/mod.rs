// SPDX-License-Identifier: Apache-2.0
//! What surrounds the stages on an OSTree system: the installed config before them, `/var` between them.

pub mod user_config;
pub mod var;
