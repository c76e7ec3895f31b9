//! What is printed: results on standard output, words to people and logs on standard error, and
//! nothing with a secret in it.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;

use thalweg_definition::Secrets;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing_subscriber::fmt::MakeWriter;

/// The secrets of the definition at work: a process has one.
static SECRETS: OnceLock<Secrets> = OnceLock::new();

/// From now on nothing that is printed or served shows these.
pub(crate) fn keep(secrets: &Secrets) {
    // A second definition in one process does not happen; the first one's secrets stay kept.
    SECRETS.set(secrets.clone()).ok();
}

/// The text without secrets.
pub(crate) fn redact(text: &str) -> Cow<'_, str> {
    match SECRETS.get() {
        Some(secrets) => secrets.redact(text),
        None => Cow::Borrowed(text),
    }
}

/// Prints a result. A reader that has seen enough closes the pipe; that is no failure.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(redact(text).as_bytes())
        .and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Says something to the person at the terminal. One that has gone away ends nothing.
pub(crate) fn say(line: &str) {
    let line = format!("{}\n", redact(line).trim_end_matches('\n'));
    io::stderr().write_all(line.as_bytes()).ok();
}

/// Whether words may have colours.
pub(crate) fn color() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && io::stderr().is_terminal()
}

/// Where log lines go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log;

impl Write for Log {
    /// The subscriber writes an event in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let shown = String::from_utf8_lossy(line);
        io::stderr().write_all(redact(&shown).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

/// A table for people: columns as wide as they need, numbers as they are given.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |row: &[String], at: usize| row.get(at).map_or(0, |cell| cell.chars().count());
    let widths: Vec<usize> = (0..head.len())
        .map(|at| {
            let widest = rows.iter().map(|row| cells(row, at)).max().unwrap_or(0);
            widest.max(head.get(at).map_or(0, |name| name.chars().count()))
        })
        .collect();
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let mut out = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width + 2 - cell.chars().count().min(*width)));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Bytes, for people.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let unit = units.get(unit).copied().unwrap_or_default();
    match unit {
        "B" => format!("{bytes} B"),
        unit => format!("{value:.1} {unit}"),
    }
}

/// A point in time, milliseconds since the Unix epoch, as RFC 3339 to the second.
pub(crate) fn time(ms: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000));
    let text = time.ok().and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| format!("{ms} ms"))
}

/// A length of time, for people: its two greatest units.
pub(crate) fn length(ms: u64) -> String {
    let second = ms / 1000;
    match second {
        0 => format!("{ms} ms"),
        1..60 => format!("{:.1} s", ms as f64 / 1000.0),
        60..3600 => format!("{} min {} s", second / 60, second % 60),
        3600..86_400 => format!("{} h {} min", second / 3600, second / 60 % 60),
        _ => format!("{} d {} h", second / 86_400, second / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::{bytes, length, table, time};

    #[test]
    fn quantities_are_for_people() {
        assert_eq!(time(1_767_225_600_999), "2026-01-01T00:00:00Z");
        assert_eq!(time(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(time(-1000), "1969-12-31T23:59:59Z");
        assert_eq!(bytes(17), "17 B");
        assert_eq!(bytes(3 << 19), "1.5 MiB");
        let lengths = [(12, "12 ms"), (2500, "2.5 s"), (5_400_000, "1 h 30 min")];
        for (ms, text) in lengths {
            assert_eq!(length(ms), text);
        }
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [vec!["a".to_owned(), "long".to_owned()]];
        assert_eq!(table(&["name", "x"], &rows), "name  x\na     long\n");
    }
}
