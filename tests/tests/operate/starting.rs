//! Signals in the first moments of a process.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, Instant};

use super::{Job, Process, fleet, until};

/// So that opening a pipe for writing fails for as long as nobody reads it.
const NONBLOCKING: i32 = 0o4000;

/// Moments after the start of a process, or after it has caught the signal (milliseconds).
const MOMENTS: [u64; 7] = [0, 1, 2, 5, 10, 20, 50];

/// Whether a process has caught SIGTERM.
fn catches_stops(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it is there");
    let caught = (status.lines()).find_map(|line| line.strip_prefix("SigCgt:"));
    // None once it has ended and is not waited for.
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask >> 14 & 1 == 1)
}

#[allow(
    clippy::disallowed_methods,
    reason = "moments of a process are real time"
)]
fn pass(time: Duration) {
    let began = Instant::now();
    while let Some(left) = time.checked_sub(began.elapsed()) {
        std::thread::park_timeout(left);
    }
}

/// Ends a run by SIGTERM: exit status, and what it said.
fn stopped(mut running: Process) -> (Option<i32>, String) {
    running.signal("TERM");
    running.end()
}

#[test]
fn a_stop_in_the_first_moments_of_a_run_is_a_stop_and_the_next_run_goes_on() {
    const EVENTS: u32 = 60_000;
    let expected = fleet::expected(EVENTS);
    let job = Job::new(&fleet::slow(EVENTS, 1000));
    for moment in MOMENTS.map(Duration::from_millis) {
        for _ in 0..4 {
            // From its birth on: before it has caught the signal, the system ends it.
            let mut running = job.start(&[]);
            pass(moment);
            let caught = catches_stops(running.child().id());
            let (code, said) = stopped(running);
            let stops = code == Some(0) && said.contains("stopped");
            let ended = code.is_none() && !caught;
            assert!(stops || ended, "{moment:?}, {code:?}: {said}");
            // From where it has caught the signal on.
            let mut running = job.start(&["--workers", "2"]);
            let process = running.child().id();
            until("it has caught the signal", || catches_stops(process));
            pass(moment);
            let (code, said) = stopped(running);
            assert_eq!(code, Some(0), "{moment:?}: {said}");
            assert!(said.contains("stopped"), "{moment:?}: {said}");
        }
    }
    // None of them has to be taken over from, and none has done anything twice.
    let swift = ["--set", "sources.reports.generate.rate=1000000"];
    let (code, said) = job.start(&swift).end();
    assert_eq!(code, Some(0), "{said}");
    assert!(fleet::windows(&job) == expected);
}

/// Stands for a definition that is long in being read and planned; what writes to it.
fn endless_definition(job: &Job, process: &mut Process) -> File {
    let mut options = File::options();
    options.write(true).custom_flags(NONBLOCKING);
    let mut opened = None;
    until("the definition is being read", || {
        assert!(process.child().try_wait().expect("a child").is_none());
        opened = options.open(job.path("job.yaml")).ok();
        opened.is_some()
    });
    opened.expect("it is being read")
}

/// Lets the definition be a pipe.
fn make_pipe(job: &Job) -> std::path::PathBuf {
    let path = job.path("job.yaml");
    std::fs::remove_file(&path).expect("a file");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo").success());
    path
}

#[test]
fn a_stop_while_a_job_is_planned_claims_nothing() {
    let job = Job::new("");
    let path = make_pipe(&job);
    std::fs::write(job.path("secret"), "a secret of the tests").expect("a file");
    let secret = job.path("secret").display().to_string();
    let hosts = [
        "--hosts",
        "127.0.0.1:1,127.0.0.1:2",
        "--secret-file",
        &secret,
    ];
    let follow = [&["follow", "--process", "1"][..], &hosts].concat();
    for (command, says) in [
        (&["run"][..], "stopped before it had begun; run it again"),
        (&["run", "--json"], r#"{"outcome":"stopped","status""#),
        (&follow, ""),
    ] {
        for signal in ["TERM", "INT"] {
            let mut thalweg = super::thalweg();
            thalweg.args(command).arg(&path);
            thalweg.stdout(std::process::Stdio::piped());
            thalweg.stderr(std::process::Stdio::piped());
            let mut running = Process(Some(thalweg.spawn().expect("the binary starts")));
            let definition = endless_definition(&job, &mut running);
            running.signal(signal);
            let (code, said) = running.end();
            drop(definition);
            assert_eq!(code, Some(0), "{command:?}: {said}");
            assert!(said.contains(says), "{command:?}: {said}");
            assert!(!job.path("checkpoints").exists(), "{command:?}");
        }
    }
}

#[test]
fn a_savepoint_that_is_asked_for_while_a_job_is_planned_is_taken() {
    let job = Job::new("");
    make_pipe(&job);
    let mut running = job.start(&[]);
    let mut definition = endless_definition(&job, &mut running);
    running.signal("USR1");
    let text = fleet::slow(20_000, 4000);
    std::io::Write::write_all(&mut definition, text.as_bytes()).expect("it is read");
    drop(definition);
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("savepoint of epoch "), "{said}");
}
