//! What becomes of a source's splits, by what the source says of them.

use std::sync::Arc;

use async_trait::async_trait;
use thalweg_checkpoint::Manifest;
use thalweg_checkpoint::manifest::{SourceRecord, SplitRecord};
use thalweg_stream::dead_letter::RowRenderer;
use thalweg_stream::source::{Placement, SplitSpec, SplitStart, Waker};
use thalweg_stream::{
    Class, Decoder, DecoderFactory, Epoch, EpochKind, Fault, Generation, Lineage, Progress,
    RecordBatch, Source, SplitId, SplitReader, StreamSchema,
};

use super::{Fate, Fit, PartFit, PartKind};
use crate::graph::{Graph, Node, SourceNode};

/// A source that recognizes the splits whose names begin so. Nothing else of it is asked.
struct Beginning(&'static str);

#[async_trait]
impl Source for Beginning {
    fn bounded(&self) -> bool {
        true
    }
    fn placement(&self) -> Placement {
        Placement::Single
    }
    fn recognize(&self, known: &SplitSpec) -> Result<(), Fault> {
        match known.name.starts_with(self.0) {
            true => Ok(()),
            false => Err(Fault::user(format!("it is none of {}*", self.0))),
        }
    }
    async fn discover(&self, _: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        Err(Fault::bug("nobody looks"))
    }
    fn open(&self, _: Vec<SplitStart>, _: Waker) -> Result<Box<dyn SplitReader>, Fault> {
        Err(Fault::bug("nobody reads"))
    }
}

impl DecoderFactory for Beginning {
    fn schema(&self) -> StreamSchema {
        StreamSchema::append(Vec::new(), true)
    }
    fn build(&self) -> Result<Box<dyn Decoder>, Fault> {
        Err(Fault::bug("nobody decodes"))
    }
}

impl RowRenderer for Beginning {
    fn render(&self, _: &RecordBatch, _: usize) -> String {
        String::new()
    }
}

/// How a job with one source, `reports`, fits a checkpoint that has these sources and splits.
fn fit(beginning: &'static str, checkpoint: &[(&str, &[&str])]) -> Fit {
    let graph = Graph {
        nodes: vec![Node::Source(SourceNode {
            name: "reports".into(),
            source: Arc::new(Beginning(beginning)),
            decoder: Arc::new(Beginning("")),
            out_of_order_ms: 0,
            idle_after_ms: None,
            after: Vec::new(),
        })],
        dead_letters: 1,
        renderer: Arc::new(Beginning("")),
    };
    let (lineage, generation) = (Lineage("0123456789ab".into()), Generation(1));
    let mut manifest = Manifest::new("job", lineage, generation, Epoch(7), EpochKind::Checkpoint);
    for (source, names) in checkpoint {
        let split = |(id, name): (u32, &&str)| SplitRecord {
            id: SplitId(id),
            spec: SplitSpec {
                name: (*name).into(),
                detail: serde_json::Value::Null,
            },
            offset: Some(1),
            finished: false,
            newest_event_time: None,
            idle: false,
        };
        let record = SourceRecord {
            progress: Progress::START,
            splits: (0..).zip(*names).map(split).collect(),
        };
        manifest.sources.insert((*source).to_owned(), record);
    }
    Fit::of(&manifest, &graph)
}

fn source(name: &str, fate: Fate, reason: &str, loses: bool) -> PartFit {
    PartFit {
        kind: PartKind::Source,
        name: name.to_owned(),
        fate,
        reason: reason.to_owned(),
        loses,
    }
}

#[test]
fn a_source_goes_on_if_it_recognizes_every_split() {
    for (splits, reason) in [
        (&["a/1", "a/2"][..], "goes on at the offsets of 2 splits"),
        (&[], "goes on at the offsets of 0 splits"),
    ] {
        let fit = fit("a/", &[("reports", splits)]);
        assert_eq!(fit.parts, [source("reports", Fate::Kept, reason, false)]);
        assert_eq!(fit.check(false), Ok(()));
    }
}

#[test]
fn a_split_that_its_source_does_not_recognize_is_named_and_refused_whatever_is_allowed() {
    let fit = fit("a/", &[("reports", &["a/1", "b/1", "b/2"])]);
    let reason = "cannot go on with split \"b/1\": it is none of a/*";
    let expected = [source("reports", Fate::Incompatible, reason, true)];
    assert_eq!(fit.parts, expected);
    for allow_drop in [false, true] {
        let fault = fit.check(allow_drop).expect_err("other records");
        assert_eq!(fault.class, Class::User);
        let said = format!("checkpoint of epoch 7: source \"reports\" {reason}; give ");
        assert!(fault.message.contains(&said), "{fault}");
    }
}

#[test]
fn a_source_under_another_name_begins_and_is_not_asked_about_the_old_ones_splits() {
    let fit = fit("a/", &[("old", &["b/1"])]);
    let expected = [
        source("reports", Fate::New, "is read from its beginning", false),
        source(
            "old",
            Fate::Dropped,
            "is gone, its offsets would be lost",
            true,
        ),
    ];
    assert_eq!(fit.parts, expected);
    fit.check(false).expect_err("offsets would be lost");
    assert_eq!(fit.check(true), Ok(()));
}
