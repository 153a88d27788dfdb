// SPDX-License-Identifier: Apache-2.0
//! Writing a mounted file system out to where a reader finds all of it that replays no journal (`linux/fs.h`).
//!
//! A frozen file system that nobody thaws hangs the machine, and it stays frozen when the process that froze it ends. So signals that would
//! end this process wait until it has thawed it, and a child does so in its stead if it is killed all the same.
#![allow(
    unsafe_code,
    reason = "neither rustix nor nix has functions for these calls, and a child that shares nothing has to be forked"
)]

use std::ffi::c_int;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::process::{Pid, WaitOptions, waitpid};

nix::ioctl_readwrite!(freeze, b'X', 119, c_int);
nix::ioctl_readwrite!(thaw, b'X', 120, c_int);

/// Freezes a file system and thaws it again. The descriptor is of anything on it. One that can't be frozen has no journal, and is synced.
///
/// # Errors
/// Whatever the operating system says.
pub(super) fn and_thaw(file: impl AsFd) -> io::Result<()> {
    between(file, || ())
}

/// The same, with something done while it is frozen.
fn between(file: impl AsFd, frozen: impl FnOnce()) -> io::Result<()> {
    let fd = file.as_fd().as_raw_fd();
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let done = Watch::over(fd).and_then(|watch| {
        let mut nothing: c_int = 0;
        // SAFETY: the descriptor is open for the whole call; the kernel doesn't look at the argument, which outlives the call.
        match unsafe { freeze(fd, &raw mut nothing) } {
            // Somebody else froze it and thaws it, or it can't be frozen.
            Err(Errno::EBUSY | Errno::EOPNOTSUPP) => {
                watch.rest();
                return Ok(rustix::fs::syncfs(&file)?);
            }
            result => result?,
        };
        frozen();
        // SAFETY: as above.
        unsafe { thaw(fd, &raw mut nothing) }?;
        watch.rest();
        Ok(())
    });
    before.thread_set_mask()?;
    done
}

/// A child that thaws a file system when this process ends, or lets go of it, without having told it to rest.
struct Watch {
    child: Pid,
    line: Option<UnixStream>,
}

impl Watch {
    /// Starts it. It blocks the signals that this thread blocks.
    fn over(fd: c_int) -> io::Result<Self> {
        let (own, childs) = UnixStream::pair()?;
        // SAFETY: the child calls nothing but what signal-safety(7) allows, and never returns from here.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: the descriptors are the child's own copies, and the buffer and the argument are its own, too.
            0 => unsafe {
                libc::close(own.as_raw_fd());
                let (mut byte, mut nothing) = (0_u8, 0);
                if libc::read(childs.as_raw_fd(), (&raw mut byte).cast(), 1) != 1 {
                    let _ = thaw(fd, &raw mut nothing);
                }
                libc::_exit(0)
            },
            child => {
                let child = Pid::from_raw(child).ok_or(Errno::ESRCH)?;
                Ok(Self { child, line: Some(own) })
            }
        }
    }

    /// There is nothing to thaw any more: it ends without doing so.
    fn rest(&self) {
        // Should the child be gone, there is nobody to tell.
        let _ = self.line.as_ref().map(|mut line| line.write_all(&[1]));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.line = None;
        // Another part of this program may wait for children, too.
        let _ = waitpid(Some(self.child), WaitOptions::empty());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;
    use std::process::{self, Command};
    use std::time::Duration;
    use std::{env, thread};

    use super::*;

    const NAME: &str = "host::freeze::tests::a_process_that_is_ended_meanwhile_leaves_it_thawed";
    const SIGNAL: &str = "FLEDGE_TEST_SIGNAL";
    const FOLDER: &str = "FLEDGE_TEST_FOLDER";

    fn run(program: &str, args: &[&str]) {
        let ran = Command::new(program).args(args).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").status().unwrap();
        assert!(ran.success(), "{program} {args:?}");
    }

    /// What is left on it is thawed, whatever a test finds.
    fn is_frozen(folder: &File) -> bool {
        let mut nothing = 0;
        // SAFETY: the descriptor is open for the whole call, and the argument outlives it.
        let frozen = unsafe { freeze(folder.as_raw_fd(), &raw mut nothing) } == Err(Errno::EBUSY);
        if !frozen {
            // SAFETY: as above.
            unsafe { thaw(folder.as_raw_fd(), &raw mut nothing) }.unwrap();
        }
        frozen
    }

    /// Sends itself a signal while it is frozen.
    fn end_meanwhile(folder: &str, signal: i32) -> ! {
        let root = File::open(folder).unwrap();
        let note = Path::new(folder).with_extension("note");
        between(&root, || {
            // SAFETY: it takes a number, and there is no handler of ours that it could run.
            unsafe { libc::raise(signal) };
            fs::write(note, "").unwrap();
        })
        .unwrap();
        process::exit(7)
    }

    #[test]
    fn a_process_that_is_ended_meanwhile_leaves_it_thawed() {
        if let (Ok(folder), Ok(signal)) = (env::var(FOLDER), env::var(SIGNAL)) {
            end_meanwhile(&folder, signal.parse().unwrap());
        }
        let above = tempfile::tempdir().unwrap();
        let (image, folder) = (above.path().join("image"), above.path().join("folder"));
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        fs::create_dir(&folder).unwrap();
        run("mkfs.ext4", &["-q", image.to_str().unwrap()]);
        run("mount", &["-o", "loop", image.to_str().unwrap(), folder.to_str().unwrap()]);
        let root = File::open(&folder).unwrap();
        for (signal, goes_on) in [(libc::SIGKILL, false), (libc::SIGTERM, true)] {
            let note = folder.with_extension("note");
            let _ = fs::remove_file(&note);
            let mut ended = Command::new(env::current_exe().unwrap());
            ended.args(["--exact", NAME]).env(FOLDER, &folder).env(SIGNAL, signal.to_string());
            assert_eq!(ended.output().unwrap().status.signal(), Some(signal));
            assert_eq!(note.exists(), goes_on, "signal {signal}");
            let thawed = (0..100).any(|_| {
                thread::sleep(Duration::from_millis(20));
                !is_frozen(&root)
            });
            if !thawed {
                let mut nothing = 0;
                // SAFETY: the descriptor is open for the whole call, and the argument outlives it.
                unsafe { thaw(root.as_raw_fd(), &raw mut nothing) }.unwrap();
            }
            assert!(thawed, "signal {signal}");
        }
        and_thaw(&root).unwrap();
        assert!(!is_frozen(&root));
        // Somebody else has frozen it.
        between(&root, || and_thaw(&root).unwrap()).unwrap();
        drop(root);
        run("umount", &[folder.to_str().unwrap()]);
    }
}
