// SPDX-License-Identifier: Apache-2.0
//! Systems that OSTree itself made, in temporary directories: what `fledgectl` reads there, and what it has OSTree do.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails; clippy's own exemption doesn't reach helper functions"
)]

mod arm;
mod cli;
mod duty;
mod machine;
mod rpm_ostree;
mod status;
mod units;

#[test]
fn no_file_is_forgotten() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runner");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap();
        assert!(module == "main" || include_str!("main.rs").contains(&format!("mod {module};")), "{name} never runs");
    }
}
