//! Documents and rows arrive once and as they should be: through kills, stops and other workers.

use std::collections::BTreeSet;

use thalweg_tests::process::{Run, until};

use crate::bench::{Bench, CURRENT, Vehicles, WINDOWS};

#[test]
fn documents_and_rows_equal_the_oracles_though_the_job_is_killed() {
    let bench = Bench::new();
    let vehicles = Vehicles {
        events: 9000,
        devices: 20,
        late: 0.03,
        rate: 3000,
    };
    let job = bench.job(&vehicles.text());
    let points = [
        "publish.history.before",
        "publish.windows.after",
        "commit.after",
        "publish.history.after",
        "publish.current.after",
        "publish.windows.before",
        "confirm.after",
    ];
    let mut kills = 0;
    for (at, point) in points.iter().enumerate() {
        let ended = Run::of(&job)
            .workers([1, 2, 3][at % 3])
            .kill_at(point)
            .end();
        match ended.code {
            None => kills += 1,
            // Everything may have been published before the last points come.
            Some(_) => ended.well(),
        }
    }
    assert!(kills >= 3, "{kills} kills");
    Run::of(&job).workers(2).end().well();
    vehicles.check(&bench);

    // Updates of late reports were written over what stood there: the check above is of them too.
    let windows = bench.cosmos.written(WINDOWS);
    let updated = windows.values().filter(|writes| **writes > 1).count();
    assert!(updated > 0, "no window was updated");
    let corrupt = bench.dead_letters();
    assert!(
        corrupt
            .keys()
            .all(|(class, _)| class != "sink-reject" && class != "late")
    );
    assert!(corrupt.values().sum::<usize>() > 0);

    // One owner per id, rows of one vehicle in one batch: far fewer requests than documents.
    let batches = bench.cosmos.applied("batch", "/dbs/roads/colls/windows");
    let in_batches: usize = (batches.iter())
        .map(|entry| entry.details["writes"].as_array().map_or(0, Vec::len))
        .sum();
    assert!(
        in_batches > 2 * batches.len(),
        "{in_batches} in {}",
        batches.len()
    );
    for entry in bench.cosmos.ledger().iter().filter(|entry| entry.applied) {
        let writes = entry.details["writes"].as_array().expect("writes");
        let ids: BTreeSet<&str> = writes.iter().filter_map(|w| w["id"].as_str()).collect();
        assert_eq!(ids.len(), writes.len(), "folded: one write a document");
        assert!(writes.len() <= 100, "{} operations", writes.len());
        for write in writes {
            let replaces = write["operation"] == "replace";
            assert_eq!(replaces, write["if_match"].is_string(), "fenced: {write}");
            assert!(replaces || write["operation"] == "create", "{write}");
            assert!(write["stamp"]["generation"].is_u64(), "stamped: {write}");
        }
    }
    // Folded by newest: a vehicle's newest window is written once a checkpoint at most.
    let current: u64 = bench.cosmos.written(CURRENT).values().sum();
    let epochs: BTreeSet<u64> = (bench.cosmos.ledger().iter())
        .filter(|entry| entry.applied && entry.details["container"] == CURRENT)
        .filter_map(|entry| entry.details["writes"][0]["stamp"]["epoch"].as_u64())
        .collect();
    assert!(
        current <= 20 * epochs.len() as u64,
        "{current} in {epochs:?}"
    );
}

#[test]
fn a_stopped_job_goes_on_where_it_was() {
    let bench = Bench::new();
    let vehicles = Vehicles {
        events: 4000,
        devices: 10,
        late: 0.0,
        rate: 400,
    };
    let job = bench.job(&vehicles.text());
    let running = Run::of(&job).workers(2).start();
    until("rows in the table", || {
        bench.adx.query("roads", "Observations | count")[0][0] != 0
    });
    running.signal("TERM");
    let ended = running.end();
    ended.well();
    assert!(ended.said.contains("stopped"), "{}", ended.said);
    let some = bench.adx.query("roads", "Observations | count")[0][0].as_u64();
    assert!(
        some < Some(vehicles.reports().len() as u64),
        "it was stopped early"
    );
    // What is left comes as fast as it can.
    let rest = Run::of(&job).set("sources.vehicles.generate.rate", 100_000);
    rest.workers(1).end().well();
    vehicles.check(&bench);
    let again = Run::of(&job).end();
    again.well();
    assert!(again.said.contains("finished already"), "{}", again.said);
    vehicles.check(&bench);
}

/// How many blobs a job ingests that publishes so.
fn ingestions(publish: &str) -> usize {
    let bench = Bench::new();
    let vehicles = Vehicles {
        events: 3000,
        devices: 10,
        late: 0.0,
        rate: 2000,
    };
    let text = vehicles.text().replace("every: 300ms", publish);
    let job = bench.job(&text.replace("every: 200ms", "every: 100ms"));
    Run::of(&job).workers(2).end().well();
    vehicles.check(&bench);
    let applied = bench.adx.applied("ingest", "roads/Observations");
    let tags: BTreeSet<String> = (applied.iter())
        .map(|entry| entry.details["tags"].to_string())
        .collect();
    assert_eq!(tags.len(), applied.len(), "each blob under its own tag");
    applied.len()
}

#[test]
fn blobs_are_grouped_as_the_definition_says() {
    // What is there when the end is near, and what the end brings.
    let of_an_hour = ingestions("every: 1h");
    assert!(of_an_hour <= 2, "{of_an_hour} blobs");
    let by_size = ingestions("every: 1h, size: 4KiB");
    assert!((3..=12).contains(&by_size), "{by_size} blobs of 4 KiB");
    let by_age = ingestions("every: 1ms");
    assert!(by_age >= 2, "{by_age} blobs, one a checkpoint");
}

#[test]
fn an_ingestion_nothing_is_heard_of_is_asked_for_again() {
    let bench = Bench::new();
    let vehicles = Vehicles {
        events: 500,
        devices: 10,
        late: 0.0,
        rate: 100_000,
    };
    let publish = "publish: { every: 300ms }";
    let text = vehicles.text();
    let job = bench.job(&text.replace(publish, "publish: { every: 1h }, repost_after: 700ms"));
    // The first attempt is neither ingested nor reported; of the second only the report is lost.
    let lost = |operation: &str, count: u64| {
        serde_json::json!({ "match": { "operation": operation }, "action": { "status": 500 },
                            "count": count })
    };
    bench
        .adx
        .plan(&serde_json::json!([lost("ingest", 1), lost("report", 2)]));
    Run::of(&job).end().well();
    assert_eq!(bench.adx.acted(), [1, 2]);
    vehicles.check(&bench);
    let posted = bench.adx.applied("POST message", "");
    assert_eq!(
        posted.len(),
        2,
        "asked for again once, and then found by its tag"
    );
    let apart = posted[1].at_ms - posted[0].at_ms;
    assert!(apart >= 700, "asked for again after {apart} ms");
}
