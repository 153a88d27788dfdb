// SPDX-License-Identifier: Apache-2.0
//! Runs a program up to where it would change something on a disk, and has the power cut there.
//!
//! The program is traced (ptrace(2)): it is stopped before the call is carried out, so that what it did before is done, and nothing else is.
//! What lies below `/run` is on no disk. Programs that it starts are left alone; one may be what it is stopped before.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::libc::user_regs_struct;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// System calls by what they do: number on x86-64 (Linux, `arch/x86/entry/syscalls/syscall_64.tbl`), and where its file is told.
const CALLS: [(u64, &str, File); 19] = [
    (2, "make", File::Path),         // open
    (18, "write", File::Descriptor), // pwrite64
    (74, "sync", File::Descriptor),  // fsync
    (75, "sync", File::Descriptor),  // fdatasync
    (82, "rename", File::Path),      // rename
    (83, "make", File::Path),        // mkdir
    (84, "remove", File::Path),      // rmdir
    (85, "make", File::Path),        // creat
    (87, "remove", File::Path),      // unlink
    (169, "reboot", File::None),     // reboot
    (257, "make", File::PathAt),     // openat
    (258, "make", File::PathAt),     // mkdirat
    (263, "remove", File::PathAt),   // unlinkat
    (264, "rename", File::PathAt),   // renameat
    (265, "make", File::PathAt),     // linkat
    (266, "make", File::None),       // symlinkat
    (306, "sync", File::Descriptor), // syncfs
    (316, "rename", File::PathAt),   // renameat2
    (16, "ioctl", File::Descriptor), // ioctl
];
const OPEN: u64 = 2;
const OPENAT: u64 = 257;
const CREATE: u64 = 0o100;
/// FIFREEZE and FITHAW (Linux, `include/uapi/linux/fs.h`).
const FREEZES: [(u64, &str); 2] = [(0xC004_5877, "freeze"), (0xC004_5878, "thaw")];

/// Where the name or the descriptor of the file is that a call is about.
#[derive(Clone, Copy)]
enum File {
    None,
    /// The first argument is its descriptor.
    Descriptor,
    /// The first argument is its path.
    Path,
    /// The first argument is the descriptor of a folder, the second the path from there.
    PathAt,
}

/// Where a program is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Before its nth effect of a kind, or of any.
    Effect(Option<&'static str>, u32),
    /// Before a program that it starts with this among its arguments does anything.
    Start(String),
    /// When it has ended.
    End,
}

impl Place {
    /// Reads `KIND`, `KIND:NUMBER`, `NUMBER`, `start:WORD`, or `end`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text == "end" {
            return Ok(Self::End);
        }
        if let Some(word) = text.strip_prefix("start:") {
            return Ok(Self::Start(word.to_owned()));
        }
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
        if let Some(number) = number(text) {
            return Ok(Self::Effect(None, number));
        }
        let (kind, nth) = text.split_once(':').unwrap_or((text, "1"));
        let kinds = CALLS.iter().map(|(_, kind, _)| *kind).chain(FREEZES.map(|(_, kind)| kind));
        let kind = kinds.filter(|known| *known != "ioctl").find(|known| *known == kind);
        match (kind, number(nth)) {
            (Some(kind), Some(nth)) => Ok(Self::Effect(Some(kind), nth)),
            _ => bail!("{text:?} is no place to cut the power"),
        }
    }
}

/// Runs the program, and calls `cut` instead of what is at this place. If it doesn't get there, it ends as it does.
pub(crate) fn at(place: &Place, program: &[&str], cut: impl FnOnce() -> Result<()>) -> Result<()> {
    // It waits until it is traced.
    let mut command = Command::new("sh");
    command.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).args(program);
    let child = command.spawn().context("can't start sh")?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    waitpid(pid, Some(WaitPidFlag::WUNTRACED))?;
    let follow = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK | Options::PTRACE_O_TRACECLONE;
    ptrace::seize(pid, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC | follow)?;
    kill(pid, Signal::SIGCONT)?;
    let (mut runs, mut inside, mut seen) = (false, false, 0);
    loop {
        let mut signal = None;
        let status = waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD))?;
        let stopped = status.pid().context("a process without a number")?;
        if stopped != pid {
            if is_start(place, status)? {
                let outcome = cut();
                kill(stopped, Signal::SIGKILL)?;
                kill(pid, Signal::SIGKILL)?;
                return outcome;
            }
            continue;
        }
        match status {
            WaitStatus::PtraceSyscall(_) => {
                inside = !inside;
                if let (Place::Effect(wanted, number), true, true) = (place, runs, inside) {
                    let kind = effect(pid, &ptrace::getregs(pid)?);
                    seen += u32::from(kind.is_some() && (wanted.is_none() || *wanted == kind));
                    if seen == *number {
                        let outcome = cut();
                        kill(pid, Signal::SIGKILL)?;
                        return outcome;
                    }
                }
            }
            WaitStatus::PtraceEvent(_, _, event) => runs |= event == Event::PTRACE_EVENT_EXEC as i32,
            WaitStatus::Stopped(_, Signal::SIGCONT | Signal::SIGSTOP | Signal::SIGTRAP) => {}
            WaitStatus::Stopped(_, other) => signal = Some(other),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) if *place == Place::End => return cut(),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                eprintln!("fledge-vm-checker: it ended and never got to {place:?}");
                return Ok(());
            }
            other => bail!("the traced program is in a strange state: {other:?}"),
        }
        ptrace::syscall(pid, signal)?;
    }
}

/// Lets a process that the program started go on, which is let go of once it runs a program. Says whether that is the one to stop before.
fn is_start(place: &Place, status: WaitStatus) -> Result<bool> {
    match status {
        WaitStatus::PtraceEvent(pid, _, event) if event == Event::PTRACE_EVENT_EXEC as i32 => {
            let arguments = fs::read(format!("/proc/{pid}/cmdline"))?;
            let has = |word: &str| arguments.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes());
            if matches!(place, Place::Start(word) if has(word)) {
                return Ok(true);
            }
            ptrace::detach(pid, None)?;
        }
        WaitStatus::Stopped(pid, signal) if !matches!(signal, Signal::SIGSTOP | Signal::SIGTRAP) => {
            ptrace::cont(pid, signal)?;
        }
        WaitStatus::Stopped(pid, _) | WaitStatus::PtraceEvent(pid, ..) => ptrace::cont(pid, None)?,
        _ => {}
    }
    Ok(false)
}

/// Waits for the end, which comes from outside.
pub(crate) fn wait() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// What a call would do to a disk, if it would do anything.
fn effect(pid: Pid, registers: &user_regs_struct) -> Option<&'static str> {
    let user_regs_struct { orig_rax: call, rdi, rsi, rdx, .. } = *registers;
    let (_, kind, file) = CALLS.into_iter().find(|(number, ..)| *number == call)?;
    let kind = match call {
        OPEN if rsi & CREATE == 0 => None,
        OPENAT if rdx & CREATE == 0 => None,
        _ if kind == "ioctl" => {
            FREEZES.into_iter().find(|(number, _)| *number == rsi & 0xFFFF_FFFF).map(|(_, kind)| kind)
        }
        _ => Some(kind),
    };
    let path = match file {
        File::None => PathBuf::new(),
        File::Descriptor => descriptor(pid, rdi),
        File::Path => descriptor(pid, CURRENT).join(string(pid, rdi)),
        File::PathAt => descriptor(pid, rdi).join(string(pid, rsi)),
    };
    kind.filter(|_| !path.starts_with("/run"))
}

/// `AT_FDCWD`, as an unsigned number of 32 bits (Linux, `include/uapi/linux/fcntl.h`).
const CURRENT: u64 = 0xFFFF_FF9C;

/// The path of an open file.
fn descriptor(pid: Pid, number: u64) -> PathBuf {
    let number = number & 0xFFFF_FFFF;
    let link = if number == CURRENT { format!("/proc/{pid}/cwd") } else { format!("/proc/{pid}/fd/{number}") };
    fs::read_link(link).unwrap_or_default()
}

/// The beginning of a string in the program's memory: enough to see where its path leads.
fn string(pid: Pid, address: u64) -> String {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = [0; 8];
    let memory = fs::File::open(format!("/proc/{pid}/mem"));
    let length = memory.and_then(|memory| memory.read_at(&mut bytes, address)).unwrap_or_default();
    let text = bytes.iter().take(length).take_while(|byte| **byte != 0);
    text.map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is there of a script's work after a cut.
    fn left(place: &str, script: &str, names: &[&str]) -> (bool, Vec<bool>) {
        // Not every folder for temporary files is on a disk, and none below /run is.
        let folder = tempfile::Builder::new().prefix("fledge-vm-cut-").tempdir_in("/var/tmp").unwrap();
        let script = format!("cd {} && {script}", folder.path().display());
        let mut was_cut = false;
        let cut = || {
            was_cut = true;
            Ok(())
        };
        at(&Place::parse(place).unwrap(), &["sh", "-c", &script], cut).unwrap();
        (was_cut, names.iter().map(|name| folder.path().join(name).exists()).collect())
    }

    #[test]
    fn a_program_is_stopped_before_the_effect_that_is_asked_for() {
        // What the processes do that sh starts isn't counted: its own redirections are.
        let script = "mkdir one && mkdir two; true > /run/fledge-vm-cut; rm -f /run/fledge-vm-cut; : > three; : > four; mkdir five";
        let names = ["one", "two", "three", "four", "five"];
        for place in ["2", "make:2"] {
            assert_eq!(left(place, script, &names), (true, vec![true, true, true, false, false]), "{place}");
        }
        assert_eq!(left("make", script, &names), (true, vec![true, true, false, false, false]));
        assert_eq!(left("start:five", script, &names), (true, vec![true, true, true, true, false]));
        assert_eq!(left("end", script, &names), (true, vec![true; 5]));
        for never in ["make:3", "sync", "start:six"] {
            assert_eq!(left(never, script, &names), (false, vec![true; 5]), "{never}");
        }
    }

    #[test]
    fn a_place_is_an_effect_or_a_start_or_the_end() {
        assert_eq!(Place::parse("3").unwrap(), Place::Effect(None, 3));
        assert_eq!(Place::parse("thaw").unwrap(), Place::Effect(Some("thaw"), 1));
        assert_eq!(Place::parse("sync:2").unwrap(), Place::Effect(Some("sync"), 2));
        for odd in ["", "0", "sync:", "sync:0", "ioctl", "anything"] {
            assert!(Place::parse(odd).is_err(), "{odd}");
        }
    }
}
