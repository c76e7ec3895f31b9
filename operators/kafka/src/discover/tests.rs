//! Against librdkafka's own mock cluster, which gives topics no ids: what a service that only
//! speaks the protocol can be told apart by.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use thalweg_stream::clock::SystemClock;
use thalweg_stream::source::{SplitSpec, SplitStart, SplitState};
use thalweg_stream::{Class, Clock, Source as _, SplitId};

use super::{Detail, discover, recognize};
use crate::options::{KafkaOptions, Start};
use crate::source::KafkaSource;

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// A cluster with one topic that has `records` in each of its partitions.
fn cluster(partitions: i32, records: usize) -> (Cluster, KafkaOptions) {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("t", partitions, 1).expect("a topic");
    let brokers = cluster.bootstrap_servers();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .create()
        .expect("a producer");
    for partition in 0..partitions {
        for _ in 0..records {
            let record = BaseRecord::<(), str>::to("t").partition(partition);
            producer.send(record.payload("{}")).expect("room");
        }
    }
    producer.flush(Duration::from_secs(30)).expect("written");
    (cluster, KafkaOptions::new(brokers, "t"))
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn spec(partition: i32, start: i64, end: Option<i64>) -> SplitSpec {
    let detail = Detail {
        topic: "t".to_owned(),
        id: None,
        start,
        end,
    };
    SplitSpec {
        name: super::split_name(partition).into(),
        detail: serde_json::json!(detail),
    }
}

fn refused(options: &KafkaOptions, known: &[SplitSpec]) -> String {
    let found = discover(options, &clock(), known).map(|found| found.0);
    let refused = found.expect_err("it does not fit");
    refused.to_string().replace(&options.brokers, "BROKERS")
}

#[test]
fn the_first_start_fixes_where_partitions_begin_and_end() {
    let (_cluster, mut options) = cluster(2, 3);
    let found = discover(&options, &clock(), &[]).expect("found").0;
    assert_eq!(found, [spec(0, 0, None), spec(1, 0, None)]);
    options.start = Start::Latest;
    options.until_latest = true;
    let found = discover(&options, &clock(), &[]).expect("found").0;
    assert_eq!(found, [spec(0, 3, Some(3)), spec(1, 3, Some(3))]);
}

#[test]
fn known_partitions_keep_their_order_and_new_ones_are_read_from_their_beginning() {
    let (_cluster, mut options) = cluster(3, 3);
    options.start = Start::Latest;
    let known = [spec(2, 1, None), spec(0, 2, None)];
    let found = discover(&options, &clock(), &known).expect("found").0;
    assert_eq!(
        found,
        [spec(2, 1, None), spec(0, 2, None), spec(1, 0, None)]
    );
}

#[test]
fn many_partitions_of_brokers_far_away_are_found_in_time() {
    let (cluster, mut options) = cluster(100, 1);
    let far = Duration::from_millis(120);
    (cluster.broker_round_trip_time(1, far)).expect("a broker");
    options.connect_timeout = Duration::from_secs(5);
    let found = discover(&options, &clock(), &[]).expect("found").0;
    assert_eq!(found.len(), 100);
    let again = discover(&options, &clock(), &found).expect("found").0;
    assert_eq!(again, found);
}

/// Else one start at which brokers are slow would make the job blind to a topic that is made anew.
#[test]
fn the_id_of_a_topic_is_kept_when_brokers_do_not_tell_it() {
    let (_cluster, options) = cluster(2, 3);
    let mut known = spec(0, 1, None);
    known.detail["id"] = "00000000000000010000000000000002".into();
    let (found, desk) = discover(&options, &clock(), &[known.clone()]).expect("found");
    assert_eq!(found[0], known);
    assert_eq!(found[1].detail["id"], known.detail["id"]);
    assert_eq!(desk.id.as_deref(), known.detail["id"].as_str());
}

#[test]
fn a_topic_that_does_not_fit_the_checkpoint_is_refused() {
    let (_cluster, mut options) = cluster(2, 3);
    assert_eq!(
        refused(
            &options,
            &[spec(0, 0, None), spec(1, 0, None), spec(2, 0, None)]
        ),
        "kafka: topic \"t\" at BROKERS has 2 partitions, the checkpoint knows 3: it is not the \
         topic that was read"
    );
    assert_eq!(
        refused(&options, &[spec(0, 0, Some(4))]),
        "kafka: topic \"t\", partition 0: offset 4 lies beyond its end at 3; was the topic made \
         anew?"
    );
    let mut strange = spec(0, 0, None);
    strange.detail["newer"] = true.into();
    assert!(refused(&options, &[strange]).contains("as no version of this source does"));
    options.topic = "nowhere".to_owned();
    options.connect_timeout = Duration::from_millis(300);
    assert!(refused(&options, &[]).contains("\"nowhere\" at BROKERS"));
}

#[test]
fn splits_of_another_topic_or_another_kind_of_source_are_not_recognized() {
    let known = spec(0, 3, None);
    let refused = |topic, known| recognize(topic, known).expect_err("it is not").to_string();
    recognize("t", &known).expect("its own");
    assert_eq!(
        refused("u", &known),
        "kafka: the checkpoint is of topic \"t\", the definition says \"u\""
    );
    let file = SplitSpec {
        name: "a.json".into(),
        detail: serde_json::Value::Null,
    };
    assert_eq!(
        refused("t", &file),
        "kafka: the checkpoint describes \"a.json\" as no version of this source does"
    );
}

#[test]
fn an_offset_beyond_the_end_ends_the_attempt_with_its_name() {
    let (_cluster, options) = cluster(1, 3);
    let source = KafkaSource::new(options, clock()).expect("valid");
    let start = SplitStart {
        id: SplitId(7),
        spec: spec(0, 0, None),
        offset: Some(9),
        finished: false,
    };
    let mut reader = source.open(vec![start], Arc::new(|| {})).expect("open");
    let fault = loop {
        match reader.poll(1 << 20) {
            Ok(None) => std::thread::park_timeout(Duration::from_millis(5)),
            Ok(Some(chunk)) => panic!("there is nothing there, but {chunk:?}"),
            Err(fault) => break fault,
        }
    };
    assert_eq!(fault.class, Class::Corrupt);
    assert_eq!(
        fault.message,
        "kafka: topic \"t\", partition 0: offset 9 lies beyond its end at 3; was the topic made \
         anew?"
    );
    assert_eq!(reader.poll(1 << 20).expect_err("again"), fault);
}

#[test]
fn a_reader_wakes_its_worker_and_knows_where_it_stands() {
    let (_cluster, options) = cluster(1, 3);
    let source = KafkaSource::new(options, clock()).expect("valid");
    let start = SplitStart {
        id: SplitId(7),
        spec: spec(0, 1, None),
        offset: None,
        finished: false,
    };
    let (sender, woken) = std::sync::mpsc::channel();
    let sender = Mutex::new(sender);
    let waker = Arc::new(move || drop(sender.lock().map(|sender| sender.send(()))));
    let mut reader = source.open(vec![start], waker).expect("open");
    let (mut records, mut end) = (0, 0);
    while reader.status(SplitId(7)).state != SplitState::AtEnd {
        match reader.poll(1 << 20).expect("readable") {
            // The end itself is nothing to hand out.
            None if reader.status(SplitId(7)).state == SplitState::AtEnd => {}
            None => woken.recv_timeout(Duration::from_secs(30)).expect("woken"),
            Some(chunk) => {
                let thalweg_stream::Framing::Records { offsets, .. } = &chunk.framing else {
                    panic!("records have places");
                };
                records += offsets.len();
                end = chunk.end;
            }
        }
    }
    assert_eq!((records, end), (2, 3));
    assert_eq!(reader.status(SplitId(7)).behind, Some(0));
    assert!(reader.connected());
}
