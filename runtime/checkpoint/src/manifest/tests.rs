//! A manifest reads back, and no damage of it goes unnoticed.

use std::sync::Arc;

use expect_test::expect;
use serde_json::json;
use thalweg_stream::sink::StagedObject;
use thalweg_stream::source::SplitSpec;
use thalweg_stream::watermark::START_OF_TIME;
use thalweg_stream::{Epoch, EpochKind, Generation, Ledger, Lineage, Progress, SplitId};

use super::{Cut, Manifest, SourceRecord, SplitRecord, StepRecord};
use crate::error::Error;
use crate::log::CommitRecord;
use crate::name::{ObjectName, PartId};
use crate::publish::{SinkRecord, StagePlace};
use crate::state::{GroupSet, Link, PartRecord, PartReport, StateChains};

pub(crate) fn example() -> Manifest {
    let lineage = Lineage("0123456789ab".into());
    let (epoch, generation) = (Epoch(7), Generation(2));
    let mut manifest = Manifest::new(
        "road-risk",
        lineage.clone(),
        generation,
        epoch,
        EpochKind::Checkpoint,
    );
    let split = SplitRecord {
        id: SplitId(0),
        spec: SplitSpec {
            name: "partition 0".into(),
            detail: json!({"end": 99}),
        },
        offset: Some(42),
        finished: false,
        newest_event_time: Some(1_700_000_000_000),
        idle: true,
    };
    let source = SourceRecord {
        progress: Progress {
            watermark: START_OF_TIME,
            ..Progress::START
        },
        splits: vec![split],
    };
    manifest.sources.insert("telemetry".into(), source);
    manifest.cuts.push(Cut {
        epoch,
        offsets: vec![(SplitId(0), 42)],
        idle: vec![(SplitId(0), true)],
    });
    let step = StepRecord {
        shape: Some(Arc::from("window/1 count,sum")),
        progress: None,
    };
    manifest.steps.insert("window".into(), step);
    let id = PartId {
        epoch,
        generation,
        worker: 0,
        sequence: 0,
    };
    let name = ObjectName::part(id);
    let link = Link {
        part: name.clone(),
        groups: GroupSet::range(0..3),
        bases: GroupSet::ALL,
        base_bytes: 100,
        delta_bytes: 0,
    };
    let part = PartRecord {
        name,
        id,
        bytes: 77,
        crc32: 1,
        index_crc32: 2,
    };
    let report = PartReport {
        part,
        links: [("window".to_owned(), link)].into(),
    };
    manifest.state = StateChains::default().advance(vec![report]).unwrap();
    let mut sink = SinkRecord::new(StagePlace::Outbox);
    let staged = StagedObject {
        name: "documents/7-0-0-g2".into(),
        epoch,
        worker: 0,
        sequence: 0,
        bytes: 3,
        crc32: 1,
        rows: 1,
        note: json!({"key": 1}),
    };
    sink.stage(epoch, vec![staged], None, &lineage, 0);
    manifest.sinks.insert("documents".into(), sink);
    let ledger = Ledger {
        input: 2,
        passed: 1,
        dead: 1,
        ..Ledger::default()
    };
    manifest.ledgers.insert("telemetry".into(), ledger);
    manifest
}

fn committed(manifest: &Manifest) -> (CommitRecord, Vec<u8>) {
    let (reference, bytes) = manifest.encode().unwrap();
    let commit = CommitRecord {
        number: 5,
        epoch: manifest.epoch,
        generation: manifest.generation,
        lineage: manifest.lineage.clone(),
        savepoint: false,
        manifest: reference,
        at_ms: 0,
    };
    (commit, bytes.to_vec())
}

#[test]
fn a_manifest_reads_back() {
    let manifest = example();
    manifest.check().unwrap();
    let (commit, bytes) = committed(&manifest);
    assert_eq!(Manifest::decode(&commit, &bytes), Ok(manifest));
}

#[test]
fn what_stands_in_the_file_does_not_change_unnoticed() {
    let (_, bytes) = committed(&example());
    let text = String::from_utf8(bytes).unwrap();
    expect![[r#"
        thalweg manifest 1 crc32:20bfc8fd
        {"job":"road-risk","definition":{"fingerprint":"","version":""},"lineage":"0123456789ab","generation":2,"epoch":7,"kind":"checkpoint","created_at_ms":0,"workers":0,"sources":{"telemetry":{"progress":{"watermark":-9223372036854775808,"idle":false,"finished":false},"splits":[{"id":0,"name":"partition 0","detail":{"end":99},"offset":42,"finished":false,"newest_event_time":1700000000000,"idle":true}]}},"cuts":[{"epoch":7,"offsets":[[0,42]],"idle":[[0,true]]}],"steps":{"window":{"shape":"window/1 count,sum","progress":null}},"state":{"parts":[{"name":"state/7-g2/w0","id":{"epoch":7,"worker":0,"sequence":0,"generation":2},"bytes":77,"crc32":1,"index_crc32":2}],"steps":{"window":[{"part":"state/7-g2/w0","groups":"0-2","bases":"0-255","base_bytes":100,"delta_bytes":0}]}},"sinks":{"documents":{"stage":"outbox","units":[{"open":false,"opened_at_ms":0,"lineage":"0123456789ab","epoch":7,"objects":[{"name":"documents/7-0-0-g2","epoch":7,"worker":0,"sequence":0,"bytes":3,"crc32":1,"rows":1,"note":{"key":1}}]}],"published":null,"state":null}},"ledgers":{"telemetry":{"input":2,"passed":1,"filtered":0,"merged":0,"duplicate":0,"late":0,"dead":1,"held":0}},"counters":{}}
    "#]]
    .assert_eq(&text);
}

#[test]
fn every_flipped_bit_and_every_cut_is_detected() {
    let (commit, bytes) = committed(&example());
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let read = Manifest::decode(&commit, &damaged);
        assert!(matches!(read, Err(Error::Corrupt { .. })), "bit {bit}");
    }
    for length in 0..bytes.len() {
        let read = Manifest::decode(&commit, &bytes[..length]);
        assert!(
            matches!(read, Err(Error::Corrupt { .. })),
            "length {length}"
        );
    }
}

#[test]
fn a_manifest_is_never_taken_for_another() {
    let (commit, _) = committed(&example());
    let mut other = example();
    other.workers = 9;
    let (_, bytes) = committed(&other);
    assert!(Manifest::decode(&commit, &bytes).is_err());
    let stale = CommitRecord {
        epoch: Epoch(8),
        ..committed(&other).0
    };
    assert!(Manifest::decode(&stale, &bytes).is_err());
}

#[test]
fn what_cannot_be_is_a_bug() {
    let wrong = |change: fn(&mut Manifest)| {
        let mut manifest = example();
        change(&mut manifest);
        manifest.check().unwrap_err().to_string()
    };
    let ledger = wrong(|m| m.ledgers.get_mut("telemetry").unwrap().dead = 0);
    assert!(
        ledger.contains("\"telemetry\" does not conserve"),
        "{ledger}"
    );
    let cuts = wrong(|m| m.cuts[0].epoch = Epoch(6));
    assert!(cuts.contains("its last cut is of another epoch"), "{cuts}");
    let splits = wrong(|m| {
        let twin = m.sources["telemetry"].clone();
        m.sources.insert("twin".into(), twin);
    });
    assert!(splits.contains("two splits have one number"), "{splits}");
    let kind = wrong(|m| m.kind = EpochKind::Ordinary);
    assert!(kind.contains("an ordinary epoch has none"), "{kind}");
}

#[test]
fn it_reaches_itself_its_parts_and_what_is_staged_here() {
    let mut manifest = example();
    let names = |manifest: &Manifest| {
        let names = manifest.reaches().into_iter().map(|name| name.to_string());
        names.collect::<Vec<_>>()
    };
    assert_eq!(
        names(&manifest),
        [
            "manifest/7-g2.json",
            "state/7-g2/w0",
            "outbox/documents/7-0-0-g2"
        ]
    );
    manifest.sinks.get_mut("documents").unwrap().stage = StagePlace::Own;
    assert_eq!(names(&manifest), ["manifest/7-g2.json", "state/7-g2/w0"]);
}
