// SPDX-License-Identifier: Apache-2.0
//! The part of the image's making that needs root: mmdebstrap, dracut in a chroot, OSTree, an XFS loop mount.
//!
//! It runs in mount and process namespaces of its own (`unshare`), so that whatever ends it leaves no mount, no loop
//! device and no child. What it makes is handed to the user who asked.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{chown, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::variant::without;
use super::{BootPartition, System, Variant, boot, disk, recipe, tree};
use crate::host;
use crate::progress::step;
use crate::tools::Tools;

/// What is to be made, and for whom. Each folder exists and is empty.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) user: u32,
    pub(super) group: u32,
    /// A mirror of Debian's packages; mmdebstrap's own choice without one.
    pub(super) mirror: Option<String>,
    /// The folder for QEMU and the tools.
    pub(super) tools: Option<PathBuf>,
    /// The folder for GRUB's images.
    pub(super) grub: Option<PathBuf>,
    /// The folder for `rootfs.tar`.
    pub(super) rootfs: Option<PathBuf>,
    /// The archive of the system, and the folder for one with the newer OSTree.
    pub(super) own: Option<(PathBuf, PathBuf)>,
    /// The folder for Debian's Ignition.
    pub(super) oracle: Option<PathBuf>,
    pub(super) system: Option<SystemOrder>,
}

impl Default for Order {
    /// Nothing, for the user who runs this.
    fn default() -> Self {
        Self {
            user: rustix::process::getuid().as_raw(),
            group: rustix::process::getgid().as_raw(),
            mirror: std::env::var("FLEDGE_MIRROR").ok(),
            tools: None,
            grub: None,
            rootfs: None,
            own: None,
            oracle: None,
            system: None,
        }
    }
}

/// How to make the system layer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SystemOrder {
    pub(super) out: PathBuf,
    pub(super) variant: Variant,
    pub(super) tools: PathBuf,
    pub(super) grub: PathBuf,
    pub(super) rootfs: PathBuf,
    /// The installable tree under test.
    pub(super) dist: Option<PathBuf>,
    /// The companion's.
    pub(super) companion: Option<PathBuf>,
}

impl Order {
    fn folders(&self) -> Vec<&PathBuf> {
        let system = self.system.as_ref().map(|system| &system.out);
        let own = self.own.as_ref().map(|(_, out)| out);
        let layers = [&self.tools, &self.grub, &self.rootfs, &self.oracle];
        layers.into_iter().map(Option::as_ref).chain([own, system]).flatten().collect()
    }

    /// Removes what an interrupted run left half made; its user could not remove root's files.
    fn sweep(&self) {
        let folders = self.folders();
        let Some(cache) = folders.first().and_then(|folder| folder.parent()) else { return };
        for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
            let half_made = entry.file_name().to_string_lossy().starts_with(".new-");
            if half_made && !folders.contains(&&entry.path()) {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    }
}

/// Does what needs root. `args` is what [`super::Elevate`] passed on: the path of a file with the order.
///
/// # Errors
/// If something can't be made, or it doesn't run as root.
pub(super) fn as_root(args: &[OsString]) -> Result<()> {
    let [path] = args else { bail!("as_root takes one argument: the file that says what to make") };
    ensure!(rustix::process::geteuid().is_root(), "this part of making the image needs root");
    // The first process of a process namespace ignores signals that it doesn't handle.
    let mut signals = signal_hook::iterator::Signals::new([2, 15, 1]).context("can't install a signal handler")?;
    let text = fs::read(path).with_context(|| format!("can't read {}", Path::new(path).display()))?;
    let order: Order = serde_json::from_slice(&text).context("the order is not what this version writes")?;
    order.sweep();
    let work = workspace(&order)?;
    let mountpoint = work.clone();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            drop(host::run(Command::new("umount").arg("--lazy").arg(&mountpoint)));
            drop(fs::remove_dir(&mountpoint));
            // Ends the namespaces, and with them everything that was started or mounted.
            std::process::exit(130);
        }
    });
    let outcome = make(&order, &work);
    // A deployment can't be removed while it is immutable.
    drop(Command::new("chattr").args(["-R", "-f", "-i"]).arg(work.join("sysroot/ostree/deploy")).status());
    for name in [
        "sysroot",
        "tree",
        "own",
        "grub",
        "oracle",
        "root.img",
        "boot.img",
        "esp.img",
        "initramfs.img",
        "early.cfg",
        "mnt",
    ] {
        let path = work.join(name);
        drop(fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)));
    }
    drop(host::run(Command::new("umount").arg("--lazy").arg(&work)));
    drop(fs::remove_dir(&work));
    outcome
}

/// A folder to work in: in memory when there is enough, which takes a tenth of the time.
fn workspace(order: &Order) -> Result<PathBuf> {
    let work = PathBuf::from(format!("/run/fledge-build-{}", order.user));
    fs::create_dir_all(&work)?;
    if host::available_mib() > 4096 {
        host::run(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=0755,size=80%", "tmpfs"]).arg(&work))?;
    } else {
        let disk = order.folders().first().context("nothing to make")?.join(".work");
        fs::create_dir_all(&disk)?;
        host::run(Command::new("mount").arg("--bind").arg(&disk).arg(&work))?;
    }
    Ok(work)
}

fn make(order: &Order, work: &Path) -> Result<()> {
    // Both downloads at once: one waits for the network while the other unpacks.
    std::thread::scope(|scope| {
        let rootfs = order.rootfs.as_ref().map(|out| scope.spawn(move || rootfs(order, out, work)));
        let first = order.tools.as_ref().map_or(Ok(()), |out| tools(order, out, work));
        let second = order.grub.as_ref().map_or(Ok(()), |out| grub(order, out, work));
        let third = rootfs.map_or(Ok(()), |thread| thread.join().unwrap_or_else(|_| bail!("the rootfs thread died")));
        first.and(second).and(third)
    })?;
    if let Some((archive, out)) = &order.own {
        own(order, archive, out, work)?;
    }
    if let Some(out) = &order.oracle {
        oracle(order, out, work)?;
    }
    if let Some(system) = &order.system {
        make_system(order, system, work)?;
    }
    Ok(())
}

pub(super) fn mmdebstrap(suite: &str, variant: &str, packages: &[&str], work: &Path) -> Command {
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--mode=root", "--variant", variant, "--dpkgopt=force-unsafe-io"]);
    command.args(recipe::EXCLUDED.iter().map(|pattern| format!("--dpkgopt=path-exclude={pattern}")));
    // The next release's index may be older than it promises on a mirror that stands still.
    command.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
    command.arg(format!("--include={}", packages.join(",")));
    command.env("TMPDIR", work).env("INITRD", "No").env("LC_ALL", "C").env("SOURCE_DATE_EPOCH", "1767225600");
    command.arg(suite);
    command
}

fn tools(order: &Order, out: &Path, work: &Path) -> Result<()> {
    step("downloading and unpacking QEMU and the disk tools", || {
        let root = out.join("root");
        let mut command = mmdebstrap(recipe::SUITE, "apt", recipe::TOOLS_PACKAGES, work);
        host::run(command.arg("--format=directory").arg(&root).args(&order.mirror))?;
        for below in ["var", "dev", "usr/share/perl", "usr/share/i18n"] {
            drop(fs::remove_dir_all(root.join(below)));
        }
        give(&root, order)
    })
}

fn grub(order: &Order, out: &Path, work: &Path) -> Result<()> {
    step("downloading GRUB and making its core image", || {
        let root = work.join("grub");
        let mut command = mmdebstrap(recipe::GRUB_SUITE, "extract", recipe::GRUB_PACKAGES, work);
        host::run(command.arg("--format=directory").arg(&root).args(&order.mirror))?;
        let early = work.join("early.cfg");
        fs::write(&early, recipe::GRUB_EARLY_CFG)?;
        let modules = root.join("usr/lib/grub/i386-pc");
        let mut mkimage = Tools::new(root.clone()).command("grub-mkimage")?;
        mkimage.args(["-O", "i386-pc", "-p", "/grub2", "-c"]).arg(&early).arg("-d").arg(&modules);
        host::run(mkimage.arg("-o").arg(out.join("core.img")).args(recipe::GRUB_MODULES))?;
        fs::copy(modules.join("boot.img"), out.join("boot.img"))?;
        fs::remove_dir_all(&root)?;
        give(out, order)
    })
}

fn rootfs(order: &Order, out: &Path, work: &Path) -> Result<()> {
    step("downloading and unpacking the Debian system", || {
        let mut command = mmdebstrap(recipe::SUITE, "apt", recipe::ROOTFS_PACKAGES, work);
        host::run(command.arg("--format=tar").arg(out.join("rootfs.tar")).args(&order.mirror))?;
        give(out, order)
    })
}

fn oracle(order: &Order, out: &Path, work: &Path) -> Result<()> {
    step("downloading Debian's Ignition", || {
        let root = work.join("oracle");
        let mut command = mmdebstrap(recipe::SUITE, "extract", recipe::ORACLE_PACKAGES, work);
        host::run(command.arg("--format=directory").arg(&root).args(&order.mirror))?;
        fs::copy(root.join(recipe::ORACLE_PROGRAM), out.join("ignition")).context("the package has no program")?;
        fs::remove_dir_all(&root)?;
        give(out, order)
    })
}

/// Puts the newer OSTree over the system: apt does it in the system itself, so that nothing else changes.
fn own(order: &Order, archive: &Path, out: &Path, work: &Path) -> Result<()> {
    step("downloading the newer OSTree and putting it over the Debian system", || {
        let root = work.join("own");
        unpack(archive, &root)?;
        let mirror = order.mirror.as_deref().unwrap_or("http://deb.debian.org/debian");
        let list = root.join("etc/apt/sources.list.d/newer.list");
        fs::write(&list, format!("deb {mirror} {} main\n", recipe::OSTREE_SUITE))?;
        let resolver = root.join("etc/resolv.conf");
        drop(fs::remove_file(&resolver));
        fs::copy("/etc/resolv.conf", &resolver)?;
        with_mounts(&root, || {
            apt(&root, &["update"])?;
            let suite = ["install", "--yes", "--no-install-recommends", "--target-release", recipe::OSTREE_SUITE];
            apt(&root, &[&suite, recipe::OSTREE_PACKAGES].concat())?;
            apt(&root, &["clean"])
        })?;
        for left in ["etc/resolv.conf", "etc/apt/sources.list.d/newer.list"] {
            fs::remove_file(root.join(left))?;
        }
        fs::remove_dir_all(root.join("var/lib/apt/lists"))?;
        let mut pack = Command::new("tar");
        pack.args(["--create", "--numeric-owner", "--sort=name", "--xattrs", "--xattrs-include=*", "--file"]);
        host::run(pack.arg(out.join("rootfs.tar")).arg("--directory").arg(&root).arg("."))?;
        fs::remove_dir_all(&root)?;
        give(out, order)
    })
}

fn apt(root: &Path, words: &[&str]) -> Result<()> {
    let mut command = Command::new("chroot");
    command.arg(root).args(["apt-get", "--quiet", "-o", "Acquire::Check-Valid-Until=false"]).args(words);
    command.env("INITRD", "No").env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    host::run(&mut command).map(drop)
}

fn unpack(archive: &Path, root: &Path) -> Result<()> {
    fs::create_dir(root)?;
    let mut unpack = Command::new("tar");
    unpack.args(["--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--file"]);
    host::run(unpack.arg(archive).arg("--directory").arg(root)).map(drop)
}

/// Does something while a root has what programs in it expect to be mounted.
fn with_mounts(root: &Path, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut mounted = Vec::new();
    let outcome = (|| {
        for (kind, source, at) in [
            ("proc", "proc", "proc"),
            ("sysfs", "sysfs", "sys"),
            ("devtmpfs", "dev", "dev"),
            ("tmpfs", "tmp", "tmp"),
            ("tmpfs", "run", "run"),
        ] {
            let target = root.join(at);
            host::run(Command::new("mount").args(["-t", kind, source]).arg(&target))?;
            mounted.push(target);
        }
        work()
    })();
    for target in mounted.iter().rev() {
        host::run(Command::new("umount").arg(target))?;
    }
    outcome
}

fn make_system(order: &Order, system: &SystemOrder, work: &Path) -> Result<()> {
    let tools = Tools::new(system.tools.clone());
    let root = work.join("tree");
    let initramfs = work.join("initramfs.img");
    let kernel = step(
        "unpacking the system, less what its variant does without, and laying the tree under test over it",
        || {
            unpack(&system.rootfs, &root)?;
            let trees: Vec<&Path> =
                [&system.dist, &system.companion].into_iter().flatten().map(PathBuf::as_path).collect();
            take_away(&root, system.variant.less().packages)?;
            tree::furnish(&root, &trees, system.variant)?;
            kernel_version(&root)
        },
    )?;
    step("making the initramfs with dracut", || dracut(&root, &kernel, system, &initramfs))?;
    let sysroot = work.join("sysroot");
    step("committing and deploying with OSTree", || {
        tree::shape(&root, &kernel, &initramfs, system.variant)?;
        deploy(&root, &sysroot, system.variant)
    })?;
    step("making the disk image", || {
        let find = |name: &str| system.dist.as_ref().and_then(|dist| find_snippet(dist, name));
        let snippet = find("05_ignition.cfg").unwrap_or_else(|| recipe::GRUB_SNIPPET.to_owned());
        let starts = find("06_fledge-starts.cfg").unwrap_or_default();
        let grub = sysroot.join("boot/grub2");
        fs::create_dir(&grub)?;
        fs::write(grub.join("grub.cfg"), recipe::GRUB_CFG.replace("@SNIPPET@", &snippet).replace("@STARTS@", &starts))?;
        finish_system(order, system, &tools, &sysroot, work)
    })
}

/// Removes packages, and what only they need: no other package of the recipe.
fn take_away(root: &Path, packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    with_mounts(root, || apt(root, &[&["autopurge", "--yes"], packages].concat()))?;
    let mut query = Command::new("chroot");
    query.arg(root).args(["dpkg-query", "--show"]).args(without(recipe::ROOTFS_PACKAGES, packages));
    host::run(&mut query).context("a package went that others of the recipe need").map(drop)
}

fn kernel_version(root: &Path) -> Result<String> {
    let mut versions: Vec<_> = fs::read_dir(root.join("usr/lib/modules"))?.flatten().collect();
    let version = versions.pop().context("the system has no kernel")?;
    ensure!(versions.is_empty(), "the system has more than one kernel");
    version.file_name().into_string().ok().context("the kernel's version is not UTF-8")
}

/// The dracut modules that the tree under test brings, without their numbers.
fn our_modules(system: &SystemOrder) -> Result<Vec<String>> {
    let Some(dist) = &system.dist else { return Ok(Vec::new()) };
    let folder = dist.join("usr/lib/dracut/modules.d");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut names: Vec<_> = fs::read_dir(&folder)?
        .flatten()
        .map(|entry| {
            entry.file_name().to_string_lossy().trim_start_matches(|digit: char| digit.is_ascii_digit()).to_owned()
        })
        .collect();
    names.sort();
    Ok(names)
}

fn dracut(root: &Path, kernel: &str, system: &SystemOrder, out: &Path) -> Result<()> {
    let ours = our_modules(system)?;
    with_mounts(root, || {
        let modules = system.variant.modules().into_iter().chain(ours.iter().map(String::as_str));
        let mut command = Command::new("chroot");
        command.arg(root).args([
            "dracut",
            "--force",
            "--quiet",
            "--no-hostonly",
            "--no-hostonly-cmdline",
            "--reproducible",
        ]);
        command.args([
            "--compress",
            "zstd -3 -T0 -q",
            "--kver",
            kernel,
            "--modules",
            &modules.collect::<Vec<_>>().join(" "),
        ]);
        command.args(["--add-drivers", &system.variant.drivers().join(" ")]);
        command.args(["--install", &recipe::INSPECTORS.join(" ")]);
        command.args(["--include", "/usr/lib/ignition", "/usr/lib/ignition", "/tmp/initramfs.img"]);
        command.env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin").env("SOURCE_DATE_EPOCH", "1767225600");
        host::run(&mut command)?;
        fs::copy(root.join("tmp/initramfs.img"), out).context("dracut left no initramfs").map(drop)
    })
}

/// Deploys with the tree's own OSTree: whether there is an image for composefs depends on who deploys.
fn deploy(root: &Path, sysroot: &Path, variant: Variant) -> Result<()> {
    let tools = Tools::new(root.to_owned());
    fs::create_dir(sysroot)?;
    let repo = format!("--repo={}", sysroot.join("ostree/repo").display());
    let at = format!("--sysroot={}", sysroot.display());
    let ostree = || tools.command("ostree");
    host::run(ostree()?.args(["admin", "init-fs", "--modern"]).arg(sysroot))?;
    host::run(ostree()?.args(["admin", &at, "os-init", recipe::STATEROOT]))?;
    // So that `ostree admin post-copy` turns fs-verity on, in the machine: the kernel here may know nothing of it.
    let verity = (variant == Variant::Composefs).then_some(("ex-integrity.fsverity", "maybe"));
    for (key, value) in [("sysroot.bootloader", "none"), ("sysroot.readonly", "true")].into_iter().chain(verity) {
        host::run(ostree()?.args([repo.as_str(), "config", "set", key, value]))?;
    }
    let mut commit = ostree()?;
    commit.args([
        repo.as_str(),
        "commit",
        "--bootable",
        "--timestamp=2026-01-01T00:00:00Z",
        "--branch",
        recipe::BRANCH,
    ]);
    host::run(commit.arg(format!("--tree=dir={}", root.display())))?;
    let mut deploy = ostree()?;
    deploy.args(["admin", &at, "deploy", "--os", recipe::STATEROOT]);
    deploy.args(variant.arguments().iter().map(|argument| format!("--karg={argument}")));
    host::run(deploy.arg(recipe::BRANCH))?;
    // Its files are in the repository now.
    Ok(fs::remove_dir_all(root)?)
}

fn find_snippet(dist: &Path, name: &str) -> Option<String> {
    let places = ["usr/lib/bootupd/grub2-static/configs.d", "usr/share/fledge/grub2"];
    places.iter().find_map(|place| fs::read_to_string(dist.join(place).join(name)).ok())
}

fn finish_system(order: &Order, system: &SystemOrder, tools: &Tools, sysroot: &Path, work: &Path) -> Result<()> {
    let description = System::of_deployment(&sysroot.join("boot"))?;

    let root_image = work.join("root.img");
    File::create(&root_image)?.set_len(disk::ROOT.1)?;
    let uuid = format!("reflink=1,uuid={}", disk::ROOT_UUID);
    let plain = ["-q", "-m", &uuid, "-L", "root"];
    let (format, options) = match system.variant {
        Variant::Plain | Variant::Companion => ("xfs", plain.as_slice()),
        // Few inodes: the kernel would go on making their tables while the machine boots.
        Variant::Composefs => ("ext4", ["-q", "-N", "65536", "-L", "root"].as_slice()),
    };
    host::run(tools.command(&format!("mkfs.{format}"))?.args(options).arg(&root_image))?;
    let mountpoint = work.join("mnt");
    fs::create_dir(&mountpoint)?;
    // mount sets the loop device free by itself when the file system goes.
    host::run(Command::new("mount").args(["-t", format, "-o", "loop"]).arg(&root_image).arg(&mountpoint))?;
    let mut copy = Command::new("cp");
    copy.args(["--archive", "--no-target-directory", "--"]).arg(sysroot.join("ostree")).arg(mountpoint.join("ostree"));
    let copied = host::run(&mut copy).and_then(|_| {
        fs::create_dir(mountpoint.join("boot"))?;
        // As OSTree does itself: the deployment's top level takes no new names.
        host::run(Command::new("chattr").arg("+i").arg(mountpoint.join(&description.deployment)))
    });
    host::run(Command::new("umount").arg(&mountpoint))?;
    copied?;
    if system.variant == Variant::Composefs {
        // Not before: this machine's kernel may know nothing of fs-verity.
        host::run(tools.command("tune2fs")?.args(["-O", "verity"]).arg(&root_image))?;
    }

    let boot_folder = system.out.join("boot");
    let mut copy = Command::new("cp");
    copy.args(["--archive", "--no-target-directory", "--"]).arg(sysroot.join("boot")).arg(&boot_folder);
    host::run(&mut copy)?;
    let boot_image = work.join("boot.img");
    boot::make(&boot_image, tools, &boot_folder, &description.initramfs, &BootPartition::default(), work)?;
    disk::assemble(&system.out.join("disk.img"), tools, &system.grub, &boot_image, &root_image, work)?;
    fs::write(system.out.join("system.json"), serde_json::to_vec_pretty(&description)?)?;
    give(&system.out, order)
}

/// Hands a tree to the user who asked for it.
fn give(path: &Path, order: &Order) -> Result<()> {
    if order.user == 0 {
        return Ok(());
    }
    let (user, group) = (Some(order.user), Some(order.group));
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), order)?;
        }
        chown(path, user, group)?;
    } else {
        lchown(path, user, group)?;
    }
    Ok(())
}
