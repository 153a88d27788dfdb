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
   5 copy /run/systemd/network/90-lan0.link to /etc/systemd/network/05-90-lan0.link of the real root, mode 0644, group 0
   6 copy /run/NetworkManager/system-connections/ens2.nmconnection to /etc/NetworkManager/system-connections/ens2.nmconnection of the real root, mode 0600, group 0
   7 copy /run/systemd/network/70-ens2.network to /etc/systemd/network/05-70-ens2.network of the real root, mode 0644, group 0
   8 remove /run/NetworkManager
   9 remove /run/systemd/netif
  10 remove /run/systemd/network
  11 remove /run/systemd/resolve
  12 remove /run/networkd
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
    for name in ["nestos", "coreos"] {
        let forced = text(&format!("{STATIC} {name}.force_persist_ip"), &own);
        assert!(forced.contains("ens2.nmconnection") && forced.contains("70-ens2"), "{forced}");
        let nothing = text(&format!("{STATIC} {name}.force_persist_ip {name}.no_persist_ip"), &own);
        assert!(!nothing.contains("copy") && nothing.contains("take ens2 down"), "{nothing}");
        assert!(text(&format!("{STATIC} {name}.no_persist_ip=0"), &facts()).contains("copy"));
    }
}

#[test]
fn the_default_network_is_not_handed_on() {
    for cmdline in ["", "ip=dhcp", "ip=dhcp,dhcp6 rd.neednet=1", "ip=auto6"] {
        let said = text(cmdline, &facts());
        assert!(said.contains("nothing but the default network") && !said.contains("70-ens2"), "{cmdline}: {said}");
    }
    for cmdline in ["ip=ens2:dhcp", "vlan=vlan9:ens2", "ip=dhcp nameserver=9.9.9.9", "bond=bond0:ens2"] {
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
    assert!(!said.contains("70-ens2") && !said.contains("05-90-lan0.link"), "{said}");
    assert!(said.contains(&format!("copy {INSTALLED}/90-lan0.link to /etc/systemd/network/90-lan0.link")), "{said}");
    assert!(text("", &installed(None)).contains("wg0.netdev of the real root, mode 0600, group 0"));
}

#[test]
fn a_root_on_the_network_keeps_it() {
    for cmdline in ["rd.iscsi.firmware=1", "netroot=iscsi:10.0.2.2::::iqn"] {
        let said = text(&format!("{STATIC} {cmdline}"), &facts());
        assert!(!said.contains("take ") && !said.contains("delete") && !said.contains("remove"), "{said}");
        assert!(said.contains("70-ens2"), "{said}");
    }
}

#[test]
fn the_host_name_is_the_fifth_field_of_an_address() {
    for (cmdline, name) in [
        ("ip=::::nest:ens2:dhcp", Some("nest")),
        ("ip=[2001:db8::2]::[2001:db8::1]:64:six.example.org:ens2:none", Some("six.example.org")),
        ("ip=1.2.3.4::1.2.3.1:24:a:e:none ip=::::b:e:dhcp", Some("b")),
        ("ip=ens2:dhcp:1500:52:54:00:12:34:56", None),
        ("ip=1.2.3.4::1.2.3.1:24::ens2:none", None),
        ("ip=::::../etc:ens2:dhcp", None),
        ("ip=::::-a:ens2:dhcp", None),
        ("ip=dhcp", None),
        ("", None),
    ] {
        assert_eq!(host_name(&Cmdline::parse(cmdline)).as_deref(), name, "{cmdline}");
    }
    let long = "a".repeat(65);
    assert_eq!(host_name(&Cmdline::parse(&format!("ip=::::{long}:e:dhcp"))), None);
}
