// SPDX-License-Identifier: Apache-2.0
//! Kernel arguments: the helper is called as Ignition calls it, so that a distribution can bring its own.

use fledge_core::diag::Failure;
use fledge_core::plan::Step;

use super::Done;
use crate::host::cmd::{self, Arg};
use crate::kargs::ALREADY_SO;

/// Calls the helper. Only ours says whether there was anything to do.
pub(super) fn set_kernel_arguments(step: &Step, should_exist: &[String], should_not_exist: &[String]) -> Done {
    let failure = |why: String, remedy: &str| Failure::new(step.to_string(), why).remedy(remedy);
    if cmd::find(cmd::KARGS_HELPER).is_none() {
        return Err(failure(
            format!("this initramfs has no program {}", cmd::KARGS_HELPER.name),
            "include dracut's module fledge-ostree, or the distribution's own program of that name",
        ));
    }
    let lists = [("--should-exist", should_exist), ("--should-not-exist", should_not_exist)];
    let args: Vec<Arg<'_>> = lists
        .iter()
        .flat_map(|(flag, list)| list.iter().flat_map(|argument| [Arg::from(*flag), Arg::from(argument)]))
        .collect();
    let output = cmd::output(cmd::KARGS_HELPER, &args)?;
    let said = output.stderr.trim();
    if output.code != Some(0) {
        // Ours ends with what to do.
        let (why, remedy) = said.split_once("\n  what to do: ").unwrap_or((said, ""));
        let how = output.code.map_or_else(|| "by a signal".to_owned(), |code| format!("with exit code {code}"));
        let why = match why {
            "" => format!("{} ended {how}", cmd::KARGS_HELPER.name),
            why => format!("{} ended {how}: {why}", cmd::KARGS_HELPER.name),
        };
        let remedy = if remedy.is_empty() { "see what the distribution says about its helper" } else { remedy };
        return Err(failure(why, remedy));
    }
    for line in output.stdout.lines().chain(said.lines()) {
        log::info!("{}: {line}", cmd::KARGS_HELPER.name);
    }
    Ok(output.stdout.trim() != ALREADY_SO)
}
