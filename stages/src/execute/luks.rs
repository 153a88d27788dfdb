// SPDX-License-Identifier: Apache-2.0
//! Encrypted volumes: `cryptsetup` and `clevis`. No key is ever an argument, and none is told. Clevis takes the configuration of a pin as
//! an argument and in no other way; other programs of the initramfs could see it there while clevis runs, but it is told nowhere.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use data_encoding::HEXLOWER;
use fledge_core::diag::Failure;
use fledge_core::plan::crypttab::Step as Later;
use fledge_core::plan::luks::{Binding, Key as Source, MADE_FROM, MARK, Make, Opening, Step, TOKEN};
use fledge_core::secret::{Key, Secret};
use fledge_core::state::Held;
use rustix::rand::{GetRandomFlags, getrandom};

use super::contents::Contents;
use super::{Done, Machine, judged};
use crate::host::cmd::{self, Arg, Output, Tool};
use crate::host::device::{SEE_KERNEL, udev};
use crate::observe;

/// Random bytes of a generated key; it is written in hexadecimal digits, since clevis can't do with any byte. Ignition's length.
const KEY_LENGTH: usize = 4096;
/// `luksFormat` of a volume with integrity protection writes to all of the device.
const FORMAT_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

impl Machine<'_> {
    pub(super) fn luks(&mut self, step: &Step, number: usize, contents: &mut Contents) -> Done {
        let opening = step.opening();
        // The name may be a link that goes with what the device holds.
        let node = judged(step, &opening.device, &opening.node)?;
        let key = self.key(opening, number, contents);
        let done = key.and_then(|key| match step {
            Step::Make(make) => {
                let key = key.ok_or_else(|| Failure::new("", "there is no key"))?;
                make_volume(make, &key)?;
                let keep = make.binding.is_none();
                Ok((true, keep.then_some(key)))
            }
            Step::Open(opening) => Ok((open_existing(opening, key.as_ref())?, key)),
        });
        let (done, key) = done.map_err(|failure| told(failure, step))?;
        // What stands on the volume is named by udev.
        for changed in [node.clone(), Path::new("/dev/mapper").join(&opening.name)] {
            udev::look_again(&changed)?;
        }
        let volume = observe::volume(&node);
        let uuid = match volume {
            Ok(Some(volume)) => volume.uuid,
            Ok(None) => {
                return Err(Failure::new(step.to_string(), "the header isn't there afterwards")
                    .remedy("see whether the options keep cryptsetup from making anything"));
            }
            Err(error) => return Err(super::failed(step, &error)),
        };
        self.state.hold(Held { name: opening.name.clone(), uuid, key });
        (self.save)(self.state)?;
        Ok(done)
    }

    fn key(&self, opening: &Opening, number: usize, contents: &mut Contents) -> Result<Option<Key>, Failure> {
        match &opening.key {
            Source::Given(_) => {
                let fetched = contents.take((number, 0)).ok_or_else(|| Failure::new("", "its key was not fetched"))?;
                let mut bytes = Vec::new();
                let read = fetched.file().read_to_end(&mut bytes);
                read.map_err(|error| Failure::new("reading the key", error.to_string()))?;
                if bytes.is_empty() {
                    return Err(Failure::new("", "the key is empty").remedy("give a keyFile with something in it"));
                }
                Ok(Some(Key::new(bytes)))
            }
            Source::Generated => generate().map(Some),
            Source::Held => Ok(self.state.volume(&opening.name).and_then(|held| held.key.clone())),
            Source::Bound => Ok(None),
        }
    }

    pub(super) fn crypttab(&mut self, step: &Later) -> Done {
        match step {
            Later::Table { path, lines } => self.write_table(path, lines).map_err(|error| super::failed(step, &error)),
            Later::Settle { name, device, label, made_from, subsystem, marked } => {
                if *marked {
                    settle(device, label, made_from, subsystem).map_err(|failure| told(failure, step))?;
                }
                let held = self.state.luks.iter_mut().find(|held| held.name == *name);
                let held = held.and_then(|held| held.key.take()).is_some();
                (self.save)(self.state)?;
                Ok(*marked || held)
            }
        }
    }
}

fn generate() -> Result<Key, Failure> {
    let mut bytes = vec![0; KEY_LENGTH];
    let mut rest = bytes.as_mut_slice();
    while !rest.is_empty() {
        // It waits until the kernel has collected enough.
        match getrandom(&mut *rest, GetRandomFlags::empty()) {
            Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Failure::new("making a random key", error.to_string())),
        }
    }
    Ok(Key::new(HEXLOWER.encode(&bytes).into_bytes()))
}

/// What to do when a program fails that has to do with this.
const OPTIONS: &str = "see its words for what is wrong with the options or the device";
const OPENING: &str = "see whether the key is that of the volume, and the open options are ones that cryptsetup knows";
const BINDING: &str =
    "see whether the tang servers answer, have the keys of these thumbprints, and whether there is a TPM2";

/// Runs a program with these words, and between them the file of a key.
fn run(tool: Tool, before: &[&str], key: Option<&Key>, after: &[&str], remedy: &str) -> Result<(), Failure> {
    let mut args = Vec::with_capacity(before.len() + 1 + after.len());
    args.extend(before.iter().map(|word| Arg::from(*word)));
    args.extend(key.map(Arg::Key));
    args.extend(after.iter().map(|word| Arg::from(*word)));
    advised(cmd::run(tool, &args), remedy)
}

fn advised(ran: Result<Output, Failure>, remedy: &str) -> Result<(), Failure> {
    ran.map(drop).map_err(|failure| if failure.remedy.is_some() { failure } else { failure.remedy(remedy) })
}

fn make_volume(make: &Make, key: &Key) -> Result<(), Failure> {
    let Make { opening, label, uuid, options, memory, binding, close, .. } = make;
    let node = opening.node.as_str();
    if let Some(name) = close {
        run(cmd::CRYPTSETUP, &["close", name], None, &[], SEE_KERNEL)?;
    }
    let memory = memory.map(|memory| memory.to_string());
    let mut words = Vec::new();
    for (option, value) in [("--label", label), ("--uuid", uuid), ("--pbkdf-memory", &memory)] {
        if let Some(value) = value {
            words.extend([option, value]);
        }
    }
    words.extend(options.iter().map(String::as_str));
    // Behind the configuration's own, so that it counts.
    words.extend(["--subsystem", MARK, node]);
    let format = ["luksFormat", "--batch-mode", "--type", "luks2", "--key-file"];
    run(cmd::CRYPTSETUP.within(FORMAT_LIMIT), &format, Some(key), &words, OPTIONS)?;
    open(opening, key)?;
    let Some(Binding { pin, config, tried, .. }) = binding else { return Ok(()) };
    // It may hold what is nobody's business.
    let config = Secret::new(config.as_str());
    let [luks, bind, force, file, device, on, pin] = ["luks", "bind", "-f", "-k", "-d", node, pin].map(Arg::from);
    let args = [luks, bind, force, file, Arg::Key(key), device, on, pin, Arg::Secret(&config)];
    advised(cmd::run(cmd::CLEVIS, &args), BINDING)?;
    if *tried {
        run(cmd::CRYPTSETUP, &["close", &opening.name], None, &[], SEE_KERNEL)?;
        unlock(opening)?;
    }
    if opening.key == Source::Generated {
        run(cmd::CRYPTSETUP, &["luksRemoveKey", "--batch-mode", node], Some(key), &[], SEE_KERNEL)?;
    }
    Ok(())
}

fn unlock(opening: &Opening) -> Result<(), Failure> {
    run(cmd::CLEVIS, &["luks", "unlock", "-d", &opening.node, "-n", &opening.name], None, &[], BINDING)
}

fn open(opening: &Opening, key: &Key) -> Result<(), Failure> {
    // Clevis and crypttab have no word for discards and most options: the header has them.
    let mut words = vec!["--persistent"];
    if opening.discard {
        words.push("--allow-discards");
    }
    words.extend(opening.options.iter().map(String::as_str));
    run(cmd::CRYPTSETUP, &["open", &opening.node, &opening.name, "--key-file"], Some(key), &words, OPENING)
}

/// Opens a volume that is there, or sees that the key is right if it is open. Says whether it had to be opened.
fn open_existing(opening: &Opening, key: Option<&Key>) -> Done {
    let node = opening.node.as_str();
    let is_open = observe::open_as(Path::new(node)).is_some_and(|name| name == opening.name);
    match key {
        Some(_) if is_open => {
            run(cmd::CRYPTSETUP, &["open", "--test-passphrase", node, "--key-file"], key, &[], OPENING)?;
        }
        Some(key) => open(opening, key)?,
        None if is_open => {}
        None if opening.key == Source::Bound => unlock(opening)?,
        None => return Err(Failure::new("", "there is no key")),
    }
    Ok(!is_open)
}

/// Has a volume count as made. The token first: without the mark and without it, the volume would be foreign.
fn settle(device: &str, label: &str, made_from: &str, subsystem: &str) -> Result<(), Failure> {
    let token = format!(r#"{{"type":"{TOKEN}","keyslots":[],"{MADE_FROM}":"{made_from}"}}"#);
    // It is no secret, but a file.
    let token = Key::new(token.into_bytes());
    run(cmd::CRYPTSETUP, &["token", "import", "--json-file"], Some(&token), &[device], SEE_KERNEL)?;
    // It sets both.
    let words = ["config", device, "--label", label, "--subsystem", subsystem];
    run(cmd::CRYPTSETUP, &words, None, &[], SEE_KERNEL)
}

/// The words of a step around those of a command that failed.
fn told(failure: Failure, what: &dyn std::fmt::Display) -> Failure {
    let why = if failure.what.is_empty() { failure.why } else { format!("{}: {}", failure.what, failure.why) };
    Failure { why, what: what.to_string(), ..failure }
}
