//! A service that answers nothing for a minute: the job waits in bounded memory, and goes on.

use std::time::Duration;

use serde_json::{Value, json};
use thalweg_tests::process::{Run, Running, until};
use thalweg_tests::standin::StandIn;

const JOB: &str = r#"
job: blocked
settings:
  checkpoint: { every: 200ms, to: ./checkpoints }
  dead_letters: { file: { path: ./dead.jsonl } }
sources:
  vehicles:
    generate: { what: vehicles, devices: 50, seed: 3, rate: 100000 }
    schema: { vehicle_id: string, seq: int64, ts: timestamp, speed_kmh: float64 }
    event_time: { column: ts, out_of_order: 1s, max_ahead: off }
sinks:
  history: { from: vehicles, adx: { cluster: "ADX", database: roads, table: Observations, publish: { every: 200ms } } }
"#;

/// How long the service is away, and when memory must have come to rest.
const BLOCKED: Duration = Duration::from_secs(60);
const SETTLED: Duration = Duration::from_secs(40);
/// The byte budget of a job, and what memory may move about while nothing is read: the allocator
/// gives back what it likes.
const BUDGET: u64 = 256 << 20;
const WOBBLE: u64 = 24 << 20;

fn status(running: &Running) -> Value {
    let answer = running.get("/status");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn memory_stays_within_the_budget_while_a_sink_blocks_and_the_job_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = ["roads/Observations(vehicle_id:string, seq:long, speed_kmh:real, ts:datetime)"];
    let adx = StandIn::start("adx", &table, &folder.path().join("ledger"), &[]);
    let job = folder.path().join("job.yaml");
    std::fs::write(&job, JOB.replace("ADX", &adx.url())).expect("the definition");
    let mut running = Run::of(&job).workers(2).listen().start();
    let published = |running: &Running| status(running)["nodes"][1]["published_rows"].as_u64();
    until("rows are visible", || published(&running) > Some(0));
    let before = running.resident_bytes();
    // Nothing that the job asks for is answered, which is not what the service does by itself.
    let silent = u64::try_from(BLOCKED.as_millis()).expect("small");
    let unanswered = |operation: &str| json!({ "match": { "operation": operation }, "action": { "delay_ms": silent, "status": 503 } });
    let asked = ["PUT*", "GET*", "INSERT*", "POST*", "mgmt"].map(unanswered);
    adx.plan(&json!(asked));
    let step = Duration::from_millis(500);
    let (mut sizes, mut queued) = (Vec::new(), Vec::new());
    while step * (sizes.len() as u32) < BLOCKED {
        running.live(step);
        sizes.push(running.resident_bytes());
        queued.push(status(&running)["queue_bytes"].as_u64().unwrap_or_default());
    }
    let (filling, settled) = sizes.split_at((SETTLED.as_millis() / step.as_millis()) as usize);
    let most = sizes.iter().max().copied().unwrap_or_default();
    assert!(most < before + BUDGET, "{before} before, {sizes:?}");
    assert!(queued.iter().all(|bytes| *bytes < BUDGET), "{queued:?}");
    let filled = filling.last().copied().unwrap_or_default();
    let later = settled.iter().max().copied().unwrap_or_default();
    assert!(later < filled + WOBBLE, "{sizes:?}");
    let visible = published(&running);
    adx.plan(&json!([]));
    until("it goes on", || published(&running) > visible);
    running.signal("TERM");
    running.end().well();
    // One query: what was ingested last becomes visible between two.
    let counted = "Observations | summarize n = count() by vehicle_id, seq";
    let doubled = adx.query("roads", &format!("{counted} | where n > 1 | take 3"));
    assert!(doubled.is_empty(), "{doubled:?}");
    assert!(
        !adx.query("roads", &format!("{counted} | take 1"))
            .is_empty()
    );
}
