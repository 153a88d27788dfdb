// SPDX-License-Identifier: Apache-2.0
//! `/var` of the deployment, while the stages run: bound before `mount`, filled before `files`, let go before the real root.
//!
//! A deployment's `/var` belongs to its stateroot, beside the deployments: `ostree/deploy/STATEROOT/var`. In the real root
//! OSTree's generator mounts it; in the initramfs nobody does.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_bind, mount_remount};

use crate::host::cmd::{self, Arg};
use crate::host::fs::Root;
use crate::host::label::{self, Label};
use crate::host::mount;

/// What users, units and links of an image expect below `/var` (rpm-ostree's tmpfiles.d, Fedora CoreOS's
/// `ignition-ostree-populate-var`).
const DIRECTORIES: [&str; 9] = ["lib", "log", "home", "roothome", "opt", "srv", "usrlocal", "mnt", "media"];

/// Made here: the image's entries for these name users that only the target has.
const PLAIN: [&str; 2] = ["lib", "log"];

/// Binds the stateroot's `/var` into the deployment that is mounted at `root`. Already bound is right, too.
///
/// # Errors
/// The command line names no deployment below `root`, or the mount fails.
pub fn bind(root: &Path, cmdline: &Cmdline) -> Result<(), Failure> {
    let var = of_deployment(root, cmdline)?;
    let target = own_var(root)?;
    let what = || format!("binding {} to {}", var.display(), target.display());
    if same(&var, &target).map_err(|error| Failure::new(what(), error.to_string()))? {
        log::info!("{} is bound already", target.display());
        return Ok(());
    }
    let failure = |error: Errno| Failure::new(what(), error.to_string());
    mount_bind(&var, &target).map_err(failure)?;
    // The physical root is mounted read-only below the deployment, and a bind mount inherits that.
    mount_remount(&target, MountFlags::BIND, "").map_err(failure)?;
    if statvfs(&target).map_err(failure)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(Failure::new(what(), "the root file system is mounted read-only")
            .remedy("add rw to the kernel command line, or check that file system for errors"));
    }
    log::info!("bound {} to {}", var.display(), target.display());
    Ok(())
}

/// Lets go of what [`bind`] bound.
///
/// # Errors
/// It is in use.
pub fn release(root: &Path) -> Result<(), Failure> {
    let released = Root::open(root).and_then(|root| mount::unmount(&root, "/var"));
    let what = || format!("unmounting {}", root.join("var").display());
    released.map(drop).map_err(|error| Failure::new(what(), error.to_string()))
}

/// `/var` of the deployment, where others are to write: a link there could lead out of the target root.
fn own_var(root: &Path) -> Result<PathBuf, Failure> {
    let var = root.join("var");
    if fs::symlink_metadata(&var).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(var);
    }
    Err(Failure::new("finding the deployment's /var", format!("{} is no directory", var.display()))
        .remedy("the deployment is damaged: boot another entry, or install again"))
}

/// The stateroot's `/var`, by the `ostree=` argument.
fn of_deployment(root: &Path, cmdline: &Cmdline) -> Result<PathBuf, Failure> {
    let what = "finding the deployment's /var";
    let deployment = super::deployment(what, root, cmdline)?;
    let refused = |why: String| Failure::new(what, why).remedy(super::REMEDY);
    let stateroot = deployment.parent().and_then(Path::parent);
    let root = fs::canonicalize(root).map_err(|error| refused(format!("{}: {error}", root.display())))?;
    let Some(var) = stateroot.filter(|path| path.starts_with(&root)).map(|path| path.join("var")) else {
        return Err(refused(format!("the ostree= argument leads to {}", deployment.display())));
    };
    match fs::symlink_metadata(&var) {
        Ok(metadata) if metadata.is_dir() => Ok(var),
        Ok(_) => Err(refused(format!("{} is no directory", var.display()))),
        Err(error) => Err(refused(format!("{}: {error}", var.display()))),
    }
}

fn same(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (fs::metadata(one)?, fs::metadata(other)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Makes the directories of `/var` that aren't there yet. One that exists keeps its owner, mode and label.
///
/// # Errors
/// One of them can't be made.
pub fn populate(root: &Path) -> Result<(), Failure> {
    let var = own_var(root)?;
    let exists = |name: &str| fs::symlink_metadata(var.join(name)).is_ok();
    let missing: Vec<_> = DIRECTORIES.into_iter().filter(|name| !exists(name)).collect();
    if missing.is_empty() {
        log::info!("all directories of {} exist", var.display());
        return label(root);
    }
    for name in missing.iter().filter(|name| PLAIN.contains(name)) {
        let path = var.join(name);
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&path)
            .map_err(|error| Failure::new(format!("making {}", path.display()), error.to_string()))?;
    }
    let by_image: Vec<_> = missing.iter().copied().filter(|name| !PLAIN.contains(name)).collect();
    if !by_image.is_empty() {
        make_by_image(root, &by_image)?;
    }
    let (made, left): (Vec<_>, Vec<_>) = missing.into_iter().partition(|name| exists(name));
    label(root)?;
    log::info!("made below {}: {}", var.display(), made.join(", "));
    if !left.is_empty() {
        log::info!("the image has no tmpfiles.d entry for these below {}: {}", var.display(), left.join(", "));
    }
    Ok(())
}

fn make_by_image(root: &Path, names: &[&str]) -> Result<(), Failure> {
    let root = format!("--root={}", root.display());
    let prefixes: Vec<_> = names.iter().map(|name| format!("--prefix=/var/{name}")).collect();
    let args = ["--create", "--boot", &root].into_iter().chain(prefixes.iter().map(String::as_str)).map(Arg::from);
    let output = cmd::output(cmd::SYSTEMD_TMPFILES, &args.collect::<Vec<_>>())?;
    match output.code {
        // 65: a line of the image is not understood; the others were carried out (systemd-tmpfiles(8)).
        Some(0 | 65) => Ok(()),
        _ => Err(Failure::new("making the directories of /var", format!("systemd-tmpfiles: {}", output.stderr.trim()))),
    }
}

/// Labels those of the directories that have no label: what was made now, and what an earlier run made that was interrupted. An image
/// without SELinux has no policy to label by.
fn label(root: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new("labelling the directories of /var", error.to_string());
    let root = Root::open(root).map_err(failed)?;
    let Some(selinux) = label::observe(&root).map_err(failed)? else { return Ok(()) };
    let mut unlabelled = Vec::new();
    for name in DIRECTORIES {
        let path = format!("/var/{name}");
        if label::look(&root, &path).map_err(failed)? == Label::Absent {
            unlabelled.push(path);
        }
    }
    if unlabelled.is_empty() {
        return Ok(());
    }
    label::set(&root, &selinux.policy, unlabelled.iter().map(String::as_str)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    /// A root after the pivot: the physical root below `sysroot`, and the links that OSTree makes.
    fn deployed() -> (tempfile::TempDir, Cmdline) {
        let root = tempfile::tempdir().unwrap();
        let physical = root.path().join("sysroot/ostree");
        fs::create_dir_all(physical.join("deploy/nestos/deploy/abc.0/usr")).unwrap();
        fs::create_dir_all(physical.join("deploy/nestos/var")).unwrap();
        fs::create_dir_all(physical.join("boot.1.1/nestos/def")).unwrap();
        fs::create_dir_all(root.path().join("var")).unwrap();
        symlink("boot.1.1", physical.join("boot.1")).unwrap();
        symlink("../../../deploy/nestos/deploy/abc.0", physical.join("boot.1.1/nestos/def/0")).unwrap();
        symlink("sysroot/ostree", root.path().join("ostree")).unwrap();
        (root, Cmdline::parse("rw ostree=/ostree/boot.1/nestos/def/0"))
    }

    #[test]
    fn finds_the_var_of_the_stateroot_through_all_links() {
        let (root, cmdline) = deployed();
        let var = of_deployment(root.path(), &cmdline).unwrap();
        assert_eq!(var, root.path().canonicalize().unwrap().join("sysroot/ostree/deploy/nestos/var"));
    }

    #[test]
    fn refuses_what_names_no_deployment_of_this_root() {
        let (root, _) = deployed();
        symlink("/usr/lib/systemd", root.path().join("outside")).unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        for (cmdline, why) in [
            ("rw", "no ostree= argument"),
            ("ostree=", "no ostree= argument"),
            ("ostree=/ostree/boot.1/nestos/def", "no symbolic link"),
            ("ostree=/ostree/boot.1/nestos/def/1", "no symbolic link"),
            ("ostree=/file/0", "Not a directory"),
            ("ostree=/outside", "leads to"),
        ] {
            let failure = of_deployment(root.path(), &Cmdline::parse(cmdline)).unwrap_err();
            assert!(failure.why.contains(why), "{cmdline}: {failure}");
            assert!(failure.remedy.is_some());
        }
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let (root, cmdline) = deployed();
        let outside = tempfile::tempdir().unwrap();
        fs::remove_dir(root.path().join("var")).unwrap();
        symlink(outside.path(), root.path().join("var")).unwrap();
        for result in [populate(root.path()), bind(root.path(), &cmdline)] {
            assert!(result.unwrap_err().why.contains("is no directory"));
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn binds_writable_below_a_read_only_root_and_lets_go() {
        let test = "ostree::var::tests::inside_a_mount_namespace";
        // Root needs no user namespace, and can't have one in a chroot.
        let rights = if rustix::process::geteuid().is_root() { "--mount" } else { "--map-root-user" };
        let output = Command::new("unshare")
            .args([rights, "--mount"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored"])
            .output()
            .unwrap();
        let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    }

    #[test]
    #[ignore = "run by the test above, which gives it a mount namespace of its own"]
    fn inside_a_mount_namespace() {
        let (root, cmdline) = deployed();
        let root = root.path();
        mount_bind(root.join("sysroot"), root.join("sysroot")).unwrap();
        mount_remount(root.join("sysroot"), MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
        assert!(fs::write(root.join("sysroot/ostree/deploy/nestos/var/x"), "").is_err());

        bind(root, &cmdline).unwrap();
        fs::write(root.join("var/x"), "").unwrap();
        assert!(root.join("sysroot/ostree/deploy/nestos/var/x").exists());

        bind(root, &cmdline).unwrap();
        release(root).unwrap();
        assert!(!root.join("var/x").exists(), "bound twice");
        release(root).unwrap();
        assert!(fs::write(root.join("sysroot/ostree/deploy/nestos/var/y"), "").is_err());
    }

    #[test]
    fn populates_by_the_entries_of_the_image_and_keeps_what_is_there() {
        let (root, _) = deployed();
        let tmpfiles = root.path().join("usr/lib/tmpfiles.d");
        fs::create_dir_all(&tmpfiles).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        fs::write(root.path().join("etc/group"), "root:x:0:\n").unwrap();
        fs::write(
            tmpfiles.join("ostree.conf"),
            "d /var/home 0755 root root -\nd /var/roothome 0700 root root -\nd /var/opt 0755 root root -\nd /var/cache 0755 root root -\n",
        )
        .unwrap();
        fs::DirBuilder::new().mode(0o711).create(root.path().join("var/opt")).unwrap();

        populate(root.path()).unwrap();

        let mode =
            |name: &str| fs::metadata(root.path().join("var").join(name)).map(|metadata| metadata.mode() & 0o7777).ok();
        let modes = ["lib", "log", "home", "roothome", "opt", "cache", "srv"].map(mode);
        assert_eq!(modes, [Some(0o755), Some(0o755), Some(0o755), Some(0o700), Some(0o711), None, None]);
    }
}
