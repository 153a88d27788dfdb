// SPDX-License-Identifier: Apache-2.0
//! `docs/specification.md` against the config model and the sources: a row a field, no more and no fewer, and what it names is
//! there. Whether the tests notice anything is what `./dev mutate-fields` finds out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fledge_core::config::schema;

/// The test programs of the page, and where their sources are.
const PROGRAMS: &[(&str, &str)] =
    &[("fledge_core", "core/src"), ("fledge_stages", "stages/src"), ("runner", "tests/tests")];
/// Modules whose tests see no effects.
const EFFECTLESS: &[&str] = &["fledge_core: config::", "runner: config_oracle::", "runner: specification::"];

fn repo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The cells of each row.
fn rows() -> Vec<[String; 4]> {
    let page = fs::read_to_string(repo().join("docs/specification.md")).unwrap();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let lines = page.lines().filter(|line| line.starts_with("| `"));
    lines.map(|line| cells(line).try_into().unwrap_or_else(|cells| panic!("not four cells: {cells:?}"))).collect()
}

/// All sources below a folder, as one text.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_field_has_a_row_with_its_version() {
    let mut fields = Vec::new();
    schema::fields(&mut |name, since| fields.push(format!("{name} since {since}")));
    let rows: Vec<_> = rows().iter().map(|[field, since, _, _]| format!("{field} since {since}")).collect();
    assert_eq!(rows, fields);
}

#[test]
fn modules_and_tests_of_the_rows_are_there() {
    let mut texts = BTreeMap::new();
    for (program, folder) in PROGRAMS {
        let mut text = String::new();
        sources(&repo().join(folder), &mut text);
        texts.insert(*program, text);
    }
    for [field, _, module, test] in rows() {
        assert!(repo().join(&module).is_file(), "{field}: there is no {module}");
        let Some((program, name)) = test.split_once(": ") else {
            panic!("{field}: {test:?} names no program and test")
        };
        let Some(text) = texts.get(program) else { panic!("{field}: there is no test program {program}") };
        let function = name.rsplit("::").next().unwrap();
        assert!(text.contains(&format!("#[test]\nfn {function}() {{")), "{field}: {program} has no test {function}");
        assert!(!EFFECTLESS.iter().any(|module| test.starts_with(module)), "{field}: {test} sees no effect");
    }
}
