//! A job whose definition changes between two runs: what `plan` says of it, and what `run` then does.

use serde_json::Value;

use super::{Job, json, status, thalweg, until};

const JOB: &str = r"
job: changing
settings:
  checkpoint: { every: 100ms, to: ./checkpoints }
  dead_letters: { file: { path: ./dead.jsonl } }
sources:
  reports:
    generate: { what: fleet, devices: 50, seed: 5, rate: 8000, splits: 2, events: 16000, duplicates: 0.05 }
    schema: { device_id: { type: string, required: true }, ts: { type: timestamp, required: true }, seq: int64, temperature_c: float64, speed_kmh: float64 }
    event_time: { column: ts, out_of_order: 1s, max_ahead: off }
steps:
  once: { from: reports, dedup: { by: [device_id, seq], within: 1h, same_time: true } }
  moving: { from: once, filter: speed_kmh >= 0 }
  counted:
    from: moving
    window: { tumbling: 10s, by: [device_id], aggregate: { n: count(*) } }
sinks:
  windows: { from: counted, file: { path: ./windows } }
  raw: { from: once, file: { path: ./raw } }
";

/// The definition with words replaced.
fn changed(changes: &[(&str, &str)]) -> String {
    let mut text = JOB.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    text
}

/// What `plan` says of a definition: its exit status, and each part with what becomes of it.
pub(super) fn plan(job: &Job, definition: &str) -> (Option<i32>, Vec<String>, Value) {
    std::fs::write(job.path("new.yaml"), definition).expect("the definition");
    let mut command = thalweg();
    command.arg("plan").arg(job.path("new.yaml"));
    command
        .arg("--against")
        .arg(job.path("checkpoints"))
        .arg("--json");
    let output = command.output().expect("the binary starts");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    let word = |part: &Value, field: &str| part[field].as_str().expect("text").to_owned();
    let parts = said["parts"].as_array().expect("parts").iter();
    let parts = parts
        .map(|part| format!("{} {}", word(part, "name"), word(part, "fate")))
        .collect();
    (output.status.code(), parts, said)
}

/// A job that was stopped in the middle of its input.
fn stopped() -> Job {
    let job = Job::new(JOB);
    stop(&job);
    job
}

/// Starts the job and stops it in the middle of what it generates.
fn stop(job: &Job) {
    let mut running = job.start(&["--listen", "127.0.0.1:0"]);
    let address = running.address();
    until("checkpoints are taken", || {
        let status = status(&address);
        let mut nodes = status["nodes"].as_array().into_iter().flatten();
        let reports = nodes.find(|node| node["name"] == "reports");
        let input = reports.and_then(|node| node["ledger"]["input"].as_u64());
        status["checkpoints"].as_u64() > Some(3) && input > Some(3000)
    });
    running.signal("TERM");
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
}

fn run(job: &Job, definition: &str, arguments: &[&str]) -> (Option<i32>, String) {
    std::fs::write(job.path("job.yaml"), definition).expect("the definition");
    job.start(arguments).end()
}

/// The events that the windows have counted, and those that went through raw.
fn counts(job: &Job) -> (u64, u64) {
    let n = |line: &Value| line["n"].as_u64().expect("a count");
    let windows = job.lines("windows").iter().map(n).sum();
    (windows, job.lines("raw").len() as u64)
}

/// The events without their repeats, by a run that nothing stops.
fn distinct() -> u64 {
    let job = Job::new(&changed(&[("rate: 8000, ", "")]));
    let (code, said) = job.start(&[]).end();
    assert_eq!(code, Some(0), "{said}");
    let (windows, raw) = counts(&job);
    assert_eq!(windows, raw);
    windows
}

#[test]
fn added_steps_and_changed_filters_sinks_and_workers_go_on_with_state_kept() {
    let job = stopped();
    let same = [
        "reports",
        "once",
        "moving",
        "counted",
        "windows",
        "raw",
        "dead_letters",
    ];
    let same: Vec<String> = same.iter().map(|name| format!("{name} kept")).collect();
    let (code, parts, said) = plan(&job, JOB);
    assert_eq!((code, parts), (Some(0), same), "{said}");
    assert_eq!(said["runs"], true);

    let definition = changed(&[
        ("filter: speed_kmh >= 0", "filter: speed_kmh > -1"),
        (
            "  counted:\n",
            "  summed:\n    from: moving\n    window: { tumbling: 1s, aggregate: { n: count(*) } }\n  total:\n    id: counted\n",
        ),
        ("from: counted", "from: total"),
        (
            "  raw: { from: once, file: { path: ./raw } }\n",
            "  all: { from: summed, file: { path: ./all } }\n",
        ),
        ("every: 100ms", "every: 200ms"),
    ]);
    let (code, parts, said) = plan(&job, &definition);
    let expected = [
        "reports kept",
        "once kept",
        "moving kept",
        "summed new",
        "counted kept",
        "windows kept",
        "all new",
        "dead_letters kept",
        "raw dropped",
    ];
    assert_eq!(
        (code, parts),
        (Some(0), expected.map(str::to_owned).to_vec()),
        "{said}"
    );
    let summed = said["parts"].as_array().expect("parts").iter();
    let summed = summed.filter(|part| part["name"] == "summed");
    let reasons: Vec<_> = summed.map(|part| &part["reason"]).collect();
    let begins = "begins with empty state, without what has been read of reports";
    assert_eq!(reasons, [begins], "{said}");
    let (before, raw) = counts(&job);
    let (code, said) = run(&job, &definition, &["--workers", "2", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let result = said
        .lines()
        .find(|line| line.starts_with('{'))
        .expect("a result");
    let result: Value = serde_json::from_str(result).expect("JSON");
    assert!(
        result["status"]["restored"]["epoch"].as_u64() > Some(0),
        "{result}"
    );
    // Open windows and fingerprints are from before: every event is counted once.
    let (windows, raw_after) = counts(&job);
    assert!(windows > before);
    let distinct = distinct();
    assert_eq!(windows, distinct, "each of the events, without its repeats");
    assert_eq!(raw_after, raw, "nothing more for a sink that is gone");
    let late: u64 = (job.lines("all").iter())
        .filter_map(|line| line["n"].as_u64())
        .sum();
    assert_eq!(late + raw, distinct, "the new step saw what came since");
}

#[test]
fn what_would_lose_state_is_told_and_refused_and_the_job_still_goes_on_as_it_was() {
    let job = stopped();
    let narrower = changed(&[("tumbling: 10s", "tumbling: 5s")]);
    let (code, parts, said) = plan(&job, &narrower);
    assert_eq!(code, Some(1), "{said}");
    assert!(parts.contains(&"counted incompatible".to_owned()), "{said}");
    let listed = json(&job.checkpoint(&["list"]));
    let newest = &listed["checkpoints"]
        .as_array()
        .expect("a list")
        .last()
        .expect("one")["epoch"];
    let older = &listed["checkpoints"][0]["epoch"];
    assert_ne!(newest, older);
    // Not even a start from elsewhere leaves a trace.
    for from in ["latest".to_owned(), older.to_string()] {
        let (code, said) = run(&job, &narrower, &["--from", &from, "--allow-drop"]);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("step \"counted\" has changed, its state would be lost: it was"),
            "{said}"
        );
    }
    let without = changed(&[
        ("from: moving", "from: reports"),
        ("  moving: { from: once, filter: speed_kmh >= 0 }\n", ""),
        (
            "  once: { from: reports, dedup: { by: [device_id, seq], within: 1h, same_time: true } }\n",
            "",
        ),
        ("from: once", "from: reports"),
    ]);
    let (code, parts, said) = plan(&job, &without);
    assert_eq!(code, Some(1), "{said}");
    assert!(parts.contains(&"once dropped".to_owned()), "{said}");
    assert!(parts.contains(&"moving dropped".to_owned()), "{said}");
    let (code, said) = run(&job, &without, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("step \"once\" is gone, its state would be lost"),
        "{said}"
    );
    assert!(!said.contains("moving"), "it had no state: {said}");
    assert_eq!(
        json(&job.checkpoint(&["list"])),
        listed,
        "the store is as it was"
    );

    let (code, said) = run(&job, &without, &["--allow-drop"]);
    assert_eq!(code, Some(0), "{said}");
    let shown = json(&job.checkpoint(&["show"]));
    assert!(shown["states"]["once"].is_null(), "{shown}");
    let (windows, _) = counts(&job);
    assert!(
        windows > distinct(),
        "repeats are counted from then on: {windows}"
    );
}

/// [`JOB`] with a table of files, as `limits` says it, beside what it generates.
fn with_files(limits: &str) -> String {
    let table = format!(
        "tables:\n  {limits}\n    schema: {{ device_id: string, most: int64 }}\n    key: [device_id]\nsteps:"
    );
    changed(&[("steps:", &table)])
}

#[test]
fn a_source_that_means_something_else_is_told_and_refused_before_the_job_is_claimed() {
    let job = Job::new(&with_files("limits:\n    file: { path: ./in/a*.jsonl }"));
    std::fs::create_dir(job.path("in")).expect("a folder");
    for name in ["a", "b"] {
        let path = job.path(&format!("in/{name}.jsonl"));
        std::fs::write(path, "{\"device_id\":\"d\",\"most\":1}\n").expect("a file");
    }
    stop(&job);
    let entries = || {
        let log = std::fs::read_dir(job.path("checkpoints/log")).expect("a log");
        log.count()
    };
    let before = entries();

    let wider = with_files("limits:\n    file: { path: in/*.jsonl }");
    let (code, parts, said) = plan(&job, &wider);
    assert_eq!(code, Some(0), "{said}");
    assert!(parts.contains(&"limits kept".to_owned()), "{said}");

    let other = with_files("limits:\n    file: { path: in/b*.jsonl }");
    let seed = wider.replace("seed: 5", "seed: 6");
    for (definition, part, reasons) in [
        (
            &other,
            "limits",
            [
                "cannot go on with split \"in/a.jsonl\": ",
                "none of \"in/b*.jsonl\"",
            ],
        ),
        (
            &seed,
            "reports",
            ["cannot go on with split \"part 0\": ", "\"seed\":6"],
        ),
    ] {
        let (code, parts, said) = plan(&job, definition);
        assert_eq!(code, Some(1), "{said}");
        assert!(parts.contains(&format!("{part} incompatible")), "{said}");
        let of_part = |shown: &&Value| shown["name"] == part;
        let shown = said["parts"]
            .as_array()
            .and_then(|parts| parts.iter().find(of_part));
        let why = shown
            .and_then(|shown| shown["reason"].as_str())
            .expect("a reason");
        for reason in reasons {
            assert!(why.contains(reason), "{why}");
        }
        let (code, said) = run(&job, definition, &["--allow-drop"]);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains(&format!("source \"{part}\" {why}; give ")),
            "{said}"
        );
        assert_eq!(entries(), before, "nothing has claimed the job");
    }

    let anew = with_files("others:\n    file: { path: in/b*.jsonl }");
    let (code, parts, said) = plan(&job, &anew);
    assert_eq!(code, Some(1), "{said}");
    assert!(parts.contains(&"others new".to_owned()), "{said}");
    assert!(parts.contains(&"limits dropped".to_owned()), "{said}");
    let (code, said) = run(&job, &anew, &["--allow-drop"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn aggregates_of_expressions_are_known_by_what_they_compute() {
    let with = |aggregates: &str| changed(&[("n: count(*)", aggregates)]);
    let job = Job::new(&with("n: count(*), two: sum(seq * 2), three: sum(seq * 3)"));
    stop(&job);
    let other = with("n: count(*), two: sum(seq * 4), three: sum(seq * 3)");
    let swapped = with("n: count(*), three: sum(seq * 3), two: sum(seq * 2)");
    for definition in [&other, &swapped] {
        let (code, parts, said) = plan(&job, definition);
        assert_eq!(code, Some(0), "{said}");
        assert!(parts.contains(&"counted migrated".to_owned()), "{said}");
    }
    let (code, said) = run(&job, &swapped, &[]);
    assert_eq!(code, Some(0), "{said}");
    let lines = job.lines("windows");
    assert!(!lines.is_empty());
    for line in lines {
        let [two, three] = ["two", "three"].map(|name| line[name].as_i64().expect("a sum"));
        assert_eq!(two * 3, three * 2, "{line}");
    }
}
