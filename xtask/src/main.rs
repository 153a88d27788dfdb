// SPDX-License-Identifier: Apache-2.0
//! What `./dev` runs. Each command is a module; this file only picks one.

mod clean;
mod dist;
mod mutate;
mod sh;
mod test;
mod vm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use fledge_vm_tests::image;

const USAGE: &str = "usage: cargo xtask demo | test [--all] | vm CASE... | vm --all | vm --list | mutate-fields [FIELD...] | dist | clean";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<bool> {
    let repo = repo()?;
    std::env::set_current_dir(&repo).with_context(|| format!("entering {}", repo.display()))?;
    let (command, rest) = args.split_first().context(USAGE)?;
    match command.as_str() {
        "test" => test::run(&repo, rest),
        "vm" => vm::run(&repo, rest),
        "demo" => vm::demo(&repo, rest),
        "mutate-fields" => mutate::run(&repo, rest),
        "dist" => {
            println!("{}\n{}", dist::dist(&repo)?.display(), dist::companion(&repo)?.display());
            Ok(true)
        }
        "clean" => clean::run(&repo).map(|()| true),
        vm::AS_ROOT => image::as_root(&rest.iter().map(Into::into).collect::<Vec<_>>()).map(|()| true),
        _ => bail!("there is no command {command:?}\n{USAGE}"),
    }
}

/// The checkout that this program was built from.
fn repo() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(Path::to_owned).context("xtask stands in a workspace")
}
