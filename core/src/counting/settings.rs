// SPDX-License-Identifier: Apache-2.0
//! What the kernel command line says about counting.

use alloc::format;
use alloc::string::String;

use crate::cmdline::Cmdline;

/// `fledge.boot.tries=`: how often a deployment is tried before another one is booted.
pub const TRIES: &str = "fledge.boot.tries";
/// `fledge.boot.count=0`: boots are not counted, and nothing falls back.
pub const COUNT: &str = "fledge.boot.count";

/// What is tried if nobody says otherwise.
const DEFAULT: u32 = 3;
/// More tries than this are a mistake.
const MOST: u32 = 99;

/// Settings of counting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// How often a deployment is tried.
    pub tries: u32,
    /// What of the command line isn't understood, in words.
    pub remark: Option<String>,
}

impl Settings {
    /// Reads them. What isn't understood is left at its default: a boot is never refused because of it.
    pub fn read(cmdline: &Cmdline) -> Self {
        let Some(said) = cmdline.value(TRIES) else { return Self { tries: DEFAULT, remark: None } };
        let tries = said.parse().ok().filter(|tries| (1..=MOST).contains(tries));
        let remark = tries.is_none().then(|| {
            format!(
                "{TRIES}={said}: it is no number from 1 to {MOST}, so each deployment is tried {DEFAULT} times; {COUNT}=0 turns counting off"
            )
        });
        Self { tries: tries.unwrap_or(DEFAULT), remark }
    }
}

/// Words of the command line that start something else than a system: systemd's (`proc-cmdline.c`, `runlevel`), in the initramfs with
/// `rd.` before them. With a value they mean something else: `rd.emergency=reboot` of dracut says what follows a failure.
const REPAIR: [&str; 10] = ["rescue", "emergency", "single", "s", "S", "1", "-s", "-b", "rd.rescue", "rd.emergency"];
/// dracut's, with or without the place where to stop.
const BREAK: &str = "rd.break";
/// The target of the real root, and that of the initramfs.
const UNITS: [&str; 2] = ["systemd.unit", "rd.systemd.unit"];

/// Why boots with this command line aren't counted, if they aren't.
pub fn not_counted(cmdline: &Cmdline) -> Option<&'static str> {
    let repairs = |unit| matches!(cmdline.value(unit), Some("rescue.target" | "emergency.target"));
    let is_repair = || cmdline.iter().any(|(word, value)| word == BREAK || (value.is_none() && REPAIR.contains(&word)));
    if cmdline.flag("ignition.firstboot") {
        Some("it is a first boot")
    } else if cmdline.has(COUNT) && !cmdline.flag(COUNT) {
        Some("the command line says fledge.boot.count=0")
    } else if UNITS.into_iter().any(repairs) || is_repair() {
        Some("the command line asks for a rescue or emergency shell")
    } else {
        None
    }
}
