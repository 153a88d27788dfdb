// SPDX-License-Identifier: Apache-2.0
//! `fledge`: one static binary under several names. Which names, and what each does, is the table in [`applets`].

mod applets;
mod apply;
mod boot;
mod firstboot;
mod goflags;
mod ignition;
mod input;
mod kargs;
#[cfg(all(target_feature = "crt-static", panic = "abort"))]
mod libc;
mod out;
mod plan;
mod report;
mod validate;

use std::process::ExitCode;

fn main() -> ExitCode {
    applets::dispatch(&std::env::args_os().collect::<Vec<_>>())
}
