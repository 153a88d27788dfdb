// SPDX-License-Identifier: Apache-2.0
//! What all machines of one run share: the image, the overlays on its initramfs, the verdict on KVM, a scratch folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};

use crate::cache::Cache;
use crate::host::Scratch;
use crate::image::{self, Elevate, Image, Inputs, Item, Overlay, Pivot, Variant};
use crate::progress::step;
use crate::qemu::Accel;

/// What a run is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The installable tree under test; none: a system that only boots.
    pub dist: Option<PathBuf>,
    /// The companion's.
    pub companion: Option<PathBuf>,
    /// The static checker, see [`build_checker`].
    pub checker: PathBuf,
    /// How root is had when a layer of the image must be built.
    pub elevate: Elevate,
    /// Where consoles and QEMU's messages of failed machines are kept.
    pub logs: PathBuf,
    /// Machines at once.
    pub jobs: usize,
    /// Runs each case with one deliberate break, and expects it to fail.
    pub sabotage: bool,
}

/// A run.
pub struct Session {
    /// What it is made with.
    pub options: Options,
    /// The image that most cases boot.
    pub image: Image,
    /// KVM or not.
    pub accel: Accel,
    scratch: Scratch,
    others: Mutex<BTreeMap<Variant, Image>>,
    overlays: Mutex<BTreeMap<(Variant, Overlaid), PathBuf>>,
}

/// What is different in an initramfs from what dracut made, apart from the binary and the checker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overlaid {
    /// The machine stays in the initramfs.
    pub stays: bool,
    /// `fledge` does nothing and succeeds.
    pub sabotage: bool,
    /// Who pivots, if not the one whom the image was made with.
    pub pivot: Option<Pivot>,
}

impl Session {
    /// Builds what is missing of the image, and tries KVM.
    ///
    /// # Errors
    /// If the image can't be built, or the user interrupts.
    pub fn open(options: Options) -> Result<Self> {
        crate::interrupt::watch()?;
        let cache = Cache::of_user()?;
        let image = Image::ensure(&cache, &inputs(&options, Variant::Plain), &options.elevate)?;
        let scratch = Scratch::new(cache.root())?;
        let accel = Accel::probe(image.tools(), &image.kernel(), &options.checker, scratch.path())?;
        Ok(Self { options, image, accel, scratch, others: Mutex::default(), overlays: Mutex::default() })
    }

    /// The image of a variant; it is made if it isn't in the cache.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn image(&self, variant: Variant) -> Result<Image> {
        if variant == Variant::Plain {
            return Ok(self.image.clone());
        }
        let mut known = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = known.get(&variant) {
            return Ok(image.clone());
        }
        let image = Image::ensure(&Cache::of_user()?, &inputs(&self.options, variant), &self.options.elevate)?;
        known.insert(variant, image.clone());
        Ok(image)
    }

    /// An empty folder for one machine's files.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.scratch.path().join(name);
        drop(fs::remove_dir_all(&path));
        fs::create_dir(&path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(path)
    }

    /// An image's initramfs with the current binary and the checker over it, made once a run.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn initramfs(&self, variant: Variant, wanted: Overlaid) -> Result<PathBuf> {
        let image = self.image(variant)?;
        let mut known = self.overlays.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = known.get(&(variant, wanted)) {
            return Ok(path.clone());
        }
        let path = self.scratch.path().join(format!("initramfs-{}.img", known.len()));
        let overlay = Overlay {
            dist: self.options.dist.clone(),
            companion: self.options.companion.clone().filter(|_| variant == Variant::Companion),
            checker: self.options.checker.clone(),
            sabotage: wanted.sabotage,
            stay_in_initramfs: wanted.stays,
            pivot: wanted.pivot,
        };
        overlay.append_to(&image.initramfs(), &path)?;
        known.insert((variant, wanted), path.clone());
        Ok(path)
    }

    /// Debian's SELinux policy for a target, see [`image::policy`].
    ///
    /// # Errors
    /// If it can't be made.
    pub fn policy(&self) -> Result<Vec<Item>> {
        image::policy(&Cache::of_user()?, &self.options.elevate)
    }

    /// Keeps a machine's logs for the user to read, and says where.
    pub fn keep_logs(&self, name: &str, work: &Path) -> PathBuf {
        let folder = self.options.logs.join(name);
        drop(fs::create_dir_all(&folder));
        for file in ["console.log", "qemu.log", "firmware.log", "answer.json"] {
            drop(fs::copy(work.join(file), folder.join(file)));
        }
        folder
    }
}

fn inputs(options: &Options, variant: Variant) -> Inputs {
    let companion = options.companion.clone().filter(|_| variant == Variant::Companion);
    Inputs { dist: options.dist.clone(), companion, variant }
}

/// Builds the static checker with cargo, and returns its path.
///
/// # Errors
/// If it doesn't build.
pub fn build_checker(workspace: &Path) -> Result<PathBuf> {
    let triple = "x86_64-unknown-linux-gnu";
    step("building the checker", || {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--release", "--package", "fledge-vm-checker", "--target", triple])
            .current_dir(workspace)
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .status()
            .context("can't start cargo")?;
        ensure!(status.success(), "the checker doesn't build");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
        Ok(target.join(triple).join("release/fledge-vm-checker"))
    })
}
