//! What a person at a terminal sees.

use std::fs::File;
use std::process::{Command, Stdio};

use thalweg_tests::process::{binary, until};

use crate::{FLEET, Place, Running};

/// Runs a command on a terminal, and gives what it showed there.
fn on_a_terminal(place: &Place, no_color: bool, line: &str) -> String {
    let program =
        "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let mut command = Command::new("python3");
    command
        .args(["-c", program])
        .arg(binary("thalweg"))
        .args(line.split_whitespace());
    command
        .current_dir(place.0.path())
        .stdin(Stdio::null())
        .env_remove("NO_COLOR");
    if no_color {
        command.env("NO_COLOR", "1");
    }
    let output = command.output().expect("python3 runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_terminal_gets_colours_and_a_progress_line() {
    let slow = FLEET.replace("events: 20000,", "events: 3000, rate: 1500,");
    let place = Place::with(&slow.replace("every: 100ms", "every: 1h"));
    place.write("wrong.yaml", "job: X");
    assert!(on_a_terminal(&place, false, "validate wrong.yaml").contains("\u{1b}[31;1m"));
    assert!(!on_a_terminal(&place, true, "validate wrong.yaml").contains("\u{1b}[3"));
    let shown = on_a_terminal(&place, false, "run job.yaml");
    for word in [
        "in (",
        "/s)",
        "out (",
        "watermark 20",
        "lag ",
        "checkpoint ",
        "dead",
        "fleet: finished",
    ] {
        assert!(shown.contains(word), "{word}: {shown:?}");
    }
    // What has been read is told as it is, not as of a checkpoint.
    let mut early = shown
        .split('\r')
        .filter(|line| line.contains("no checkpoint yet"));
    assert!(early.any(|line| !line.contains(" 0 in")), "{shown:?}");
}

#[test]
fn a_reader_that_has_gone_ends_the_job() {
    let endless = FLEET.replace("events: 20000, ", "");
    let place = Place::with(&endless.replace("file: { path: ./out }", "stdout: "));
    let mut command = place.thalweg(["run", "job.yaml"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    drop(child.stdout.take());
    let mut running = Running(Some(child));
    until("it ends", || running.is_over());
    running.end().expect(2, &["standard output: Broken pipe"]);
}

#[test]
fn a_log_that_cannot_be_written_ends_no_job() {
    let place = Place::with(
        "\
job: quiet
settings: { checkpoint: { every: 50ms, to: ./checkpoints } }
sources:
  lines: { file: { path: ./log, follow: true }, schema: { n: int64 } }
sinks:
  out: { from: lines, file: { path: ./out } }
",
    );
    let out = || std::fs::read_dir(place.path("out")).into_iter().flatten();
    let rows = || {
        let files = out().flatten().map(|file| file.path());
        let texts = files.filter_map(|file| std::fs::read_to_string(file).ok());
        texts.map(|text| text.lines().count()).sum::<usize>()
    };
    place.write("log", "{\"n\":1}\n{\"n\":2}\n");
    let full = File::options().write(true).open("/dev/full");
    let mut command = place.thalweg(["run", "job.yaml"]);
    command.stderr(full.expect("a device"));
    let running = Running(Some(command.spawn().expect("the binary starts")));
    until("all is read", || rows() == 2);
    // Truncated: which is a warning, and nobody hears it.
    place.write("log", "{\"n\":3}\n");
    until("all is read again", || rows() == 3);
    running.signal("TERM");
    assert_eq!(running.end().status, Some(0));
}
