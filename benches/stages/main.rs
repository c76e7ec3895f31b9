//! What each stage of a job costs a row, beside its budget: `cargo run --release -p thalweg-benches`.
//!
//! Names of stages as arguments (`exchange`, say) measure only these.
#![allow(clippy::print_stdout, reason = "a benchmark reports")]

mod checkpoint;
mod dedup;
mod enrich;
mod exchange;
mod fleet;
mod formats;
mod peers;
mod stopwatch;
mod window;

use thalweg_stream::Fault;

type Stage = (&'static str, fn() -> Result<(), Fault>);

const STAGES: [Stage; 10] = [
    ("formats", formats::measure),
    ("exchange", exchange::measure),
    ("window", window::measure),
    ("dedup", dedup::measure),
    ("dedup-any-time", dedup::measure_any_time),
    ("enrich", enrich::measure),
    ("dedup-keys", dedup::measure_keys),
    ("enrich-keys", enrich::measure_keys),
    ("peers", peers::measure),
    ("checkpoint", checkpoint::measure),
];

fn main() -> Result<(), Fault> {
    // As a job's process does.
    thalweg_engine::give_back_memory();
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    println!("| stage | budget ns/row | median | best |");
    println!("|---|---|---|---|");
    for (name, measure) in STAGES {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            measure()?;
        }
    }
    Ok(())
}
