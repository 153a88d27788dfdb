// SPDX-License-Identifier: Apache-2.0
//! The test image: a Debian 13 system as an OSTree deployment, on a disk with NestOS's partitions, names and GRUB.
//!
//! It is made in layers, each kept in the [`Cache`] under a hash of what it is made from:
//!
//! | layer | holds | made from |
//! |---|---|---|
//! | `tools` | QEMU and the programs that make disks | a package list |
//! | `grub` | GRUB's core image | a package list, modules |
//! | `rootfs` | the Debian system as an archive | a package list |
//! | `rootfs-composefs` | the same with a newer OSTree, for the [`Variant`] with composefs | the former, a package list |
//! | `oracle` | Debian's own Ignition, only made for the case that compares with it | a package list |
//! | `system` | the disk, the kernel, the initramfs, `/boot` | all of these, and the tree under test without its binary |
//! | `system-composefs` | the same of the variant with composefs | the same |
//! | `system-companion` | the same of the variant with the companion | the same, and the companion's tree without its binary |
//!
//! Beside them stands `policy`, Debian's SELinux policy, which is made when a case wants it.
//!
//! What changes with every build of `fledge` and `fledgectl` is an [`Overlay`] on the initramfs, and, for boots through GRUB, a boot
//! partition that [`Image::boot_disk`] makes anew in a tenth of a second.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cache::{Cache, Key};
use crate::host;
use crate::progress::say;
use crate::tools::Tools;

mod boot;
mod disk;
mod overlay;
mod policy;
mod recipe;
mod root;
mod tree;
mod variant;

pub use boot::{BootPartition, Item};
pub use disk::SIZE as DISK_SIZE;
pub use overlay::{Overlay, Pivot};
pub use variant::Variant;

/// The program that runs [`as_root`]: the words before its argument, for instance this executable and a hidden
/// subcommand. For a user who isn't root, `sudo` is put in front.
#[derive(Clone, Debug)]
pub struct Elevate {
    /// Program and first arguments.
    pub command: Vec<OsString>,
}

/// Programs that the overlay brings: the image is the same whatever they are.
const OVERLAID: [&str; 2] = ["usr/bin/fledge", "usr/bin/fledgectl"];

/// What the image is made for.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The installable tree under test (`usr/bin/fledge` and the rest); none: a system that only boots.
    pub dist: Option<PathBuf>,
    /// The companion's installable tree, for the [`Variant`] with it.
    pub companion: Option<PathBuf>,
    /// Which system it holds.
    pub variant: Variant,
}

/// A finished image.
#[derive(Clone, Debug)]
pub struct Image {
    tools: Tools,
    layer: PathBuf,
    system: System,
    /// Keeps the layers from being removed by a run that builds others.
    _held: Arc<[File; 2]>,
}

/// How the deployment boots; kept in the system layer as `system.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct System {
    /// The boot entry's options, with `$ignition_firstboot` still in them.
    pub options: String,
    /// The kernel's path below `/boot`.
    pub kernel: PathBuf,
    /// The initramfs's path below `/boot`.
    pub initramfs: PathBuf,
    /// The deployment's path below the physical root.
    pub deployment: PathBuf,
}

impl System {
    /// Reads the only boot entry of a fresh sysroot's `boot` folder.
    fn of_deployment(boot: &Path) -> Result<Self> {
        let folder = boot.join("loader/entries");
        let entry = fs::read_dir(&folder)?.flatten().next().context("OSTree wrote no boot entry")?;
        let text = fs::read_to_string(entry.path())?;
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.map(str::to_owned).with_context(|| format!("the boot entry has no {name}"))
        };
        let relative = |path: String| PathBuf::from(path.trim_start_matches('/'));
        let options = field("options")?;
        let link = options.split(' ').find_map(|word| word.strip_prefix("ostree=/")).context("no ostree= argument")?;
        let sysroot = boot.parent().context("boot is the root")?;
        let deployment = fs::canonicalize(sysroot.join(link)).context("the deployment's link leads nowhere")?;
        Ok(Self {
            kernel: relative(field("linux")?),
            initramfs: relative(field("initrd")?),
            deployment: deployment.strip_prefix(fs::canonicalize(sysroot)?)?.to_owned(),
            options,
        })
    }
}

impl Image {
    /// Makes the layers that are missing, asking for root through `elevate` if there are any, and returns the image.
    ///
    /// # Errors
    /// If a layer can't be made; the message holds the last words of the program that failed.
    pub fn ensure(cache: &Cache, inputs: &Inputs, elevate: &Elevate) -> Result<Self> {
        let keys = Keys::of(inputs)?;
        let (name, _) = inputs.variant.layers();
        let held = loop {
            if let (Some(tools), Some(system)) = (cache.hold("tools", &keys.tools), cache.hold(name, &keys.system)) {
                break [tools, system];
            }
            let _lock = cache.lock()?;
            if !keys.complete(cache) {
                build(cache, inputs, &keys, elevate)?;
            }
        };
        let layer = cache.path(name, &keys.system);
        let text = fs::read(layer.join("system.json")).context("the system layer is damaged: run ./dev clean")?;
        let system = serde_json::from_slice(&text).context("the system layer is damaged: run ./dev clean")?;
        let tools = Tools::new(cache.path("tools", &keys.tools).join("root"));
        Ok(Self { tools, layer, system, _held: Arc::new(held) })
    }

    /// QEMU and the disk tools.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.layer.join("boot").join(&self.system.kernel)
    }

    /// The initramfs as dracut made it.
    pub fn initramfs(&self) -> PathBuf {
        self.layer.join("boot").join(&self.system.initramfs)
    }

    /// The whole disk, bootable as it is; not to be written to.
    pub fn disk(&self) -> PathBuf {
        self.layer.join("disk.img")
    }

    /// The boot entry's options as GRUB would pass them on: with `ignition.firstboot` or without.
    pub fn options(&self, first_boot: bool) -> String {
        self.system.options.replace("$ignition_firstboot", if first_boot { "ignition.firstboot" } else { "" })
    }

    /// Makes a disk for one machine: a thin copy of the image with a boot partition of its own.
    ///
    /// # Errors
    /// If the tools fail.
    pub fn boot_disk(&self, out: &Path, bytes: u64, boot: &BootPartition, work: &Path) -> Result<()> {
        self.plain_disk(out, bytes)?;
        let image = work.join("boot.img");
        boot::make(&image, &self.tools, &self.layer.join("boot"), &self.system.initramfs, boot, work)?;
        // Only what differs is written, at the partition's place, through the thin copy.
        let target = format!(
            "driver=raw,offset={},size={},file.driver=qcow2,file.file.driver=file,file.file.filename={}",
            disk::BOOT.0,
            disk::BOOT.1,
            out.display()
        );
        let mut convert = self.tools.command("qemu-img")?;
        convert.args(["convert", "-n", "-t", "unsafe", "-f", "raw"]).arg(&image).arg("--target-image-opts").arg(target);
        host::run(&mut convert).context("writing the boot partition")?;
        fs::remove_file(&image)?;
        Ok(())
    }

    /// Makes a thin copy of the image as it is.
    ///
    /// # Errors
    /// If the tools fail.
    pub fn plain_disk(&self, out: &Path, bytes: u64) -> Result<()> {
        let mut create = self.tools.command("qemu-img")?;
        create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(self.disk()).arg(out);
        host::run(create.arg(bytes.max(DISK_SIZE).to_string())).context("making a thin copy of the disk")?;
        Ok(())
    }

    /// Makes an ext4 disk with the given label and contents, all of it root's.
    ///
    /// # Errors
    /// If the tools fail.
    pub fn extra_disk(&self, out: &Path, label: &str, bytes: u64, items: &[Item], work: &Path) -> Result<()> {
        boot::extra(out, &self.tools, label, bytes, items, work)
    }
}

/// Does what needs root. `args` is what [`Elevate`] passed on: the path of a file with the order.
///
/// # Errors
/// If something can't be made, or it doesn't run as root.
pub fn as_root(args: &[OsString]) -> Result<()> {
    let text = args.first().map(fs::read).transpose()?.unwrap_or_default();
    match serde_json::from_slice::<policy::Order>(&text) {
        Ok(order) => policy::make(&order),
        Err(_) => root::as_root(args),
    }
}

/// Debian's SELinux policy as the things that a target has below `etc/selinux`; it is made if it isn't in the cache.
///
/// # Errors
/// If it can't be made.
pub fn policy(cache: &Cache, elevate: &Elevate) -> Result<Vec<Item>> {
    let key = Keys::base(recipe::SUITE, recipe::POLICY_PACKAGES).finish();
    if !cache.has("policy", &key) {
        let _lock = cache.lock()?;
        if !cache.has("policy", &key) {
            let folder = cache.begin("policy")?;
            let order = policy::Order {
                user: rustix::process::getuid().as_raw(),
                group: rustix::process::getgid().as_raw(),
                mirror: std::env::var("FLEDGE_MIRROR").ok(),
                policy: folder.clone(),
            };
            let file = tempfile::NamedTempFile::new()?;
            fs::write(file.path(), serde_json::to_vec(&order)?)?;
            run_elevated(elevate, file.path())?;
            cache.publish("policy", &key, &folder)?;
        }
    }
    let mut items = Vec::new();
    policy::items(&cache.path("policy", &key).join("selinux"), "etc/selinux", &mut items)?;
    Ok(items)
}

/// Debian's own Ignition, as the program's path; its layer is made if it is missing.
///
/// # Errors
/// If the layer can't be made.
pub fn debian_ignition(cache: &Cache, elevate: &Elevate) -> Result<PathBuf> {
    let key = Keys::base(recipe::SUITE, recipe::ORACLE_PACKAGES).with("program", recipe::ORACLE_PROGRAM).finish();
    if !cache.has("oracle", &key) {
        let _lock = cache.lock()?;
        if !cache.has("oracle", &key) {
            let folder = cache.begin("oracle")?;
            let order = root::Order { oracle: Some(folder.clone()), ..root::Order::default() };
            make(&order, elevate, &[&folder])?;
            cache.publish("oracle", &key, &folder)?;
        }
    }
    Ok(cache.path("oracle", &key).join("ignition"))
}

/// The keys of all layers.
struct Keys {
    variant: Variant,
    tools: String,
    grub: String,
    rootfs: String,
    /// The rootfs of the variant, if it has one of its own.
    own: Option<String>,
    system: String,
}

impl Keys {
    fn base(suite: &str, packages: &[&str]) -> Key {
        Key::default()
            .with("revision", recipe::REVISION)
            .with("suite", suite)
            .with("packages", packages.join(" "))
            .with("excluded", recipe::EXCLUDED.join(" "))
    }

    fn of(inputs: &Inputs) -> Result<Self> {
        let base = Self::base;
        let tools = base(recipe::SUITE, recipe::TOOLS_PACKAGES).finish();
        let grub = base(recipe::GRUB_SUITE, recipe::GRUB_PACKAGES)
            .with("modules", recipe::GRUB_MODULES.join(" "))
            .with("config", recipe::GRUB_EARLY_CFG)
            .finish();
        let rootfs = base(recipe::SUITE, recipe::ROOTFS_PACKAGES).finish();
        let own = (inputs.variant == Variant::Composefs)
            .then(|| base(recipe::OSTREE_SUITE, recipe::OSTREE_PACKAGES).with("rootfs", &rootfs).finish());
        let mut system = Key::default()
            .with("revision", recipe::REVISION)
            .with("tools", &tools)
            .with("grub", &grub)
            .with("rootfs", own.as_ref().unwrap_or(&rootfs))
            .with("variant", format!("{:?}", inputs.variant))
            .with("less", format!("{:?}", inputs.variant.less()))
            .with("modules", inputs.variant.modules().join(" "))
            .with("drivers", inputs.variant.drivers().join(" "))
            .with("inspectors", recipe::INSPECTORS.join(" "))
            .with("arguments", inputs.variant.arguments().join(" "))
            .with("grub.cfg", recipe::GRUB_CFG)
            .with("snippet", recipe::GRUB_SNIPPET)
            .with("stateroot", recipe::STATEROOT)
            .with("branch", recipe::BRANCH)
            .with("groups", format!("{:?}", recipe::GROUPS))
            .with("disabled", recipe::DISABLED.join(" "))
            .with("top links", format!("{:?}", recipe::TOP_LINKS))
            .with(
                "source",
                [include_str!("image/tree.rs"), include_str!("image/disk.rs"), include_str!("image/root.rs")].concat(),
            );
        for (path, text) in
            recipe::FILES.iter().chain(inputs.variant.files()).chain(inputs.variant.deployed()).chain(recipe::LINKS)
        {
            system = system.with(path, text);
        }
        if let Some(dist) = &inputs.dist {
            system = hash_tree(system.with("dist", ""), dist, Path::new(""))?;
        }
        if let Some(companion) = &inputs.companion {
            system = hash_tree(system.with("companion", ""), companion, Path::new(""))?;
        }
        Ok(Self { variant: inputs.variant, tools, grub, rootfs, own, system: system.finish() })
    }

    fn layers(&self) -> Vec<(&'static str, &str)> {
        let (system, own) = self.variant.layers();
        let own = self.own.as_ref().map(|key| (own, key.as_str()));
        let first = [("tools", &self.tools), ("grub", &self.grub), ("rootfs", &self.rootfs)];
        first
            .map(|(name, key)| (name, key.as_str()))
            .into_iter()
            .chain(own)
            .chain([(system, self.system.as_str())])
            .collect()
    }

    fn complete(&self, cache: &Cache) -> bool {
        self.layers().iter().all(|(name, key)| cache.has(name, key))
    }
}

/// Adds names, kinds, links and contents below a folder; not the contents of programs that the overlay brings.
fn hash_tree(mut key: Key, root: &Path, below: &Path) -> Result<Key> {
    let folder = root.join(below);
    let entries = fs::read_dir(&folder).with_context(|| format!("can't read {}", folder.display()))?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    for name in names {
        let path = below.join(&name);
        let meta = fs::symlink_metadata(root.join(&path))?;
        let text = path.to_string_lossy();
        if meta.is_symlink() {
            key = key.with(&text, fs::read_link(root.join(&path))?.to_string_lossy().as_bytes());
        } else if meta.is_dir() {
            key = hash_tree(key.with(&text, "folder"), root, &path)?;
        } else {
            let executable = std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o111 != 0;
            let mut hash = Sha256::new();
            if !OVERLAID.iter().any(|overlaid| path == Path::new(overlaid)) {
                let mut bytes = Vec::new();
                File::open(root.join(&path))?.read_to_end(&mut bytes)?;
                hash.update(&bytes);
            }
            key = key.with(&text, hash.finalize()).with("executable", [u8::from(executable)]);
        }
    }
    Ok(key)
}

fn build(cache: &Cache, inputs: &Inputs, keys: &Keys, elevate: &Elevate) -> Result<()> {
    let mut made = Vec::new();
    for (name, key) in keys.layers() {
        if !cache.has(name, key) {
            made.push((name, key, cache.begin(name)?));
        }
    }
    say(format_args!(
        "building in {}: {}",
        cache.root().display(),
        made.iter().map(|row| row.0).collect::<Vec<_>>().join(", ")
    ));
    let place = |wanted: &str| made.iter().find(|row| row.0 == wanted).map(|row| row.2.clone());
    let at = |name: &str, key: &str| place(name).unwrap_or_else(|| cache.path(name, key));
    let (system, own) = keys.variant.layers();
    let rootfs = at("rootfs", &keys.rootfs).join("rootfs.tar");
    let own = keys.own.as_ref().map(|key| (place(own), at(own, key).join("rootfs.tar")));
    let order = root::Order {
        tools: place("tools"),
        grub: place("grub"),
        rootfs: place("rootfs"),
        own: own.as_ref().and_then(|(out, _)| Some((rootfs.clone(), out.clone()?))),
        system: place(system).map(|out| root::SystemOrder {
            out,
            variant: keys.variant,
            tools: at("tools", &keys.tools).join("root"),
            grub: at("grub", &keys.grub),
            rootfs: own.map_or(rootfs, |(_, archive)| archive),
            dist: inputs.dist.clone(),
            companion: inputs.companion.clone(),
        }),
        ..root::Order::default()
    };
    make(&order, elevate, &made.iter().map(|row| &row.2).collect::<Vec<_>>())?;
    for (name, key, folder) in made {
        cache.publish(name, key, &folder)?;
    }
    Ok(())
}

/// Has an order carried out; if it can't be, the folders in which its layers were begun are removed.
fn make(order: &root::Order, elevate: &Elevate, begun: &[&PathBuf]) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), serde_json::to_vec(order)?)?;
    let outcome = run_elevated(elevate, file.path());
    if outcome.is_err() {
        for folder in begun {
            drop(fs::remove_dir_all(folder));
        }
    }
    outcome
}

/// Starts [`as_root`] in mount and process namespaces that end with it.
fn run_elevated(elevate: &Elevate, order: &Path) -> Result<()> {
    let mut words: Vec<OsString> = Vec::new();
    if !rustix::process::geteuid().is_root() {
        words.extend(["sudo", "--"].map(OsString::from));
    }
    let namespaces =
        ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
    words.extend(namespaces.map(OsString::from));
    words.extend(elevate.command.iter().cloned());
    words.push(order.as_os_str().to_owned());
    let (program, arguments) = words.split_first().context("no command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::inherit())
        .spawn()
        .with_context(|| format!("can't start {}", program.to_string_lossy()))?;
    let status = child.wait()?;
    crate::interrupt::check()?;
    if !status.success() {
        bail!("making the image failed ({status}); what failed is told above");
    }
    Ok(())
}
