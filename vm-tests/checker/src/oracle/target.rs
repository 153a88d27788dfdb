// SPDX-License-Identifier: Apache-2.0
//! The target root of one config: a small tree with accounts files in a tmpfs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

const FOLDERS: &[&str] = &[
    "dev",
    "etc",
    "etc/skel",
    "etc/systemd/system",
    "home",
    "opt",
    "proc",
    "root",
    "run",
    "sys",
    "usr/bin",
    "usr/lib/systemd/system",
    "usr/sbin",
    "var/home",
    "var/lib",
];

/// Path, permissions, contents.
const FILES: &[(&str, u32, &str)] = &[
    (
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
         finch:x:1000:1000:A finch:/home/finch:/bin/bash\n",
    ),
    ("etc/shadow", 0o640, "root:*:20000:0:99999:7:::\ndaemon:*:20000:0:99999:7:::\nfinch:*:20000:0:99999:7:::\n"),
    (
        "etc/group",
        0o644,
        "root:x:0:\ndaemon:x:1:\nadm:x:4:\nsudo:x:27:\nusers:x:100:\ndocker:x:983:finch\nwheel:x:982:\nfinch:x:1000:\n",
    ),
    (
        "etc/gshadow",
        0o640,
        "root:*::\ndaemon:*::\nadm:*::\nsudo:*::\nusers:*::\ndocker:!::finch\nwheel:!::\nfinch:!::\n",
    ),
    (
        "etc/login.defs",
        0o644,
        "MAIL_DIR /var/mail\nUID_MIN 1000\nUID_MAX 60000\nSYS_UID_MIN 201\nSYS_UID_MAX 999\nGID_MIN 1000\nGID_MAX 60000\n\
         SYS_GID_MIN 201\nSYS_GID_MAX 999\nPASS_MAX_DAYS 99999\nPASS_MIN_DAYS 0\nPASS_WARN_AGE 7\nUSERGROUPS_ENAB yes\n\
         CREATE_HOME yes\nHOME_MODE 0700\nENCRYPT_METHOD YESCRYPT\n",
    ),
    ("etc/default/useradd", 0o644, "SHELL=/bin/bash\nHOME=/home\nCREATE_MAIL_SPOOL=no\n"),
    ("etc/skel/.profile", 0o644, "umask 022\n"),
    ("etc/.pwd.lock", 0o600, ""),
    ("etc/subuid", 0o644, "finch:100000:65536\n"),
    ("etc/subgid", 0o644, "finch:100000:65536\n"),
    // Debian's build labels whatever it writes, and fails where there is no policy.
    ("etc/selinux/config", 0o644, "SELINUX=enforcing\nSELINUXTYPE=oracle\n"),
    ("etc/selinux/oracle/contexts/files/file_contexts", 0o644, CONTEXTS),
    ("etc/selinux/oracle/contexts/files/file_contexts.subs_dist", 0o644, "/var/home /home\n/var/roothome /root\n"),
    ("usr/lib/os-release", 0o644, "ID=fledge-test-target\n"),
    (
        "usr/lib/systemd/system/there.service",
        0o644,
        "[Service]\nExecStart=true\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "usr/lib/systemd/system/many@.service",
        0o644,
        "[Service]\nExecStart=true\n[Install]\nWantedBy=multi-user.target\n",
    ),
];

/// A policy's labels, as `setfiles` reads them.
const CONTEXTS: &str = "/.*\tsystem_u:object_r:default_t:s0
/\t-d\tsystem_u:object_r:root_t:s0
/etc(/.*)?\tsystem_u:object_r:etc_t:s0
/etc/g?shadow.*\t--\tsystem_u:object_r:shadow_t:s0
/etc/systemd/system(/.*)?\tsystem_u:object_r:systemd_unit_t:s0
/home(/.*)?\tsystem_u:object_r:user_home_t:s0
/home/[^/]+/\\.ssh(/.*)?\tsystem_u:object_r:ssh_home_t:s0
/opt(/.*)?\tsystem_u:object_r:usr_t:s0
/var(/.*)?\tsystem_u:object_r:var_t:s0
/var/lib/cache\t-d\tsystem_u:object_r:cache_t:s0
";

/// Makes the tree.
pub(super) fn make(root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", "mode=0755", "tmpfs"]).arg(root).status()?;
    ensure!(status.success(), "can't mount a tmpfs for the target");
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder))?;
    }
    for (path, mode, text) in FILES {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(*mode))?;
    }
    let home = root.join("home/finch");
    fs::create_dir(&home)?;
    std::os::unix::fs::chown(&home, Some(1000), Some(1000))?;
    Ok(())
}

/// Unmounts the tree and whatever is mounted below it.
pub(super) fn remove(root: &Path) -> Result<()> {
    for point in super::facts::points(root)?.iter().rev() {
        let status = Command::new("umount").arg(point).status()?;
        ensure!(status.success(), "can't unmount {}", point.display());
    }
    Ok(())
}
