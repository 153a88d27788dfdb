// SPDX-License-Identifier: Apache-2.0
//! What becomes of the network of the initramfs when the real root takes over: taken down, and what an operator or an installer asked
//! for handed on, with the host name and the names of interfaces.
//!
//! As Fedora CoreOS has it (`coreos-teardown-initramfs`): a config's own network files in the real root go before the initramfs's, unless
//! `*.force_persist_ip` is there; `*.no_persist_ip` hands nothing on; DHCP everywhere, which is what nobody asked for, isn't
//! handed on either. Beside `NetworkManager`'s connections it knows the files of systemd-networkd.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::cmdline::Cmdline;

/// Where `NetworkManager`'s connections are below `/etc` and `/run`.
pub const CONNECTIONS: &str = "NetworkManager/system-connections";
/// Where systemd-networkd's files are below `/etc` and `/run`.
pub const NETWORKD: &str = "systemd/network";
/// Where dracut's `ifname=` writes its rules: in the initramfs and in the real root.
pub const IFNAME_RULES: &str = "/etc/udev/rules.d/80-ifname.rules";
/// Where `NetworkManager`'s generator leaves the host name of the command line.
pub const HOST_NAME: &str = "/run/NetworkManager/initrd/hostname";
/// What makes files of systemd-networkd of the kernel command line, in the initramfs and again in the real root.
pub const GENERATOR: &str = "systemd-network-generator.service";
/// Where the files of an installer are kept until the end.
pub const INSTALLED: &str = "/run/fledge/network";
/// The longest host name that Linux takes.
const HOST_NAME_MAX: usize = 64;

/// A network interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Whether it belongs to a device. The others can be deleted.
    pub physical: bool,
}

/// What is there when the initramfs is left.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// All interfaces but the loopback one.
    pub links: Vec<Link>,
    /// Paths of files that an installer left, for the initramfs and for the real root.
    pub installed: Vec<String>,
    /// Paths of files in `/run` that the initramfs made of the command line.
    pub generated: Vec<String>,
    /// Those of them that name an interface by something else than its MAC address.
    pub named_otherwise: Vec<String>,
    /// Paths below the real root of network files that are neither the image's own nor the same as what [`copies`] would put there.
    pub own: Vec<String>,
    /// Whether the real root has a host name that isn't the image's own.
    pub own_host_name: bool,
    /// The host name that `NetworkManager` found on the command line.
    pub host_name: Option<String>,
    /// Whether there are rules of `ifname=`.
    pub ifname_rules: bool,
    /// The real root's group of systemd-networkd.
    pub networkd_group: Option<u32>,
}

/// A step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Take an interface down and take its addresses away.
    Down {
        /// Its name.
        link: String,
    },
    /// Delete an interface that no device has.
    Delete {
        /// Its name.
        link: String,
    },
    /// Copy a file into the real root.
    Copy {
        /// Its path in the initramfs.
        from: String,
        /// Its path in the real root.
        to: String,
        /// Its permission bits.
        mode: u32,
        /// Its group.
        group: u32,
    },
    /// Write the real root's `/etc/hostname`.
    HostName {
        /// The host name.
        name: String,
    },
    /// Keep a unit of the real root from running on this boot.
    Mask {
        /// Its name.
        unit: &'static str,
    },
    /// Remove state of the initramfs's daemons, which the real root would take for its own.
    Forget {
        /// File or folder in the initramfs.
        path: &'static str,
    },
}

/// What is to be done, and why.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// Decisions, in words.
    pub remarks: Vec<String>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down { link } => write!(f, "take {link} down and its addresses away"),
            Self::Delete { link } => write!(f, "delete the interface {link}"),
            Self::Copy { from, to, mode, group } => {
                write!(f, "copy {from} to {to} of the real root, mode {mode:04o}, group {group}")
            }
            Self::HostName { name } => write!(f, "make {name} the host name of the real root"),
            Self::Mask { unit } => write!(f, "keep {unit} of the real root from running on this boot"),
            Self::Forget { path } => write!(f, "remove {path}"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.remarks.iter().try_for_each(|remark| writeln!(f, "     {remark}"))?;
        self.steps.iter().enumerate().try_for_each(|(number, step)| writeln!(f, "{:4} {step}", number + 1))
    }
}

/// State that is of no use to anybody in the real root: `NetworkManager`'s, and what an installer left, which may hold keys.
const LEFT: [&str; 2] = ["/run/NetworkManager", INSTALLED];
/// State that systemd-networkd and systemd-resolved go on with where they keep the way to the root open.
const LIVE: [&str; 4] = ["/run/systemd/netif", "/run/systemd/network", "/run/systemd/resolve", "/run/networkd"];

/// Arguments that [`GENERATOR`] makes files of.
const GENERATOR_KEYS: [&str; 8] = ["ip", "ifname", "vlan", "bond", "bridge", "nameserver", "rd.route", "rd.peerdns"];

/// Decides what is done when the initramfs is left. `cmdline` has what dracut's `/etc/cmdline.d` adds, too.
pub fn plan(cmdline: &Cmdline, facts: &Facts) -> Plan {
    let mut plan = Plan::default();
    let root_needs_it = on_the_network(cmdline);
    if root_needs_it {
        plan.remarks.push("the root is on the network: the interfaces stay as they are".into());
    } else {
        // What is made of others first.
        let (physical, made): (Vec<_>, Vec<_>) = facts.links.iter().partition(|link| link.physical);
        plan.steps.extend(made.into_iter().map(|link| Step::Delete { link: link.name.clone() }));
        plan.steps.extend(physical.into_iter().map(|link| Step::Down { link: link.name.clone() }));
    }
    let handed_on = hand_on(&mut plan, cmdline, facts);
    plan.steps.extend(LEFT.map(|path| Step::Forget { path }));
    if root_needs_it {
        return plan;
    }
    plan.steps.extend(LIVE.map(|path| Step::Forget { path }));
    if !handed_on && GENERATOR_KEYS.iter().any(|key| cmdline.has(key)) {
        plan.steps.push(Step::Mask { unit: GENERATOR });
    }
    plan
}

/// Whether the disks of this boot are reached over the network (dracut.cmdline(7)).
pub fn on_the_network(cmdline: &Cmdline) -> bool {
    let firmware = "rd.iscsi.firmware";
    let others = |key: &str| key == "netroot" || (key.starts_with("rd.iscsi.") && key != firmware);
    cmdline.flag(firmware)
        || cmdline.iter().any(|(key, _)| others(key))
        || cmdline.value("root").is_some_and(|root| root.starts_with("iscsi:"))
}

fn flag(cmdline: &Cmdline, keys: &[&str]) -> bool {
    keys.iter().any(|key| cmdline.flag(key))
}

/// Says whether the network of the command line is handed on.
fn hand_on(plan: &mut Plan, cmdline: &Cmdline, facts: &Facts) -> bool {
    if flag(cmdline, &["nestos.no_persist_ip", "coreos.no_persist_ip"]) {
        plan.remarks.push("no_persist_ip is on the command line: nothing is handed on".into());
        return false;
    }
    match facts.host_name.clone().or_else(|| host_name(cmdline)) {
        Some(_) if facts.own_host_name => plan.remarks.push("the real root has a host name of its own".into()),
        Some(name) if is_host_name(&name) => plan.steps.push(Step::HostName { name }),
        Some(name) => plan.remarks.push(format!(
            "{name:?} on the command line isn't handed on as the host name: one has letters, digits, '-' and '.', and at most {HOST_NAME_MAX} of them"
        )),
        None => {}
    }
    if facts.ifname_rules {
        let path = String::from(IFNAME_RULES);
        plan.steps.push(Step::Copy { from: path.clone(), to: path, mode: 0o644, group: 0 });
    }
    let (names, networks): (Vec<&String>, Vec<&String>) =
        facts.generated.iter().partition(|path| extension(path) == "link");
    for name in names {
        // An installer's stand among them, because the initramfs used them.
        if facts.installed.iter().any(|other| base(other) == base(name)) {
            continue;
        }
        if facts.named_otherwise.contains(name) {
            plan.remarks.push(format!("{name} isn't handed on: it goes by no MAC address"));
        } else {
            copy(plan, facts, name, true);
        }
    }
    let forced = flag(cmdline, &["nestos.force_persist_ip", "coreos.force_persist_ip"]);
    if let (Some(first), false) = (facts.own.first(), forced) {
        plan.remarks.push(format!("the real root has a network configuration of its own, {first}: none is handed on"));
    } else if !facts.installed.is_empty() {
        plan.remarks
            .push("the installer left a network configuration: it is handed on, the command line's is not".into());
        for from in &facts.installed {
            copy(plan, facts, from, false);
        }
    } else if !asks_for_something(cmdline) {
        plan.remarks.push("the command line asks for nothing but the default network: none is handed on".into());
    } else {
        for from in networks {
            copy(plan, facts, from, true);
        }
        return true;
    }
    false
}

fn base(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

/// What a plan may copy, whatever it decides: from where in the initramfs, to where in the real root.
pub fn copies(facts: &Facts) -> impl Iterator<Item = (&str, String)> {
    let installed = facts.installed.iter().map(|from| (from, false));
    let all = installed.chain(facts.generated.iter().map(|from| (from, true)));
    all.filter_map(|(from, generated)| target(base(from), generated).map(|to| (from.as_str(), to)))
}

/// A network that the command line made gets a name that goes before those of the image: the first that matches an interface counts.
/// For names of interfaces that would be too much: the image's own, or a config's, are meant to go before the command line's.
fn target(name: &str, generated: bool) -> Option<String> {
    match extension(name) {
        "network" | "netdev" if generated => Some(format!("/etc/{NETWORKD}/05-{name}")),
        "network" | "netdev" | "link" => Some(format!("/etc/{NETWORKD}/{name}")),
        // The loopback interface's, which newer generators write, is nobody's wish.
        _ if name == "lo.nmconnection" => None,
        _ => Some(format!("/etc/{CONNECTIONS}/{name}")),
    }
}

fn copy(plan: &mut Plan, facts: &Facts, from: &str, generated: bool) {
    let Some(to) = target(base(from), generated) else { return };
    let (mode, group) = match extension(from) {
        "network" | "link" => (0o644, 0),
        // May hold keys, and its daemon isn't root.
        "netdev" => facts.networkd_group.map_or((0o600, 0), |group| (0o640, group)),
        // NetworkManager ignores connections that others can read.
        _ => (0o600, 0),
    };
    plan.steps.push(Step::Copy { from: from.into(), to, mode, group });
}

/// Arguments of dracut and `NetworkManager` that say more than "use the network".
const NETWORK_KEYS: [&str; 9] =
    ["bond", "bridge", "team", "vlan", "nameserver", "rd.route", "rd.ethtool", "rd.znet", "rd.peerdns"];

/// Whether the command line asks for another network than DHCP on every interface.
pub fn asks_for_something(cmdline: &Cmdline) -> bool {
    cmdline.iter().any(|(key, _)| NETWORK_KEYS.contains(&key) || key.starts_with("rd.net.dhcp."))
        || cmdline.values("ip").any(|value| !matches!(value, "" | "on" | "any" | "auto" | "dhcp" | "dhcp,dhcp6"))
}

/// What stands in an `ip=` argument for the host name: `ip=ADDRESS:PEER:GATEWAY:NETMASK:HOST:INTERFACE:METHOD` (dracut.cmdline(7)), where
/// addresses of IPv6 stand in brackets, and an address may have its prefix with it. The last one counts.
pub fn host_name(cmdline: &Cmdline) -> Option<String> {
    cmdline.values("ip").filter_map(host_name_of).last()
}

fn host_name_of(value: &str) -> Option<String> {
    let mut fields: Vec<String> = Vec::from([String::new()]);
    let mut inside = false;
    for c in value.chars() {
        inside = (inside || c == '[') && c != ']';
        match fields.last_mut() {
            Some(_) if c == ':' && !inside => fields.push(String::new()),
            Some(field) => field.push(c),
            None => {}
        }
    }
    // In the form `ip=INTERFACE:METHOD:MTU:MAC` an interface comes first, and a MAC address has colons, too.
    let first = fields.first()?;
    let is_address = first.is_empty()
        || first.starts_with('[')
        || (first.contains('.') && first.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '/')));
    fields.into_iter().nth(4).filter(|name| is_address && !name.is_empty())
}

fn is_host_name(name: &str) -> bool {
    name.len() <= HOST_NAME_MAX
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        && !name.starts_with(['-', '.'])
}

#[cfg(test)]
mod tests;
