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
    /// Paths below the real root of network files that aren't the image's own.
    pub own: Vec<String>,
    /// Whether the real root has a host name that isn't the image's own.
    pub own_host_name: bool,
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

/// State of daemons in `/run`, which outlives the initramfs.
const STATE: [&str; 5] =
    ["/run/NetworkManager", "/run/systemd/netif", "/run/systemd/network", "/run/systemd/resolve", "/run/networkd"];

/// Decides what is done when the initramfs is left. `cmdline` has what dracut's `/etc/cmdline.d` adds, too.
pub fn plan(cmdline: &Cmdline, facts: &Facts) -> Plan {
    let mut plan = Plan::default();
    let root_needs_it = flag(cmdline, &["rd.iscsi.firmware"]) || cmdline.has("netroot");
    if root_needs_it {
        plan.remarks.push("the root is on the network: the interfaces stay as they are".into());
    } else {
        // What is made of others first.
        let (physical, made): (Vec<_>, Vec<_>) = facts.links.iter().partition(|link| link.physical);
        plan.steps.extend(made.into_iter().map(|link| Step::Delete { link: link.name.clone() }));
        plan.steps.extend(physical.into_iter().map(|link| Step::Down { link: link.name.clone() }));
    }
    hand_on(&mut plan, cmdline, facts);
    if !root_needs_it {
        plan.steps.extend(STATE.map(|path| Step::Forget { path }));
    }
    plan
}

fn flag(cmdline: &Cmdline, keys: &[&str]) -> bool {
    keys.iter().any(|key| cmdline.flag(key))
}

fn hand_on(plan: &mut Plan, cmdline: &Cmdline, facts: &Facts) {
    if flag(cmdline, &["nestos.no_persist_ip", "coreos.no_persist_ip"]) {
        plan.remarks.push("no_persist_ip is on the command line: nothing is handed on".into());
        return;
    }
    match host_name(cmdline) {
        Some(_) if facts.own_host_name => plan.remarks.push("the real root has a host name of its own".into()),
        Some(name) => plan.steps.push(Step::HostName { name }),
        None => {}
    }
    if facts.ifname_rules {
        let path = String::from(IFNAME_RULES);
        plan.steps.push(Step::Copy { from: path.clone(), to: path, mode: 0o644, group: 0 });
    }
    let (names, networks): (Vec<&String>, Vec<&String>) =
        facts.generated.iter().partition(|path| extension(path) == "link");
    // An installer's stand among them, because the initramfs used them.
    let is_installed = |path: &&String| facts.installed.iter().any(|other| base(other) == base(path));
    let names: Vec<_> = names.into_iter().filter(|path| !is_installed(path)).collect();
    copy(plan, facts, &names, "05-");
    let forced = flag(cmdline, &["nestos.force_persist_ip", "coreos.force_persist_ip"]);
    if let (Some(first), false) = (facts.own.first(), forced) {
        plan.remarks.push(format!("the real root has a network configuration of its own, {first}: none is handed on"));
    } else if !facts.installed.is_empty() {
        plan.remarks
            .push("the installer left a network configuration: it is handed on, the command line's is not".into());
        copy(plan, facts, &facts.installed.iter().collect::<Vec<_>>(), "");
    } else if !asks_for_something(cmdline) {
        plan.remarks.push("the command line asks for nothing but the default network: none is handed on".into());
    } else {
        copy(plan, facts, &networks, "05-");
    }
}

fn base(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

/// A file of systemd-networkd that the command line made gets a name that goes before those of the image: the first that
/// matches an interface counts.
fn copy(plan: &mut Plan, facts: &Facts, files: &[&String], prefix: &str) {
    for from in files {
        let name = base(from);
        let (to, mode, group) = match extension(name) {
            "network" | "link" => (format!("/etc/{NETWORKD}/{prefix}{name}"), 0o644, 0),
            // May hold keys, and its daemon isn't root.
            "netdev" => match facts.networkd_group {
                Some(group) => (format!("/etc/{NETWORKD}/{prefix}{name}"), 0o640, group),
                None => (format!("/etc/{NETWORKD}/{prefix}{name}"), 0o600, 0),
            },
            // The loopback interface's, which newer generators write, is nobody's wish.
            _ if name == "lo.nmconnection" => continue,
            // NetworkManager ignores connections that others can read.
            _ => (format!("/etc/{CONNECTIONS}/{name}"), 0o600, 0),
        };
        plan.steps.push(Step::Copy { from: (*from).clone(), to, mode, group });
    }
}

/// Arguments of dracut and `NetworkManager` that say more than "use the network".
const NETWORK_KEYS: [&str; 9] =
    ["bond", "bridge", "team", "vlan", "nameserver", "rd.route", "rd.ethtool", "rd.znet", "rd.peerdns"];

/// Whether the command line asks for another network than DHCP on every interface.
pub fn asks_for_something(cmdline: &Cmdline) -> bool {
    NETWORK_KEYS.iter().any(|key| cmdline.has(key))
        || cmdline.values("ip").any(|value| {
            !matches!(
                value,
                "" | "on" | "any" | "auto" | "dhcp" | "dhcp4" | "dhcp6" | "auto6" | "either6" | "dhcp,dhcp6"
            )
        })
}

/// The host name of an `ip=` argument: `ip=ADDRESS:PEER:GATEWAY:NETMASK:HOST:INTERFACE:METHOD` (dracut.cmdline(7)), where addresses of
/// IPv6 stand in brackets. The last one counts.
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
        || (first.contains('.') && first.chars().all(|c| c.is_ascii_digit() || c == '.'));
    let name = fields.get(4).filter(|name| is_address && !name.is_empty())?;
    let fits = name.len() <= HOST_NAME_MAX
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        && !name.starts_with(['-', '.']);
    fits.then(|| name.clone())
}

#[cfg(test)]
mod tests;
