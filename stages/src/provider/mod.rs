// SPDX-License-Identifier: Apache-2.0
//! Where configurations come from.
//!
//! The operator's is the first of: the kernel command line ([`cmdline`]), `user.ign` ([`system`]), the platform. The
//! distribution's are always merged in: `base.d` and `base.platform.d` ([`system`]).
//!
//! A platform is one row of [`PLATFORMS`] and one module with a function that says what text the platform holds. To add one, write
//! that function, pure where it reads what the platform answers, give it tests with recorded answers, and add the row.

pub mod cmdline;
pub mod disk;
mod file;
mod qemu;
pub mod system;

use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use fledge_core::diag::{Failure, Place};

use crate::fetch;
use crate::host::{environment, module};

/// No configuration is longer. It bounds the memory that a wrong URL or device can cost.
pub const LIMIT: u64 = 64 << 20;

/// A configuration as it was found.
#[derive(Clone, Eq, PartialEq)]
pub struct Raw {
    /// How a person would name it, without secrets.
    pub name: String,
    /// Its text. A platform that holds nothing for this machine gives none.
    pub text: Vec<u8>,
}

impl fmt::Debug for Raw {
    /// Without the text, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.name, self.text.len())
    }
}

/// A platform.
#[derive(Clone, Copy, Debug)]
pub struct Platform {
    /// Its id on the kernel command line, `ignition.platform.id=`.
    pub id: &'static str,
    /// Where it keeps the configuration, in a few words.
    pub keeps: &'static str,
    /// Whether asking takes a network.
    pub needs_network: bool,
    /// Kernel modules that asking takes.
    pub modules: &'static [&'static str],
    /// Asks it.
    pub ask: fn(&Surroundings) -> Result<Raw, Failure>,
}

/// All platforms of this build.
pub const PLATFORMS: &[Platform] = &[
    Platform {
        id: "file",
        keeps: "the file config.ign, or the one that IGNITION_CONFIG_FILE names",
        needs_network: false,
        modules: &[],
        ask: file::ask,
    },
    Platform {
        id: "metal",
        keeps: "nothing: the kernel command line or user.ign has it",
        needs_network: false,
        modules: &[],
        ask: |_| Ok(Raw { name: "metal".into(), text: Vec::new() }),
    },
    Platform {
        id: "qemu",
        keeps: "QEMU's firmware device, as opt/com.coreos/config",
        needs_network: false,
        modules: &[qemu::MODULE],
        ask: qemu::ask,
    },
];

/// Platforms that Ignition knows and this build doesn't yet.
pub const LATER: &[&str] = &[
    "akamai",
    "aliyun",
    "applehv",
    "aws",
    "azure",
    "azurestack",
    "brightbox",
    "cloudstack",
    "digitalocean",
    "exoscale",
    "gcp",
    "hetzner",
    "hyperv",
    "ibmcloud",
    "kubevirt",
    "nutanix",
    "nvidiabluefield",
    "openstack",
    "oraclecloud",
    "packet",
    "powervs",
    "proxmoxve",
    "scaleway",
    "upcloud",
    "virtualbox",
    "vmware",
    "vultr",
    "zvm",
];

/// Finds a platform.
///
/// # Errors
/// There is none of that id, or none yet.
pub fn platform(id: &str) -> Result<&'static Platform, Failure> {
    if let Some(platform) = PLATFORMS.iter().find(|platform| platform.id == id) {
        return Ok(platform);
    }
    let known: Vec<_> = PLATFORMS.iter().map(|platform| platform.id).collect();
    let why = if LATER.contains(&id) {
        "support for it comes with a later build".to_owned()
    } else {
        format!("no such platform is known; those of later builds are {}", LATER.join(", "))
    };
    Err(Failure::new(format!("finding the platform {id:?}"), why)
        .at(Place {
            source: "the kernel command line or --platform".into(),
            path: "ignition.platform.id".into(),
            position: None,
        })
        .remedy(format!("set ignition.platform.id to one of {}", known.join(", "))))
}

/// Platforms whose configuration can be removed from where guests could read it later.
const REMOVABLE: &[&str] = &["virtualbox", "vmware"];

/// Removes the configuration from the platform, where guests could read it later (CVE-2022-1706). Most keep none that can be
/// removed, and there is nothing to do then.
///
/// # Errors
/// There is no such platform, or this build can't do it there.
pub fn remove_config(id: &str) -> Result<(), Failure> {
    log::info!("{}", crate::report::PROGRAM);
    if let Err(failure) = platform(id) {
        if !LATER.contains(&id) || REMOVABLE.contains(&id) {
            return Err(failure);
        }
    }
    log::info!("Successfully deleted config");
    Ok(())
}

/// Whether Ignition knows a platform of that id.
pub fn is_platform(id: &str) -> bool {
    LATER.contains(&id) || PLATFORMS.iter().any(|platform| platform.id == id)
}

/// Where providers look, so that tests can show them other places.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The directories of `user.ign`, `base.d` and `base.platform.d`, highest first.
    pub config_dirs: [PathBuf; 3],
    /// The links to block devices by the labels of their file systems.
    pub by_label: PathBuf,
    /// How long a disk with a configuration is waited for.
    pub patience: Duration,
    /// The file of the platform `file`.
    pub config_file: PathBuf,
    /// The top of the firmware device's files.
    pub fw_cfg: PathBuf,
    /// How kernel modules are loaded.
    pub load_module: fn(&str) -> Result<(), Failure>,
}

impl Surroundings {
    /// Those of this machine. Like Ignition, it takes an empty variable for none.
    pub fn from_environment() -> Self {
        Self {
            config_dirs: [
                environment::path("IGNITION_SYSTEM_RUNTIME_CONFIG_DIR", "/run/ignition"),
                environment::path("IGNITION_SYSTEM_LOCAL_CONFIG_DIR", "/etc/ignition"),
                environment::path("IGNITION_SYSTEM_CONFIG_DIR", "/usr/lib/ignition"),
            ],
            by_label: "/dev/disk/by-label".into(),
            patience: disk::PATIENCE,
            config_file: environment::path("IGNITION_CONFIG_FILE", "config.ign"),
            fw_cfg: "/sys/firmware/qemu_fw_cfg".into(),
            load_module: module::load,
        }
    }
}

/// Reads a configuration to its end.
///
/// # Errors
/// Whatever the operating system says; it is longer than [`LIMIT`].
pub fn read_text(file: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LIMIT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is over {} MiB long", LIMIT >> 20)));
    }
    Ok(text)
}

/// Decompresses a configuration that is gzip data, by the first two bytes of such (RFC 1952, section 2.3.1).
///
/// # Errors
/// The data is damaged, or too long.
pub fn decompress(raw: Raw) -> Result<Raw, Failure> {
    if !raw.text.starts_with(&[0x1f, 0x8b]) {
        return Ok(raw);
    }
    let text = fetch::gunzip(&raw.text, LIMIT).map_err(|why| {
        Failure::new(format!("decompressing the configuration {}", raw.name), why)
            .remedy("compress it again, or give it as it is")
    })?;
    Ok(Raw { text, ..raw })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_tells_what_it_lacks() {
        let ids: Vec<_> = PLATFORMS.iter().map(|platform| platform.id).collect();
        assert!(ids.is_sorted() && LATER.is_sorted());
        assert!(!LATER.iter().any(|later| ids.contains(later)));
        assert_eq!(platform("qemu").unwrap().id, "qemu");
        let text = platform("aws").unwrap_err().to_string();
        assert!(text.contains("later build") && text.contains("file, metal, qemu"), "{text}");
        let text = platform("../../etc").unwrap_err().to_string();
        assert!(text.contains("no such platform") && text.contains("openstack"), "{text}");
    }

    #[test]
    fn only_where_a_config_can_be_removed_has_it_to_be() {
        assert!(REMOVABLE.iter().all(|id| is_platform(id)));
        for id in ["qemu", "metal", "file", "aws", "openstack"] {
            assert_eq!(remove_config(id), Ok(()), "{id}");
        }
        for id in ["vmware", "virtualbox", "none"] {
            assert!(remove_config(id).is_err(), "{id}");
        }
    }

    #[test]
    fn compressed_configurations_are_read() {
        let raw = |text: &[u8]| Raw { name: "test".into(), text: text.to_vec() };
        let packed = fetch::gzip_for_tests(b"{}");
        assert_eq!(decompress(raw(&packed)).unwrap().text, b"{}");
        assert_eq!(decompress(raw(b"{}")).unwrap().text, b"{}");
        assert_eq!(decompress(raw(b"")).unwrap().text, b"");
        assert!(decompress(raw(&packed[..packed.len() - 1])).unwrap_err().why.contains("damaged"));
    }
}
