//! Kills, zombies and disks that fail meet every operator, connector and sink there is: what the
//! definition's language has is compared with what the jobs under test have.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use thalweg_definition::{
    Definition, LoadOptions, Operation, Resolver, SCHEMA, SinkKind, SourceKind, load,
};

use crate::{FROZEN, FROZEN_ONCE, POINTS, plain};

/// Operators that are another one with this option: how they keep their state differs.
const MODES: [&str; 2] = ["dedup, same_time", "enrich, as_of"];
/// A connector as it stands in a definition.
const TOPIC: &str = "kafka: { brokers: localhost, topic: any }";

/// Every file holds what may be a hash.
struct Hash;

impl Resolver for Hash {
    fn env(&self, _name: &str) -> Option<String> {
        None
    }

    fn file(&self, _path: &Path) -> Result<String, String> {
        Ok("0".repeat(64))
    }
}

fn parsed(text: &str) -> Definition {
    let mut text = text.to_owned();
    for (place, by) in [
        ("VEHICLES", TOPIC),
        ("WEATHER", TOPIC),
        ("SITES", TOPIC),
        ("COSMOS", "http://localhost"),
        ("ADX", "http://localhost"),
    ] {
        text = text.replace(place, by);
    }
    let options = LoadOptions {
        set: Vec::new(),
        resolver: &Hash,
    };
    load(&text, "job.yaml", Path::new("."), &options).expect("a definition")
}

/// What a definition may name in one part of it: one of these it must.
fn choices(part: &str) -> BTreeSet<String> {
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    let choices = schema["$defs"][part]["oneOf"].as_array().expect("choices");
    let names = choices.iter().map(|choice| {
        // A step of several inputs needs to name nothing.
        choice["required"][0].as_str().unwrap_or("union").to_owned()
    });
    names.collect()
}

fn operators(jobs: &[&Definition]) -> BTreeSet<String> {
    let steps = jobs.iter().flat_map(|job| &job.steps);
    let names = steps.map(|step| match &step.operation {
        Operation::Union => "union",
        Operation::Filter(_) => "filter",
        Operation::Select(_) => "select",
        Operation::Set(_) => "set",
        Operation::Drop(_) => "drop",
        Operation::Rename(_) => "rename",
        Operation::Route(_) => "route",
        Operation::Dedup(dedup) if dedup.same_time => "dedup, same_time",
        Operation::Dedup(_) => "dedup",
        Operation::Window(_) => "window",
        Operation::Enrich(enrich) if enrich.as_of.is_some() => "enrich, as_of",
        Operation::Enrich(_) => "enrich",
    });
    names.map(str::to_owned).collect()
}

fn sources(jobs: &[&Definition]) -> BTreeSet<String> {
    let sources = jobs.iter().flat_map(|job| {
        let tables = job.tables.iter().map(|table| &table.source);
        job.sources.iter().chain(tables)
    });
    let names = sources.map(|source| match source.kind {
        SourceKind::File(_) => "file",
        SourceKind::Generate(_) => "generate",
        SourceKind::Kafka(_) => "kafka",
    });
    names.map(str::to_owned).collect()
}

fn sinks(jobs: &[&Definition]) -> BTreeSet<String> {
    let sinks = jobs.iter().flat_map(|job| &job.sinks);
    let names = sinks.map(|sink| match sink.kind {
        SinkKind::File(_) => "file",
        SinkKind::Cosmos(_) => "cosmos",
        SinkKind::Adx(_) => "adx",
        SinkKind::Stdout => "stdout",
        SinkKind::Discard => "discard",
    });
    names.map(str::to_owned).collect()
}

/// Whether one of the points is the publication of this sink.
fn publishes(points: &[&str], sink: &str) -> bool {
    let publication = format!("publish.{sink}");
    let rest = |point: &&str| point.strip_prefix(&publication).map(str::to_owned);
    let mut rests = points.iter().filter_map(rest);
    rests.any(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[test]
fn kills_zombies_and_failing_disks_meet_all_there_is() {
    let road_risk = parsed(include_str!("job.yaml"));
    let plain = parsed(include_str!("plain.yaml"));
    let disks = parsed(include_str!("../disk/job.yaml"));
    let killed = [&road_risk, &plain];
    let mut all = choices("step");
    all.extend(MODES.map(str::to_owned));
    // Each of the two jobs is killed and frozen, each run of it with all of its steps at work.
    assert_eq!(operators(&killed), all, "killed and frozen");
    assert_eq!(operators(&[&disks]), all, "on disks that fail");
    assert_eq!(sinks(&killed), choices("sink"), "killed and frozen");
    assert_eq!(sinks(&[&disks]), choices("sink"), "on disks that fail");
    assert_eq!(sources(&[&disks]), choices("source"), "on disks that fail");
    // The generator is read where there is no broker.
    let mut read = sources(&killed);
    read.insert("generate".to_owned());
    assert_eq!(read, choices("source"), "killed and frozen");
    for job in [&road_risk, &disks] {
        assert!(!job.plugins.is_empty(), "{}: a plugin", job.job);
    }
    let frozen = [&FROZEN[..], &FROZEN_ONCE].concat();
    for (job, points, frozen) in [
        (&road_risk, &POINTS[..], &frozen[..]),
        (&plain, &plain::POINTS, &plain::FROZEN),
    ] {
        // What is discarded is never published.
        let sinks = job.sinks.iter();
        let sinks = sinks.filter(|sink| !matches!(sink.kind, SinkKind::Discard));
        let names = sinks.map(|sink| sink.name.value.as_str());
        for name in names.chain(["dead_letters"]) {
            assert!(publishes(points, name), "{}: killed at {name}", job.job);
            assert!(publishes(frozen, name), "{}: frozen at {name}", job.job);
        }
    }
}
