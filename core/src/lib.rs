// SPDX-License-Identifier: Apache-2.0
//! Fledge's decisions, free of any operating system.
//!
//! One way through: sources become raw configurations, those are merged and validated into a [`config::Config`]; observers
//! in `fledge-stages` gather [`facts`]; a [`plan`] is made from both, checked, executed, and told in a [`report`].
//!
//! What holds for everything in this crate:
//! - It is pure: no file, no clock, no environment. What a function needs, it is given.
//! - What a user wrote never makes it panic. It says what is wrong, where, why, and what to do ([`diag`]).
//! - Each item of a configuration remembers where it was written ([`origin`]), so that plans and reports can say so.
#![no_std]
#![forbid(unsafe_code)]
#[allow(unused_extern_crates, reason = "no_std crates reach alloc only through this line")]
extern crate alloc;

pub mod accounts;
pub mod bls;
pub mod boot_mount;
pub mod cmdline;
pub mod config;
pub mod counting;
pub mod dataurl;
pub mod date;
pub mod diag;
pub mod evidence;
pub mod facts;
pub mod generator;
pub mod go;
pub mod gpt;
pub mod handover;
pub mod json;
pub mod network;
pub mod origin;
pub mod path;
pub mod pivot;
pub mod plan;
pub mod proxy;
pub mod report;
pub mod root;
pub mod s3;
pub mod secret;
pub mod signature;
pub mod sigv4;
pub mod stage;
pub mod state;
pub mod unit;
pub mod url;
pub mod verification;
