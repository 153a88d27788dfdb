// SPDX-License-Identifier: Apache-2.0
//! Between attempts: how long to wait, and what the console is told meanwhile.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::cause::Cause;
use super::{Cancel, SLICE};

/// Waits that double from `next` to `max`, each shortened by up to a quarter, so that machines that booted together don't ask
/// together.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, max }
    }

    pub(crate) fn step(&mut self, random: u16) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.max);
        full.saturating_sub(full / 4 * u32::from(random) / u32::from(u16::MAX))
    }
}

/// Sleeps until then, or until somebody cancels.
pub(crate) fn sleep_until(until: Instant, cancel: &Cancel) {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || cancel.is_set() {
            return;
        }
        std::thread::sleep(left.min(SLICE));
    }
}

/// When a wait is worth a line: after 1 s, then ever more rarely.
const LINES: [u64; 5] = [1, 5, 15, 30, 60];

/// Tells for whom a session waits, since when and why: not once an attempt, but once in a while for all its requests together.
#[derive(Debug, Default)]
pub(crate) struct Narrator {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    waiting: usize,
    lines: usize,
    since: Option<Instant>,
    next: Option<Instant>,
    last_cause: Option<Cause>,
}

impl Narrator {
    /// A request failed and will be tried again.
    pub(crate) fn failed(&self, first: bool, url: &str, since: Instant, attempts: u32, cause: &Cause) {
        if let Some(line) = self.line(Instant::now(), first, url, since, attempts, cause) {
            log::warn!("{line}");
        }
    }

    /// A request that had failed before has an end, good or bad.
    pub(crate) fn ended(&self) {
        let Ok(mut told) = self.told.lock() else { return };
        told.waiting = told.waiting.saturating_sub(1);
        if told.waiting == 0 {
            *told = Told::default();
        }
    }

    fn line(
        &self,
        now: Instant,
        first: bool,
        url: &str,
        since: Instant,
        attempts: u32,
        cause: &Cause,
    ) -> Option<String> {
        let mut told = self.told.lock().ok()?;
        told.waiting += usize::from(first);
        let start = *told.since.get_or_insert(since);
        let due = *told.next.get_or_insert(start + Duration::from_secs(1));
        let another_cause = told.lines > 0 && told.last_cause.as_ref() != Some(cause);
        // Another reason is news, but several servers may fail in turns.
        let news = another_cause && told.waiting == 1;
        if now < due && !news {
            return None;
        }
        told.lines += 1;
        told.last_cause = Some(cause.clone());
        let waited = now.duration_since(start);
        let following = LINES.iter().map(|line| start + Duration::from_secs(*line)).find(|line| *line > now);
        told.next = Some(following.unwrap_or(now + Duration::from_secs(60)));
        let others = match told.waiting.saturating_sub(1) {
            0 => String::new(),
            1 => "; 1 other request waits too".into(),
            others => format!("; {others} other requests wait too"),
        };
        let attempts = if attempts == 1 { "1 attempt".into() } else { format!("{attempts} attempts") };
        Some(format!("waiting for {url} since {} s ({attempts}): {cause}{others}", waited.as_secs().max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_never_shortened_by_more_than_a_quarter() {
        let waits = |random| {
            let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
            (0..8).map(|_| backoff.step(random).as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(waits(0), [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(waits(u16::MAX), [150, 300, 600, 1200, 2400, 3750, 3750, 3750]);
    }

    #[test]
    fn a_minute_of_waiting_is_told_in_few_lines() {
        let narrator = Narrator::default();
        let start = Instant::now();
        let mut lines = Vec::new();
        for tenth in 0..650_u32 {
            let now = start + Duration::from_millis(100) * tenth;
            lines.extend(narrator.line(now, tenth == 0, "http://x/", start, tenth + 1, &Cause::Refused));
        }
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert_eq!(lines[0], "waiting for http://x/ since 1 s (11 attempts): connection refused");
        assert_eq!(lines[4], "waiting for http://x/ since 60 s (601 attempts): connection refused");
    }

    #[test]
    fn another_reason_is_told_at_once_and_others_are_counted() {
        let narrator = Narrator::default();
        let start = Instant::now();
        let at = |tenths: u64| start + Duration::from_millis(tenths * 100);
        assert_eq!(narrator.line(at(1), true, "http://x/", start, 1, &Cause::NoRoute), None);
        assert!(narrator.line(at(11), false, "http://x/", start, 2, &Cause::NoRoute).is_some());
        let line = narrator.line(at(12), false, "http://x/", start, 3, &Cause::Refused).unwrap();
        assert!(line.ends_with("(3 attempts): connection refused"), "{line}");
        for _ in 0..2 {
            assert_eq!(narrator.line(at(13), true, "http://y/", at(13), 1, &Cause::Status(503)), None);
        }
        let line = narrator.line(at(60), false, "http://y/", at(13), 9, &Cause::Status(503)).unwrap();
        assert!(line.ends_with("503 Service Unavailable; 2 other requests wait too"), "{line}");
        for _ in 0..3 {
            narrator.ended();
        }
        assert_eq!(narrator.line(at(70), true, "http://z/", at(70), 1, &Cause::Refused), None, "a new wait");
    }
}
