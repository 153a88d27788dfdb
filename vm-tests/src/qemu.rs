// SPDX-License-Identifier: Apache-2.0
//! One virtual machine: started, watched, and never left behind.
//!
//! QEMU dies with the thread that started it (`setpriv --pdeathsig`), is killed when [`Vm`] is dropped, and every wait
//! has an end. The serial console goes to a file; the guest's checker talks over a virtio port.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::host;
use crate::interrupt;
use crate::tools::Tools;

mod accel;

pub use accel::Accel;

/// Where the guest finds the host's loopback address.
pub const HOST_ADDRESS: &str = "10.0.2.2";

/// How a machine gets to its kernel.
#[derive(Clone, Debug)]
pub enum Boot {
    /// The BIOS starts GRUB from the first disk.
    Disk,
    /// QEMU loads them itself.
    Kernel {
        /// The kernel.
        kernel: PathBuf,
        /// The initramfs.
        initramfs: PathBuf,
        /// The kernel's command line.
        arguments: String,
    },
}

/// A disk of a machine.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The image.
    pub path: PathBuf,
    /// Its format: `raw` or `qcow2`.
    pub format: &'static str,
    /// The serial number that the guest sees, as in `/dev/disk/by-id/virtio-SERIAL`.
    pub serial: String,
    /// Bytes of a sector, logical and physical.
    pub sector: u32,
    /// How many ways lead to it. More than one: each is a SCSI controller of its own, with the same disk.
    pub paths: u32,
}

/// Where the serial console goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// Into a file only.
    File,
    /// To this process's terminal, and into the file.
    Terminal,
}

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Memory in MiB.
    pub memory: u32,
    /// Virtual processors.
    pub processors: u32,
    /// The first is the boot disk.
    pub disks: Vec<Disk>,
    /// How it boots.
    pub boot: Boot,
    /// The control socket of a TPM emulator.
    pub tpm: Option<PathBuf>,
    /// Files of the firmware device: name, file on the host.
    pub fw_cfg: Vec<(String, PathBuf)>,
    /// Whether it has a network card.
    pub network: bool,
    /// Where its console goes.
    pub console: Console,
    /// KVM or not.
    pub accel: Accel,
    /// Whether a reboot starts it again. If not, a reboot ends it, and nobody counts the starts of its firmware.
    pub reboots: bool,
}

/// A running machine.
pub struct Vm {
    child: Child,
    console: PathBuf,
    messages: PathBuf,
    firmware: PathBuf,
    port: Option<UnixStream>,
    received: Vec<u8>,
    _sockets: tempfile::TempDir,
}

/// What came of waiting for a machine.
#[derive(Debug)]
pub enum Event {
    /// The checker in the guest sent a line.
    Report(String),
    /// QEMU ended.
    Ended(ExitStatus),
    /// Nothing came in time.
    TimedOut,
}

impl Machine {
    /// Starts the machine. Its console and QEMU's messages go to `console.log` and `qemu.log` in `work`.
    ///
    /// # Errors
    /// If QEMU can't be started.
    pub fn start(&self, tools: &Tools, work: &Path) -> Result<Vm> {
        // The name of a socket may have 107 bytes only (unix(7)).
        let short = work.as_os_str().len() < 80;
        let parent = if short { work.to_owned() } else { std::env::temp_dir() };
        let sockets = tempfile::Builder::new().prefix("fledge-vm-port-").tempdir_in(parent)?;
        let socket = sockets.path().join("port");
        let listener = UnixListener::bind(&socket).with_context(|| format!("can't listen on {}", socket.display()))?;
        let (console, messages) = (work.join("console.log"), work.join("qemu.log"));
        let firmware = work.join("firmware.log");
        for log in [&console, &firmware] {
            fs::write(log, "")?;
        }
        let root = tools.root().display();

        let mut command = tools.command("qemu-system-x86_64")?;
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"]);
        command.args(["-L", &format!("{root}/usr/share/qemu"), "-L", &format!("{root}/usr/share/seabios")]);
        command.args(self.accel.arguments());
        if self.reboots {
            // SeaBIOS's debug port.
            command.args(["-chardev", &format!("file,id=firmware,path={}", firmware.display())]);
            command.args(["-device", "isa-debugcon,iobase=0x402,chardev=firmware"]);
        } else {
            command.arg("-no-reboot");
        }
        command.args(["-m", &self.memory.to_string(), "-smp", &self.processors.to_string()]);
        command.args(["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]);
        command.args(["-chardev", &format!("socket,id=result,path={}", socket.display())]);
        command.args(["-device", "virtserialport,chardev=result,name=org.fledge.result"]);
        let log = console.display();
        match self.console {
            Console::File => command.args(["-chardev", &format!("file,id=console,path={log}")]),
            Console::Terminal => command
                .args(["-chardev", &format!("stdio,id=console,mux=on,signal=off,logfile={log}")])
                .args(["-mon", "chardev=console"]),
        };
        command.args(["-serial", "chardev:console"]);
        for (index, disk) in self.disks.iter().enumerate() {
            let (path, format, serial) = (disk.path.display(), disk.format, &disk.serial);
            let order = if index == 0 { ",bootindex=1" } else { "" };
            if disk.paths > 1 {
                // One node for all paths, so that what is written on one is read on the others.
                let node = format!(
                    "driver={format},node-name=disk{index},cache.no-flush=on,file.driver=file,file.filename={path}"
                );
                command.args(["-blockdev", &node]);
                for way in 0..disk.paths {
                    let order = if way == 0 { order } else { "" };
                    let device = format!(
                        "scsi-hd,bus=way{way}.0,drive=disk{index},share-rw=on,serial={serial},wwn=0x5000c50015ea71aa"
                    );
                    command.args([
                        "-device",
                        &format!("virtio-scsi-pci,id=way{way}"),
                        "-device",
                        &format!("{device}{order}"),
                    ]);
                }
                continue;
            }
            command.args(["-drive", &format!("if=none,id=disk{index},file={path},format={format},cache=unsafe")]);
            let sector = disk.sector;
            let sectors = format!("logical_block_size={sector},physical_block_size={sector}");
            command.args(["-device", &format!("virtio-blk-pci,drive=disk{index},serial={serial},{sectors}{order}")]);
        }
        if let Some(socket) = &self.tpm {
            command.args(["-chardev", &format!("socket,id=tpm,path={}", socket.display())]);
            command.args(["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm"]);
        }
        if self.network {
            command.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
        }
        for (name, path) in &self.fw_cfg {
            command.args(["-fw_cfg", &format!("name={name},file={}", path.display())]);
        }
        if let Boot::Kernel { kernel, initramfs, arguments } = &self.boot {
            command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs).arg("-append").arg(arguments);
        }
        let output = fs::File::create(&messages)?;
        if self.console == Console::Terminal {
            command.stdin(Stdio::inherit()).stdout(Stdio::inherit());
        } else {
            command.stdin(Stdio::null()).stdout(output.try_clone()?);
        }
        let child = command.stderr(output).spawn().context("can't start QEMU")?;
        let mut vm = Vm { child, console, messages, firmware, port: None, received: Vec::new(), _sockets: sockets };
        vm.connect(&listener)?;
        Ok(vm)
    }
}

impl Vm {
    fn connect(&mut self, listener: &UnixListener) -> Result<()> {
        listener.set_nonblocking(true)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    self.port = Some(stream);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("waiting for QEMU"),
            }
            interrupt::check()?;
            if let Some(status) = self.child.try_wait()? {
                bail!("QEMU ended at once ({status}):\n{}", self.messages());
            }
            if Instant::now() > deadline {
                bail!("QEMU didn't start within 30 s:\n{}", self.messages());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the guest's checker sends a line, QEMU ends, or the deadline passes.
    ///
    /// # Errors
    /// If the user interrupts, or the port can't be read.
    pub fn wait(&mut self, deadline: Instant) -> Result<Event> {
        self.wait_watching(deadline, &mut |_| ())
    }

    /// As [`Vm::wait`], and shows the console so far to `watch` now and then.
    ///
    /// # Errors
    /// As [`Vm::wait`].
    pub fn wait_watching(&mut self, deadline: Instant, watch: &mut dyn FnMut(&Self)) -> Result<Event> {
        let mut shown = Instant::now();
        loop {
            interrupt::check()?;
            if shown.elapsed() > Duration::from_millis(500) {
                watch(self);
                shown = Instant::now();
            }
            if let Some(line) = self.receive()? {
                return Ok(Event::Report(line));
            }
            if let Some(status) = self.child.try_wait()? {
                // What was sent last may still be on its way.
                return Ok(self.receive()?.map_or(Event::Ended(status), Event::Report));
            }
            if Instant::now() > deadline {
                return Ok(Event::TimedOut);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn receive(&mut self) -> Result<Option<String>> {
        let mut buffer = [0; 4096];
        while let Some(port) = &mut self.port {
            match port.read(&mut buffer) {
                Ok(0) => self.port = None,
                Ok(count) => self.received.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.port = None,
                Err(error) => return Err(error).context("reading from the guest"),
            }
        }
        let Some(end) = self.received.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line: Vec<u8> = self.received.drain(..=end).collect();
        Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
    }

    /// Sends a word to the checker: `off`, `shutdown` or `stay`.
    ///
    /// # Errors
    /// If QEMU has ended.
    pub fn tell(&mut self, word: &str) -> Result<()> {
        let port = self.port.as_mut().context("QEMU has ended")?;
        port.write_all(format!("{word}\n").as_bytes()).context("writing to the guest")
    }

    /// Waits for a text on the serial console.
    ///
    /// # Errors
    /// If it doesn't come before the deadline, QEMU ends, or the user interrupts.
    pub fn wait_for_console(&mut self, text: &str, deadline: Instant) -> Result<()> {
        loop {
            interrupt::check()?;
            if self.console().contains(text) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the machine ended ({status}) before {text:?} was on the console");
            }
            if Instant::now() > deadline {
                bail!("{text:?} didn't come on the console in time");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until QEMU ends by itself; after the deadline it is killed.
    ///
    /// # Errors
    /// If it had to be killed, or the user interrupts.
    pub fn wait_end(&mut self, deadline: Instant) -> Result<()> {
        loop {
            match self.wait(deadline)? {
                Event::Report(_) => {}
                Event::Ended(status) if status.success() => return Ok(()),
                Event::Ended(status) => bail!("QEMU failed ({status}):\n{}", self.messages()),
                Event::TimedOut => bail!("the machine didn't power off in time"),
            }
        }
    }

    /// What the serial console showed so far, without terminal control sequences.
    pub fn console(&self) -> String {
        plain(&String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()))
    }

    /// How often the firmware started, if the machine may reboot.
    pub fn firmware_starts(&self) -> usize {
        String::from_utf8_lossy(&fs::read(&self.firmware).unwrap_or_default()).matches("\nBUILD: ").count()
    }

    /// What QEMU itself had to say.
    fn messages(&self) -> String {
        host::tail(&fs::read_to_string(&self.messages).unwrap_or_default(), 10)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A console's text without carriage returns and the control sequences of ECMA-48.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                if characters.next_if_eq(&'[').is_some() {
                    while characters.next_if(|next| !('@'..='~').contains(next)).is_some() {}
                }
                characters.next();
            }
            '\r' => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_are_taken_out() {
        assert_eq!(plain("\u{1b}[0;32m  OK  \u{1b}[0m] a\u{1b}c\r\nb\u{1b}[!p"), "  OK  ] a\nb");
    }
}
