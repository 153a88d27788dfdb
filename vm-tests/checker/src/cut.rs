// SPDX-License-Identifier: Apache-2.0
//! Runs a program up to the system call by which it would change something on a disk for the nth time, and has the power cut there.
//!
//! The program is traced (ptrace(2)): it is stopped before the call is carried out, so that what it did before is done, and nothing else is.

use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::libc::user_regs_struct;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Calls that change something whatever their arguments are, by their numbers on x86-64 (Linux,
/// `arch/x86/entry/syscalls/syscall_64.tbl`): pwrite64, fsync, fdatasync, reboot, mkdirat, unlinkat, renameat, renameat2.
const EFFECTS: [u64; 8] = [18, 74, 75, 169, 258, 263, 264, 316];
const OPENAT: u64 = 257;
const CREATE: u64 = 0o100;
const IOCTL: u64 = 16;
/// FIFREEZE and FITHAW (Linux, `include/uapi/linux/fs.h`).
const FREEZES: [u64; 2] = [0xC004_5877, 0xC004_5878];

/// Runs the program, and calls `cut` instead of its effect `number`, counted from 1. If it has fewer, it ends as it does.
pub(crate) fn at(number: u32, program: &[&str], cut: impl FnOnce() -> Result<()>) -> Result<()> {
    // It waits until it is traced.
    let mut command = Command::new("sh");
    command.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).args(program);
    let child = command.spawn().context("can't start sh")?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    waitpid(pid, Some(WaitPidFlag::WUNTRACED))?;
    ptrace::seize(pid, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC)?;
    kill(pid, Signal::SIGCONT)?;
    let (mut runs, mut inside, mut seen) = (false, false, 0);
    loop {
        let mut signal = None;
        match waitpid(pid, None)? {
            WaitStatus::PtraceSyscall(_) => {
                inside = !inside;
                seen += u32::from(runs && inside && is_effect(&ptrace::getregs(pid)?));
                if seen == number {
                    let outcome = cut();
                    kill(pid, Signal::SIGKILL)?;
                    return outcome;
                }
            }
            WaitStatus::PtraceEvent(_, _, event) => runs |= event == ptrace::Event::PTRACE_EVENT_EXEC as i32,
            WaitStatus::Stopped(_, Signal::SIGCONT | Signal::SIGSTOP | Signal::SIGTRAP) => {}
            WaitStatus::Stopped(_, other) => signal = Some(other),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                eprintln!("fledge-vm-checker: it had {seen} effects");
                return Ok(());
            }
            other => bail!("the traced program is in a strange state: {other:?}"),
        }
        ptrace::syscall(pid, signal)?;
    }
}

/// Waits for the end, which comes from outside.
pub(crate) fn wait() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

fn is_effect(registers: &user_regs_struct) -> bool {
    let call = registers.orig_rax;
    EFFECTS.contains(&call)
        || (call == OPENAT && registers.rdx & CREATE != 0)
        || (call == IOCTL && FREEZES.contains(&(registers.rsi & 0xFFFF_FFFF)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_stopped_before_the_effect_that_is_asked_for() {
        let folder = std::env::temp_dir().join(format!("fledge-vm-cut-{}", std::process::id()));
        let script = format!("mkdir {0} && mkdir {0}/one && mkdir {0}/two", folder.display());
        // The processes that sh starts aren't traced: its own redirections are what counts.
        let script = script + &format!("; : > {0}/three; : > {0}/four", folder.display());
        let mut was_cut = false;
        let cut = || {
            was_cut = true;
            Ok(())
        };
        at(2, &["sh", "-c", &script], cut).unwrap();
        let there = ["one", "two", "three", "four"].map(|name| folder.join(name).exists());
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!((was_cut, there), (true, [true, true, true, false]));
    }
}
