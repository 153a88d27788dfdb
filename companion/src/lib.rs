// SPDX-License-Identifier: Apache-2.0
//! What runs after boot.
//!
//! | module | what it holds |
//! |---|---|
//! | [`sysroot`] | the deployments of a system, and what the initramfs left |
//! | [`status`] | what is known of them, for people and programs |
//! | [`admin`] | changing them, by OSTree's own programs |
//! | [`records`] | carrying out what `fledge_core::counting` decided |
//! | [`health`] | greenboot's checks and hooks |
//! | [`attempt`] | what is kept of boots that were counted |
//! | [`mark`] | what a person says of a deployment |
//! | [`duty`] | what units do in the course of a boot |
//! | [`programs`] | the only code here that runs programs |
//! | [`timeline`] | the report of a first boot as a picture |

pub mod admin;
pub mod attempt;
pub mod duty;
pub mod health;
pub mod mark;
pub mod programs;
pub mod records;
pub mod status;
pub mod sysroot;
pub mod timeline;
