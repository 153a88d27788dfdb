// SPDX-License-Identifier: Apache-2.0
//! State overlays: folders of the OS that can be written to, with the changes kept below `/var` (`ostree-state-overlay@.service` of
//! OSTree 2024.3 and later; `/usr/lib/opt` and `/usr/local` on Fedora CoreOS). In the real root OSTree's own unit mounts them; here the
//! files stage is to write to where they will be.
//!
//! Which ones the OS asks for, its links to that unit say. Mounting again what is mounted does nothing; what a power cut left below
//! `/var` is used by the next run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fledge_core::diag::Failure;
use rustix::mount::MountFlags;

use crate::host::fs::Root;
use crate::host::label;
use crate::host::mount::{self, is_mounted};

const WANTED: &str = "usr/lib/systemd/system/local-fs.target.requires";
const STATE: &str = "/var/ostree/state-overlays";
const SOURCE: &str = "overlay";

/// The overlays that the OS in `root` asks for: the names of their units' instances.
fn wanted(root: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(root.join(WANTED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let instance =
            name.to_str().and_then(|name| name.strip_prefix("ostree-state-overlay@")?.strip_suffix(".service"));
        names.extend(instance.map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// The path that an instance stands for (systemd.unit(5), "String escaping for inclusion in unit names").
fn path(instance: &str) -> Option<String> {
    let mut bytes = vec![b'/'];
    let mut rest = instance.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match (first, after) {
            (b'-', _) => b'/',
            (b'\\', [b'x', high, low, ..]) => {
                rest = after.get(3..)?;
                u8::from_str_radix(std::str::from_utf8(&[*high, *low]).ok()?, 16).ok()?
            }
            (byte, _) => *byte,
        });
    }
    let path = String::from_utf8(bytes).ok()?;
    path.split('/').skip(1).all(|part| !matches!(part, "" | "." | "..")).then_some(path)
}

/// Mounts those that the OS asks for.
///
/// # Errors
/// One can't be mounted or labelled.
pub fn mount(root: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new("mounting the state overlays", error.to_string())
            .remedy("see what the kernel says in the journal; /var must be on a file system that overlays can write to: ext4, btrfs, xfs with ftype=1")
    };
    let instances = wanted(root).map_err(failed)?;
    let target = Root::open(root).map_err(failed)?;
    let mut overlays = Vec::new();
    for instance in instances {
        let path = path(&instance).ok_or_else(|| {
            failed(io::Error::other(format!("ostree-state-overlay@{instance}.service names no path")))
        })?;
        let at = |error: io::Error| failed(io::Error::new(error.kind(), format!("{path}: {error}")));
        if is_mounted(&target, Path::new(SOURCE), &path).map_err(at)? {
            log::info!("{path} is an overlay already");
        } else {
            one(&target, &instance, &path).map_err(at)?;
            log::info!("mounted the state overlay {path}");
        }
        overlays.push((instance, path));
    }
    if overlays.is_empty() {
        return Ok(());
    }
    if let Some(selinux) = label::observe(&target).map_err(failed)? {
        let paths = unlabelled(&target, &overlays).map_err(failed)?;
        label::set(&target, &selinux.policy, paths.iter().map(String::as_str))?;
    }
    Ok(())
}

/// What has no labels yet, as nobody had made it before, or whoever did was interrupted. The upper folder's label is what the mount
/// point has, not what its place below /var would have: so that comes after, and an overlay that still has the other one isn't done.
fn unlabelled(root: &Root, overlays: &[(String, String)]) -> io::Result<Vec<String>> {
    let Some(of_var) = label::get(root, STATE)? else {
        let above = ["/var/ostree", STATE].map(str::to_owned);
        return Ok(above.into_iter().chain(overlays.iter().map(|(_, path)| path.clone())).collect());
    };
    let mut paths = Vec::new();
    for (instance, path) in overlays {
        if label::get(root, path)?.is_none_or(|label| label == of_var) {
            paths.extend([format!("{STATE}/{instance}"), path.clone()]);
        }
    }
    Ok(paths)
}

fn one(root: &Root, instance: &str, path: &str) -> io::Result<()> {
    let below: Vec<PathBuf> = ["upper", "work"]
        .iter()
        .map(|name| root.make_directories(&format!("{STATE}/{instance}/{name}"), &mut |_| {})?.path())
        .collect::<io::Result<_>>()?;
    let [upper, work] = below.as_slice() else { return Err(io::ErrorKind::NotFound.into()) };
    let point = root.directory_without_links(path)?.path()?;
    // A colon, a comma or a backslash in a path would end it; here is none but what systemd put into the instance's name.
    let escape = |path: &Path| path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,");
    let data = format!("lowerdir={},upperdir={},workdir={}", escape(&point), escape(upper), escape(work));
    let data = std::ffi::CString::new(data)?;
    Ok(rustix::mount::mount(SOURCE, &point, "overlay", MountFlags::empty(), Some(data.as_c_str()))?)
}

/// Lets go of them.
///
/// # Errors
/// One is in use.
pub fn release(root: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new("unmounting the state overlays", error.to_string());
    let target = Root::open(root).map_err(failed)?;
    for path in wanted(root).map_err(failed)?.iter().rev().filter_map(|instance| path(instance)) {
        if is_mounted(&target, Path::new(SOURCE), &path).map_err(failed)? {
            mount::unmount(&target, &path).map_err(failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_stand_for_paths() {
        for (instance, wanted) in [
            ("usr-lib-opt", Some("/usr/lib/opt")),
            ("usr-a\\x2db", Some("/usr/a-b")),
            ("usr-..-etc", None),
            ("", None),
            ("usr\\xzz", None),
        ] {
            assert_eq!(path(instance).as_deref(), wanted, "{instance}");
        }
    }

    #[test]
    fn what_is_written_to_an_overlay_lands_below_var() {
        let folder = tempfile::tempdir().unwrap();
        // An overlay's upper folder can't be on an overlay.
        let root = folder.path();
        rustix::mount::mount("tmpfs", root, "tmpfs", MountFlags::empty(), None).unwrap();
        for name in [WANTED, "usr/local", "usr/lib/opt", "var"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        mount(root).unwrap();
        assert!(!root.join("var/ostree").exists(), "the OS asks for none");
        for instance in ["usr-lib-opt", "usr-local"] {
            fs::write(root.join(WANTED).join(format!("ostree-state-overlay@{instance}.service")), "").unwrap();
        }
        fs::write(root.join("usr/local/of-the-os"), "").unwrap();

        mount(root).unwrap();
        mount(root).unwrap();
        let target = Root::open(root).unwrap();
        let overlays: Vec<_> = ["usr-lib-opt", "usr-local"].map(|of| (of.to_owned(), path(of).unwrap())).into();
        let labelled = |labels: &[(&str, &[u8])]| {
            for (path, label) in labels {
                let flags = rustix::fs::XattrFlags::empty();
                rustix::fs::setxattr(root.join(&path[1..]), "security.selinux", label, flags).unwrap();
            }
            unlabelled(&target, &overlays).unwrap()
        };
        let fresh = labelled(&[]);
        let half = labelled(&[(STATE, b"var"), ("/usr/local", b"usr")]);
        let other_half = labelled(&[("/usr/lib/opt", b"var")]);
        let whole = labelled(&[("/usr/lib/opt", b"usr")]);
        drop(target);
        fs::write(root.join("usr/local/new"), "").unwrap();
        assert!(root.join("usr/local/of-the-os").exists());
        release(root).unwrap();
        release(root).unwrap();
        let (new, kept) =
            (root.join("usr/local/new").exists(), root.join("var/ostree/state-overlays/usr-local/upper/new").exists());

        // After a power cut.
        mount(root).unwrap();
        let again = root.join("usr/local/new").exists();
        release(root).unwrap();
        rustix::mount::unmount(root, rustix::mount::UnmountFlags::empty()).unwrap();
        assert!(!new && kept && again, "{new} {kept} {again}");

        assert_eq!(fresh, ["/var/ostree", STATE, "/usr/lib/opt", "/usr/local"]);
        // Power was cut while the labels were set.
        assert_eq!(half, [format!("{STATE}/usr-lib-opt"), "/usr/lib/opt".into()]);
        assert_eq!(half, other_half);
        assert!(whole.is_empty(), "{whole:?}");
    }
}
