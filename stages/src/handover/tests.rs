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
    assert!(!machine.places.join("run/systemd/system").exists(), "nothing is in the way of what was handed on");
}

/// What `nm-initrd-generator` of `NetworkManager` 1.42.4 (Debian 12) made of [`BONDED`]. A second run differed in the UUIDs alone, which the ports have
/// the bond's of.
const RECORDED: [(&str, &str); 4] = [
    ("system-connections/bond0.nmconnection", include_str!("recorded/bond0.nmconnection")),
    ("system-connections/ens2.nmconnection", include_str!("recorded/ens2.nmconnection")),
    ("system-connections/ens3.nmconnection", include_str!("recorded/ens3.nmconnection")),
    ("initrd/hostname", include_str!("recorded/hostname")),
];
const BONDED: &str = "ostree=/x bond=bond0:ens2,ens3:mode=active-backup ip=10.0.0.2/24::10.0.0.1::node:bond0:none vlan=vlan9:bond0 ip=vlan9:dhcp nameserver=10.0.0.3";

/// A bond and its ports, by both daemons, as a boot of this number has them.
fn bond(machine: &Machine, boot: char) {
    for (name, text) in RECORDED {
        let lines = text.lines().map(|line| match line.split_once('=') {
            Some((key @ ("uuid" | "master"), uuid)) => format!("{key}={}{boot}\n", uuid.split_at(uuid.len() - 1).0),
            _ => format!("{line}\n"),
        });
        machine.initramfs(&format!("run/NetworkManager/{name}"), &lines.collect::<String>());
    }
    machine.initramfs("run/systemd/network/70-bond0.network", "bond");
    machine.initramfs("run/systemd/network/70-ens2.network", "port");
}

#[test]
fn what_a_power_cut_left_of_a_hand_over_is_no_configuration_of_the_real_root() {
    for lost in [
        "etc/systemd/network/05-70-ens2.network",
        "etc/systemd/network/05-70-bond0.network",
        "etc/NetworkManager/system-connections/ens2.nmconnection",
    ] {
        let machine = Machine::new(BONDED);
        bond(&machine, '1');
        run(&machine.places).unwrap();
        let handed_on = machine.read(lost);
        assert!(handed_on.is_some(), "{lost}");
        fs::remove_file(machine.places.root.join(lost)).unwrap();
        bond(&machine, '9');
        let plan = run(&machine.places).unwrap().to_string();
        assert!(machine.read(lost).is_some(), "{lost}: {plan}");
        // One boot's UUIDs throughout.
        let bond = machine.read("etc/NetworkManager/system-connections/bond0.nmconnection").unwrap();
        let uuid = bond.lines().find_map(|line| line.strip_prefix("uuid=")).unwrap();
        for port in ["ens2", "ens3"] {
            let port = machine.read(&format!("etc/NetworkManager/system-connections/{port}.nmconnection")).unwrap();
            assert!(uuid.ends_with('9') && port.contains(&format!("\nmaster={uuid}\n")), "{uuid}: {port}");
        }
        assert_eq!(machine.read("etc/hostname").as_deref(), Some("node\n"));
    }
    // The same name with something else in it is somebody's own.
    let machine = Machine::new(BONDED);
    bond(&machine, '1');
    machine.root("etc/NetworkManager/system-connections/ens2.nmconnection", "[connection]\nid=mine\n");
    assert!(run(&machine.places).unwrap().to_string().contains("ens2.nmconnection: none is handed on"));
}

#[test]
fn an_installers_files_are_handed_on_again_after_a_power_cut() {
    let machine = Machine::new(STATIC);
    for _ in 0..2 {
        machine.initramfs("run/fledge/network/a.nmconnection", "a");
        machine.initramfs("run/fledge/network/b.nmconnection", "b");
        run(&machine.places).unwrap();
        assert!(!machine.places.join("run/fledge/network").exists(), "keys outlive the initramfs");
        let last = machine.places.root.join("etc/NetworkManager/system-connections/b.nmconnection");
        fs::remove_file(last).unwrap();
    }
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
    // It would make of ip= what was just not handed on.
    let generator = machine.places.join("run/systemd/system/systemd-network-generator.service");
    assert_eq!(fs::read_link(&generator).unwrap(), Path::new("/dev/null"));
    run(&machine.places).unwrap();
    // A way to the root that is open needs it.
    fs::remove_file(&generator).unwrap();
    machine.initramfs("proc/cmdline", &format!("netroot=iscsi:x {STATIC}"));
    run(&machine.places).unwrap();
    assert!(!generator.is_symlink());
}

#[test]
fn names_of_interfaces_reach_the_real_root_only_by_mac_address() {
    let machine = Machine::new(STATIC);
    machine.initramfs("run/systemd/network/90-lan0.link", "[Match]\nMACAddress=52:54:00:12:34:56\n[Link]\nName=lan0\n");
    machine.initramfs(
        "run/systemd/network/90-lan1.link",
        "[Match]\nOriginalName=*\n[Link]\nMACAddress=52:54:00:12:34:57\n",
    );
    let plan = run(&machine.places).unwrap().to_string();
    assert!(machine.read("etc/systemd/network/90-lan0.link").is_some());
    assert!(machine.read("etc/systemd/network/90-lan1.link").is_none(), "{plan}");
    assert!(plan.contains("90-lan1.link isn't handed on"), "{plan}");
}

#[test]
fn what_networkmanager_found_is_the_host_name() {
    let machine = Machine::new(STATIC);
    machine.initramfs("run/NetworkManager/initrd/hostname", "by-nm\n");
    run(&machine.places).unwrap();
    assert_eq!(machine.read("etc/hostname").as_deref(), Some("by-nm\n"));
    let machine = Machine::new(STATIC);
    machine.initramfs("run/NetworkManager/initrd/hostname", "\n");
    run(&machine.places).unwrap();
    assert_eq!(machine.read("etc/hostname").as_deref(), Some("nest\n"));
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_a_way_out() {
    let machine = Machine::new(STATIC);
    let file = "run/systemd/network/70-ens2.network";
    machine.initramfs(file, "");
    fs::File::options().write(true).open(machine.places.join(file)).unwrap().set_len(LIMIT).unwrap();
    let failure = run(&machine.places).unwrap_err();
    assert!(failure.why.contains("70-ens2.network: "), "{failure}");
    assert!(failure.remedy.as_ref().is_some_and(|remedy| remedy.contains("nestos.no_persist_ip")), "{failure}");
}

#[test]
fn arguments_that_dracut_keeps_in_files_count() {
    let machine = Machine::new("quiet\n");
    machine.initramfs("etc/cmdline.d/50-platform.conf", "ip=ens2:dhcp\nnestos.no_persist_ip\n");
    machine.initramfs("etc/cmdline", "nestos.no_persist_ip=0\n");
    machine.initramfs("etc/cmdline.d/ignored", "nestos.no_persist_ip\n");
    machine.initramfs("run/systemd/network/70-ens2.network", "dhcp");
    run(&machine.places).unwrap();
    assert_eq!(machine.read("etc/systemd/network/05-70-ens2.network").as_deref(), Some("dhcp"));
}

#[test]
fn the_kernels_own_argument_counts_more_than_a_file() {
    let machine = Machine::new("nestos.no_persist_ip=0 ip=::::kernel:ens2:dhcp\n");
    machine.initramfs("etc/cmdline.d/50-platform.conf", "nestos.no_persist_ip ip=::::platform:ens2:dhcp");
    machine.initramfs("etc/cmdline", "nestos.no_persist_ip ip=::::file:ens2:dhcp");
    run(&machine.places).unwrap();
    assert_eq!(machine.read("etc/hostname").as_deref(), Some("kernel\n"));
    // What can't be read isn't as good as not there.
    fs::create_dir(machine.places.join("etc/cmdline.d/60-broken.conf")).unwrap();
    assert!(run(&machine.places).unwrap_err().why.contains("60-broken.conf"));
}

#[test]
fn an_installers_files_are_used_and_handed_on_in_place_of_the_command_lines() {
    let machine = Machine::new(STATIC);
    let (boot, place) = machine.boot();
    write(&boot.join("coreos-firstboot-network/lan.nmconnection"), "lan");
    write(&boot.join("coreos-firstboot-network/50-lan.network"), "lan, too");
    machine.initramfs("run/systemd/network/70-ens2.network", "static");
    let cmdline = Cmdline::parse(STATIC);
    copy_installed(&cmdline, false, &place, &machine.places).unwrap();
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
    copy_installed(&cmdline, false, &place, &machine.places).unwrap();
    assert!(machine.places.join("run/NetworkManager/system-connections/a.nmconnection").exists());
    assert!(!machine.places.join("run/NetworkManager/system-connections/b.nmconnection").exists());
    symlink(machine.places.join("proc/cmdline"), boot.join("nestos-firstboot-network/c.nmconnection")).unwrap();
    let failure = copy_installed(&cmdline, false, &place, &machine.places).unwrap_err();
    assert!(failure.remedy.is_some_and(|remedy| remedy.contains("nestos-firstboot-network")), "no remedy");
    // Without a deployment there is no boot file system to look at.
    copy_installed(&Cmdline::default(), false, &place, &machine.places).unwrap();
    // Nor with one that only the network leads to.
    copy_installed(&Cmdline::parse("ostree=/x netroot=iscsi:x"), false, &place, &machine.places).unwrap();
}

#[test]
fn an_installers_file_for_one_daemon_leaves_the_others_network_and_names_alone() {
    let machine = Machine::new(STATIC);
    let (boot, place) = machine.boot();
    write(&boot.join("nestos-firstboot-network/10-a.network"), "installed");
    machine.initramfs("run/NetworkManager/system-connections/ens2.nmconnection", "generated");
    machine.initramfs("run/systemd/network/70-ens2.network", "generated");
    machine.initramfs("run/systemd/network/70-bond0.netdev", "generated");
    machine.initramfs("run/systemd/network/90-lan0.link", "generated");
    copy_installed(&Cmdline::parse(STATIC), false, &place, &machine.places).unwrap();
    let there = |path: &str| machine.places.join(path).exists();
    assert!(there("run/systemd/network/10-a.network") && there("run/systemd/network/90-lan0.link"));
    assert!(!there("run/systemd/network/70-ens2.network") && !there("run/systemd/network/70-bond0.netdev"));
    assert!(there("run/NetworkManager/system-connections/ens2.nmconnection"));
    fs::remove_dir_all(boot.join("nestos-firstboot-network")).unwrap();
    write(&boot.join("nestos-firstboot-network/a"), "installed");
    copy_installed(&Cmdline::parse(STATIC), false, &place, &machine.places).unwrap();
    assert!(
        !there("run/NetworkManager/system-connections/ens2.nmconnection") && there("run/systemd/network/10-a.network")
    );
}

#[test]
fn a_live_image_has_them_in_its_initramfs() {
    let machine = Machine::new("quiet");
    machine.initramfs("etc/coreos-firstboot-network/a.nmconnection", "live");
    let (_, place) = machine.boot();
    copy_installed(&Cmdline::default(), true, &place, &machine.places).unwrap();
    assert!(machine.places.join("run/fledge/network/a.nmconnection").exists());
}
