// SPDX-License-Identifier: Apache-2.0
//! What GRUB goes by: the folder of its files on the boot file system, and whether and how it can be told which entry to start.

use std::io::{self, Read as _};

use fledge_core::counting::{BLOCK, Environment, SNIPPET, SOURCED, STEERING, counts, steering};
use fledge_core::root::persist::GRUB;

use crate::host::bootfs::BootFs;

const CONFIG: &str = "grub.cfg";
const ENVIRONMENT: &str = "grubenv";

/// What is known of GRUB. The initramfs and the running system both go by this.
#[derive(Clone, Debug, Default)]
pub struct Grub {
    /// The `grubenv` that can be overwritten, as a path on the boot file system. It may not be there yet.
    pub path: Option<String>,
    /// What it holds. It may be read even where it can't be overwritten.
    pub variables: Environment,
    /// It is damaged and was taken for an empty one.
    pub torn: bool,
    /// What was torn may have been an override.
    switched: bool,
    /// Why it can't be read, if it can't.
    pub unreadable: Option<String>,
    /// Why GRUB can't be told by it which entry to start, if it can't.
    pub unsteerable: Option<String>,
    /// Whether it counts starts that nobody sees arrive, if it is told to.
    pub counts: bool,
}

impl Grub {
    /// Looks. Its folder is the one with a `grub.cfg`, or, where there is none, with a `grubenv`.
    ///
    /// A block that a power cut has torn while it was written is taken for an empty one, so that it gets written again. It is known by
    /// [`Environment::is_torn`]; where `switched`, that is, where a record says that GRUB was told to start another deployment, by its size.
    pub fn look(boot: &BootFs, switched: bool) -> Self {
        let with = |file: &str| GRUB.iter().find(|folder| has(boot, folder, file));
        let (configured, kept) = (with(CONFIG), with(ENVIRONMENT));
        let Some(folder) = configured.or(kept) else {
            return Self { unsteerable: Some("the boot file system has no grub.cfg".into()), ..Self::default() };
        };
        let text = config(boot, folder);
        let unsteerable = text.as_ref().map_or_else(|why| Some(why.clone()), |text| unsteerable(boot, folder, text));
        let counts = unsteerable.is_none() && text.is_ok_and(|text| counts(&text, has(boot, folder, SNIPPET)));
        let mut grub = Self { switched, unsteerable, counts, ..Self::default() };
        let path = format!("{folder}/{ENVIRONMENT}");
        match link(boot, folder) {
            Ok(None) => grub.path = Some(path.clone()),
            Ok(Some(why)) => grub.unsteerable = Some(why),
            Err(error) => grub.unreadable = Some(error.to_string()),
        }
        match read(boot, &path) {
            Ok(None) => {}
            Ok(Some(bytes)) => match Environment::parse(&bytes) {
                Ok(variables) => grub.variables = variables,
                Err(_) if Environment::is_torn(&bytes) || (switched && bytes.len() == BLOCK) => grub.torn = true,
                Err(why) => grub.unreadable = Some(why),
            },
            Err(error) => grub.unreadable = Some(error.to_string()),
        }
        if let Some(why) = &grub.unreadable {
            grub.unsteerable = Some(format!("{path}: {why}"));
        }
        grub
    }

    /// Whether it may be told to start another entry than the first by itself, by what can be taken away again. What is torn may have said
    /// so only where a record tells of that: the record is made first.
    pub fn overridden(&self) -> bool {
        self.path.is_some() && ((self.torn && self.switched) || self.variables.get(STEERING).is_some())
    }

    /// What it goes by, if it does.
    pub(super) fn told(&self) -> Option<&Environment> {
        self.unsteerable.is_none().then_some(&self.variables)
    }
}

fn has(boot: &BootFs, folder: &str, file: &str) -> bool {
    // What can't be read is there; a link that leads elsewhere is, too.
    match boot.root().directory(folder) {
        Ok(directory) => !matches!(directory.file(file), Ok(None)),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// The text of its configuration, or why there is none.
fn config(boot: &BootFs, folder: &str) -> Result<String, String> {
    let path = format!("{folder}/{CONFIG}");
    match boot.root().file(&path).and_then(|file| Ok((file.is_some(), boot.root().text(&path)?))) {
        Ok((true, text)) => Ok(text),
        Ok((false, _)) => Err("the boot file system has no grub.cfg".into()),
        Err(error) => Err(format!("its grub.cfg can't be read: {error}")),
    }
}

/// Why what `grubenv` says doesn't choose the entry, if so.
fn unsteerable(boot: &BootFs, folder: &str, config: &str) -> Option<String> {
    let mut sourced = Vec::new();
    for name in SOURCED {
        match boot.root().text(&format!("{folder}/{name}")) {
            Ok(text) => sourced.push((name, text)),
            Err(error) => return Some(format!("its {name} can't be read: {error}")),
        }
    }
    steering(config, &sourced).err().map(|failure| failure.why)
}

/// Why `grubenv` can't be overwritten, if it is a link.
fn link(boot: &BootFs, folder: &str) -> io::Result<Option<String>> {
    let Some(target) = boot.root().directory(folder)?.link(ENVIRONMENT)? else { return Ok(None) };
    let leads = boot.root().file(&format!("{folder}/{ENVIRONMENT}"))?.is_some();
    let why = if leads { "which is not written through" } else { "on another file system" };
    Ok(Some(format!("its grubenv is a link to {target}, {why}")))
}

/// What it holds, if it is there. One byte more than a whole one may have is enough to see that it isn't one.
fn read(boot: &BootFs, path: &str) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = boot.root().file(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(BLOCK as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
