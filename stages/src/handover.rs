// SPDX-License-Identifier: Apache-2.0
//! The network of the initramfs, when the real root takes over: gathers what [`fledge_core::handover`] decides on, and carries it out.
//! And before, the network files of an installer, which are copied to where the initramfs's daemons find them.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::handover::{self, CONNECTIONS, Facts, IFNAME_RULES, INSTALLED, Link, NETWORKD, Plan, Step};

use crate::host::bootfs::{BootFs, Place};
use crate::host::cmd::{self, Arg};
use crate::host::fs::{Attributes, Root};
use crate::host::{atomic, label};

/// Where an installer leaves network files: on the boot file system, or below `/etc` of a live image's initramfs.
pub const FOLDERS: [&str; 2] = ["nestos-firstboot-network", "coreos-firstboot-network"];
/// Where the real root may have connections of an older `NetworkManager`.
const SCRIPTS: &str = "sysconfig/network-scripts";
/// No network file is anywhere near as long.
const LIMIT: u64 = 1 << 20;

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The real root.
    pub root: PathBuf,
    /// The interfaces as sysfs has them.
    pub links: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { initramfs: "/".into(), root: "/sysroot".into(), links: "/sys/class/net".into() }
    }
}

impl Places {
    fn join(&self, path: &str) -> PathBuf {
        self.initramfs.join(path.trim_start_matches('/'))
    }
}

/// Hands over.
///
/// # Errors
/// A file can't be read, or written to the real root. An interface that can't be taken down is only told of.
pub fn run(places: &Places) -> Result<Plan, Failure> {
    let failed = |error: io::Error| Failure::new("handing the network on to the real root", error.to_string());
    let cmdline = cmdline(places).map_err(failed)?;
    let root = Root::open(&places.root).map_err(failed)?;
    let plan = handover::plan(&cmdline, &facts(places, &root).map_err(failed)?);
    log::info!("{plan}");
    let mut written = Vec::new();
    for step in &plan.steps {
        perform(step, places, &root, &mut written)
            .map_err(|error| Failure::new(format!("handing the network on: to {step}"), error.to_string()))?;
    }
    if written.is_empty() {
        return Ok(plan);
    }
    if let Some(selinux) = label::observe(&root).map_err(failed)? {
        label::set(&root, &selinux.policy, written.iter().map(String::as_str))?;
    }
    Ok(plan)
}

/// What dracut takes for the command line.
fn cmdline(places: &Places) -> io::Result<Cmdline> {
    let mut text = String::from_utf8_lossy(&fs::read(places.join("/proc/cmdline"))?).trim_end().to_owned();
    let mut files = list(&places.join("/etc/cmdline.d"))?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.push(places.join("/etc/cmdline"));
    for file in files {
        text.push(' ');
        text.push_str(fs::read_to_string(file).unwrap_or_default().trim_end());
    }
    Ok(Cmdline::parse(&text))
}

fn facts(places: &Places, root: &Root) -> io::Result<Facts> {
    let mut facts = Facts { ifname_rules: places.join(IFNAME_RULES).exists(), ..Facts::default() };
    for link in list(&places.links)? {
        let name = file_name(&link);
        if link.is_dir() && name != "lo" {
            facts.links.push(Link { physical: link.join("device").exists(), name });
        }
    }
    let below = |folder: &str| -> io::Result<Vec<String>> {
        let files = list(&places.join(folder))?.into_iter().filter(|file| file.is_file());
        Ok(files.map(|file| format!("{folder}/{}", file_name(&file))).collect())
    };
    facts.installed = below(INSTALLED)?;
    for folder in [CONNECTIONS, NETWORKD] {
        facts.generated.extend(below(&format!("/run/{folder}"))?);
    }
    for folder in [CONNECTIONS, NETWORKD, SCRIPTS] {
        for file in list(&root.path().join("etc").join(folder))? {
            let (name, path) = (file_name(&file), format!("{folder}/{}", file_name(&file)));
            let counts = match folder {
                NETWORKD => name.ends_with(".network") || name.ends_with(".netdev"),
                SCRIPTS => name.starts_with("ifcfg-") && name != "ifcfg-lo",
                _ => !name.starts_with('.'),
            };
            if counts && !is_images_own(root, &path)? {
                facts.own.push(format!("/etc/{path}"));
            }
        }
    }
    facts.own_host_name = root.file("/etc/hostname")?.is_some() && !is_images_own(root, "hostname")?;
    facts.networkd_group = ["/etc/group", "/usr/lib/group"].into_iter().find_map(|file| {
        let text = root.text(file).ok()?;
        text.lines().find_map(|line| line.strip_prefix("systemd-network:")?.split(':').nth(1)?.parse().ok())
    });
    Ok(facts)
}

/// Whether a file of `/etc` is still as the image has it: nobody asked for it on this machine.
fn is_images_own(root: &Root, path: &str) -> io::Result<bool> {
    let read = |path: String| match root.open_file(&path) {
        Ok(file) => content(file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // A link to /dev/null is somebody's word.
        Err(_) => Ok(None),
    };
    let own = read(format!("/etc/{path}"))?;
    Ok(own.is_some() && own == read(format!("/usr/etc/{path}"))?)
}

/// What is in a folder, sorted; nothing if it isn't there.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn content(file: fs::File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == LIMIT { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

fn perform(step: &Step, places: &Places, root: &Root, written: &mut Vec<String>) -> io::Result<()> {
    match step {
        Step::Delete { link } => {
            // Gone with another one that it was made of.
            if places.links.join(link).exists() && !ip(&["link", "delete", "dev", link]) {
                down(link);
            }
        }
        Step::Down { link } => down(link),
        Step::Copy { from, to, mode, group } => {
            let bytes = content(fs::File::open(places.join(from))?)?;
            put(root, to, &bytes, Attributes::default().or(0, *group, *mode), written)?;
        }
        Step::HostName { name } => {
            let attributes = Attributes::default().or(0, 0, 0o644);
            put(root, "/etc/hostname", format!("{name}\n").as_bytes(), attributes, written)?;
        }
        Step::Forget { path } => return forget(&places.join(path)),
    }
    Ok(())
}

fn down(link: &str) {
    ip(&["link", "set", "dev", link, "down"]);
    ip(&["address", "flush", "dev", link]);
}

/// The real root configures what it finds; what stays up is no reason not to boot.
fn ip(args: &[&str]) -> bool {
    let args: Vec<_> = args.iter().copied().map(Arg::from).collect();
    let done = cmd::run(cmd::IP, &args);
    if let Err(failure) = &done {
        log::warn!("{failure}");
    }
    done.is_ok()
}

fn put(root: &Root, to: &str, bytes: &[u8], attributes: Attributes, written: &mut Vec<String>) -> io::Result<()> {
    let (above, name) = fledge_core::path::split(to).ok_or(io::ErrorKind::InvalidInput)?;
    let directory = root.make_directories(above, &mut |made| written.push(made.to_owned()))?;
    let temporary = directory.temporary()?;
    temporary.file().write_all(bytes)?;
    directory.place(temporary, name, attributes, true)?;
    written.push(to.to_owned());
    Ok(())
}

fn forget(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Copies an installer's network files to where the daemons of the initramfs look for them, in place of what was made of the command
/// line, and keeps them for the real root. Says how many there were.
///
/// # Errors
/// The boot file system can't be mounted, or a file can't be copied.
pub fn copy_installed(cmdline: &Cmdline, live: bool, boot: &Place, places: &Places) -> Result<usize, Failure> {
    let failed = |error: io::Error| {
        Failure::new("copying the network files that an installer left", error.to_string()).remedy(
            "remove the folder nestos-firstboot-network from the boot file system, or put files there that can be read",
        )
    };
    if live {
        let root = Root::open(&places.initramfs).map_err(failed)?;
        return copy_from(&root, "/etc", places).map_err(failed);
    }
    if cmdline.value("ostree").unwrap_or_default().is_empty() {
        return Ok(0);
    }
    let boot = BootFs::open(boot, false)?;
    copy_from(boot.root(), "", places).map_err(failed)
}

fn copy_from(root: &Root, above: &str, places: &Places) -> io::Result<usize> {
    for folder in FOLDERS.map(|folder| format!("{above}/{folder}")) {
        let names = match root.directory(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            directory => names(&directory?)?,
        };
        if names.is_empty() {
            continue;
        }
        // Neither of them is mixed with the command line's.
        for generated in [CONNECTIONS, NETWORKD] {
            forget(&places.join(&format!("/run/{generated}")))?;
        }
        for name in &names {
            let bytes = content(root.open_file(&format!("{folder}/{name}"))?)?;
            let is_networkd = [".network", ".netdev", ".link"].iter().any(|end| name.ends_with(end));
            // The daemon's user must read them; there are no other users in an initramfs.
            let (beside, mode) = if is_networkd { (NETWORKD, 0o644) } else { (CONNECTIONS, 0o600) };
            atomic::make_directory(&places.join(&format!("/run/{beside}")), 0o755)?;
            atomic::write(&places.join(&format!("/run/{beside}/{name}")), mode, &bytes)?;
            atomic::write(&places.join(&format!("{INSTALLED}/{name}")), 0o600, &bytes)?;
        }
        log::info!("copied from {folder}: {}", names.join(", "));
        return Ok(names.len());
    }
    log::info!("no installer left network files");
    Ok(0)
}

fn names(directory: &crate::host::fs::Directory) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_str().map_err(|_| io::Error::other("the name of a file is no text"))?;
        // `.`, `..` and what editors leave.
        if !name.starts_with('.') {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;
