//! What a plugin costs beside the same function compiled into the program: `risk` of
//! `examples/plugins/road-risk`, batches of 8192 rows, both in the same run.
//!
//! ```sh
//! thalweg plugin build examples/plugins/road-risk --out road_risk.wasm
//! cargo run --release -p thalweg-benches --bin plugin -- road_risk.wasm
//! ```

use std::hint::black_box;
use std::sync::Arc;

use anyhow::Context as _;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::Float64Type;
use thalweg_plugin::{Compile, Host, Limits, Plugin, PluginSet};
use thalweg_stream::Clock;
use thalweg_stream::clock::SystemClock;

#[allow(unreachable_pub, reason = "a crate of its own elsewhere")]
#[path = "../../examples/plugins/road-risk/src/lib.rs"]
mod road_risk;

const ROWS: usize = 8192;
const BATCHES: u32 = 200;
const ROUNDS: usize = 15;

#[allow(clippy::print_stdout, reason = "the result of a command")]
fn main() -> anyhow::Result<()> {
    let file = std::env::args().nth(1).context("which plugin?")?;
    let component = std::fs::read(&file).with_context(|| file.clone())?;
    let host = Host::new(Compile::Here, None)?;
    let mut set = PluginSet::default();
    set.insert("road", Plugin::load(&host, &component, Limits::default())?);
    let mut caller = set.caller("road.risk").context("there is no road.risk")?;
    let columns = columns();
    let expected = native(&columns);
    let got = caller.call(&columns, ROWS)?;
    anyhow::ensure!(got.failed.is_empty(), "rows fail");
    anyhow::ensure!(*got.values == expected, "plugin and native function differ");
    let clock = SystemClock::new();
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    // In turn, so that whatever else the machine does hits both.
    for _ in 0..ROUNDS {
        inside.push(nanoseconds(&clock, || {
            Ok(Arc::new(native(black_box(&columns))) as ArrayRef)
        })?);
        outside.push(nanoseconds(&clock, || {
            Ok(caller.call(black_box(&columns), ROWS)?.values)
        })?);
    }
    let (inside, outside) = (least(&inside), least(&outside));
    println!(
        "native {inside:.1} ns/row, plugin {outside:.1} ns/row, {:.1} x",
        outside / inside
    );
    Ok(())
}

/// The cost of a row: the machine is shared, so the least of several rounds is what the work takes.
fn least(rounds: &[f64]) -> f64 {
    rounds.iter().copied().fold(f64::INFINITY, f64::min)
}

fn nanoseconds(
    clock: &SystemClock,
    mut batch: impl FnMut() -> anyhow::Result<ArrayRef>,
) -> anyhow::Result<f64> {
    let start = clock.elapsed();
    for _ in 0..BATCHES {
        black_box(batch()?);
    }
    let took = clock.elapsed() - start;
    Ok(took.as_secs_f64() * 1e9 / f64::from(BATCHES) / ROWS as f64)
}

/// Speed, friction, rain and temperature; a tenth of the weather is missing.
fn columns() -> [ArrayRef; 4] {
    let column = |step: f64, least: f64, most: f64, nulls: bool| {
        let value = |row: usize| {
            let value = least + (row as f64 * step) % (most - least);
            (!nulls || row % 10 != 3).then_some(value)
        };
        Arc::new((0..ROWS).map(value).collect::<Float64Array>()) as ArrayRef
    };
    [
        column(0.37, 0.0, 180.0, false),
        column(0.011, 0.05, 1.0, false),
        column(0.13, 0.0, 12.0, true),
        column(0.29, -10.0, 30.0, true),
    ]
}

fn native(columns: &[ArrayRef; 4]) -> Float64Array {
    let [speed, friction, rain, temperature] = columns
        .each_ref()
        .map(|column| column.as_primitive::<Float64Type>());
    let option = |column: &Float64Array, row| column.is_valid(row).then(|| column.value(row));
    let value = |row| {
        let (rain, temperature) = (option(rain, row), option(temperature, row));
        road_risk::risk(speed.value(row), friction.value(row), rain, temperature)
    };
    Float64Array::from_iter_values((0..ROWS).map(value))
}
