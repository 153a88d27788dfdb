// SPDX-License-Identifier: Apache-2.0
//! What the harness asks of the machine it runs on: programs, free memory, sparse copies, scratch folders.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, SeekFrom};

/// Runs a program to its end with no standard input.
///
/// # Errors
/// If it can't be started, or fails; with the last lines of what it printed.
pub fn run(command: &mut Command) -> Result<Vec<u8>> {
    feed(command, b"")
}

/// Runs a program to its end with `input` as its standard input, and returns its standard output.
///
/// # Errors
/// As [`run`].
pub fn feed(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let name = describe(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't start {name}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that doesn't read its input is no error of ours.
        drop(stdin.write_all(input));
    }
    let output = child.wait_with_output().with_context(|| format!("waiting for {name}"))?;
    if !output.status.success() {
        let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        bail!("{name} failed ({}):\n{}", output.status, tail(&String::from_utf8_lossy(&all), 25));
    }
    Ok(output.stdout)
}

fn describe(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let text = words.join(OsStr::new(" ")).to_string_lossy().into_owned();
    if text.len() > 400 { format!("{}...", text.chars().take(400).collect::<String>()) } else { text }
}

/// The last `count` lines of a text.
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

/// Memory that programs could still get, in MiB (`MemAvailable` of `/proc/meminfo`, proc(5)).
pub fn available_mib() -> u64 {
    let Ok(text) = fs::read_to_string("/proc/meminfo") else { return 0 };
    text.lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib / 1024)
}

/// Copies the parts of `source` that hold data into `target` at `offset`, leaving holes as they are.
///
/// # Errors
/// If a file can't be read or written.
pub fn copy_sparse(source: &Path, target: &File, offset: u64) -> Result<()> {
    let from = File::open(source).with_context(|| format!("can't open {}", source.display()))?;
    let length = from.metadata()?.len();
    let mut position = 0;
    while position < length {
        let Ok(data) = rustix::fs::seek(&from, SeekFrom::Data(position)) else { break };
        let hole = rustix::fs::seek(&from, SeekFrom::Hole(data)).context("SEEK_HOLE")?;
        rustix::fs::seek(&from, SeekFrom::Start(data)).context("lseek")?;
        rustix::fs::seek(target, SeekFrom::Start(offset + data)).context("lseek")?;
        let mut to = target;
        std::io::copy(&mut (&from).take(hole - data), &mut to)
            .with_context(|| format!("copying {}", source.display()))?;
        position = hole;
    }
    Ok(())
}

/// A folder for the files of one run, gone when dropped. One that a killed run left behind is removed by the next
/// run: whoever holds a folder's lock is alive.
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

const PREFIX: &str = "fledge-vm-";

impl Scratch {
    /// Makes a folder in memory when there is enough of it, else below `fallback`.
    ///
    /// # Errors
    /// If no folder can be made.
    pub fn new(fallback: &Path) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let parent = if available_mib() > 4096 && memory.is_dir() { memory } else { fallback };
        fs::create_dir_all(parent).with_context(|| format!("can't make {}", parent.display()))?;
        sweep(parent);
        let path = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?.keep();
        let lock = File::create(path.join(".lock"))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).context("locking the run's folder")?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.path));
    }
}

/// Removes what killed runs left in `parent`.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(".lock")) else { continue };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_told_with_its_last_words() {
        let error = run(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("why") && error.contains('3'), "{error}");
    }

    #[test]
    fn sparse_copies_keep_data_and_offset() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        let file = File::create(&source).unwrap();
        file.set_len(8 << 20).unwrap();
        rustix::io::pwrite(&file, b"data", 5 << 20).unwrap();
        let target = File::create(folder.path().join("target")).unwrap();
        target.set_len(16 << 20).unwrap();
        copy_sparse(&source, &target, 1 << 20).unwrap();
        let bytes = fs::read(folder.path().join("target")).unwrap();
        assert_eq!(&bytes[6 << 20..(6 << 20) + 4], b"data");
        assert_eq!(bytes.len(), 16 << 20);
    }

    #[test]
    fn a_scratch_folder_is_gone_when_dropped_and_a_dead_one_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        let dead = parent.path().join("fledge-vm-dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(".lock"), "").unwrap();
        sweep(parent.path());
        assert!(!dead.exists());
        let scratch = Scratch::new(parent.path()).unwrap();
        let path = scratch.path().to_owned();
        sweep(path.parent().unwrap());
        assert!(path.exists(), "a folder in use was swept");
        drop(scratch);
        assert!(!path.exists());
    }
}
