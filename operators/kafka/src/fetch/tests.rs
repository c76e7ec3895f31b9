//! What comes of events as librdkafka hands them out.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _};
use arrow::datatypes::Int64Type;
use thalweg_stream::clock::SystemClock;
use thalweg_stream::{Chunk, Clock, Framing, SplitId};

use super::{Fetch, Known, Lane};
use crate::column::Field;
use crate::link::Link;
use crate::native::{Event, Record};
use crate::options::KafkaOptions;
use crate::queue::{Item, Queue};

/// What reads partition 0 from its beginning, with two columns of metadata.
fn fetch() -> (Fetch, Arc<Queue>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = KafkaOptions::new("nobody:1", "t");
    let known = Arc::new(Known::new(Link::new(&options, Arc::clone(&clock))));
    let queue = Arc::new(Queue::new(Arc::new(|| ())));
    let fields = Arc::from([Field::Offset, Field::Partition]);
    let mut fetch = Fetch::new(options, fields, clock, known, Arc::clone(&queue));
    fetch.places = vec![Some(0)];
    fetch.lanes.push(super::Reading {
        lane: Lane {
            id: SplitId(0),
            partition: 0,
            next: 0,
            end: None,
            newest: Arc::default(),
        },
        open: None,
        at_end: false,
        finished: false,
    });
    (fetch, queue)
}

fn record(fetch: &mut Fetch, offset: i64) {
    let message = Record::message(0, offset, b"{}");
    assert!(fetch.take(Event::told(&message)).is_ok());
}

fn end(fetch: &mut Fetch, offset: i64) {
    let event = Event::End {
        partition: 0,
        offset,
    };
    assert!(fetch.take(event).is_ok());
}

fn chunks(fetch: &mut Fetch, queue: &Queue) -> Vec<Chunk> {
    fetch.lanes[0].give(0, queue);
    let items = std::iter::from_fn(|| queue.pop().expect("a queue"));
    items
        .map(|item| {
            let Item::Chunk(0, chunk) = item else {
                panic!("{item:?}");
            };
            chunk
        })
        .collect()
}

fn offsets(column: &Option<ArrayRef>) -> Vec<i64> {
    let column = column.as_ref().expect("a column");
    column.as_primitive::<Int64Type>().values().to_vec()
}

/// The marker that ends a transaction takes an offset and is no record; what comes behind it may come
/// with it, where the worker has been slow.
#[test]
fn records_behind_the_end_of_a_transaction_have_their_metadata() {
    let (mut fetch, queue) = fetch();
    end(&mut fetch, 1);
    record(&mut fetch, 1);
    record(&mut fetch, 2);
    end(&mut fetch, 4);
    record(&mut fetch, 4);
    let chunks = chunks(&mut fetch, &queue);
    let mut next = 0;
    let mut read = Vec::new();
    for chunk in &chunks {
        assert_eq!(chunk.start, next, "{chunks:?}");
        next = chunk.end;
        let Framing::Records { offsets: told, .. } = &chunk.framing else {
            panic!("{chunk:?}");
        };
        if told.is_empty() {
            continue;
        }
        assert_eq!(chunk.metadata.len(), 2, "{chunk:?}");
        read.extend(offsets(&chunk.metadata[0]));
    }
    assert_eq!((next, read), (5, vec![1, 2, 4]));
}
