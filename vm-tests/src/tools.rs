// SPDX-License-Identifier: Apache-2.0
//! Programs of a foreign Debian release, run through that release's own dynamic loader: QEMU 10 and the tools that
//! make disk images, from a folder that mmdebstrap filled. No chroot, so no rights are needed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// A folder with a Debian root in it.
#[derive(Clone, Debug)]
pub struct Tools {
    root: PathBuf,
}

impl Tools {
    /// The programs of the root in `root`.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where the root is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where its libraries are; swtpm has some of its own.
    fn libraries(&self) -> String {
        let libraries = self.root.join("usr/lib/x86_64-linux-gnu");
        format!("{0}:{0}/swtpm", libraries.display())
    }

    /// A command for the program `name`, found in `usr/bin`, `usr/sbin` or `usr/libexec`. It is killed when the thread that starts
    /// it ends.
    ///
    /// # Errors
    /// If the root has no such program.
    pub fn command(&self, name: &str) -> Result<Command> {
        let Some(program) = ["usr/bin", "usr/sbin", "usr/libexec"]
            .iter()
            .map(|folder| self.root.join(folder).join(name))
            .find(|path| path.is_file())
        else {
            bail!("{} has no program {name}", self.root.display());
        };
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(self.root.join("usr/lib64/ld-linux-x86-64.so.2"))
            .arg("--library-path")
            .arg(self.libraries())
            .arg(program)
            .env("LC_ALL", "C")
            .env("MKE2FS_CONFIG", self.root.join("etc/mke2fs.conf"));
        Ok(command)
    }
}
