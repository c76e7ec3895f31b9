//! A log that is written and rotated while the job that follows it is killed and started again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::time::Duration;

use thalweg_tests::process::{Run, Running, until};

use crate::Job;

const JOB: &str = r#"
job: logs
settings:
  checkpoint: { every: 100ms, to: ./checkpoints }
  dead_letters: { file: { path: ./dead.jsonl } }
sources:
  lines:
    file: { path: "logs/*.log*", follow: true }
    schema: { log: string, n: { type: int64, required: true } }
    metadata: { path: path }
sinks:
  out: { from: lines, file: { path: ./out } }
"#;
const KILLS: u64 = 8;
/// Lines written before each rotation.
const LINES: u64 = 50;

/// A program that writes a log and is told of a rotation only afterwards.
struct Writer<'a> {
    job: &'a Job,
    name: &'static str,
    file: File,
    written: u64,
    rotations: u64,
}

impl<'a> Writer<'a> {
    fn new(job: &'a Job, name: &'static str) -> Self {
        Self {
            file: open(job, name),
            job,
            name,
            written: 0,
            rotations: 0,
        }
    }

    fn write(&mut self, lines: u64) {
        for n in self.written..self.written + lines {
            let line = format!("{{\"log\":\"{}\",\"n\":{n}}}\n", self.name);
            // In two parts, as a buffered writer may.
            let (front, back) = line.split_at(line.len() / 2);
            self.file.write_all(front.as_bytes()).expect("written");
            self.file.write_all(back.as_bytes()).expect("written");
        }
        self.written += lines;
    }

    /// Renames the file, writes some more to it, and begins a new one.
    fn rotate(&mut self) {
        self.rotations += 1;
        let path = |name: &str| self.job.path("logs").join(name);
        let rotated = path(&format!("{}.log.{}", self.name, self.rotations));
        std::fs::rename(path(&format!("{}.log", self.name)), rotated).expect("renamed");
        self.write(LINES / 10);
        self.file = open(self.job, self.name);
    }
}

fn open(job: &Job, name: &str) -> File {
    let path = job.path("logs").join(format!("{name}.log"));
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.expect("a log")
}

fn start(job: &Job, run: u64) -> Running {
    let workers = 1 + (run % 2) as u32;
    Run::of(&job.path("job.yaml")).workers(workers).start()
}

#[test]
fn every_line_of_rotated_logs_is_read_once_over_kills() {
    let job = Job::new(JOB);
    std::fs::create_dir(job.path("logs")).expect("a folder");
    let mut first = Writer::new(&job, "first");
    let mut second = Writer::new(&job, "second");
    for run in 0..KILLS {
        let before = job.published().len();
        let mut running = start(&job, run);
        let mut round = 0;
        // Until something has come through, and a different while longer.
        while job.published().len() == before || round < 5 + run * 3 % 7 {
            round += 1;
            first.write(LINES);
            second.write(LINES);
            match round % 3 {
                0 => first.rotate(),
                1 => second.rotate(),
                _ => {}
            }
            running.live(Duration::from_millis(15));
        }
        running.kill();
        // While nobody looks, one is rotated twice, and one as well.
        first.write(LINES);
        first.rotate();
        first.write(LINES);
        first.rotate();
        second.rotate();
    }
    let written = first.written + second.written;
    let running = start(&job, KILLS);
    until("all lines are there", || {
        job.published().len() as u64 >= written
    });
    running.signal("TERM");
    running.end().well();
    let mut times: BTreeMap<(String, i64), u32> = BTreeMap::new();
    for line in job.published() {
        let log = line["log"].as_str().expect("a log").to_owned();
        let met = line["path"].as_str().expect("a path");
        assert!(met.starts_with(&format!("logs/{log}.log")), "{met}");
        *times
            .entry((log, line["n"].as_i64().expect("a number")))
            .or_default() += 1;
    }
    let once = |writer: &Writer| {
        let line = |n| (writer.name.to_owned(), n as i64);
        (0..writer.written).all(|n| times.get(&line(n)) == Some(&1))
    };
    assert!(once(&first) && once(&second), "{times:?}");
    assert_eq!(times.len() as u64, written);
    let dead = std::fs::read_to_string(job.path("dead.jsonl")).unwrap_or_default();
    assert_eq!(dead, "");
    println!(
        "{written} lines, {} rotations, {KILLS} kills",
        first.rotations + second.rotations
    );
}
