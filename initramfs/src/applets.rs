// SPDX-License-Identifier: Apache-2.0
//! The table of applets. The program's own name decides first, then its first argument.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use crate::{apply, boot, firstboot, ignition, kargs, out, plan, report, validate};

/// Success, a failure of what was asked for, a command line that can't be understood, a machine that can't be worked on:
/// the exit codes of upstream's programs.
pub(crate) mod exit {
    /// What was asked for failed.
    pub(crate) const FAILED: u8 = 1;
    /// The command line can't be understood.
    pub(crate) const USAGE: u8 = 2;
    /// The program could not set itself up.
    pub(crate) const SETUP: u8 = 3;
}

/// One applet.
struct Applet {
    /// Its name, as `fledge NAME` or as the program's own name.
    name: &'static str,
    /// Where a distribution links it, if it goes by its own name.
    link: Option<&'static str>,
    /// What it does, for `fledge --help`.
    summary: &'static str,
    /// Runs it with the arguments behind its name.
    run: fn(&[OsString]) -> ExitCode,
}

const APPLETS: &[Applet] = &[
    Applet {
        name: "ignition",
        link: Some("/usr/bin/ignition"),
        summary: "run one stage of a first boot, with upstream's command line",
        run: ignition::run,
    },
    Applet {
        name: "ignition-kargs-helper",
        // No link: the initramfs has a script of that name, which a distribution's module may copy its own program over.
        link: None,
        summary: "put kernel arguments into the boot entries, and ask for a reboot",
        run: kargs::helper,
    },
    Applet { name: "kargs-reboot", link: None, summary: "boot once more for all who asked for it", run: kargs::reboot },
    Applet {
        name: "firstboot-complete",
        link: None,
        summary: "in the real root: remove the first-boot stamp and the installer's config, keep the report",
        run: firstboot::run,
    },
    Applet {
        name: "ignition-generator",
        // Only the initramfs has this link: the dracut module makes it.
        link: None,
        summary: "for systemd: which targets this boot runs",
        run: boot::generator,
    },
    Applet {
        name: "fledge-boot-mount-generator",
        link: Some("/usr/lib/systemd/system-generators/fledge-boot-mount-generator"),
        summary: "for systemd in the real root: mount /boot",
        run: boot::mount_generator,
    },
    Applet {
        name: "user-config",
        link: None,
        summary: "copy the config that an installer left to where fetch-offline looks for it",
        run: boot::user_config,
    },
    Applet {
        name: "ostree-var",
        link: None,
        summary: "bind, fill or let go of the deployment's /var",
        run: boot::ostree_var,
    },
    Applet {
        name: "boot-select",
        link: None,
        summary: "count this boot, or let another deployment boot in its stead",
        run: boot::boot_select,
    },
    Applet {
        name: "pivot",
        link: None,
        summary: "make the deployment of the command line the root that is switched to",
        run: boot::pivot,
    },
    Applet {
        name: "root",
        link: None,
        summary: "give the root's disk its own UUIDs, grow the root, or tell later boots of it",
        run: boot::root,
    },
    Applet {
        name: "state-overlays",
        link: None,
        summary: "mount or let go of the deployment's overlays that keep their changes in /var",
        run: boot::state_overlays,
    },
    Applet {
        name: "boot-device",
        link: None,
        summary: "tell which disk the machine boots from, and stop if it can't be told",
        run: boot::boot_device,
    },
    Applet {
        name: "network-handover",
        link: None,
        summary: "copy an installer's network files, or hand the network over to the real root",
        run: boot::network_handover,
    },
    Applet {
        name: "installer-refused",
        link: None,
        summary: "say that this build has no installer, and fail",
        run: boot::installer_refused,
    },
    Applet { name: "failure", link: None, summary: "tell the consoles why the boot stopped", run: boot::failure },
    Applet {
        name: "ignition-validate",
        link: Some("/usr/bin/ignition-validate"),
        summary: "say what is wrong with a config, with upstream's command line",
        run: validate::run,
    },
    Applet {
        name: "ignition-apply",
        link: Some("/usr/libexec/ignition-apply"),
        summary: "apply a config while an image is built in a container",
        run: apply::apply,
    },
    Applet {
        name: "ignition-rmcfg",
        link: Some("/usr/libexec/ignition-rmcfg"),
        summary: "remove the config from the platform, where guests could read it",
        run: apply::rmcfg,
    },
    Applet { name: "validate", link: None, summary: "the same, as fledge validate CONFIG", run: validate::run },
    Applet { name: "plan", link: None, summary: "print what each stage would do with a config", run: plan::plan },
    Applet {
        name: "facts",
        link: None,
        summary: "print what a plan needs to know about this machine",
        run: plan::facts,
    },
    Applet { name: "report", link: None, summary: "print the report of the first boot as a table", run: report::run },
];

/// Runs the applet that the arguments name.
pub(crate) fn dispatch(args: &[OsString]) -> ExitCode {
    let own_name = args.first().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str).unwrap_or_default();
    if let Some(applet) = find(own_name) {
        return (applet.run)(args.get(1..).unwrap_or_default());
    }
    let asked = args.get(1).and_then(|name| name.to_str()).unwrap_or_default();
    if let Some(applet) = find(asked) {
        return (applet.run)(args.get(2..).unwrap_or_default());
    }
    match asked {
        "--list-applets" => list(),
        "--version" => out::line(fledge_stages::report::PROGRAM),
        "--help" | "-h" => out::line(help().trim_end()),
        "" => out::usage(help().trim_end()),
        other => out::usage(&format!("fledge: there is no applet {other:?}\n\n{}", help().trim_end())),
    }
}

fn find(name: &str) -> Option<&'static Applet> {
    APPLETS.iter().find(|applet| applet.name == name)
}

/// A line an applet: its name and, where it goes by its own name, where it is linked.
fn list() -> ExitCode {
    let line = |applet: &Applet| [applet.name, applet.link.unwrap_or_default()].join(" ").trim_end().to_owned();
    out::line(&APPLETS.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn help() -> String {
    let usage = "usage: fledge APPLET [ARGUMENT...]\n       fledge --list-applets | --version\n\n";
    let line = |applet: &Applet| format!("  {:<20} {}\n", applet.name, applet.summary);
    [usage.to_owned()].into_iter().chain(APPLETS.iter().map(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_links_end_in_them() {
        for (index, applet) in APPLETS.iter().enumerate() {
            assert!(APPLETS[index + 1..].iter().all(|other| other.name != applet.name), "{}", applet.name);
            if let Some(link) = applet.link {
                assert_eq!(Path::new(link).file_name().and_then(OsStr::to_str), Some(applet.name));
            }
        }
    }
}
