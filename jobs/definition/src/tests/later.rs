//! What the reference names and nobody builds yet is recognised, and refused as such.

use super::load_with;

const BASE: &str = "\
job: later
settings:
  checkpoint: { every: 10s }
sources:
  events: { generate: { what: fleet }, schema: { device_id: string, ts: timestamp, speed: float64 }, event_time: { column: ts } }
tables:
  places: { generate: { what: weather }, schema: { segment: string, at: timestamp }, key: segment }
steps:
  all: { from: events, filter: speed > 0 }
sinks:
  out: { from: all, discard: }
";

/// A field and a value to set, and what is not supported yet. Several settings are separated by a
/// semicolon.
const LATER: &[(&str, &str)] = &[
    // Settings: stores, where dead letters go.
    (
        "settings.checkpoint.to=az://container/prefix",
        "az://container/prefix",
    ),
    (
        "settings.checkpoint.to=s3://bucket/prefix",
        "s3://bucket/prefix",
    ),
    (
        "settings.dead_letters={ kafka: { topic: dead } }",
        "`kafka`",
    ),
    ("settings.dead_letters={ cosmos: {} }", "`cosmos`"),
    ("settings.dead_letters={ adx: {} }", "`adx`"),
    ("settings.dead_letters={ stdout: }", "`stdout`"),
    ("settings.dead_letters={ blob: {} }", "`blob`"),
    ("settings.workers=4", "`workers`"),
    ("settings.memory=1GiB", "`memory`"),
    // Sources and tables.
    (
        "sources.s={ eventhubs: {}, schema: { x: string } }",
        "`eventhubs`",
    ),
    (
        "sources.s={ iothub: {}, schema: { x: string } }",
        "`iothub`",
    ),
    (
        "sources.s={ mqtt: { url: u }, schema: { x: string } }",
        "`mqtt`",
    ),
    (
        "sources.s={ cosmos_changes: {}, schema: { x: string } }",
        "`cosmos_changes`",
    ),
    ("sources.s={ blob: {}, schema: { x: string } }", "`blob`"),
    ("sources.s={ http: {}, schema: { x: string } }", "`http`"),
    (
        "sources.s={ generate: { what: random }, schema: { x: string } }",
        "`random`",
    ),
    ("sources.events.format=avro", "format `avro`"),
    ("sources.events.format=protobuf", "format `protobuf`"),
    ("sources.events.format=parquet", "format `parquet`"),
    ("sources.events.format=text", "format `text`"),
    ("sources.events.format=raw", "format `raw`"),
    (
        "tables.t={ from: all, schema: { x: string }, key: x }",
        "`from`",
    ),
    (
        "tables.t={ mqtt: {}, schema: { x: string }, key: x }",
        "`mqtt`",
    ),
    // Steps.
    ("steps.s={ from: all, explode: x }", "`explode`"),
    ("steps.s={ from: all, join: { with: all } }", "`join`"),
    ("steps.s={ from: all, view: { sql: select 1 } }", "`view`"),
    (
        "steps.s={ from: all, plugin: { use: road.smooth } }",
        "`plugin`",
    ),
    ("steps.s={ from: all, detect: {} }", "`detect`"),
    ("steps.s={ from: all, sql: select 1 }", "`sql`"),
    ("steps.all.parallelism=4", "`parallelism`"),
    (
        "steps.s={ from: all, window: { hopping: { size: 10s, every: 1s } } }",
        "`hopping`",
    ),
    (
        "steps.s={ from: all, window: { sliding: 1m } }",
        "`sliding`",
    ),
    (
        "steps.s={ from: all, window: { session: { gap: 1m } } }",
        "`session`",
    ),
    ("steps.s={ from: all, window: { snapshot: } }", "`snapshot`"),
    (
        "steps.s={ from: all, window: { tumbling: 10s, early: 5s } }",
        "`early`",
    ),
    (
        "steps.s={ from: all, dedup: { by: x, within: 1h, keep: last } }",
        "`keep: last`",
    ),
    (
        "steps.s={ from: all, dedup: { by: x, sequence: seq } }",
        "`sequence`",
    ),
    (
        "steps.s={ from: all, enrich: { lookup: { http: u } } }",
        "`lookup`",
    ),
    // Sinks.
    ("sinks.s={ from: all, kafka: { topic: t } }", "`kafka`"),
    ("sinks.s={ from: all, eventhubs: {} }", "`eventhubs`"),
    ("sinks.s={ from: all, blob: {} }", "`blob`"),
    (
        "sinks.s={ from: all, digital_twins: {} }",
        "`digital_twins`",
    ),
    ("sinks.s={ from: all, webhook: {} }", "`webhook`"),
    (
        "sinks.s={ from: all, file: { path: o, format: parquet } }",
        "format `parquet`",
    ),
    (
        "sinks.s={ from: all, file: { path: o, roll: { every: 1m } } }",
        "`every`",
    ),
    (
        "sinks.s={ from: all, file: { path: o, partition_by: [x] } }",
        "`partition_by`",
    ),
];

#[test]
fn what_is_not_built_is_refused_as_not_supported_yet() {
    assert!(load_with(BASE, &[]).is_ok());
    for (setting, what) in LATER {
        let (path, value) = setting.split_once('=').expect("path=value");
        let errors = load_with(BASE, &[(path, value)]).expect_err(setting);
        let told: Vec<&str> = errors.found.iter().map(|e| e.message.as_str()).collect();
        assert_eq!(
            told.len(),
            1,
            "one error, no others in its wake: {setting}: {told:?}"
        );
        let said = told[0];
        assert!(
            said.contains(what) && said.contains("not supported yet"),
            "{setting}: {said}"
        );
    }
}
