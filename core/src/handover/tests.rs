// SPDX-License-Identifier: Apache-2.0
use alloc::string::ToString;

use super::*;

fn facts() -> Facts {
    let link = |name: &str, physical| Link { name: name.into(), physical };
    Facts {
        links: [link("ens2", true), link("bond0", false)].into(),
        generated: [
            "/run/NetworkManager/system-connections/ens2.nmconnection",
            "/run/NetworkManager/system-connections/lo.nmconnection",
            "/run/systemd/network/70-ens2.network",
            "/run/systemd/network/90-lan0.link",
        ]
        .map(Into::into)
        .into(),
        ifname_rules: true,
        ..Facts::default()
    }
}

const STATIC: &str = "ip=10.0.2.9::10.0.2.2:255.255.255.0:nest:ens2:none nameserver=10.0.2.3";

fn text(cmdline: &str, facts: &Facts) -> String {
    plan(&Cmdline::parse(cmdline), facts).to_string()
}

#[test]
fn what_the_command_line_asks_for_is_handed_on_and_the_rest_taken_down() {
    assert_eq!(
        text(STATIC, &facts()),
        "   1 delete the interface bond0
   2 take ens2 down and its addresses away
   3 make nest the host name of the real root
   4 copy /etc/udev/rules.d/80-ifname.rules to /etc/udev/rules.d/80-ifname.rules of the real root, mode 0644, group 0
   5 copy /run/systemd/network/90-lan0.link to /etc/systemd/network/90-lan0.link of the real root, mode 0644, group 0
   6 copy /run/NetworkManager/system-connections/ens2.nmconnection to /etc/NetworkManager/system-connections/ens2.nmconnection of the real root, mode 0600, group 0
   7 copy /run/systemd/network/70-ens2.network to /etc/systemd/network/05-70-ens2.network of the real root, mode 0644, group 0
   8 remove /run/NetworkManager
   9 remove /run/fledge/network
  10 remove /run/systemd/netif
  11 remove /run/systemd/network
  12 remove /run/systemd/resolve
  13 remove /run/networkd
"
    );
}

#[test]
fn a_config_s_own_network_goes_first_unless_the_operator_says_otherwise() {
    let own = Facts { own: ["/etc/systemd/network/x.network".into()].into(), own_host_name: true, ..facts() };
    let said = text(STATIC, &own);
    assert!(said.contains("of its own, /etc/systemd/network/x.network: none is handed on"), "{said}");
    assert!(!said.contains("ens2.nmconnection") && !said.contains("70-ens2") && !said.contains("make nest"), "{said}");
    assert!(said.contains("90-lan0.link") && said.contains("80-ifname.rules"), "{said}");
    assert!(said.contains("keep systemd-network-generator.service of the real root from running"), "{said}");
    for name in ["nestos", "coreos"] {
        let forced = text(&format!("{STATIC} {name}.force_persist_ip"), &own);
        assert!(forced.contains("ens2.nmconnection") && forced.contains("70-ens2"), "{forced}");
        let nothing = text(&format!("{STATIC} {name}.force_persist_ip {name}.no_persist_ip"), &own);
        assert!(!nothing.contains("copy") && nothing.contains("take ens2 down"), "{nothing}");
        assert!(nothing.contains(GENERATOR) && !forced.contains(GENERATOR), "{nothing}{forced}");
        assert!(text(&format!("{STATIC} {name}.no_persist_ip=0"), &facts()).contains("copy"));
    }
}

#[test]
fn the_default_network_is_not_handed_on() {
    for cmdline in ["", "ip=dhcp", "ip=dhcp,dhcp6 rd.neednet=1", "ip=auto"] {
        let said = text(cmdline, &facts());
        assert!(said.contains("nothing but the default network") && !said.contains("70-ens2"), "{cmdline}: {said}");
        // What comes of it on the first boot is what comes of it on later ones.
        assert_eq!(said.contains(GENERATOR), !cmdline.is_empty(), "{cmdline}: {said}");
    }
    for cmdline in [
        "ip=ens2:dhcp",
        "vlan=vlan9:ens2",
        "ip=dhcp nameserver=9.9.9.9",
        "bond=bond0:ens2",
        "ip=auto6",
        "ip=dhcp4",
        "ip=dhcp6",
        "ip=either6",
        "rd.net.dhcp.vendor-class=x",
    ] {
        assert!(text(cmdline, &facts()).contains("70-ens2"), "{cmdline}");
    }
}

#[test]
fn the_installers_files_keep_their_names_and_go_before_the_command_line() {
    let installed = |group| Facts {
        installed: ["lan.nmconnection", "lan", "50-x.network", "wg0.netdev", "90-lan0.link"]
            .map(|name| format!("{INSTALLED}/{name}"))
            .into(),
        networkd_group: group,
        ..facts()
    };
    let said = text(STATIC, &installed(Some(998)));
    for line in [
        "lan.nmconnection to /etc/NetworkManager/system-connections/lan.nmconnection of the real root, mode 0600, group 0",
        "lan to /etc/NetworkManager/system-connections/lan of the real root, mode 0600, group 0",
        "50-x.network to /etc/systemd/network/50-x.network of the real root, mode 0644, group 0",
        "wg0.netdev to /etc/systemd/network/wg0.netdev of the real root, mode 0640, group 998",
    ] {
        assert!(said.contains(&format!("copy {INSTALLED}/{line}")), "{line}: {said}");
    }
    assert!(!said.contains("70-ens2") && said.contains(GENERATOR), "{said}");
    assert!(said.contains(&format!("copy {INSTALLED}/90-lan0.link to /etc/systemd/network/90-lan0.link")), "{said}");
    assert_eq!(said.matches("90-lan0.link to").count(), 1, "{said}");
    assert!(text("", &installed(None)).contains("wg0.netdev of the real root, mode 0600, group 0"));
}

#[test]
fn a_root_on_the_network_keeps_it() {
    for cmdline in ["rd.iscsi.firmware=1", "netroot=iscsi:10.0.2.2::::iqn", "rd.iscsi.initiator=iqn", "root=iscsi:x"] {
        let said = text(&format!("{STATIC} {cmdline}"), &facts());
        assert!(!said.contains("take ") && !said.contains("delete"), "{said}");
        assert!(said.contains("70-ens2") && !said.contains("remove /run/systemd"), "{said}");
        // A live systemd-networkd needs neither, and NetworkManager of the real root would take the first for its own.
        assert!(said.contains("remove /run/NetworkManager") && said.contains("remove /run/fledge/network"), "{said}");
        assert!(!text(&format!("{cmdline} ip=dhcp"), &facts()).contains(GENERATOR));
    }
    assert!(text("rd.iscsi.firmware=0", &facts()).contains("take ens2 down"));
}

#[test]
fn a_name_that_goes_by_no_mac_address_is_left_out_with_a_word() {
    let named_otherwise = Vec::from(["/run/systemd/network/90-lan0.link".into()]);
    let said = text(STATIC, &Facts { named_otherwise, ..facts() });
    assert!(said.contains("90-lan0.link isn't handed on") && !said.contains("/etc/systemd/network/90-lan0"), "{said}");
}

#[test]
fn the_host_name_is_the_fifth_field_of_an_address() {
    for (cmdline, name) in [
        ("ip=::::nest:ens2:dhcp", Some("nest")),
        ("ip=10.0.0.2/24::10.0.0.1::node:ens2:none", Some("node")),
        ("ip=[2001:db8::2]::[2001:db8::1]:64:six.example.org:ens2:none", Some("six.example.org")),
        ("ip=[2001:db8::2]/64::[2001:db8::1]::six:ens2:none", Some("six")),
        ("ip=1.2.3.4::1.2.3.1:24:a:e:none ip=::::b:e:dhcp", Some("b")),
        ("ip=ens2:dhcp:1500:52:54:00:12:34:56", None),
        ("ip=1.2.3.4::1.2.3.1:24::ens2:none", None),
        ("ip=dhcp", None),
        ("", None),
    ] {
        assert_eq!(host_name(&Cmdline::parse(cmdline)).as_deref(), name, "{cmdline}");
    }
}

#[test]
fn a_host_name_that_is_none_is_told_of() {
    for name in ["../etc", "-a", "a_b", &"a".repeat(65)] {
        let said = text(&format!("ip=::::{name}:ens2:dhcp"), &facts());
        assert!(said.contains(&format!("\"{name}\" on the command line isn't handed on")), "{said}");
        assert!(!said.contains("the host name of the real root"), "{said}");
    }
}

#[test]
fn what_networkmanager_read_of_the_host_name_goes_first() {
    let said = text(STATIC, &Facts { host_name: Some("read".into()), ..facts() });
    assert!(said.contains("make read the host name") && !said.contains("make nest"), "{said}");
}
