// SPDX-License-Identifier: Apache-2.0
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

/// An initramfs and a real root, without interfaces.
struct Machine {
    _folder: TempDir,
    places: Places,
}

impl Machine {
    fn new(cmdline: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let places = Places {
            initramfs: folder.path().join("initramfs"),
            root: folder.path().join("root"),
            links: folder.path().join("links"),
        };
        let machine = Self { _folder: folder, places };
        machine.initramfs("proc/cmdline", cmdline);
        machine.root("usr/lib/group", "systemd-network:x:998:\n");
        machine.root("etc/systemd/network/20-wired.network", "image");
        machine.root("usr/etc/systemd/network/20-wired.network", "image");
        machine
    }

    fn initramfs(&self, path: &str, text: &str) {
        write(&self.places.initramfs.join(path), text);
    }

    fn root(&self, path: &str, text: &str) {
        write(&self.places.root.join(path), text);
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.places.root.join(path)).ok()
    }

    fn boot(&self) -> (PathBuf, Place) {
        let path = self.places.root.with_file_name("boot");
        fs::create_dir_all(&path).unwrap();
        (path.clone(), Place::Mounted(path))
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

const STATIC: &str = "ostree=/x ip=10.0.2.9::10.0.2.2:24:nest:ens2:none\n";

#[test]
fn the_command_lines_network_reaches_the_real_root_and_leaves_the_initramfs() {
    let machine = Machine::new(STATIC);
    machine.initramfs("run/systemd/network/70-ens2.network", "static");
    machine.initramfs("run/NetworkManager/system-connections/ens2.nmconnection", "keyfile");
    machine.initramfs("run/systemd/netif/leases/2", "a lease");
    machine.initramfs("etc/udev/rules.d/80-ifname.rules", "names");
    run(&machine.places).unwrap();
    assert_eq!(machine.read("etc/systemd/network/05-70-ens2.network").as_deref(), Some("static"));
    let keyfile = "etc/NetworkManager/system-connections/ens2.nmconnection";
    assert_eq!(machine.read(keyfile).as_deref(), Some("keyfile"));
    assert_eq!(fs::metadata(machine.places.root.join(keyfile)).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(machine.read("etc/udev/rules.d/80-ifname.rules").as_deref(), Some("names"));
    assert_eq!(machine.read("etc/hostname").as_deref(), Some("nest\n"));
    for gone in ["run/systemd/netif", "run/systemd/network", "run/NetworkManager"] {
        assert!(!machine.places.join(gone).exists(), "{gone}");
    }
    // Once more, as after a power cut, what was handed on stands in the way of nothing and nothing is lost.
    run(&machine.places).unwrap();
    assert_eq!(machine.read(keyfile).as_deref(), Some("keyfile"));
}

#[test]
fn what_a_config_wrote_stays_and_what_the_image_has_is_no_config() {
    let machine = Machine::new(STATIC);
    machine.initramfs("run/systemd/network/70-ens2.network", "static");
    machine.root("etc/NetworkManager/system-connections/mine.nmconnection", "config");
    machine.root("etc/hostname", "mine\n");
    let plan = run(&machine.places).unwrap().to_string();
    assert!(plan.contains("/etc/NetworkManager/system-connections/mine.nmconnection: none is handed on"), "{plan}");
    assert_eq!(machine.read("etc/systemd/network/05-70-ens2.network"), None);
    assert_eq!(machine.read("etc/hostname").as_deref(), Some("mine\n"));
}

#[test]
fn arguments_that_dracut_keeps_in_files_count() {
    let machine = Machine::new("quiet\n");
    machine.initramfs("etc/cmdline.d/50-platform.conf", "ip=ens2:dhcp\nnestos.no_persist_ip=0\n");
    machine.initramfs("etc/cmdline.d/ignored", "nestos.no_persist_ip\n");
    machine.initramfs("run/systemd/network/70-ens2.network", "dhcp");
    run(&machine.places).unwrap();
    assert_eq!(machine.read("etc/systemd/network/05-70-ens2.network").as_deref(), Some("dhcp"));
}

#[test]
fn an_installers_files_are_used_and_handed_on_in_place_of_the_command_lines() {
    let machine = Machine::new(STATIC);
    let (boot, place) = machine.boot();
    write(&boot.join("coreos-firstboot-network/lan.nmconnection"), "lan");
    write(&boot.join("coreos-firstboot-network/50-lan.network"), "lan, too");
    machine.initramfs("run/systemd/network/70-ens2.network", "static");
    let cmdline = Cmdline::parse(STATIC);
    assert_eq!(copy_installed(&cmdline, false, &place, &machine.places).unwrap(), 2);
    let found = |path: &str| fs::read_to_string(machine.places.join(path)).ok();
    assert_eq!(found("run/NetworkManager/system-connections/lan.nmconnection").as_deref(), Some("lan"));
    assert_eq!(found("run/systemd/network/50-lan.network").as_deref(), Some("lan, too"));
    assert_eq!(found("run/systemd/network/70-ens2.network"), None);
    let secret = fs::metadata(machine.places.join("run/NetworkManager/system-connections/lan.nmconnection")).unwrap();
    assert_eq!(secret.mode() & 0o7777, 0o600);
    run(&machine.places).unwrap();
    assert_eq!(machine.read("etc/NetworkManager/system-connections/lan.nmconnection").as_deref(), Some("lan"));
    assert_eq!(machine.read("etc/systemd/network/50-lan.network").as_deref(), Some("lan, too"));
}

#[test]
fn nestos_own_folder_goes_first_and_no_link_leads_off_the_boot_file_system() {
    let machine = Machine::new(STATIC);
    let (boot, place) = machine.boot();
    write(&boot.join("nestos-firstboot-network/a.nmconnection"), "nestos");
    write(&boot.join("coreos-firstboot-network/b.nmconnection"), "coreos");
    let cmdline = Cmdline::parse(STATIC);
    assert_eq!(copy_installed(&cmdline, false, &place, &machine.places).unwrap(), 1);
    assert!(!machine.places.join("run/NetworkManager/system-connections/b.nmconnection").exists());
    symlink(machine.places.join("proc/cmdline"), boot.join("nestos-firstboot-network/c.nmconnection")).unwrap();
    let failure = copy_installed(&cmdline, false, &place, &machine.places).unwrap_err();
    assert!(failure.remedy.is_some_and(|remedy| remedy.contains("nestos-firstboot-network")), "no remedy");
    // Without a deployment there is no boot file system to look at.
    assert_eq!(copy_installed(&Cmdline::default(), false, &place, &machine.places).unwrap(), 0);
}

#[test]
fn a_live_image_has_them_in_its_initramfs() {
    let machine = Machine::new("quiet");
    machine.initramfs("etc/coreos-firstboot-network/a.nmconnection", "live");
    let (_, place) = machine.boot();
    assert_eq!(copy_installed(&Cmdline::default(), true, &place, &machine.places).unwrap(), 1);
    assert!(machine.places.join("run/fledge/network/a.nmconnection").exists());
}
