// SPDX-License-Identifier: Apache-2.0
//! The network of the initramfs, when the real root takes over: gathers what [`fledge_core::handover`] decides on, and carries it out.
//! And before, the network files of an installer, which are copied to where the initramfs's daemons find them.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::handover::{self, CONNECTIONS, Facts, HOST_NAME, IFNAME_RULES, INSTALLED, Link, NETWORKD, Plan, Step};
use fledge_core::pivot;

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
/// What an operator can do if the hand-over stops the boot.
const REMEDY: &str = "if that file is on the boot file system or below /etc of the system, mend or remove it; nestos.no_persist_ip on the kernel command line boots without a hand-over";

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
    let failed =
        |error: io::Error| Failure::new("handing the network on to the real root", error.to_string()).remedy(REMEDY);
    let cmdline = cmdline(places).map_err(failed)?;
    let root = Root::open(&places.root).map_err(|error| failed(at(&places.root, &error)))?;
    let plan = handover::plan(&cmdline, &facts(places, &root).map_err(failed)?);
    log::info!("{plan}");
    let mut written = Vec::new();
    for step in &plan.steps {
        perform(step, places, &root, &mut written).map_err(|error| {
            Failure::new(format!("handing the network on: to {step}"), error.to_string()).remedy(REMEDY)
        })?;
    }
    if written.is_empty() {
        return Ok(plan);
    }
    if let Some(selinux) = label::observe(&root).map_err(failed)? {
        label::set(&root, &selinux.policy, written.iter().map(String::as_str))?;
    }
    // An installer's own copy is removed once this boot is complete. The folder, because with composefs the root is another file system.
    root.directory("/etc").and_then(|etc| Ok(rustix::fs::syncfs(etc)?)).map_err(failed)?;
    Ok(plan)
}

/// An error with the file that it is about.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// What dracut takes for the command line, in its order (`_getcmdline` in `dracut-lib.sh`): the last one counts, which is the kernel's.
fn cmdline(places: &Places) -> io::Result<Cmdline> {
    let mut files = list(&places.join("/etc/cmdline.d"))?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.push(places.join("/etc/cmdline"));
    let mut text = String::new();
    for file in files {
        match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => {
                text.push_str(&String::from_utf8_lossy(&read.map_err(|error| at(&file, &error))?));
                text.push('\n');
            }
        }
    }
    let kernel = places.join("/proc/cmdline");
    let read = fs::read(&kernel).map_err(|error| at(&kernel, &error))?;
    text.push_str(&String::from_utf8_lossy(&read));
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
    for path in facts.generated.iter().filter(|path| Path::new(path).extension().is_some_and(|end| end == "link")) {
        if !goes_by_mac_address(&read(&places.join(path))?) {
            facts.named_otherwise.push(path.clone());
        }
    }
    let name = places.join(HOST_NAME);
    if name.exists() {
        let name = String::from_utf8_lossy(&read(&name)?).trim().to_owned();
        facts.host_name = Some(name).filter(|name| !name.is_empty());
    }
    for folder in [CONNECTIONS, NETWORKD, SCRIPTS] {
        for file in list(&root.path().join("etc").join(folder))? {
            let (name, path) = (file_name(&file), format!("{folder}/{}", file_name(&file)));
            let counts = match folder {
                NETWORKD => name.ends_with(".network") || name.ends_with(".netdev"),
                SCRIPTS => name.starts_with("ifcfg-") && name != "ifcfg-lo",
                _ => !name.starts_with('.'),
            };
            let own = format!("/etc/{path}");
            if counts && !is_images_own(root, &path)? && !is_handed_on(places, root, &facts, &own)? {
                facts.own.push(own);
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

/// Whether a file of the real root is what a hand-over put there that was cut off before the boot was complete.
fn is_handed_on(places: &Places, root: &Root, facts: &Facts, own: &str) -> io::Result<bool> {
    for (from, to) in handover::copies(facts) {
        let there = if to == own { root.file(own)? } else { None };
        if let Some(there) = there {
            let [one, other] = [content(there).map_err(|error| at(Path::new(own), &error))?, read(&places.join(from))?];
            return Ok(without_ids(&one) == without_ids(&other));
        }
    }
    Ok(false)
}

/// `NetworkManager`'s generator gives connections new UUIDs each time, and connections go by those of others.
fn without_ids(file: &[u8]) -> Vec<&[u8]> {
    let keys: [&[u8]; 4] = [b"uuid=", b"master=", b"controller=", b"parent="];
    file.split(|byte| *byte == b'\n').filter(|line| !keys.iter().any(|key| line.starts_with(key))).collect()
}

/// Whether a file `.link` (systemd.link(5)) says which interface it means in a way that is the same in any kernel.
fn goes_by_mac_address(file: &[u8]) -> bool {
    let keys: [&[u8]; 2] = [b"MACAddress=", b"PermanentMACAddress="];
    let mut lines = file.split(|byte| *byte == b'\n').skip_while(|line| *line != b"[Match]").skip(1);
    lines.by_ref().take_while(|line| !line.starts_with(b"[")).any(|line| keys.iter().any(|key| line.starts_with(key)))
}

/// What is in a folder, sorted; nothing if it isn't there.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| at(folder, &error))?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = paths.map_err(|error| at(folder, &error))?;
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::File::open(path).and_then(content).map_err(|error| at(path, &error))
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
            put(root, to, &read(&places.join(from))?, Attributes::default().or(0, *group, *mode), written)?;
        }
        Step::HostName { name } => {
            let attributes = Attributes::default().or(0, 0, 0o644);
            put(root, "/etc/hostname", format!("{name}\n").as_bytes(), attributes, written)?;
        }
        Step::Mask { unit } => {
            let units = places.join("/run/systemd/system");
            atomic::make_directory(&units, 0o755).map_err(|error| at(&units, &error))?;
            crate::generator::link("/dev/null", &units.join(unit)).map_err(|error| at(&units, &error))?;
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
    let mut place = || {
        let directory = root.make_directories(above, &mut |made| written.push(made.to_owned()))?;
        let temporary = directory.temporary()?;
        temporary.file().write_all(bytes)?;
        // A power cut leaves it whole or not at all: half a file would count as somebody's own at the next first boot.
        temporary.file().sync_all()?;
        directory.place(temporary, name, attributes, true)
    };
    place().map_err(|error| at(Path::new(to), &error))?;
    written.push(to.to_owned());
    Ok(())
}

fn forget(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(at(path, &error)) })
}

/// Copies an installer's network files to where the daemons of the initramfs look for them, in place of what was made of the command
/// line for the same daemon, and keeps them for the real root.
///
/// # Errors
/// The boot file system can't be mounted, or a file can't be copied.
pub fn copy_installed(cmdline: &Cmdline, live: bool, boot: &Place, places: &Places) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new("copying the network files that an installer left", error.to_string()).remedy(
            "remove the folder nestos-firstboot-network from the boot file system, or put files there that can be read",
        )
    };
    if live {
        let root = Root::open(&places.initramfs).map_err(failed)?;
        return copy_from(&root, "/etc", places).map_err(failed);
    }
    if pivot::target(cmdline).is_none() {
        return Ok(());
    }
    if handover::on_the_network(cmdline) {
        log::info!("the boot disk is on the network, and can't say how to reach it");
        return Ok(());
    }
    let boot = BootFs::open(boot, false)?;
    copy_from(boot.root(), "", places).map_err(failed)
}

fn copy_from(root: &Root, above: &str, places: &Places) -> io::Result<()> {
    for folder in FOLDERS.map(|folder| format!("{above}/{folder}")) {
        let at_folder = |error: &io::Error| at(Path::new(&folder), error);
        let names = match root.directory(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            directory => directory.and_then(|directory| names(&directory)).map_err(|error| at_folder(&error))?,
        };
        if names.is_empty() {
            continue;
        }
        for beside in [CONNECTIONS, NETWORKD] {
            if names.iter().any(|name| daemons(name) == beside) {
                give_way(&places.join(&format!("/run/{beside}")), beside)?;
            }
        }
        for name in &names {
            let path = format!("{folder}/{name}");
            let bytes = root.open_file(&path).and_then(content).map_err(|error| at(Path::new(&path), &error))?;
            // The daemon's user must read them; there are no other users in an initramfs.
            let beside = daemons(name);
            let mode = if beside == NETWORKD { 0o644 } else { 0o600 };
            let used = places.join(&format!("/run/{beside}"));
            atomic::make_directory(&used, 0o755).map_err(|error| at(&used, &error))?;
            for (path, mode) in [(used.join(name), mode), (places.join(INSTALLED).join(name), 0o600)] {
                atomic::write(&path, mode, &bytes).map_err(|error| at(&path, &error))?;
            }
        }
        log::info!("copied from {folder}: {}", names.join(", "));
        return Ok(());
    }
    log::info!("no installer left network files");
    Ok(())
}

/// The folder of the daemon that a file is for.
fn daemons(name: &str) -> &'static str {
    let is_networkd = [".network", ".netdev", ".link"].iter().any(|end| name.ends_with(end));
    if is_networkd { NETWORKD } else { CONNECTIONS }
}

/// Removes what was made of the command line for one daemon: its networks. Names of interfaces (`.link`) stay.
fn give_way(folder: &Path, beside: &str) -> io::Result<()> {
    for file in list(folder)? {
        let name = file_name(&file);
        if beside == CONNECTIONS || name.ends_with(".network") || name.ends_with(".netdev") {
            forget(&file)?;
        }
    }
    Ok(())
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
