//! What a person sees of a run: a progress line on a terminal, a summary at the end.

use std::collections::VecDeque;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use thalweg_engine::{NodeStatus, Outcome, Phase, Status, StatusBoard};
use thalweg_stream::Clock;

use crate::terminal::{length, redact, time};

/// How often the line on a terminal is drawn.
const EVERY: Duration = Duration::from_millis(500);
/// When the first line is written where there is no terminal; each wait is twice the one before…
const FIRST: Duration = Duration::from_secs(2);
/// …up to this, so that a log of days stays readable.
const LAST: Duration = Duration::from_secs(60);

/// Over how long rates are taken: rows become visible with checkpoints, so not from one look to the
/// next.
const RATE_OVER: Duration = Duration::from_secs(10);

/// Draws a progress line until it is dropped: one that changes on a terminal, more and more seldom
/// a new one elsewhere.
pub(crate) async fn draw(board: StatusBoard, clock: Arc<dyn Clock>) {
    let terminal = std::io::stderr().is_terminal();
    let mut wait = if terminal { EVERY } else { FIRST };
    let mut seen = Seen::default();
    loop {
        tokio::time::sleep(wait).await;
        let status = board.read();
        let rates = seen.rates(clock.elapsed(), status.records_in, published(&status));
        let line = line(&status, rates, clock.now_ms());
        let line = match terminal {
            true => format!("\r\x1b[K{}", redact(&line)),
            false => format!("{}\n", redact(&line)),
        };
        // A terminal that has gone away ends nothing.
        drop(std::io::stderr().write_all(line.as_bytes()));
        if !terminal {
            wait = (wait * 2).min(LAST);
        }
    }
}

/// Takes the progress line away.
pub(crate) fn clear() {
    if std::io::stderr().is_terminal() {
        drop(std::io::stderr().write_all(b"\r\x1b[K"));
    }
}

/// Counts of the last seconds, from which rates are taken.
#[derive(Debug, Default)]
struct Seen(VecDeque<(Duration, [u64; 2])>);

impl Seen {
    /// Records in and rows out per second.
    fn rates(&mut self, now: Duration, input: u64, output: u64) -> [f64; 2] {
        self.0.push_back((now, [input, output]));
        while self.0.len() > 2 && self.0.front().is_some_and(|(at, _)| now > *at + RATE_OVER) {
            self.0.pop_front();
        }
        let Some((since, counts)) = self.0.front() else {
            return [0.0; 2];
        };
        let seconds = now.saturating_sub(*since).as_secs_f64();
        [input, output]
            .iter()
            .zip(counts)
            .map(|(now, then)| now.saturating_sub(*then) as f64 / seconds.max(f64::EPSILON))
            .collect::<Vec<_>>()
            .try_into()
            .unwrap_or_default()
    }
}

/// The progress line.
fn line(status: &Status, [read, written]: [f64; 2], now_ms: i64) -> String {
    let input = count(status.records_in as f64);
    let output = count(published(status) as f64);
    let mut line = format!(
        "{}: {input} in ({}/s), {output} out ({}/s)",
        status.job,
        count(read),
        count(written)
    );
    let ended = |node: &&NodeStatus| node.finished || node.kind != "source";
    let sources = status.nodes.iter().filter(|node| !ended(node));
    if let Some(watermark) = sources.filter_map(|node| node.watermark_ms).min() {
        let lag = u64::try_from(now_ms.saturating_sub(watermark)).unwrap_or(0);
        line += &format!(", watermark {}, lag {}", time(watermark), length(lag));
    }
    line += &match &status.checkpoint {
        Some(last) => {
            let age = u64::try_from(now_ms.saturating_sub(last.at_ms)).unwrap_or(0);
            format!(", checkpoint {} ({} ago)", last.epoch, length(age))
        }
        None => ", no checkpoint yet".to_owned(),
    };
    line += &format!(", {} dead letters", status.dead_letters);
    match status.restarts {
        0 => {}
        1 => line += ", 1 restart",
        restarts => line += &format!(", {restarts} restarts"),
    }
    if let (Phase::Restarting, Some(restart)) = (status.phase, &status.restarted) {
        let waited = u64::try_from(now_ms.saturating_sub(restart.at_ms)).unwrap_or(0);
        let wait = length(restart.after_ms.saturating_sub(waited));
        line += &format!(", starting again in {wait} ({})", restart.cause);
    }
    line
}

/// A count, for people: three digits and a unit.
fn count(count: f64) -> String {
    match count {
        ..1e4 => format!("{count:.0}"),
        1e4..1e7 => format!("{:.0} k", count / 1e3),
        _ => format!("{:.1} M", count / 1e6),
    }
}

/// The last word on a run.
pub(crate) fn summary(status: &Status, outcome: Outcome, took: Duration) -> String {
    let word = match outcome {
        Outcome::Finished => "finished",
        Outcome::AlreadyFinished => {
            return format!(
                "{}: has finished already; start anew with --from none",
                status.job
            );
        }
        Outcome::Stopped => "stopped; run it again to resume",
    };
    format!(
        "{}: {word}: {} records in, {} rows published, {} dead letters, {} checkpoints, {:.1} s",
        status.job,
        input(status),
        published(status),
        dead(status),
        status.checkpoints,
        took.as_secs_f64()
    )
}

fn input(status: &Status) -> u64 {
    status
        .nodes
        .iter()
        .filter(|node| node.kind == "source")
        .map(|node| node.ledger.input)
        .sum()
}

fn published(status: &Status) -> u64 {
    let sinks = status
        .nodes
        .iter()
        .filter(|node| node.name != "dead_letters");
    sinks.filter_map(|node| node.published_rows).sum()
}

fn dead(status: &Status) -> u64 {
    let letters = status.nodes.iter().find(|node| node.name == "dead_letters");
    letters.map_or(0, |node| node.ledger.input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_seconds() {
        let mut seen = Seen::default();
        let at = Duration::from_secs;
        assert_eq!(seen.rates(at(1), 100, 0), [0.0, 0.0]);
        assert_eq!(seen.rates(at(3), 300, 10), [100.0, 5.0]);
        for second in 4..20 {
            seen.rates(at(second), 300, 10);
        }
        assert_eq!(seen.rates(at(20), 300, 10), [0.0, 0.0]);
    }

    #[test]
    fn counts_are_short() {
        let all = [0.0, 999.4, 12_345.0, 250_000.0, 12_340_000.0];
        assert_eq!(all.map(count), ["0", "999", "12 k", "250 k", "12.3 M"]);
    }
}
