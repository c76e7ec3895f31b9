//! What a person at a terminal sees.

use std::process::{Command, Stdio};

use thalweg_tests::process::binary;

use crate::{FLEET, Place};

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
