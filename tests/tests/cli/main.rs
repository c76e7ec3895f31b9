//! The command line, through the real binary: what is printed where, and the exit status.

mod definitions;
mod secret;
mod terminal;

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use thalweg_tests::process::{binary, until};

/// A bounded job over generated telemetry, with some of everything.
const FLEET: &str = "\
job: fleet
settings:
  checkpoint: { every: 100ms, to: ./checkpoints }
sources:
  reports:
    generate: { what: fleet, events: 20000, devices: 50, corrupt: 0.01 }
    schema: { device_id: string, ts: timestamp, speed_kmh: float64 }
    event_time: { column: ts, out_of_order: 1s }
steps:
  per_device:
    from: reports
    window: { tumbling: 10s, by: [device_id], aggregate: { n: count(*) } }
sinks:
  out: { from: per_device, file: { path: ./out } }
";

/// A folder with a job in it.
struct Place(tempfile::TempDir);

impl Place {
    fn with(job: &str) -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        place.write("job.yaml", job);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("writable");
    }

    fn thalweg<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(binary("thalweg"));
        command.args(arguments).current_dir(self.0.path());
        command.env_remove("NO_COLOR").env_remove("THALWEG_LOG");
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command written as on a command line.
    fn run(&self, line: &str) -> Ended {
        let output = self.thalweg(line.split_whitespace()).output();
        Ended::of(&output.expect("the binary runs"))
    }

    fn start(&self, line: &str) -> Running {
        let mut command = self.thalweg(line.split_whitespace());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(Some(command.spawn().expect("the binary starts")))
    }
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    status: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            status: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    fn expect(self, status: i32, said: &[&str]) -> Self {
        assert_eq!(self.status, Some(status), "{self:?}");
        let all = format!("{}{}", self.out, self.err);
        for word in said {
            assert!(all.contains(word), "{word:?} in {self:?}");
        }
        self
    }
}

/// A command at work; ended when it is dropped.
struct Running(Option<Child>);

impl Running {
    fn signal(&self, name: &str) {
        let child = self.0.as_ref().expect("running");
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}")).arg(child.id().to_string());
        assert!(kill.status().expect("kill runs").success());
    }

    fn is_over(&mut self) -> bool {
        let child = self.0.as_mut().expect("running");
        child.try_wait().expect("a child of ours").is_some()
    }

    fn end(mut self) -> Ended {
        let child = self.0.take().expect("running");
        Ended::of(&child.wait_with_output().expect("a child of ours"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

#[test]
fn usage_errors_are_the_users() {
    let place = Place::with(FLEET);
    place
        .run("--help")
        .expect(0, &["run", "validate", "Exit status"]);
    place.run("--version").expect(0, &["thalweg 0"]);
    place.run("").expect(1, &["Usage"]);
    place.run("run").expect(1, &["JOB"]);
    place.run("vaildate job.yaml").expect(1, &["validate"]);
    place
        .run("run job.yaml --workers 0")
        .expect(1, &["--workers"]);
    place
        .run("run job.yaml --processes 0")
        .expect(1, &["--processes"]);
    place
        .run("run job.yaml --from yesterday")
        .expect(1, &["--from"]);
    place.run("run job.yaml --set x").expect(1, &["path=value"]);
    place.run("run nowhere.yaml").expect(1, &["nowhere.yaml"]);
    for later in ["explain fleet", "dead-letters show", "submit job.yaml"] {
        place.run(later).expect(1, &["not supported yet"]);
    }
}

#[test]
fn a_process_that_may_open_nothing_says_so_and_is_no_bug() {
    let place = Place::with(FLEET);
    for line in ["checkpoint list .", "plan job.yaml", "run job.yaml"] {
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -n 4; exec \"$0\" \"$@\""]);
        limited.arg(binary("thalweg")).args(line.split_whitespace());
        limited.current_dir(&place.0).stdin(Stdio::null());
        let ended = Ended::of(&limited.output().expect("sh runs"));
        ended.expect(2, &["nothing to run on"]);
    }
}

#[test]
fn validate_tells_every_error_at_once() {
    let place = Place::with(FLEET);
    let fine = place.run("validate job.yaml").expect(0, &["fleet: valid"]);
    assert_eq!(fine.err, "");
    let fine = place.run("validate job.yaml --json").expect(0, &[]).json();
    assert_eq!(
        (&fine["job"], &fine["valid"]),
        (&"fleet".into(), &true.into())
    );
    // One error of the definition, one that only the planner sees.
    let wrong = FLEET.replace("devices: 50", "devics: 50");
    let wrong = wrong.replace(
        "sinks:",
        "  fast: { from: weather, filter: sped > 1 }\nsinks:",
    );
    let wrong = wrong.replace(
        "\nsteps:",
        "\n  weather: { generate: { what: weather }, schema: { speed: float64 } }\nsteps:",
    );
    place.write("wrong.yaml", &wrong);
    let told = place.run("validate wrong.yaml").expect(
        1,
        &[
            "wrong.yaml:6:45: error: `generate` has no field `devics`",
            "did you mean `devices`?",
            "did you mean `speed`?",
        ],
    );
    assert_eq!(told.out, "");
    assert_eq!(told.err.matches("error:").count(), 2, "{}", told.err);
    let json = place
        .run("validate wrong.yaml --json")
        .expect(1, &[])
        .json();
    assert_eq!(json["found"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["found"][0]["line"], 6);
    // `run` refuses it the same way, and nothing is begun.
    place.run("run wrong.yaml").expect(1, &["devics", "sped"]);
    assert!(!place.path("checkpoints").exists());
}

#[test]
fn validate_connect_names_what_cannot_be_reached() {
    let place = Place::with(FLEET);
    place
        .run("validate job.yaml --connect")
        .expect(0, &["fleet: valid", "reports: reached"]);
    assert!(!place.path("out").exists(), "nothing is made");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", port.local_addr().expect("bound"));
    drop(port);
    let cosmos = format!(
        "cosmos: {{ endpoint: \"{address}\", database: d, container: c, id: device_id, partition_key: device_id }}"
    );
    place.write(
        "unreachable.yaml",
        &FLEET.replace("file: { path: ./out }", &cosmos),
    );
    place.run("validate unreachable.yaml").expect(0, &["valid"]);
    let told = place.run("validate unreachable.yaml --connect");
    let told = told.expect(2, &["  out: sink", "1 of 2 connections failed"]);
    assert!(told.err.contains("connections failed"), "{told:?}");
    let json = place
        .run("validate unreachable.yaml --connect --json")
        .expect(2, &[])
        .json();
    assert_eq!(json["connections"][0]["error"], Value::Null);
    assert!(json["connections"][1]["error"].is_string(), "{json}");
}

#[test]
fn graph_and_schema_are_printed() {
    let place = Place::with(FLEET);
    place
        .run("graph job.yaml")
        .expect(0, &["flowchart LR", "([reports])", "[(out)]", " --> "]);
    place
        .run("graph job.yaml --format dot")
        .expect(0, &["digraph", "label=\"per_device\""]);
    let json = place
        .run("graph job.yaml --format json")
        .expect(0, &[])
        .json();
    let edges = json["edges"].as_array().expect("edges");
    let edge = serde_json::json!({ "from": "reports", "to": "per_device" });
    assert!(edges.contains(&edge), "{json}");
    let schema = place.run("schema").expect(0, &[]).json();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
}

#[test]
fn a_finished_job_says_so_and_its_store_can_be_looked_into() {
    let place = Place::with(FLEET);
    place
        .run("checkpoint list checkpoints")
        .expect(1, &["checkpoints"]);
    place
        .run("run job.yaml --workers 2")
        .expect(0, &["fleet: finished", "20000 records in"]);
    place
        .run("run job.yaml")
        .expect(0, &["finished already", "--from none"]);
    let json = place.run("run job.yaml --json").expect(0, &[]).json();
    assert_eq!(json["outcome"], "already-finished");
    place
        .run("plan job.yaml")
        .expect(0, &["the job has finished", "--from none"]);
    let json = place.run("plan job.yaml --json").expect(0, &[]).json();
    assert_eq!(json["finished"], true);

    place
        .run("checkpoint list checkpoints")
        .expect(0, &["fleet: finished", "EPOCH", "current"]);
    let list = place
        .run("checkpoint list checkpoints --json")
        .expect(0, &[])
        .json();
    let kept = list["checkpoints"].as_array().expect("checkpoints");
    assert!((1..=3).contains(&kept.len()), "{list}");
    place
        .run("checkpoint show checkpoints")
        .expect(0, &["SPLIT", "reports", "STATE OF", "per_device", "IN"]);
    let show = place
        .run("checkpoint show checkpoints --json")
        .expect(0, &[])
        .json();
    assert_eq!(show["manifest"]["job"], "fleet");
    place
        .run("checkpoint show checkpoints --epoch 99999999")
        .expect(1, &["99999999"]);
    place
        .run("checkpoint verify checkpoints")
        .expect(0, &["all sound"]);

    let manifest = first_file(&place.path("checkpoints"), "manifest").expect("a manifest");
    let mut bytes = std::fs::read(&manifest).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&manifest, bytes).expect("writable");
    place
        .run("checkpoint verify checkpoints")
        .expect(2, &["damaged"]);
    let json = place
        .run("checkpoint verify checkpoints --json")
        .expect(2, &[])
        .json();
    assert_eq!(json["damage"].as_array().map(Vec::len), Some(1), "{json}");

    place
        .run("run job.yaml --from none --json")
        .expect(0, &["\"finished\""]);
}

fn first_file(folder: &Path, part: &str) -> Option<PathBuf> {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.display().to_string().contains(part) {
                return Some(path);
            }
        }
    }
    None
}

#[test]
fn a_running_job_is_not_run_twice_and_goes_on_where_it_stopped() {
    let endless = FLEET.replace("events: 20000,", "rate: 2000,");
    let place = Place::with(&endless);
    let committed = || {
        let list = place.run("checkpoint list checkpoints --json");
        list.status == Some(0) && list.json()["checkpoints"][0].is_object()
    };
    let first = place.start("run job.yaml --listen 127.0.0.1:0");
    until("the first process commits", committed);
    let second = place.run("run job.yaml");
    assert_ne!(second.status, Some(0));
    let said = second.expect(2, &["already running", "--take-over"]).err;
    assert_eq!(said.lines().count(), 1, "{said}");
    first.signal("INT");
    first.end().expect(
        0,
        &[
            "stopped; run it again to resume",
            "listening on http://127.0.0.1:",
        ],
    );
    let restored = |json: &Value| json["status"]["restored"]["epoch"].as_u64();

    let again = place.start("run job.yaml --json");
    until("the second start commits", || {
        let list = place.run("checkpoint list checkpoints --json").json();
        let kept = list["checkpoints"].as_array().expect("checkpoints");
        kept.last().is_some_and(|newest| newest["generation"] == 2)
    });
    again.signal("TERM");
    let json = again.end().expect(0, &[]).json();
    assert_eq!(json["outcome"], "stopped");
    assert!(restored(&json).is_some(), "{json}");
    place
        .run("checkpoint list checkpoints")
        .expect(0, &["fleet: stopped"]);
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "a rate is kept in the time of this test"
)]
fn generate_is_repeatable_and_keeps_a_rate() {
    let place = Place::with(FLEET);
    let line = "generate vehicles --events 300 --devices 5 --seed 3 --late 0.1 --duplicates 0.1 --corrupt 0.1";
    let [once, again] = [place.run(line), place.run(line)];
    assert_eq!((once.status, once.out.lines().count()), (Some(0), 300));
    assert_eq!(once.out, again.out);
    let began = Instant::now();
    let paced = place
        .run("generate fleet --events 30 --rate 100")
        .expect(0, &[]);
    assert!(
        began.elapsed() >= Duration::from_millis(250),
        "30 records at 100 a second"
    );
    assert_eq!(paced.out.lines().count(), 30);
    place.run("generate ships").expect(1, &["fleet", "weather"]);
    place.run("generate fleet --rate 0").expect(1, &["rate"]);
    // A reader that has seen enough is no failure.
    let mut child = place.thalweg(["generate", "fleet", "--events", "1000000"]);
    let mut child = child.stdout(Stdio::piped()).spawn().expect("starts");
    let mut some = [0; 100];
    let mut out = child.stdout.take().expect("piped");
    out.read_exact(&mut some).expect("records");
    drop(out);
    assert!(child.wait().expect("a child of ours").success());
}

#[test]
fn completions_and_manual_pages_are_there() {
    let place = Place::with(FLEET);
    for shell in ["bash", "zsh", "fish"] {
        place
            .run(&format!("completions {shell}"))
            .expect(0, &["take-over", "checkpoint"]);
    }
    place.run("man").expect(0, &[".TH thalweg"]);
    place.run("man pages").expect(0, &[]);
    let run = std::fs::read_to_string(place.path("pages/thalweg-run.1")).expect("a page");
    assert!(run.contains("take\\-over"), "{run}");
}
