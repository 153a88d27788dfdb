// SPDX-License-Identifier: Apache-2.0
//! Entries of the journal with fields of their own, which distributions look for by their message ids: they have upstream's. In
//! journald's native protocol (systemd's `docs/JOURNAL_NATIVE_PROTOCOL.md`).

use std::os::unix::net::UnixDatagram;
use std::path::Path;

const SOCKET: &str = "/run/systemd/journal/socket";
/// The priority of information, as in syslog(3).
const INFO: &str = "6";

/// A configuration was fetched: one entry each, once the cache is written.
pub const FETCHED_CONFIG: &str = "57124006b5c94805b77ce473e92a8aeb";
/// A user's SSH keys were written.
pub const WROTE_KEYS: &str = "225067b87bbd4a0cb6ab151f82fa364b";

/// A deployment was chosen to be the root: rpm-ostree's history goes by it.
pub const DEPLOYMENT: &str = "7170336a73ba4601bad31af888aa0df7";

/// Sends an entry. Where no journal listens, nobody misses it.
pub fn send(id: &str, message: &str, fields: &[(&str, &str)]) {
    if !Path::new(SOCKET).exists() {
        return;
    }
    if let Err(error) = UnixDatagram::unbound().and_then(|socket| socket.send_to(&entry(id, message, fields), SOCKET)) {
        log::warn!("an entry could not be sent to the journal: {error}");
    }
}

fn entry(id: &str, message: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut entry = Vec::new();
    for (name, value) in [("MESSAGE", message), ("PRIORITY", INFO), ("MESSAGE_ID", id)].iter().chain(fields) {
        entry.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            entry.push(b'\n');
            entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            entry.push(b'=');
        }
        entry.extend_from_slice(value.as_bytes());
        entry.push(b'\n');
    }
    entry
}

/// Tells of a configuration as upstream does: its kind, where it comes from, and whether another one refers to it.
pub fn fetched(kind: &str, source: &str, referenced: bool) {
    let by = if referenced { "referenced " } else { "" };
    send(
        FETCHED_CONFIG,
        &format!("fetched {by}{kind} config from {source:?}"),
        &[
            ("IGNITION_CONFIG_TYPE", kind),
            ("IGNITION_CONFIG_SRC", source),
            ("IGNITION_CONFIG_REFERENCED", if referenced { "true" } else { "false" }),
        ],
    );
}

/// Tells of a user's SSH keys as upstream does. The path is this machine's, the target root included and without links.
pub fn wrote_keys(user: &str, path: &Path) {
    let message = format!("wrote ssh authorized keys file for user: {user}");
    let path = path.to_string_lossy();
    send(WROTE_KEYS, &message, &[("IGNITION_USER_NAME", user), ("IGNITION_PATH", &path)]);
}

/// Tells of the deployment that becomes the root, as OSTree does: its path in the initramfs and below the physical root, device, inode.
pub fn deployment(path: &str, below: &str, (device, inode): (u64, u64)) {
    send(
        DEPLOYMENT,
        &format!("the deployment {path} becomes the root"),
        &[
            ("DEPLOYMENT_PATH", below),
            ("DEPLOYMENT_DEVICE", &device.to_string()),
            ("DEPLOYMENT_INODE", &inode.to_string()),
        ],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_several_lines_have_a_length() {
        assert_eq!(
            entry("id", "m", &[("A", "b=c"), ("D", "e\nf")]),
            b"MESSAGE=m\nPRIORITY=6\nMESSAGE_ID=id\nA=b=c\nD\n\x03\0\0\0\0\0\0\0e\nf\n"
        );
    }
}
