// SPDX-License-Identifier: Apache-2.0
//! The report of a first boot as a picture: a bar for each stage and each of its steps over the time since the machine booted, as
//! `systemd-analyze plot` draws units. SVG 1.1.
//!
//! A report tells when a stage began and how long each step took, not when a step began: steps are drawn one after the other. Where they
//! ran side by side, one is drawn as late as it could have begun.

use std::fmt::Write as _;

use fledge_core::report::{Report, StageOutcome, StepOutcome, StepReport};

/// Height of a row, in pixels.
const ROW: u64 = 20;
/// What is above the first row and left of the first bar.
const TOP: u64 = 70;
const LEFT: u64 = 20;
/// Room for the text behind the last bar.
const TEXT: u64 = 700;
/// Pixels a second, and how wide the time may become: a longer one is drawn smaller.
const SCALE: u64 = 100;
const WIDEST: u64 = 6000;

const STYLE: &str = "\
rect.background { fill: #ffffff; }
rect.stage { fill: #7292c4; }
rect.done { fill: #a8c3a0; }
rect.already-so { fill: #d8d8d8; }
rect.failed { fill: #d05050; }
rect.root { fill: #c8b080; }
line.second { stroke: #c0c0c0; stroke-width: 1; }
line.tenth { stroke: #eeeeee; stroke-width: 1; }
text { font-family: Verdana, Helvetica, sans-serif; font-size: 12px; fill: #202020; }
text.title { font-size: 18px; }
text.time { font-size: 10px; fill: #606060; text-anchor: middle; }
";

/// One bar.
struct Row {
    class: &'static str,
    start: u64,
    took: u64,
    text: String,
    indent: bool,
}

/// The picture of a report.
pub fn svg(report: &Report) -> String {
    let rows = rows(report);
    let end = rows.iter().map(|row| row.start + row.took).max().unwrap_or_default();
    // Whole seconds, one at least; what a first boot takes, not what a clock that jumped says.
    let seconds = end / 1000 + 1;
    let scale = (WIDEST / seconds).clamp(1, SCALE);
    let width = LEFT + seconds * scale + TEXT;
    let height = TOP + ROW * u64::try_from(rows.len()).unwrap_or_default() + 2 * ROW;
    let mut svg = String::new();
    let mut line = |args: std::fmt::Arguments<'_>| {
        // Writing to a String can't fail.
        let _ = writeln!(svg, "{args}");
    };
    line(format_args!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>"));
    line(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">"
    ));
    line(format_args!("<style type=\"text/css\"><![CDATA[\n{STYLE}]]></style>"));
    line(format_args!("<rect class=\"background\" width=\"{width}\" height=\"{height}\"/>"));
    line(format_args!(
        "<text class=\"title\" x=\"{LEFT}\" y=\"28\">First boot {}, by {}</text>",
        escaped(&report.boot_id),
        escaped(&report.program)
    ));
    let bottom = height - ROW;
    // Tenths only where they can be told apart, and as many numbers as have room.
    let numbers = 1000 * (50 / scale).max(1);
    let step = match scale {
        50.. => 100,
        10.. => 1000,
        _ => usize::try_from(numbers).unwrap_or(1000),
    };
    for at in (0..=seconds * 1000).step_by(step) {
        let x = LEFT + at * scale / 1000;
        let class = if at % 1000 == 0 { "second" } else { "tenth" };
        line(format_args!("<line class=\"{class}\" x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{bottom}\"/>", TOP - 10));
        if at % numbers == 0 {
            line(format_args!("<text class=\"time\" x=\"{x}\" y=\"{}\">{} s</text>", TOP - 16, at / 1000));
        }
    }
    let mut y = TOP;
    for row in &rows {
        let x = LEFT + row.start * scale / 1000;
        let width = (row.took * scale / 1000).max(1);
        let (inset, indent) = if row.indent { (4, 8) } else { (2, 0) };
        line(format_args!(
            "<rect class=\"{}\" x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"{}\"/>",
            row.class,
            y + inset,
            ROW - 2 * inset
        ));
        line(format_args!(
            "<text x=\"{}\" y=\"{}\">{} ({} ms)</text>",
            x + width + 5 + indent,
            y + ROW - 6,
            escaped(&row.text),
            row.took
        ));
        y += ROW;
    }
    line(format_args!("</svg>"));
    svg
}

fn rows(report: &Report) -> Vec<Row> {
    let mut rows = Vec::new();
    for stage in &report.stages {
        let failed = matches!(stage.outcome, StageOutcome::Failed(_));
        rows.push(Row {
            class: if failed { "failed" } else { "stage" },
            start: stage.start_ms,
            took: stage.took_ms,
            text: stage.stage.name().to_owned(),
            indent: false,
        });
        let end = stage.start_ms + stage.took_ms;
        let mut next = stage.start_ms;
        for step in &stage.steps {
            let start = next.min(end.saturating_sub(step.took_ms)).max(stage.start_ms);
            rows.push(of_step(step, start));
            next = start + step.took_ms;
        }
    }
    // Nothing says when these began: they stand below the others, at the beginning.
    rows.extend(report.root.iter().map(|step| Row { class: "root", indent: false, ..of_step(step, 0) }));
    rows
}

fn of_step(step: &StepReport, start: u64) -> Row {
    let class = match step.outcome {
        StepOutcome::Done => "done",
        StepOutcome::AlreadySo => "already-so",
        StepOutcome::Failed => "failed",
    };
    Row { class, start, took: step.took_ms, text: step.what.clone(), indent: true }
}

/// Text as XML has it: characters that mean something to it are named, those that it can't hold are replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use fledge_core::diag::Failure;
    use fledge_core::report::{Memory, StageReport};
    use fledge_core::stage::Stage;

    use super::*;

    fn step(what: &str, took_ms: u64, outcome: StepOutcome) -> StepReport {
        StepReport { what: what.into(), place: None, outcome, took_ms }
    }

    fn stage(stage: Stage, start_ms: u64, took_ms: u64, steps: Vec<StepReport>) -> StageReport {
        let outcome = StageOutcome::Done;
        StageReport { stage, start_ms, took_ms, outcome, remarks: Vec::new(), steps, memory: Memory::default() }
    }

    fn report() -> Report {
        let mut report = Report::new("fledge 0.1.0", "b007");
        report.stages.push(stage(
            Stage::Disks,
            2000,
            1000,
            vec![
                step("format <a> & \"b\"\u{7}", 600, StepOutcome::Done),
                step("keep c", 0, StepOutcome::AlreadySo),
                step("side by side", 900, StepOutcome::Done),
            ],
        ));
        let mut files = stage(Stage::Files, 3500, 10, vec![step("write /etc/motd", 10, StepOutcome::Failed)]);
        files.outcome = StageOutcome::Failed(vec![Failure::new("x", "y")]);
        report.stages.push(files);
        report.root.push(step("grow the root", 250, StepOutcome::Done));
        report
    }

    #[test]
    fn bars_stand_where_their_times_are() {
        let svg = svg(&report());
        let bar = |class: &str, x: u64| format!("<rect class=\"{class}\" x=\"{x}\" y=\"");
        for (class, x, width) in [
            ("stage", 220, 100),
            ("done", 220, 60),
            ("already-so", 280, 1),
            ("done", 230, 90),
            ("failed", 370, 1),
            ("root", 20, 25),
        ] {
            let start = bar(class, x);
            let found =
                svg.lines().any(|line| line.starts_with(&start) && line.contains(&format!("width=\"{width}\"")));
            assert!(found, "{class} {x} {width}\n{svg}");
        }
        // 0 to 4 seconds, a line each.
        assert_eq!(svg.matches("class=\"second\"").count(), 5);
    }

    #[test]
    fn words_of_a_plan_are_no_markup() {
        let svg = svg(&report());
        assert!(svg.contains(">format &lt;a&gt; &amp; &quot;b&quot;\u{fffd} (600 ms)<"), "{svg}");
        assert!(svg.starts_with("<?xml") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_long_wait_is_drawn_smaller() {
        let mut report = report();
        report.stages.push(stage(Stage::Umount, 24 * 3600 * 1000, 5, Vec::new()));
        let svg = svg(&report);
        let width: u64 = svg.split_once("width=\"").unwrap().1.split_once('"').unwrap().0.parse().unwrap();
        assert!(width < 100_000, "{width}");
        assert!(svg.len() < 1_000_000, "{}", svg.len());
        assert!(super::svg(&Report::new("fledge", "")).contains("</svg>"));
    }
}
