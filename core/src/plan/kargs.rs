// SPDX-License-Identifier: Apache-2.0
//! The kargs stage: one call of the distribution's helper, if the configuration asks for anything.

use alloc::vec::Vec;

use super::{Plan, PlannedStep, Step};
use crate::config::{Config, KernelArgument};
use crate::diag::Failure;
use crate::facts::Facts;
use crate::origin::Sources;
use crate::stage::Stage;

/// Plans the kernel arguments. The step's place is that of the first argument.
///
/// # Errors
/// Each argument that can't stand on a command line.
pub fn kargs(config: &Config, _: &Facts, sources: &Sources) -> Result<Plan, Vec<Failure>> {
    let mut plan = Plan { stage: Stage::Kargs, steps: Vec::new() };
    let mut failures = Vec::new();
    let mut first = None;
    let lists = [
        (&config.kernel_arguments.should_exist, "$.kernelArguments.shouldExist"),
        (&config.kernel_arguments.should_not_exist, "$.kernelArguments.shouldNotExist"),
    ];
    for (list, section) in lists {
        for argument in list {
            let place = sources.place(argument.origin, section);
            if argument.text.contains(['\n', '\r', '\0']) {
                let failure = Failure::new(
                    alloc::format!("setting the kernel argument {:?}", argument.text),
                    "it has a line break or a NUL in it",
                )
                .remedy("write an entry of its own for each argument");
                failures.push(match place.clone() {
                    Some(place) => failure.at(place),
                    None => failure,
                });
            }
            first.get_or_insert(place);
        }
    }
    let [should_exist, should_not_exist] = lists.map(|(list, _)| texts(list));
    if let Some(place) = first {
        plan.steps.push(PlannedStep { step: Step::SetKernelArguments { should_exist, should_not_exist }, place });
    }
    if failures.is_empty() { Ok(plan) } else { Err(failures) }
}

fn texts(list: &[KernelArgument]) -> Vec<alloc::string::String> {
    list.iter().map(|argument| argument.text.clone()).collect()
}
