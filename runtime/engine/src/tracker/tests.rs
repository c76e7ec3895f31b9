//! Conformance cases D1 to D10 (several inputs, idle ones; Flink's figures) as a table, and what
//! readers add to them: splits that finish, and splits that never had anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use thalweg_stream::dead_letter::RowRenderer;
use thalweg_stream::source::{Placement, SplitSpec, SplitStart, Waker};
use thalweg_stream::{
    Decoder, DecoderFactory, Epoch, EpochKind, Fault, Ledger, Progress, RecordBatch, Source,
    SplitId, SplitReader, StreamSchema,
};

use super::{TrackedSplit, Tracker};
use crate::graph::{Edge, Graph, Node, SourceNode, union};
use crate::report::{SplitReport, TimeReport};

/// A source that nobody reads.
struct Unread {
    bounded: bool,
}

#[async_trait]
impl Source for Unread {
    fn bounded(&self) -> bool {
        self.bounded
    }
    fn placement(&self) -> Placement {
        Placement::Single
    }
    async fn discover(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        Ok(known.to_vec())
    }
    fn open(&self, _: Vec<SplitStart>, _: Waker) -> Result<Box<dyn SplitReader>, Fault> {
        Err(Fault::bug("nobody reads"))
    }
}

impl DecoderFactory for Unread {
    fn schema(&self) -> StreamSchema {
        StreamSchema::append(Vec::new(), true)
    }
    fn build(&self) -> Result<Box<dyn Decoder>, Fault> {
        Err(Fault::bug("nobody decodes"))
    }
}

impl RowRenderer for Unread {
    fn render(&self, _: &RecordBatch, _: usize) -> String {
        String::new()
    }
}

const BOUNDED: Unread = Unread { bounded: true };

/// A source that ends with its splits.
fn tracker(splits: u32, out_of_order_ms: i64, newest: Option<i64>, watermark: i64) -> Tracker {
    let source = SourceNode {
        out_of_order_ms,
        ..source(BOUNDED)
    };
    tracker_of(source, splits, newest, watermark)
}

fn source(source: Unread) -> SourceNode {
    SourceNode {
        name: Arc::from("source"),
        source: Arc::new(source),
        decoder: Arc::new(BOUNDED),
        out_of_order_ms: 0,
        idle_after_ms: None,
        after: Vec::new(),
    }
}

fn tracker_of(source: SourceNode, splits: u32, newest: Option<i64>, watermark: i64) -> Tracker {
    let graph = Graph {
        nodes: vec![Node::Source(source)],
        dead_letters: 1,
        renderer: Arc::new(BOUNDED),
    };
    let splits: Vec<TrackedSplit> = (0..splits)
        .map(|id| TrackedSplit {
            id: SplitId(id),
            source: 0,
            newest,
        })
        .collect();
    Tracker::new(Arc::new(graph), &splits, &BTreeMap::from([(0, watermark)]))
}

/// Plays a script, one epoch a step, and writes down after each what is new: a watermark, `IDLE`
/// when the whole source has become idle, `END`, or `-`.
///
/// `i 25` is a newest event time of 25 in split `i`; `i idle`, `i active` and `i finished` are what
/// its reader says.
fn play(tracker: &mut Tracker, script: &str) -> String {
    let mut splits: BTreeMap<u32, SplitReport> = BTreeMap::new();
    let (mut last, mut epoch, mut log) = (Progress::START, 0, Vec::new());
    for step in script.split(';').map(str::trim) {
        let (split, what) = step.split_once(' ').expect("a split and what happens");
        let split: u32 = split.parse().expect("a split");
        let report = splits.entry(split).or_insert(SplitReport {
            split,
            offset: None,
            idle: false,
            loaded: false,
            finished: false,
            behind: None,
        });
        let mut reports = Vec::new();
        match what {
            "idle" => report.idle = true,
            "active" => report.idle = false,
            "finished" => report.finished = true,
            time => reports.push(TimeReport::Decoded {
                source: 0,
                split,
                newest: Some(time.parse().expect("a time")),
                ledger: Ledger::default(),
            }),
        }
        reports.push(TimeReport::Closed {
            source: 0,
            kind: EpochKind::Ordinary,
            splits: splits.values().copied().collect(),
        });
        epoch += 1;
        let now = tracker.close(Epoch(epoch), reports).nodes[0];
        assert!(now.watermark >= last.watermark, "{script}: it went back");
        let mut new = Vec::new();
        if now.watermark > last.watermark && !now.finished {
            new.push(now.watermark.to_string());
        }
        if now.idle && !last.idle {
            new.push("IDLE".to_owned());
        }
        if now.finished && !last.finished {
            new.push("END".to_owned());
        }
        log.push(match new.is_empty() {
            true => "-".to_owned(),
            false => new.join("+"),
        });
        last = now;
    }
    log.join(" ")
}

#[test]
fn inputs_are_united_as_in_the_cases_d1_to_d10() {
    for (case, splits, script, expected) in [
        ("D1", 1, "0 25; 0 18; 0 42", "25 - 42"),
        // A split in which something is read is not idle: here there is no step "while idle".
        ("D2", 1, "0 25; 0 idle; 0 active; 0 50", "25 IDLE - 50"),
        (
            "D3",
            3,
            "0 0; 1 0; 2 0; 0 12; 2 8; 2 10; 1 15; 2 17; 0 20",
            "- - 0 - - - 10 12 15",
        ),
        ("D4", 3, "0 25; 1 10; 2 17; 0 12; 1 8; 2 15", "- - 10 - - -"),
        (
            "D5",
            2,
            "0 active; 1 active; 1 idle; 0 idle; 0 idle; 1 active; 0 active",
            "- - - IDLE - - -",
        ),
        ("D6", 3, "0 15; 1 10; 2 idle; 1 18; 0 20", "- - 10 15 18"),
        ("D7", 3, "0 25; 1 10; 2 17; 1 idle; 2 idle", "- - 10 17 25"),
        (
            "D8",
            3,
            "0 10; 1 5; 2 3; 0 idle; 1 idle; 2 idle",
            "- - 3 - - 10+IDLE",
        ),
        (
            "D9",
            3,
            "0 10; 1 7; 2 3; 2 idle; 2 active; 2 5; 2 9; 1 12",
            "- - 3 7 - - - 9",
        ),
        (
            "D10",
            3,
            "0 10; 1 7; 2 idle; 2 active; 0 idle; 1 idle",
            "- - 7 - - -",
        ),
    ] {
        let mut tracker = tracker(splits, 0, None, i64::MIN);
        assert_eq!(play(&mut tracker, script), expected, "{case}");
    }
}

#[test]
fn splits_that_finish_or_never_had_anything_hold_nothing_back() {
    for (why, splits, script, expected) in [
        (
            "a finished split leaves",
            2,
            "0 10; 1 30; 0 finished",
            "- 10 30",
        ),
        (
            "only the end of all is the end of time",
            2,
            "0 10; 1 30; 0 finished; 1 40; 1 finished",
            "- 10 30 40 END",
        ),
        (
            "a split that never had anything holds the others back…",
            2,
            "0 10; 0 20; 1 active; 0 30",
            "- - - -",
        ),
        ("…until it is idle…", 2, "0 10; 1 idle; 0 20", "- 10 20"),
        ("…or finished", 2, "0 10; 1 finished; 0 20", "- 10 20"),
        (
            "it wakes and is behind: nothing goes back",
            2,
            "0 10; 1 idle; 1 active; 1 4; 0 20; 1 15",
            "- 10 - - - 15",
        ),
        (
            "idle and finished together are idle",
            2,
            "0 10; 1 5; 1 finished; 0 idle; 0 active; 0 12",
            "- 5 10 IDLE - 12",
        ),
        (
            "when the other is idle, what a finished one had is complete",
            2,
            "0 10; 1 30; 1 finished; 0 idle; 0 active; 0 40",
            "- 10 - 30+IDLE - 40",
        ),
        ("nothing anywhere", 2, "0 idle; 1 idle", "- IDLE"),
        (
            "all at once finished without anything",
            2,
            "0 finished; 1 finished",
            "- END",
        ),
    ] {
        let mut tracker = tracker(splits, 0, None, i64::MIN);
        assert_eq!(play(&mut tracker, script), expected, "{why}");
    }
}

#[test]
fn watermarks_trail_by_what_may_be_out_of_order_and_go_on_after_a_restart() {
    let mut fresh = tracker(1, 5, None, i64::MIN);
    assert_eq!(play(&mut fresh, "0 25; 0 26"), "20 21");
    // Restored at 40: rows that are re-read, and a greater `out_of_order`, do not set it back.
    let mut restored = tracker(2, 100, Some(45), 40);
    assert_eq!(play(&mut restored, "0 41; 1 160; 0 150"), "40 - 50");
    let mut extreme = tracker(1, i64::MAX, Some(i64::MIN), i64::MIN);
    assert_eq!(play(&mut extreme, "0 9223372036854775807"), "0");
}

#[test]
fn a_split_that_joins_holds_the_watermark_where_it_is_until_it_has_come_as_far() {
    for (why, script, expected) in [
        (
            "it is read from where it begins",
            "0 10; 0 20; 1 5; 1 15; 0 30; 1 40",
            "10 20 - - - 30",
        ),
        (
            "it has nothing yet",
            "0 10; 1 active; 0 20; 1 15",
            "10 - - 15",
        ),
        (
            "it is idle",
            "0 10; 1 active; 0 20; 1 idle; 0 30",
            "10 - - 20 30",
        ),
        ("it is ahead", "0 10; 1 50; 0 20", "10 - 20"),
        (
            "it finishes",
            "0 10; 1 5; 0 20; 1 finished; 0 finished",
            "10 - - 20 END",
        ),
    ] {
        let mut tracker = tracker(1, 0, None, i64::MIN);
        assert_eq!(play(&mut tracker, script), expected, "{why}");
    }
}

#[test]
fn a_source_without_an_end_waits_for_splits_rather_than_ending() {
    let endless = || source(Unread { bounded: false });
    let mut waiting = tracker_of(endless(), 1, None, i64::MIN);
    let script = "0 10; 0 finished; 1 5; 1 25; 1 finished; 2 30";
    assert_eq!(play(&mut waiting, script), "10 - - 25 - 30");
    // Where splits may be idle, the lack of any is idleness: it holds nothing else back.
    let idle_after_ms = Some(1000);
    let source = SourceNode {
        idle_after_ms,
        ..endless()
    };
    let mut idle = tracker_of(source, 1, None, i64::MIN);
    assert_eq!(play(&mut idle, "0 10; 0 finished; 1 25"), "10 IDLE 25");
    let mut none = tracker_of(endless(), 0, None, i64::MIN);
    let closed = TimeReport::Closed {
        source: 0,
        kind: EpochKind::Ordinary,
        splits: Vec::new(),
    };
    let info = none.close(Epoch(1), vec![closed]);
    assert_eq!(info.nodes[0], Progress::START);
}

#[test]
fn what_was_decoded_of_a_split_counts_in_the_epoch_in_which_it_joins() {
    let mut tracker = tracker(0, 0, None, i64::MIN);
    let decoded = TimeReport::Decoded {
        source: 0,
        split: 7,
        newest: Some(50),
        ledger: Ledger::default(),
    };
    let split = SplitReport {
        split: 7,
        offset: Some(3),
        idle: false,
        loaded: false,
        finished: false,
        behind: None,
    };
    let closed = TimeReport::Closed {
        source: 0,
        kind: EpochKind::Ordinary,
        splits: vec![split],
    };
    // Reports of other workers come in any order.
    let info = tracker.close(Epoch(1), vec![decoded, closed]);
    assert_eq!(info.nodes[0].watermark, 50);
    assert_eq!((info.splits[0].split, info.splits[0].offset), (7, Some(3)));
}

#[test]
fn what_a_finished_source_had_is_complete_where_the_other_is_idle_also_after_a_restart() {
    let graph = Arc::new(Graph {
        nodes: vec![Node::Source(source(BOUNDED)), Node::Source(source(BOUNDED))],
        dead_letters: 2,
        renderer: Arc::new(BOUNDED),
    });
    let edges = [0, 1].map(|node| Edge { node, port: 0 });
    let split = |number: usize, newest| TrackedSplit {
        id: SplitId(number as u32),
        source: number,
        newest,
    };
    // One source has ended at 30; the other has come to 10, and is idle.
    let close = |tracker: &mut Tracker, epoch, idle, newest| {
        let report = |source: usize, idle, finished| TimeReport::Closed {
            source,
            kind: EpochKind::Ordinary,
            splits: vec![SplitReport {
                split: source as u32,
                offset: None,
                idle,
                loaded: false,
                finished,
                behind: None,
            }],
        };
        let decoded = TimeReport::Decoded {
            source: 1,
            split: 1,
            newest,
            ledger: Ledger::default(),
        };
        let reports = vec![report(0, false, true), report(1, idle, false), decoded];
        union(&tracker.close(Epoch(epoch), reports).nodes, &edges)
    };
    let splits = [split(0, Some(30)), split(1, Some(10))];
    let mut running = Tracker::new(Arc::clone(&graph), &splits, &BTreeMap::new());
    assert_eq!(close(&mut running, 1, false, None), Progress::at(10));
    let idle = Progress {
        idle: true,
        ..Progress::at(30)
    };
    assert_eq!(close(&mut running, 2, true, None), idle);
    assert_eq!(close(&mut running, 3, false, Some(40)), Progress::at(40));
    // A checkpoint says of the finished source that it is at the end of time.
    let watermarks = BTreeMap::from([(0, i64::MAX), (1, 10)]);
    let mut restarted = Tracker::new(graph, &splits, &watermarks);
    assert_eq!(close(&mut restarted, 4, true, None), idle);
}
