// SPDX-License-Identifier: Apache-2.0
//! `./dev dist`: two installable trees, as packages would install them: what the initramfs needs under `target/dist`, and the companion
//! under `target/dist-companion`.
//!
//! | source | goes to |
//! |---|---|
//! | the static binary | `usr/bin/fledge`, and a link for each applet that has one |
//! | `dracut/NNname/` | `usr/lib/dracut/modules.d/NNname/`, rules of `udev/` included by the links there |
//! | `dracut/real-root/` | `usr/lib/systemd/system{,-preset}/`, each unit enabled as its `[Install]` asks for |
//! | `dracut/grub2/` | `usr/lib/bootupd/grub2-static/configs.d/` (upstream's place), `usr/share/fledge/grub2/` (without bootupd) |
//!
//! The companion's:
//!
//! | source | goes to |
//! |---|---|
//! | `fledgectl` | `usr/bin/` |
//! | `companion/units/` | `usr/lib/systemd/system/` with the folders of drop-ins, `system-preset/`, `usr/lib/tmpfiles.d/`; not what is optional |
//! | nothing | the folder `etc/fledge/health.d/` for checks |
//!
//! What has not changed is not written again, so that images made from the tree know by time that they are up to date.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::sh::{cargo, step, succeeds};

/// What the binary may weigh, as loaded and as `xz -9e` packs it.
const MAX_BYTES: u64 = 3_300_000;
const MAX_XZ_BYTES: u64 = 1_400_000;

/// A static program, whose relocations are packed: 110 kB less, understood by its own startup code (glibc 2.36 and later). The
/// linker script leaves out 450 kB more, and `initramfs/src/libc.rs` 700 kB: where a C library has one of its functions beside others that
/// are needed, there are two, and the first counts.
const RUSTFLAGS: &str = "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs \
                         -C link-arg=-Wl,--build-id=none -C link-arg=-Wl,-z,muldefs";
const LINKER_SCRIPT: &str = "initramfs/size.ld";

/// An entry of the tree.
#[derive(Debug, Eq, PartialEq)]
enum Entry {
    File { bytes: Vec<u8>, mode: u32 },
    Link(PathBuf),
    Folder,
}

/// Paths below the tree's root.
type Tree = BTreeMap<PathBuf, Entry>;

/// Builds the binary, lays the tree, checks what the binary weighs, and returns the tree's root.
///
/// # Errors
/// Anything can't be built or written, or the binary is dynamic or too large.
pub(crate) fn dist(repo: &Path) -> Result<PathBuf> {
    let binary = build(repo)?;
    let mut tree = sources(repo)?;
    tree.extend(applets(&binary)?);
    tree.insert("usr/bin/fledge".into(), file(&binary, 0o755)?);
    let root = lay(repo.join("target/dist"), &tree)?;
    weigh(&root.join("usr/bin/fledge"), &repo.join("target/dist.weight"))?;
    Ok(root)
}

/// Builds `fledgectl`, lays the companion's tree, prints what both weigh, and returns the tree's root.
///
/// # Errors
/// Anything can't be built or written.
pub(crate) fn companion(repo: &Path) -> Result<PathBuf> {
    step("building fledgectl");
    let mut command = cargo(&["build", "--release", "--package", "fledge-companion"]);
    ensure!(succeeds(command.current_dir(repo))?, "fledgectl does not build");
    let binary = target(repo).join("release/fledgectl");
    let mut tree = companion_sources(repo)?;
    tree.insert("usr/bin/fledgectl".into(), file(&binary, 0o755)?);
    let bytes: usize = tree.values().map(Entry::bytes).sum();
    let root = lay(repo.join("target/dist-companion"), &tree)?;
    println!("usr/bin/fledgectl: {} bytes, with its units {bytes}", fs::metadata(&binary)?.len());
    Ok(root)
}

/// Writes a tree, and removes what isn't of it.
fn lay(root: PathBuf, tree: &Tree) -> Result<PathBuf> {
    remove_others(&root, Path::new(""), tree)?;
    for (path, entry) in tree {
        put(&root.join(path), entry).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(root)
}

fn target(repo: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repo.join("target"), PathBuf::from)
}

fn build(repo: &Path) -> Result<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    step(&format!("building the static fledge for {triple}"));
    let mut command = cargo(&["build", "--release", "--package", "fledge", "--target", &triple]);
    command
        .current_dir(repo)
        .env("RUSTFLAGS", format!("{RUSTFLAGS} -C link-arg=-Wl,-T,{}", repo.join(LINKER_SCRIPT).display()))
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    ensure!(succeeds(&mut command)?, "the binary does not build");
    Ok(target(repo).join(triple).join("release/fledge"))
}

/// Everything but the binary.
fn sources(repo: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let dracut = repo.join("dracut");
    for module in files(&dracut)?.into_iter().filter(|path| is_module(path)) {
        for source in files(&module)? {
            let below = source.strip_prefix(&dracut)?;
            let mode = if source.extension().is_some_and(|extension| extension == "sh") { 0o755 } else { 0o644 };
            tree.insert(Path::new("usr/lib/dracut/modules.d").join(below), file(&source, mode)?);
        }
    }
    for source in files(&dracut.join("real-root"))? {
        installed(&mut tree, &source)?;
    }
    for (source, joined) in [("05_ignition.cfg", "05_ignition.cfg"), ("fledge-starts.cfg", "06_fledge-starts.cfg")] {
        // bootupd joins them in the order of their names.
        for place in
            [format!("usr/lib/bootupd/grub2-static/configs.d/{joined}"), format!("usr/share/fledge/grub2/{source}")]
        {
            tree.insert(place.into(), file(&dracut.join("grub2").join(source), 0o644)?);
        }
    }
    tree.insert("usr/share/licenses/fledge/LICENSE".into(), file(&repo.join("LICENSE"), 0o644)?);
    Ok(tree)
}

fn is_module(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    path.is_dir() && name.bytes().take(2).filter(u8::is_ascii_digit).count() == 2
}

/// Everything but `fledgectl`.
fn companion_sources(repo: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    for source in files(&repo.join("companion/units"))?.into_iter().filter(|source| !source.ends_with("optional")) {
        installed(&mut tree, &source)?;
    }
    tree.insert("etc/fledge/health.d".into(), Entry::Folder);
    tree.insert("usr/share/licenses/fledge-companion/LICENSE".into(), file(&repo.join("LICENSE"), 0o644)?);
    Ok(tree)
}

/// A unit, a folder with drop-ins of one, or a setting of systemd's, in the place for it.
fn installed(tree: &mut Tree, source: &Path) -> Result<()> {
    let name = Path::new(source.file_name().context("a file has a name")?);
    let folder = match name.extension().and_then(|extension| extension.to_str()) {
        Some("preset") => "usr/lib/systemd/system-preset",
        Some("service" | "target" | "d") => "usr/lib/systemd/system",
        Some("conf") => "usr/lib/tmpfiles.d",
        _ => bail!("where does {} go?", source.display()),
    };
    let place = Path::new(folder).join(name);
    if source.is_dir() {
        for below in files(source)? {
            tree.insert(place.join(below.file_name().context("a file has a name")?), file(&below, 0o644)?);
        }
        return Ok(());
    }
    // A preset is applied only when an image is made or a machine has no id yet; the links are there for all others.
    for line in fs::read_to_string(source)?.lines() {
        let link = match line.split_once('=') {
            Some(("WantedBy", target)) => Path::new(&format!("{target}.wants")).join(name),
            Some(("RequiredBy", target)) => Path::new(&format!("{target}.requires")).join(name),
            Some(("Alias", other)) => other.into(),
            _ => continue,
        };
        let up = link.parent().map_or(0, |parent| parent.components().count());
        let target: PathBuf = std::iter::repeat_n(Path::new(".."), up).chain([name]).collect();
        tree.insert(Path::new(folder).join(link), Entry::Link(target));
    }
    tree.insert(place, file(source, 0o644)?);
    Ok(())
}

impl Entry {
    /// Bytes of its contents.
    fn bytes(&self) -> usize {
        if let Self::File { bytes, .. } = self { bytes.len() } else { 0 }
    }
}

/// The links that the binary asks for: the second column of `--list-applets`.
fn applets(binary: &Path) -> Result<Tree> {
    let output = Command::new(binary).arg("--list-applets").stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{} --list-applets: {}", binary.display(), output.status);
    let list = String::from_utf8(output.stdout)?;
    Ok(list.lines().filter_map(|line| line.split_whitespace().nth(1)).map(link_to_fledge).collect())
}

fn link_to_fledge(link: &str) -> (PathBuf, Entry) {
    let path = PathBuf::from(link.trim_start_matches('/'));
    let folder = path.parent().unwrap_or(Path::new(""));
    let target = match folder.strip_prefix("usr/bin") {
        Ok(below) if below.as_os_str().is_empty() => "fledge".into(),
        _ => folder.components().map(|_| "..").collect::<PathBuf>().join("usr/bin/fledge"),
    };
    (path, Entry::Link(target))
}

/// What a folder holds, sorted, without hidden files.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')));
    paths.sort();
    Ok(paths)
}

fn file(source: &Path, mode: u32) -> Result<Entry> {
    let bytes = fs::read(source).with_context(|| format!("reading {}", source.display()))?;
    Ok(Entry::File { bytes, mode })
}

fn put(path: &Path, entry: &Entry) -> Result<()> {
    if same(path, entry) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::symlink_metadata(path).is_ok() {
        fs::remove_file(path)?;
    }
    match entry {
        Entry::Folder => fs::create_dir(path)?,
        Entry::Link(target) => symlink(target, path)?,
        Entry::File { bytes, mode } => {
            fs::write(path, bytes)?;
            fs::set_permissions(path, fs::Permissions::from_mode(*mode))?;
        }
    }
    Ok(())
}

fn same(path: &Path, entry: &Entry) -> bool {
    match entry {
        Entry::Folder => fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()),
        Entry::Link(target) => fs::read_link(path).is_ok_and(|found| found == *target),
        Entry::File { bytes, mode } => {
            fs::symlink_metadata(path)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o7777 == *mode)
                && fs::read(path).is_ok_and(|found| found == *bytes)
        }
    }
}

/// Removes what an earlier tree had and this one hasn't.
fn remove_others(root: &Path, below: &Path, tree: &Tree) -> Result<()> {
    let Ok(entries) = fs::read_dir(root.join(below)) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let is_kept =
            || tree.iter().any(|(kept, entry)| kept.starts_with(&path) && (*kept != path || *entry == Entry::Folder));
        if entry.file_type()?.is_dir() && is_kept() {
            remove_others(root, &path, tree)?;
        } else if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if !tree.contains_key(&path) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Prints and checks the binary's weight. Packing takes seconds, so the figure of an unchanged binary is kept in `note`.
fn weigh(binary: &Path, note: &Path) -> Result<()> {
    let headers = output(Command::new("readelf").arg("-lW").arg(binary))?;
    ensure!(!String::from_utf8_lossy(&headers).contains("INTERP"), "{} is not static", binary.display());
    let metadata = fs::metadata(binary)?;
    let fresh = fs::metadata(note)
        .and_then(|note| note.modified())
        .is_ok_and(|noted| metadata.modified().is_ok_and(|made| noted > made));
    let noted = fs::read_to_string(note).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let packed = match noted {
        Some(packed) if fresh => packed,
        _ => u64::try_from(output(Command::new("xz").args(["-9e", "--stdout", "--threads=1"]).arg(binary))?.len())?,
    };
    fs::write(note, packed.to_string())?;
    println!(
        "usr/bin/fledge: {} bytes (at most {MAX_BYTES}), {packed} with xz -9e (at most {MAX_XZ_BYTES}), static",
        metadata.len()
    );
    ensure!(metadata.len() <= MAX_BYTES && packed <= MAX_XZ_BYTES, "usr/bin/fledge is too large");
    Ok(())
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
    }

    #[test]
    fn the_tree_has_every_source_in_its_place() {
        let tree = sources(repo()).unwrap();
        for path in [
            "usr/lib/dracut/modules.d/30ignition/module-setup.sh",
            "usr/lib/dracut/modules.d/30ignition/99-xx-ignition-systemd-cryptsetup.rules",
            "usr/lib/dracut/modules.d/40fledge-ostree/module-setup.sh",
            "usr/lib/bootupd/grub2-static/configs.d/05_ignition.cfg",
            "usr/lib/bootupd/grub2-static/configs.d/06_fledge-starts.cfg",
            "usr/share/fledge/grub2/fledge-starts.cfg",
            "usr/lib/systemd/system-preset/40-fledge.preset",
        ] {
            assert!(matches!(tree.get(Path::new(path)), Some(Entry::File { .. })), "{path}: {:?}", tree.keys());
        }
        let wanted = Path::new("usr/lib/systemd/system/basic.target.wants/fledge-firstboot-complete.service");
        assert_eq!(tree.get(wanted), Some(&Entry::Link("../fledge-firstboot-complete.service".into())));
    }

    #[test]
    fn units_are_enabled_as_they_ask_for() {
        let tree = companion_sources(repo()).unwrap();
        let system = Path::new("usr/lib/systemd/system");
        for (link, target) in [
            ("boot-complete.target.requires/fledge-health.service", "../fledge-health.service"),
            ("greenboot-healthcheck.service", "fledge-health.service"),
            ("multi-user.target.wants/fledge-bless.service", "../fledge-bless.service"),
            ("redboot.target.wants/fledge-red.service", "../fledge-red.service"),
        ] {
            assert_eq!(tree.get(&system.join(link)), Some(&Entry::Link(target.into())), "{link}");
        }
        for path in
            ["redboot.target", "boot-complete.target.d/10-fledge.conf", "../../tmpfiles.d/fledge-companion.conf"]
        {
            let path =
                path.strip_prefix("../../").map_or_else(|| system.join(path), |path| Path::new("usr/lib").join(path));
            assert!(matches!(tree.get(&path), Some(Entry::File { .. })), "{}", path.display());
        }
        assert_eq!(tree.get(Path::new("etc/fledge/health.d")), Some(&Entry::Folder));
        assert!(
            !tree.keys().any(|path| path.to_string_lossy().contains("watchdog")),
            "it is the distribution's to add"
        );
    }

    #[test]
    fn links_lead_to_the_binary() {
        for (link, target) in [
            ("/usr/bin/ignition", "fledge"),
            ("/usr/libexec/ignition-apply", "../../usr/bin/fledge"),
            ("/usr/lib/a/b", "../../../usr/bin/fledge"),
        ] {
            assert_eq!(link_to_fledge(link).1, Entry::Link(target.into()), "{link}");
        }
    }

    #[test]
    fn only_what_changed_is_written_and_what_is_gone_is_removed() {
        let root = std::env::temp_dir().join(format!("fledge-dist-{}", std::process::id()));
        let entry = |text: &str, mode| Entry::File { bytes: text.into(), mode };
        let lay = |tree: &Tree| drop(lay(root.clone(), tree).unwrap());
        let mut tree = Tree::from([
            ("a/same".into(), entry("same", 0o644)),
            ("a/gone".into(), entry("", 0o644)),
            ("b/c/gone".into(), entry("", 0o644)),
            ("link".into(), Entry::Link("a".into())),
            ("empty".into(), Entry::Folder),
        ]);
        lay(&tree);
        let time = |path: &str| fs::metadata(root.join(path)).unwrap().modified().unwrap();
        let before = time("a/same");
        tree.remove(Path::new("a/gone"));
        tree.remove(Path::new("b/c/gone"));
        tree.insert("link".into(), entry("a file now", 0o755));
        lay(&tree);
        assert!(root.join("empty").is_dir());
        assert_eq!(time("a/same"), before);
        assert!(!root.join("a/gone").exists() && !root.join("b").exists());
        assert_eq!(fs::read_to_string(root.join("link")).unwrap(), "a file now");
        fs::remove_dir_all(&root).unwrap();
    }
}
