// SPDX-License-Identifier: Apache-2.0
//! What a case's machine may have beside its boot disk: blank disks, a TPM, a tang server on the host.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::case::BlankDisk;
use crate::host;
use crate::qemu::{Disk, HOST_ADDRESS};
use crate::tools::Tools;

/// The images of the case's disks in `work`. `fresh` makes them as they were at first.
///
/// # Errors
/// If they can't be made.
pub(crate) fn disks(wanted: &[BlankDisk], fresh: bool, tools: &Tools, work: &Path) -> Result<Vec<Disk>> {
    let mut disks = Vec::new();
    for disk in wanted {
        let path = work.join(format!("{}.img", disk.serial));
        if fresh || !path.exists() {
            fs::File::create(&path)?.set_len(disk.size)?;
            if let Some((program, args)) = disk.format.split_first() {
                host::run(tools.command(program)?.args(args).arg(&path))?;
            }
        }
        disks.push(Disk { path, format: "raw", serial: disk.serial.clone(), sector: disk.sector, paths: 1 });
    }
    Ok(disks)
}

/// The script that waits for the case's disks and then runs its lines, in the initramfs, before the stages.
pub(crate) fn script(lines: &[String], disks: &[BlankDisk]) -> String {
    let waits = disks.iter().map(|disk| {
        format!("timeout 60 sh -c 'until test -e /dev/disk/by-id/virtio-{}; do sleep 0.2; done'", disk.serial)
    });
    let mut all = vec!["set -ex".to_owned()];
    all.extend(waits);
    all.extend_from_slice(lines);
    all.push("udevadm settle --timeout=60\n".to_owned());
    all.join("\n")
}

/// A software TPM 2.0. It ends when the machine does, or when it is dropped.
pub(crate) struct Tpm {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Tpm {
    /// Starts one whose state is kept in `work`. Also returns the socket that QEMU is told of.
    ///
    /// # Errors
    /// If swtpm doesn't start.
    pub(crate) fn start(tools: &Tools, work: &Path) -> Result<(Self, PathBuf)> {
        let state = work.join("tpm");
        fs::create_dir_all(&state)?;
        // The name of a socket may have 107 bytes only (unix(7)).
        let folder = tempfile::Builder::new().prefix("fledge-vm-tpm-").tempdir()?;
        let socket = folder.path().join("tpm");
        let mut command = tools.command("swtpm")?;
        command.args(["socket", "--tpm2", "--terminate", "--tpmstate", &format!("dir={}", state.display())]);
        command.args(["--ctrl", &format!("type=unixio,path={}", socket.display())]);
        command.args(["--log", &format!("file={},level=1", work.join("tpm.log").display())]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut tpm = Self { child, _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !socket.exists() {
            if let Some(status) = tpm.child.try_wait()? {
                let log = fs::read_to_string(work.join("tpm.log")).unwrap_or_default();
                bail!("swtpm ended at once ({status}):\n{}", host::tail(&log, 10));
            }
            if Instant::now() > deadline {
                bail!("swtpm didn't start within 20 s");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok((tpm, socket))
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A tang server: tangd answers each connection to a port of the host's loopback address. It stops when dropped.
pub(crate) struct Tang {
    address: SocketAddr,
    thumbprint: String,
    advertisement: String,
    stop: Arc<AtomicBool>,
    _keys: tempfile::TempDir,
}

impl Tang {
    /// Starts a server with keys of its own.
    ///
    /// # Errors
    /// If tangd or jose don't do what they should.
    pub(crate) fn start(tools: &Tools) -> Result<Self> {
        let keys = tempfile::Builder::new().prefix("fledge-vm-tang-").tempdir()?;
        for algorithm in ["ES512", "ECMR"] {
            let mut jose = tools.command("jose")?;
            let key = host::run(jose.args(["jwk", "gen", "-i", &format!("{{\"alg\":\"{algorithm}\"}}")]))?;
            // tangd looks for files of this ending; their names mean nothing to it.
            fs::write(keys.path().join(format!("{}.jwk", HEXLOWER.encode(&Sha256::digest(&key)))), key)?;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("can't listen on the loopback address")?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (over, tools, folder) = (Arc::clone(&stop), tools.clone(), keys.path().to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let (tools, folder) = (tools.clone(), folder.clone());
                // A guest that goes away in the middle is no failure of the case.
                std::thread::spawn(move || drop(serve(&tools, &folder, stream)));
            }
        });
        let mut tang = Self { address, thumbprint: String::new(), advertisement: String::new(), stop, _keys: keys };
        tang.advertisement = tang.ask()?;
        tang.thumbprint = thumbprint(&tang.advertisement)?;
        Ok(tang)
    }

    /// Its URL as the guest sees it.
    pub(crate) fn url(&self) -> String {
        format!("http://{HOST_ADDRESS}:{}", self.address.port())
    }

    /// The thumbprint of its signing key.
    pub(crate) fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// Its advertisement: JSON in one line.
    pub(crate) fn advertisement(&self) -> &str {
        &self.advertisement
    }

    fn ask(&self) -> Result<String> {
        use std::io::{Read as _, Write as _};
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(b"GET /adv HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("asking tangd for its advertisement")?;
        let (_, body) = answer.split_once("\r\n\r\n").with_context(|| format!("tangd answered {answer:?}"))?;
        Ok(body.trim().to_owned())
    }
}

impl Drop for Tang {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(tools: &Tools, keys: &Path, stream: TcpStream) -> Result<()> {
    let (input, output) = (OwnedFd::from(stream.try_clone()?), OwnedFd::from(stream));
    let mut command = tools.command("tangd")?;
    let mut child =
        command.arg(keys).stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::null()).spawn()?;
    child.wait()?;
    Ok(())
}

/// The thumbprint (RFC 7638, SHA-256) of the signing key in an advertisement (RFC 7515, section 7.2).
fn thumbprint(advertisement: &str) -> Result<String> {
    let signed: Value = serde_json::from_str(advertisement).context("tangd's advertisement is not JSON")?;
    let payload = signed.get("payload").and_then(Value::as_str).context("the advertisement has no payload")?;
    let keys: Value = serde_json::from_slice(&BASE64URL_NOPAD.decode(payload.as_bytes())?)?;
    let verifies = |key: &&Value| {
        key.get("key_ops").and_then(Value::as_array).is_some_and(|ops| ops.iter().any(|op| op == "verify"))
    };
    let key = keys.get("keys").and_then(Value::as_array).and_then(|keys| keys.iter().find(verifies));
    let key = key.context("the advertisement has no signing key")?;
    // The required members of an elliptic curve key, in the order of their names.
    let members = ["crv", "kty", "x", "y"].map(|name| format!("\"{name}\":{}", key.get(name).unwrap_or(&Value::Null)));
    Ok(BASE64URL_NOPAD.encode(&Sha256::digest(format!("{{{}}}", members.join(",")))))
}
