// SPDX-License-Identifier: Apache-2.0
//! Arrays.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fledge_core::diag::Failure;
use fledge_core::plan::raid::Step;

use super::filesystems::refused;
use super::{Done, failed, judged};
use crate::host::cmd::{self, Arg, MDADM};
use crate::host::device::{self, udev, usage};

/// Carries out one step.
pub(super) fn one(step: &Step) -> Done {
    let looked_at = step.nodes().iter().map(String::as_str).chain(std::iter::repeat(""));
    let nodes = step.devices().iter().zip(looked_at).map(|(device, node)| judged(step, device, node));
    let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
    let path = step.path();
    match step {
        Step::Create { arguments, stop: arrays, .. } => {
            stop(step, arrays)?;
            let before: Vec<_> = nodes.iter().map(|node| uuid(node)).collect();
            if let Err(failure) = mdadm(arguments.iter().map(Arg::from), &nodes) {
                let new = nodes.iter().zip(before).filter(|(node, before)| uuid(node) != *before);
                take_back(&path, new.map(|(node, _)| node));
                return Err(refused(step, failure));
            }
        }
        Step::Keep { name, running, .. } => {
            if usage::runs(Path::new(&path)) {
                let node = fs::canonicalize(&path).map_err(|error| failed(step, &error))?;
                if nodes.iter().any(|member| usage::array(member).is_some_and(|array| Path::new(&array) == node)) {
                    return Ok(false);
                }
                let why = format!("an array of other devices runs as {path}");
                return Err(
                    Failure::new(step.to_string(), why).remedy("stop that array, or give this one another name")
                );
            }
            // Under another name, or waiting for devices that it would have to itself now.
            stop(step, running)?;
            let args = ["--assemble", name, "--run", "--homehost", "any"].map(Arg::from);
            mdadm(args.into_iter(), &nodes).map_err(|failure| refused(step, failure))?;
        }
    }
    device::wait(&BTreeSet::from([path.clone()]), device::PATIENCE);
    let node = fs::canonicalize(&path).map_err(|_| {
        Failure::new(step.to_string(), format!("mdadm succeeded, and yet {path} did not appear"))
            .remedy("see whether the initramfs has mdadm's udev rules (dracut's module mdraid)")
    })?;
    udev::look_again(&node)?;
    Ok(true)
}

fn mdadm<'a>(args: impl Iterator<Item = Arg<'a>>, nodes: &'a [PathBuf]) -> Result<(), Failure> {
    let args: Vec<_> = args.chain(nodes.iter().map(|node| Arg::from(node.as_path()))).collect();
    cmd::run(MDADM, &args).map(drop)
}

/// The array that a device says it is part of.
fn uuid(node: &Path) -> Option<String> {
    Some(device::superblock(node).ok()??.uuid)
}

fn stop(step: &Step, arrays: &[String]) -> Result<(), Failure> {
    for array in arrays {
        cmd::run(MDADM, &["--stop".into(), array.into()]).map_err(|failure| refused(step, failure))?;
    }
    Ok(())
}

/// mdadm marks the devices before it starts the array, so that a start that fails leaves devices that look like an array's. Only
/// what is new on them goes.
fn take_back<'a>(path: &str, new: impl Iterator<Item = &'a PathBuf>) {
    let zero = new.map(|node| ["--zero-superblock".into(), node.as_path().into()]);
    for args in std::iter::once(["--stop".into(), path.into()]).chain(zero) {
        if let Err(failure) = cmd::output(MDADM, &args) {
            log::warn!("{failure}");
        }
    }
}
