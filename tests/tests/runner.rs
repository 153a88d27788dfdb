// SPDX-License-Identifier: Apache-2.0
//! The one test program of this crate. A file in this folder that isn't listed here would never run; a test sees to that.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails; clippy's own exemption doesn't reach helper functions"
)]

mod apply;
mod command_line;
mod config_oracle;
mod dependencies;
mod dracut_modules;
mod fetch_clouds;
mod fetch_contents;
mod fetch_failures;
mod fetch_proxy;
mod fetch_stage;
mod fetch_tftp;
mod files_stage;
mod filesystems;
mod firstboot;
mod handover;
mod http_client;
mod interrupted;
mod journal;
mod kargs;
mod labels;
mod mounting;
mod refusals;
mod specification;

#[test]
fn no_file_is_forgotten() {
    let runner = include_str!("runner.rs");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap_or(&name);
        assert!(module == "runner" || runner.contains(&format!("mod {module};")), "{name} is not part of the runner");
    }
}
