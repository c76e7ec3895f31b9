//! `thalweg generate`: telemetry as JSON lines on standard output.

use std::io::{BufWriter, Write as _};

use thalweg_generate::{GenerateSpec, Generator, What};

use crate::Failure;
use crate::command::GenerateArguments;

/// Records written at once.
const CHUNK: u64 = 4096;

pub(crate) fn generate(arguments: &GenerateArguments) -> Result<(), Failure> {
    let user = |error: thalweg_generate::Error| Failure::User(error.to_string());
    let what: What = arguments.what.parse().map_err(user)?;
    let base = GenerateSpec::new(what);
    let generator = Generator::new(GenerateSpec {
        events: Some(arguments.events),
        devices: arguments.devices.unwrap_or(base.devices),
        seed: arguments.seed,
        late: arguments.late,
        duplicates: arguments.duplicates,
        corrupt: arguments.corrupt,
        ..base
    })
    .map_err(user)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut lines = Vec::new();
    for start in (0..arguments.events).step_by(CHUNK as usize) {
        lines.clear();
        generator.write_lines(start..(start + CHUNK).min(arguments.events), &mut lines);
        if let Err(error) = out.write_all(&lines) {
            return written(error);
        }
    }
    out.flush().or_else(written)
}

/// A reader that has seen enough closes the pipe; that is no failure.
fn written<E: Into<std::io::Error>>(error: E) -> Result<(), Failure> {
    let error = error.into();
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Failure::User(format!("standard output: {error}"))),
    }
}
