// SPDX-License-Identifier: Apache-2.0
//! The pivot: which mounts make a deployment the root that systemd switches to.
//!
//! What `ostree-prepare-root` does (`ostree-prepare-root(1)`, OSTree 2021.6 to 2026.4), decided beforehand: the [`Settings`] of the
//! initramfs and the [`Facts`] of the machine become a closed list of [`Step`]s. The physical root is mounted at its place when they
//! begin; when they end, the deployment is, with the physical root below its `sysroot`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::diag::Failure;

mod booted;
mod display;
mod keyfile;
mod settings;
#[cfg(test)]
mod tests;

pub use booted::{Form, Value, identity, serialize, takes_command_line};
pub use keyfile::KeyFile;
pub use settings::{Composefs, FILES, Root, Settings, repository_is_readonly, target};

/// Where the new root is put together.
pub const NEW: &str = "/sysroot.tmp";
/// What the pivot leaves for OSTree, and what only it may look at.
pub const STATE: &str = "/run/ostree";
const PRIVATE: &str = "/run/ostree/.private";
/// The name of a deployment's composefs image.
pub const IMAGE: &str = ".ostree.cfs";
/// What `ostree admin unlock --hotfix` leaves in a deployment.
pub const HOTFIX: &str = ".usr-ovl-work";
/// Asks for `/var` in the initramfs; otherwise OSTree's generator mounts it in the real root.
pub const MOUNT_VAR: &str = "/run/ostree/initramfs-mount-var";
/// Tells OSTree of the pivot.
pub const BOOTED: &str = "/run/ostree-booted";
/// The same until 2023.5, of a read-only physical root.
pub const READONLY_STAMP: &str = "/run/ostree-sysroot-ro.stamp";
/// Tells systemd which device the root is on, where the root itself is no device's.
pub const VOLATILE_ROOT: &str = "/run/systemd/volatile-root";

/// What is known about the machine.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is one thing that was looked at")]
pub struct Facts {
    /// Where the physical root is mounted, and where the deployment will be.
    pub root: String,
    /// The deployment's path below it, with a leading slash.
    pub deployment: String,
    /// The deployment's device and inode.
    pub identity: (u64, u64),
    /// The physical root can be written to.
    pub writable: bool,
    /// The repository's config asks for a read-only physical root.
    pub repository_is_readonly: bool,
    /// The deployment has a composefs image.
    pub image: bool,
    /// The deployment has a hotfix.
    pub hotfix: bool,
    /// `/boot` is a folder of the physical root, with boot entries, and the deployment has a place for it.
    pub own_boot: bool,
    /// Somebody asked for `/var` in the initramfs.
    pub var: bool,
    /// Major and minor number of the device that the physical root is on.
    pub device: Option<(u32, u32)>,
    /// What the deployment's OSTree expects of the initramfs.
    pub form: Form,
    /// Characters that no other pivot of this boot has in its names.
    pub unique: String,
}

/// One thing to do. Paths are the initramfs's own, unless they have no leading slash: then they are below the folder of the last
/// [`Step::Enter`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Make a folder with these permission bits; one that is there is right.
    Directory {
        /// Where.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// Take all mounts out of propagation: shared ones can't be moved.
    Private,
    /// Work in this folder from now on.
    Enter {
        /// Which.
        path: String,
    },
    /// Mount a folder in another place, too.
    Bind {
        /// Which.
        from: String,
        /// Where.
        to: String,
    },
    /// Make a bind mount read-only or writable.
    Remount {
        /// Where.
        at: String,
        /// Whether it is to be read-only.
        readonly: bool,
    },
    /// Make a file system writable that was mounted read-only.
    Writable {
        /// Where it is mounted.
        at: String,
    },
    /// Read an image whole, so that fs-verity has checked every byte of it.
    Verify {
        /// Which.
        image: String,
    },
    /// Mount a composefs image over the repository's objects.
    Composefs {
        /// The image.
        image: String,
        /// Where it is mounted by itself, for a moment.
        lower: String,
        /// The repository's objects.
        objects: String,
        /// Where the whole is mounted.
        at: String,
        /// A folder with `upper` and `work` that takes what is written.
        upper: Option<String>,
        /// Whether it is mounted read-only.
        readonly: bool,
        /// Whether each file must match its digest.
        verity: bool,
    },
    /// Mount an overlay, writable.
    Overlay {
        /// Where.
        at: String,
        /// What it is laid over.
        lower: String,
        /// What takes the changes.
        upper: String,
        /// The overlay's own folder beside it.
        work: String,
    },
    /// Unmount what is there as soon as nobody uses it, and out of sight at once.
    Detach {
        /// Where.
        at: String,
    },
    /// Let mounts come from the other place of a bind mount, and not go back there.
    Receive {
        /// The bind mount.
        at: String,
    },
    /// Make a symbolic link; one that is there stays.
    Link {
        /// Where.
        path: String,
        /// What it points to.
        target: String,
    },
    /// Write a file.
    File {
        /// Where.
        path: String,
        /// Permission bits.
        mode: u32,
        /// What it holds.
        bytes: Vec<u8>,
    },
    /// Move a mount and all below it.
    Move {
        /// From where.
        from: String,
        /// To where.
        to: String,
    },
    /// Remove an empty folder.
    Remove {
        /// Which.
        path: String,
    },
}

/// Steps in their order. It prints as a numbered line a step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

/// Decides how a deployment becomes the root.
///
/// # Errors
/// The settings ask for what the deployment hasn't: a composefs image, or a transient root without one. Or its hotfix can't be mounted.
pub fn plan(settings: Settings, facts: &Facts) -> Result<Plan, Failure> {
    let deployment = format!("{}{}", facts.root, facts.deployment);
    let composefs = match settings.composefs {
        Composefs::No => false,
        Composefs::Maybe => facts.image,
        Composefs::Yes if facts.image => true,
        Composefs::Yes => {
            let failure = Failure::new(
                "preparing the root from a composefs image",
                format!(
                    "the deployment {deployment} has no {IMAGE}: it was deployed without composefs, or it was removed"
                ),
            );
            return Err(failure.remedy(if settings.verity {
                "boot another boot entry, or install again"
            } else {
                "boot another boot entry, or with ostree.prepare-root.composefs=maybe to do without the image"
            }));
        }
    };
    if settings.root != Root::Plain && !composefs {
        return Err(no_image_to_lay_changes_over(settings, &deployment));
    }
    if facts.hotfix && !facts.writable && !facts.form.remount {
        return Err(Failure::new(
            format!("laying the hotfix of {deployment} over its /usr"),
            format!("{} is mounted read-only, and the kernel lays nothing writable over /usr from there", facts.root),
        )
        .remedy("add rw to the kernel arguments"));
    }
    let readonly = settings.readonly.unwrap_or(settings.composefs == Composefs::Yes)
        || (settings.asks_the_repository() && facts.repository_is_readonly);
    Ok(Builder { settings, facts, deployment, composefs, readonly, steps: Vec::new() }.build())
}

fn no_image_to_lay_changes_over(settings: Settings, deployment: &str) -> Failure {
    let what = "preparing a transient root";
    let only = "only a composefs root can be transient";
    if settings.composefs == Composefs::Maybe {
        return Failure::new(what, format!("{only}, and the deployment {deployment} has no {IMAGE}"))
            .remedy("boot another boot entry, or take root.transient and root.transient-ro out of prepare-root.conf");
    }
    Failure::new(what, format!("{only}, and composefs is off")).remedy(
        "turn it on (composefs.enabled in prepare-root.conf, or the kernel argument ostree.prepare-root.composefs), or take \
         root.transient and root.transient-ro out of prepare-root.conf",
    )
}

struct Builder<'a> {
    settings: Settings,
    facts: &'a Facts,
    deployment: String,
    /// The root comes from the image.
    composefs: bool,
    /// The physical root becomes read-only.
    readonly: bool,
    steps: Vec<Step>,
}

impl Builder<'_> {
    fn build(mut self) -> Plan {
        let root = self.facts.root.clone();
        self.directory(STATE, 0o755);
        self.directory(PRIVATE, 0);
        self.steps.push(Step::Private);
        self.directory(NEW, 0o755);
        if self.facts.hotfix && !self.facts.writable {
            self.steps.push(Step::Writable { at: root.clone() });
        }
        self.steps.push(Step::Enter { path: self.deployment.clone() });
        self.root();
        if self.facts.own_boot && !self.facts.form.volatile_root {
            self.bind(format!("{root}/boot"), format!("{NEW}/boot"));
        }
        let etc = (self.readonly || self.composefs).then(|| self.etc()).flatten();
        self.usr();

        self.bind(root.clone(), format!("{NEW}/sysroot"));
        self.steps.push(Step::Detach { at: root.clone() });
        self.steps.push(Step::Enter { path: format!("{NEW}/sysroot{}", self.facts.deployment) });
        if self.readonly {
            self.bind("../../var".into(), "../../var".into());
            self.remount("../../var".into(), false);
        }
        if self.facts.var {
            let at = format!("{NEW}/var");
            self.bind("../../var".into(), at.clone());
            self.steps.push(Step::Receive { at });
        }
        self.booted(etc.as_deref());
        self.steps.push(Step::Move { from: NEW.into(), to: root.clone() });
        // The folder that was entered before is below the one that is removed.
        self.steps.push(Step::Enter { path: root.clone() });
        self.steps.push(Step::Remove { path: NEW.into() });
        if self.readonly {
            self.remount(format!("{root}/sysroot"), true);
        }
        Plan { steps: self.steps }
    }

    fn root(&mut self) {
        if !self.composefs {
            return self.bind(self.deployment.clone(), NEW.into());
        }
        let lower = format!("{PRIVATE}/cfsroot-lower");
        self.directory(&lower, 0o700);
        let upper = (self.settings.root != Root::Plain).then(|| format!("{PRIVATE}/root"));
        if let Some(upper) = &upper {
            self.directory(upper, 0o755);
            self.directory(&format!("{upper}/upper"), 0o755);
            self.directory(&format!("{upper}/work"), 0o700);
        }
        let image = format!("{}/{IMAGE}", self.deployment);
        if self.settings.verity {
            self.steps.push(Step::Verify { image: image.clone() });
        }
        self.steps.push(Step::Composefs {
            image,
            lower,
            objects: format!("{}/ostree/repo/objects", self.facts.root),
            at: NEW.into(),
            upper,
            readonly: self.settings.root != Root::Transient,
            verity: self.settings.verity,
        });
        if let Some((major, minor)) = self.facts.device.filter(|_| self.facts.form.volatile_root) {
            self.directory("/run/systemd", 0o755);
            self.steps.push(Step::Link { path: VOLATILE_ROOT.into(), target: format!("/dev/block/{major}:{minor}") });
        }
    }

    /// The folder that holds a transient `/etc`, if it is one.
    fn etc(&mut self) -> Option<String> {
        let at = format!("{NEW}/etc");
        if !self.settings.transient_etc {
            self.bind("etc".into(), at.clone());
            self.remount(at, false);
            return None;
        }
        let folder = if self.facts.form.unique_etc {
            format!("{STATE}/transient-etc.{}", self.facts.unique)
        } else {
            format!("{STATE}/transient-etc")
        };
        let (upper, work) = (format!("{folder}/upper"), format!("{folder}/work"));
        self.directory(&folder, 0o700);
        self.directory(&upper, 0o755);
        self.directory(&work, 0o755);
        let lower =
            if self.composefs || self.facts.form.unique_etc { format!("{NEW}/usr/etc") } else { "usr/etc".into() };
        self.steps.push(Step::Overlay { at, lower, upper, work });
        Some(folder)
    }

    fn usr(&mut self) {
        let at = format!("{NEW}/usr");
        if self.facts.hotfix {
            self.steps.push(Step::Overlay {
                lower: at.clone(),
                at,
                upper: ".usr-ovl-upper".into(),
                work: HOTFIX.into(),
            });
        } else if !self.composefs {
            self.bind(at.clone(), at.clone());
            self.remount(at, true);
        }
    }

    fn booted(&mut self, etc: Option<&str>) {
        let form = self.facts.form;
        if !form.dictionary {
            self.steps.push(Step::File { path: BOOTED.into(), mode: 0o640, bytes: Vec::new() });
            if self.readonly {
                self.steps.push(Step::File { path: READONLY_STAMP.into(), mode: 0o644, bytes: Vec::new() });
            }
            return;
        }
        let mut entries = Vec::new();
        if form.identity {
            let (device, inode) = self.facts.identity;
            entries.push(("backing-root-device-inode", Value::Pair(device, inode)));
        }
        let transient = |entries: &mut Vec<_>| {
            if form.transient {
                entries.push(("root.transient", Value::Boolean(self.settings.root != Root::Plain)));
            }
        };
        if form.transient_ro {
            transient(&mut entries);
            entries.push(("root.transient-ro", Value::Boolean(self.settings.root == Root::TransientReadOnly)));
        }
        if self.composefs {
            entries.push(("composefs", Value::Boolean(true)));
            entries.push(("composefs.verity", Value::Boolean(self.settings.verity)));
        }
        if !form.transient_ro {
            transient(&mut entries);
        }
        entries.push(("sysroot-ro", Value::Boolean(self.readonly)));
        entries.extend(etc.map(|folder| ("transient-etc", Value::Text(folder))));
        self.steps.push(Step::File { path: BOOTED.into(), mode: 0o644, bytes: serialize(&entries) });
    }

    fn directory(&mut self, path: &str, mode: u32) {
        self.steps.push(Step::Directory { path: path.into(), mode });
    }

    fn bind(&mut self, from: String, to: String) {
        self.steps.push(Step::Bind { from, to });
    }

    fn remount(&mut self, at: String, readonly: bool) {
        self.steps.push(Step::Remount { at, readonly });
    }
}
