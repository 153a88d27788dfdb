// SPDX-License-Identifier: Apache-2.0
//! Whether KVM can be used. That `/dev/kvm` exists says little: in many nested machines it hangs or fails. So a guest
//! of nothing but a kernel and one program is started, and KVM is taken only if that program was heard within seconds.

use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::Result;
use rustix::fs::{Access, access};

use crate::cpio::Archive;
use crate::tools::Tools;
use crate::{interrupt, progress};

/// How a guest's instructions are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// By the processor.
    Kvm,
    /// Translated by QEMU: slow, works everywhere.
    Tcg,
}

const MARKER: &str = "fledge-vm-checker: this machine works";
const PROBE_SECONDS: u64 = 5;

impl Accel {
    pub(super) fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // A plain processor: translating the vector instructions of a newer one takes longer than doing without.
            Self::Tcg => ["-accel", "tcg", "-cpu", "qemu64"],
        }
    }

    /// Tries KVM with a probe guest, once in this process. `checker` is the static program it runs.
    ///
    /// # Errors
    /// If the probe's files can't be written, or the user interrupts.
    pub fn probe(tools: &Tools, kernel: &Path, checker: &Path, work: &Path) -> Result<Self> {
        static VERDICT: Mutex<Option<Accel>> = Mutex::new(None);
        let mut verdict = VERDICT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = *verdict {
            return Ok(known);
        }
        let found = if access("/dev/kvm", Access::READ_OK | Access::WRITE_OK).is_err() {
            progress::say("no /dev/kvm: virtual machines run without KVM");
            Self::Tcg
        } else {
            let begun = Instant::now();
            let worked = try_guest(tools, kernel, checker, work)?;
            let seconds = begun.elapsed().as_secs_f64();
            progress::say(if worked {
                format!("KVM works: a probe guest ran in {seconds:.1} s")
            } else {
                format!("KVM doesn't work here (a probe guest was silent for {seconds:.1} s): running without it")
            });
            if worked { Self::Kvm } else { Self::Tcg }
        };
        *verdict = Some(found);
        Ok(found)
    }
}

fn try_guest(tools: &Tools, kernel: &Path, checker: &Path, work: &Path) -> Result<bool> {
    let (initramfs, console) = (work.join("probe.cpio"), work.join("probe.log"));
    let mut archive = Archive::default();
    archive.file("init", 0o755, &fs::read(checker)?);
    fs::write(&initramfs, archive.finish())?;
    let root = tools.root().display();
    let mut command = tools.command("qemu-system-x86_64")?;
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "q35", "-m", "256"]);
    command.args(["-L", &format!("{root}/usr/share/qemu"), "-L", &format!("{root}/usr/share/seabios")]);
    command.args(Accel::Kvm.arguments()).args(["-serial", &format!("file:{}", console.display())]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(&initramfs).args(["-append", "console=ttyS0 panic=-1 quiet"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let deadline = Instant::now() + Duration::from_secs(PROBE_SECONDS);
    let heard = || fs::read_to_string(&console).is_ok_and(|text| text.contains(MARKER));
    let mut worked = false;
    let mut interrupted = Ok(());
    while !worked && interrupted.is_ok() && Instant::now() < deadline {
        let ended = child.try_wait()?.is_some();
        worked = heard();
        if ended {
            break;
        }
        thread::sleep(Duration::from_millis(50));
        interrupted = interrupt::check();
    }
    drop(child.kill());
    // A process stuck in the kernel can't be waited for: only a little.
    for _ in 0..20 {
        if child.try_wait()?.is_some() {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    interrupted.map(|()| worked)
}
