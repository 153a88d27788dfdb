// SPDX-License-Identifier: Apache-2.0
//! What the kernel allows this process, and what it has taken.

use fledge_core::report::Memory;
use nix::sys::resource::{UsageWho, getrusage};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Allows as many open files as may be allowed. All contents of a plan are open before the first of them is placed, and services
/// start with 1024 (systemd.exec(5), `LimitNOFILE=`).
pub fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            log::warn!("the limit of open files could not be raised: {error}");
        }
    }
}

/// How much memory this process, and the largest of those it ran, have taken at their peaks. What can't be found out is 0.
pub fn memory() -> Memory {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    let children = getrusage(UsageWho::RUSAGE_CHILDREN).map_or(0, |usage| usage.max_rss());
    Memory { own_kib: peak.unwrap_or_default(), children_kib: children.try_into().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    #[test]
    fn peaks_are_of_this_process_and_its_children() {
        let before = super::memory();
        assert!(before.own_kib > 500 && before.own_kib < 4 << 20, "{before:?}");
        assert!(std::process::Command::new("true").status().is_ok_and(|status| status.success()));
        let after = super::memory();
        assert!(after.children_kib > 100 && after.children_kib < 4 << 20, "{after:?}");
    }
}
