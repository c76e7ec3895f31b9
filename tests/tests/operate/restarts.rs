//! Failures of a running job that the supervisor makes good.

use std::time::{Duration, Instant};

use super::processes::{followers, signal};
use super::{Job, fleet, status, until};

fn definition() -> String {
    fleet::slow(30_000, 20_000)
}

/// The windows of a run, which may have to get over a failure; what that was, and how long all of it
/// took.
#[allow(clippy::disallowed_methods, reason = "how soon is real time")]
fn windows(failpoint: Option<&str>) -> (Vec<String>, String, Duration) {
    let began = Instant::now();
    let job = Job::new(&definition());
    let mut command = super::thalweg();
    command.arg("run").arg(job.path("job.yaml"));
    command.args(["--workers", "2", "--json"]);
    if let Some(failpoint) = failpoint {
        command.env("THALWEG_FAILPOINT", failpoint);
    }
    let output = command.output().expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let ended: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let restarts = ended["status"]["restarts"].as_u64();
    assert_eq!(restarts, Some(u64::from(failpoint.is_some())), "{said}");
    let cause = ended["status"]["restarted"]["cause"].as_str();
    let cause = cause.unwrap_or_default().to_owned();
    (fleet::windows(&job), cause, began.elapsed())
}

#[test]
fn a_panic_and_a_stuck_worker_cost_a_restart_and_nothing_else() {
    let (expected, _, undisturbed) = windows(None);
    assert!(expected.len() > 50, "{}", expected.len());
    for (failpoint, cause) in [
        ("batch.once:9:panic", "panic"),
        ("batch.counted:9:hang", "stall"),
        ("freeze.after:5:panic", "panic"),
        ("claim.after:1:panic", "panic"),
        ("commit.before:2:panic", "panic"),
        ("publish.windows.before:1:panic", "panic"),
    ] {
        let (found, told, took) = windows(Some(failpoint));
        assert_eq!(told, cause, "{failpoint}");
        // To be noticed, to start again, and to make up for it.
        let lost = took.saturating_sub(undisturbed);
        let soon = cause != "panic" || lost < Duration::from_secs(5);
        assert!(soon, "{failpoint}: {lost:?} more than {undisturbed:?}");
        assert!(found == expected, "{failpoint}");
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "how soon is real time")]
fn a_stuck_worker_is_noticed_within_five_seconds_and_a_stop_is_heeded_while_waiting() {
    let job = Job::new(&definition().replace("delay: 100ms", "delay: 1h, delay_max: 1h"));
    let mut command = super::thalweg();
    command.arg("run").arg(job.path("job.yaml"));
    command.args(["--listen", "127.0.0.1:0"]);
    command.env("THALWEG_FAILPOINT", "freeze.after:6:hang");
    command.stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let mut running = super::Process(Some(command.spawn().expect("the binary starts")));
    let address = running.address();
    until("it runs", || status(&address)["phase"] == "running");
    // Stuck since epochs have stood still.
    let mut moved = (serde_json::Value::Null, Instant::now());
    until("it is noticed", || {
        let seen = status(&address);
        let restarting = seen["phase"] == "restarting";
        if !restarting && seen["epoch"] != moved.0 {
            moved = (seen["epoch"].clone(), Instant::now());
        }
        restarting
    });
    let took = moved.1.elapsed();
    let soon = Duration::from_secs(1)..Duration::from_secs(5);
    assert!(soon.contains(&took), "{took:?} after epoch {}", moved.0);
    let told = status(&address);
    assert_eq!(told["restarted"]["cause"], "stall", "{told}");
    let error = told["restarted"]["error"].as_str().expect("an error");
    assert!(error.contains("stuck in \""), "{error}");
    assert_eq!(super::get(&address, "/readyz").0, 503);
    running.signal("TERM");
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("stopped; run it again to resume"), "{said}");
}

#[allow(
    clippy::disallowed_methods,
    reason = "how long it goes well is real time"
)]
#[test]
fn failures_far_apart_begin_a_new_row_and_those_in_a_row_are_counted() {
    const QUIET: Duration = Duration::from_secs(1);
    let events = 40_000;
    let policy = "restart: { attempts: 1, delay: 50ms, reset_after: 1s }";
    let slow = fleet::slow(events, 3000);
    let job = Job::new(&slow.replace("restart: { attempts: 3, delay: 100ms }", policy));
    let mut running = job.start(&["--processes", "2", "--listen", "127.0.0.1:0"]);
    let address = running.address();
    let leader = running.child().id();
    // One restart in a row is allowed, and there are three.
    for restarts in 1..=3 {
        until("it runs", || {
            let seen = status(&address);
            seen["phase"] == "running" && seen["restarts"] == restarts - 1
        });
        let (since, before) = (Instant::now(), status(&address)["checkpoints"].as_u64());
        until("it has gone well for long", || {
            since.elapsed() > QUIET && status(&address)["checkpoints"].as_u64() > before
        });
        kill(leader);
        until("it is noticed", || status(&address)["restarts"] == restarts);
    }
    // The next one fails before it has done anything.
    until("it starts again", || !followers(leader).is_empty());
    kill(leader);
    let (code, said) = running.end();
    assert_eq!(code, Some(2), "{said}");
    let given_up = "error: given up after 2 attempts in a row: process 1 is lost: ";
    assert!(said.contains(given_up), "{said}");

    let (code, said) = job.start(&[]).end();
    assert_eq!(code, Some(0), "{said}");
    assert!(fleet::windows(&job) == fleet::expected(events));
}

/// Kills the one process that follows this one.
fn kill(leader: u32) {
    let followers = followers(leader);
    let [follower] = followers[..] else {
        panic!("{followers:?}");
    };
    signal("KILL", follower);
}

#[test]
fn a_run_ends_with_its_last_error_when_it_has_used_up_its_attempts() {
    let panic = "step \"once\" has panicked: failpoint record.once";
    for (policy, restarts, given_up) in [
        ("restart: never", 0, ""),
        ("restart: { attempts: 0 }", 0, ""),
        (
            "restart: { attempts: 1, delay: 10ms }",
            1,
            "given up after 2 attempts in a row: ",
        ),
    ] {
        let swift = fleet::swift(3000);
        let job = Job::new(&swift.replace("restart: { attempts: 3, delay: 100ms }", policy));
        let mut command = super::thalweg();
        command.arg("run").arg(job.path("job.yaml"));
        command.env("THALWEG_FAILPOINT", "record.once:dev-000007:panic");
        let output = command.output().expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{policy}: {said}");
        let error = format!("error: {given_up}{panic}");
        assert!(said.lines().any(|line| line == error), "{error}: {said}");
        let restarted = said.matches("the job is restarted from its last checkpoint");
        assert_eq!(restarted.count(), restarts, "{policy}: {said}");
    }
}

#[test]
fn a_policy_that_contradicts_itself_is_refused_with_its_place() {
    for (policy, message) in [
        (
            "{ delay: 2s, delay_max: 1s }",
            "job.yaml:5:12: error: `delay_max` is shorter than `delay`",
        ),
        (
            "{ reset_after: 0s }",
            "job.yaml:5:27: error: `reset_after` is a duration above zero such as 10s, not `0s`",
        ),
        (
            "{ attempts: some }",
            "job.yaml:5:24: error: `attempts` is a number, not `some`",
        ),
    ] {
        let job = Job::new(&fleet::swift(10).replace("{ attempts: 3, delay: 100ms }", policy));
        let (code, said) = job.start(&[]).end();
        assert_eq!(code, Some(1), "{policy}: {said}");
        assert!(said.contains(message), "{message}: {said}");
        assert!(!job.path("checkpoints").exists(), "{policy}");
    }
}
