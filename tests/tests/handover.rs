// SPDX-License-Identifier: Apache-2.0
//! Handing the network over, with real interfaces in a network of the test's own.

use std::fs;
use std::process::Command;

use fledge_stages::handover::{self, Places};
use fledge_tests::namespace::{alone_on_the_network, run};

fn ip(args: &str) -> String {
    run(Command::new("ip").args(args.split(' ')))
}

#[test]
fn interfaces_lose_their_addresses_and_what_was_made_of_others_goes() {
    alone_on_the_network("handover::interfaces_lose_their_addresses_and_what_was_made_of_others_goes", &[], || {
        for command in [
            "link add lan0 type veth peer name far0",
            "link add br0 type bridge",
            "link set dev lan0 master br0",
            "link set dev lan0 up",
            "link set dev far0 up",
            "link set dev br0 up",
            "address add 192.0.2.9/24 dev br0",
            "address add 2001:db8::9/64 dev lan0 nodad",
            "route add 198.51.100.0/24 via 192.0.2.1",
        ] {
            ip(command);
        }
        assert!(ip("route").contains("198.51.100.0/24"));

        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for path in ["links/lan0/device", "links/far0/device", "links/br0", "links/lo", "proc", "root/etc"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        fs::write(at("links/bonding_masters"), "").unwrap();
        // `sysfs` shows the network that it was mounted in, so these are made by hand.
        let places = Places { initramfs: folder.path().into(), root: at("root"), links: at("links") };

        fs::write(at("proc/cmdline"), "netroot=iscsi:192.0.2.1::::iqn").unwrap();
        handover::run(&places).unwrap();
        assert!(ip("route").contains("198.51.100.0/24"), "a root on the network has lost it");

        fs::write(at("proc/cmdline"), "quiet").unwrap();
        for _ in 0..2 {
            handover::run(&places).unwrap();
            let left = ip("-o address show");
            assert!(left.lines().all(|line| line.contains(" lo ")), "{left}");
            let links = ip("-o link show");
            assert!(!links.contains("br0:") && links.contains("lan0"), "{links}");
            assert!(
                links.lines().filter(|line| line.contains("lan0@")).all(|line| line.contains("state DOWN")),
                "{links}"
            );
            assert_eq!(ip("route"), "");
        }
    });
}
