// SPDX-License-Identifier: Apache-2.0
//! `./dev mutate-fields`: would a test notice if a field of the specification were forgotten?
//!
//! `docs/specification.md` names a test for each field. Here the tests are built so that they forget the field that the
//! environment names (`core/src/config/mutation.rs`); each field's test must fail without it, and pass if what is to be
//! forgotten isn't there.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::sh;
use crate::test::{Binary, Case, built};

const PAGE: &str = "docs/specification.md";
const VARIABLE: &str = "FLEDGE_DROP_FIELD";
/// A field that no configuration has.
const NOTHING: &str = "nothing";
/// What has tests of fields. Other packages are of no use here, and would have to be built once more.
const BUILD: [&str; 12] = [
    "build",
    "--quiet",
    "--all-targets",
    "--features=fledge-core/mutation",
    "-p",
    "fledge",
    "-p",
    "fledge-core",
    "-p",
    "fledge-stages",
    "-p",
    "fledge-tests",
];
/// How long a test may take, in seconds. One that waits for something that a forgotten field would have brought has not noticed.
const LIMIT: &str = "60";
/// How long a whole test program may take, in seconds: some of its tests may wait like that.
const PROGRAM_LIMIT: &str = "600";
/// Modules, with their test programs, whose tests see the configuration itself, not what becomes of it. `--discover` leaves them out.
const OWN: [(&str, &str); 3] =
    [("fledge_core", "config::"), ("runner", "config_oracle::"), ("runner", "specification::")];
const USAGE: &str = "usage: ./dev mutate-fields [--discover[=PROGRAM]] [FIELD...]";

/// A row of the page.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Row {
    field: String,
    test: Test,
}

/// A test program and the test's name in it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Test {
    program: String,
    name: String,
}

/// What a test says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Passes,
    Fails,
    /// It was ended, or broke down.
    Nothing,
    /// It does not exist.
    Missing,
}

/// The tests that forget a field.
struct Mutants {
    binaries: Vec<Binary>,
    /// The program that forgets.
    program: PathBuf,
    build: Duration,
}

/// Runs the rows of the named fields, or all.
pub(crate) fn run(repo: &Path, args: &[String]) -> Result<bool> {
    let mut discover = None;
    let mut fields = Vec::new();
    for arg in args {
        match arg.as_str() {
            "--discover" => discover = Some(""),
            name if !name.starts_with('-') => fields.push(name),
            flag => match flag.strip_prefix("--discover=") {
                Some(program) => discover = Some(program),
                None => bail!("{USAGE}"),
            },
        }
    }
    let mut rows = rows(repo)?;
    for field in &fields {
        ensure!(rows.iter().any(|row| row.field == *field), "{PAGE} has no field {field}");
    }
    rows.retain(|row| fields.is_empty() || fields.contains(&row.field.as_str()));
    let mutants = Mutants::build(repo)?;
    if let Some(program) = discover {
        return mutants.discover(&rows, program).map(|()| true);
    }
    let cases = mutants.cases(rows)?;
    Ok(cases.iter().all(|case| case.passed))
}

/// The rows as cases of `./dev test`.
pub(crate) fn test_cases(repo: &Path) -> Result<Vec<Case>> {
    Mutants::build(repo)?.cases(rows(repo)?)
}

fn rows(repo: &Path) -> Result<Vec<Row>> {
    let page = std::fs::read_to_string(repo.join(PAGE)).with_context(|| format!("reading {PAGE}"))?;
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).map(row).collect::<Result<_>>()?;
    ensure!(!rows.is_empty(), "{PAGE} has no rows");
    Ok(rows)
}

/// `` | `storage.files` | 3.0.0 | `core/src/plan/files.rs` | `fledge_core: plan::tests::files` | ``
fn row(line: &str) -> Result<Row> {
    let cells: Vec<_> = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
    let [field, _, _, test] = cells[..] else { bail!("{PAGE}: not four cells: {line}") };
    let (program, name) = test.split_once(": ").with_context(|| format!("{PAGE}: {field} names no test"))?;
    let test = Test { program: program.to_owned(), name: name.to_owned() };
    Ok(Row { field: field.to_owned(), test })
}

impl Mutants {
    fn build(repo: &Path) -> Result<Self> {
        sh::step("building the tests that forget a field");
        let start = Instant::now();
        let (binaries, programs): (Vec<_>, Vec<_>) = built(&BUILD)?.into_iter().partition(|binary| binary.is_test);
        let program = programs.iter().find(|binary| binary.name == "fledge").context("cargo built no fledge")?;
        // Others build the program to the same place.
        let folder = repo.join("target/mutation");
        let copy = folder.join("fledge");
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        std::fs::copy(&program.path, &copy).with_context(|| format!("writing {}", copy.display()))?;
        Ok(Self { binaries, program: copy, build: start.elapsed() })
    }

    /// A test program that forgets a field.
    fn command(&self, binary: &Binary, args: &[&str], field: &str, limit: &str) -> Command {
        let variables = [
            ("FLEDGE_BIN", self.program.as_path()),
            (VARIABLE, field.as_ref()),
            // What a property fails for without a field is not worth finding the smallest example of, nor keeping it.
            ("PROPTEST_MAX_SHRINK_ITERS", "0".as_ref()),
            ("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1".as_ref()),
        ];
        let mut command = sh::as_root("timeout".as_ref(), &variables);
        command.arg(limit).arg(&binary.path).args(args);
        command.current_dir(&binary.package).stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn verdict(&self, test: &Test, field: &str) -> Result<Verdict> {
        let Test { program, name } = test;
        let Some(binary) = self.binaries.iter().find(|binary| binary.name == *program) else {
            return Ok(Verdict::Missing);
        };
        let output = self.command(binary, &["--exact", name], field, LIMIT).output()?;
        Ok(verdict(&String::from_utf8_lossy(&output.stdout)))
    }

    fn cases(&self, rows: Vec<Row>) -> Result<Vec<Case>> {
        sh::step("forgetting one field after the other");
        let start = Instant::now();
        let mut sound: BTreeMap<Test, Verdict> = BTreeMap::new();
        let mut tests: Vec<_> = rows.iter().map(|row| row.test.clone()).collect();
        tests.sort();
        tests.dedup();
        for (test, verdict) in side_by_side(tests, |test| self.verdict(test, NOTHING)) {
            sound.insert(test, verdict?.0);
        }
        let mut cases = Vec::new();
        for (Row { field, test }, verdict) in side_by_side(rows, |row| self.verdict(&row.test, &row.field)) {
            let (verdict, took) = verdict?;
            let trouble = match (sound.get(&test), verdict) {
                (_, Verdict::Missing) => Some("does not exist"),
                (Some(Verdict::Passes), Verdict::Fails) => None,
                (Some(Verdict::Passes), Verdict::Passes) => Some("passes without the field"),
                (Some(Verdict::Passes), Verdict::Nothing) => Some("neither passes nor fails without the field"),
                _ => Some("does not pass as it stands"),
            };
            if let Some(trouble) = trouble {
                println!("{field}: {}: {} {trouble}", test.program, test.name);
            }
            cases.push(Case { name: format!("without {field}"), passed: trouble.is_none(), took });
        }
        println!(
            "{} fields, survivors: {}; built in {} s, ran in {} s",
            cases.len(),
            cases.iter().filter(|case| !case.passed).count(),
            self.build.as_secs(),
            start.elapsed().as_secs()
        );
        Ok(cases)
    }

    /// Prints for each field the tests that fail without it, of the first program that has any, or of the one that is named.
    fn discover(&self, rows: &[Row], program: &str) -> Result<()> {
        let binaries: Vec<_> =
            self.binaries.iter().filter(|binary| program.is_empty() || binary.name == program).collect();
        let failing = |binary: &Binary, field: &str| -> Result<Vec<String>> {
            let skipped =
                OWN.iter().filter(|(program, _)| *program == binary.name).flat_map(|(_, module)| ["--skip", module]);
            let args: Vec<_> = ["--format=pretty", "--test-threads=8"].into_iter().chain(skipped).collect();
            let output = self.command(binary, &args, field, PROGRAM_LIMIT).output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            let names = text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
            Ok(names.map(|name| format!("{}: {name}", binary.name)).collect())
        };
        let mut broken = Vec::new();
        for binary in &binaries {
            broken.extend(failing(binary, NOTHING)?);
        }
        for Row { field, .. } in rows {
            let mut found = Vec::new();
            for binary in &binaries {
                found = failing(binary, field)?;
                found.retain(|name| !broken.contains(name));
                if !found.is_empty() {
                    break;
                }
            }
            println!("{field}: {}", if found.is_empty() { "none".into() } else { found.join(", ") });
        }
        Ok(())
    }
}

/// What libtest says of a single test.
fn verdict(text: &str) -> Verdict {
    let says = |what: &str| text.lines().any(|line| line.starts_with(what));
    if says("test result: ok. 1 passed; 0 failed; 0 ignored;") {
        Verdict::Passes
    } else if says("test result: FAILED. 0 passed; 1 failed;") {
        Verdict::Fails
    } else if says("running 0 tests") {
        Verdict::Missing
    } else {
        Verdict::Nothing
    }
}

/// Does something with each item, on as many threads as there are processors; returns what came of it and how long it took, in
/// the order of the items.
fn side_by_side<T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Vec<(T, Result<(R, Duration)>)> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let queue = Mutex::new(items.into_iter().enumerate());
    let mut results = thread::scope(|scope| {
        let worker = || {
            let mut results = Vec::new();
            loop {
                let Some((number, item)) = queue.lock().ok().and_then(|mut queue| queue.next()) else { break results };
                let start = Instant::now();
                let result = work(&item).map(|result| (result, start.elapsed()));
                results.push((number, (item, result)));
            }
        };
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let join = |handle: thread::ScopedJoinHandle<'_, _>| handle.join().unwrap_or_else(|panic| resume_unwind(panic));
        handles.into_iter().flat_map(join).collect::<Vec<_>>()
    });
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::{Verdict, row, side_by_side, verdict};

    #[test]
    fn reads_a_row() {
        let line = "| `a.b[].c` | 3.0.0 | `core/src/x.rs` | `fledge_core: x::y` |";
        let row = row(line).unwrap();
        let test = (row.test.program.as_str(), row.test.name.as_str());
        assert_eq!((row.field.as_str(), test), ("a.b[].c", ("fledge_core", "x::y")));
        assert!(super::row("| `a` | 3.0.0 | `b` | – |").is_err());
    }

    #[test]
    fn only_a_test_that_ran_to_its_end_has_a_verdict() {
        let ok = "running 1 test\ntest a ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured\n";
        assert_eq!(verdict(ok), Verdict::Passes);
        assert_eq!(verdict("test result: FAILED. 0 passed; 1 failed; 0 ignored\n"), Verdict::Fails);
        assert_eq!(verdict("test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured\n"), Verdict::Nothing);
        assert_eq!(verdict("running 1 test\n"), Verdict::Nothing);
        assert_eq!(verdict("running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored\n"), Verdict::Missing);
    }

    #[test]
    fn results_keep_the_order() {
        let results = side_by_side((0..50).collect(), |number| Ok(number * 2));
        let results: Vec<_> = results.into_iter().map(|(number, result)| (number, result.unwrap().0)).collect();
        assert_eq!(results, (0..50).map(|number| (number, number * 2)).collect::<Vec<_>>());
    }
}
