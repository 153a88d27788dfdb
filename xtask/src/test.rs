// SPDX-License-Identifier: Apache-2.0
//! `./dev test`: formatting, lints, unit, integration and VM tests, with what they cost.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::{dist, mutate, sh, vm};

/// One case and how it went.
pub(crate) struct Case {
    /// Its full name.
    pub(crate) name: String,
    /// Whether it passed.
    pub(crate) passed: bool,
    /// How long it took.
    pub(crate) took: Duration,
}

/// How many of the slowest cases the end names.
const SLOWEST: usize = 10;

/// What continuous integration may take on two cores without KVM, in seconds. Printed, not enforced: a slow machine is no defect.
const BUDGET: u64 = 50 * 60;

/// Runs everything that a change must pass. `--all` adds what continuous integration has no time for: the VM cases of the tier
/// `all`, and each VM case once more, broken on purpose, to see that it can fail.
pub(crate) fn run(repo: &Path, args: &[String]) -> Result<bool> {
    let all = match args {
        [] => false,
        [flag] if flag == "--all" => true,
        _ => bail!("usage: ./dev test [--all]"),
    };
    let start = Instant::now();
    let mut cases = vec![
        check("formatting", sh::cargo(&["fmt", "--all", "--check"]))?,
        check("lints", sh::cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))?,
        check("the core needs no std", sh::cargo(&["check", "--quiet", "--manifest-path", "core/guard/Cargo.toml"]))?,
    ];
    let program = dist::dist(repo)?.join("usr/bin/fledge");
    sh::step("building the tests");
    for binary in built(&["test", "--workspace", "--no-run"])?.iter().filter(|binary| binary.is_test) {
        cases.extend(run_binary(repo, binary, &program)?);
    }
    cases.extend(mutate::test_cases(repo)?);
    cases.extend(vm::test_cases(repo, false, all)?);
    if all {
        cases.extend(vm::test_cases(repo, true, all)?);
    }
    Ok(summarize(cases, start.elapsed()))
}

fn check(name: &str, mut command: Command) -> Result<Case> {
    sh::step(name);
    let start = Instant::now();
    let passed = sh::succeeds(&mut command)?;
    Ok(Case { name: name.to_owned(), passed, took: start.elapsed() })
}

/// A program that cargo built, and the folder of its package, in which cargo would run its tests.
pub(crate) struct Binary {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) package: PathBuf,
    /// Whether it is the tests of that name, and not the program.
    pub(crate) is_test: bool,
}

/// Builds by a cargo command; returns the programs that it names.
pub(crate) fn built(command: &[&str]) -> Result<Vec<Binary>> {
    let mut command = sh::cargo(command);
    command.arg("--message-format=json-render-diagnostics");
    let output = command.stderr(Stdio::inherit()).output().context("starting cargo")?;
    if !output.status.success() {
        bail!("the tests don't build");
    }
    let mut binaries = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: serde_json::Value = serde_json::from_slice(line).context("reading cargo's messages")?;
        let text = |pointer: &str| message.pointer(pointer).and_then(serde_json::Value::as_str);
        if let (Some(path), Some(name), Some(manifest)) =
            (text("/executable"), text("/target/name"), text("/manifest_path"))
        {
            let package = Path::new(manifest).parent().unwrap_or(Path::new("/")).to_owned();
            let is_test = message.pointer("/profile/test") == Some(&serde_json::Value::Bool(true));
            binaries.push(Binary { name: name.to_owned(), path: path.into(), package, is_test });
        }
    }
    Ok(binaries)
}

/// Runs one test program, as root because the tests mount and make users, and reads the line that libtest prints for each
/// case. Its times are behind an unstable flag of libtest, which a variable opens on a stable toolchain; nothing is compiled
/// with it.
fn run_binary(repo: &Path, binary: &Binary, program: &Path) -> Result<Vec<Case>> {
    sh::step(&format!("{} ({})", binary.name, binary.package.strip_prefix(repo).unwrap_or(&binary.package).display()));
    let mut child = sh::as_root(&binary.path, &[("RUSTC_BOOTSTRAP", "1".as_ref()), ("FLEDGE_BIN", program)])
        .args(["-Z", "unstable-options", "--report-time"])
        .current_dir(&binary.package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", binary.path.display()))?;
    let mut cases = Vec::new();
    for line in BufReader::new(child.stdout.take().context("a pipe was asked for")?).lines() {
        let line = line?;
        let case = case(&binary.name, &line);
        let dull = line.is_empty() || line.starts_with("running ") || line.starts_with("test result: ok");
        if !dull && case.as_ref().is_none_or(|case| !case.passed) {
            println!("{line}");
        }
        cases.extend(case);
    }
    let status = child.wait()?;
    if !status.success() && cases.iter().all(|case| case.passed) {
        cases.push(Case { name: format!("{}: ended with {status}", binary.name), passed: false, took: Duration::ZERO });
    }
    Ok(cases)
}

/// `test some::name ... ok <0.123s>`; ignored cases are none.
fn case(binary: &str, line: &str) -> Option<Case> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let passed = match result.split_whitespace().next()? {
        "ok" => true,
        "FAILED" => false,
        _ => return None,
    };
    let seconds = result.split_once('<').and_then(|(_, time)| time.trim_end().strip_suffix("s>")?.parse().ok());
    let took = Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or_default();
    Some(Case { name: format!("{binary}: {name}"), passed, took })
}

fn summarize(mut cases: Vec<Case>, total: Duration) -> bool {
    cases.sort_by_key(|case| std::cmp::Reverse(case.took));
    println!("\n{} s in all, of {BUDGET} s; the {SLOWEST} slowest of {} cases:", total.as_secs(), cases.len());
    for case in cases.iter().take(SLOWEST) {
        println!("{:8.1} s  {}", case.took.as_secs_f64(), case.name);
    }
    let failed: Vec<_> = cases.iter().filter(|case| !case.passed).collect();
    for case in &failed {
        println!("FAILED: {}", case.name);
    }
    println!("\n{} passed, {} failed", cases.len() - failed.len(), failed.len());
    failed.is_empty()
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_the_lines_of_libtest() {
        let ok = super::case("core", "test a::b ... ok <0.250s>").unwrap();
        assert_eq!((ok.name.as_str(), ok.passed, ok.took.as_millis()), ("core: a::b", true, 250));
        assert!(!super::case("core", "test a::b ... FAILED <1.000s>").unwrap().passed);
        assert!(super::case("core", "test a::b ... ignored").is_none());
        assert!(super::case("core", "running 3 tests").is_none());
    }
}
