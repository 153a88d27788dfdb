// SPDX-License-Identifier: Apache-2.0
//! The table of commands.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fledge_companion::admin::Admin;
use fledge_companion::duty::{self, Machine};
use fledge_companion::mark::{self, Word};
use fledge_companion::programs::{Programs, SYSTEMCTL};
use fledge_companion::status::{self, Row, Status, Verdict};
use fledge_companion::sysroot::Sysroot;
use fledge_companion::{health, records, timeline};
use fledge_core::counting::{Step, disarmed};
use fledge_core::diag::Failure;
use fledge_stages::logger::{self, Sink};
use fledge_stages::report;

use crate::arguments::Arguments;
use crate::{out, units};

/// One command.
struct Command {
    name: &'static str,
    /// What it does, for `fledgectl --help`.
    summary: &'static str,
    /// All of `fledgectl NAME --help`.
    help: &'static str,
    flags: &'static [&'static str],
    /// How many arguments it takes that are no flags.
    values: usize,
    /// Whether it works on a system that isn't running, too.
    sysroot: bool,
    run: fn(&Arguments) -> ExitCode,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "status",
        summary: "show the deployments, what is known of each, and why this boot is the one that it is",
        help: "\
usage: fledgectl status [--json] [--sysroot DIR]
Shows the deployments in the bootloader's order, what is known of each and why, how this boot was selected, and how its health checks
went.
  --json         print all of it as JSON
  --sysroot DIR  of a system that isn't running, mounted at DIR

Verdicts: new (no boot of it was counted), trying, used up (none of its tries was healthy), good (a boot of it was healthy), bad (it
isn't booted by itself any more), unknown (what is known of it can't be read).",
        flags: &["json"],
        values: 0,
        sysroot: true,
        run: show_status,
    },
    Command {
        name: "rollback",
        summary: "make another deployment the bootloader's default",
        help: "\
usage: fledgectl rollback [--reboot] [--sysroot DIR] [DEPLOYMENT]
Makes a deployment the one that the bootloader starts by itself: DEPLOYMENT, by its index in `fledgectl status`, its id, or the beginning
of its commit; otherwise the running one, or, if that is so already, the newest of the others that is good, or else not used up.
A staged update would become the default when the machine is shut down: it is dropped. While there is one, `fledgectl rollback` keeps the
running deployment, and `fledgectl rollback --reboot` leaves it. It is done by rpm-ostree or `ostree admin`.
  --reboot       reboot into it
  --sysroot DIR  on a system that isn't running, mounted at DIR",
        flags: &["reboot"],
        values: 1,
        sysroot: true,
        run: rollback,
    },
    Command {
        name: "pin",
        summary: "keep a deployment whatever is deployed",
        help: "\
usage: fledgectl pin [--unpin] [--sysroot DIR] [DEPLOYMENT]
Has OSTree keep a deployment, the running one if none is named, whatever is deployed later. DEPLOYMENT is as in `fledgectl rollback`.
  --unpin        let go of it
  --sysroot DIR  on a system that isn't running, mounted at DIR",
        flags: &["unpin"],
        values: 1,
        sysroot: true,
        run: pin,
    },
    Command {
        name: "bless",
        summary: "say that a deployment is good, or bad, or to be tried anew",
        help: "\
usage: fledgectl bless [--bad | --forget] [--sysroot DIR] [DEPLOYMENT]
Marks a deployment, the running one if none is named, as good: its boots aren't counted any more, and other deployments fall back to it.
While this boot isn't healthy, that takes its name (`fledgectl bless running`). DEPLOYMENT is as in `fledgectl rollback`.
  --bad          mark it as bad: it isn't booted by itself any more
  --forget       forget what is known of it: if it is the default, it is tried as if it were new
  --sysroot DIR  on a system that isn't running, mounted at DIR",
        flags: &["bad", "forget"],
        values: 1,
        sysroot: true,
        run: bless,
    },
    Command {
        name: "health",
        summary: "run the health checks now; nothing follows from them",
        help: "\
usage: fledgectl health [--json]
Runs the checks of greenboot (check/required.d and check/wanted.d below /usr/lib/greenboot and /etc/greenboot) and of
/etc/fledge/health.d. Nothing follows: no hook runs, nothing is marked or rebooted. How they went during boot is in `fledgectl status`.
  --json  print the result as JSON
Exit code 0: healthy; 1: a required check failed.",
        flags: &["json"],
        values: 0,
        sysroot: false,
        run: check_health,
    },
    Command {
        name: "report",
        summary: "print the report of the first boot, or draw it",
        help: "\
usage: fledgectl report [--svg] [FILE]
Prints what was done on the first boot as a table: FILE, else /run/fledge/report.json, else /var/lib/fledge/first-boot.json.
  --svg  draw it over time, as `systemd-analyze plot` does",
        flags: &["svg"],
        values: 1,
        sysroot: false,
        run: show_report,
    },
    Command {
        name: "unit",
        summary: "for units: what belongs to a boot",
        help: units::HELP,
        flags: &[],
        values: 1,
        sysroot: false,
        run: units::run,
    },
];

/// Runs the command that the arguments name.
pub(crate) fn dispatch(mut args: Vec<OsString>) -> ExitCode {
    let asked = if args.is_empty() { OsString::new() } else { args.remove(0) };
    let asked = asked.to_string_lossy();
    if let Some(command) = COMMANDS.iter().find(|command| command.name == asked) {
        let parsed = Arguments::parse(args, command.flags, command.values, command.sysroot);
        return match parsed {
            Ok(parsed) if parsed.help => out::line(command.help),
            Ok(parsed) => {
                logger::init(Sink::Journal);
                (command.run)(&parsed)
            }
            Err(problem) => out::usage(format!("fledgectl {}: {problem}\n\n{}", command.name, command.help)),
        };
    }
    match &*asked {
        "--version" => out::line(concat!("fledgectl ", env!("CARGO_PKG_VERSION"))),
        "--help" | "-h" => out::line(help()),
        "" => out::usage(help()),
        other => out::usage(format!("fledgectl: there is no command {other:?}\n\n{}", help())),
    }
}

fn help() -> String {
    let line = |command: &Command| format!("\n  {:<10} {}", command.name, command.summary);
    let lines: String = COMMANDS.iter().map(line).collect();
    format!("usage: fledgectl COMMAND [ARGUMENT...]\n       fledgectl COMMAND --help | --version\n{lines}")
}

/// The system that is meant, and what changes it.
fn system(args: &Arguments) -> (Sysroot, Admin) {
    match &args.sysroot {
        Some(root) => (Sysroot::at(root), Admin { sysroot: Some(root.clone()), ..Admin::default() }),
        None => (Sysroot::default(), Admin::default()),
    }
}

fn show_status(args: &Arguments) -> ExitCode {
    let (sysroot, _) = system(args);
    match status::look(&sysroot) {
        Ok(status) if args.has("json") => json(&status),
        Ok(status) => out::line(status::printable(status::shortened(&status.to_string()).trim_end())),
        Err(failure) => out::failed(&[failure]),
    }
}

fn json(value: &impl serde::Serialize) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => out::line(text),
        Err(error) => out::failed(&[Failure::new("writing JSON", error.to_string())]),
    }
}

/// The deployment that a person named, or the running one.
fn named<'s>(status: &'s Status, args: &Arguments) -> Result<&'s Row, Failure> {
    status.named(args.value().unwrap_or("running"))
}

fn rollback(args: &Arguments) -> ExitCode {
    let (sysroot, admin) = system(args);
    let roll_back = || {
        let status = status::look(&sysroot)?;
        let target = match args.value() {
            Some(name) => status.named(name)?,
            None => status.rollback(args.has("reboot"))?,
        };
        if matches!(target.verdict, Verdict::Bad | Verdict::UsedUp) && target.running {
            log::warn!("{} is {}, and runs all the same", target.name(), target.verdict);
        } else if matches!(target.verdict, Verdict::Bad | Verdict::UsedUp) {
            let why = format!("it is {}: the next boot would fall back at once", target.verdict);
            return Err(Failure::new(format!("making {} the default", target.name()), why)
                .remedy(format!("to try it once more, say `fledgectl bless --forget {}` first", target.index)));
        }
        let mut steps = vec![Step::SetDefault { id: target.id.clone() }];
        // An override goes by an entry's place, which has just changed, and would have the bootloader start another one. There may be no
        // mark any more that tells whose it is. Nor is it to go on counting starts of what was the default.
        match sysroot.grub() {
            Ok(grub) => {
                if grub.overridden() {
                    steps.push(Step::RemoveOverride);
                }
                if grub.path.is_some() && disarmed(&grub.variables) != grub.variables {
                    steps.push(Step::Disarm);
                }
            }
            Err(failure) => log::warn!(
                "{failure}\nif the bootloader can read that file, it may start another deployment than this one"
            ),
        }
        records::carry_out(&steps, &sysroot, &admin)?;
        Ok(target.name())
    };
    match roll_back() {
        Ok(name) => {
            let code = out::line(format!("{name} is the default."));
            if !args.has("reboot") {
                return code;
            }
            out::ended(Programs::default().run(SYSTEMCTL, &["reboot"]).map(drop))
        }
        Err(failure) => out::failed(&[failure]),
    }
}

fn pin(args: &Arguments) -> ExitCode {
    let (sysroot, admin) = system(args);
    let pin = || {
        let status = status::look(&sysroot)?;
        let id = &named(&status, args)?.id;
        admin.pin(id, !args.has("unpin"))?;
        // Whatever pinned it before: it is a person's now, and stays as that person has it.
        records::forget_pin(&sysroot, id)
    };
    out::ended(pin())
}

fn bless(args: &Arguments) -> ExitCode {
    if args.has("bad") && args.has("forget") {
        return out::usage("fledgectl bless: --bad and --forget exclude each other");
    }
    let (sysroot, admin) = system(args);
    let word = match (args.has("bad"), args.has("forget")) {
        (true, _) => Word::Bad,
        (_, true) => Word::New,
        _ => Word::Good,
    };
    let mark = || {
        let status = status::look(&sysroot)?;
        let row = mark::mark(&sysroot, &admin, &status, args.value(), word)?;
        Ok((row.name(), row.running))
    };
    let (name, running) = match mark() {
        Ok(marked) => marked,
        Err(failure) => return out::failed(&[failure]),
    };
    // What follows a healthy boot follows this, too.
    if running && word == Word::Good {
        if let Err(failures) =
            Machine::this().map_err(|failure| vec![failure]).and_then(|machine| duty::bless(&machine))
        {
            return out::failed(&failures);
        }
    } else if sysroot.live.is_some() {
        if let Err(failure) = Machine::this().and_then(|machine| machine.tell()) {
            log::warn!("{failure}");
        }
    }
    out::line(format!("{name} is {word}."))
}

fn check_health(args: &Arguments) -> ExitCode {
    let boot_id = report::boot_id().unwrap_or_default();
    let health = health::check(Path::new("/"), &boot_id);
    let code = if args.has("json") { json(&health) } else { out::line(status::printable(&health.to_string())) };
    if health.healthy { code } else { out::no() }
}

fn show_report(args: &Arguments) -> ExitCode {
    let path = args.value().map_or_else(default_report, PathBuf::from);
    match report::read(&path) {
        Ok(report) if args.has("svg") => out::line(timeline::svg(&report).trim_end()),
        Ok(report) => out::line(report.to_string().trim_end()),
        Err(failure) => out::failed(&[failure]),
    }
}

fn default_report() -> PathBuf {
    let running = report::path();
    if running.exists() { running } else { report::KEPT.into() }
}
