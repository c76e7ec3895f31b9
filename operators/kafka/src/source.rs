//! The topic as a source.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use thalweg_stream::source::{Placement, SplitSpec, SplitStart, Waker};
use thalweg_stream::{Clock, Fault, Source, SplitReader};

use crate::column::Field;
use crate::desk::Desk;
use crate::discover::{self, parse};
use crate::error::Error;
use crate::fetch::{Fetch, Known};
use crate::link::Link;
use crate::options::KafkaOptions;
use crate::queue::Queue;
use crate::reader::KafkaReader;

/// Longest wait for a client to be closed.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// The records of a topic. Bounded if it ends where the partitions end at the first start.
///
/// A record without a value (a tombstone) has no bytes, and what decodes it decides what that
/// means; for JSON it is a dead letter of class decode.
pub struct KafkaSource {
    options: KafkaOptions,
    fields: Arc<[Field]>,
    clock: Arc<dyn Clock>,
    /// Where to ask, once the topic has been found.
    desk: Mutex<Option<Arc<Desk>>>,
    /// The connections of the readers of this process.
    links: Mutex<Vec<Weak<Link>>>,
}

impl std::fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KafkaSource").field(&self.options).finish()
    }
}

impl KafkaSource {
    /// A source with these options. Nothing is connected yet.
    ///
    /// # Errors
    /// The first of the options' [problems](KafkaOptions::problems).
    pub fn new(options: KafkaOptions, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        if let Some(problem) = options.problems().into_iter().next() {
            return Err(problem);
        }
        let fields = options.metadata.iter().map(|field| Field::named(field));
        Ok(Self {
            fields: fields.collect::<Result<_, Error>>()?,
            options,
            clock,
            desk: Mutex::default(),
            links: Mutex::default(),
        })
    }

    /// Asks something of the brokers, on a thread that may wait for them.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Desk) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Fault> {
        let desk = lock(&self.desk).clone();
        let desk = desk.ok_or_else(|| Error::Thread("asked before the start".to_owned()))?;
        let asked = tokio::task::spawn_blocking(move || question(&desk)).await;
        let died = |_| Error::Thread("the task that asks the brokers has died".to_owned());
        Ok(asked.map_err(died)??)
    }

    /// Whether brokers are known to be away, so that it makes no sense to ask them.
    fn away(&self) -> bool {
        let links = lock(&self.links);
        let mut links = links.iter().filter_map(Weak::upgrade).peekable();
        links.peek().is_some() && links.all(|link| !link.connected())
    }
}

#[async_trait]
impl Source for KafkaSource {
    fn bounded(&self) -> bool {
        self.options.until_latest
    }

    fn placement(&self) -> Placement {
        Placement::Spread
    }

    fn recognize(&self, known: &SplitSpec) -> Result<(), Fault> {
        Ok(discover::recognize(&self.options.topic, known)?)
    }

    /// Asks the brokers for the topic's partitions, within `connect_timeout`. Must be called on a
    /// tokio runtime.
    async fn discover(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        let (options, clock) = (self.options.clone(), Arc::clone(&self.clock));
        let known = known.to_vec();
        let asked =
            tokio::task::spawn_blocking(move || discover::discover(&options, &clock, &known));
        match asked.await {
            Ok(found) => {
                let (splits, desk) = found?;
                let before = lock(&self.desk).replace(Arc::new(desk));
                if let Some(desk) = before {
                    // Nobody waits for it.
                    drop(tokio::task::spawn_blocking(move || retire(desk)));
                }
                Ok(splits)
            }
            Err(_) => {
                Err(Error::Thread("the task that asks for partitions has died".into()).into())
            }
        }
    }

    async fn grown(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        loop {
            tokio::time::sleep(self.options.discover_every).await;
            if self.away() {
                continue;
            }
            let known = known.to_vec();
            let grown = self.ask(move |desk| desk.grown(&known)).await?;
            if !grown.is_empty() {
                return Ok(grown);
            }
        }
    }

    async fn confirm(&self) -> Result<(), Fault> {
        // What was read before they went away has been confirmed, or is a moment old.
        match self.away() {
            true => Ok(()),
            false => self.ask(Desk::confirm).await,
        }
    }

    async fn committed(&self, offsets: &[(SplitSpec, u64)]) {
        if self.options.group.is_none() || self.away() {
            return;
        }
        let place = |(spec, offset): &(SplitSpec, u64)| {
            let (partition, _) = parse(spec).ok()?;
            Some((partition, i64::try_from(*offset).ok()?))
        };
        let offsets: Vec<(i32, i64)> = offsets.iter().filter_map(place).collect();
        let published = self.ask(move |desk| {
            desk.publish(&offsets);
            Ok(())
        });
        if let Err(fault) = published.await {
            tracing::warn!(error = %fault, "kafka: offsets are not published");
        }
    }

    fn open(&self, splits: Vec<SplitStart>, waker: Waker) -> Result<Box<dyn SplitReader>, Fault> {
        let link = Link::new(&self.options, Arc::clone(&self.clock));
        if !splits.is_empty() {
            lock(&self.links).push(Arc::downgrade(&link));
        }
        let known = Arc::new(Known::new(link));
        let queue = Arc::new(Queue::new(waker));
        let fetch = Fetch::new(
            self.options.clone(),
            Arc::clone(&self.fields),
            Arc::clone(&self.clock),
            Arc::clone(&known),
            Arc::clone(&queue),
        );
        let clock = Arc::clone(&self.clock);
        let mut reader = KafkaReader::new(fetch, queue, known, clock, self.fields.len());
        reader.add(splits)?;
        Ok(Box::new(reader))
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        let desk = lock(&self.desk).take();
        if let Some(desk) = desk {
            retire(desk);
        }
    }
}

/// Drops a desk. A client that has committed offsets for a group waits for brokers to answer when it
/// is closed, for a minute if they do not: nobody is to wait as long as that with it.
fn retire(desk: Arc<Desk>) {
    let (closed, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::Builder::new().name("kafka-desk".to_owned());
    let started = thread.spawn(move || {
        drop(desk);
        drop(closed);
    });
    if started.is_ok() {
        // It ends as the sender goes; nothing is ever sent.
        wait.recv_timeout(CLOSE_WAIT).ok();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
