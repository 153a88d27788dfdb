// SPDX-License-Identifier: Apache-2.0
//! The only place that runs external programs.
//!
//! Each is found by its name in fixed directories, gets nothing to read unless it is fed, a fixed environment and a time limit; what it
//! says on standard error ends in the failure. Secret arguments appear in no log and no failure. Keys aren't even arguments: a program
//! reads them from a file in memory that it inherits.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fledge_core::diag::Failure;
use fledge_core::secret::{Key, Secret};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A program that Fledge runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tool {
    /// Its file name.
    pub name: &'static str,
    /// Whether an initramfs may be without it.
    pub optional: bool,
    /// How long it may take.
    limit: Duration,
    /// The dracut module that installs it, if the system has it.
    module: &'static str,
}

const fn tool(name: &'static str, seconds: u64) -> Tool {
    Tool { name, optional: false, limit: Duration::from_secs(seconds), module: "ignition" }
}

const fn optional(name: &'static str, seconds: u64) -> Tool {
    Tool { optional: true, ..tool(name, seconds) }
}

/// One that another dracut module installs.
const fn of(module: &'static str, tool: Tool) -> Tool {
    Tool { module, ..tool }
}

/// The module of what surrounds the stages.
const OSTREE: &str = "fledge-ostree";

/// Four of them, in seconds.
const HOURS: u64 = 4 * 3600;

impl Tool {
    /// The same with another time limit, for what takes as long as a device is large.
    #[must_use]
    pub const fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }
}

/// Puts kernel arguments into the boot entries; a distribution may have its own, which takes the time that it takes.
pub const KARGS_HELPER: Tool = of(OSTREE, optional("ignition-kargs-helper", 3600));
/// Creates users.
pub const USERADD: Tool = tool("useradd", 60);
/// Changes users; moving a home directory takes time.
pub const USERMOD: Tool = tool("usermod", 600);
/// Deletes users and their home directories.
pub const USERDEL: Tool = tool("userdel", 600);
/// Creates groups.
pub const GROUPADD: Tool = tool("groupadd", 60);
/// Changes groups.
pub const GROUPMOD: Tool = tool("groupmod", 60);
/// Deletes groups.
pub const GROUPDEL: Tool = tool("groupdel", 60);
/// Tells whether a unit is enabled, and disables it.
pub const SYSTEMCTL: Tool = tool("systemctl", 60);
/// Waits for devices.
pub const UDEVADM: Tool = tool("udevadm", 60);
/// Makes what the image's tmpfiles.d entries name.
pub const SYSTEMD_TMPFILES: Tool = of(OSTREE, tool("systemd-tmpfiles", 60));
/// Labels files by the target's SELinux policy; only an image with SELinux has it.
pub const SETFILES: Tool = optional("setfiles", 600);
/// Loads kernel modules.
pub const MODPROBE: Tool = tool("modprobe", 60);
/// Makes and opens encrypted volumes; deriving a key from a passphrase takes seconds by design.
pub const CRYPTSETUP: Tool = optional("cryptsetup", 600);
/// Binds encrypted volumes to servers and TPMs.
pub const CLEVIS: Tool = optional("clevis", 600);
/// Makes a deployment the root.
pub const OSTREE_PREPARE_ROOT: Tool = of("ostree", optional("ostree-prepare-root", 600));
/// Takes interfaces down; dracut's network modules bring it, too.
pub const IP: Tool = of(OSTREE, optional("ip", 60));
/// Succeeds on a live system; distributions bring it.
pub const IS_LIVE_IMAGE: Tool = optional("is-live-image", 60);

/// Makes and assembles arrays. Like the programs after it, it takes as long as the disks take.
pub const MDADM: Tool = optional("mdadm", 600);
/// Erases the signatures of what a device holds.
pub const WIPEFS: Tool = optional("wipefs", 600);
/// Makes ext4.
pub const MKFS_EXT4: Tool = optional("mkfs.ext4", HOURS);
/// Makes xfs.
pub const MKFS_XFS: Tool = optional("mkfs.xfs", HOURS);
/// Makes btrfs.
pub const MKFS_BTRFS: Tool = optional("mkfs.btrfs", HOURS);
/// Makes vfat.
pub const MKFS_FAT: Tool = optional("mkfs.fat", HOURS);
/// Makes swap.
pub const MKSWAP: Tool = optional("mkswap", HOURS);

/// Changes the UUID of an ext4; [`E2FSCK`] may have to check it first.
pub const TUNE2FS: Tool = of(OSTREE, optional("tune2fs", 600));
/// Checks an ext4.
pub const E2FSCK: Tool = of(OSTREE, optional("e2fsck", HOURS));
/// Changes the UUID of an xfs.
pub const XFS_ADMIN: Tool = of(OSTREE, optional("xfs_admin", 600));
/// Changes the UUID of a btrfs.
pub const BTRFSTUNE: Tool = of(OSTREE, optional("btrfstune", 600));
/// Grows an ext4.
pub const RESIZE2FS: Tool = of(OSTREE, optional("resize2fs", HOURS));
/// Grows a mounted xfs.
pub const XFS_GROWFS: Tool = of(OSTREE, optional("xfs_growfs", HOURS));
/// Grows a mounted btrfs.
pub const BTRFS: Tool = of(OSTREE, optional("btrfs", HOURS));

/// All of them. A test holds this table against what the dracut module installs.
pub const TOOLS: &[Tool] = &[
    KARGS_HELPER,
    USERADD,
    USERMOD,
    USERDEL,
    GROUPADD,
    GROUPMOD,
    GROUPDEL,
    SYSTEMCTL,
    UDEVADM,
    MODPROBE,
    IS_LIVE_IMAGE,
    IP,
    OSTREE_PREPARE_ROOT,
    SYSTEMD_TMPFILES,
    SETFILES,
    MDADM,
    WIPEFS,
    MKFS_EXT4,
    MKFS_XFS,
    MKFS_BTRFS,
    MKFS_FAT,
    MKSWAP,
    CRYPTSETUP,
    CLEVIS,
    TUNE2FS,
    E2FSCK,
    XFS_ADMIN,
    BTRFSTUNE,
    RESIZE2FS,
    XFS_GROWFS,
    BTRFS,
];

/// Where programs are looked for.
/// The last one is where OSTree keeps programs that nobody is to start by hand.
const DIRECTORIES: &[&str] = &["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/lib/ostree"];
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// How much of standard output and of the end of standard error is kept, and how much of the latter is told.
const KEPT: usize = 64 * 1024;
const TOLD: usize = 1024;

/// An argument.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    /// One that everybody may see.
    Plain(&'a OsStr),
    /// One that nobody may see.
    Secret(&'a Secret),
    /// The path of a file that holds a key and that is there for this program alone.
    Key(&'a Key),
}

impl<'a, T: AsRef<OsStr> + ?Sized> From<&'a T> for Arg<'a> {
    fn from(text: &'a T) -> Self {
        Self::Plain(text.as_ref())
    }
}

/// What a program left.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Output {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The beginning of standard output.
    pub stdout: String,
    /// Standard error; of a long one, its beginning and its end.
    pub stderr: String,
}

/// Where a program is, if it is there.
pub fn find(tool: Tool) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|directory| Path::new(directory).join(tool.name)).find(|path| path.is_file())
}

/// Runs a program and expects it to succeed.
///
/// # Errors
/// It isn't there, can't be started, takes too long, or fails; with the end of what it said.
pub fn run(tool: Tool, args: &[Arg<'_>]) -> Result<Output, Failure> {
    succeeded(tool, args, output(tool, args)?)
}

fn succeeded(tool: Tool, args: &[Arg<'_>], output: Output) -> Result<Output, Failure> {
    if output.code == Some(0) {
        return Ok(output);
    }
    let how = match output.code {
        Some(code) => format!("it failed with exit code {code}"),
        None => "a signal ended it".into(),
    };
    let said = output.stderr.trim();
    let why = if said.is_empty() { how } else { format!("{how}: {said}") };
    Err(Failure::new(what(tool, args), why))
}

/// As [`run`], with something for the program to read.
///
/// # Errors
/// As [`run`].
pub fn feed(tool: Tool, args: &[Arg<'_>], input: &[u8]) -> Result<Output, Failure> {
    let stdin = memfd_create("input", MemfdFlags::CLOEXEC)
        .map_err(std::io::Error::from)
        .map(File::from)
        .and_then(|mut file| file.write_all(input).and_then(|()| file.rewind()).map(|()| file))
        .map_err(|error| Failure::new(what(tool, args), error.to_string()))?;
    succeeded(tool, args, start(tool, args, stdin.into())?)
}

/// Runs a program, whatever its exit code.
///
/// # Errors
/// It isn't there, can't be started, or takes too long.
pub fn output(tool: Tool, args: &[Arg<'_>]) -> Result<Output, Failure> {
    start(tool, args, Stdio::null())
}

fn start(tool: Tool, args: &[Arg<'_>], stdin: Stdio) -> Result<Output, Failure> {
    let failure = |why: String| Failure::new(what(tool, args), why);
    let program = find(tool).ok_or_else(|| {
        failure(format!("the program is in none of {}", DIRECTORIES.join(", "))).remedy(format!(
            "rebuild the initramfs with dracut's module {}, which installs it if the system has it",
            tool.module
        ))
    })?;
    log::debug!("{}", what(tool, args));
    let mut command = Command::new(program);
    // They are there until the program has ended.
    let mut keys = Vec::new();
    for arg in args {
        match arg {
            Arg::Plain(text) => command.arg(text),
            Arg::Secret(secret) => command.arg(secret.expose()),
            Arg::Key(key) => {
                let (file, path) = inherited(key).map_err(|error| failure(error.to_string()))?;
                keys.push(file);
                command.arg(path)
            }
        };
    }
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C").current_dir("/");
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failure(error.to_string()))?;
    let result = watch(&mut child, tool.limit);
    if result.is_err() {
        // It is ours and must not outlive this; if it ended meanwhile, so be it.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failure(error.to_string()))?;
    drop(keys);
    let (stdout, stderr) = result.map_err(|error| failure(error.to_string()))?;
    Ok(Output { code: status.code(), stdout: text(&stdout, args), stderr: told(&text(&stderr, args)) })
}

/// A file in memory without a name, and the path by which programs that are started while it is open can read it.
fn inherited(key: &Key) -> std::io::Result<(File, OsString)> {
    let mut file = File::from(memfd_create("fledge-key", MemfdFlags::empty())?);
    file.write_all(key.expose())?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok((file, path.into()))
}

/// Reads what a program says until it ends, or until its time is over. Others that it left behind aren't waited for.
fn watch(child: &mut Child, limit: Duration) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let deadline = Instant::now() + limit;
    let pid = Pid::from_child(child);
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    for fd in stdout.iter().map(AsFd::as_fd).chain(stderr.iter().map(AsFd::as_fd)) {
        fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::Error::other(format!("it did not end within {} seconds", limit.as_secs())));
        }
        let timeout = Timespec::try_from(left).map_err(std::io::Error::other)?;
        let mut fds = vec![PollFd::new(&ended, PollFlags::IN)];
        fds.extend(stdout.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        fds.extend(stderr.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let over = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        if drain(stdout.as_mut(), &mut out, false)? {
            stdout = None;
        }
        if drain(stderr.as_mut(), &mut err, true)? {
            stderr = None;
        }
        if over {
            return Ok((out, err));
        }
    }
}

/// Reads what is there. Says whether that was all there will be.
fn drain(pipe: Option<&mut impl Read>, kept: &mut Vec<u8>, end: bool) -> std::io::Result<bool> {
    let Some(pipe) = pipe else { return Ok(false) };
    let mut buffer = [0; 4096];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(count) => {
                kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
                let excess = kept.len().saturating_sub(KEPT);
                if end {
                    kept.drain(..excess);
                } else {
                    kept.truncate(KEPT);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The command as it may be shown.
fn what(tool: Tool, args: &[Arg<'_>]) -> String {
    let mut text = format!("running {}", tool.name);
    for arg in args {
        text.push(' ');
        match arg {
            Arg::Plain(arg) => text.push_str(&arg.to_string_lossy()),
            Arg::Secret(_) | Arg::Key(_) => text.push_str("(secret)"),
        }
    }
    text
}

fn text(bytes: &[u8], args: &[Arg<'_>]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    for arg in args {
        if let Arg::Secret(secret) = arg {
            // `*` is what stands for no password at all.
            if secret.expose().len() > 1 {
                text = text.replace(secret.expose(), "(secret)");
            }
        }
    }
    text
}

/// The beginning and the end of a long text: some programs say first what is wrong, and then how they are used.
fn told(text: &str) -> String {
    if text.len() <= TOLD {
        return text.to_owned();
    }
    let (mut head, mut tail) = (TOLD / 2, text.len() - TOLD / 2);
    while !text.is_char_boundary(head) {
        head -= 1;
    }
    while !text.is_char_boundary(tail) {
        tail += 1;
    }
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    format!("{} [...] {}", part(0..head), part(tail..text.len()))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::SH;
