// SPDX-License-Identifier: Apache-2.0
//! The harness without `xtask`: `cargo run -p fledge-vm-tests --example vm -- image`.

use std::ffi::OsString;

use anyhow::{Context as _, Result, bail};
use fledge_vm_tests::cache::Cache;
use fledge_vm_tests::image::{self, BootPartition, Elevate, Image, Inputs, Overlay};
use fledge_vm_tests::qemu::*;
use fledge_vm_tests::host::Scratch;
use fledge_vm_tests::progress::step;
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn main() -> Result<()> {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (command, rest) = args.split_first().context("say what to do: image, as-root")?;
    let elevate = Elevate { command: vec![std::env::current_exe()?.into(), "as-root".into()] };
    let dist = std::env::var_os("FLEDGE_DIST").map(Into::into);
    match command.to_str() {
        Some("as-root") => image::as_root(rest),
        Some("image") => {
            let cache = Cache::of_user()?;
            let image = Image::ensure(&cache, &Inputs { dist }, &elevate)?;
            println!("{image:#?}\n{} MiB in the cache", cache.bytes() >> 20);
            Ok(())
        }
        Some("boot") => {
            let cache = Cache::of_user()?;
            let image = Image::ensure(&cache, &Inputs { dist }, &elevate)?;
            let scratch = Scratch::new(cache.root())?;
            let work = scratch.path();
            let checker: PathBuf = "target/x86_64-unknown-linux-gnu/release/fledge-vm-checker".into();
            let accel = Accel::probe(image.tools(), &image.kernel(), &checker, work)?;
            let overlay = Overlay { fledge: None, checker, sabotage: false, stay_in_initramfs: false };
            let initramfs = work.join("initramfs.img");
            overlay.append_to(&image.initramfs(), &initramfs)?;
            std::fs::write(work.join("probe.json"), r#"{"nonce":"1","looks":[{"cmdline":true},{"path":"/etc/machine-id"},{"unit":"ssh.service"},{"user":"root"},{"mount":"/boot"},{"network":true},{"failed_units":true},{"journal":"systemd-networkd"}]}"#)?;
            let disk = work.join("disk.qcow2");
            let grub = rest.first().is_some_and(|word| word == "grub");
            step("disk", || image.boot_disk(&disk, 0, &BootPartition { initramfs: Some(initramfs.clone()), ..Default::default() }, work))?;
            let boot = if grub { Boot::Disk } else { Boot::Kernel { kernel: image.kernel(), initramfs, arguments: image.options(true) } };
            let machine = Machine { memory: 1024, processors: 1, disks: vec![Disk { path: disk, format: "qcow2", serial: "boot".into() }], boot, fw_cfg: vec![("opt/org.fledge.test/probe".into(), work.join("probe.json"))], network: true, console: Console::File, accel };
            let mut vm = machine.start(image.tools(), work)?;
            let deadline = Instant::now() + Duration::from_secs(120);
            let event = step("boot", || vm.wait(deadline));
            println!("{event:?}");
            std::fs::write("/tmp/console.log", vm.console())?;
            vm.wait_for_console("login:", deadline)?;
            vm.tell("shutdown")?;
            step("end", || vm.wait_end(deadline))
        }
        _ => bail!("no such command"),
    }
}
