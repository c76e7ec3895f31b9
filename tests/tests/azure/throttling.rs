//! Storms of 429 and other refusals that pass: obeyed, outlived, and nothing lost or doubled.

use serde_json::{Value, json};
use thalweg_standin_ledger::Entry;
use thalweg_tests::process::Run;

use crate::bench::{Bench, Vehicles};

fn storm(operation: &str, action: &Value, probability: f64, count: u64) -> Value {
    json!({ "match": { "operation": operation }, "action": action,
            "probability": probability, "count": count })
}

#[test]
fn storms_of_refusals_pass_and_leave_no_trace() {
    let bench = Bench::new();
    let vehicles = Vehicles {
        events: 3000,
        devices: 20,
        late: 0.02,
        rate: 6000,
    };
    let throttled = json!({ "status": 429, "retry_after_ms": 60 });
    let unavailable = json!({ "status": 503 });
    bench.cosmos.plan(&json!([
        storm("batch", &throttled, 0.5, 30),
        storm("batch", &json!({ "lost_reply": true }), 0.1, 5),
        storm("read", &throttled, 0.3, 30),
        storm("replace", &json!({ "status": 449 }), 0.3, 5),
        storm("create", &json!({ "status": 503, "apply": true }), 0.3, 5),
    ]));
    bench.adx.plan(&json!([
        storm("POST message", &unavailable, 0.5, 3),
        storm("PUT blob", &throttled, 0.5, 3),
        storm("INSERT entity", &json!({ "lost_reply": true }), 0.5, 3),
        storm("ingest", &throttled, 0.5, 3),
        storm("deliver", &json!({ "lost_reply": true }), 0.5, 3),
        storm("report", &json!({ "delay_ms": 50 }), 0.5, 10),
    ]));
    let job = bench.job(&vehicles.text());
    Run::of(&job).workers(2).end().well();
    vehicles.check(&bench);
    let acted = bench.cosmos.acted();
    assert!(acted[0] > 3 && acted[2] > 3, "{acted:?}");
    let acted = bench.adx.acted();
    assert!(acted.iter().sum::<u64>() > 5, "{acted:?}");
}

#[test]
fn a_sink_stays_away_as_long_as_it_is_told() {
    let bench = Bench::new();
    let vehicles = Vehicles {
        events: 1500,
        devices: 20,
        late: 0.0,
        rate: 3000,
    };
    let told = json!({ "status": 429, "retry_after_ms": 600 });
    bench.cosmos.plan(
        &json!([{ "match": { "operation": "batch", "path": "/dbs/roads/colls/windows" },
                                "action": told, "skip": 3, "count": 2 }]),
    );
    let job = bench.job(&vehicles.text());
    Run::of(&job).end().well();
    vehicles.check(&bench);
    // Each sink has its own pace; requests of the throttled one that were on their way may still
    // arrive, but not half the time later.
    let ledger = bench.cosmos.ledger();
    let of_sink = |entry: &&Entry| entry.target.starts_with("/dbs/roads/colls/windows/docs");
    let throttled: Vec<&Entry> = (ledger.iter().filter(of_sink))
        .filter(|entry| entry.answered == Some(429))
        .collect();
    assert_eq!(throttled.len(), 2);
    for entry in throttled {
        let (from, until) = (entry.recorded_us + 300_000, entry.recorded_us + 600_000);
        let early: Vec<&Entry> = (ledger.iter().filter(of_sink))
            .filter(|other| (from..until).contains(&other.received_us))
            .collect();
        assert!(early.is_empty(), "{early:#?}");
    }
}
