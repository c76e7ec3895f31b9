//! Publishing: one task per sink makes released units visible, and tells what became of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use thalweg_stream::planted::planted;
use thalweg_stream::sink::{PublishUnit, Published, Released, StageStore};
use thalweg_stream::{Class, Clock, Epoch, Fault, Publisher};
use tokio::sync::mpsc;

use crate::failpoint;

/// Longest pause between two attempts at a unit.
const RETRY_MAX: Duration = Duration::from_secs(10);
/// First pause.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Units that a sink without an order may be publishing at once.
const UNORDERED_UNITS: usize = 4;

/// A unit's fate, as the coordinator is told.
#[derive(Debug)]
pub(crate) enum News {
    /// It is visible.
    Published {
        sink: usize,
        epoch: Epoch,
        published: Published,
    },
    /// An attempt failed and will be repeated.
    Retry { sink: usize, fault: Fault },
    /// The attempt of the whole job ends.
    Failed { fault: Fault },
}

/// The publishing end of one sink.
pub(crate) struct Outlet {
    pub(crate) sink: usize,
    pub(crate) name: Arc<str>,
    pub(crate) ordered: bool,
    pub(crate) publisher: Arc<dyn Publisher>,
    pub(crate) stage: Arc<dyn StageStore>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Outlet {
    /// Publishes what comes from `units` until it is closed. Units waiting are those that a
    /// manifest lists: their number is capped by the coordinator.
    pub(crate) async fn run(
        self,
        mut units: mpsc::UnboundedReceiver<Released<PublishUnit>>,
        news: mpsc::UnboundedSender<News>,
    ) {
        let at_once = if self.ordered && !planted("publish-unordered") {
            1
        } else {
            UNORDERED_UNITS
        };
        let mut waiting: VecDeque<Released<PublishUnit>> = VecDeque::new();
        let mut running = FuturesUnordered::new();
        let mut open = true;
        loop {
            while running.len() < at_once
                && let Some(unit) = waiting.pop_front()
            {
                running.push(self.publish(unit, &news));
            }
            if !open && running.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                unit = units.recv(), if open => match unit {
                    Some(unit) => waiting.push_back(unit),
                    None => open = false,
                },
                Some(more) = running.next(), if !running.is_empty() => if !more { return },
            }
        }
    }

    /// Publishes one unit, however often it takes; false if the job must end.
    async fn publish(
        &self,
        unit: Released<PublishUnit>,
        news: &mpsc::UnboundedSender<News>,
    ) -> bool {
        let (sink, epoch) = (self.sink, unit.get().epoch);
        let mut pause = RETRY_MIN;
        loop {
            failpoint::hit(&["publish", &self.name, "before"]);
            let fault = match self.publisher.publish(&unit, &*self.stage).await {
                Ok(published) => {
                    failpoint::hit(&["publish", &self.name, "after"]);
                    return news
                        .send(News::Published {
                            sink,
                            epoch,
                            published,
                        })
                        .is_ok();
                }
                Err(fault) => fault.within(format_args!("sink \"{}\"", self.name)),
            };
            let Class::Transient { after } = fault.class else {
                // The receiver is gone only when the attempt has ended anyway.
                drop(news.send(News::Failed { fault }));
                return false;
            };
            tracing::warn!(sink = &*self.name, %epoch, error = %fault, "publishing is tried again");
            if news.send(News::Retry { sink, fault }).is_err() {
                return false;
            }
            self.clock.sleep(after.unwrap_or(pause)).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }
}
