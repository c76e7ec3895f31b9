//! A stop that somebody has asked for: how long it waits, and what it leaves to the next run.

use std::time::Duration;

use thalweg_stream::Fault;

use super::checkpoint::Preparing;
use super::{Command, Coordinator};
use crate::conductor::Ending;
use crate::status::Phase;

impl Coordinator {
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Savepoint(asker) => self.savepoints.ask(asker),
            Command::Stop => {
                let now = self.shared.clock.elapsed();
                self.stop_asked.get_or_insert(now);
                if self.ending == Ending::No {
                    self.shared.drain();
                    self.ending = Ending::Stop;
                    self.urgent = true;
                    // The open epoch may hold input read before the sources stopped.
                    self.covered_by = self.shared.closed().next().next();
                }
                self.board.update(|status| status.phase = Phase::Stopping);
            }
        }
    }

    /// Whether a stop has waited long enough for output to become visible: what is not by now stays
    /// listed in the last checkpoint. Input that has ended meanwhile is then not finished either.
    pub(super) fn leaves_output(&mut self) -> bool {
        let leaves = self.stop_asked_before(1) && self.shared.closed() >= self.covered_by;
        if leaves && !self.ended && !self.is_settled() && !self.leaving {
            self.leaving = true;
            self.ending = Ending::Stop;
            let units: usize = (self.lanes.values())
                .map(|lane| lane.unpublished.backlog())
                .sum();
            tracing::warn!(
                units,
                "stopping before all output is visible; the next run publishes the rest"
            );
        }
        leaves
    }

    /// Ends the attempt if the last checkpoint waits for a sink that takes nothing: what it holds is
    /// not staged anywhere and is made again from the checkpoint before.
    pub(super) fn check_stop(&self) -> Result<(), Fault> {
        if !matches!(self.preparing, Preparing::Flushing(_)) || !self.stop_asked_before(2) {
            return Ok(());
        }
        let blocked = self.lanes.values().find(|lane| !lane.flushing.is_empty());
        let name = blocked.map_or("", |lane| &*lane.name);
        Err(Fault::unavailable(format!(
            "sink {name:?} takes no output, for which the stop has waited long enough; the next run \
             goes on from the checkpoint before"
        )))
    }

    /// Whether a stop was asked for that many times the limit ago.
    fn stop_asked_before(&self, times: u32) -> bool {
        let limit = Duration::from_millis(self.shared.limits.stop_ms) * times;
        let asked = self.stop_asked;
        asked.is_some_and(|asked| self.shared.clock.elapsed().saturating_sub(asked) >= limit)
    }
}
