// SPDX-License-Identifier: Apache-2.0
//! The applets that units and generators of a boot call, besides the stages.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use fledge_core::cmdline::Cmdline;
use fledge_core::diag::Failure;
use fledge_core::generator::{installer_arguments, installer_refusal};
use fledge_stages::boot_device::{self, Moment};
use fledge_stages::generator::{self, Roots};
use fledge_stages::host::bootfs::{self, Place};
use fledge_stages::logger::{self, Sink};
use fledge_stages::ostree::{overlays, user_config, var};
use fledge_stages::root::transpose;
use fledge_stages::{boot_mount, boot_select, console, handover, pivot, report, root};

use crate::applets::exit;
use crate::{ignition, input, out};

/// What is true of a boot that stopped while a root that the configuration replaces was in memory.
const IN_MEMORY: &str = "\n\nWhat the configuration replaces is in memory. The next boot provisions this machine from the start again if the disks \
    still hold all of it; if not, the machine has to be installed again.";

const PIVOT: &str = "usage: fledge pivot [--ostree] SYSROOT [CMDLINE]";

/// Where the stages find the target root.
const SYSROOT: &str = "/sysroot";

/// `ignition-generator NORMAL-DIR [EARLY-DIR LATE-DIR]`, called by systemd.
pub(crate) fn generator(args: &[OsString]) -> ExitCode {
    let Some(units) = args.first() else {
        return out::usage("usage: ignition-generator NORMAL-DIR [EARLY-DIR LATE-DIR]");
    };
    let early = args.get(1).unwrap_or(units);
    match generator::run(&Roots::of_this_boot(units.into(), early.into()), generator::is_live_image()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => out::failed(&[Failure::new("generating the units of this boot", error.to_string())]),
    }
}

/// `user-config`: no arguments.
pub(crate) fn user_config(args: &[OsString]) -> ExitCode {
    if !args.is_empty() {
        return out::usage("usage: fledge user-config");
    }
    logger::init(Sink::Journal);
    ended(copy_user_config())
}

fn copy_user_config() -> Result<(), Failure> {
    user_config::copy(&input::cmdline()?, generator::is_live_image()?, &user_config::Places::default()).map(drop)
}

/// `ostree-var mount|populate|umount`.
pub(crate) fn ostree_var(args: &[OsString]) -> ExitCode {
    let root = Path::new(SYSROOT);
    logger::init(Sink::Journal);
    let result = match args.iter().map(|arg| arg.to_str()).collect::<Vec<_>>().as_slice() {
        [Some("mount")] => input::cmdline().and_then(|cmdline| var::bind(root, &cmdline)),
        [Some("populate")] => var::populate(root),
        [Some("umount")] => var::release(root),
        _ => return out::usage("usage: fledge ostree-var mount|populate|umount"),
    };
    ended(result)
}

/// `fledge-boot-mount-generator NORMAL-DIR [EARLY-DIR LATE-DIR]`, called by systemd.
pub(crate) fn mount_generator(args: &[OsString]) -> ExitCode {
    let Some(units) = args.first() else {
        return out::usage("usage: fledge-boot-mount-generator NORMAL-DIR [EARLY-DIR LATE-DIR]");
    };
    match boot_mount::generate(Path::new("/"), Path::new(units)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fledge: /boot can't be mounted: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `root gpt|uuid boot|uuid root|detect|save|grow|restore|regrow|persist`.
pub(crate) fn root(args: &[OsString]) -> ExitCode {
    logger::init(Sink::Journal);
    let args: Vec<_> = args.iter().map(|arg| arg.to_str().unwrap_or_default()).collect();
    match args.as_slice() {
        ["detect" | "save" | "restore" | "regrow"] => all_ended(transpose(&args)),
        ["gpt" | "grow" | "persist"] | ["uuid", "boot" | "root"] => ended(root_work(&args)),
        _ => out::usage("usage: fledge root gpt|uuid boot|uuid root|detect|save|grow|restore|regrow|persist"),
    }
}

fn transpose(args: &[&str]) -> Result<(), Vec<Failure>> {
    let one = |failure| vec![failure];
    if generator::is_live_image().map_err(one)? {
        return Ok(());
    }
    let cmdline = input::cmdline().map_err(one)?;
    let places = transpose::Places::of_this_boot(&cmdline);
    match args {
        ["detect"] => transpose::detect(&ignition::of_this_boot(cmdline), &places),
        ["save"] => transpose::save(&places).map_err(one),
        ["restore"] => transpose::restore(&places, &cmdline).map_err(one),
        _ => transpose::regrow(&places, &cmdline).map_err(one),
    }
}

fn root_work(args: &[&str]) -> Result<(), Failure> {
    // A live image has no disk of its own.
    if generator::is_live_image()? {
        return Ok(());
    }
    let cmdline = input::cmdline()?;
    let (boot, config) = (Path::new(bootfs::DEVICE), Path::new(root::CONFIG));
    let named = fledge_core::root::device(cmdline.value("root"));
    let made = root::made_on(config)?;
    let of_root = made.as_ref().unwrap_or(&named);
    let is_of_root = args.contains(&"root") || args == ["grow"];
    let elsewhere = root::is_elsewhere(&cmdline);
    if is_of_root && elsewhere {
        return Ok(());
    }
    let device = if is_of_root { Path::new(of_root) } else { boot };
    root::wait(&device.to_string_lossy(), &cmdline)?;
    // Nothing of a disk is changed that another installation's root or boot file system is on.
    if !elsewhere && (args == ["gpt"] || (args == ["uuid", "root"] && made.is_none())) {
        root::persist::check(Path::new(&named), boot)?;
    }
    match args {
        ["gpt"] => root::identity::disk(device),
        ["uuid", _] => root::identity::file_system(device, &cmdline),
        ["grow"] => {
            let (point, state) = (Path::new("/run/fledge/grow"), Path::new(transpose::STATE));
            root::grow::run(device, point, config, state, &cmdline)
        }
        _ => root::persist::run(Path::new(SYSROOT), device, config, &cmdline),
    }
}

/// `state-overlays mount|umount`.
pub(crate) fn state_overlays(args: &[OsString]) -> ExitCode {
    let root = Path::new(SYSROOT);
    logger::init(Sink::Journal);
    match args.iter().map(|arg| arg.to_str()).collect::<Vec<_>>().as_slice() {
        [Some("mount")] => ended(overlays::mount(root)),
        [Some("umount")] => ended(overlays::release(root)),
        _ => out::usage("usage: fledge state-overlays mount|umount"),
    }
}

/// `boot-select [--ahead] SYSROOT`. Whatever it finds, the boot goes on. With `--ahead`, it is called before SYSROOT is mounted.
pub(crate) fn boot_select(args: &[OsString]) -> ExitCode {
    let (is_ahead, root) = match args {
        [option, root] if option == "--ahead" => (true, root),
        [root] => (false, root),
        _ => return out::usage("usage: fledge boot-select [--ahead] SYSROOT"),
    };
    logger::init(Sink::Journal);
    let places = boot_select::Places::of_this_boot(root.into());
    match input::cmdline_text() {
        Ok(text) => {
            let ahead = is_ahead.then(|| boot_select::ahead(&text, &places)).flatten();
            drop(boot_select::run(&text, &places, ahead));
        }
        Err(failure) => out::complain(failure),
    }
    ExitCode::SUCCESS
}

/// `pivot [--ostree] SYSROOT [CMDLINE]`, with arguments as OSTree's own program has them; that does it with `--ostree`. Without a command
/// line, that of boot selection counts before the machine's own, as long as it leads anywhere.
pub(crate) fn pivot(args: &[OsString]) -> ExitCode {
    logger::init(Sink::Journal);
    let (theirs, args) = match args {
        [first, rest @ ..] if first == "--ostree" => (true, rest),
        args => (false, args),
    };
    let Some(root) = args.first().map(Path::new) else { return out::usage(PIVOT) };
    let attempt = |cmdline: Option<&str>| {
        if theirs {
            return pivot::with_ostree(root, cmdline);
        }
        let cmdline = cmdline.map_or_else(input::cmdline, |text| Ok(Cmdline::parse(text)));
        cmdline.and_then(|cmdline| pivot::run(root, &cmdline))
    };
    match args {
        [_] => ended(boot_select::pivot(&boot_select::Places::of_this_boot(root.into()), &attempt)),
        [_, cmdline] => ended(attempt(Some(&cmdline.to_string_lossy()))),
        _ => out::usage(PIVOT),
    }
}

/// `boot-device verify [--after-disks]` and `boot-device forget`, called by units, or `boot-device has-boot DISK`, called by a rule of udev.
pub(crate) fn boot_device(args: &[OsString]) -> ExitCode {
    let places = boot_device::Places::default();
    let moment = match args.iter().map(|arg| arg.to_str()).collect::<Vec<_>>().as_slice() {
        [Some("has-boot"), Some(disk)] => {
            return match boot_device::contains_boot(disk, &places) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::from(exit::FAILED),
                Err(error) => out::failed(&[Failure::new(format!("reading the disk {disk}"), error.to_string())]),
            };
        }
        [Some("forget")] => {
            logger::init(Sink::Journal);
            return ended(boot_device::forget_links(&places));
        }
        [Some("verify")] => Moment::BeforeDisks,
        [Some("verify"), Some("--after-disks")] => Moment::AfterDisks,
        _ => return out::usage("usage: fledge boot-device verify [--after-disks] | forget | has-boot DISK"),
    };
    logger::init(Sink::Journal);
    let verified = input::cmdline().and_then(|cmdline| boot_device::verify(&cmdline, moment, &places));
    ended(verified.map(drop))
}

/// `network-handover copy|finish`.
pub(crate) fn network_handover(args: &[OsString]) -> ExitCode {
    let places = handover::Places::default();
    logger::init(Sink::Journal);
    let result = match args.iter().map(|arg| arg.to_str()).collect::<Vec<_>>().as_slice() {
        [Some("copy")] => copy_network(&places),
        [Some("finish")] => handover::run(&places).map(drop),
        _ => return out::usage("usage: fledge network-handover copy|finish"),
    };
    ended(result)
}

fn copy_network(places: &handover::Places) -> Result<(), Failure> {
    handover::copy_installed(&input::cmdline()?, generator::is_live_image()?, &Place::default(), places)
}

/// `installer-refused`: says why and fails.
pub(crate) fn installer_refused(_: &[OsString]) -> ExitCode {
    ended(input::cmdline().and_then(|cmdline| Err(installer_refusal(&cmdline))))
}

/// `failure [--firstboot-complete]`: tells people why the boot stopped, or what went wrong after it.
pub(crate) fn failure(args: &[OsString]) -> ExitCode {
    let result = match args.iter().map(|arg| arg.to_str()).collect::<Vec<_>>().as_slice() {
        [] => boot_stopped(),
        [Some("--firstboot-complete")] => {
            let text = console::not_marked_as_done(console::reason().as_deref());
            console::leave_for_logins(&text, Path::new("/run")).and_then(|()| show(&text))
        }
        _ => return out::usage("usage: fledge failure [--firstboot-complete]"),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => out::failed(&[Failure::new("writing to the consoles", error.to_string())]),
    }
}

fn boot_stopped() -> std::io::Result<()> {
    let reason = console::reason();
    let cmdline = input::cmdline().unwrap_or_default();
    let first_boot = cmdline.flag("ignition.firstboot") && installer_arguments(&cmdline).next().is_none();
    // A later boot that ends in an emergency is none of ours, and its reason is for others to tell.
    if reason.is_none() && !first_boot {
        return Ok(());
    }
    // systemd is still writing about the units that it stops; these words are to be the last.
    std::thread::sleep(Duration::from_secs(2));
    let in_memory = transpose::is_in_memory(Path::new(transpose::STATE));
    let reason = reason.map(|reason| if in_memory { reason + IN_MEMORY } else { reason });
    show(&console::boot_stopped(reason.as_deref(), &console::failed_units(), first_boot && !in_memory))
}

fn show(text: &str) -> std::io::Result<()> {
    console::show(text, Path::new("/proc/consoles"), Path::new("/dev"))
}

fn ended(result: Result<(), Failure>) -> ExitCode {
    all_ended(result.map_err(|failure| vec![failure]))
}

fn all_ended(result: Result<(), Vec<Failure>>) -> ExitCode {
    let Err(failures) = result else { return ExitCode::SUCCESS };
    if let Err(error) = report::leave("This machine does not boot on.", &failures) {
        out::complain(format!("the reason could not be left for the console: {error}"));
    }
    out::failed(&failures)
}
