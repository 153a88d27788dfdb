// SPDX-License-Identifier: Apache-2.0
//! The boot partition: made anew for each machine, from the boot folder of the deployment, because the initramfs, the
//! kernel arguments and what an installer leaves there differ from case to case.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tar::{EntryType, Header};

use super::disk;
use crate::host;
use crate::tools::Tools;

/// The size of GRUB's environment block, which must not change.
const GRUBENV_SIZE: usize = 1024;

/// What a boot partition holds beside kernel and boot entries.
#[derive(Clone, Debug)]
pub struct BootPartition {
    /// Replaces the initramfs of the boot entry.
    pub initramfs: Option<PathBuf>,
    /// Arguments that are added to the boot entry's options.
    pub arguments: Vec<String>,
    /// Arguments that are taken out of them.
    pub without: Vec<String>,
    /// The text of the first-boot stamp `ignition.firstboot`; none: this is not a first boot.
    pub stamp: Option<String>,
    /// More files: path below `/boot`, permission bits, contents. Folders that they need get 0700.
    pub files: Vec<(String, u32, Vec<u8>)>,
}

impl Default for BootPartition {
    /// A first boot with nothing special.
    fn default() -> Self {
        Self {
            initramfs: None,
            arguments: Vec::new(),
            without: Vec::new(),
            stamp: Some(String::new()),
            files: Vec::new(),
        }
    }
}

/// Writes the partition's file system to `image`. `folder` is what OSTree wrote to `/boot`; `initramfs` is the path
/// of the boot entry's initramfs below it.
pub(super) fn make(
    image: &Path,
    tools: &Tools,
    folder: &Path,
    initramfs: &Path,
    wanted: &BootPartition,
    work: &Path,
) -> Result<()> {
    let archive = work.join("boot.tar");
    let mut builder = Builder(tar::Builder::new(File::create(&archive)?));
    builder.copy_folder(folder, Path::new(""), &mut |path, bytes| {
        if path == initramfs {
            return wanted.initramfs.as_ref().map(|file| fs::read(file).context("reading the initramfs")).transpose();
        }
        let unchanged = wanted.arguments.is_empty() && wanted.without.is_empty();
        if unchanged || path.extension().is_none_or(|extension| extension != "conf") {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(bytes);
        let kept = |word: &&str| !wanted.without.iter().any(|other| other == word);
        let lines = text.lines().map(|line| {
            if !line.starts_with("options ") {
                return format!("{line}\n");
            }
            let words = line.split(' ').filter(kept).chain(wanted.arguments.iter().map(String::as_str));
            grub_takes(words.collect::<Vec<_>>().join(" "), &text) + "\n"
        });
        Ok(Some(lines.collect::<String>().into_bytes()))
    })?;
    if let Some(stamp) = &wanted.stamp {
        builder.file("ignition.firstboot", 0o644, stamp.as_bytes())?;
    }
    builder.file("grub2/grubenv", 0o644, &empty_environment())?;
    let mut made = Vec::new();
    for (path, mode, contents) in &wanted.files {
        ensure!(!path.starts_with('/'), "a file for the boot partition must not begin with a slash: {path}");
        for (index, _) in path.match_indices('/') {
            let parent = path.get(..index).unwrap_or_default();
            if !made.iter().any(|known| known == parent) {
                builder.folder(parent, 0o700)?;
                made.push(parent.to_owned());
            }
        }
        builder.file(path, *mode, contents)?;
    }
    builder.0.finish()?;
    drop(builder);

    File::create(image)?.set_len(disk::BOOT.1)?;
    let mut format = tools.command("mke2fs")?;
    format.args(["-q", "-t", "ext4", "-L", "boot", "-U", disk::BOOT_UUID, "-d"]).arg(&archive).arg(image);
    host::run(&mut format).context("making the boot partition")?;
    fs::remove_file(&archive)?;
    Ok(())
}

/// Lengthens the line of arguments if GRUB would lose the entry's initramfs. `blscfg` of GRUB 2.14 reserves a byte too few for the line that
/// it makes of kernel and arguments (`bls_get_linux` in `grub-core/commands/blsuki.c`), and what comes next goes wrong where that line fills
/// its sixteens: seen with a remainder of 11 here. On a first boot, `$ignition_firstboot` is 19 bytes longer than on others; then
/// ` boot=UUID=` and a UUID are added, 47.
fn grub_takes(options: String, entry: &str) -> String {
    const LOST: usize = 11;
    let kernel = entry.lines().find_map(|line| line.strip_prefix("linux ")).unwrap_or_default();
    let length = options.len() - "options ".len() + kernel.len();
    let is_lost = |more| (length + more) % 16 == LOST;
    if [0, 19, 47].into_iter().any(is_lost) { options + " even" } else { options }
}

/// A GRUB environment block without variables (GRUB's `include/grub/lib/envblk.h`).
fn empty_environment() -> Vec<u8> {
    let mut bytes = b"# GRUB Environment Block\n".to_vec();
    bytes.resize(GRUBENV_SIZE, b'#');
    bytes
}

/// A tar archive whose entries all belong to root: `mke2fs -d` takes owners from it, whoever runs it.
struct Builder(tar::Builder<File>);

/// What [`Builder::copy_folder`] asks for each file: other contents, if any.
type Replace<'a> = dyn FnMut(&Path, &[u8]) -> Result<Option<Vec<u8>>> + 'a;

impl Builder {
    fn copy_folder(&mut self, root: &Path, below: &Path, replace: &mut Replace<'_>) -> Result<()> {
        let folder = root.join(below);
        let entries = fs::read_dir(&folder).with_context(|| format!("can't read {}", folder.display()))?;
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names {
            let path = below.join(&name);
            let source = root.join(&path);
            let kind = fs::symlink_metadata(&source)?.file_type();
            let text = path.to_string_lossy();
            if kind.is_symlink() {
                let mut header = header(EntryType::Symlink, 0o777, 0);
                self.0.append_link(&mut header, &path, fs::read_link(&source)?)?;
            } else if kind.is_dir() {
                self.folder(&text, 0o755)?;
                self.copy_folder(root, &path, replace)?;
            } else {
                let bytes = fs::read(&source)?;
                let bytes = replace(&path, &bytes)?.unwrap_or(bytes);
                self.file(&text, 0o644, &bytes)?;
            }
        }
        Ok(())
    }

    fn folder(&mut self, path: &str, mode: u32) -> Result<()> {
        Ok(self.0.append_data(&mut header(EntryType::Directory, mode, 0), format!("{path}/"), std::io::empty())?)
    }

    fn file(&mut self, path: &str, mode: u32, contents: &[u8]) -> Result<()> {
        let size = contents.len() as u64;
        Ok(self.0.append_data(&mut header(EntryType::Regular, mode, size), path, contents)?)
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_mtime(1);
    header
}

/// Makes an ext4 file system of root's files for a case's extra disk: path, permission bits (for links: ignored),
/// contents.
///
/// # Errors
/// If the tools fail.
pub(super) fn extra(image: &Path, tools: &Tools, label: &str, bytes: u64, items: &[Item], work: &Path) -> Result<()> {
    let archive = work.join(format!("{label}.tar"));
    let mut builder = Builder(tar::Builder::new(File::create(&archive)?));
    for item in items {
        match item {
            Item::Folder(path, mode) => builder.folder(path, *mode)?,
            Item::File(path, mode, contents) => builder.file(path, *mode, contents)?,
            Item::Link(path, target) => {
                builder.0.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, target)?;
            }
        }
    }
    builder.0.finish()?;
    drop(builder);
    File::create(image)?.set_len(bytes)?;
    let mut format = tools.command("mke2fs")?;
    format.args(["-q", "-t", "ext4", "-L", label, "-d"]).arg(&archive).arg(image);
    host::run(&mut format).with_context(|| format!("making the file system {label}"))?;
    fs::remove_file(&archive)?;
    Ok(())
}

/// One thing in the file system of an extra disk; paths have no leading slash.
#[derive(Clone, Debug)]
pub enum Item {
    /// A folder with these permission bits.
    Folder(String, u32),
    /// A file with these permission bits and contents.
    File(String, u32, Vec<u8>),
    /// A symbolic link and its target.
    Link(String, String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_arguments_has_the_length_that_grub_can_t_take() {
        for length in 0..32 {
            let line = grub_takes(format!("options {}", "x".repeat(length)), "title a\nlinux /k\n");
            let lost = [0, 19, 47].map(|more| (line.len() - "options ".len() + "/k".len() + more) % 16 == 11);
            assert_eq!(lost, [false; 3], "{line}");
        }
    }

    #[test]
    fn the_environment_block_has_the_size_that_grub_expects() {
        let block = empty_environment();
        assert_eq!(block.len(), 1024);
        assert!(block.starts_with(b"# GRUB Environment Block\n#"));
    }
}
