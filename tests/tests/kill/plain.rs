//! The operators and connectors that the road-risk job does without, under SIGKILL and SIGSTOP: union, route,
//! select, drop, rename, rows to be deduplicated at any time of theirs, a table's newest row, comma-separated values in and out, files that grow while they are read, and
//! what is at-least-once: files that do not wait for checkpoints, and standard output.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use thalweg_tests::process::until;

use crate::torment::{Least, STDOUT, Torment};

/// Where it is killed.
pub(crate) const POINTS: [&str; 20] = [
    "restore.after",
    "freeze.before",
    "upload.even.before",
    "upload.odd.after",
    "upload.dead_letters.after",
    "commit.before",
    "commit.after",
    "publish.even.before",
    "publish.even.after",
    "publish.odd.before",
    "publish.once_each.after",
    "publish.early.before",
    "publish.early.after",
    // What was published at the end of an epoch before: its rows come again.
    "freeze.before",
    "publish.shown.before",
    "publish.shown.after",
    "publish.dead_letters.before",
    "publish.dead_letters.after",
    "confirm.before",
    "confirm.after",
];
/// Where it is frozen until a successor has published: with its state in its hands, with a commit, with
/// a committed unit of each sink, and with one that waits for no commit.
pub(crate) const FROZEN: [&str; 8] = [
    "freeze.before",
    "commit.before",
    "publish.even.before",
    "publish.odd.before",
    "publish.once_each.before",
    "publish.early.before",
    "publish.shown.before",
    "publish.dead_letters.before",
];
/// What the table says of each kind.
const KINDS: [(&str, &str); 2] = [("paper", "on paper"), ("wire", "by wire")];
/// Lines that are written to each file at once, of which one of the first file is no record.
const BATCH: u64 = 20;
/// What must have been done. Builds without failpoints are killed and frozen at no point.
const LEAST: Least = match cfg!(debug_assertions) {
    true => Least {
        kills: 2 * POINTS.len() as u32 + FROZEN.len() as u32 + 2,
        freezes: FROZEN.len() as u32 + 1,
        recoveries: POINTS.len() + FROZEN.len() + 3,
    },
    false => Least {
        kills: 2,
        freezes: 1,
        recoveries: 2,
    },
};
const PAUSE: Duration = Duration::from_millis(20);

/// A row: its kind and number.
type Row = (String, i64);

/// A thread that writes the input.
struct Feed {
    enough: Arc<AtomicBool>,
    writer: JoinHandle<u64>,
}

impl Feed {
    fn begin(folder: &Path) -> Self {
        let folder = folder.join("in");
        std::fs::create_dir(&folder).expect("a folder");
        let enough = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&enough);
        let writer = std::thread::spawn(move || {
            let open = |name| File::create(folder.join(name)).expect("a file");
            let (mut paper, mut wire, mut written) = (open("a.csv"), open("a.jsonl"), 0);
            while !stop.load(Ordering::Relaxed) {
                for n in written..written + BATCH {
                    let number = match is_record(n) {
                        true => n.to_string(),
                        false => "none".to_owned(),
                    };
                    writeln!(paper, "paper,{number},{n},\"over\nlines\"").expect("written");
                    writeln!(
                        wire,
                        "{{\"kind\":\"wire\",\"n\":{n},\"at\":{n},\"note\":\"x\"}}"
                    )
                    .expect("written");
                }
                written += BATCH;
                std::thread::park_timeout(PAUSE);
            }
            written
        });
        Self { enough, writer }
    }

    /// Writes no more; how many lines there are in each file.
    fn end(self) -> u64 {
        self.enough.store(true, Ordering::Relaxed);
        self.writer.join().expect("the writer ends")
    }
}

/// Whether line `n` of the first file is a record.
fn is_record(n: u64) -> bool {
    n % BATCH != 7
}

/// The rows of files of a sink, in no order; nothing of what is hidden.
fn rows(folder: &Path, read: impl Fn(&str) -> Row) -> Vec<Row> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = files.map(|file| file.path()).filter(|path| path.is_file());
    let text = |path: PathBuf| std::fs::read_to_string(path).expect("text");
    let texts: Vec<String> = files.map(text).collect();
    texts
        .iter()
        .flat_map(|text| text.lines())
        .map(read)
        .collect()
}

fn from_csv(line: &str) -> Row {
    let (kind, n) = line.split_once(',').expect("two fields");
    (kind.to_owned(), n.parse().expect("a number"))
}

fn from_json(line: &str) -> Row {
    let row: Value = serde_json::from_str(line).expect("JSON");
    let kind = row["kind"].as_str().expect("text");
    (kind.to_owned(), row["n"].as_i64().expect("a number"))
}

/// What all runs have put out on standard output. A kill may have cut a run's last line.
fn shown(folder: &Path) -> BTreeSet<Row> {
    let mut shown = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("the job's folder") {
        let entry = entry.expect("an entry");
        if entry.file_name().to_string_lossy().starts_with(STDOUT) {
            let text = std::fs::read_to_string(entry.path()).expect("text");
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            shown.extend(whole.lines().map(from_json));
        }
    }
    shown
}

#[test]
fn plain_steps_files_and_standard_output_survive_kills() {
    let _alone = crate::alone();
    let mut folder = tempfile::tempdir().expect("a folder");
    folder.disable_cleanup(std::env::var_os("THALWEG_KEEP").is_some());
    let folder = folder.path();
    std::fs::write(folder.join("job.yaml"), include_str!("plain.yaml")).expect("the definition");
    let kind = |(kind, title)| format!("{}\n", json!({ "kind": kind, "title": title }));
    let kinds: String = KINDS.map(kind).concat();
    std::fs::write(folder.join("kinds.jsonl"), kinds).expect("the table");
    let feed = Feed::begin(folder);
    let mut torment = Torment::new(folder, "both", 1);
    if cfg!(debug_assertions) {
        for point in POINTS {
            torment.kill_at(point);
            torment.kill_at_random();
        }
        for point in FROZEN {
            torment.freeze(Some(point), None);
        }
    }
    torment.freeze(None, None);
    torment.kill_at_random();
    let run = torment.start();
    let written = feed.end();

    let mut expected = BTreeSet::new();
    for n in 0..written {
        let row = |kind: &str| (kind.to_owned(), n as i64);
        expected.insert(row("wire"));
        if is_record(n) {
            expected.insert(row("paper"));
        }
    }
    let (even, odd) = (folder.join("even"), folder.join("odd"));
    let early = folder.join("early");
    until("all rows are visible", || {
        rows(&even, from_csv).len() + rows(&odd, from_json).len() >= expected.len()
    });
    run.signal("TERM");
    run.end().well();

    let (even, odd) = (rows(&even, from_csv), rows(&odd, from_json));
    assert!(even.iter().all(|(_, n)| n % 2 == 0) && odd.iter().all(|(_, n)| n % 2 == 1));
    let found: Vec<Row> = even.into_iter().chain(odd).collect();
    assert_eq!(found.len(), expected.len(), "each row once");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(shown(folder), expected, "at least once");
    let early = rows(&early, from_json);
    let found: BTreeSet<Row> = early.iter().cloned().collect();
    assert_eq!(found, expected, "at least once");
    let once = rows(&folder.join("once"), |line| {
        let row = from_json(line);
        let title = KINDS.into_iter().find(|(kind, _)| row.0 == *kind);
        let title = title.expect("a kind").1;
        assert!(line.contains(title), "{line}: {title}");
        row
    });
    let numbers: BTreeSet<i64> = once.iter().map(|(_, n)| *n).collect();
    assert_eq!(once.len(), numbers.len(), "each number once");
    assert!(numbers.into_iter().eq(0..written as i64), "every number");
    let repeats = early.len() - expected.len();
    let letters = std::fs::read_to_string(folder.join("dead-letters.jsonl")).expect("letters");
    let letters: Vec<Value> = (letters.lines())
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let places: BTreeSet<u64> = (letters.iter())
        .map(|letter| letter["offset"].as_u64().expect("a number"))
        .collect();
    assert_eq!(places.len(), letters.len(), "each letter once");
    assert_eq!(letters.len() as u64, written / BATCH);
    println!(
        "{}; {} rows, {repeats} repeated where that may be, {} letters",
        torment.told(&LEAST),
        expected.len(),
        letters.len()
    );
}
