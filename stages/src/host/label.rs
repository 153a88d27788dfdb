// SPDX-License-Identifier: Apache-2.0
//! SELinux labels of the target's files. No policy is loaded while the stages run, so that what is made has no label until
//! `setfiles` gives it the one that the target's policy has for its path.

use std::io;
use std::path::Path;

use fledge_core::diag::Failure;
use fledge_core::facts::Selinux;
use fledge_core::path;
use rustix::fs::{StatVfsMountFlags, lgetxattr, statvfs};
use rustix::io::Errno;

use super::cmd::{self, Arg};
use super::fs::Root;

/// Where the kernel keeps a label (xattr(7)).
const LABEL: &str = "security.selinux";

/// What the target says about SELinux (`selinux_config(5)`); `None` if it has none, or has it disabled.
///
/// # Errors
/// Whatever the operating system says.
pub fn observe(root: &Root) -> io::Result<Option<Selinux>> {
    let config = root.text("/etc/selinux/config")?;
    if setting(&config, "SELINUX=") == Some("disabled") {
        return Ok(None);
    }
    let Some(policy) = setting(&config, "SELINUXTYPE=").filter(|policy| !policy.contains('/') && *policy != "..")
    else {
        return Ok(None);
    };
    let contexts = root.file(&contexts(policy))?.is_some();
    Ok(Some(Selinux { policy: policy.into(), contexts, tool: cmd::find(cmd::SETFILES).is_some() }))
}

/// The last value that isn't empty.
fn setting<'t>(config: &'t str, key: &str) -> Option<&'t str> {
    let values = config.lines().filter_map(|line| line.trim().strip_prefix(key));
    values.map(|value| value.trim().trim_matches('"')).rfind(|value| !value.is_empty())
}

fn contexts(policy: &str) -> String {
    format!("/etc/selinux/{policy}/contexts/files/file_contexts")
}

/// What is known of a label.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Label {
    /// There is one.
    Present,
    /// There is none yet.
    Absent,
    /// Nothing is there that could have one: no file, or a file system without labels.
    Impossible,
}

/// Whether what stands at a path, which has no symbolic links above its last name, has a label.
///
/// # Errors
/// Whatever the operating system says.
pub fn look(root: &Root, path: &str) -> io::Result<Label> {
    match lgetxattr(full(root, path), LABEL, &mut [0_u8; 0][..]) {
        Ok(_) => Ok(Label::Present),
        Err(Errno::NODATA) => Ok(Label::Absent),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::OPNOTSUPP) => Ok(Label::Impossible),
        Err(error) => Err(error.into()),
    }
}

/// The label of what stands at a path, which has no symbolic links above its last name; `None` if there is none.
///
/// # Errors
/// Whatever the operating system says.
pub fn get(root: &Root, path: &str) -> io::Result<Option<Vec<u8>>> {
    // No context of SELinux is longer than a page.
    let mut label = vec![0; 4096];
    match lgetxattr(full(root, path), LABEL, label.as_mut_slice()) {
        Ok(len) => {
            label.truncate(len);
            Ok(Some(label))
        }
        Err(Errno::NODATA | Errno::NOENT | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn full(root: &Root, path: &str) -> std::path::PathBuf {
    root.path().join(path.trim_start_matches('/'))
}

/// Labels what stands at these paths (without symbolic links above their last names), directories with all that is in them.
/// Says whether there was anything.
///
/// # Errors
/// `setfiles` isn't there, or fails.
pub fn set<'p>(root: &Root, policy: &str, paths: impl IntoIterator<Item = &'p str>) -> Result<bool, Failure> {
    let mut input = Vec::new();
    for path in paths {
        let label = look(root, path)
            .map_err(|error| Failure::new(format!("reading the label of {path}"), error.to_string()))?;
        if label != Label::Impossible {
            input.extend_from_slice(full(root, path).as_os_str().as_encoded_bytes());
            input.push(0);
        }
    }
    if input.is_empty() {
        return Ok(false);
    }
    let contexts = full(root, &contexts(policy));
    let args = [Arg::from("-vF0"), "-r".into(), root.path().into(), contexts.as_path().into(), "-f".into(), "-".into()];
    cmd::feed(cmd::SETFILES, &args, &input).map(|_| true)
}

/// Labels a mount point and the directories above it that were made for it: those without a label that hold nothing but the next
/// one. An earlier run that was interrupted may have made them.
///
/// # Errors
/// As [`set`].
pub fn set_mount_point(root: &Root, policy: &str, mount_point: &str) -> Result<(), Failure> {
    let mut made = None;
    for path in [mount_point].into_iter().chain(path::ancestors(mount_point)) {
        let ours = path != "/"
            && look(root, path).is_ok_and(|label| label == Label::Absent)
            && holds_at_most(&full(root, path), usize::from(path != mount_point)).is_ok_and(|holds| holds);
        if !ours {
            break;
        }
        made = Some(path);
    }
    set(root, policy, made).map(drop)
}

/// Labels the root of a file system that holds nothing yet. What holds something has its labels, or is to have none.
///
/// # Errors
/// As [`set`].
pub fn set_empty(root: &Root, policy: &str, mount_point: &str) -> Result<(), Failure> {
    if statvfs(full(root, mount_point)).is_ok_and(|is| is.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        return Ok(());
    }
    let empty = holds_at_most(&full(root, mount_point), 0)
        .map_err(|error| Failure::new(format!("looking into the file system at {mount_point}"), error.to_string()))?;
    if empty { set(root, policy, [mount_point]).map(drop) } else { Ok(()) }
}

/// Whether a directory has no more entries than this, beside the `lost+found` that comes with a file system.
fn holds_at_most(directory: &Path, count: usize) -> io::Result<bool> {
    let mut seen = 0;
    for entry in std::fs::read_dir(directory)? {
        seen += usize::from(entry?.file_name() != "lost+found");
        if seen > count {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_policy_is_the_one_that_the_target_names() {
        for (config, policy) in [
            ("SELINUX=enforcing\nSELINUXTYPE=targeted\n", Some("targeted")),
            ("#SELINUXTYPE=mls\n SELINUXTYPE=\"minimum\" ", Some("minimum")),
            ("SELINUX=permissive\nSELINUXTYPE=mls\nSELINUXTYPE=\n", Some("mls")),
            ("SELINUX=disabled\nSELINUXTYPE=targeted\n", None),
            ("SELINUX=enforcing\n", None),
            ("SELINUXTYPE=../../x\n", None),
            ("", None),
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join("etc/selinux/targeted/contexts/files")).unwrap();
            fs::write(folder.path().join("etc/selinux/config"), config).unwrap();
            fs::write(folder.path().join(contexts("targeted").trim_start_matches('/')), "").unwrap();
            let root = Root::open(folder.path()).unwrap();
            let found = observe(&root).unwrap();
            assert_eq!(found.as_ref().map(|found| found.policy.as_str()), policy, "{config}");
            assert!(found.is_none_or(|found| found.contexts == (found.policy == "targeted")), "{config}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(observe(&Root::open(folder.path()).unwrap()).unwrap(), None);
    }
}
