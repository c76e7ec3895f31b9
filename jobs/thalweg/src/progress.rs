//! What a person sees of a run: a progress line on a terminal, a summary at the end.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use thalweg_engine::{Outcome, Status, StatusBoard};

/// How often the line is drawn.
const EVERY: Duration = Duration::from_millis(500);

/// Draws a progress line until it is dropped; nothing where standard error is no terminal.
pub(crate) async fn draw(board: StatusBoard) {
    if !std::io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(EVERY).await;
        let status = board.read();
        let line = format!(
            "\r\x1b[K{}: epoch {}, {} in, {} published, checkpoint {}, {} dead letters",
            status.job,
            status.epoch,
            input(&status),
            published(&status),
            status
                .checkpoint
                .as_ref()
                .map_or_else(|| "-".to_owned(), |c| c.epoch.to_string()),
            dead(&status)
        );
        // A terminal that has gone away ends nothing.
        drop(std::io::stderr().write_all(line.as_bytes()));
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
