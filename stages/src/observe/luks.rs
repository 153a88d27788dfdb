// SPDX-License-Identifier: Apache-2.0
//! Encrypted volumes: headers, what is open, keys that are at hand, and how much memory there is to derive keys with.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fledge_core::cmdline::Cmdline;
use fledge_core::config::Config;
use fledge_core::diag::Failure;
use fledge_core::facts::{Facts, Volume};
use fledge_core::pivot;
use fledge_core::plan::luks::{MARK, header, key_path};
use fledge_core::secret::Key;
use fledge_core::state::{Held, State};

use crate::host::device::usage::{directory, linked, text};
use crate::host::fs::Root;
use crate::host::{device, mount};

/// More than any key has; cryptsetup takes no more.
const KEY_LIMIT: u64 = 8 << 20;

/// Adds what is known about the volumes of a configuration; `held` tells which of those in the state count as held.
///
/// # Errors
/// Each device that is there and can't be read.
pub(super) fn look(
    facts: &mut Facts,
    config: &Config,
    state: &State,
    held: fn(&Held) -> bool,
) -> Result<(), Vec<Failure>> {
    let mut failures = Vec::new();
    for luks in &config.storage.luks {
        let Some(device) = luks.device.as_ref() else { continue };
        let known = state.volume(&luks.name);
        // What this boot opened is below its mapping, whatever the device's name leads to by now.
        let below = known.and_then(below);
        let Some(node) = below.or_else(|| Path::new(device).canonicalize().ok().filter(|_| device::is_there(device)))
        else {
            continue;
        };
        match volume(&node) {
            Ok(None) => {}
            Ok(Some(mut volume)) => {
                volume.device.clone_from(device);
                volume.node = node.to_string_lossy().into_owned();
                volume.held = known.is_some_and(|known| known.uuid == volume.uuid && held(known));
                facts.volumes.push(volume);
            }
            Err(error) => failures.push(device::unreadable(device, &error)),
        }
    }
    if !config.storage.luks.is_empty() {
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        facts.memory = kibibytes(&memory, "MemTotal:");
        facts.available_memory = kibibytes(&memory, "MemAvailable:");
    }
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

/// The device of a volume that is open. Integrity protection has a mapping of its own between.
fn below(held: &Held) -> Option<PathBuf> {
    let mut node = Path::new("/dev/mapper").join(&held.name);
    loop {
        node = linked(&directory(&node).ok()?, "slaves").into_iter().next()?.into();
        if volume(&node).ok().flatten().is_some_and(|volume| volume.uuid == held.uuid) {
            return Some(node);
        }
    }
}

/// The LUKS header of a device or a file, if it has one, and the name that it is open as.
pub(crate) fn volume(path: &Path) -> io::Result<Option<Volume>> {
    let file = File::open(path)?;
    let found = device::reading(&file, header::read)?;
    Ok(found.map(|volume| Volume { open_as: open_as(path), ..volume }))
}

/// The name of the encrypted mapping on a device.
pub(crate) fn open_as(path: &Path) -> Option<String> {
    linked(&directory(path).ok()?, "holders").into_iter().find_map(|holder| {
        let mapping = directory(Path::new(&holder)).ok()?.join("dm");
        text(&mapping.join("uuid")).starts_with("CRYPT-").then(|| text(&mapping.join("name")))
    })
}

fn kibibytes(memory: &str, field: &str) -> u64 {
    let line = memory.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

/// Takes the keys of volumes that an interrupted first boot made over from the target root, where the files stage has left them: the
/// configuration can't tell random ones.
pub(super) fn recall(config: &Config, facts: &mut Facts, state: &mut State, cmdline: &Cmdline) {
    let mut target = None;
    for luks in &config.storage.luks {
        let Some(volume) = facts.volumes.iter_mut().find(|volume| luks.device.as_ref() == Some(&volume.device)) else {
            continue;
        };
        let generated = luks.key_file.source.as_deref().unwrap_or_default().is_empty() && !luks.clevis.is_present();
        if !generated || volume.subsystem == MARK || volume.made_from.is_none() || volume.held {
            continue;
        }
        let target = target.get_or_insert_with(|| {
            open_target(cmdline).inspect_err(|why| log::warn!("no key can be looked for in the target root: {why}"))
        });
        let Ok((root, deployment)) = target else { return };
        let path = format!("{deployment}{}", key_path(&luks.name));
        match key(root, &path) {
            Ok(Some(key)) => {
                log::info!("the key of the encrypted volume {:?} is in the target root", luks.name);
                volume.held = true;
                state.hold(Held { name: luks.name.clone(), uuid: volume.uuid.clone(), key: Some(key) });
            }
            Ok(None) => log::info!("the target root has no {path}"),
            Err(error) => log::warn!("reading {path} in the target root: {error}"),
        }
    }
}

fn key(root: &Root, path: &str) -> io::Result<Option<Key>> {
    let Some(file) = root.file(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(KEY_LIMIT).read_to_end(&mut bytes)?;
    Ok(Some(Key::new(bytes)))
}

/// The root file system, read-only and mounted nowhere, and the deployment in it that will be started. The kernel replays a journal
/// for that, as it does a moment later in any case: the key may stand in the journal alone.
fn open_target(cmdline: &Cmdline) -> io::Result<(Root, String)> {
    let spec = cmdline.value("root").filter(|spec| !spec.is_empty()).unwrap_or("LABEL=root");
    let by = [("LABEL=", "label"), ("UUID=", "uuid"), ("PARTLABEL=", "partlabel"), ("PARTUUID=", "partuuid")];
    let named = by.iter().find_map(|(tag, link)| Some(format!("/dev/disk/by-{link}/{}", spec.strip_prefix(tag)?)));
    let name = named.unwrap_or_else(|| spec.to_owned());
    let signature = device::look(&name)?.signature;
    let format = signature.ok_or_else(|| io::Error::other(format!("{name} holds no file system")))?.format;
    let root = mount::detached(Path::new(&name), &[format])?;
    Ok((root, pivot::target(cmdline).unwrap_or_default().trim_end_matches('/').to_owned()))
}

#[cfg(test)]
mod tests {
    use fledge_core::plan::luks::TOKEN;

    use super::*;
    use crate::host::cmd::{self, Arg};

    /// What cryptsetup itself writes is read, as the stages have it write: mark, token, and what stays.
    #[test]
    fn headers_of_cryptsetup_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device");
        File::create(&path).unwrap().set_len(32 << 20).unwrap();
        assert_eq!(volume(&path).unwrap(), None);
        let key = Key::new(b"sesame".to_vec());
        let run = |args: &[Arg<'_>]| {
            let args: Vec<_> = args.iter().copied().chain([Arg::from(path.as_os_str())]).collect();
            cmd::run(cmd::CRYPTSETUP, &args).unwrap_or_else(|failure| panic!("{failure}"));
        };
        let quick = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--label", "Data"].map(Arg::from);
        let format =
            ["luksFormat", "--batch-mode", "--type", "luks2", "--subsystem", MARK, "--key-file"].map(Arg::from);
        run(&[&format[..], &[Arg::Key(&key)], &quick[..]].concat());
        let made = volume(&path).unwrap().unwrap();
        assert_eq!((made.version, made.label.as_str(), made.subsystem.as_str()), (2, "Data", MARK));
        assert_eq!((made.uuid.len(), made.made_from, made.open_as), (36, None, None));

        let token = Key::new(format!(r#"{{"type":"{TOKEN}","keyslots":[],"fledge-made-from":"abc"}}"#).into_bytes());
        run(&["token".into(), "import".into(), "--json-file".into(), Arg::Key(&token)]);
        run(&["config", "--label", "Data", "--subsystem", ""].map(Arg::from));
        let settled = volume(&path).unwrap().unwrap();
        assert_eq!((settled.label.as_str(), settled.subsystem.as_str()), ("Data", ""));
        assert_eq!((settled.made_from.as_deref(), settled.uuid), (Some("abc"), made.uuid));

        run(&["luksFormat", "--batch-mode", "--type", "luks1", "--key-file"]
            .map(Arg::from)
            .into_iter()
            .chain([Arg::Key(&key)])
            .chain(quick.into_iter().take(4))
            .collect::<Vec<_>>());
        assert_eq!(volume(&path).unwrap().unwrap().version, 1);
    }

    #[test]
    fn the_amount_of_memory_is_read() {
        let text = "MemTotal:        8031932 kB\nMemFree:          215088 kB\nMemAvailable:    5132416 kB\n";
        assert_eq!((kibibytes(text, "MemTotal:"), kibibytes(text, "MemAvailable:")), (8_031_932, 5_132_416));
        assert_eq!(kibibytes("", "MemTotal:"), 0);
    }
}
