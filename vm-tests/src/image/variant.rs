// SPDX-License-Identifier: Apache-2.0
//! The systems that there are, and in what they differ.

use serde::{Deserialize, Serialize};

use super::recipe::{self, Less};

/// The systems that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Debian 13 with its OSTree, and an XFS root as NestOS has it.
    #[default]
    Plain,
    /// The same with a newer OSTree, composefs turned on, and an ext4 root that knows fs-verity.
    Composefs,
    /// The first with the companion and a journal that is kept on disk, and with less beside them: its cases boot often.
    Companion,
}

impl Variant {
    /// How its system layer is called, and the one with its Debian.
    pub(super) fn layers(self) -> (&'static str, &'static str) {
        match self {
            Self::Plain => ("system", "rootfs"),
            Self::Composefs => ("system-composefs", "rootfs-composefs"),
            Self::Companion => ("system-companion", "rootfs"),
        }
    }

    /// Files that it alone has: path, contents.
    pub(super) fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Plain => recipe::PLAIN_FILES,
            Self::Composefs => recipe::COMPOSEFS_FILES,
            Self::Companion => recipe::COMPANION_FILES,
        }
    }

    /// Files that are other ones in its deployment than in its initramfs.
    pub(super) fn deployed(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Plain | Self::Companion => &[],
            Self::Composefs => recipe::COMPOSEFS_DEPLOYED,
        }
    }

    /// What is taken away from its system.
    pub(super) fn less(self) -> &'static Less {
        match self {
            Self::Plain | Self::Composefs => &Less { packages: &[], modules: &[], drivers: &[], units: &[] },
            Self::Companion => &recipe::COMPANION_LESS,
        }
    }

    /// The dracut modules of its initramfs, beside ours.
    pub(super) fn modules(self) -> Vec<&'static str> {
        without(recipe::DRACUT_MODULES, self.less().modules)
    }

    /// The kernel modules of its initramfs, beside what dracut finds by itself.
    pub(super) fn drivers(self) -> Vec<&'static str> {
        without(recipe::DRIVERS, self.less().drivers)
    }

    /// The kernel arguments of its boot entry.
    pub(super) fn arguments(self) -> Vec<&'static str> {
        let own = match self {
            Self::Plain | Self::Composefs => &[],
            Self::Companion => recipe::COMPANION_ARGUMENTS,
        };
        [recipe::KERNEL_ARGUMENTS, own].concat()
    }
}

/// The items of a list that aren't in another one.
pub(super) fn without(list: &[&'static str], less: &[&str]) -> Vec<&'static str> {
    list.iter().filter(|item| !less.contains(item)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_away_that_isn_t_there() {
        for variant in [Variant::Plain, Variant::Composefs, Variant::Companion] {
            let less = variant.less();
            for (list, part) in [
                (recipe::ROOTFS_PACKAGES, less.packages),
                (recipe::DRACUT_MODULES, less.modules),
                (recipe::DRIVERS, less.drivers),
            ] {
                assert_eq!(without(list, part).len(), list.len() - part.len(), "{variant:?}: {part:?}");
            }
        }
    }
}
