// SPDX-License-Identifier: Apache-2.0
//! Programs that are surely there.

use super::*;

pub(crate) const SH: Tool = Tool { name: "sh", optional: false, limit: Duration::from_secs(20), module: "ignition" };

fn sh(script: &str) -> Result<Output, Failure> {
    run(SH, &["-c".into(), script.into()])
}

#[test]
fn what_is_said_comes_back() {
    let output = sh("echo out; echo err >&2").unwrap();
    assert_eq!(output, Output { code: Some(0), stdout: "out\n".into(), stderr: "err\n".into() });
}

#[test]
fn a_failure_ends_with_the_last_words() {
    let failure = sh("head -c 100000 /dev/zero | tr '\\0' x >&2; echo >&2; echo 'no space' >&2; exit 9").unwrap_err();
    assert!(failure.why.starts_with("it failed with exit code 9: x"), "{failure}");
    assert!(failure.why.ends_with("no space"), "{failure}");
    assert!(failure.why.len() < 2 * TOLD, "{}", failure.why.len());
}

#[test]
fn a_failure_begins_with_the_first_words() {
    let failure = sh("echo 'too small' >&2; head -c 5000 /dev/zero | tr '\\0' x >&2; exit 1").unwrap_err();
    assert!(failure.why.starts_with("it failed with exit code 1: too small"), "{failure}");
}

#[test]
fn the_environment_is_fixed_and_nothing_can_be_read() {
    let output = sh("echo $LC_ALL; echo $PATH; echo $HOME; cat; pwd").unwrap();
    assert_eq!(output.stdout, format!("C\n{PATH}\n\n/\n"));
}

#[test]
fn time_is_limited_even_when_output_goes_on() {
    let tool = Tool { limit: Duration::from_millis(300), ..SH };
    let start = Instant::now();
    let failure = output(tool, &["-c".into(), "while :; do echo x; done".into()]).unwrap_err();
    assert!(failure.why.contains("did not end within"), "{failure}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_is_left_behind_is_not_waited_for() {
    let start = Instant::now();
    let output = sh("sleep 30 & echo done").unwrap();
    assert_eq!(output.stdout, "done\n");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn secrets_are_shown_nowhere() {
    let secret = Secret::new("$6$salt$hash");
    let args = ["-c".into(), "echo \"bad field: $0\" >&2; exit 3".into(), Arg::Secret(&secret)];
    let failure = run(SH, &args).unwrap_err();
    assert!(failure.why.contains("bad field: (secret)"), "{failure}");
    assert!(!failure.to_string().contains("salt"), "{failure}");
}

#[test]
fn a_key_is_read_from_a_file_that_no_command_line_and_no_failure_shows() {
    let key = Key::new(b"sesame\0\nopen".to_vec());
    // As clevis does: it is opened more than once, by children too, and not through standard input.
    let script =
        "test -r $1 && echo x | sh -c 'cat >/dev/null; cat $1' - $1 && tr '\\0' ' ' </proc/$$/cmdline && cat $1";
    let output = run(SH, &["-c".into(), script.into(), "-".into(), Arg::Key(&key)]).unwrap();
    assert!(output.stdout.starts_with("sesame\0\nopen/"), "{}", output.stdout);
    assert!(output.stdout.ends_with("sesame\0\nopen"), "{}", output.stdout);
    assert_eq!(output.stdout.matches("sesame").count(), 2);
    let failure = run(SH, &["-c".into(), "exit 3".into(), Arg::Key(&key)]).unwrap_err();
    assert!(failure.to_string().contains("(secret)") && !failure.to_string().contains("sesame"), "{failure}");
    assert_eq!(format!("{key:?}"), "(secret)");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let failure = run(Tool { name: "surely-not-there", ..SH }, &[]).unwrap_err();
    assert!(failure.to_string().contains("surely-not-there"), "{failure}");
}

#[test]
fn a_program_of_another_module_is_to_be_had_there() {
    for (tool, module) in [(TUNE2FS, "fledge-ostree"), (OSTREE_PREPARE_ROOT, "ostree"), (MDADM, "ignition")] {
        let failure = run(Tool { name: "surely-not-there", ..tool }, &[]).unwrap_err();
        assert!(failure.remedy.is_some_and(|remedy| remedy.contains(&format!("module {module},"))));
    }
}

/// The initramfs must hold what this table names.
#[test]
fn the_dracut_modules_install_every_tool() {
    for module in ["ignition", OSTREE] {
        let folder = if module == OSTREE { "40fledge-ostree" } else { "30ignition" };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dracut").join(folder).join("module-setup.sh");
        let text = std::fs::read_to_string(script).unwrap();
        let words: Vec<_> = text.split(|c: char| c.is_whitespace() || "\"'()/".contains(c)).collect();
        for tool in TOOLS.iter().filter(|tool| tool.module == module && **tool != IS_LIVE_IMAGE) {
            assert!(words.contains(&tool.name), "the dracut module {module} doesn't install {}", tool.name);
        }
    }
    let elsewhere: Vec<_> = TOOLS.iter().filter(|tool| !["ignition", OSTREE].contains(&tool.module)).collect();
    assert_eq!(elsewhere, [&OSTREE_PREPARE_ROOT]);
}
