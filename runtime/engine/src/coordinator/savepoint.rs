//! Savepoints that somebody has asked for and waits for.

use serde::Serialize;
use tokio::sync::oneshot;

/// A savepoint that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Savepoint {
    /// Its epoch.
    pub epoch: u64,
    /// The store it is in.
    pub store: String,
    /// The name of its manifest there.
    pub manifest: String,
}

/// Who is to be told of a savepoint. Dropped without an answer if the run ends before there is one.
type Asker = oneshot::Sender<Savepoint>;

/// Who waits for a savepoint.
#[derive(Debug, Default)]
pub(super) struct Askers {
    /// The next epoch is to be a savepoint for them.
    asked: Vec<Asker>,
    /// Theirs is in preparation.
    under_way: Vec<Asker>,
}

impl Askers {
    pub(super) fn ask(&mut self, asker: Asker) {
        self.asked.push(asker);
    }

    /// Whether a savepoint is to be begun.
    pub(super) fn waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// One is begun; it answers all who have asked so far.
    pub(super) fn begun(&mut self) {
        self.under_way.append(&mut self.asked);
    }

    /// It did not come about: the next one is theirs.
    pub(super) fn failed(&mut self) {
        self.asked.append(&mut self.under_way);
    }

    /// It exists.
    pub(super) fn committed(&mut self, savepoint: &Savepoint) {
        for asker in self.under_way.drain(..) {
            // Whoever has gone away does not hear of it.
            drop(asker.send(savepoint.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::{Askers, Savepoint};

    #[test]
    fn whoever_asks_is_told_of_a_savepoint_begun_after_that() {
        let savepoint = |epoch| Savepoint {
            epoch,
            store: "memory://s".to_owned(),
            manifest: format!("manifest/{epoch}-g1.json"),
        };
        let mut askers = Askers::default();
        let (first, mut of_first) = oneshot::channel();
        askers.ask(first);
        assert!(askers.waiting());
        askers.begun();
        assert!(!askers.waiting());
        askers.failed();
        assert!(askers.waiting(), "a failed one is taken again");
        askers.begun();
        let (second, mut of_second) = oneshot::channel();
        askers.ask(second);
        askers.committed(&savepoint(3));
        assert_eq!(of_first.try_recv(), Ok(savepoint(3)));
        assert!(of_second.try_recv().is_err(), "that one was begun before");
        assert!(askers.waiting());
        askers.begun();
        askers.committed(&savepoint(5));
        assert_eq!(of_second.try_recv(), Ok(savepoint(5)));
    }
}
