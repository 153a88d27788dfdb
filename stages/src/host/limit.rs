// SPDX-License-Identifier: Apache-2.0
//! What the kernel allows this process.

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
