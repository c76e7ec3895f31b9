//! The topic as a source.

use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use thalweg_stream::source::{Placement, SplitSpec, SplitStart, Waker};
use thalweg_stream::{Clock, Fault, Source, SplitReader};

use crate::column::Field;
use crate::discover::{self, Facts, parse};
use crate::error::Error;
use crate::fetch::{Fetch, Known, Lane};
use crate::link::Link;
use crate::options::KafkaOptions;
use crate::queue::Queue;
use crate::reader::KafkaReader;

/// The records of a topic. Bounded if it ends where the partitions end at the first start.
///
/// A record without a value (a tombstone) has no bytes, and what decodes it decides what that
/// means; for JSON it is a dead letter of class decode.
#[derive(Debug)]
pub struct KafkaSource {
    options: KafkaOptions,
    fields: Arc<[Field]>,
    clock: Arc<dyn Clock>,
    /// What the topic was when it was last looked for.
    facts: Mutex<Facts>,
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
            facts: Mutex::default(),
        })
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

    /// Asks the brokers for the topic's partitions, within `connect_timeout`. Must be called on a
    /// tokio runtime.
    async fn discover(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        let (options, clock) = (self.options.clone(), Arc::clone(&self.clock));
        let known = known.to_vec();
        let asked =
            tokio::task::spawn_blocking(move || discover::discover(&options, &clock, &known));
        match asked.await {
            Ok(found) => {
                let (splits, facts) = found?;
                *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = facts;
                Ok(splits)
            }
            Err(_) => {
                Err(Error::Thread("the task that asks for partitions has died".into()).into())
            }
        }
    }

    fn open(&self, splits: Vec<SplitStart>, waker: Waker) -> Result<Box<dyn SplitReader>, Fault> {
        let lanes = (splits.into_iter())
            .map(|split| {
                let (partition, detail) = parse(&split.spec)?;
                let offset = split.offset.and_then(|offset| i64::try_from(offset).ok());
                Ok(Lane {
                    id: split.id,
                    partition,
                    next: offset.unwrap_or(detail.start),
                    end: detail.end,
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let known = Arc::new(Known {
            link: Link::new(&self.options, Arc::clone(&self.clock)),
            newest: lanes.iter().map(|_| AtomicI64::new(-1)).collect(),
        });
        let queue = Arc::new(Queue::new(waker));
        let reader = KafkaReader::new(
            Arc::clone(&queue),
            Arc::clone(&known),
            Arc::clone(&self.clock),
            self.fields.len(),
            &lanes,
        );
        if !lanes.is_empty() {
            let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
            let fetch = Fetch::new(
                self.options.clone(),
                facts.clone(),
                Arc::clone(&self.fields),
                Arc::clone(&self.clock),
                known,
                queue,
                lanes,
            );
            std::thread::Builder::new()
                .name("kafka-reader".to_owned())
                .spawn(move || fetch.run())
                .map_err(|error| Error::Thread(format!("no thread to read with: {error}")))?;
        }
        Ok(Box::new(reader))
    }
}
