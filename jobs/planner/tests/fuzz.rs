//! Valid definitions, changed at random where their structure is and within their expressions: what
//! loads is planned. Nothing panics, no stack is too short, and nothing takes long. A failure names the
//! seed that repeats it, as does a stack that overflows: it is the name of the thread.
//! `THALWEG_SEED=SEED` runs that one.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may fail and say why"
)]

#[path = "../../definition/src/tests/fuzz/change.rs"]
mod change;
#[path = "fuzz/expression.rs"]
mod expression;

use std::path::Path;
use std::sync::{Arc, Mutex};

use change::{Random, change};
use thalweg_definition::{Definition, Diagnostics, LoadOptions, Resolver, load};
use thalweg_planner::{Compile, Surroundings, plan};
use thalweg_stream::clock::SystemClock;

/// Cases of a run.
const CASES: u64 = 5_000;
/// Longest text, bytes.
const TEXT_BYTES: usize = 64 << 10;
/// Most CPU time of a plan, milliseconds, where nothing is optimised.
const TOOK_MS_MAX: u128 = 500;

/// As much stack as the program's first thread has, which plans.
const STACK_BYTES: usize = 8 << 20;

/// Whatever is asked for.
struct Anything;

impl Resolver for Anything {
    fn env(&self, _: &str) -> Option<String> {
        Some("http://localhost:1".to_owned())
    }

    fn file(&self, _: &Path) -> Result<String, String> {
        // A hash, where one is asked for.
        Ok("0".repeat(64))
    }
}

fn read(text: &str) -> Result<Definition, Diagnostics> {
    // A folder that is not there: nothing is read from a disk.
    let folder = Path::new("/nonexistent/thalweg");
    let options = LoadOptions {
        set: Vec::new(),
        resolver: &Anything,
    };
    load(text, "job.yaml", folder, &options)
}

/// Whether it can be planned, if not too much is wrong to begin with.
fn planned(definition: &Definition) -> bool {
    let around = Surroundings {
        clock: Arc::new(SystemClock::new()),
        output: Arc::new(Mutex::new(std::io::sink())),
        compile: Compile::Here,
    };
    match plan(definition, &around) {
        Ok(graph) => !graph.nodes.is_empty(),
        Err(found) => {
            assert!(!found.is_empty(), "refused, and nobody knows why");
            false
        }
    }
}

/// Definitions to begin with, all of them valid.
fn corpus() -> Vec<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = std::fs::read_dir(here.join("../../examples")).expect("the examples");
    let mut files: Vec<_> = examples
        .map(|example| example.expect("an entry").path().join("job.yaml"))
        .filter(|file| file.exists())
        .collect();
    files.push(here.join("../definition/src/reference/everything.yaml"));
    files.sort();
    let texts = (files.iter()).map(|file| std::fs::read_to_string(file).expect("text"));
    let mut texts: Vec<String> = texts.collect();
    // Of the larger ones, and of this twice, as it has most of the expressions.
    texts.extend([RICH.to_owned(), RICH.to_owned()]);
    let read = |text: &String| read(text).map_err(|errors| errors.render(false));
    let plain = texts.iter().map(|text| read(text).expect("valid"));
    // The plugin of some is not there.
    let planned = plain.filter(planned).count();
    assert!(planned + 2 >= texts.len(), "{planned} of {}", texts.len());
    texts
}

/// Every type, and much of what expressions can say.
const RICH: &str = r#"
job: rich
sources:
  s:
    generate: { what: fleet }
    schema:
      b: bool
      i: int32
      n: int64
      u: int64
      f: float64
      d: decimal(10,2)
      t: string
      x: binary
      day: date
      at: timestamp
      j: json
      l: list<string>
    event_time: { column: at, out_of_order: 5s }
steps:
  filtered: { from: s, filter: "n > 3 and t like 'a%' or not b" }
  made:
    from: filtered
    set:
      sum: n + i * 2 - u
      part: coalesce(substr(t, 1, 3), 'none')
      hour: date_trunc('hour', at)
      price: cast(d as double) / nullif(f, 0)
      size: case when n between 1 and 10 then 'small' when n in (11, 12) then 'middle' else 'large' end
      clean: regexp_replace(lower(trim(t)), '[^a-z]+', '-', 'g')
      year: extract(year from at)
      later: at + interval '1 day'
      round: round(f, 2)
      code: encode(sha256(t), 'hex')
      place: position('a' in t)
  routed: { from: made, route: { high: sum > 100, low: sum is null, rest: otherwise } }
  once: { from: routed.high, dedup: { by: [t, n], within: 1h } }
  counted:
    from: once
    window:
      tumbling: 10s
      by: [t]
      aggregate: { rows: count(*), total: sum(n), mean: avg(f), least: min(d), most: max(at) }
      having: rows > 1 and total is not null
  few: { from: counted, select: { t: t, share: total / rows, label: "t || ':' || cast(rows as string)" } }
sinks:
  out: { from: few, stdout: }
  low: { from: [routed.low, routed.rest], discard: }
"#;

/// CPU time of this thread: other load does not count.
fn cpu_ms() -> u128 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u128 * 1_000 + time.tv_nsec as u128 / 1_000_000
}

#[derive(Default)]
struct Counts {
    loaded: u64,
    planned: u64,
    longest: u128,
}

fn case(seed: u64, corpus: &[String], counts: &mut Counts) {
    let mut random = Random(seed);
    let mut text = corpus[random.below(corpus.len())].clone();
    // Every third case changes the text, all of those that load what their expressions say.
    if random.below(3) == 0 {
        text = change(&text, corpus, &mut random);
        text.truncate(text.floor_char_boundary(TEXT_BYTES));
    }
    let Ok(mut definition) = read(&text) else {
        return;
    };
    counts.loaded += 1;
    for _ in 0..=random.below(2) {
        expression::change(&mut definition, &mut random);
    }
    let before = cpu_ms();
    counts.planned += u64::from(planned(&definition));
    let took = cpu_ms() - before;
    counts.longest = counts.longest.max(took);
    assert!(took <= TOOK_MS_MAX, "{took} ms for {text}");
}

#[test]
fn changed_definitions_are_planned_or_refused() {
    let given = std::env::var("THALWEG_SEED").map(|seed| seed.parse::<u64>().expect("a number"));
    let (first, cases) = given.as_ref().map_or((1, CASES), |seed| (*seed, 1));
    let corpus = corpus();
    let mut counts = Counts::default();
    for seed in first..first + cases {
        let named = std::thread::Builder::new().name(format!("THALWEG_SEED={seed}"));
        let named = named.stack_size(STACK_BYTES);
        let ended = std::thread::scope(|scope| {
            let running = named.spawn_scoped(scope, || case(seed, &corpus, &mut counts));
            running.expect("a thread").join()
        });
        assert!(ended.is_ok(), "again by: THALWEG_SEED={seed}");
    }
    let Counts {
        loaded,
        planned,
        longest,
    } = counts;
    let last = first + cases - 1;
    println!("seeds {first} to {last}: {loaded} loaded, {planned} planned, longest {longest} ms");
    assert!(
        given.is_ok() || loaded > cases / 2 && planned > cases / 50,
        "{loaded} loaded, {planned} planned: little is looked at closely"
    );
}
