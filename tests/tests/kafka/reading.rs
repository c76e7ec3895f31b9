//! What is read of a topic that ends.

use std::path::Path;

use serde_json::{Value, json};
use thalweg_tests::process::until;

use super::{Case, Job, Place, objects, record, rows_in};

pub(crate) const CASES: &[Case] = &[
    ("every partition once with 1, 2 and 4 workers", partitions),
    ("every compression", compressions),
    ("key, headers, timestamp, tombstones, 1 MiB", metadata),
    ("aborted transactions at the end", transactions),
    ("an empty topic", empty),
    ("the example", example),
    ("a password over TLS", password),
];

fn partitions(place: &mut Place) {
    place.broker.create("spread", 4);
    let lines = place.lines("spread", 0..20_000);
    place.broker.produce_lines("spread", 4, &lines);
    for workers in [1, 2, 4] {
        let job = place.job("spread", "until: latest", "");
        job.finish(workers);
        job.holds(0..20_000);
    }
}

fn compressions(place: &mut Place) {
    place.broker.create("packed", 1);
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for (at, codec) in (0..).zip(codecs) {
        let lines = place.lines("packed", at * 1000..(at + 1) * 1000);
        place.broker.produce_compressed("packed", &lines, codec);
    }
    let job = place.job("packed", "until: latest", "");
    job.finish(1);
    job.holds(0..5000);
}

fn metadata(place: &mut Place) {
    let large = json!({ "max.message.bytes": "4194304" });
    place.broker.create_with("told", 2, &large);
    let padding = "x".repeat(1 << 20);
    place.broker.produce(
        "told",
        &[
            json!({ "partition": 1, "key": "veh-7", "value": "{\"n\":1}", "timestamp": 1_767_225_600_123_i64,
                    "headers": { "trace": "7f", "hops": null } }),
            json!({ "partition": 1, "key": "veh-7", "value": null, "timestamp": 1_767_225_600_124_i64 }),
            json!({ "partition": 0, "value": json!({ "n": 2, "padding": padding }).to_string() }),
            json!({ "partition": 0, "value": "{\"n\":" }),
        ],
    );
    let asked = "key: key, raw: key_bytes, headers: headers, topic: topic, at: timestamp";
    let job = place.job("told", "until: latest", asked);
    job.finish(2);
    let mut rows = job.rows();
    rows.sort_by_key(|row| row["n"].as_u64());
    assert_eq!(
        rows[0],
        json!({ "n": 1, "partition": 1, "offset": 0, "key": "veh-7", "raw": "dmVoLTc=",
                "headers": { "trace": "7f", "hops": null }, "topic": "told", "at": 1_767_225_600_123_i64 })
    );
    assert_eq!(rows[1]["n"], 2);
    assert_eq!(
        (&rows[1]["key"], &rows[1]["headers"]),
        (&Value::Null, &json!({}))
    );
    assert_eq!(rows.len(), 2);
    let mut dead: Vec<String> = (job.dead().iter())
        .map(|letter| {
            format!(
                "{} {} {}",
                letter["class"], letter["split"], letter["offset"]
            )
        })
        .collect();
    dead.sort();
    assert_eq!(
        dead,
        [
            "\"decode\" \"partition 0\" 1",
            "\"decode\" \"partition 1\" 1"
        ]
    );
}

fn transactions(place: &mut Place) {
    place.broker.create("committed", 1);
    for part in 0..6_u64 {
        let records: Vec<Value> = (part * 50..(part + 1) * 50)
            .map(|n| record(0, &json!({ "n": n })))
            .collect();
        // Of the six the first three are committed in between aborted ones; the last is aborted, so
        // that the partition ends with records that nobody may see and a control record.
        let (records, end) = match part {
            0 | 2 | 4 => (records, "commit"),
            _ => (records, "abort"),
        };
        place.broker.transact("committed", &records, end);
    }
    let committed: Vec<u64> = (0..300).filter(|n| n / 50 % 2 == 0).collect();
    let job = place.job("committed", "until: latest", "");
    job.finish(2);
    let mut seen: Vec<u64> = (job.rows().iter())
        .map(|row| row["n"].as_u64().expect("a number"))
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, committed);
    // By the field, and by librdkafka's name for it.
    for uncommitted in [
        "isolation: read_uncommitted",
        "properties: { isolation.level: read_uncommitted }",
    ] {
        let options = format!("until: latest\n      {uncommitted}");
        let job = place.job("committed", &options, "");
        job.finish(1);
        job.holds(0..300);
    }
}

fn empty(place: &mut Place) {
    place.broker.create("empty", 3);
    let job = place.job("empty", "until: latest", "");
    job.finish(2);
    job.holds(0..0);
}

/// `examples/kafka`: a table from a topic, and a partition without records that holds nothing back.
fn example(place: &mut Place) {
    place.broker.create("reports", 2);
    place.broker.create("devices", 2);
    let device =
        |n: u64, site: &str| record(0, &json!({ "device_id": format!("d{n}"), "site": site }));
    place.broker.produce(
        "devices",
        &[device(1, "north"), device(2, "south"), device(1, "west")],
    );
    let report = |n: u64, ts: u64, value: f64| {
        let report = json!({ "device_id": format!("d{n}"), "ts": ts, "temperature_c": value });
        record(1, &report)
    };
    let reports = [
        report(1, 1_000, 20.0),
        report(1, 9_999, 22.0),
        report(2, 5_000, 7.5),
        report(3, 5_000, 0.0),
        // Its time fires the first windows, although partition 0 never says anything.
        report(1, 60_000, 30.0),
    ];
    place.broker.produce("reports", &reports);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/kafka/job.yaml");
    let job = Job {
        folder: place.folder.path().join("example"),
    };
    std::fs::create_dir_all(&job.folder).expect("a folder");
    std::fs::copy(example, job.path()).expect("the example");
    let run = (job.run(2).env("KAFKA_BROKERS", &place.broker.address()))
        .set("settings.checkpoint.every", "100ms")
        .set("sources.reports.event_time.idle_after", "200ms");
    let running = run.start();
    let out = job.folder.join("run/out");
    until("the first windows", || rows_in(&out).len() >= 2);
    Job::stop(running);
    let mut rows: Vec<String> = (rows_in(&out).iter())
        .map(|row| format!("{} {} {}", row["site"], row["reports"], row["mean_c"]))
        .collect();
    rows.sort();
    assert_eq!(rows, ["\"south\" 1 7.5", "\"west\" 2 21.0"]);
    let dead = objects(&job.folder.join("run/dead-letters.jsonl"));
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(
        (&dead[0]["class"], &dead[0]["step"]),
        (&json!("operator"), &json!("placed"))
    );
}

fn password(place: &mut Place) {
    place.broker.create("sealed", 2);
    let lines = place.lines("sealed", 0..500);
    place.broker.produce_lines("sealed", 2, &lines);
    let (address, options) = sealed(place, thalweg_tests::kafka::PASSWORD);
    let job = place.job_at(&address, "sealed", &options, "");
    job.finish(2);
    job.holds(0..500);
}

/// The address for TLS, and the options to sign in there.
pub(crate) fn sealed(place: &Place, password: &str) -> (String, String) {
    let options = format!(
        r#"until: latest
      properties:
        security.protocol: SASL_SSL
        sasl.mechanism: PLAIN
        sasl.username: $ConnectionString
        sasl.password: "{password}"
        ssl.ca.location: {}"#,
        place.broker.authority().display()
    );
    (place.broker.tls_address(), options)
}
