// SPDX-License-Identifier: Apache-2.0
//! Progress on stderr: one line when a step begins and one when it ends, with the seconds since the run began.

use std::fmt::Display;
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();

/// Prints one line with the seconds since the first line of this process.
pub fn say(text: impl Display) {
    let elapsed = START.get_or_init(Instant::now).elapsed().as_secs_f64();
    // One write a line: several cases report at once.
    let line = format!("[{elapsed:7.1}s] {text}\n");
    drop(std::io::stderr().write_all(line.as_bytes()));
}

/// Runs `work`, saying that it began and how long it took. A failure is left to the caller to tell.
///
/// # Errors
/// Those of `work`.
pub fn step<T>(what: impl Display, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    say(format_args!("{what} ..."));
    let begun = Instant::now();
    let outcome = work();
    let seconds = begun.elapsed().as_secs_f64();
    match &outcome {
        Ok(_) => say(format_args!("{what}: done in {seconds:.1} s")),
        Err(_) => say(format_args!("{what}: FAILED after {seconds:.1} s")),
    }
    outcome
}
