// SPDX-License-Identifier: Apache-2.0
//! The harness without `xtask`: `cargo run -p fledge-vm-tests --example vm -- [--sabotage] [CASE...]`. `FLEDGE_DIST` names
//! the installable tree under test.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use fledge_vm_tests::demo::{self, DemoOptions};
use fledge_vm_tests::image::{self, Elevate};
use fledge_vm_tests::session::{Options, Session, build_checker};
use fledge_vm_tests::{case, run};

fn main() -> Result<ExitCode> {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|word| word == "as-root") {
        return image::as_root(args.get(1..).unwrap_or_default()).map(|()| ExitCode::SUCCESS);
    }
    if args.first().is_some_and(|word| word == "--list") {
        for case in case::list()? {
            println!("{:28} {:4} s  {}", case.name, case.seconds, case.summary);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let names: Vec<String> =
        args.iter().map(|word| word.to_string_lossy().into_owned()).filter(|word| !word.starts_with("--")).collect();
    let session = Session::open(Options {
        dist: std::env::var_os("FLEDGE_DIST").map(Into::into),
        checker: build_checker(Path::new("."))?,
        elevate: Elevate { command: vec![std::env::current_exe()?.into(), "as-root".into()] },
        logs: "target/vm-logs".into(),
        jobs: 2,
        sabotage: args.iter().any(|word| word == "--sabotage"),
    })?;
    if args.iter().any(|word| word == "--demo") {
        let options = DemoOptions { config: None, interactive: args.iter().any(|word| word == "--interactive") };
        println!("as expected: {}", demo::run(&session, &options)?);
        return Ok(ExitCode::SUCCESS);
    }
    let summary = run::run(&session, &names)?;
    println!("{summary}");
    // Not process::exit: what cleans up on drop must run.
    Ok(ExitCode::from(u8::from(summary.failed() > 0)))
}
