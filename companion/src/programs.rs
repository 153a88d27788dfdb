// SPDX-License-Identifier: Apache-2.0
//! The only place in this crate that runs programs.
//!
//! Tools of the system are looked up in fixed directories and get nothing to read, a fixed locale and a time limit; what they say goes to
//! files in memory, so that one that leaves a child behind keeps nobody waiting. Scripts of an operator or a distribution run as a
//! service would start them, with a limit only where the caller has one: each line that they write is told at once.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fledge_core::diag::Failure;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create};
use rustix::io::ioctl_fionread;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// A tool of the system.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tool {
    /// Its file name.
    pub name: &'static str,
    /// How long it may take.
    limit: Duration,
    /// What a person can do where it is missing.
    remedy: &'static str,
}

/// OSTree's own administration of deployments. Writing boot entries syncs file systems, which takes what it takes.
pub const OSTREE: Tool =
    Tool { name: "ostree", limit: Duration::from_secs(1800), remedy: "install the package ostree into the image" };
/// The same by rpm-ostree, which has a daemon that may have to start first.
pub const RPM_OSTREE: Tool = Tool {
    name: "rpm-ostree",
    limit: Duration::from_secs(1800),
    remedy: "install the package rpm-ostree into the image",
};
/// Reads the journal.
pub const JOURNALCTL: Tool =
    Tool { name: "journalctl", limit: Duration::from_secs(120), remedy: "install systemd into the image" };
/// Asks for a reboot, and for the state of units.
pub const SYSTEMCTL: Tool =
    Tool { name: "systemctl", limit: Duration::from_secs(60), remedy: "install systemd into the image" };
/// Runs scripts, and these without a limit. It isn't looked up in the path, which begins with folders that aren't the deployment's.
const BASH: Tool = Tool { name: "bash", limit: Duration::from_secs(60), remedy: "install bash into the image" };

/// Where tools are.
#[derive(Clone, Debug)]
pub struct Programs {
    directories: Vec<PathBuf>,
}

impl Default for Programs {
    fn default() -> Self {
        Self::within(["/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    }
}

/// What a tool left.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Output {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

impl Programs {
    /// Tools of these directories; the first one counts.
    pub fn within<P: Into<PathBuf>>(directories: impl IntoIterator<Item = P>) -> Self {
        Self { directories: directories.into_iter().map(Into::into).collect() }
    }

    /// Where a tool is, if the system has it.
    pub fn find(&self, tool: Tool) -> Option<PathBuf> {
        self.directories.iter().map(|directory| directory.join(tool.name)).find(|path| path.is_file())
    }

    /// Runs a tool and expects it to succeed.
    ///
    /// # Errors
    /// It isn't there, can't be started, takes too long, or fails; with the end of what it said.
    pub fn run(&self, tool: Tool, args: &[&str]) -> Result<Output, Failure> {
        let output = self.output(tool, args)?;
        if output.code == Some(0) {
            return Ok(output);
        }
        let how = output
            .code
            .map_or_else(|| "a signal ended it".to_owned(), |code| format!("it failed with exit code {code}"));
        let said = end(output.stderr.trim());
        Err(Failure::new(what(tool, args), if said.is_empty() { how } else { format!("{how}: {said}") }))
    }

    /// Runs a tool, whatever its exit code.
    ///
    /// # Errors
    /// It isn't there, can't be started, or takes too long.
    pub fn output(&self, tool: Tool, args: &[&str]) -> Result<Output, Failure> {
        let failure = |why: String| Failure::new(what(tool, args), why);
        let program = self.find(tool).ok_or_else(|| {
            let places: Vec<_> = self.directories.iter().map(|path| path.display().to_string()).collect();
            failure(format!("the program is in none of {}", places.join(", "))).remedy(tool.remedy)
        })?;
        captured(&program, args, tool.limit).map_err(|error| failure(error.to_string()))
    }
}

fn captured(program: &Path, args: &[&str], limit: Duration) -> io::Result<Output> {
    let (mut stdout, mut stderr) = (memory()?, memory()?);
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
    let mut child = command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).spawn()?;
    let status = within(&mut child, limit)?;
    Ok(Output { code: status.code(), stdout: text(&mut stdout)?, stderr: text(&mut stderr)? })
}

fn memory() -> io::Result<File> {
    Ok(memfd_create("fledgectl", MemfdFlags::CLOEXEC)?.into())
}

fn text(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// How long a child that was killed may take to go. One that waits for a device that doesn't answer never does.
const GOES: Duration = Duration::from_secs(2);

/// Waits for a child; one that takes too long is ended, and not waited for if that doesn't end it.
fn within(child: &mut Child, limit: Duration) -> io::Result<ExitStatus> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    if ends(&ended, limit)? {
        return child.wait();
    }
    // It is ours and must not outlive this; if it ended meanwhile, so be it.
    let _ = child.kill();
    let how = if ends(&ended, GOES)? {
        child.wait()?;
        ""
    } else {
        ", and could not be killed"
    };
    Err(io::Error::other(format!("it did not end within {} seconds{how}", limit.as_secs())))
}

/// Whether the process of a pidfd ends within this time.
fn ends(pidfd: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs a script with the environment of this process: by bash if its name ends in `.sh`, whatever its mode, else itself. Each line that
/// it writes to standard output or standard error is told at once. Returns when it has ended, even if something that it
/// started has not. One that has not ended by a moment is ended then, with all that it started; the result is `None`.
///
/// # Errors
/// It can't be started, or not be waited for.
pub fn script(path: &Path, until: Option<Instant>, told: &mut dyn FnMut(&str)) -> io::Result<Option<ExitStatus>> {
    let mut command = if path.extension().is_some_and(|extension| extension == "sh") {
        let bash = Programs::default().find(BASH);
        let mut command = Command::new(bash.ok_or_else(|| io::Error::other(format!("no bash: {}", BASH.remedy)))?);
        command.arg(path);
        command
    } else {
        Command::new(path)
    };
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    command.current_dir("/").stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    if until.is_some() {
        // What it started is ended with it.
        command.process_group(0);
    }
    let mut child = command.spawn()?;
    // The command keeps the ends that it gave to the child.
    drop(command);
    let mut lines = Lines { pipe: reader, rest: Vec::new() };
    let ended = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    fcntl_setfl(&lines.pipe, fcntl_getfl(&lines.pipe)? | OFlags::NONBLOCK)?;
    let mut open = true;
    loop {
        let mut fds = vec![PollFd::new(&ended, PollFlags::IN)];
        if open {
            fds.push(PollFd::new(&lines.pipe, PollFlags::IN));
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = left.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let over = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        // What it wrote is in the pipe when it has ended. Whatever it started may go on writing for ever.
        let most = if over { ioctl_fionread(&lines.pipe)? } else { AT_ONCE };
        open = open && lines.drain(most, told)?;
        if over {
            lines.finish(told);
            return child.wait().map(Some);
        }
        if left.is_some_and(|left| left.is_zero()) {
            lines.finish(told);
            // It is ours and must not outlive this; if it ended meanwhile, so be it.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            if ends(&ended, GOES)? {
                child.wait()?;
            }
            return Ok(None);
        }
    }
}

/// So many bytes are read before this looks whether the script has ended: as many as a pipe holds, unless told otherwise.
const AT_ONCE: u64 = 65536;
/// A line longer than this is told in pieces.
const LONGEST_LINE: usize = 8192;

struct Lines {
    pipe: OwnedFd,
    rest: Vec<u8>,
}

impl Lines {
    /// Reads what is there, up to somewhat more than this many bytes. Says whether more may come.
    fn drain(&mut self, most: u64, told: &mut dyn FnMut(&str)) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let mut left = most;
        while left > 0 {
            match rustix::io::read(&self.pipe, &mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
                    self.rest.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    self.tell(told);
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn tell(&mut self, told: &mut dyn FnMut(&str)) {
        loop {
            let end = match self.rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None if self.rest.len() >= LONGEST_LINE => LONGEST_LINE,
                None => return,
            };
            let line: Vec<u8> = self.rest.drain(..end).collect();
            told(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        }
    }

    fn finish(&mut self, told: &mut dyn FnMut(&str)) {
        if !self.rest.is_empty() {
            self.rest.push(b'\n');
            self.tell(told);
        }
    }
}

fn what(tool: Tool, args: &[&str]) -> String {
    format!("running {} {}", tool.name, args.join(" "))
}

/// The end of a long text: that is where programs say what went wrong.
fn end(text: &str) -> &str {
    const TOLD: usize = 1024;
    let mut start = text.len().saturating_sub(TOLD);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Another process writes it: while this one has it open for writing, a program that a test beside this one starts has it open, too, and
    /// then it can't be run (`ETXTBSY`).
    pub(crate) fn executable(path: &Path, text: &str) {
        let write = ["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""];
        assert!(Command::new("sh").args(write).arg(path).arg(text).status().unwrap().success());
    }

    fn lines_of(path: &Path) -> (ExitStatus, Vec<String>) {
        let mut lines = Vec::new();
        let status = script(path, None, &mut |line| lines.push(line.to_owned())).unwrap();
        (status.unwrap(), lines)
    }

    #[test]
    fn a_tool_is_found_in_order_and_its_failure_tells_what_it_said() {
        let directory = tempfile::tempdir().unwrap();
        let programs = Programs::within([directory.path().join("none"), directory.path().to_owned()]);
        let missing = programs.run(OSTREE, &["admin", "status"]).unwrap_err();
        assert!(missing.what == "running ostree admin status" && missing.remedy.is_some(), "{missing}");
        executable(&directory.path().join("ostree"), "#!/bin/sh\necho out; echo err >&2; exit $1\n");
        let output = programs.run(OSTREE, &["0"]).unwrap();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(programs.run(OSTREE, &["7"]).unwrap_err().why, "it failed with exit code 7: err");
        assert_eq!(programs.output(OSTREE, &["7"]).unwrap().code, Some(7));
    }

    #[test]
    fn a_tool_that_does_not_end_is_ended_and_a_child_of_its_keeps_nobody_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("slow");
        executable(&path, "#!/bin/sh\nexec sleep 60\n");
        let start = Instant::now();
        let error = captured(&path, &[], Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.to_string(), "it did not end within 0 seconds");
        executable(&path, "#!/bin/sh\nsleep 20 &\necho there\n");
        assert_eq!(captured(&path, &[], Duration::from_secs(10)).unwrap().stdout, "there\n");
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_script_by_its_name_or_by_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let (by_name, by_mode) = (directory.path().join("a.sh"), directory.path().join("b"));
        fs::write(&by_name, "echo ${BASH_VERSION:+bash}; echo two >&2; printf three; exit 4").unwrap();
        executable(&by_mode, "#!/bin/sh\npwd\nkill -9 $$\n");
        let (status, lines) = lines_of(&by_name);
        assert_eq!((status.code(), lines), (Some(4), vec!["bash".into(), "two".into(), "three".into()]));
        let (status, lines) = lines_of(&by_mode);
        assert_eq!((status.code(), lines), (None, vec!["/".into()]));
        fs::set_permissions(&by_mode, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(script(&by_mode, None, &mut |_| {}).is_err());
    }

    /// `/usr/local/bin`, which comes first in the path of units, is a folder of `/var`.
    #[test]
    fn bash_is_the_one_of_the_deployment() {
        const CHILD: &str = "FLEDGE_TEST_SCRIPT";
        if let Some(path) = std::env::var_os(CHILD) {
            println!("\nit said {:?}", lines_of(Path::new(&path)).1);
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("a.sh");
        fs::write(&script, "echo the real one").unwrap();
        executable(&directory.path().join("bash"), "#!/bin/sh\necho another one\n");
        let name = "programs::tests::bash_is_the_one_of_the_deployment";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, &script)
            .env("PATH", directory.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("\nit said [\"the real one\"]\n"), "{said}");
    }

    #[test]
    fn a_script_that_leaves_something_running_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sh");
        fs::write(&path, "sleep 20 &\necho done").unwrap();
        let start = Instant::now();
        assert_eq!(lines_of(&path).1, ["done"]);
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_script_that_leaves_something_writing_has_ended_and_all_that_it_wrote_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sh");
        // More than a pipe holds, so that some of it is read on the way; `yes` writes as long as somebody reads.
        fs::write(&path, "seq 1 20000; yes &\nsleep 1; exit 3").unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut numbers = 0_u32;
            let status = script(&path, None, &mut |line| numbers += u32::from(line != "y" && !line.is_empty()));
            sender.send((status.unwrap().and_then(|status| status.code()), numbers))
        });
        assert_eq!(receiver.recv_timeout(Duration::from_secs(30)), Ok((Some(3), 20000)));
    }

    #[test]
    fn a_script_whose_time_is_over_is_ended_with_what_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let (path, left) = (directory.path().join("a.sh"), directory.path().join("left"));
        fs::write(&path, format!("echo begun; (sleep 6; echo > {}) & sleep 60", left.display())).unwrap();
        let start = Instant::now();
        let mut lines = Vec::new();
        let until = start + Duration::from_secs(3);
        assert_eq!(script(&path, Some(until), &mut |line| lines.push(line.to_owned())).unwrap(), None);
        assert!(lines == ["begun"] && start.elapsed() < Duration::from_secs(30), "{lines:?}");
        std::thread::sleep(Duration::from_secs(6));
        assert!(!left.exists());
    }
}
