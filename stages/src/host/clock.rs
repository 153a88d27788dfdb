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

/// The wall clock's date and time, in UTC, as RFC 3339 has it, to the second.
pub fn date() -> String {
    rfc3339(u64::try_from(unix()).unwrap_or_default())
}

/// Seconds since 1970 by the wall clock.
pub fn unix() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

/// Seconds since 1970 as `2026-11-20T10:31:08Z`. Years count from March, so that a leap day is the last of a year.
pub(crate) fn rfc3339(seconds: u64) -> String {
    const DAYS_BEFORE_1970: u64 = 719_468;
    const CYCLE: u64 = 146_097;
    let days = seconds / 86_400 + DAYS_BEFORE_1970;
    let (cycle, day) = (days / CYCLE, days % CYCLE);
    let year = (day - day / 1460 + day / 36_524 - day / (CYCLE - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}Z", cycle * 400 + year + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_date_prints_them() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_170_668, "2026-11-20T10:31:08Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), date);
        }
    }
}
