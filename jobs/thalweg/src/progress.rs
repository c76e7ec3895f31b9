//! What a person sees of a run: a progress line on a terminal, a summary at the end.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use thalweg_engine::{Outcome, Status, StatusBoard};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How often the line on a terminal is drawn.
const EVERY: Duration = Duration::from_millis(500);
/// When the first line is written where there is no terminal; each wait is twice the one before…
const FIRST: Duration = Duration::from_secs(2);
/// …up to this, so that a log of days stays readable.
const LAST: Duration = Duration::from_secs(60);

/// Draws a progress line until it is dropped: one that changes on a terminal, more and more seldom
/// a new one elsewhere.
pub(crate) async fn draw(board: StatusBoard) {
    let terminal = std::io::stderr().is_terminal();
    let mut wait = if terminal { EVERY } else { FIRST };
    let mut before = None;
    loop {
        tokio::time::sleep(wait).await;
        let status = board.read();
        let now = Flow::of(&status);
        let line = now.line(&status, before.as_ref(), wait);
        before = Some(now);
        let line = match terminal {
            true => format!("\r\x1b[K{line}"),
            false => format!("{line}\n"),
        };
        // A terminal that has gone away ends nothing.
        drop(std::io::stderr().write_all(line.as_bytes()));
        if !terminal {
            wait = (wait * 2).min(LAST);
        }
    }
}

/// What has gone in and out so far.
struct Flow {
    input: u64,
    published: u64,
}

impl Flow {
    fn of(status: &Status) -> Self {
        Self {
            input: input(status),
            published: published(status),
        }
    }

    /// A line about the job; rates are those since `before`, a time `over` ago.
    fn line(&self, status: &Status, before: Option<&Self>, over: Duration) -> String {
        let rate = |now: u64, before: Option<u64>| match before {
            Some(before) => {
                let more = now.saturating_sub(before) as f64;
                format!(" ({:.0}/s)", more / over.as_secs_f64().max(0.001))
            }
            None => String::new(),
        };
        let checkpoint = status.checkpoint.as_ref();
        format!(
            "{}: {} in{}, {} published{}, watermark {}, checkpoint {}, {} dead letters",
            status.job,
            self.input,
            rate(self.input, before.map(|flow| flow.input)),
            self.published,
            rate(self.published, before.map(|flow| flow.published)),
            watermark(status).unwrap_or_else(|| "-".to_owned()),
            checkpoint.map_or_else(|| "-".to_owned(), |c| c.epoch.to_string()),
            dead(status)
        )
    }
}

/// The event time up to which all sources are complete, unless they are at their end.
fn watermark(status: &Status) -> Option<String> {
    let sources = status.nodes.iter().filter(|node| node.kind == "source");
    let open = sources.filter(|node| !node.finished && !node.idle);
    let least_ms = open.filter_map(|node| node.watermark_ms).min()?;
    let time = OffsetDateTime::from_unix_timestamp(least_ms.div_euclid(1000)).ok()?;
    time.format(&Rfc3339).ok()
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
