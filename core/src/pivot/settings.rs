// SPDX-License-Identifier: Apache-2.0
//! What decides how a deployment becomes the root: `prepare-root.conf` of the initramfs and the kernel command line
//! (`ostree-prepare-root(1)`, OSTree 2026.4).

use alloc::format;
use alloc::string::String;

use super::keyfile::KeyFile;
use crate::cmdline::Cmdline;
use crate::diag::Failure;

/// The argument that names the deployment's link below the physical root.
const TARGET: &str = "ostree";
/// The argument that overrides `composefs.enabled`.
const COMPOSEFS: &str = "ostree.prepare-root.composefs";

/// The places of `prepare-root.conf`. The last one that exists counts, whole: a later one doesn't add to an earlier one.
pub const FILES: [&str; 2] = ["/usr/lib/ostree/prepare-root.conf", "/etc/ostree/prepare-root.conf"];

/// Whether the root comes from the deployment's composefs image.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Composefs {
    /// Never.
    #[default]
    No,
    /// If the deployment has one.
    Maybe,
    /// Always.
    Yes,
}

/// Whether what is written to the root is kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Root {
    /// As the deployment has it.
    #[default]
    Plain,
    /// Writable, until the machine reboots.
    Transient,
    /// The same, mounted read-only.
    TransientReadOnly,
}

/// The settings of a pivot.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// Whether there is a composefs root.
    pub composefs: Composefs,
    /// Every file of it must match its digest.
    pub verity: bool,
    /// Whether the physical root is read-only, if the file says so.
    pub readonly: Option<bool>,
    /// Whether changes of `/etc` are lost with a reboot.
    pub transient_etc: bool,
    /// Whether changes of the root are.
    pub root: Root,
}

impl Settings {
    /// Reads the settings from the file's name and text, if there is one, and the command line.
    ///
    /// # Errors
    /// The file can't be understood, contradicts itself, or asks for signatures, which only OSTree's own program checks.
    pub fn read(file: Option<(&str, &str)>, cmdline: &Cmdline) -> Result<Self, Failure> {
        let (name, text) = file.unwrap_or_default();
        let wrong = |why: String| Failure::new(format!("reading {name}"), why).remedy(REMEDY);
        let keys = KeyFile::parse(text).map_err(wrong)?;
        let boolean = |group: &str, key: &str| keys.boolean(group, key).map_err(wrong);
        let on = |group: &str, key: &str| boolean(group, key).map(|value| value == Some(true));

        let root = match (on("root", "transient")?, on("root", "transient-ro")?) {
            (true, true) => return Err(wrong("it has both root.transient and root.transient-ro".into())),
            (true, false) => Root::Transient,
            (false, true) => Root::TransientReadOnly,
            (false, false) => Root::Plain,
        };
        let (mut verity, mut signed) = (false, false);
        let mut composefs = match keys.value("composefs", "enabled") {
            None => Composefs::No,
            Some("verity") => {
                verity = true;
                Composefs::Yes
            }
            Some("signed") => {
                signed = true;
                Composefs::Yes
            }
            Some(value) => tristate(value).ok_or_else(|| {
                wrong(format!("composefs.enabled is {value:?}, which is none of yes, no, maybe, verity and signed"))
            })?,
        };
        // The first of several counts here. It leaves alone whether digests must match.
        match cmdline.values(COMPOSEFS).next() {
            None => {}
            Some("signed") => signed = true,
            Some(value) => {
                verity |= signed;
                signed = false;
                composefs = tristate(value).ok_or_else(|| {
                    Failure::new(
                        format!("reading the kernel argument {COMPOSEFS}"),
                        format!("{value:?} is none of yes, no, maybe and signed"),
                    )
                    .remedy("correct it or take it off the command line")
                })?;
            }
        }
        if signed {
            let (by, instead) = if cmdline.values(COMPOSEFS).next().is_some() {
                (COMPOSEFS, "take that argument, which goes before prepare-root.conf, off the command line")
            } else {
                (name, "set composefs.enabled=verity there, which checks no signature")
            };
            return Err(Failure::new(
                "preparing the root from a signed composefs image",
                format!(
                    "{by} asks for it, but only OSTree's own ostree-prepare-root checks signatures, and this initramfs pivots with fledge"
                ),
            )
            .remedy(format!("build the initramfs with fledge_pivot=ostree (dracut.conf), or {instead}")));
        }
        let (readonly, transient_etc) = (boolean("sysroot", "readonly")?, on("etc", "transient")?);
        Ok(Self { composefs, verity, readonly, transient_etc, root })
    }

    /// Whether what the repository's config says of the physical root makes a difference.
    pub fn asks_the_repository(self) -> bool {
        self.composefs != Composefs::Yes && self.readonly != Some(true)
    }
}

const REMEDY: &str = "correct that file and build the initramfs again";

/// The value of the kernel argument `ostree=`; the first of several counts, as OSTree's own programs have it.
pub fn target(cmdline: &Cmdline) -> Option<&str> {
    cmdline.values(TARGET).next().filter(|value| !value.is_empty())
}

/// Whether the repository's config asks for a read-only physical root. `Err` says why it can't be understood, which counts as no.
///
/// # Errors
/// As [`KeyFile::parse`] and [`KeyFile::boolean`].
pub fn repository_is_readonly(config: &str) -> Result<bool, String> {
    KeyFile::parse(config)?.boolean("sysroot", "readonly").map(|value| value == Some(true))
}

fn tristate(value: &str) -> Option<Composefs> {
    match value {
        "yes" | "true" | "1" => Some(Composefs::Yes),
        "no" | "false" | "0" => Some(Composefs::No),
        "maybe" => Some(Composefs::Maybe),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, cmdline: &str) -> Result<Settings, Failure> {
        Settings::read(Some((FILES[1], text)), &Cmdline::parse(cmdline))
    }

    #[test]
    fn no_file_means_no_composefs_and_nothing_transient() {
        assert_eq!(Settings::read(None, &Cmdline::parse("quiet")).unwrap(), Settings::default());
        assert_eq!(read("", "").unwrap(), Settings::default());
    }

    #[test]
    fn every_key_is_read() {
        let text = "[sysroot]\nreadonly=true\n[etc]\ntransient=true\n[root]\ntransient-ro=1\n[composefs]\nenabled=verity\nkeypath=/x\n";
        let expected = Settings {
            composefs: Composefs::Yes,
            verity: true,
            readonly: Some(true),
            transient_etc: true,
            root: Root::TransientReadOnly,
        };
        assert_eq!(read(text, "").unwrap(), expected);
        assert_eq!(read("[root]\ntransient=true\n", "").unwrap().root, Root::Transient);
        assert_eq!(read("[sysroot]\nreadonly=0\n", "").unwrap().readonly, Some(false));
    }

    #[test]
    fn composefs_is_decided_by_the_file_and_overridden_by_the_command_line() {
        use Composefs::{Maybe, No, Yes};
        for (file, argument, composefs, verity) in [
            ("yes", "", Yes, false),
            ("1", "", Yes, false),
            ("maybe", "", Maybe, false),
            ("no", "", No, false),
            ("verity", "", Yes, true),
            ("no", "yes", Yes, false),
            ("yes", "no", No, false),
            ("verity", "maybe", Maybe, true),
            ("signed", "yes", Yes, true),
            ("yes", "no ostree.prepare-root.composefs=yes", No, false),
        ] {
            let argument = if argument.is_empty() { String::new() } else { format!("{COMPOSEFS}={argument}") };
            let settings = read(&format!("[composefs]\nenabled={file}\n"), &argument).unwrap();
            assert_eq!((settings.composefs, settings.verity), (composefs, verity), "{file}, {argument}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_what_to_do() {
        for (text, cmdline, why) in [
            ("[composefs]\nenabled=always\n", "", "composefs.enabled is \"always\""),
            ("[root]\ntransient=true\ntransient-ro=true\n", "", "both root.transient and root.transient-ro"),
            ("[sysroot]\nreadonly=yes\n", "", "sysroot.readonly is \"yes\""),
            ("readonly=true\n", "", "line 1: a key comes before the first group"),
            ("", "ostree.prepare-root.composefs=verity", "\"verity\" is none of"),
            ("[composefs]\nenabled=signed\n", "", "/etc/ostree/prepare-root.conf asks for it, but only OSTree's own"),
            (
                "",
                "ostree.prepare-root.composefs=signed",
                "ostree.prepare-root.composefs asks for it, but only OSTree's",
            ),
        ] {
            let failure = read(text, cmdline).unwrap_err();
            assert!(failure.why.contains(why), "{failure}");
            assert!(failure.remedy.is_some(), "{failure}");
        }
    }

    #[test]
    fn the_first_ostree_argument_counts() {
        let target = |text: &str| target(&Cmdline::parse(text)).map(String::from);
        assert_eq!(target("ostree=/a ostree=/b"), Some("/a".into()));
        assert_eq!(target("ostree.x=/a ostree="), None);
        assert_eq!(target("ostree"), None);
    }

    #[test]
    fn a_repository_says_whether_the_physical_root_is_read_only() {
        assert_eq!(repository_is_readonly("[core]\nmode=bare\n[sysroot]\nreadonly=true\n"), Ok(true));
        assert_eq!(repository_is_readonly("[core]\nreadonly=true\n"), Ok(false));
        assert!(repository_is_readonly("[sysroot]\nreadonly=yes\n").is_err());
    }
}
