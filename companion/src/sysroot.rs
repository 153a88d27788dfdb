// SPDX-License-Identifier: Apache-2.0
//! The deployments of a system, as its boot entries list them, and what the initramfs left for later.
//!
//! Everything is read from files: it works the same with every OSTree, and while a daemon is busy.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fledge_core::counting::{EXHAUSTED, Environment, FOLDER, Id, Listed, Menu, Records, SELECTION, Selection, Tries};
use fledge_core::diag::Failure;
use fledge_core::pivot::{self, KeyFile};
use fledge_stages::boot_select::Grub;
use fledge_stages::host::atomic;
use fledge_stages::host::bootfs::{BootFs, Place};
use fledge_stages::report;

/// Where OSTree notes that an update takes effect when the machine is shut down.
const STAGED: &str = "run/ostree/staged-deployment";

/// Where things are.
#[derive(Clone, Debug)]
pub struct Sysroot {
    /// The physical root: it has `ostree/`.
    pub root: PathBuf,
    /// The boot file system: it has `loader/`.
    pub boot: PathBuf,
    /// The system that runs from it; `None` for one that isn't running.
    pub live: Option<Live>,
}

/// A running system.
#[derive(Clone, Debug)]
pub struct Live {
    /// Its root.
    pub root: PathBuf,
    /// Where boot selection and others leave things for later.
    pub runtime: PathBuf,
}

impl Live {
    fn booted(&self) -> PathBuf {
        self.root.join(pivot::BOOTED.trim_start_matches('/'))
    }
}

impl Default for Sysroot {
    /// The running system.
    fn default() -> Self {
        let physical = Path::new("/sysroot");
        let root = if physical.join("ostree").is_dir() { physical } else { Path::new("/") };
        Self {
            root: root.into(),
            boot: "/boot".into(),
            live: Some(Live { root: "/".into(), runtime: report::runtime_dir() }),
        }
    }
}

/// A deployment that a boot entry starts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Deployment {
    /// Which.
    pub id: Id,
    /// Its entry's title: the name and version of what it is.
    pub title: String,
    /// Where it came from, as its origin file says: a ref, or an image.
    pub origin: Option<String>,
    /// Whether OSTree keeps it whatever is deployed.
    pub pinned: bool,
}

impl Sysroot {
    /// A system that isn't running, below a directory.
    pub fn at(root: &Path) -> Self {
        Self { root: root.into(), boot: root.join("boot"), live: None }
    }

    /// The deployments in the bootloader's order: the first is the default, unless the bootloader was told otherwise. Entries that lead
    /// nowhere, and those that can't be read, are passed over.
    ///
    /// # Errors
    /// The boot entries can't be read.
    pub fn deployments(&self) -> Result<Vec<Deployment>, Failure> {
        let (deployments, damaged) = self.entries()?;
        for why in damaged {
            log::warn!("{why}");
        }
        Ok(deployments)
    }

    /// The deployments that boot entries start, and in words which entries lead nowhere, or can't be read.
    ///
    /// # Errors
    /// As [`Self::deployments`].
    pub fn entries(&self) -> Result<(Vec<Deployment>, Vec<String>), Failure> {
        let (entries, odd) = BootFs::open(&Place::Mounted(self.boot.clone()), false)?.readable_entries()?;
        let menu = Menu::new(entries.iter().map(|entry| Listed::new(&entry.name, &entry.entry)).collect());
        let passed_over = |failure: &Failure| format!("{}: {}; it is passed over", failure.what, failure.why);
        let (mut deployments, mut damaged) = (Vec::new(), odd.iter().map(passed_over).collect::<Vec<_>>());
        for entry in menu.iter() {
            let Some(link) = &entry.link else { continue };
            match self.leads_to(link) {
                Ok(id) => {
                    let (origin, pinned) = self.origin(&id);
                    // OSTree ends titles with the place in the list, which is another one tomorrow.
                    let title = entry.title.rsplit_once(" (ostree:").map_or(entry.title.as_str(), |(title, _)| title);
                    deployments.push(Deployment { id, title: title.to_owned(), origin, pinned });
                }
                Err(why) => damaged.push(format!("the boot entry {} leads nowhere: {why}", entry.name)),
            }
        }
        Ok((deployments, damaged))
    }

    pub(crate) fn leads_to(&self, link: &str) -> Result<Id, String> {
        let path = self.root.join(link.trim_start_matches('/'));
        let folder = fs::canonicalize(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Id::of_path(&folder.to_string_lossy()).ok_or_else(|| format!("{} is no deployment", folder.display()))
    }

    /// What the origin file of a deployment says. One that can't be read says nothing, as it does to OSTree.
    fn origin(&self, id: &Id) -> (Option<String>, bool) {
        let path = self.root.join(format!("{}.origin", id.path().trim_start_matches('/')));
        let text = fs::read_to_string(&path).unwrap_or_default();
        let file = KeyFile::parse(&text).unwrap_or_else(|why| {
            log::warn!("{}: {why}", path.display());
            KeyFile::default()
        });
        let keys = ["container-image-reference", "baserefspec", "refspec"];
        let origin = keys.iter().find_map(|key| file.value("origin", key)).map(str::to_owned);
        (origin, file.boolean("libostree-transient", "pinned").ok().flatten() == Some(true))
    }

    /// All deployments that are there, with or without a boot entry.
    ///
    /// # Errors
    /// The folders can't be read.
    pub fn all(&self) -> Result<Vec<Id>, Failure> {
        let mut ids = Vec::new();
        for stateroot in self.stateroots()? {
            let folder = self.root.join("ostree/deploy").join(&stateroot).join("deploy");
            for name in names(&folder)? {
                if folder.join(&name).is_dir() {
                    ids.extend(Id::new(&stateroot, &name));
                }
            }
        }
        Ok(ids)
    }

    /// The stateroots.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn stateroots(&self) -> Result<Vec<String>, Failure> {
        names(&self.root.join("ostree/deploy"))
    }

    /// The deployment that runs; `None` if none of these does.
    ///
    /// # Errors
    /// It can't be told.
    pub fn running(&self, deployments: &[Id]) -> Result<Option<Id>, Failure> {
        let Some(live) = &self.live else { return Ok(None) };
        let failure = |path: &Path, error: io::Error| {
            Failure::new("finding out which deployment runs", format!("{}: {error}", path.display()))
                .remedy("do this as root; if it is root, see `ostree admin status`")
        };
        let booted = live.booted();
        let identity = match fs::read(&booted) {
            Ok(bytes) => pivot::identity(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failure(&booted, error)),
        };
        let of_root = || fs::metadata(&live.root).map(|root| (root.dev(), root.ino()));
        let identity = identity.map_or_else(|| of_root().map_err(|error| failure(&live.root, error)), Ok)?;
        let is_it = |id: &&Id| {
            let folder = fs::metadata(self.root.join(id.path().trim_start_matches('/')));
            folder.is_ok_and(|folder| (folder.dev(), folder.ino()) == identity)
        };
        Ok(deployments.iter().find(is_it).cloned())
    }

    /// Whether the system was booted from a deployment.
    pub fn is_booted(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.booted().exists())
    }

    /// The `/var` of the running system, or that of a stateroot.
    pub fn var(&self, stateroot: &str) -> PathBuf {
        match &self.live {
            Some(live) => live.root.join("var"),
            None => self.root.join("ostree/deploy").join(stateroot).join("var"),
        }
    }

    /// Leaves for the rest of this boot that it isn't counted any more, if it was: nothing reboots it by itself then, whatever becomes of
    /// the boot file system. How it came to that follows in words which try it was. A record that can't be read has no boot rebooted.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn stop_counting(&self, how: &str) -> Result<(), Failure> {
        let selection = self.selection().ok().flatten().filter(|selection| selection.counted);
        let Some((live, mut selection)) = self.live.as_ref().zip(selection) else { return Ok(()) };
        let path = live.runtime.join(SELECTION);
        selection.counted = false;
        let what = selection.tries.map_or_else(
            || "it was counted".to_owned(),
            |Tries { left, done }| format!("it was try {done} of {}", done.saturating_add(left)),
        );
        selection.reason = format!("{what}, and {how}");
        let text = serde_json::to_vec_pretty(&selection).map_err(io::Error::from);
        text.and_then(|text| atomic::write(&path, 0o644, &text))
            .map_err(|error| Failure::new(format!("writing {}", path.display()), error.to_string()))
    }

    /// The folder of the records.
    pub fn records_folder(&self) -> PathBuf {
        self.boot.join(FOLDER.trim_start_matches('/'))
    }

    /// What is known of the deployments.
    ///
    /// # Errors
    /// The folder can't be read. One that isn't there knows nothing.
    pub fn records(&self) -> Result<Records, Failure> {
        let names = names(&self.records_folder())?;
        Ok(Records::parse(names.iter().map(String::as_str)))
    }

    /// What boot selection left, if it ran.
    ///
    /// # Errors
    /// It is there and can't be read, or comes from a newer Fledge.
    pub fn selection(&self) -> Result<Option<Selection>, Failure> {
        let Some(path) = self.live.as_ref().map(|live| live.runtime.join(SELECTION)) else { return Ok(None) };
        let failure = |why: String| Failure::new(format!("reading {}", path.display()), why);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failure(error.to_string())),
        };
        let selection: Selection = serde_json::from_slice(&text).map_err(|error| failure(error.to_string()))?;
        let known = fledge_core::counting::VERSION;
        if selection.version > known {
            return Err(failure(format!(
                "its form is version {}, this fledgectl knows up to {known}",
                selection.version
            ))
            .remedy("use the fledgectl of the deployment whose initramfs wrote it, or a newer one"));
        }
        Ok(Some(selection))
    }

    /// Why the machine can't go to another deployment by itself, if that is so: nothing may reboot it by itself then.
    ///
    /// # Errors
    /// The flag is there and can't be read.
    pub fn exhausted(&self) -> Result<Option<String>, Failure> {
        let Some(path) = self.live.as_ref().map(|live| live.runtime.join(EXHAUSTED)) else { return Ok(None) };
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::new(format!("reading {}", path.display()), error.to_string())),
        }
    }

    /// What is known of GRUB, as boot selection sees it.
    ///
    /// # Errors
    /// The boot file system isn't there, the folder of the records can't be read, or `grubenv` is there and can't be, or is none.
    pub fn grub(&self) -> Result<Grub, Failure> {
        let boot = BootFs::open(&Place::Mounted(self.boot.clone()), false)?;
        let grub = Grub::look(&boot, self.records()?.iter().any(|record| record.switched > 0));
        match grub.unreadable {
            Some(why) => Err(Failure::new("reading grubenv on the boot file system", why)),
            None => Ok(grub),
        }
    }

    /// GRUB's variables: the file, seen from the boot file system, and what it holds. `None` if there is no place for such a file.
    ///
    /// # Errors
    /// As [`Self::grub`].
    pub fn grubenv(&self) -> Result<Option<(String, Environment)>, Failure> {
        let grub = self.grub()?;
        Ok(grub.path.map(|path| (path, grub.variables)))
    }

    /// Whether the bootloader is, or may be, told to start another entry than the first by itself.
    ///
    /// # Errors
    /// As [`Self::grub`].
    pub fn overridden(&self) -> Result<bool, Failure> {
        Ok(self.grub()?.overridden())
    }

    /// Whether an update takes effect when the machine is shut down.
    pub fn is_staged(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.root.join(STAGED).exists())
    }
}

/// Names in a folder, sorted. One that isn't there has none.
fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    };
    match read() {
        Ok(names) => Ok(names),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Failure::new(format!("reading the folder {}", folder.display()), error.to_string())),
    }
}
