// SPDX-License-Identifier: Apache-2.0
//! Time since the machine booted: the wall clock of a first boot is not to be trusted.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since boot.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or_default(), now.tv_nsec.try_into().unwrap_or_default())
}

/// Milliseconds since boot.
pub fn millis() -> u64 {
    u64::try_from(since_boot().as_millis()).unwrap_or(u64::MAX)
}
