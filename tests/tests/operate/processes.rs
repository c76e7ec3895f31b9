//! A job over several processes, of which some are killed and frozen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Job, Process, fleet, status, until};

/// Reports, of which some 6000 are read each second.
const EVENTS: u32 = 60_000;

fn slow() -> Job {
    Job::new(&fleet::slow(EVENTS, 6000))
}

/// The processes that follow one, by their numbers.
pub(super) fn followers(leader: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("Linux");
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let follows = |process: &u32| {
        let read = |what: &str| std::fs::read_to_string(format!("/proc/{process}/{what}"));
        let parent = read("stat").unwrap_or_default();
        // After the name in parentheses: state and parent.
        let parent = parent
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1));
        let command = read("cmdline").unwrap_or_default();
        parent == Some(leader.to_string().as_str()) && command.contains("\0process\0")
    };
    numbers.filter(follows).collect()
}

pub(super) fn signal(name: &str, process: u32) {
    let sent = std::process::Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .status();
    assert!(sent.expect("kill").success(), "signal {name}");
}

/// Whether a process is there, and has not ended.
fn lives(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z"))
}

/// A run that is well under way: with its address and what follows it.
fn started(job: &Job, processes: usize) -> (Process, String, Vec<u32>) {
    let count = processes.to_string();
    let mut running = job.start(&["--processes", &count, "--listen", "127.0.0.1:0"]);
    let address = running.address();
    let leader = running.child().id();
    until("checkpoints are taken", || {
        let status = status(&address);
        status["phase"] == "running" && status["checkpoint"]["epoch"].as_u64() > Some(0)
    });
    let followers = followers(leader);
    assert_eq!(followers.len(), processes - 1);
    (running, address, followers)
}

/// All ways to spread a job that are looked at.
pub(super) fn ways() -> impl Iterator<Item = [&'static str; 6]> {
    let counts = ["1", "2"].into_iter().flat_map(|processes| {
        let workers = ["1", "2", "4"].into_iter();
        workers.map(move |workers| (processes, workers))
    });
    counts.flat_map(|(processes, workers)| {
        ["1", "7", "8192"].into_iter().map(move |rows| {
            [
                "--processes",
                processes,
                "--workers",
                workers,
                "--batch-rows",
                rows,
            ]
        })
    })
}

#[test]
fn output_is_the_same_for_all_processes_workers_and_sizes_of_batches() {
    let events = 3000;
    let expected = fleet::expected(events);
    for way in ways() {
        let job = Job::new(&fleet::swift(events));
        let (code, said) = job.start(&way).end();
        assert_eq!(code, Some(0), "{way:?}: {said}");
        assert!(fleet::windows(&job) == expected, "{way:?}");
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "how soon is real time")]
fn a_killed_and_a_frozen_process_cost_a_restart_within_five_seconds_and_nothing_else() {
    let expected = fleet::expected(EVENTS);
    for (name, why) in [
        ("KILL", "killed by signal 9"),
        ("STOP", "not been heard of"),
    ] {
        let job = slow();
        let (running, address, followers) = started(&job, 2);
        let [follower] = followers[..] else {
            panic!("{followers:?}");
        };
        signal(name, follower);
        let began = Instant::now();
        until("it is noticed", || {
            status(&address)["restarts"].as_u64() == Some(1)
        });
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "{name}: {took:?}");
        let told = status(&address);
        let error = told["restarted"]["error"].as_str().unwrap_or_default();
        assert!(error.contains("process 1 is lost"), "{name}: {error}");
        assert!(error.contains(why), "{name}: {error}");
        let (code, said) = running.end();
        assert_eq!(code, Some(0), "{said}");
        assert!(fleet::windows(&job) == expected, "{name}");
        assert!(!lives(follower), "{name}");
    }
}

#[test]
fn a_stop_that_all_processes_are_told_is_one_of_the_leader() {
    let job = slow();
    let (mut running, _, followers) = started(&job, 3);
    for &follower in &followers {
        signal("TERM", follower);
        signal("INT", follower);
    }
    running.signal("TERM");
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(!followers.iter().any(|&f| lives(f)));
}

#[test]
fn nothing_is_left_of_a_leader_that_is_killed() {
    let job = slow();
    let (mut running, _, followers) = started(&job, 3);
    running.signal("KILL");
    until("the others end", || !followers.iter().any(|&f| lives(f)));
    drop(running);
}

/// All files of a job, with what is in them.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => {
                let content = std::fs::read(&path).expect("readable");
                all.insert(path, content);
            }
        }
    }
    all
}

#[test]
#[allow(clippy::disallowed_methods, reason = "how soon is real time")]
fn a_frozen_leader_loses_its_followers_and_its_job_and_does_no_harm_when_it_is_thawed() {
    let expected = fleet::expected(EVENTS);
    for finished in [false, true] {
        let job = slow();
        let (mut zombie, _, followers) = started(&job, 3);
        zombie.signal("STOP");
        let began = Instant::now();
        until("the others end", || !followers.iter().any(|&f| lives(f)));
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        let arguments = ["--processes", "2", "--take-over", "--listen", "127.0.0.1:0"];
        let mut successor = job.start(&arguments);
        let address = successor.address();
        let mut before = BTreeMap::new();
        if finished {
            let (code, said) = successor.end();
            assert_eq!(code, Some(0), "{said}");
            before = files(job.folder.path());
            successor = Process(None);
        } else {
            until("it has committed", || {
                let status = status(&address);
                status["phase"] == "running" && status["checkpoint"]["epoch"].as_u64() > Some(0)
            });
        }
        zombie.signal("CONT");
        let (code, said) = zombie.end();
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("has taken over"), "{said}");
        if finished {
            assert!(files(job.folder.path()) == before, "it has written");
        } else {
            let (code, said) = successor.end();
            assert_eq!(code, Some(0), "{said}");
        }
        assert!(fleet::windows(&job) == expected);
    }
}
