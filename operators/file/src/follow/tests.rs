//! Files that are rotated, truncated, removed and added to while they are followed, and resumed from
//! what a checkpoint would have.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use thalweg_stream::clock::SystemClock;
use thalweg_stream::source::{SplitSpec, SplitStart, SplitState};
use thalweg_stream::{Quoting, SplitId, SplitReader};

use super::{Counts, Following};
use crate::compression::Compression;
use crate::find::{Finder, Truncated};
use crate::reader::{self, FileReader, Plan};
use crate::source::{Header, MetadataField, Order, Records};

/// A source that follows, as the engine drives it, and what it has read.
struct Job {
    folder: tempfile::TempDir,
    path: &'static str,
    records: Records,
    retire_after: Duration,
    /// What a checkpoint has.
    splits: Vec<SplitStart>,
    read: BTreeMap<String, String>,
    run: Option<Run>,
}

struct Run {
    reader: FileReader,
    finder: Finder,
    woken: Receiver<()>,
    counts: Arc<Counts>,
}

impl Job {
    fn new(path: &'static str) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            path,
            records: Records::default(),
            retire_after: Duration::from_secs(3600),
            splits: Vec::new(),
            read: BTreeMap::new(),
            run: None,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = (OpenOptions::new().append(true).create(true))
            .open(self.at(name))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).unwrap();
    }

    /// Begins a run where the last one stood.
    fn start(&mut self) {
        let (truncated, counts) = (Truncated::default(), Arc::new(Counts::default()));
        let following = Following {
            look_every: Duration::from_millis(1),
            retire_after: self.retire_after,
            truncated: truncated.clone(),
            counts: Arc::clone(&counts),
        };
        let plan = Plan {
            folder: self.folder.path().to_owned(),
            records: self.records,
            compression: Compression::None,
            order: Order::Time,
            chunk_bytes: 16,
            record_bytes_max: 1000,
        };
        let (wake, woken) = channel();
        let waker = Arc::new(move || wake.send(()).unwrap_or(()));
        let metadata: Arc<[MetadataField]> = Arc::new([]);
        let clock = Arc::new(SystemClock::new());
        let splits = self.splits.clone();
        let following = Some(following);
        let reader = reader::open(plan, following, metadata, clock, splits, waker).unwrap();
        let folder = self.folder.path().to_owned();
        let finder = Finder::new(folder, self.path.to_owned(), truncated);
        self.run = Some(Run {
            reader,
            finder,
            woken,
            counts,
        });
    }

    fn stop(&mut self) {
        self.run = None;
    }

    fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// Looks for files, reads what there is, and keeps count as a checkpoint does.
    fn step(&mut self) {
        let run = self.run.as_mut().expect("started");
        let known: Vec<SplitSpec> = self.splits.iter().map(|at| at.spec.clone()).collect();
        let found = run.finder.find(&known).unwrap();
        let starts: Vec<SplitStart> = (found.into_iter().zip(self.splits.len()..))
            .map(|(spec, at)| SplitStart {
                id: SplitId(at as u32),
                spec,
                offset: None,
                finished: false,
            })
            .collect();
        self.splits.extend(starts.iter().cloned());
        run.reader.add(starts).unwrap();
        while let Some(chunk) = run.reader.poll(1 << 20).unwrap() {
            let split = &mut self.splits[chunk.split.0 as usize];
            let from = split.offset.unwrap_or(chunk.start);
            assert_eq!(chunk.start, from, "{}", split.spec.name);
            split.offset = Some(chunk.end);
            let text = std::str::from_utf8(&chunk.bytes).unwrap();
            let name = split.spec.name.to_string();
            self.read.entry(name).or_default().push_str(text);
        }
        for split in &mut self.splits {
            split.finished = run.reader.status(split.id).state == SplitState::Finished;
        }
        run.woken.recv_timeout(Duration::from_millis(2)).ok();
    }

    /// Steps until so many splits have been read to this.
    fn until(&mut self, expected: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> = (expected.iter())
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        self.step_until(|job| job.read == expected);
        // Nothing more comes of it, and nothing twice.
        (0..20).for_each(|_| self.step());
        assert_eq!(self.read, expected);
    }

    fn step_until(&mut self, holds: impl Fn(&Self) -> bool) {
        for _ in 0..10_000 {
            if holds(self) {
                return;
            }
            self.step();
        }
        panic!("read {:?} of {:?}", self.read, self.splits);
    }

    fn state(&self, split: usize) -> SplitState {
        let run = self.run.as_ref().expect("started");
        run.reader.status(SplitId(split as u32)).state
    }

    fn counted(&self) -> (u64, u64) {
        let counts = &self.run.as_ref().expect("started").counts;
        let of = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        (of(&counts.truncated), of(&counts.lost))
    }
}

#[test]
fn what_is_added_is_read_when_its_line_is_whole() {
    let mut job = Job::new("*.log");
    job.start();
    job.until(&[]);
    job.append("a.log", "one\ntw");
    job.until(&[("a.log", "one\n")]);
    assert_eq!(job.state(0), SplitState::AtEnd);
    job.append("a.log", "o\nthree\n");
    job.append("b.log", "new\n");
    job.append("c.txt", "no match\n");
    job.until(&[("a.log", "one\ntwo\nthree\n"), ("b.log", "new\n")]);
    job.restart();
    job.append("b.log", "more\n");
    job.until(&[("a.log", "one\ntwo\nthree\n"), ("b.log", "new\nmore\n")]);
}

#[test]
fn a_rotated_file_is_read_to_its_end_and_not_twice() {
    for (path, rotated) in [("app.log", "app.log.1"), ("app.log*", "app.log.1")] {
        for restarts in [false, true] {
            let mut job = Job::new(path);
            job.append("app.log", "one\n");
            job.start();
            job.until(&[("app.log", "one\n")]);
            if restarts {
                job.stop();
            }
            job.append("app.log", "two\n");
            job.rename("app.log", rotated);
            // It is written to until whoever writes knows, and the new one too.
            job.append(rotated, "three\n");
            job.append("app.log", "1\n");
            if restarts {
                job.start();
            }
            let both = [("app.log", "one\ntwo\nthree\n"), ("app.log (2)", "1\n")];
            job.until(&both);
            job.rename(rotated, "app.log.2");
            job.rename("app.log", rotated);
            job.append("app.log", "2\n");
            job.append(rotated, "11\n");
            let all = [
                ("app.log", "one\ntwo\nthree\n"),
                ("app.log (2)", "1\n11\n"),
                ("app.log (3)", "2\n"),
            ];
            job.until(&all);
            job.restart();
            job.until(&all);
            assert_eq!(job.counted(), (0, 0));
        }
    }
}

#[test]
fn what_is_left_of_a_rotated_file_is_its_last_record() {
    let mut job = Job::new("app.log");
    job.retire_after = Duration::from_millis(20);
    job.append("app.log", "one\nlast");
    job.start();
    job.until(&[("app.log", "one\n")]);
    job.rename("app.log", "app.log.1");
    job.until(&[("app.log", "one\nlast")]);
    assert_eq!(job.state(0), SplitState::Finished);
    // It is not read any more, also in a run that begins later.
    job.append("app.log", "new\n");
    job.restart();
    job.until(&[("app.log", "one\nlast"), ("app.log (2)", "new\n")]);
    assert_eq!(job.state(0), SplitState::Finished);
    assert_eq!(job.counted(), (0, 0));
}

#[test]
fn a_removed_file_that_is_open_is_read_to_its_end() {
    let mut job = Job::new("app.log");
    job.retire_after = Duration::from_millis(20);
    job.append("app.log", "one\n");
    job.start();
    job.until(&[("app.log", "one\n")]);
    let mut writer = (OpenOptions::new().append(true))
        .open(job.at("app.log"))
        .unwrap();
    fs::remove_file(job.at("app.log")).unwrap();
    writer.write_all(b"two\nthree").unwrap();
    job.until(&[("app.log", "one\ntwo\nthree")]);
    assert_eq!(
        (job.state(0), job.counted()),
        (SplitState::Finished, (0, 0))
    );
}

#[test]
fn a_file_that_is_gone_at_a_restart_is_counted_and_ends() {
    let mut job = Job::new("*.log");
    job.append("a.log", "one\n");
    job.append("b.log", "one\n");
    job.start();
    job.until(&[("a.log", "one\n"), ("b.log", "one\n")]);
    job.stop();
    fs::remove_file(job.at("a.log")).unwrap();
    job.start();
    job.step_until(|job| job.state(0) == SplitState::Finished);
    assert_eq!(job.counted(), (0, 1));
    job.append("b.log", "two\n");
    job.until(&[("a.log", "one\n"), ("b.log", "one\ntwo\n")]);
}

#[test]
fn a_truncated_file_is_a_new_one() {
    // Noticed by its length, by its head although it is longer, and by its length at a restart.
    for (content, stopped) in [
        ("a\n", false),
        ("another text, and longer\n", false),
        ("one\n", true),
    ] {
        let mut job = Job::new("app.log");
        job.append("app.log", "one\ntwo\n");
        job.start();
        job.until(&[("app.log", "one\ntwo\n")]);
        if stopped {
            job.stop();
        }
        let file = (OpenOptions::new().write(true))
            .open(job.at("app.log"))
            .unwrap();
        file.set_len(0).unwrap();
        job.append("app.log", content);
        if stopped {
            job.start();
        }
        let now = [("app.log", "one\ntwo\n"), ("app.log (2)", content)];
        job.until(&now);
        assert_eq!((job.state(0), job.counted().0), (SplitState::Finished, 1));
        job.restart();
        job.until(&now);
        job.append("app.log", "more\n");
        let more = format!("{content}more\n");
        job.until(&[("app.log", "one\ntwo\n"), ("app.log (2)", &more)]);
    }
}

#[test]
fn quoted_line_feeds_and_headers_wait_for_their_ends() {
    let mut job = Job::new("*.csv");
    job.records = Records {
        quoting: Some(Quoting {
            delimiter: b',',
            quote: Some(b'"'),
        }),
        header: Header::Skipped,
    };
    job.append("a.csv", "\"two\nlines");
    job.start();
    job.until(&[]);
    job.append("a.csv", "\",b\n1,\"x\ny");
    job.until(&[]);
    job.append("a.csv", "\"\n2,\"");
    job.until(&[("a.csv", "1,\"x\ny\"\n")]);
    job.restart();
    job.append("a.csv", "\"\n");
    job.until(&[("a.csv", "1,\"x\ny\"\n2,\"\"\n")]);
}

#[test]
fn more_files_than_may_be_open_are_followed() {
    const FILES: usize = 700;
    let mut job = Job::new("*.log");
    let name = |at: usize| format!("{at:04}.log");
    (0..FILES).for_each(|at| job.append(&name(at), "one\n"));
    job.start();
    let all = |job: &Job, text: &str| {
        job.read.len() == FILES && job.read.values().all(|read| read == text)
    };
    job.step_until(|job| all(job, "one\n"));
    let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
        let target = fs::read_link(entry.ok()?.path()).ok()?;
        target.starts_with(job.folder.path()).then_some(())
    });
    assert!(open.count() <= super::OPEN_WEIGHT_MAX);
    (0..FILES).for_each(|at| job.append(&name(at), "two\n"));
    // Also those that are closed are found when they have been renamed.
    (0..FILES)
        .step_by(50)
        .for_each(|at| job.rename(&name(at), &format!("{at}.old")));
    job.step_until(|job| all(job, "one\ntwo\n"));
    assert_eq!(job.counted(), (0, 0));
}

/// The first line comes again, so that the file looks like the one that has been read.
#[test]
fn a_truncation_that_was_seen_just_before_the_end_of_a_run_is_known_to_the_next() {
    let mut job = Job::new("app.log");
    job.append("app.log", "head\n");
    job.start();
    job.until(&[("app.log", "head\n")]);
    job.append("app.log", "one\ntwo\n");
    job.until(&[("app.log", "head\none\ntwo\n")]);
    fs::write(job.at("app.log"), "head\n9\n").unwrap();
    // Nobody has looked for files since.
    let run = job.run.as_mut().expect("started");
    while run.reader.status(SplitId(0)).state != SplitState::Finished {
        assert!(run.reader.poll(1 << 20).unwrap().is_none());
        run.woken.recv_timeout(Duration::from_millis(2)).ok();
    }
    job.splits[0].finished = true;
    for _ in 0..2 {
        job.restart();
        job.until(&[
            ("app.log", "head\none\ntwo\n"),
            ("app.log (2)", "head\n9\n"),
        ]);
    }
}
