// SPDX-License-Identifier: Apache-2.0
//! `docs/dependencies.md` against what cargo knows.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

const FIRST_CHOICE: [&str; 9] =
    ["rustix", "nix", "serde", "serde_json", "ureq", "gptman", "sys-mount", "libcryptsetup-rs", "ignition-config"];

struct Row<'a> {
    package: &'a str,
    state: &'a str,
    crates: BTreeSet<&'a str>,
    why: &'a str,
}

fn rows(page: &str) -> Vec<Row<'_>> {
    let lines = page.lines().filter(|line| line.starts_with('|') && !line.starts_with("|-"));
    lines.skip(1).map(row).collect()
}

fn row(line: &str) -> Row<'_> {
    let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [package, state, crates, why] = cells[..] else { panic!("not four cells: {line}") };
    let crates = crates.split(',').map(|name| name.trim().trim_matches('`')).filter(|name| *name != "–").collect();
    Row { package, state, crates, why }
}

/// The folders of the workspace's crates that depend on the package directly.
fn dependents<'a>(metadata: &'a Value, root: &str, package: &str) -> BTreeSet<&'a str> {
    let of = |value: &'a Value, key: &str| value[key].as_array().unwrap().iter();
    of(metadata, "packages")
        .filter(|member| of(member, "dependencies").any(|dependency| dependency["name"] == package))
        .filter_map(|member| member["manifest_path"].as_str()?.strip_prefix(root)?.strip_suffix("/Cargo.toml"))
        .map(|folder| folder.trim_start_matches('/'))
        .collect()
}

#[test]
fn each_first_choice_package_has_a_row_that_holds() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1"])
        .current_dir(root)
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let root = metadata["workspace_root"].as_str().unwrap();

    let page = std::fs::read_to_string(format!("{root}/docs/dependencies.md")).unwrap();
    let rows = rows(&page);
    assert_eq!(rows.iter().map(|row| row.package).collect::<Vec<_>>(), FIRST_CHOICE);
    for Row { package, state, crates, why } in &rows {
        let dependents = dependents(&metadata, root, package);
        assert_eq!(crates, &dependents, "{package}: the row's crates, and those that cargo knows");
        match *state {
            "used" => assert!(!dependents.is_empty(), "{package} is used nowhere"),
            "planned" => assert!(why.len() > 20, "{package}: where will it be used?"),
            "not used" => assert!(why.contains(|c: char| c.is_ascii_digit()), "{package}: which measurement says so?"),
            other => panic!("{package}: {other:?} is not used, planned or not used"),
        }
    }
}
