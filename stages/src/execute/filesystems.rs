// SPDX-License-Identifier: Apache-2.0
//! File systems. Those of different devices are made side by side, as many at once as there are processors.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fledge_core::diag::Failure;
use fledge_core::plan::filesystems::Step;
use fledge_core::signature::UNFINISHED;

use super::{Done, failed, judged};
use crate::host::clock;
use crate::host::cmd::{self, Arg, Tool};
use crate::host::device::{self, udev};

/// How a step ended, and when it began and ended, in milliseconds since boot.
pub(super) type Timed = (Done, u64, u64);

/// Carries out steps side by side. The results are in the order of the steps, whatever order they ended in.
pub(super) fn all(steps: &[&Step]) -> Vec<Timed> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    side_by_side(steps, processors, one)
}

fn side_by_side(steps: &[&Step], threads: usize, carry_out: impl Fn(&Step) -> Done + Sync) -> Vec<Timed> {
    let results: Vec<Mutex<Option<Timed>>> = steps.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((step, result)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            steps.get(number).zip(results.get(number))
        } {
            let start = clock::millis();
            let done = carry_out(step);
            if let Ok(mut result) = result.lock() {
                *result = Some((done, start, clock::millis()));
            }
        }
    };
    std::thread::scope(|scope| {
        // The caller's thread works too. Fewer threads than wanted are slower, nothing else.
        for _ in 1..threads.min(steps.len()) {
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    let lost = |step: &Step| Err(Failure::new(step.to_string(), "its thread ended early"));
    let result = |(result, step): (Mutex<Option<Timed>>, &&Step)| {
        result.into_inner().ok().flatten().unwrap_or_else(|| (lost(step), 0, 0))
    };
    results.into_iter().zip(steps).map(result).collect()
}

/// Carries out one step.
pub(super) fn one(step: &Step) -> Done {
    match step {
        Step::Reuse { device, format, .. } => reuse(step, device, format),
        Step::Make { tool, arguments, marked, .. } => make(step, tool, arguments, *marked),
        Step::Wipe { device, node, .. } => {
            let node = judged(step, device, node)?;
            wipe(step, &node)?;
            udev::look_again(&node)?;
            Ok(true)
        }
    }
}

/// Looks once more, right before others rely on it.
fn reuse(step: &Step, device: &str, format: &str) -> Done {
    judged(step, device, step.node())?;
    let found = device::examine(device)?;
    if found.signature.is_some_and(|signature| signature.format == *format) {
        return Ok(false);
    }
    Err(Failure::new(step.to_string(), "it isn't there any more").remedy("see what else writes to that device"))
}

fn make(step: &Step, tool: &str, arguments: &[String], marked: bool) -> Done {
    let io = |error: io::Error| failed(step, &error);
    let tool = program(tool).ok_or_else(|| Failure::new(step.to_string(), format!("there is no program {tool}")))?;
    // The name may be a link that udev takes away with what the device holds; it counts no more.
    let node = judged(step, step.device(), step.node())?;
    wipe(step, &node)?;
    if marked {
        write_at_end(&node, UNFINISHED).map_err(io)?;
    }
    let mut args: Vec<Arg<'_>> = arguments.iter().map(Arg::from).collect();
    args.push(node.as_path().into());
    cmd::run(tool, &args).map_err(|failure| refused(step, failure))?;
    File::open(&node).and_then(|file| file.sync_all()).map_err(io)?;
    if marked {
        write_at_end(&node, &[0; UNFINISHED.len()]).map_err(io)?;
    }
    let found = device::signatures(&node).map_err(io)?.into_iter().next().ok_or_else(|| {
        let why = format!("{} succeeded, and yet {} holds nothing", tool.name, step.device());
        Failure::new(step.to_string(), why).remedy("see whether the options keep it from making anything")
    })?;
    udev::look_again(&node)?;
    udev::wait_for_links(&found);
    Ok(true)
}

fn wipe(step: &Step, node: &Path) -> Result<(), Failure> {
    cmd::run(cmd::WIPEFS, &["-a".into(), node.into()]).map(drop).map_err(|failure| refused(step, failure))
}

/// What a program said, and which step that was about.
pub(super) fn refused(step: &dyn std::fmt::Display, failure: Failure) -> Failure {
    let why = format!("{}: {}", failure.what, failure.why);
    let remedy = failure.remedy.unwrap_or_else(|| {
        "see its words for what is wrong with the device or the options; nothing that counts as finished was made"
            .into()
    });
    Failure::new(step.to_string(), why).remedy(remedy)
}

fn program(name: &str) -> Option<Tool> {
    const ALL: [Tool; 5] = [cmd::MKFS_EXT4, cmd::MKFS_XFS, cmd::MKFS_BTRFS, cmd::MKFS_FAT, cmd::MKSWAP];
    ALL.into_iter().find(|tool| tool.name == name)
}

/// Writes the last bytes of a device, down to the disk.
fn write_at_end(node: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).open(node)?;
    let size = file.seek(SeekFrom::End(0))?;
    let offset = size.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::StorageFull)?;
    file.write_all_at(bytes, offset)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::Duration;

    use super::*;

    #[test]
    fn steps_run_side_by_side_and_are_told_in_order() {
        let steps: Vec<_> = ["/dev/a", "/dev/b", "/dev/c", "/dev/d"]
            .map(|device| Step::Wipe { device: device.into(), node: device.into(), replaces: None })
            .into();
        let steps: Vec<_> = steps.iter().collect();
        // Nobody passes unless another is there at the same time.
        let barrier = Barrier::new(2);
        let results = side_by_side(&steps, 2, |step| {
            barrier.wait();
            if step.device() == "/dev/a" {
                std::thread::sleep(Duration::from_millis(50));
            }
            if step.device() == "/dev/c" { Err(Failure::new("c", "why")) } else { Ok(step.device() == "/dev/b") }
        });
        let outcomes: Vec<_> = results.iter().map(|(done, ..)| done.as_ref().ok().copied()).collect();
        assert_eq!(outcomes, [Some(false), Some(true), None, Some(false)]);
    }
}
