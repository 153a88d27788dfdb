// SPDX-License-Identifier: Apache-2.0
//! Log lines: to the journal, or to standard output when asked to.

use std::io::{self, Write};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Where log lines go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sink {
    /// Standard error. Under systemd it is the journal's, and each line starts with its priority (sd-daemon(3)).
    Journal,
    /// Standard output, without priorities: `--log-to-stdout`.
    Stdout,
}

struct Logger {
    sink: Sink,
    priorities: bool,
}

/// Sends the lines of the `log` macros to the sink from now on. Only the first call counts.
pub fn init(sink: Sink) {
    let priorities = sink == Sink::Journal && std::env::var_os("JOURNAL_STREAM").is_some();
    if log::set_boxed_logger(Box::new(Logger { sink, priorities })).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// The priorities of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries have nothing to say to an operator below a warning.
        metadata.target().starts_with("fledge") || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = record.args().to_string();
        for line in message.lines() {
            let line =
                if self.priorities { format!("<{}>{line}\n", priority(record.level())) } else { format!("{line}\n") };
            // A log that can't be written must not stop a boot.
            let _ = match self.sink {
                Sink::Journal => io::stderr().write_all(line.as_bytes()),
                Sink::Stdout => io::stdout().write_all(line.as_bytes()),
            };
        }
    }

    fn flush(&self) {}
}
