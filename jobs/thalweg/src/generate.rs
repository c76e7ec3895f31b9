//! `thalweg generate`: telemetry as JSON lines on standard output.

use std::io::{BufWriter, ErrorKind, Write as _};
use std::time::Duration;

use thalweg_generate::{GenerateSpec, Generator, What};
use thalweg_stream::Clock;
use thalweg_stream::clock::SystemClock;

use crate::Failure;
use crate::command::GenerateArguments;

/// Records written at once.
const CHUNK: u64 = 4096;
/// Portions a second, where a rate is given.
const PORTIONS: f64 = 50.0;

pub(crate) fn generate(arguments: &GenerateArguments) -> Result<(), Failure> {
    let user = |error: thalweg_generate::Error| Failure::User(error.to_string());
    let what: What = arguments.what.parse().map_err(user)?;
    let base = GenerateSpec::new(what);
    let generator = Generator::new(GenerateSpec {
        events: Some(arguments.events),
        rate: arguments.rate,
        devices: arguments.devices.unwrap_or(base.devices),
        seed: arguments.seed,
        late: arguments.late,
        duplicates: arguments.duplicates,
        corrupt: arguments.corrupt,
        ..base
    })
    .map_err(user)?;
    let portion = arguments
        .rate
        .map_or(CHUNK, |rate| (rate / PORTIONS) as u64);
    let portion = portion.clamp(1, CHUNK);
    let clock = SystemClock::new();
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut lines = Vec::new();
    let mut start = 0;
    while start < arguments.events {
        if let Some(rate) = arguments.rate {
            wait(&clock, start as f64 / rate);
        }
        lines.clear();
        let end = start.saturating_add(portion).min(arguments.events);
        generator.write_lines(start..end, &mut lines);
        let mut written = out.write_all(&lines);
        if arguments.rate.is_some() {
            written = written.and_then(|()| out.flush());
        }
        if let Err(error) = written {
            return ended(error);
        }
        start = end;
    }
    out.flush().or_else(ended)
}

/// Waits until so many seconds have passed since the start.
fn wait(clock: &SystemClock, second: f64) {
    let due = Duration::try_from_secs_f64(second).unwrap_or(Duration::MAX);
    while let Some(left) = due
        .checked_sub(clock.elapsed())
        .filter(|left| !left.is_zero())
    {
        std::thread::park_timeout(left);
    }
}

/// A reader that has seen enough closes the pipe; that is no failure.
fn ended(error: std::io::Error) -> Result<(), Failure> {
    match error.kind() == ErrorKind::BrokenPipe {
        true => Ok(()),
        false => Err(Failure::Output(error)),
    }
}
