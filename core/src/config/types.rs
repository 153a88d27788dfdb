// SPDX-License-Identifier: Apache-2.0
//! The types of the newest specification that Fledge reads, one file a section.
//!
//! Fields are in the order in which Ignition writes them into its cache. Optional fields are `Option`; required strings are
//! plain and empty when they are missing, which checking refuses. Numbers are Go's `int`.

mod ignition;
mod kernel_arguments;
mod luks;
mod passwd;
mod resource;
mod storage;
mod systemd;

pub use ignition::{Ignition, IgnitionConfig, Proxy, Security, Timeouts, Tls};
pub use kernel_arguments::{KernelArgument, KernelArguments};
pub use luks::{Cex, Clevis, ClevisCustom, Luks, Tang};
pub use passwd::{Passwd, PasswdGroup, PasswdUser};
pub use resource::{HttpHeader, Resource, Verification};
pub use storage::{Directory, Disk, File, Filesystem, Link, NodeGroup, NodeUser, Partition, Raid, Storage};
pub use systemd::{Dropin, Systemd, Unit};

use super::section::section;

section! {
    /// A whole configuration.
    pub part Config {
        /// About the configuration itself, and how to fetch what it refers to.
        ignition: Ignition = "ignition", V3_0;
        /// What the kernel is to be started with.
        kernel_arguments: KernelArguments = "kernelArguments", V3_3;
        /// Users and groups.
        passwd: Passwd = "passwd", V3_0;
        /// Disks, file systems, and what is on them.
        storage: Storage = "storage", V3_0;
        /// Units.
        systemd: Systemd = "systemd", V3_0;
    }
}
